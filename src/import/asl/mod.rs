//! The Amazon States Language: state machines as graphs of steps.

mod data;
mod state;

use std::collections::{BTreeMap, BTreeSet};

use patchloom_core::Span;
use patchloom_core::yaml::{Kind, Node};
use serde_json::Value;

use self::data::Data;
use super::findings::{Fields, Findings, items, scalar, text};
use super::write::{Out, Pairs, name, step_name};

/// How one state leads to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Next,
    Choice,
    Catch,
}

#[derive(Clone, Debug)]
struct Edge {
    from: String,
    to: String,
    way: Way,
    place: Span,
}

/// What is known of a state that was translated.
#[derive(Clone, Debug)]
struct Done {
    step: String,
    /// What the states behind it are given.
    output: Data,
    /// Whether it always runs, unless something failed.
    is_sure: bool,
    /// Whether a failure was caught on the way to it.
    is_caught: bool,
    can_be_caught: bool,
}

/// Translates a state machine.
pub(super) fn translate(root: &Node, file: &str, findings: &mut Findings) -> Pairs {
    let fields = Fields::open(root, "the state machine", findings);
    fields.pass_over(&["Version", "QueryLanguage"]);
    let stem = file.rsplit('/').next().and_then(|last| last.split('.').next()).unwrap_or("imported");
    let mut pairs: Pairs = vec![("name".to_owned(), Out::text(name(stem, '-')))];
    pairs.extend(fields.text("Comment").map(|said| ("description".to_owned(), Out::text(said))));
    if let Some(limit) = fields.get("TimeoutSeconds").and_then(scalar) {
        pairs.push(("timeout".to_owned(), Out::text(format!("{limit}s"))));
    }
    let data = Data { base: Some("inputs".to_owned()), ..Data::default() };
    let (steps, output) = machine(&fields, root.span, &data, &BTreeSet::new(), 0, findings);
    let read = data.inputs.borrow();
    if !read.is_empty() {
        let inputs = read.iter().map(|name| (name.clone(), Out::Map(Pairs::new()))).collect();
        pairs.push(("inputs".to_owned(), Out::Map(inputs)));
    }
    pairs.push(("steps".to_owned(), Out::Map(steps)));
    if let Some(base) = output.base.filter(|base| base != "inputs" && output.over.is_empty()) {
        pairs.push(("output".to_owned(), Out::text(format!("${{{{ {base} }}}}"))));
    }
    fields.finish(findings);
    pairs
}

/// The steps of `States`, and what the last of them give.
fn machine(
    fields: &Fields<'_>,
    place: Span,
    data: &Data,
    around: &BTreeSet<String>,
    depth: usize,
    findings: &mut Findings,
) -> (Pairs, Data) {
    let states: Vec<(String, &Node)> = match fields.get("States").map(|node| &node.kind) {
        Some(Kind::Map(entries)) => entries.iter().map(|(key, node)| (key.text.clone(), node)).collect(),
        _ => Vec::new(),
    };
    let by_name: BTreeMap<String, &Node> = states.iter().cloned().collect();
    let start = fields.text("StartAt").unwrap_or_default();
    if !by_name.contains_key(start) {
        findings.missing(place, &format!("the state `{start}` that it starts with"), "correct `StartAt`");
        return (
            vec![("untranslated".to_owned(), Out::map([("fail", Out::text("no state to start with"))]))],
            data.with(None),
        );
    }
    let (order, edges) = ordered(start, &by_name, findings);
    for (name, node) in states.iter().filter(|(name, _)| !order.contains(name)) {
        let what = format!("the state `{name}`");
        findings.left_out(node.span, &what, "nothing leads to it", "nothing, if nobody needs it");
    }
    let mut taken = around.clone();
    let names: BTreeMap<String, String> =
        order.iter().map(|name| (name.clone(), step_name(name, &mut taken))).collect();
    let mut done: BTreeMap<String, Done> = BTreeMap::new();
    let mut steps = Pairs::new();
    for name in &order {
        let incoming: Vec<&Edge> = edges.iter().filter(|edge| edge.to == *name).collect();
        let (mut body, is_sure, is_caught) = order_of(name, &incoming, &done);
        let input = input(&incoming, &done, data);
        let site = state::Site { step: &names[name], input: &input, taken: &taken, depth };
        let (does, output) = state::translate(name, by_name[name], &site, findings);
        body.extend(does);
        let can_be_caught = edges.iter().any(|edge| edge.from == *name && edge.way == Way::Catch);
        let step = names[name].clone();
        steps.push((step.clone(), Out::Map(body)));
        done.insert(name.clone(), Done { step, output, is_sure, is_caught, can_be_caught });
    }
    let is_end = |name: &String| !edges.iter().any(|edge| edge.from == *name && edge.way != Way::Catch);
    let is_fail = |name: &String| is_type(by_name[name], "Fail");
    let ends: Vec<&Done> = order.iter().filter(|name| is_end(name) && !is_fail(name)).map(|name| &done[name]).collect();
    (steps, joined(&ends, data))
}

fn is_type(node: &Node, kind: &str) -> bool {
    let Kind::Map(entries) = &node.kind else { return false };
    entries.iter().any(|(key, node)| key.text == "Type" && text(node) == Some(kind))
}

