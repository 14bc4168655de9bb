//! What starts runs of a workflow: events and schedules.

use serde_json::{Map, Value};

use super::fields::{Fields, misfit, wrong_type};
use super::step::condition;
use super::{CatchUp, EventTrigger, Overlap, ScheduleTrigger, Trigger};
use crate::calendar::Schedule;
use crate::diagnostic::Diagnostic;
use crate::template::Template;
use crate::yaml::{Kind, Node};

pub(crate) const TRIGGER: &[&str] = &["event", "schedule"];
pub(crate) const EVENT: &[&str] = &["type", "if", "key", "debounce", "inputs"];
pub(crate) const SCHEDULE: &[&str] =
    &["cron", "rrule", "every", "start", "timezone", "offset", "valid", "overlap", "catch_up", "jitter", "inputs"];
const RULES: [&str; 3] = ["cron", "rrule", "every"];
/// What stands beside a rule of the calendars, and is told with it.
const BESIDE: [&str; 4] = ["start", "timezone", "offset", "valid"];

/// Reads the list behind `on`.
pub(super) fn read(node: &Node, source: &str, mistakes: &mut Vec<Diagnostic>) -> Vec<Trigger> {
    let Kind::List(items) = &node.kind else {
        mistakes.push(wrong_type(node, "`on`", "a list of events and schedules"));
        return Vec::new();
    };
    items.iter().filter_map(|item| trigger(item, source, mistakes)).collect()
}

fn trigger(node: &Node, source: &str, mistakes: &mut Vec<Diagnostic>) -> Option<Trigger> {
    let fields = Fields::open(node, "an entry of `on`", TRIGGER, mistakes)?;
    match (fields.get("event"), fields.get("schedule")) {
        (Some(inner), None) => event(inner, source, mistakes).map(Trigger::Event),
        (None, Some(inner)) => schedule(inner, source, mistakes).map(Trigger::Schedule),
        (None, None) if fields.misspells(TRIGGER) => None,
        _ => {
            mistakes.push(misfit(
                node.span,
                "this starts runs by nothing, or by several things".into(),
                "an entry of `on` is one of event and schedule",
                "make it one of them, or two entries",
            ));
            None
        }
    }
}

fn inputs(fields: &Fields<'_>, source: &str, mistakes: &mut Vec<Diagnostic>) -> Template {
    let nothing = || Template::Literal(Value::Object(Map::new()));
    let Some(node) = fields.get("inputs") else { return nothing() };
    if matches!(node.kind, Kind::List(_) | Kind::Other(_)) {
        mistakes.push(wrong_type(node, "`inputs`", "a map of names to values"));
        return nothing();
    }
    Template::read(node, source, mistakes)
}

fn event(node: &Node, source: &str, mistakes: &mut Vec<Diagnostic>) -> Option<EventTrigger> {
    let fields = Fields::open(node, "`event`", EVENT, mistakes)?;
    let kind = fields.required("type", "`event`", mistakes);
    let kind = kind.and_then(|_| fields.text("type", mistakes));
    Some(EventTrigger {
        condition: fields.get("if").and_then(|node| condition(node, source, mistakes)),
        key: fields.template("key", source, mistakes),
        debounce: fields.span_of_time("debounce", mistakes),
        inputs: inputs(&fields, source, mistakes),
        kind: kind?.into(),
    })
}

/// Has the calendars look at a rule of theirs: the leader must be able to follow it.
fn check_rule(node: &Node, rules: &[&str], mistakes: &mut Vec<Diagnostic>) {
    if let (Kind::Map(entries), ["cron" | "rrule"]) = (&node.kind, rules) {
        let theirs = |key: &str| RULES.contains(&key) || BESIDE.contains(&key);
        let entries = entries.iter().filter(|(key, _)| theirs(&key.text)).cloned().collect();
        let rule = Node { kind: Kind::Map(entries), span: node.span };
        let _ = Schedule::read(&rule, "`schedule`", mistakes);
    }
}

/// `every` counts from 1970 and knows no local times: what is told beside it would not hold.
fn check_every(fields: &Fields<'_>, mistakes: &mut Vec<Diagnostic>) {
    for key in ["start", "valid"].into_iter().filter(|key| fields.has("every") && fields.has(key)) {
        mistakes.push(misfit(
            fields.key_span(key),
            format!("`{key}` stands beside `every`"),
            "`every` is counted from 1970 in UTC, and never ends",
            "write cron: rate(15 minutes) with `start`, `timezone` and perhaps `valid` instead",
        ));
    }
}

fn schedule(node: &Node, source: &str, mistakes: &mut Vec<Diagnostic>) -> Option<ScheduleTrigger> {
    let fields = Fields::open(node, "`schedule`", SCHEDULE, mistakes)?;
    let rules: Vec<&str> = RULES.into_iter().filter(|rule| fields.has(rule)).collect();
    if rules.len() != 1 && !(rules.is_empty() && fields.misspells(&RULES)) {
        let message = if rules.is_empty() {
            "this schedule has no rule".to_owned()
        } else {
            format!("this schedule has several rules: {}", rules.join(", "))
        };
        let span = rules.last().map_or(node.span, |rule| fields.key_span(rule));
        let reason = "a schedule follows one of cron, rrule and every";
        mistakes.push(misfit(span, message, reason, "write one of them, such as cron: \"0 6 * * TUE#2\""));
    }
    check_rule(node, &rules, mistakes);
    check_every(&fields, mistakes);
    let rule: Map<String, Value> =
        RULES.into_iter().chain(BESIDE).filter_map(|key| Some((key.to_owned(), fields.get(key)?.to_json()))).collect();
    let overlaps =
        [("skip", Overlap::Skip), ("queue", Overlap::Queue), ("replace", Overlap::Replace), ("allow", Overlap::Allow)];
    let missed = [("none", CatchUp::None), ("last", CatchUp::Last), ("all", CatchUp::All)];
    Some(ScheduleTrigger {
        rule: Value::Object(rule),
        overlap: fields.choice("overlap", &overlaps, mistakes).unwrap_or_default(),
        catch_up: fields.choice("catch_up", &missed, mistakes).unwrap_or_default(),
        jitter: fields.span_of_time("jitter", mistakes),
        inputs: inputs(&fields, source, mistakes),
    })
}
