//! One state of the Amazon States Language as a step.

use std::collections::BTreeSet;

use patchloom_core::yaml::Node;
use serde_json::Value;

use super::data::{Data, condition};
use super::{machine, null};
use crate::import::findings::{Fields, Findings, items, scalar, text};
use crate::import::write::{Out, Pairs, name, quoted};

/// How deep steps may stand inside of steps.
const DEPTH_MAX: usize = 3;

/// Where a state stands.
pub(super) struct Site<'a> {
    pub step: &'a str,
    pub input: &'a Data,
    /// The names of steps that are taken here and around.
    pub taken: &'a BTreeSet<String>,
    pub depth: usize,
}

/// What the step of a state does, and what the states behind it are given.
pub(super) fn translate(raw: &str, node: &Node, site: &Site<'_>, findings: &mut Findings) -> (Pairs, Data) {
    let fields = Fields::open(node, &format!("the state `{raw}`"), findings);
    fields.pass_over(&["Type", "Next", "End", "Default", "QueryLanguage"]);
    let mut body = Pairs::new();
    body.extend(fields.text("Comment").map(|said| ("description".to_owned(), Out::text(said))));
    let input = narrowed(&fields, "InputPath", site.input, findings);
    let kind = fields.text("Type").unwrap_or_default();
    let result = site.input.with(Some(format!("steps.{}.output", site.step)));
    let mut gives_result = true;
    match kind {
        "Task" => task(&fields, node, &input, &mut body, findings),
        "Pass" => {
            let said = fields.get("Result").or_else(|| fields.get("Parameters")).or_else(|| fields.get("Output"));
            let set = said.map_or_else(|| whole(&input), |node| Some(input.payload(node, findings)));
            gives_result = set.is_some() && (said.is_some() || input.over.is_empty());
            body.push(("set".to_owned(), set.unwrap_or_else(null)));
        }
        "Succeed" => {
            let set = whole(&input);
            gives_result = set.is_some();
            body.push(("set".to_owned(), set.unwrap_or_else(null)));
        }
        "Fail" => body.push(("fail".to_owned(), failure(&fields))),
        "Wait" => {
            gives_result = false;
            wait(&fields, node, &input, &mut body, findings);
        }
        "Choice" => {
            gives_result = false;
            choice(&fields, &input, &mut body, findings);
        }
        "Parallel" | "Map" if site.depth + usize::from(kind == "Parallel") >= DEPTH_MAX => {
            let what = format!("the state `{raw}` is too deep inside others");
            findings.shape(
                node.span,
                what,
                "steps stand inside steps at most 3 deep",
                "start a child run with `workflow`",
            );
            body.extend(failing(raw));
        }
        "Parallel" => parallel(&fields, &input, site, &mut body, findings),
        "Map" => map(&fields, &input, site, &mut body, findings),
        _ => {
            let reason = "Task, Pass, Wait, Choice, Parallel, Map, Fail and Succeed are";
            findings.unread(node.span, &format!("the type of the state `{raw}`"), reason, "write this step by hand");
            body.extend(failing(raw));
        }
    }
    if ["Task", "Parallel", "Map"].contains(&kind) {
        around(&fields, kind, &mut body, findings);
    }
    let output = if gives_result {
        selected(&fields, &result, &mut body, findings);
        let path = fields.get("ResultPath");
        let given = result.base.clone().unwrap_or_default();
        input.put(path, given).unwrap_or_else(|| input.with(None))
    } else {
        input
    };
    let output = narrowed(&fields, "OutputPath", &output, findings);
    fields.finish(findings);
    (body, output)
}

fn failing(raw: &str) -> Pairs {
    vec![("fail".to_owned(), Out::text(format!("the state {raw} was not translated")))]
}

/// All of the input, where one expression stands for it.
fn whole(data: &Data) -> Option<Out> {
    data.path("$").map(|found| Out::text(format!("${{{{ {found} }}}}")))
}

/// `InputPath` and `OutputPath`: a part of a value.
fn narrowed(fields: &Fields<'_>, key: &str, data: &Data, findings: &mut Findings) -> Data {
    let Some(node) = fields.get(key) else { return data.clone() };
    match text(node) {
        Some("$") => data.clone(),
        Some(path) => {
            let found = data.path(path);
            if found.is_none() {
                findings.unread(
                    node.span,
                    &format!("`{key}`"),
                    "it is no simple path",
                    "write the expressions by hand",
                );
            }
            data.with(found)
        }
        None => data.with(None),
    }
}

