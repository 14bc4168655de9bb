//! Over what a step fans out: items, portions, what is borne.

use super::fields::{Fields, bad_value, misfit, wrong_type};
use super::step::condition;
use super::{ForEach, Gate, OnExceed, Per, Portion, Tolerate, Wave};
use crate::diagnostic::Diagnostic;
use crate::template::Template;
use crate::yaml::{Kind, Node};

pub(crate) const FOR_EACH: &[&str] = &["items", "key", "max_parallel", "per", "waves", "tolerate"];
pub(crate) const PER: &[&str] = &["key", "limit"];
pub(crate) const WAVE: &[&str] = &["name", "size", "soak", "gate"];
pub(crate) const GATE: &[&str] = &["if", "signal", "timeout"];
pub(crate) const TOLERATE: &[&str] = &["failures", "min_samples", "on_exceed"];
const ITEMS_MAX: u32 = 1_000_000;
const WAVES_MAX: usize = 100;

/// Reads what stands behind `for_each`.
pub(super) fn read(node: &Node, source: &str, mistakes: &mut Vec<Diagnostic>) -> Option<ForEach> {
    let fields = Fields::open(node, "`for_each`", FOR_EACH, mistakes)?;
    let items = fields.required("items", "`for_each`", mistakes).map(|items| Template::read(items, source, mistakes));
    if let Some(items) = &items
        && (matches!(items, Template::Literal(value) if !value.is_array())
            || matches!(items, Template::Map(_) | Template::Text(_)))
    {
        mistakes.push(Diagnostic {
            code: "E0105",
            message: "`items` is not a list".into(),
            span: fields.get("items").map_or(fields.span, |items| items.span),
            reason: "`for_each` walks a list, or an expression that comes to one".into(),
            fix: None,
        });
    }
    let key = fields.template("key", source, mistakes);
    let max_parallel = fields.count("max_parallel", ITEMS_MAX, mistakes);
    let per = each(&fields, "per", mistakes, |node, _, mistakes| per(node, source, mistakes));
    let waves = each(&fields, "waves", mistakes, |node, nth, mistakes| wave(node, nth, source, mistakes));
    between(&fields, &waves, mistakes);
    let tolerate = fields.get("tolerate").and_then(|node| tolerate(node, mistakes));
    Some(ForEach { items: items?, key, max_parallel, per, waves, tolerate })
}

fn each<T>(
    fields: &Fields<'_>,
    key: &str,
    mistakes: &mut Vec<Diagnostic>,
    read: impl Fn(&Node, usize, &mut Vec<Diagnostic>) -> Option<T>,
) -> Vec<T> {
    let Some(node) = fields.get(key) else { return Vec::new() };
    match &node.kind {
        Kind::List(items) if items.is_empty() || items.len() > WAVES_MAX => {
            let message = format!("`{key}` has {} entries", items.len());
            mistakes.push(bad_value(node.span, message, &format!("it has 1 to {WAVES_MAX}"), None));
            Vec::new()
        }
        Kind::List(items) => items.iter().enumerate().filter_map(|(at, item)| read(item, at + 1, mistakes)).collect(),
        Kind::Text(_) | Kind::Other(_) | Kind::Map(_) => {
            mistakes.push(wrong_type(node, &format!("`{key}`"), "a list"));
            Vec::new()
        }
    }
}

fn per(node: &Node, source: &str, mistakes: &mut Vec<Diagnostic>) -> Option<Per> {
    let fields = Fields::open(node, "an entry of `per`", PER, mistakes)?;
    let key = fields.required("key", "an entry of `per`", mistakes);
    let key = key.map(|node| Template::read(node, source, mistakes));
    let limit = fields.required("limit", "an entry of `per`", mistakes);
    let limit = limit.and_then(|_| fields.count("limit", ITEMS_MAX, mistakes));
    let reads_item =
        |key: &Template| key.references().any(|reference| matches!(reference.path[0].as_str(), "item" | "index"));
    if let (Some(key), Some(node)) = (&key, fields.get("key"))
        && !reads_item(key)
        && !mistakes.iter().any(|mistake| node.span.start <= mistake.span.start && mistake.span.end <= node.span.end)
    {
        mistakes.push(misfit(
            node.span,
            "this key is the same for every item".into(),
            "a limit per key parts the items by something of theirs",
            "read `item` in it, or write `max_parallel`",
        ));
    }
    Some(Per { key: key?, limit: limit? })
}

