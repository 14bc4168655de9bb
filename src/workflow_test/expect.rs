//! From the YAML of `expect` to what is expected.

use patchloom_core::yaml::{Kind, Node};
use patchloom_core::{Leg, Span, nearest};

use super::fields::{Fields, Reader};
use super::model::{At, Expect, Takes};
use super::place::Place;
use super::read::place;

pub(super) const EXPECT: &[&str] =
    &["run", "output", "failure", "steps", "order", "before", "after", "dispatches", "undone", "takes", "at", "that"];
pub(super) const FAILURE: &[&str] = &["code", "class", "message", "details", "step"];
pub(super) const STEP: &[&str] = &["status", "output", "failure", "attempts", "input"];
pub(super) const TAKES: &[&str] = &["at_least", "at_most"];
pub(super) const AT: &[&str] = &["run", "steps"];
pub(super) const PHASES: &[&str] = &[
    "succeeded",
    "failed",
    "compensated",
    "cancelled",
    "queued",
    "running",
    "halting",
    "compensating",
    "compensation_failed",
    "closing",
    "quarantined",
];
pub(super) const STATUSES: &[&str] = &["pending", "active", "waiting", "held", "done", "skipped", "failed", "halted"];
pub(super) const UNDOS: &[&str] = &["not_needed", "owed", "active", "done", "failed"];
/// What a condition may read.
const NAMES: &[&str] = &["run", "output", "failure", "inputs", "steps"];

/// Reads `expect`; a case without it expects its run to succeed.
pub(super) fn read(reader: &mut Reader<'_>, case: Span, node: Option<&Node>) -> Expect {
    let mut expect = Expect {
        run: ("succeeded".into(), case),
        output: None,
        failure: None,
        steps: Vec::new(),
        order: Vec::new(),
        before: Vec::new(),
        dispatches: None,
        undone: None,
        takes: None,
        at: Vec::new(),
        that: Vec::new(),
    };
    let Some(fields) = node.and_then(|node| reader.open(node, "`expect`", EXPECT)) else { return expect };
    if let Some(node) = fields.get("run") {
        expect.run = (phase(reader, node).unwrap_or_default(), node.span);
    }
    expect.output = fields.get("output").map(|node| pattern(reader, node));
    expect.failure = fields.get("failure").map(|node| failure(reader, node));
    expect.steps = fields.get("steps").map(|node| steps(reader, node)).unwrap_or_default();
    expect.order = fields.get("order").map(|node| places(reader, node, "`order`")).unwrap_or_default();
    expect.before = before(reader, &fields);
    let mut listed = |key: &str| fields.get(key).map(|node| (places(reader, node, key), fields.key(key)));
    expect.dispatches = listed("dispatches");
    expect.undone = listed("undone");
    if let Some((places, _)) = &mut expect.undone {
        // That they are on the way back goes without saying.
        places.iter_mut().for_each(|(place, _)| place.leg = Leg::Undo);
    }
    expect.takes = fields.get("takes").and_then(|node| takes(reader, node));
    expect.at = fields.get("at").map(|node| at(reader, node)).unwrap_or_default();
    for node in fields.get("that").map(|node| reader.one_or_many(node)).unwrap_or_default() {
        let template = reader.template(node, NAMES);
        expect.that.push((template, node.span));
    }
    expect
}

fn one_of(reader: &mut Reader<'_>, node: &Node, what: &str, known: &[&str]) -> Option<String> {
    let text = reader.text(node, what)?;
    if known.contains(&text) {
        return Some(text.to_owned());
    }
    let near = nearest(text, known.iter().copied()).map(|near| format!("write `{near}`"));
    reader.bad(node.span, format!("`{text}` is no {what}"), &format!("it is one of {}", known.join(", ")), near);
    None
}

fn phase(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    one_of(reader, node, "state of a run", PHASES)
}

/// The status of a step, or of its way back.
pub(super) fn status(reader: &mut Reader<'_>, node: &Node, place: Option<&Place>) -> Option<String> {
    match place.map(|place| place.leg) {
        Some(Leg::Undo) => one_of(reader, node, "state of a way back", UNDOS),
        Some(Leg::Forward) | None => one_of(reader, node, "status of a step", STATUSES),
    }
}

fn steps(reader: &mut Reader<'_>, node: &Node) -> Vec<(Place, Span, Node)> {
    let mut found = Vec::new();
    for (key, node) in reader.map(node, "`steps`").unwrap_or_default() {
        let Some(place) = place(reader, &key.text, key.span) else { continue };
        if let Kind::Map(_) = node.kind {
            let fields = reader.open(node, "what is expected of a step", STEP);
            let node = fields.and_then(|fields| fields.get("status"));
            node.map(|node| status(reader, node, Some(&place)));
            let attempts = fields.and_then(|fields| fields.get("attempts"));
            attempts.map(|node| reader.count(node, "`attempts`"));
            fields.and_then(|fields| fields.get("failure")).map(|node| failure(reader, node));
            for key in ["output", "input"] {
                fields.and_then(|fields| fields.get(key)).map(|node| pattern(reader, node));
            }
        } else {
            status(reader, node, Some(&place));
        }
        found.push((place, key.span, node.clone()));
    }
    found
}

