//! The JSON Schema of the definition language, for editors: structure and names, not references between steps.

mod keys;
mod reference;

use serde_json::{Value, json};

use crate::definition::{ATTEMPTS_MAX, STEPS_MAX};

pub use reference::reference;

/// The schema, in draft 2020-12.
///
/// What it refuses, the parser refuses; the parser refuses more: unknown steps, cycles, expressions.
#[must_use]
pub fn schema() -> Value {
    let mut schema = bare();
    for key in keys::keys() {
        if let Some(Value::Object(property)) = schema.pointer_mut(&key.place) {
            property.insert("description".to_owned(), key.what.into());
            property.insert("examples".to_owned(), json!([key.example]));
            property.extend(key.default.map(|default| ("default".to_owned(), default)));
        }
    }
    schema
}

fn bare() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Patchloom workflow",
        "type": "object",
        "required": ["name", "steps"],
        "additionalProperties": false,
        "properties": head(),
        "$defs": {
            "step": step(),
            "duration": {
                "type": "string",
                "description": "A span of time: 500ms, 30s, 5m, 2h, 7d or a sum such as 1h30m.",
                "pattern": "^([0-9]+(ms|s|m|h|d))+$",
                "allOf": [{ "pattern": "[1-9]" }]
            },
            "task_type": { "type": "string", "pattern": "^[a-z][a-z0-9_]*(\\.[a-z][a-z0-9_]*)+$", "description": "Such as scan.packages." },
            "portion": {
                "description": "A number of items, or a part of them such as 10%.",
                "oneOf": [{ "type": "integer", "minimum": 0 }, { "type": "string", "pattern": "^[0-9]+(\\.[0-9]{1,2})?%$" }]
            },
            "priority": { "type": "integer", "minimum": -100, "maximum": 100, "description": "Whose tasks go first: the highest." },
            "queue": { "type": "string", "pattern": "^[a-z0-9-]{1,64}$|\\$\\{\\{", "description": "Which workers its tasks are for." },
            "on_failure": { "enum": ["fail", "continue", "pause"], "description": "What a failed step means for its run." },
            "texts": { "oneOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] },
            "count": { "type": "integer", "minimum": 1, "maximum": 1_000_000 },
            "expected": { "type": "string", "description": "How long an item takes: it starts only where that ends before the window's cutoff." },
            "on_timeout": { "enum": ["fail", "continue"], "description": "What happens when the time is over." },
            "condition": { "type": ["string", "boolean"], "description": "An expression that comes to true or false." },
            "defaults": defaults(),
            "trigger": trigger(),
            "event_trigger": event_trigger(),
            "schedule": schedule(),
            "run_concurrency": concurrency(true),
            "concurrency": concurrency(false),
            "emit": emit(),
            "window": window(),
            "rate": rate(),
            "for_each": for_each(),
            "per": per(),
            "wave": wave(),
            "gate": gate(),
            "tolerate": tolerate(),
            "retry": retry(),
            "timeout": timeout(),
            "compensate": compensate(),
            "wait": wait()
        }
    })
}

/// A map in which only these keys may stand.
fn map(description: &str, required: &[&str], properties: Value) -> Value {
    json!({
        "type": "object", "description": description, "required": required,
        "additionalProperties": false, "properties": properties
    })
}

fn steps() -> Value {
    json!({
        "type": "object",
        "minProperties": 1,
        "maxProperties": STEPS_MAX,
        "propertyNames": { "pattern": "^[a-z][a-z0-9_]{0,63}$" },
        "additionalProperties": { "$ref": "#/$defs/step" }
    })
}

