//! From the YAML of a test file to what people do in a case, and what happens outside.

use std::collections::BTreeMap;

use patchloom_core::record::Tune;
use patchloom_core::yaml::Node;
use patchloom_core::{CloudEvent, Millis};

use super::expect;
use super::fields::{Fields, Reader};
use super::model::{Order, Say, When};
use super::place::Place;
use super::read::place;

pub(super) const ORDER: &[&str] = &[
    "at",
    "when",
    "after",
    "to",
    "signal",
    "with",
    "id",
    "roles",
    "cancel",
    "compensate",
    "retry",
    "resolve",
    "note",
    "pause",
    "resume",
    "step",
    "items",
    "tune",
    "max_parallel",
    "per",
    "skip",
    "event",
    "subject",
];
/// What may be done, each with the keys that may stand beside it.
const ORDERS: [(&str, &[&str]); 9] = [
    ("signal", &["with", "id", "roles"]),
    ("cancel", &["compensate"]),
    ("retry", &[]),
    ("resolve", &["note"]),
    ("pause", &["step", "items"]),
    ("resume", &["step", "items"]),
    ("tune", &["max_parallel", "per"]),
    ("skip", &["note"]),
    ("event", &["with", "id", "subject"]),
];
const ALWAYS: &[&str] = &["at", "when", "after", "to"];

/// Reads one entry of `do`; `at` is its position.
pub(super) fn read(reader: &mut Reader<'_>, node: &Node, at: usize) -> Option<Order> {
    let fields = reader.open(node, "something to do", ORDER)?;
    let names: Vec<&str> = ORDERS.iter().map(|(name, _)| *name).collect();
    let found = fields.present(&names);
    let [what] = found.as_slice() else {
        let message =
            if found.is_empty() { "this does nothing".into() } else { format!("this does {}", found.join(" and ")) };
        reader.bad(node.span, message, &format!("it does one of {}", names.join(", ")), None);
        return None;
    };
    let beside = ORDERS.iter().find(|(name, _)| name == what).map_or(ALWAYS, |(_, beside)| *beside);
    for stray in
        fields.present(ORDER).iter().filter(|key| *key != what && !ALWAYS.contains(key) && !beside.contains(key))
    {
        let reason = format!("beside `{what}` stand {}", [ALWAYS, beside].concat().join(", "));
        reader.bad(
            fields.key(stray),
            format!("`{stray}` says nothing beside `{what}`"),
            &reason,
            Some("remove it".into()),
        );
    }
    let when = when(reader, node)?;
    let to = fields.get("to").and_then(|node| {
        let text = reader.text(node, "`to`")?;
        place(reader, text, node.span)
    });
    let what = say(reader, &fields, what, at)?;
    Some(Order { span: node.span, when, to, what })
}

fn say(reader: &mut Reader<'_>, fields: &Fields<'_>, what: &str, at: usize) -> Option<Say> {
    let said = fields.get(what)?;
    let text = |reader: &mut Reader<'_>, key: &str| {
        fields.get(key).and_then(|node| reader.text(node, &format!("`{key}`"))).map(str::to_owned)
    };
    let step = |reader: &mut Reader<'_>, key: &str| {
        let node = fields.get(key)?;
        let text = reader.text(node, &format!("`{key}`"))?;
        place(reader, text, node.span)
    };
    Some(match what {
        "signal" => Say::Signal {
            name: reader.text(said, "`signal`")?.to_owned(),
            with: fields.get("with").map(Node::to_json).unwrap_or_default(),
            id: text(reader, "id"),
            roles: fields.get("roles").map(|node| roles(reader, node)).unwrap_or_default(),
        },
        "cancel" => {
            let compensate = fields.get("compensate").and_then(|node| reader.flag(node, "`compensate`"));
            Say::Cancel { reason: reader.text(said, "`cancel`")?.to_owned(), compensate: compensate.unwrap_or(true) }
        }
        "retry" => Say::Retry,
        "resolve" | "skip" => {
            let note = text(reader, "note").unwrap_or_else(|| "by hand".to_owned());
            let step = step(reader, what)?;
            if what == "skip" { Say::Skip { step, note } } else { Say::Resolve { step, note } }
        }
        "pause" | "resume" => {
            let why = if what == "pause" { Some(text(reader, "pause")?) } else { None };
            let step = step(reader, "step");
            Say::Hold { why, of: held(reader, fields, step)? }
        }
        "tune" => Say::Tune { step: step(reader, "tune")?, tune: tune(reader, fields)? },
        _ => Say::Event(Box::new(CloudEvent {
            specversion: "1.0".into(),
            id: text(reader, "id").unwrap_or_else(|| format!("do-{}", at + 1)),
            source: "/patchloom/test".into(),
            kind: reader.text(said, "`event`")?.to_owned(),
            subject: text(reader, "subject"),
            datacontenttype: Some("application/json".into()),
            data: fields.get("with").map(Node::to_json).unwrap_or_default(),
            ..CloudEvent::default()
        })),
    })
}

