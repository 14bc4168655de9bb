//! What a step waits for: a signal, an event, a window, a span or an instant.

use super::around::expected;
use super::fields::{Fields, bad_value, misfit, wrong_type};
use super::step::condition;
use super::{EventWait, OnTimeout, SignalWait, Wait, Window, check};
use crate::Millis;
use crate::diagnostic::Diagnostic;
use crate::yaml::{Kind, Node};

pub(crate) const WAIT: &[&str] = &[
    "signal",
    "schema",
    "quorum",
    "roles",
    "event",
    "if",
    "key",
    "by",
    "since",
    "window",
    "expected",
    "for",
    "until",
    "timeout",
    "on_timeout",
];
/// What may be waited for, and the keys that go with it.
const KINDS: [(&str, &[&str]); 5] = [
    ("signal", &["schema", "quorum", "roles", "timeout", "on_timeout"]),
    ("event", &["if", "key", "by", "since", "timeout", "on_timeout"]),
    ("window", &["expected"]),
    ("for", &[]),
    ("until", &[]),
];
const QUORUM_MAX: u32 = 100;

/// Reads what stands behind `wait`.
pub(super) fn read(node: &Node, source: &str, mistakes: &mut Vec<Diagnostic>) -> Option<Wait> {
    let fields = Fields::open(node, "`wait`", WAIT, mistakes)?;
    let found: Vec<(&str, &[&str])> = KINDS.into_iter().filter(|(kind, _)| fields.has(kind)).collect();
    let [(kind, takes)] = found.as_slice() else {
        if !(found.is_empty() && fields.misspells(&KINDS.map(|(kind, _)| kind))) {
            mistakes.push(misfit(
                node.span,
                "this waits for nothing, or for several things".into(),
                "a wait is for one of signal, event, window, for or until",
                "write {signal: NAME}, {event: TYPE}, {window: NAME}, {for: 30s} or {until: INSTANT}",
            ));
        }
        return None;
    };
    for key in WAIT.iter().filter(|key| *key != kind && !takes.contains(key) && fields.has(key)) {
        let reason = format!("a wait for `{kind}` takes {}", list(takes));
        mistakes.push(misfit(fields.key_span(key), format!("`{key}` does not go with `{kind}`"), &reason, "remove it"));
    }
    let timeout = fields.span_of_time("timeout", mistakes);
    let ends = [("fail", OnTimeout::Fail), ("continue", OnTimeout::Continue)];
    let on_timeout = fields.choice("on_timeout", &ends, mistakes).unwrap_or_default();
    if fields.has("on_timeout") && !fields.has("timeout") && takes.contains(&"timeout") {
        let reason = "without `timeout` it waits as long as it takes";
        let span = fields.key_span("on_timeout");
        mistakes.push(misfit(span, "`on_timeout` stands alone".into(), reason, "add `timeout: …`, or remove it"));
    }
    match *kind {
        "signal" => signal(&fields, timeout, on_timeout, mistakes).map(Wait::Signal),
        "event" => event(&fields, source, timeout, on_timeout, mistakes).map(Wait::Event),
        "window" => Some(Wait::Window(Window {
            calendar: fields.template("window", source, mistakes)?,
            expected: fields.get("expected").and_then(|node| expected(node, source, mistakes)),
        })),
        "for" => fields.span_of_time("for", mistakes).map(Wait::For),
        _ => fields.template("until", source, mistakes).map(Wait::Until),
    }
}

fn list(keys: &[&str]) -> String {
    if keys.is_empty() { "nothing else".to_owned() } else { keys.join(", ") }
}

fn signal(
    fields: &Fields<'_>,
    timeout: Option<Millis>,
    on_timeout: OnTimeout,
    mistakes: &mut Vec<Diagnostic>,
) -> Option<SignalWait> {
    let name = fields.text("signal", mistakes);
    let schema = fields.get("schema").and_then(|node| {
        let schema = match &node.kind {
            Kind::Map(_) => node.to_json(),
            Kind::Text(_) | Kind::Other(_) | Kind::List(_) => {
                mistakes.push(wrong_type(node, "`schema`", "a JSON Schema such as {type: object}"));
                return None;
            }
        };
        if let Err(reason) = check::compile(&schema) {
            mistakes.push(Diagnostic {
                code: "E0110",
                message: "the schema of the signal does not hold".into(),
                span: node.span,
                reason,
                fix: Some("it is a JSON Schema 2020-12, such as {type: object, required: [by]}".into()),
            });
        }
        Some(schema)
    });
    Some(SignalWait {
        schema,
        quorum: fields.count("quorum", QUORUM_MAX, mistakes).unwrap_or(1),
        roles: fields.texts("roles", mistakes),
        timeout,
        on_timeout,
        name: name?.into(),
    })
}

fn event(
    fields: &Fields<'_>,
    source: &str,
    timeout: Option<Millis>,
    on_timeout: OnTimeout,
    mistakes: &mut Vec<Diagnostic>,
) -> Option<EventWait> {
    let kind = fields.text("event", mistakes);
    let key = fields.template("key", source, mistakes);
    if fields.has("by") && key.is_none() {
        let reason = "`by` says where an event carries what is compared with `key`";
        mistakes.push(misfit(fields.key_span("by"), "`by` stands alone".into(), reason, "add `key: …`"));
    }
    let by = fields.text("by", mistakes).unwrap_or("subject");
    if by.split('.').any(str::is_empty) {
        let span = fields.get("by").map_or(fields.span, |node| node.span);
        let reason = "it names an attribute of the event, or a place in its data such as data.host.id";
        mistakes.push(bad_value(span, format!("`{by}` is no place in an event"), reason, None));
    }
    Some(EventWait {
        condition: fields.get("if").and_then(|node| condition(node, source, mistakes)),
        key,
        by: by.split('.').map(str::to_owned).collect(),
        since: fields.span_of_time("since", mistakes).unwrap_or_default(),
        timeout,
        on_timeout,
        kind: kind?.into(),
    })
}
