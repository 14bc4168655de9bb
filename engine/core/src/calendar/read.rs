//! From a YAML tree to a set of calendars that name each other soundly.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::fields::{Fields, mistake, wrong_type};
use super::ical;
use super::schedule::{Schedule, read_zone};
use super::zone::{END, Zone};
use super::{CALENDARS_MAX, Calendar, Calendars, Rule, Texts};
use crate::diagnostic::{Diagnostic, Span, nearest};
use crate::yaml::{Key, Kind, Node};
use crate::{Millis, UtcMs};

/// The keys that say what opens a calendar, and those that may stand beside each.
const KINDS: [(&str, &[&str]); 7] = [
    ("cron", &["start", "timezone", "offset", "duration", "cutoff", "valid", "except"]),
    ("rrule", &["start", "timezone", "offset", "duration", "cutoff", "valid", "except"]),
    ("ical", &["timezone", "cutoff", "except"]),
    ("ical_text", &["timezone", "cutoff", "except"]),
    ("any_of", &["except"]),
    ("all_of", &["except"]),
    ("base", &["except"]),
];
const ONCE: &[&str] = &["from", "until", "timezone", "cutoff", "except"];
/// All keys of a calendar.
const KEYS: [&str; 16] = [
    "cron",
    "rrule",
    "start",
    "timezone",
    "offset",
    "duration",
    "cutoff",
    "valid",
    "from",
    "until",
    "ical",
    "ical_text",
    "any_of",
    "all_of",
    "base",
    "except",
];

/// A name of another calendar, and where it stands.
type Named = (Arc<str>, Span);

/// A calendar whose names of others are not looked up yet.
struct Draft {
    calendar: Calendar,
    names: Vec<Named>,
}

/// Where in a file the calendars stand: under `calendars`, or all of it.
pub(super) fn section<'a>(root: &'a Node, mistakes: &mut Vec<Diagnostic>) -> &'a Node {
    let Kind::Map(entries) = &root.kind else { return root };
    let Some((_, node)) = entries.iter().find(|(key, _)| key.text == "calendars") else { return root };
    // In a workflow the other keys are none of our business.
    if entries.iter().all(|(key, _)| key.text != "steps") {
        for (key, _) in entries.iter().filter(|(key, _)| key.text != "calendars") {
            let reason = "a file of calendars is a map of names, or has them all under `calendars`";
            let message = format!("`{}` stands beside `calendars`", key.text);
            mistakes.push(mistake("E0103", key.span, message, reason, Some("move it under `calendars`")));
        }
    }
    node
}

