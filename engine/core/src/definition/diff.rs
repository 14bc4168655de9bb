//! What differs between two definitions in meaning: order, comments and ways of writing the same do not count.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Definition;
use crate::Millis;

/// One difference.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The step that it is about; `None` for the head of the workflow. Steps inside of steps: `outer.inner`.
    pub step: Option<String>,
    /// The key, from the step or the head on: `retry.attempts`; empty for a whole step.
    pub key: String,
    /// What was there; `None`: nothing.
    pub before: Option<Value>,
    /// What is there now; `None`: nothing.
    pub after: Option<Value>,
    /// The former name of a step that is only called otherwise now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renamed_from: Option<String>,
}

/// Keys whose values belong to workers and expressions: they are compared as they are.
const OPAQUE: [&str; 14] = [
    "with",
    "set",
    "data",
    "inputs",
    "output",
    "fail",
    "schema",
    "calendars",
    "key",
    "items",
    "description",
    "subject",
    "group",
    "until",
];

/// What differs from `before` to `after`, steps in the order of their names.
#[must_use]
pub fn differences(before: &Definition, after: &Definition) -> Vec<Change> {
    let read = |definition: &Definition| match serde_json::from_str(&definition.canonical) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    };
    let mut found = Vec::new();
    level(None, &read(before), &read(after), &mut found);
    found
}

fn level(around: Option<&str>, before: &Map<String, Value>, after: &Map<String, Value>, found: &mut Vec<Change>) {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for key in keys.iter().filter(|key| !matches!(key.as_str(), "steps" | "finally")) {
        let told = |map: &Map<String, Value>| map.get(*key).map(|value| plain(key, value));
        compare(around, key, told(before), told(after), found);
    }
    for key in ["steps", "finally"] {
        let told = |map: &Map<String, Value>| map.get(key).and_then(Value::as_object).cloned().unwrap_or_default();
        steps(around, &told(before), &told(after), found);
    }
}

fn steps(around: Option<&str>, before: &Map<String, Value>, after: &Map<String, Value>, found: &mut Vec<Change>) {
    let path = |name: &str| around.map_or_else(|| name.to_owned(), |around| format!("{around}.{name}"));
    let body = |step: &Value| plain("", step);
    let mut gone: Vec<&String> = before.keys().filter(|name| !after.contains_key(*name)).collect();
    let change = |name: &str, before: Option<Value>, after: Option<Value>, renamed_from: Option<String>| Change {
        step: Some(path(name)),
        key: String::new(),
        before,
        after,
        renamed_from,
    };
    for (name, step) in after {
        match before.get(name) {
            Some(Value::Object(was)) => {
                let empty = Map::new();
                level(Some(&path(name)), was, step.as_object().unwrap_or(&empty), found);
            }
            _ => {
                let same = gone.iter().position(|other| body(&before[*other]) == body(step));
                let from = same.map(|at| gone.remove(at).clone());
                let (was, is) = if from.is_some() { (None, None) } else { (None, Some(body(step))) };
                found.push(change(name, was, is, from));
            }
        }
    }
    found.extend(gone.into_iter().map(|name| change(name, Some(body(&before[name])), None, None)));
}

fn compare(step: Option<&str>, key: &str, before: Option<Value>, after: Option<Value>, found: &mut Vec<Change>) {
    match (before, after) {
        (before, after) if before == after => {}
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for inner in keys {
                let path = format!("{key}.{inner}");
                compare(step, &path, before.get(inner).cloned(), after.get(inner).cloned(), found);
            }
        }
        (before, after) => {
            found.push(Change { step: step.map(str::to_owned), key: key.to_owned(), before, after, renamed_from: None })
        }
    }
}