/// `ResultSelector`: the result in another shape.
fn selected(fields: &Fields<'_>, data: &Data, body: &mut Pairs, findings: &mut Findings) {
    if let Some(node) = fields.get("ResultSelector") {
        let result = data.with(Some("result".to_owned()));
        body.retain(|(key, _)| key != "output");
        body.push(("output".to_owned(), result.payload(node, findings)));
    }
}

fn task(fields: &Fields<'_>, node: &Node, input: &Data, body: &mut Pairs, findings: &mut Findings) {
    let resource = fields.get("Resource");
    let written = resource.and_then(text).unwrap_or_default();
    let place = resource.map_or(node.span, |node| node.span);
    let uses = task_type(written);
    if written.ends_with(".waitForTaskToken") {
        let reason = "the worker answers itself once it is done";
        findings.differs(place, "`.waitForTaskToken`", reason, "wait for a signal or an event behind it");
    }
    let what = format!("a worker for `{uses}` is needed");
    findings.note(place, what, "no worker that ships serves it", "write one, or name a task type of yours");
    body.push(("uses".to_owned(), Out::text(uses)));
    let with = fields.get("Parameters").or_else(|| fields.get("Arguments"));
    let with = with.map_or_else(|| whole(input), |node| Some(input.payload(node, findings)));
    match with {
        Some(with) => body.push(("with".to_owned(), with)),
        None => {
            let reason = "all of the input of the state is no one value here";
            let fix = "write `with`, or give the state `Parameters`";
            findings.unread(node.span, "what the task is given", reason, fix);
        }
    }
}

/// `arn:aws:lambda:…:function:HelloWorld` as `lambda.hello_world`.
fn task_type(resource: &str) -> String {
    let parts: Vec<&str> = resource.split(':').filter(|part| !part.is_empty()).collect();
    let last = parts.last().copied().unwrap_or("task");
    let last = last.trim_end_matches(".sync").trim_end_matches(".waitForTaskToken");
    let integrated = parts.get(2) == Some(&"states") && parts.len() > 4;
    let service = if integrated { parts.get(parts.len() - 2) } else { parts.get(2) };
    let mut spaced = String::new();
    for c in last.chars() {
        if c.is_ascii_uppercase() && spaced.ends_with(|before: char| before.is_ascii_lowercase()) {
            spaced.push('_');
        }
        spaced.push(c);
    }
    format!("{}.{}", name(service.copied().unwrap_or("task"), '_'), name(&spaced, '_'))
}

fn failure(fields: &Fields<'_>) -> Out {
    let said: Vec<&str> = [fields.text("Error"), fields.text("Cause")].into_iter().flatten().collect();
    Out::text(if said.is_empty() { "failed".to_owned() } else { said.join(": ") })
}

fn wait(fields: &Fields<'_>, node: &Node, input: &Data, body: &mut Pairs, findings: &mut Findings) {
    let seconds = fields.get("Seconds").and_then(scalar).filter(|said| said.bytes().all(|byte| byte.is_ascii_digit()));
    let instant = fields.get("Timestamp").map(|node| input.payload(node, findings));
    let path = fields.get("TimestampPath");
    let path = path.and_then(|node| Some(input.reference(text(node)?, node, findings)));
    let wait = match (seconds, instant.or(path)) {
        (Some(seconds), _) => Out::map([("for", Out::text(format!("{seconds}s")))]),
        (None, Some(until)) if until != null() => Out::map([("until", until)]),
        (None, _) => {
            let reason = "a span of time is written out here";
            findings.unread(
                node.span,
                "how long it waits",
                reason,
                "write `wait: { for }`, or compute an instant for `until`",
            );
            body.push(("fail".to_owned(), Out::text("how long to wait was not translated")));
            return;
        }
    };
    body.push(("wait".to_owned(), wait));
}

/// The output is the name of the state that comes next.
fn choice(fields: &Fields<'_>, input: &Data, body: &mut Pairs, findings: &mut Findings) {
    let mut expression = fields.text("Default").map_or_else(|| "''".to_owned(), quoted);
    for rule in fields.get("Choices").map(items).unwrap_or_default().iter().rev() {
        let next = Fields::open(rule, "a rule", findings).text("Next").unwrap_or_default();
        let Some(condition) = condition(rule, input) else {
            let reason = "comparisons of a simple path with a value are, with And, Or and Not";
            findings.unread(rule.span, &format!("the rule for `{next}`"), reason, "write the condition by hand");
            body.push(("fail".to_owned(), Out::text("a rule of this choice was not translated")));
            return;
        };
        expression = format!("{condition} ? {} : ({expression})", quoted(next));
    }
    body.push(("set".to_owned(), Out::text(format!("${{{{ {expression} }}}}"))));
}