fn head() -> Value {
    json!({
        "name": { "type": "string", "pattern": "^[a-z][a-z0-9-]{0,63}$" },
        "description": { "type": "string" },
        "inputs": {
            "type": "object",
            "propertyNames": { "pattern": "^[a-z][a-z0-9_]{0,63}$" },
            "additionalProperties": { "type": "object", "$ref": "https://json-schema.org/draft/2020-12/schema" }
        },
        "on": { "type": "array", "items": { "$ref": "#/$defs/trigger" } },
        "concurrency": { "$ref": "#/$defs/run_concurrency" },
        "priority": { "$ref": "#/$defs/priority" },
        "timeout": { "$ref": "#/$defs/duration" },
        "calendars": { "type": "object", "additionalProperties": { "type": "object" } },
        "defaults": { "$ref": "#/$defs/defaults" },
        "steps": steps(),
        "finally": steps(),
        "output": {}
    })
}

fn defaults() -> Value {
    map(
        "What steps take over that do not say otherwise.",
        &[],
        json!({
            "retry": { "$ref": "#/$defs/retry" },
            "timeout": { "$ref": "#/$defs/timeout" },
            "priority": { "$ref": "#/$defs/priority" },
            "queue": { "$ref": "#/$defs/queue" },
            "on_failure": { "$ref": "#/$defs/on_failure" },
            "window": { "$ref": "#/$defs/window" },
            "expected": { "$ref": "#/$defs/expected" }
        }),
    )
}

fn trigger() -> Value {
    let mut trigger = map(
        "An event or a schedule that starts runs.",
        &[],
        json!({
            "event": { "$ref": "#/$defs/event_trigger" },
            "schedule": { "$ref": "#/$defs/schedule" }
        }),
    );
    trigger["oneOf"] = json!([{ "required": ["event"] }, { "required": ["schedule"] }]);
    trigger
}

fn event_trigger() -> Value {
    map(
        "Starts a run for each event that fits.",
        &["type"],
        json!({
            "type": { "type": "string" },
            "if": { "$ref": "#/$defs/condition" },
            "key": {},
            "debounce": { "$ref": "#/$defs/duration" },
            "inputs": { "type": ["object", "string"] }
        }),
    )
}

fn schedule() -> Value {
    let mut schedule = map(
        "Starts runs at instants that a rule gives.",
        &[],
        json!({
            "cron": {},
            "rrule": {},
            "every": {},
            "timezone": {},
            "offset": {},
            "overlap": { "enum": ["skip", "queue", "replace", "allow"] },
            "catch_up": { "enum": ["none", "last", "all"] },
            "jitter": { "$ref": "#/$defs/duration" },
            "inputs": { "type": ["object", "string"] }
        }),
    );
    schedule["oneOf"] = json!([{ "required": ["cron"] }, { "required": ["rrule"] }, { "required": ["every"] }]);
    schedule
}

fn concurrency(whole_run: bool) -> Value {
    let on_full: &[&str] = if whole_run { &["queue", "reject", "replace"] } else { &["queue", "reject"] };
    let required: &[&str] = if whole_run { &["group"] } else { &["group", "limit"] };
    map(
        "A limit across runs.",
        required,
        json!({
            "group": {},
            "limit": { "$ref": "#/$defs/count" },
            "on_full": { "enum": on_full }
        }),
    )
}

fn emit() -> Value {
    map(
        "Publishes a CloudEvent.",
        &["type"],
        json!({
            "type": { "type": "string" },
            "subject": {},
            "data": {}
        }),
    )
}

fn window() -> Value {
    let inside = map(
        "A calendar, and how long an item takes.",
        &["calendar"],
        json!({
            "calendar": {},
            "expected": { "$ref": "#/$defs/expected" }
        }),
    );
    json!({ "description": "The maintenance window in which it may start.", "oneOf": [{ "type": "string" }, inside] })
}

fn rate() -> Value {
    let inside = map(
        "How many in how long, and who shares it.",
        &["limit", "per"],
        json!({
            "limit": { "$ref": "#/$defs/count" },
            "per": { "$ref": "#/$defs/duration" },
            "group": {}
        }),
    );
    json!({
        "description": "A limit of starts per time across runs.",
        "oneOf": [{ "type": "string", "pattern": "^ *[0-9]+ */ *[0-9]+[0-9a-z]* *$" }, inside]
    })
}