fn wave(node: &Node, nth: usize, source: &str, mistakes: &mut Vec<Diagnostic>) -> Option<Wave> {
    let fields = Fields::open(node, "a wave", WAVE, mistakes)?;
    let name = fields.text("name", mistakes).map_or_else(|| format!("wave-{nth}"), str::to_owned);
    let size = fields.get("size").map_or(Some(Portion::ALL), |node| portion(node, "size", mistakes));
    if let (Some(Portion::Count(0) | Portion::BasisPoints(0)), Some(node)) = (size, fields.get("size")) {
        mistakes.push(bad_value(node.span, "this wave is empty".into(), "a wave takes at least one item", None));
    }
    Some(Wave {
        name: name.into(),
        soak: fields.span_of_time("soak", mistakes),
        gate: fields.get("gate").and_then(|node| gate(node, source, mistakes)),
        size: size?,
    })
}

fn gate(node: &Node, source: &str, mistakes: &mut Vec<Diagnostic>) -> Option<Gate> {
    let fields = Fields::open(node, "`gate`", GATE, mistakes)?;
    let gate = Gate {
        condition: fields.get("if").and_then(|node| condition(node, source, mistakes)),
        signal: fields.text("signal", mistakes).map(Into::into),
        timeout: fields.span_of_time("timeout", mistakes),
    };
    if !fields.has("if") && !fields.has("signal") && !fields.misspells(&["if", "signal"]) {
        let reason = "a gate holds a condition, a signal that must come, or both";
        mistakes.push(misfit(node.span, "this gate asks for nothing".into(), reason, "add `if` or `signal`"));
    } else if fields.has("timeout") && !fields.has("signal") {
        let reason = "a condition is looked at once; only a signal is waited for";
        let span = fields.key_span("timeout");
        mistakes.push(misfit(
            span,
            "`timeout` does not go with `if` alone".into(),
            reason,
            "remove it, or add `signal`",
        ));
    }
    Some(gate)
}

/// What the waves say of each other.
fn between(fields: &Fields<'_>, waves: &[Wave], mistakes: &mut Vec<Diagnostic>) {
    let Some(Node { kind: Kind::List(nodes), .. }) = fields.get("waves") else { return };
    if nodes.len() != waves.len() {
        return;
    }
    for (at, (wave, node)) in waves.iter().zip(nodes).enumerate() {
        if waves[..at].iter().any(|other| other.name == wave.name) {
            let message = format!("two waves are called `{}`", wave.name);
            mistakes.push(bad_value(node.span, message, "waves are told apart by their names", None));
        }
        if at + 1 == waves.len() && wave.gate.is_some() {
            let reason = "a gate stands between two waves, and no wave comes behind this one";
            mistakes.push(misfit(
                node.span,
                "the last wave has a gate".into(),
                reason,
                "move the gate to the wave before, or add a wave",
            ));
        }
    }
}

fn tolerate(node: &Node, mistakes: &mut Vec<Diagnostic>) -> Option<Tolerate> {
    if !matches!(node.kind, Kind::Map(_)) {
        let failures = portion(node, "tolerate", mistakes)?;
        return Some(Tolerate { failures, min_samples: 0, on_exceed: OnExceed::Drain });
    }
    let fields = Fields::open(node, "`tolerate`", TOLERATE, mistakes)?;
    let failures = fields.required("failures", "`tolerate`", mistakes);
    let failures = failures.and_then(|node| portion(node, "failures", mistakes));
    let min_samples = fields.count("min_samples", ITEMS_MAX, mistakes).unwrap_or(0);
    if matches!(failures, Some(Portion::Count(_))) && fields.has("min_samples") {
        let reason = "a number of failures is the same however many items have come to rest";
        let span = fields.key_span("min_samples");
        mistakes.push(misfit(span, "`min_samples` goes with a percentage only".into(), reason, "remove it"));
    }
    let words = [("drain", OnExceed::Drain), ("cancel", OnExceed::Cancel), ("pause", OnExceed::Pause)];
    let on_exceed = fields.choice("on_exceed", &words, mistakes).unwrap_or_default();
    Some(Tolerate { failures: failures?, min_samples, on_exceed })
}

fn portion(node: &Node, key: &str, mistakes: &mut Vec<Diagnostic>) -> Option<Portion> {
    let written = match &node.kind {
        Kind::Text(text) => text.clone(),
        Kind::Other(value) => value.to_string(),
        Kind::List(_) | Kind::Map(_) => {
            mistakes.push(wrong_type(node, &format!("`{key}`"), "a number of items or a percentage"));
            return None;
        }
    };
    match written.parse() {
        Ok(portion) => Some(portion),
        Err(reason) => {
            mistakes.push(bad_value(node.span, format!("`{key}` is no number of items"), &reason, None));
            None
        }
    }
}
