//! Argo Workflows: the document around the templates.

mod graph;
mod leaf;

use std::collections::{BTreeMap, BTreeSet};

use patchloom_core::yaml::Node;
use patchloom_core::{Millis, Span};
use serde_json::Value;

use super::findings::{Fields, Findings, items, scalar, text};
use super::refs::Scope;
use super::write::{Out, Pairs, name, step_name};

/// What is known while templates are carried over.
struct Argo<'a, 'f> {
    templates: BTreeMap<&'a str, &'a Node>,
    used: BTreeSet<&'a str>,
    inputs: BTreeMap<String, Out>,
    /// How many at a time, of the workflow.
    parallelism: Option<u64>,
    findings: &'f mut Findings,
}

/// Where a template is used.
#[derive(Clone, Debug, Default)]
struct Site {
    scope: Scope,
    /// The templates around, from the outermost.
    path: Vec<String>,
    /// The names of steps that are taken around it.
    taken: BTreeSet<String>,
    /// How many steps are around it.
    depth: usize,
    /// How many items at a time, of the template it stands in.
    parallelism: Option<u64>,
}

/// Translates a `Workflow`, a `WorkflowTemplate` or a `CronWorkflow`.
pub(super) fn translate(root: &Node, findings: &mut Findings) -> Pairs {
    let document = Fields::open(root, "the document", findings);
    document.pass_over(&["apiVersion", "status"]);
    let kind = document.text("kind").unwrap_or_default();
    let title = document.get("metadata").map_or_else(|| "imported".to_owned(), |node| title(node, findings));
    let mut pairs: Pairs = vec![("name".to_owned(), Out::text(name(&title, '-')))];
    let mut argo = Argo {
        templates: BTreeMap::new(),
        used: BTreeSet::new(),
        inputs: BTreeMap::new(),
        parallelism: None,
        findings,
    };
    let spec = document.get("spec");
    match (kind, spec) {
        ("Workflow" | "WorkflowTemplate" | "ClusterWorkflowTemplate", Some(spec)) => argo.spec(spec, &mut pairs),
        ("CronWorkflow", Some(spec)) => argo.cron(spec, &mut pairs),
        (_, spec) => {
            let place = document.get("kind").or(spec).map_or(root.span, |node| node.span);
            let reason = "Workflow, WorkflowTemplate and CronWorkflow are, where they have a `spec`";
            argo.findings.unread(place, &format!("a `{kind}`"), reason, "name a file with one of them");
            pairs.push(("steps".to_owned(), Out::map([("untranslated", leaf::placeholder("the document"))])));
        }
    }
    document.finish(findings);
    pairs
}

fn title(node: &Node, findings: &mut Findings) -> String {
    let fields = Fields::open(node, "`metadata`", findings);
    fields.text("name").or_else(|| fields.text("generateName")).unwrap_or("imported").trim_end_matches('-').to_owned()
}

/// A span of time of Argo: `10` is ten seconds, `1m30s` is as here.
fn span(node: &Node, what: &str, findings: &mut Findings) -> Option<Out> {
    let written = scalar(node)?;
    let made = if written.bytes().all(|byte| byte.is_ascii_digit()) { format!("{written}s") } else { written };
    match made.parse::<Millis>() {
        Ok(span) if span.0 > 0 => Some(Out::text(made)),
        Ok(_) => None,
        Err(_) => {
            findings.unread(node.span, &format!("`{made}` as {what}"), "it is no duration here", "write such as 1h30m");
            None
        }
    }
}

fn whole(node: &Node) -> Option<u64> {
    scalar(node).and_then(|written| written.parse().ok())
}