fn step() -> Value {
    let mut step = map(
        "A step does one thing.",
        &[],
        json!({
            "description": { "type": "string" },
            "uses": { "$ref": "#/$defs/task_type" },
            "workflow": { "type": "string", "pattern": "^[a-z][a-z0-9-]{0,63}$" },
            "wait": { "$ref": "#/$defs/wait" },
            "set": {},
            "fail": {},
            "emit": { "$ref": "#/$defs/emit" },
            "steps": steps(),
            "with": {},
            "needs": { "$ref": "#/$defs/texts" },
            "if": { "$ref": "#/$defs/condition" },
            "for_each": { "$ref": "#/$defs/for_each" },
            "window": { "$ref": "#/$defs/window" },
            "expected": { "$ref": "#/$defs/expected" },
            "concurrency": { "$ref": "#/$defs/concurrency" },
            "rate": { "$ref": "#/$defs/rate" },
            "priority": { "$ref": "#/$defs/priority" },
            "queue": { "$ref": "#/$defs/queue" },
            "retry": { "$ref": "#/$defs/retry" },
            "timeout": { "$ref": "#/$defs/timeout" },
            "on_failure": { "$ref": "#/$defs/on_failure" },
            "compensate": { "$ref": "#/$defs/compensate" },
            "pivot": { "type": "boolean" },
            "output": {}
        }),
    );
    let actions = ["uses", "workflow", "wait", "set", "fail", "emit", "steps"];
    step["oneOf"] = actions.iter().map(|action| json!({ "required": [action] })).collect();
    let idle = [
        "window",
        "expected",
        "concurrency",
        "rate",
        "priority",
        "queue",
        "with",
        "for_each",
        "retry",
        "timeout",
        "compensate",
    ];
    let and = |more: &[&str]| refuse(&[&idle, more].concat());
    step["dependentSchemas"] = json!({
        "workflow": refuse(&["compensate", "retry", "queue"]),
        "steps": refuse(&["with", "compensate", "retry", "queue"]),
        "wait": and(&[]),
        "set": and(&["output"]),
        "emit": and(&["output"]),
        "fail": and(&["output", "pivot", "on_failure"])
    });
    step
}

/// A map in which these keys may not stand.
fn refuse(keys: &[&str]) -> Value {
    let none: serde_json::Map<String, Value> = keys.iter().map(|key| ((*key).to_owned(), Value::Bool(false))).collect();
    json!({ "properties": none })
}

fn for_each() -> Value {
    map(
        "Does the step once per item; `item` and `index` are known in `with`.",
        &["items"],
        json!({
            "items": { "oneOf": [{ "type": "array" }, { "type": "string", "pattern": "\\$\\{\\{" }] },
            "key": {},
            "max_parallel": { "$ref": "#/$defs/count" },
            "per": { "type": "array", "minItems": 1, "items": { "$ref": "#/$defs/per" } },
            "waves": { "type": "array", "minItems": 1, "items": { "$ref": "#/$defs/wave" } },
            "tolerate": { "$ref": "#/$defs/tolerate" }
        }),
    )
}

fn per() -> Value {
    map(
        "No more than so many items with an equal key at once.",
        &["key", "limit"],
        json!({
            "key": {},
            "limit": { "$ref": "#/$defs/count" }
        }),
    )
}

fn wave() -> Value {
    map(
        "One portion of the items.",
        &[],
        json!({
            "name": { "type": "string" },
            "size": { "$ref": "#/$defs/portion" },
            "soak": { "$ref": "#/$defs/duration" },
            "gate": { "$ref": "#/$defs/gate" }
        }),
    )
}

fn gate() -> Value {
    map(
        "What must hold before the next wave starts.",
        &[],
        json!({
            "if": { "$ref": "#/$defs/condition" },
            "signal": { "type": "string" },
            "timeout": { "$ref": "#/$defs/duration" }
        }),
    )
}