/// A value that what is seen is held against; its expressions may read how the run went.
fn pattern(reader: &mut Reader<'_>, node: &Node) -> Node {
    reader.template(node, NAMES);
    node.clone()
}

fn failure(reader: &mut Reader<'_>, node: &Node) -> Node {
    reader.open(node, "`failure`", FAILURE);
    pattern(reader, node)
}

fn places(reader: &mut Reader<'_>, node: &Node, what: &str) -> Vec<(Place, Span)> {
    let mut found = Vec::new();
    for node in reader.list(node, what) {
        let Some(text) = reader.text(node, "a step") else { continue };
        found.extend(place(reader, text, node.span).map(|place| (place, node.span)));
    }
    found
}

/// `before: {a: [b]}` and `after: {b: [a]}` say the same.
fn before(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Vec<((Place, Span), (Place, Span))> {
    let mut pairs = Vec::new();
    for word in ["before", "after"] {
        let Some(node) = fields.get(word) else { continue };
        for (key, node) in reader.map(node, &format!("`{word}`")).unwrap_or_default() {
            let Some(one) = place(reader, &key.text, key.span) else { continue };
            for node in reader.one_or_many(node) {
                let Some(text) = reader.text(node, "a step") else { continue };
                let Some(other) = place(reader, text, node.span) else { continue };
                let (one, other) = ((one.clone(), node.span), (other, node.span));
                pairs.push(if word == "before" { (one, other) } else { (other, one) });
            }
        }
    }
    pairs
}

fn takes(reader: &mut Reader<'_>, node: &Node) -> Option<Takes> {
    let Kind::Map(_) = node.kind else {
        let exactly = Some((reader.duration(node, "`takes`")?, node.span));
        return Some(Takes { least: exactly, most: exactly });
    };
    let fields = reader.open(node, "`takes`", TAKES)?;
    let mut bound = |key: &str| {
        let node = fields.get(key)?;
        Some((reader.duration(node, key)?, node.span))
    };
    Some(Takes { least: bound("at_least"), most: bound("at_most") })
}

fn at(reader: &mut Reader<'_>, node: &Node) -> Vec<At> {
    let mut found = Vec::new();
    for (key, node) in reader.map(node, "`at`").unwrap_or_default() {
        let when = Node { span: key.span, kind: Kind::Text(key.text.clone()) };
        let after = reader.duration(&when, "a key of `at`");
        let Some(fields) = reader.open(node, "how things stand", AT) else { continue };
        let run = fields.get("run").and_then(|node| Some((phase(reader, node)?, node.span)));
        let steps = fields.get("steps").map(|node| steps(reader, node)).unwrap_or_default();
        found.extend(after.map(|after| At { after, run, steps }));
    }
    found
}

#[cfg(test)]
mod tests {
    use patchloom_core::record::End;
    use patchloom_core::run::{Phase, Skip, Status, Undo};
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_words_are_those_of_the_engine() {
        let ends = [End::Succeeded, End::Failed, End::Compensated, End::Cancelled].map(Phase::Ended);
        let open = [
            Phase::Queued { group: "x".into() },
            Phase::Running,
            Phase::Halting,
            Phase::Compensating,
            Phase::CompensationFailed,
            Phase::Closing { end: End::Failed },
            Phase::Quarantined { reason: "x".into(), was: None },
        ];
        let phases: Vec<&str> = ends.iter().chain(&open).map(Phase::name).collect();
        assert_eq!(phases, PHASES);
        let failure = serde_json::json!({"code": "X", "class": "permanent", "message": ""});
        let failure: patchloom_core::Failure = serde_json::from_value(failure).unwrap();
        let statuses = [
            Status::Pending,
            Status::Active,
            Status::Waiting { due: None },
            Status::Held { failure: failure.clone() },
            Status::Done { output: Value::Null, late: false },
            Status::Skipped(Skip::Condition),
            Status::Failed(failure),
            Status::Halted,
        ];
        assert_eq!(statuses.iter().map(Status::name).collect::<Vec<_>>(), STATUSES);
        let done = Undo::Done { resolved: Default::default() };
        let undos = [Undo::NotNeeded, Undo::Owed, Undo::Active(Box::default()), done, Undo::Failed(Box::default())];
        assert_eq!(undos.iter().map(Undo::name).collect::<Vec<_>>(), UNDOS);
    }
}