impl<'a> Argo<'a, '_> {
    fn cron(&mut self, node: &'a Node, pairs: &mut Pairs) {
        let fields = Fields::open(node, "`spec` of a CronWorkflow", self.findings);
        fields.pass_over(&["successfulJobsHistoryLimit", "failedJobsHistoryLimit", "workflowMetadata"]);
        let many = fields.get("schedules").map(items).unwrap_or_default();
        let rules: Vec<&str> = fields.text("schedule").into_iter().chain(many.iter().filter_map(text)).collect();
        let overlap = match fields.text("concurrencyPolicy") {
            Some("Forbid") => "skip",
            Some("Replace") => "replace",
            _ => "allow",
        };
        let deadline = fields.get("startingDeadlineSeconds");
        let is_late = deadline.is_some_and(|node| whole(node) != Some(0));
        if let Some(node) = deadline.filter(|_| is_late) {
            let reason = "here the last instant that passed is made up for, however late";
            self.findings.differs(node.span, "`startingDeadlineSeconds`", reason, "see `catch_up` in docs/events.md");
        }
        let entries = rules.iter().map(|rule| {
            let mut schedule: Pairs = vec![("cron".to_owned(), Out::text(*rule))];
            if let Some(zone) = fields.text("timezone") {
                schedule.push(("timezone".to_owned(), Out::text(zone)));
            }
            schedule.push(("overlap".to_owned(), Out::text(overlap)));
            schedule.push(("catch_up".to_owned(), Out::text(if is_late { "last" } else { "none" })));
            let inputs = Out::map([("scheduled_time", Out::text("${{ schedule.time }}"))]);
            schedule.push(("inputs".to_owned(), inputs));
            Out::map([("schedule", Out::Map(schedule))])
        });
        let entries: Vec<Out> = entries.collect();
        let held = fields.get("suspend").filter(|node| scalar(node).as_deref() != Some("false"));
        if let Some(node) = held {
            let reason = "a definition is on as long as it is registered, so its schedule was not taken over";
            self.findings.left_out(node.span, "`suspend` of the schedule", reason, "add `on` once it shall start");
        } else if !entries.is_empty() {
            pairs.push(("on".to_owned(), Out::List(entries)));
        }
        let input = Out::map([("default", Out::Value(Value::Null))]);
        self.inputs.insert("scheduled_time".to_owned(), input);
        match fields.get("workflowSpec") {
            Some(spec) => self.spec(spec, pairs),
            None => self.findings.missing(node.span, "`workflowSpec`", "write the steps by hand"),
        }
        fields.finish(self.findings);
    }

    fn spec(&mut self, node: &'a Node, pairs: &mut Pairs) {
        let fields = Fields::open(node, "`spec`", self.findings);
        // How pods are tidied up: no pod is made here.
        fields.pass_over(&["ttlStrategy", "podGC"]);
        for template in fields.get("templates").map(items).unwrap_or_default() {
            if let Some(name) = Fields::open(template, "a template", self.findings).text("name") {
                self.templates.insert(name, template);
            }
        }
        let params = fields.get("arguments").map(|node| self.arguments(node)).unwrap_or_default();
        self.around(&fields, pairs);
        let mut site = Site::default();
        site.scope.params = params;
        let entry = fields.get("entrypoint");
        let steps = entry.and_then(text).map(|entry| self.top(entry, node.span, site.clone()));
        let mut taken: BTreeSet<String> =
            steps.iter().flatten().map(|(name, _): &(String, Out)| name.clone()).collect();
        let finally = fields.get("onExit").and_then(text).map(|exit| {
            let mut site = site;
            site.scope.is_finally = true;
            site.taken = std::mem::take(&mut taken);
            self.top(exit, node.span, site)
        });
        if !self.inputs.is_empty() {
            pairs.push(("inputs".to_owned(), Out::Map(std::mem::take(&mut self.inputs).into_iter().collect())));
        }
        let steps = steps.filter(|steps| !steps.is_empty()).unwrap_or_else(|| {
            let fix = "name a file with an `entrypoint` and its templates";
            self.findings.missing(node.span, "what `spec` runs", fix);
            vec![("untranslated".to_owned(), leaf::placeholder("the entry point"))]
        });
        pairs.push(("steps".to_owned(), Out::Map(steps)));
        if let Some(finally) = finally.filter(|steps| !steps.is_empty()) {
            pairs.push(("finally".to_owned(), Out::Map(finally)));
        }
        for (name, node) in self.templates.iter().filter(|(name, _)| !self.used.contains(*name)) {
            let reason = "no step that was translated uses it";
            self.findings.left_out(node.span, &format!("the template `{name}`"), reason, "nothing, if nobody needs it");
        }
        fields.finish(self.findings);
    }

    /// What stands around the steps: limits.
    fn around(&mut self, fields: &Fields<'a>, pairs: &mut Pairs) {
        if let Some(limit) = fields.get("activeDeadlineSeconds") {
            let limit = span(limit, "`activeDeadlineSeconds`", self.findings);
            pairs.extend(limit.map(|limit| ("timeout".to_owned(), limit)));
        }
        if let Some(node) = fields.get("synchronization") {
            let limit = self.synchronization(node, &Scope::default());
            pairs.extend(limit.map(|limit| ("concurrency".to_owned(), limit)));
        }
        if let Some(node) = fields.get("priority") {
            match scalar(node).and_then(|written| written.parse::<i64>().ok()).filter(|one| (-100..=100).contains(one))
            {
                Some(priority) => pairs.push(("priority".to_owned(), Out::Value(priority.into()))),
                None => self.findings.unread(node.span, "`priority`", "priorities go from -100 to 100", "choose one"),
            }
        }
        if let Some(node) = fields.get("parallelism") {
            self.parallelism = whole(node);
            let reason = "it limits each `for_each` here, not all steps of a run together";
            self.findings.differs(
                node.span,
                "`parallelism`",
                reason,
                "limit steps with `concurrency`, if that matters",
            );
        }
    }

    /// A mutex as a group with one place.
    fn synchronization(&mut self, node: &'a Node, scope: &Scope) -> Option<Out> {
        let fields = Fields::open(node, "`synchronization`", self.findings);
        let many = fields.get("mutexes").map(items).unwrap_or_default();
        let all: Vec<&Node> = fields.get("mutex").into_iter().chain(many).collect();
        fields.finish(self.findings);
        for further in all.iter().skip(1) {
            let reason = "there is one group for each";
            self.findings.left_out(further.span, "a second mutex", reason, "put both names into one group");
        }
        let mutex = Fields::open(all.first()?, "a mutex", self.findings);
        let group = mutex.get("name").and_then(|node| Some((text(node)?, node.span)));
        mutex.finish(self.findings);
        let (group, place) = group?;
        let group = scope.text(group, place, self.findings);
        Some(Out::map([("group", Out::text(group)), ("limit", Out::Value(1.into()))]))
    }

    /// The parameters of the workflow, which become inputs.
    fn arguments(&mut self, node: &'a Node) -> BTreeMap<String, String> {
        let fields = Fields::open(node, "`arguments`", self.findings);
        let mut params = BTreeMap::new();
        for node in fields.get("parameters").map(items).unwrap_or_default() {
            let one = Fields::open(node, "a parameter", self.findings);
            if let Some(raw) = one.text("name") {
                let mut schema: Pairs = vec![("type".to_owned(), Out::text("string"))];
                for (key, ours) in [("description", "description"), ("value", "default"), ("default", "default")] {
                    let said = one.get(key).and_then(scalar).filter(|_| !schema.iter().any(|(key, _)| key == ours));
                    schema.extend(said.map(|said| (ours.to_owned(), Out::text(said))));
                }
                if let Some(node) = one.get("enum") {
                    let values = items(node).iter().filter_map(scalar).map(Out::text).collect();
                    schema.push(("enum".to_owned(), Out::List(values)));
                }
                self.inputs.insert(name(raw, '_'), Out::Map(schema));
                params.insert(raw.to_owned(), format!("${{{{ inputs.{} }}}}", name(raw, '_')));
            }
            one.finish(self.findings);
        }
        fields.finish(self.findings);
        params
    }

    /// The steps of the template that a workflow begins or ends with.
    fn top(&mut self, entry: &str, place: Span, mut site: Site) -> Pairs {
        let Some((&name, &node)) = self.templates.get_key_value(entry) else {
            self.findings.missing(place, &format!("the template `{entry}`"), "put it into this file");
            return Vec::new();
        };
        self.declare(node, &mut site.scope);
        let body = self.template(name, node, &BTreeMap::new(), &site);
        match body.as_slice() {
            // Nothing stands around its steps: they are those of the workflow.
            [(key, Out::Map(steps))] if key == "steps" => steps.clone(),
            _ => vec![(step_name(name, &mut site.taken), Out::Map(body))],
        }
    }

    /// What an entry template takes and the workflow does not give is an input too.
    fn declare(&mut self, node: &'a Node, scope: &mut Scope) {
        let quiet = &mut Findings::default();
        let inputs = Fields::open(node, "a template", quiet).get("inputs");
        let params = inputs.and_then(|node| Fields::open(node, "`inputs`", quiet).get("parameters"));
        for one in params.map(items).unwrap_or_default() {
            let fields = Fields::open(one, "a parameter", quiet);
            let said = fields.get("value").or_else(|| fields.get("default"));
            let Some(raw) = fields.text("name").filter(|raw| said.is_none() && !scope.params.contains_key(*raw)) else {
                continue;
            };
            let schema = Out::map([("type", Out::text("string"))]);
            self.inputs.insert(name(raw, '_'), schema);
            scope.params.insert(raw.to_owned(), format!("${{{{ inputs.{} }}}}", name(raw, '_')));
        }
    }
}