fn parallel(fields: &Fields<'_>, input: &Data, site: &Site<'_>, body: &mut Pairs, findings: &mut Findings) {
    let mut steps = Pairs::new();
    let mut outputs = Vec::new();
    let mut taken = site.taken.clone();
    let branches = fields.get("Branches").map(items).unwrap_or_default();
    let names: Vec<String> =
        (1..=branches.len()).map(|at| crate::import::write::step_name(&format!("branch_{at}"), &mut taken)).collect();
    let given = fields.get("Parameters").or_else(|| fields.get("Arguments"));
    let input = given.map_or_else(|| input.clone(), |node| parts(input, node, findings));
    for (branch, branch_name) in branches.iter().zip(names) {
        let inner = Fields::open(branch, "a branch", findings);
        inner.pass_over(&["Comment"]);
        let (made, output) = machine(&inner, branch.span, &input, &taken, site.depth + 2, findings);
        inner.finish(findings);
        let mut pairs: Pairs = vec![("steps".to_owned(), Out::Map(made))];
        pairs.extend(whole(&output).map(|output| ("output".to_owned(), output)));
        outputs.push(Out::text(format!("${{{{ steps.{branch_name}.output }}}}")));
        steps.push((branch_name, Out::Map(pairs)));
    }
    body.push(("steps".to_owned(), Out::Map(steps)));
    body.push(("output".to_owned(), Out::List(outputs)));
}

/// An input that is put together: each part by its name.
fn parts(input: &Data, node: &Node, findings: &mut Findings) -> Data {
    let mut made = input.with(None);
    if let Out::Map(pairs) = input.payload(node, findings) {
        for (key, value) in pairs {
            let expression = match value {
                Out::Value(Value::String(text)) => {
                    match text.strip_prefix("${{ ").and_then(|rest| rest.strip_suffix(" }}")) {
                        Some(expression) => expression.to_owned(),
                        None => quoted(&text),
                    }
                }
                Out::Value(value) => value.to_string(),
                Out::List(_) | Out::Map(_) => continue,
            };
            made.over.push((vec![key], expression));
        }
    }
    made
}

fn map(fields: &Fields<'_>, input: &Data, site: &Site<'_>, body: &mut Pairs, findings: &mut Findings) {
    let items = match (fields.get("ItemsPath"), fields.get("Items")) {
        (Some(node), _) => text(node).map(|path| input.reference(path, node, findings)),
        (None, Some(node)) => Some(input.payload(node, findings)),
        (None, None) => whole(input),
    };
    let mut each: Pairs =
        vec![("items".to_owned(), items.filter(|one| *one != null()).unwrap_or(Out::List(Vec::new())))];
    let number = |key: &str| fields.get(key).and_then(scalar).and_then(|said| said.parse::<u64>().ok());
    if let Some(limit) = number("MaxConcurrency").filter(|limit| *limit > 0) {
        each.push(("max_parallel".to_owned(), Out::Value(limit.into())));
    }
    let percentage =
        fields.get("ToleratedFailurePercentage").and_then(scalar).map(|said| Out::text(format!("{said}%")));
    let count = number("ToleratedFailureCount").map(|count| Out::Value(count.into()));
    each.extend(percentage.or(count).map(|bears| ("tolerate".to_owned(), bears)));
    body.push(("for_each".to_owned(), Out::Map(each)));
    let item = input.with(Some("item".to_owned()));
    let selector = fields.get("ItemSelector").or_else(|| fields.get("Parameters"));
    let item = selector.map_or(item, |node| parts(input, node, findings));
    let Some(node) = fields.get("ItemProcessor").or_else(|| fields.get("Iterator")) else {
        body.push(("fail".to_owned(), Out::text("what is done with each item was not translated")));
        return;
    };
    let inner = Fields::open(node, "`ItemProcessor`", findings);
    // Whether AWS keeps one history or many.
    inner.pass_over(&["ProcessorConfig", "Comment"]);
    let (steps, output) = machine(&inner, node.span, &item, site.taken, site.depth + 1, findings);
    inner.finish(findings);
    body.push(("steps".to_owned(), Out::Map(steps)));
    body.extend(whole(&output).map(|output| ("output".to_owned(), output)));
}