/// One way of writing for all that mean the same.
fn plain(key: &str, value: &Value) -> Value {
    if OPAQUE.contains(&key) {
        return value.clone();
    }
    match (key, value) {
        ("needs", value) => {
            let mut names: Vec<Value> = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
            names.sort_by_key(ToString::to_string);
            names.dedup();
            Value::Array(names)
        }
        ("roles" | "except" | "only", Value::String(_)) => json!([value]),
        ("timeout", Value::String(text)) => json!({ "attempt": span(text) }),
        ("tolerate", Value::String(_) | Value::Number(_)) => json!({ "failures": value }),
        ("window", Value::String(_)) => json!({ "calendar": value }),
        ("rate", Value::String(text)) => match text.split_once('/') {
            Some((limit, per)) => json!({ "limit": limit.trim().parse::<u32>().ok(), "per": span(per.trim()) }),
            None => value.clone(),
        },
        ("if", Value::String(text)) => {
            let inner = text.trim().strip_prefix("${{").and_then(|text| text.strip_suffix("}}"));
            json!(inner.unwrap_or(text).trim())
        }
        ("if", Value::Bool(flag)) => json!(flag.to_string()),
        (_, Value::String(text)) if is_span(key) => json!(span(text)),
        (_, Value::Object(map)) => {
            Value::Object(map.iter().map(|(key, value)| (key.clone(), plain(key, value))).collect())
        }
        (_, Value::Array(items)) => items.iter().map(|item| plain("", item)).collect(),
        _ => value.clone(),
    }
}

fn is_span(key: &str) -> bool {
    let spans = ["backoff", "max_backoff", "queue", "attempt", "heartbeat", "total", "for", "since", "debounce"];
    spans.contains(&key) || ["soak", "timeout", "retention", "jitter", "every", "expected", "per"].contains(&key)
}

fn span(text: &str) -> String {
    text.parse::<Millis>().map_or_else(|_| text.to_owned(), |span| span.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = r#"
name: x
timeout: 60m
steps:
  a: { uses: t.a, retry: { attempts: 3, backoff: 60s }, timeout: 60s }
  b: { uses: t.b, needs: a, if: "${{ steps.a.output.n > 1 }}", rate: 10/60s, with: { for: 60s } }
  gone: { uses: t.gone }
  old_name: { uses: t.same, needs: [a, b] }
  nest: { steps: { one: { uses: t.one, with: { v: 1 } } } }
"#;

    fn told(after: &str) -> Vec<String> {
        let parse = |text: &str| Definition::parse("x", text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        let show = |value: &Option<Value>| value.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        differences(&parse(BEFORE), &parse(after))
            .iter()
            .map(|change| {
                let step = change.step.as_deref().unwrap_or("(head)");
                match &change.renamed_from {
                    Some(from) => format!("{step} was {from}"),
                    None => format!("{step} {}: {} to {}", change.key, show(&change.before), show(&change.after)),
                }
            })
            .collect()
    }

    #[test]
    fn other_ways_to_write_the_same_are_no_difference() {
        let after = r#"
# a comment
steps:
  nest: { steps: { one: { with: { v: 1 }, uses: t.one } } }
  old_name: { needs: [b, a, b], uses: t.same }
  gone: { uses: t.gone }
  b: { uses: t.b, needs: [a], if: steps.a.output.n > 1, rate: { limit: 10, per: 1m }, with: { for: 60s } }
  a: { uses: t.a, retry: { backoff: 1m, attempts: 3 }, timeout: { attempt: 1m } }
timeout: 1h
name: x
"#;
        assert_eq!(told(after), Vec::<String>::new());
    }

    #[test]
    fn each_difference_names_its_step_and_key() {
        let after = BEFORE
            .replace("attempts: 3", "attempts: 4")
            .replace("for: 60s", "for: 1m")
            .replace("  gone: { uses: t.gone }\n", "")
            .replace("old_name", "new_name")
            .replace("v: 1", "v: 2, w: 3")
            .replace("timeout: 60m", "timeout: 2h");
        assert_eq!(
            told(&after),
            [
                r#"(head) timeout.attempt: "1h" to "2h""#,
                "a retry.attempts: 3 to 4",
                r#"b with.for: "60s" to "1m""#,
                "nest.one with.v: 1 to 2",
                "nest.one with.w: - to 3",
                "new_name was old_name",
                r#"gone : {"uses":"t.gone"} to -"#,
            ]
        );
    }
}