fn tolerate() -> Value {
    let inside = map(
        "How many, and what then.",
        &["failures"],
        json!({
            "failures": { "$ref": "#/$defs/portion" },
            "min_samples": { "$ref": "#/$defs/count" },
            "on_exceed": { "enum": ["drain", "cancel", "pause"] }
        }),
    );
    json!({ "description": "How many failures of items the step bears.", "oneOf": [{ "$ref": "#/$defs/portion" }, inside] })
}

fn retry() -> Value {
    map(
        "When a failed attempt is tried again. A step without it is tried once, a compensation five times.",
        &[],
        json!({
            "attempts": { "type": "integer", "minimum": 1, "maximum": ATTEMPTS_MAX },
            "backoff": { "$ref": "#/$defs/duration" },
            "max_backoff": { "$ref": "#/$defs/duration" },
            "jitter": { "type": "boolean" },
            "except": { "$ref": "#/$defs/texts" },
            "only": { "$ref": "#/$defs/texts" }
        }),
    )
}

fn timeout() -> Value {
    let inside = map(
        "Each limit by name.",
        &[],
        json!({
            "queue": { "$ref": "#/$defs/duration" },
            "attempt": { "$ref": "#/$defs/duration" },
            "heartbeat": { "$ref": "#/$defs/duration" },
            "total": { "$ref": "#/$defs/duration" }
        }),
    );
    json!({ "description": "A span for one attempt, or each limit by name.", "oneOf": [{ "$ref": "#/$defs/duration" }, inside] })
}

fn compensate() -> Value {
    map(
        "Undoes the step, whether or not it ever answered; `self.output` and `failure` are known in its `with`.",
        &["uses"],
        json!({
            "uses": { "$ref": "#/$defs/task_type" },
            "with": {},
            "retry": { "$ref": "#/$defs/retry" },
            "timeout": { "$ref": "#/$defs/timeout", "not": { "required": ["total"], "type": "object" } }
        }),
    )
}