/// The step that is held, and which of its items; all of the run where no step is named.
fn held(reader: &mut Reader<'_>, fields: &Fields<'_>, step: Option<Place>) -> Option<Option<(Place, Option<String>)>> {
    let items = fields.get("items").and_then(|node| reader.text(node, "`items`")).map(str::to_owned);
    match (step, items) {
        (Some(step), items) => Some(Some((step, items))),
        (None, None) => Some(None),
        (None, Some(_)) => {
            let reason = "only a step has items";
            reader.bad(fields.key("items"), "`items` stands alone".into(), reason, Some("add `step: STEP`".into()));
            None
        }
    }
}

fn tune(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Tune> {
    let max_parallel = fields.get("max_parallel").and_then(|node| reader.count(node, "`max_parallel`"));
    let mut per = BTreeMap::new();
    for (key, node) in fields.get("per").and_then(|node| reader.map(node, "`per`")).unwrap_or_default() {
        let position = key.text.parse::<u32>().ok().and_then(|nth| nth.checked_sub(1));
        let limit = reader.count(node, "a limit of `per`");
        match (position, limit) {
            (Some(position), Some(limit)) => drop(per.insert(position, limit)),
            (None, _) => {
                let reason = "the limits under `per` are counted from 1";
                reader.bad(key.span, format!("`{}` is no limit under `per`", key.text), reason, None);
            }
            (Some(_), None) => {}
        }
    }
    if max_parallel.is_none() && per.is_empty() {
        let reason = "it names the limits that change";
        reader.bad(fields.key("tune"), "`tune` changes nothing".into(), reason, Some("add `max_parallel: 2`".into()));
        return None;
    }
    Some(Tune { max_parallel, per, tolerate: None })
}

fn roles(reader: &mut Reader<'_>, node: &Node) -> Vec<String> {
    let nodes = reader.one_or_many(node);
    nodes.into_iter().filter_map(|node| reader.text(node, "a role")).map(str::to_owned).collect()
}

fn when(reader: &mut Reader<'_>, node: &Node) -> Option<When> {
    let fields = reader.open(node, "something to do", ORDER)?;
    match (fields.get("at"), fields.get("when")) {
        (Some(at), None) => reader.duration(at, "`at`").map(When::At),
        (None, Some(when)) => {
            let after = fields.get("after").and_then(|node| reader.duration(node, "`after`")).unwrap_or(Millis(0));
            let mut steps = Vec::new();
            for (key, node) in reader.map(when, "`when`")? {
                let place = place(reader, &key.text, key.span);
                let status = expect::status(reader, node, place.as_ref());
                steps.extend(place.zip(status));
            }
            (!steps.is_empty()).then_some(When::Steps(steps, after))
        }
        _ => {
            let reason = "it is done `at` a time after the start, or `when` steps have come to a status";
            reader.bad(node.span, "nothing says when this is done".into(), reason, Some("add `at: 1h`".into()));
            None
        }
    }
}