/// A JSON value as a tree without places.
pub(super) fn node(value: &Value) -> Node {
    let kind = match value {
        Value::String(text) => Kind::Text(text.clone()),
        Value::Array(items) => Kind::List(items.iter().map(node).collect()),
        Value::Object(entries) => {
            let entry =
                |(key, value): (&String, &Value)| (Key { text: key.clone(), span: Span::default() }, node(value));
            Kind::Map(entries.iter().map(entry).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Kind::Other(value.clone()),
    };
    Node { span: Span::default(), kind }
}

/// The texts under `ical` of all calendars.
pub(super) fn ical_paths(root: &Node) -> Vec<String> {
    let Kind::Map(entries) = &section(root, &mut Vec::new()).kind else { return Vec::new() };
    let path = |node: &Node| {
        let Kind::Map(spec) = &node.kind else { return None };
        spec.iter().find_map(|(key, node)| match &node.kind {
            Kind::Text(path) if key.text == "ical" => Some(path.clone()),
            _ => None,
        })
    };
    entries.iter().filter_map(|(_, node)| path(node)).collect()
}

/// Reads a map of names to calendars.
pub(super) fn calendars(node: &Node, texts: &Texts, mistakes: &mut Vec<Diagnostic>) -> Calendars {
    let Kind::Map(entries) = &node.kind else {
        mistakes.push(wrong_type(node, "the set of calendars", "a map of names to calendars"));
        return Calendars::default();
    };
    if entries.len() > CALENDARS_MAX {
        let message = format!("there are {} calendars", entries.len());
        mistakes.push(mistake("E0132", node.span, message, &format!("a set has at most {CALENDARS_MAX}"), None));
        return Calendars::default();
    }
    let mut canonical = node.to_json();
    let mut drafts: BTreeMap<Arc<str>, Draft> = BTreeMap::new();
    for (key, node) in entries {
        if !is_name(&key.text) {
            let reason = "a name is made of a-z, 0-9, `-` and `_`, begins with a letter and has at most 64 characters";
            mistakes.push(mistake(
                "E0132",
                key.span,
                format!("`{}` is no name for a calendar", key.text),
                reason,
                None,
            ));
        }
        if let Some((draft, text)) = calendar(key, node, texts, mistakes) {
            if let (Some(text), Some(spec)) = (text, canonical.get_mut(&key.text).and_then(Value::as_object_mut)) {
                spec.remove("ical");
                spec.insert("ical_text".to_owned(), Value::String(text));
            }
            drafts.insert(key.text.as_str().into(), draft);
        }
    }
    let written: Vec<&str> = entries.iter().map(|(key, _)| key.text.as_str()).collect();
    let sound = unknown_names(&drafts, &written, mistakes);
    circles(&drafts, mistakes);
    // A set with a hole in it must never be asked, or a freeze that could not be read would not hold.
    let whole = sound && drafts.len() == entries.len() && mistakes.is_empty();
    let all = drafts.into_iter().map(|(name, draft)| (name, draft.calendar));
    Calendars { all: if whole { all.collect() } else { BTreeMap::new() }, canonical }
}

fn is_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_'))
}

/// Reads one calendar; with it the text of its iCalendar file, where it names one.
fn calendar(key: &Key, node: &Node, texts: &Texts, mistakes: &mut Vec<Diagnostic>) -> Option<(Draft, Option<String>)> {
    let what = format!("the calendar `{}`", key.text);
    let fields = Fields::calendar(node, &what, &KEYS, mistakes)?;
    let kind = kind(&fields, key, &what, mistakes)?;
    let cutoff = fields.duration("cutoff", mistakes);
    let except = fields.names("except", mistakes);
    let mut text = None;
    let mut names: Vec<(String, Span)> = Vec::new();
    let rule = match kind {
        "cron" | "rrule" => recurring(&fields, &what, cutoff, mistakes),
        "ical" | "ical_text" => {
            let (rule, embedded) = events(&fields, kind, texts, mistakes)?;
            text = embedded;
            Some(rule)
        }
        "any_of" | "all_of" => {
            names = fields.names(kind, mistakes);
            let list = names.iter().map(|(name, _)| name.as_str().into()).collect();
            Some(if kind == "any_of" { Rule::AnyOf(list) } else { Rule::AllOf(list) })
        }
        "base" => fields.placed("base", mistakes).map(|(name, span)| {
            names.push((name.to_owned(), span));
            Rule::Base(name.into())
        }),
        _ => once(&fields, &what, cutoff, mistakes),
    }?;
    let calendar = Calendar {
        rule,
        cutoff: cutoff.map(|(cutoff, _)| cutoff).unwrap_or_default(),
        except: except.iter().map(|(name, _)| name.as_str().into()).collect(),
    };
    let names = names.into_iter().chain(except).map(|(name, span)| (name.as_str().into(), span)).collect();
    Some((Draft { calendar, names }, text))
}

/// What opens a calendar: the one key that says so. `from` and `until` together are `once`.
fn kind(fields: &Fields<'_>, key: &Key, what: &str, mistakes: &mut Vec<Diagnostic>) -> Option<&'static str> {
    let once = ["from", "until"].into_iter().find(|key| fields.get(key).is_some());
    let mut found: Vec<(&'static str, &'static str, &[&str])> = KINDS
        .iter()
        .filter(|(kind, _)| fields.get(kind).is_some())
        .map(|(kind, beside)| (*kind, *kind, *beside))
        .collect();
    found.extend(once.map(|key| ("once", key, ONCE)));
    let names = "cron, rrule, from and until, ical, any_of, all_of or base";
    let (kind, shown, beside) = match *found.as_slice() {
        [one] => one,
        [] => {
            let message = format!("{what} says nothing about when it is open");
            let reason = format!("it has one of {names}");
            mistakes.push(mistake("E0126", key.span, message, &reason, Some("add `cron: 0 22 ? * TUE#2`, for one")));
            return None;
        }
        [(_, first, _), (_, second, _), ..] => {
            let message = format!("{what} has both `{first}` and `{second}`");
            let reason = format!("a calendar has one of {names}");
            let fix = "make two calendars of it, and join them with `any_of` or `all_of`";
            mistakes.push(mistake("E0126", fields.key_span(second), message, &reason, Some(fix)));
            return None;
        }
    };
    let stray = KEYS.iter().filter(|key| fields.get(key).is_some());
    for key in stray.filter(|key| **key != shown && !beside.contains(key)) {
        let message = format!("`{key}` says nothing beside `{shown}`");
        let reason = format!("beside `{shown}` stand {}", beside.join(", "));
        mistakes.push(mistake("E0126", fields.key_span(key), message, &reason, Some("remove it")));
    }
    Some(kind)
}

fn recurring(
    fields: &Fields<'_>,
    what: &str,
    cutoff: Option<(Millis, Span)>,
    mistakes: &mut Vec<Diagnostic>,
) -> Option<Rule> {
    let schedule = Schedule::from_fields(fields, what, mistakes);
    let reason = "it says how long the calendar stays open";
    if !fields.demanded("duration", what, reason, "add `duration: 4h`", mistakes) {
        return None;
    }
    let (duration, span) = fields.duration("duration", mistakes)?;
    if duration.0 == 0 || duration.0 > END.0 {
        let reason = "a calendar is open for longer than nothing, and not for ever";
        mistakes.push(mistake("E0125", span, "`duration` does not fit".to_owned(), reason, None));
        return None;
    }
    check_cutoff(cutoff, duration, mistakes);
    Some(Rule::Recurring { schedule: Box::new(schedule?), duration })
}

/// With a cutoff as long as the span nothing could ever start.
fn check_cutoff(cutoff: Option<(Millis, Span)>, duration: Millis, mistakes: &mut Vec<Diagnostic>) {
    if let Some((cutoff, span)) = cutoff
        && cutoff >= duration
    {
        let message = format!("the cutoff of {cutoff} leaves nothing of {duration}");
        let reason = "nothing starts within the cutoff before the end, so it has to be shorter than the whole";
        mistakes.push(mistake("E0125", span, message, reason, Some("make it shorter")));
    }
}

fn once(
    fields: &Fields<'_>,
    what: &str,
    cutoff: Option<(Millis, Span)>,
    mistakes: &mut Vec<Diagnostic>,
) -> Option<Rule> {
    let reason = "a span has a beginning and an end";
    let from = fields.demanded("from", what, reason, "add `from: 2026-12-20T00:00`", mistakes);
    let until = fields.demanded("until", what, reason, "add `until: 2027-01-04T00:00`", mistakes);
    let zone = read_zone(fields, what, mistakes);
    if !from || !until {
        return None;
    }
    let (open, _) = fields.local("from", false, mistakes)?;
    let (close, span) = fields.local("until", true, mistakes)?;
    let zone = zone?;
    // What began before 1970 has always been open; what ends behind the end of time never closes.
    let open = zone.instant(open).unwrap_or(if open.year() < 2000 { UtcMs(0) } else { END });
    let close = zone.instant(close).unwrap_or(if close.year() < 2000 { UtcMs(0) } else { END });
    if open >= close {
        let message = format!("{what} ends before it begins");
        mistakes.push(mistake("E0124", span, message, "`until` comes behind `from`", None));
        return None;
    }
    check_cutoff(cutoff, close.since(open), mistakes);
    Some(Rule::Once { open, close, zone })
}

fn events(
    fields: &Fields<'_>,
    key: &str,
    texts: &Texts,
    mistakes: &mut Vec<Diagnostic>,
) -> Option<(Rule, Option<String>)> {
    let zone = match fields.placed("timezone", mistakes) {
        Some((name, span)) => Some(Zone::read(name, span, mistakes)?),
        None => None,
    };
    let (written, span) = fields.placed(key, mistakes)?;
    let embedded = match (key, texts.get(written)) {
        ("ical_text", _) => None,
        (_, Some(Ok(text))) => Some(text.clone()),
        (_, found) => {
            let reason = match found {
                Some(Err(reason)) => reason.as_str(),
                _ => "files are read only beside a file of calendars",
            };
            let fix = "name a file relative to this one, or give its text under `ical_text`";
            mistakes.push(mistake("E0131", span, format!("`{written}` was not read"), reason, Some(fix)));
            return None;
        }
    };
    match ical::read(embedded.as_deref().unwrap_or(written), zone.as_ref()) {
        Ok(events) => Some((Rule::Events { events, zone }, embedded)),
        Err(found) => {
            let message = format!("line {} of the iCalendar text: {}", found.line, found.message);
            mistakes.push(mistake("E0130", span, message, &found.reason, None));
            None
        }
    }
}

/// Whether all names that calendars use are names of calendars.
fn unknown_names(drafts: &BTreeMap<Arc<str>, Draft>, written: &[&str], mistakes: &mut Vec<Diagnostic>) -> bool {
    let mut sound = true;
    for (name, span) in drafts.values().flat_map(|draft| &draft.names) {
        // One that could not be read has its own mistake.
        if written.contains(&name.as_ref()) {
            continue;
        }
        sound = false;
        let near = nearest(name, written.iter().copied()).map(|near| format!("write `{near}`"));
        let message = format!("there is no calendar `{name}`");
        mistakes.push(mistake(
            "E0128",
            *span,
            message,
            "names are those of calendars of the same set",
            near.as_deref(),
        ));
    }
    sound
}

/// Says of each name that closes a circle where it stands.
fn circles(drafts: &BTreeMap<Arc<str>, Draft>, mistakes: &mut Vec<Diagnostic>) {
    let mut done: BTreeSet<Arc<str>> = BTreeSet::new();
    for start in drafts.keys() {
        // The way from `start` to here, each with how many of its names were followed.
        let mut way: Vec<(Arc<str>, usize)> = vec![(Arc::clone(start), 0)];
        while let Some((name, at)) = way.pop() {
            let next = drafts.get(&name).and_then(|draft| draft.names.get(at));
            let Some((next, span)) = next.filter(|_| !done.contains(&name)) else {
                done.insert(name);
                continue;
            };
            way.push((name, at + 1));
            if let Some(first) = way.iter().position(|(name, _)| name == next) {
                let circle: Vec<&str> =
                    way[first..].iter().map(|(name, _)| name.as_ref()).chain([next.as_ref()]).collect();
                let message = format!("calendars name each other in a circle: {}", circle.join(" → "));
                let reason = "none of them could ever be computed";
                mistakes.push(mistake("E0129", *span, message, reason, Some("take one of the names away")));
            } else if !done.contains(next) {
                way.push((Arc::clone(next), 0));
            }
        }
    }
}