fn wait() -> Value {
    let mut wait = map(
        "Waits for a signal, an event, a window, a span of time or an instant.",
        &[],
        json!({
            "signal": { "type": "string" },
            "schema": { "type": "object", "$ref": "https://json-schema.org/draft/2020-12/schema" },
            "quorum": { "type": "integer", "minimum": 1, "maximum": 100 },
            "roles": { "$ref": "#/$defs/texts" },
            "event": { "type": "string" },
            "if": { "$ref": "#/$defs/condition" },
            "key": {},
            "by": { "type": "string" },
            "since": { "$ref": "#/$defs/duration" },
            "window": {},
            "expected": { "$ref": "#/$defs/expected" },
            "for": { "$ref": "#/$defs/duration" },
            "until": {},
            "timeout": { "$ref": "#/$defs/duration" },
            "on_timeout": { "$ref": "#/$defs/on_timeout" }
        }),
    );
    wait["oneOf"] =
        ["signal", "event", "window", "for", "until"].iter().map(|kind| json!({ "required": [kind] })).collect();
    let of_signals = ["schema", "quorum", "roles"];
    let of_events = ["if", "key", "by", "since"];
    let of_both = ["timeout", "on_timeout"];
    let timeless = [&of_signals[..], &of_events, &of_both].concat();
    wait["dependentSchemas"] = json!({
        "signal": refuse(&[&of_events[..], &["expected"]].concat()),
        "event": refuse(&[&of_signals[..], &["expected"]].concat()),
        "window": refuse(&timeless),
        "for": refuse(&[&timeless[..], &["expected"]].concat()),
        "until": refuse(&[&timeless[..], &["expected"]].concat())
    });
    wait
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::definition::KEYS;

    fn errors(source: &str) -> Vec<String> {
        let value = crate::yaml::read(source).unwrap().to_json();
        let validator = jsonschema::draft202012::new(&schema()).unwrap();
        validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect()
    }

    #[test]
    fn the_schema_knows_the_keys_that_the_parser_knows_and_no_others() {
        let schema = schema();
        for (kind, keys) in KEYS {
            let places = match kind {
                "workflow" => ["/properties".to_owned(), String::new()],
                kind => [format!("/$defs/{kind}/properties"), format!("/$defs/{kind}/oneOf/1/properties")],
            };
            let found = places.iter().find_map(|place| schema.pointer(place).and_then(Value::as_object));
            let listed: BTreeSet<&str> = found.expect(kind).keys().map(String::as_str).collect();
            assert_eq!(listed, keys.iter().copied().collect(), "{kind}");
        }
    }

    #[test]
    fn every_key_is_told_with_an_example_that_fits() {
        let schema = schema();
        let told: BTreeSet<(&str, &str)> = keys::keys().map(|key| (key.kind, key.name)).collect();
        let known = KEYS.iter().flat_map(|(kind, keys)| keys.iter().map(move |key| (*kind, *key)));
        assert_eq!(told, known.collect());
        for key in keys::keys() {
            let mut alone = schema.pointer(&key.place).unwrap_or_else(|| panic!("no {}", key.place)).clone();
            assert!(alone["description"].as_str().unwrap().len() > 3, "{}", key.place);
            alone["$defs"] = schema["$defs"].clone();
            let validator = jsonschema::draft202012::new(&alone).unwrap();
            for value in std::iter::once(&key.example).chain(&key.default) {
                let wrong: Vec<String> = validator.iter_errors(value).map(|error| error.to_string()).collect();
                assert!(wrong.is_empty(), "{}: {value}: {wrong:?}", key.place);
            }
            assert_ne!(key.example, Value::Null, "{}", key.place);
        }
    }

    #[test]
    fn every_shipped_workflow_fits() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../workflows");
        let mut seen = 0;
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.to_string_lossy().ends_with(".test.yaml") {
                continue;
            }
            let found = errors(&std::fs::read_to_string(&path).unwrap());
            assert!(found.is_empty(), "{}: {found:?}", path.display());
            seen += 1;
        }
        assert!(seen >= 7);
    }

    #[test]
    fn what_is_wrong_in_structure_does_not_fit() {
        let step = |body: &str| format!("name: x\nsteps:\n  b: {body}\n");
        for source in [
            "name: x\nsteps:\n  a: { usse: t.a }\n".to_owned(),
            "steps:\n  a: { uses: t.a }\n".to_owned(),
            "name: Bad Name\nsteps:\n  a: { uses: t.a }\n".to_owned(),
            "name: x\nsteps: []\n".to_owned(),
            "name: x\nsteps: {}\n".to_owned(),
            "name: x\ninputs: { n: { type: nonsense } }\nsteps:\n  a: { uses: t.a }\n".to_owned(),
            step("{ uses: t.b, set: 1 }"),
            step("{ needs: [a] }"),
            step("{ uses: nodots }"),
            step("{ uses: t.b, timeout: 30 }"),
            step("{ uses: t.b, timeout: 0s }"),
            step("{ uses: t.b, retry: { attempts: 0 } }"),
            step("{ uses: t.b, pivot: maybe }"),
            step("{ wait: { signal: s, for: 3s } }"),
            step("{ wait: { timeout: 3s } }"),
            step("{ workflow: other, compensate: { uses: t.b } }"),
            step("{ uses: t.b, for_each: { items: 3 } }"),
            step("{ uses: t.b, compensate: { uses: t.c, timeout: { total: 3s } } }"),
        ] {
            assert!(!errors(&source).is_empty(), "fits but should not:\n{source}");
            assert!(
                crate::Definition::parse("x", &source).is_err(),
                "the schema is stricter than the parser:\n{source}"
            );
        }
        let good = step(
            "{ needs: a, uses: t.b, if: true, timeout: { attempt: 1h30m }, for_each: { items: '${{ inputs.l }}' } }",
        );
        assert_eq!(errors(&good), Vec::<String>::new());
    }
}