/// What stands before a step: `needs` and `if`; whether it is sure to run; whether a failure was caught before.
fn order_of(name: &str, incoming: &[&Edge], done: &BTreeMap<String, Done>) -> (Pairs, bool, bool) {
    let mut pairs = Pairs::new();
    let before: Vec<(&Done, Way)> =
        incoming.iter().filter_map(|edge| Some((done.get(&edge.from)?, edge.way))).collect();
    let needs: BTreeSet<&String> = before.iter().map(|(one, _)| &one.step).collect();
    if !needs.is_empty() {
        pairs.push(("needs".to_owned(), Out::List(needs.into_iter().map(Out::text).collect())));
    }
    let is_caught = before.iter().any(|(one, way)| one.is_caught || *way == Way::Catch);
    let is_sure =
        before.iter().all(|(one, way)| *way == Way::Next && one.is_sure && !one.can_be_caught) && before.len() < 2;
    let plain = before.len() < 2 && before.iter().all(|(one, way)| *way == Way::Next && one.is_sure);
    let conditions: BTreeSet<String> = before
        .iter()
        .map(|(one, way)| match way {
            Way::Next => format!("steps.{}.status == 'done'", one.step),
            Way::Choice => format!("steps.{}.output == {}", one.step, super::write::quoted(name)),
            Way::Catch => format!("steps.{}.status == 'failed'", one.step),
        })
        .collect();
    if !plain {
        let any = conditions.into_iter().collect::<Vec<_>>().join(" || ");
        let condition = match (is_caught, before.iter().all(|(_, way)| *way == Way::Catch)) {
            (true, true) => format!("failed() && ({any})"),
            (true, false) => format!("(failed() || succeeded()) && ({any})"),
            (false, _) => any,
        };
        pairs.push(("if".to_owned(), Out::text(condition)));
    }
    (pairs, is_sure, is_caught)
}

fn input(incoming: &[&Edge], done: &BTreeMap<String, Done>, data: &Data) -> Data {
    if incoming.is_empty() {
        return data.clone();
    }
    if incoming.iter().any(|edge| edge.way == Way::Catch) {
        return data.with(None);
    }
    let before: Vec<&Done> = incoming.iter().filter_map(|edge| done.get(&edge.from)).collect();
    joined(&before, data)
}

/// What comes of whichever of these ran.
fn joined(before: &[&Done], data: &Data) -> Data {
    let Some((first, rest)) = before.split_first() else { return data.with(None) };
    if rest.iter().all(|one| one.output == first.output) {
        return first.output.clone();
    }
    let bases: Option<Vec<(&String, &String)>> = before
        .iter()
        .map(|one| Some((&one.step, one.output.base.as_ref().filter(|base| *base != "inputs")?)))
        .collect();
    let is_alike = rest.iter().all(|one| one.output.over == first.output.over);
    let Some(bases) = bases.filter(|_| is_alike) else { return data.with(None) };
    let mut made = first.output.clone();
    let mut expression = "null".to_owned();
    for (step, base) in bases.iter().rev() {
        expression = format!("(steps.{step}.status == 'done' ? {base} : {expression})");
    }
    made.base = Some(expression);
    made
}

/// The states that can be reached, each behind all that lead to it; ways back are told and left out.
fn ordered(start: &str, states: &BTreeMap<String, &Node>, findings: &mut Findings) -> (Vec<String>, Vec<Edge>) {
    let mut order = Vec::new();
    let mut edges = Vec::new();
    let mut open: BTreeSet<String> = [start.to_owned()].into();
    let mut seen = open.clone();
    // A stack of its own: a chain of states may be long.
    let mut stack = vec![(start.to_owned(), leads(start, states[start]).into_iter())];
    while let Some((name, rest)) = stack.last_mut() {
        let Some(edge) = rest.next() else {
            open.remove(name);
            order.push(name.clone());
            stack.pop();
            continue;
        };
        let Some(node) = states.get(&edge.to) else {
            findings.missing(edge.place, &format!("the state `{}`", edge.to), "correct the name");
            continue;
        };
        if open.contains(&edge.to) {
            let what = format!("the way from `{}` back to `{}` is left out", edge.from, edge.to);
            findings.shape(
                edge.place,
                what,
                "steps form a graph without circles",
                "use `retry`, `for_each` or a child run",
            );
            continue;
        }
        let to = edge.to.clone();
        edges.push(edge);
        if seen.insert(to.clone()) {
            open.insert(to.clone());
            stack.push((to.clone(), leads(&to, node).into_iter()));
        }
    }
    order.reverse();
    (order, edges)
}

/// Where a state leads.
fn leads(name: &str, node: &Node) -> Vec<Edge> {
    let quiet = &mut Findings::default();
    let fields = Fields::open(node, "a state", quiet);
    let mut found = Vec::new();
    let mut add = |node: Option<&Node>, way: Way| {
        if let Some((to, place)) = node.and_then(|node| Some((text(node)?.to_owned(), node.span))) {
            found.push(Edge { from: name.to_owned(), to, way, place });
        }
    };
    if is_type(node, "Choice") {
        for rule in fields.get("Choices").map(items).unwrap_or_default() {
            add(Fields::open(rule, "a rule", &mut Findings::default()).get("Next"), Way::Choice);
        }
        add(fields.get("Default"), Way::Choice);
        return found;
    }
    add(fields.get("Next"), Way::Next);
    if let Some(first) = fields.get("Catch").map(items).unwrap_or_default().first() {
        add(Fields::open(first, "a catcher", &mut Findings::default()).get("Next"), Way::Catch);
    }
    found
}

fn null() -> Out {
    Out::Value(Value::Null)
}