/// `Retry`, `Catch` and limits of time.
fn around(fields: &Fields<'_>, kind: &str, body: &mut Pairs, findings: &mut Findings) {
    let is_task = kind == "Task";
    let retriers = fields.get("Retry").map(items).unwrap_or_default();
    for (at, node) in retriers.iter().enumerate() {
        if !is_task {
            findings.left_out(
                node.span,
                "`Retry` of what is no task",
                "only tasks are tried again",
                "give it to the tasks inside",
            );
        } else if at > 0 {
            findings.left_out(
                node.span,
                "a further retrier",
                "a step has one rule for all its codes",
                "join them in `retry`",
            );
        } else {
            let retry = retry(node, findings);
            body.push(("retry".to_owned(), Out::Map(retry)));
        }
    }
    for (at, node) in fields.get("Catch").map(items).unwrap_or_default().iter().enumerate() {
        if at > 0 {
            findings.left_out(node.span, "a further catcher", "one step takes a failure upon itself", "join them");
            continue;
        }
        let one = Fields::open(node, "a catcher", findings);
        one.pass_over(&["Next", "Comment"]);
        let asked = one.get("ErrorEquals");
        let is_all = asked.map(items).unwrap_or_default().iter().filter_map(text).any(|code| code == "States.ALL");
        if let Some(node) = asked.filter(|_| !is_all) {
            let reason = "a step behind a failure takes every one upon itself";
            findings.differs(node.span, "`ErrorEquals` of a catcher", reason, "let that step `fail` for other codes");
        }
        one.finish(findings);
    }
    let mut timeout = Pairs::new();
    for (key, ours) in [("TimeoutSeconds", "attempt"), ("HeartbeatSeconds", "heartbeat")] {
        let Some(node) = fields.get(key) else { continue };
        match scalar(node).filter(|said| is_task && said.bytes().all(|byte| byte.is_ascii_digit())) {
            Some(said) => timeout.push((ours.to_owned(), Out::text(format!("{said}s")))),
            None => {
                findings.left_out(node.span, &format!("`{key}`"), "only tasks have one, written out", "write `timeout`")
            }
        }
    }
    if !timeout.is_empty() {
        body.push(("timeout".to_owned(), Out::Map(timeout)));
    }
}

fn retry(node: &Node, findings: &mut Findings) -> Pairs {
    let fields = Fields::open(node, "a retrier", findings);
    fields.pass_over(&["Comment"]);
    let whole = |key: &str| fields.get(key).and_then(scalar).and_then(|said| said.parse::<u64>().ok());
    let attempts = whole("MaxAttempts").unwrap_or(3).saturating_add(1).min(1000);
    let mut retry: Pairs = vec![("attempts".to_owned(), Out::Value(attempts.into()))];
    retry.push(("backoff".to_owned(), Out::text(format!("{}s", whole("IntervalSeconds").unwrap_or(1).max(1)))));
    let longest = whole("MaxDelaySeconds").filter(|longest| *longest > 0);
    retry.push((
        "max_backoff".to_owned(),
        Out::text(longest.map_or_else(|| "1d".to_owned(), |longest| format!("{longest}s"))),
    ));
    let has_jitter = fields.text("JitterStrategy") == Some("FULL");
    retry.push(("jitter".to_owned(), Out::Value(has_jitter.into())));
    let rate = fields.get("BackoffRate");
    if let Some(node) = rate.filter(|node| scalar(node).and_then(|said| said.parse::<f64>().ok()) != Some(2.0)) {
        findings.differs(node.span, "`BackoffRate`", "waits double from attempt to attempt", "choose `backoff` for it");
    }
    if let Some(node) = fields.get("ErrorEquals") {
        let codes: Vec<&str> = items(node).iter().filter_map(text).collect();
        if !codes.iter().any(|code| ["States.ALL", "States.TaskFailed"].contains(code)) {
            if codes.iter().any(|code| code.starts_with("States.")) {
                let reason = "failures have codes of their own here";
                findings.differs(node.span, "a name that begins with `States.`", reason, "patchloom explain --list");
            }
            retry.push(("only".to_owned(), Out::List(codes.into_iter().map(Out::text).collect())));
        }
    }
    fields.finish(findings);
    retry
}
