//! The JSON Schema of the definition language, for editors: structure and names, not references between steps.

use serde_json::{Value, json};

use crate::definition::{ATTEMPTS_MAX, STEPS_MAX};

/// The schema, in draft 2020-12.
///
/// What it refuses, the parser refuses; the parser refuses more: unknown steps, cycles, expressions.
#[must_use]
pub fn schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Patchloom workflow",
        "type": "object",
        "required": ["name", "steps"],
        "additionalProperties": false,
        "properties": {
            "name": { "type": "string", "pattern": "^[a-z][a-z0-9-]{0,63}$", "description": "The name that runs and other workflows call it by." },
            "description": { "type": "string", "description": "What it is for, in a sentence." },
            "inputs": {
                "type": "object",
                "description": "What a run takes, by name: each a JSON Schema. One with a `default` may be left out.",
                "propertyNames": { "pattern": "^[a-z][a-z0-9_]{0,63}$" },
                "additionalProperties": { "type": "object", "$ref": "https://json-schema.org/draft/2020-12/schema" }
            },
            "steps": {
                "type": "object",
                "description": "The steps by name; `needs` puts them in order.",
                "minProperties": 1,
                "maxProperties": STEPS_MAX,
                "propertyNames": { "pattern": "^[a-z][a-z0-9_]{0,63}$" },
                "additionalProperties": { "$ref": "#/$defs/step" }
            },
            "output": { "description": "What a run gives back; values may hold `${{ }}`." },
            "timeout": { "$ref": "#/$defs/duration", "description": "After which a run fails and is compensated." }
        },
        "$defs": {
            "step": step(),
            "duration": {
                "type": "string",
                "description": "A span of time: 500ms, 30s, 5m, 2h, 7d or a sum such as 1h30m.",
                "pattern": "^([0-9]+(ms|s|m|h|d))+$",
                "allOf": [{ "pattern": "[1-9]" }]
            },
            "task_type": { "type": "string", "pattern": "^[a-z][a-z0-9_]*(\\.[a-z][a-z0-9_]*)+$", "description": "Such as scan.packages." },
            "for_each": for_each(),
            "retry": retry(),
            "timeout": timeout(),
            "compensate": compensate(),
            "wait": wait()
        }
    })
}

fn step() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "description": { "type": "string" },
            "uses": { "$ref": "#/$defs/task_type", "description": "Gives a task of this type to a worker." },
            "workflow": { "type": "string", "pattern": "^[a-z][a-z0-9-]{0,63}$", "description": "Starts a child run of this workflow, one per item." },
            "wait": { "$ref": "#/$defs/wait" },
            "set": { "description": "Computes a value." },
            "fail": { "description": "Fails with this message." },
            "with": { "description": "The input of the task, or the inputs of the child run; values may hold `${{ }}`." },
            "needs": {
                "description": "The steps that must have ended before this one starts.",
                "oneOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }]
            },
            "if": { "type": ["string", "boolean"], "description": "An expression; where it comes to false the step is skipped. failed() and always() let it run after a failure." },
            "for_each": { "$ref": "#/$defs/for_each" },
            "retry": { "$ref": "#/$defs/retry" },
            "timeout": { "$ref": "#/$defs/timeout" },
            "compensate": { "$ref": "#/$defs/compensate" },
            "pivot": { "type": "boolean", "description": "The point of no return: once it is done, nothing is undone any more." },
            "output": { "description": "Reshapes what came of it, which is `result` here." }
        },
        "oneOf": [
            { "required": ["uses"] }, { "required": ["workflow"] }, { "required": ["wait"] },
            { "required": ["set"] }, { "required": ["fail"] }
        ],
        "dependentSchemas": {
            "workflow": refuse(&["compensate", "retry"]),
            "wait": refuse(&["with", "for_each", "retry", "timeout", "compensate"]),
            "set": refuse(&["with", "for_each", "retry", "timeout", "compensate", "output"]),
            "fail": refuse(&["with", "for_each", "retry", "timeout", "compensate", "output", "pivot"])
        }
    })
}

/// A map in which these keys may not stand.
fn refuse(keys: &[&str]) -> Value {
    let none: serde_json::Map<String, Value> = keys.iter().map(|key| ((*key).to_owned(), Value::Bool(false))).collect();
    json!({ "properties": none })
}

fn for_each() -> Value {
    json!({
        "type": "object",
        "description": "Does the step once per item; `item` and `index` are known in `with`.",
        "required": ["items"],
        "additionalProperties": false,
        "properties": {
            "items": { "description": "A list, or an expression that comes to one.", "oneOf": [{ "type": "array" }, { "type": "string", "pattern": "\\$\\{\\{" }] },
            "key": { "description": "Names an item for people." },
            "max_parallel": { "type": "integer", "minimum": 1, "maximum": 1_000_000, "description": "How many items at a time." }
        }
    })
}

fn retry() -> Value {
    json!({
        "type": "object",
        "description": "When a failed attempt is tried again. A step without it is tried once, a compensation five times.",
        "additionalProperties": false,
        "properties": {
            "attempts": { "type": "integer", "minimum": 1, "maximum": ATTEMPTS_MAX },
            "backoff": { "$ref": "#/$defs/duration", "description": "Before the second attempt; doubles from then on." },
            "max_backoff": { "$ref": "#/$defs/duration" },
            "jitter": { "type": "boolean", "description": "Spreads the waits by chance." }
        }
    })
}

fn timeout() -> Value {
    json!({
        "description": "A span for one attempt, or each limit by name.",
        "oneOf": [
            { "$ref": "#/$defs/duration" },
            {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "queue": { "$ref": "#/$defs/duration", "description": "Until a worker takes it." },
                    "attempt": { "$ref": "#/$defs/duration", "description": "Of one attempt." },
                    "heartbeat": { "$ref": "#/$defs/duration", "description": "Of silence of the worker." },
                    "total": { "$ref": "#/$defs/duration", "description": "Over all attempts and items." }
                }
            }
        ]
    })
}

fn compensate() -> Value {
    json!({
        "type": "object",
        "description": "Undoes the step, whether or not it ever answered; `self.output` and `failure` are known in its `with`.",
        "required": ["uses"],
        "additionalProperties": false,
        "properties": {
            "uses": { "$ref": "#/$defs/task_type" },
            "with": {},
            "retry": { "$ref": "#/$defs/retry" },
            "timeout": { "$ref": "#/$defs/timeout", "not": { "required": ["total"], "type": "object" } }
        }
    })
}

fn wait() -> Value {
    json!({
        "type": "object",
        "description": "Waits for a signal, a span of time or an instant.",
        "additionalProperties": false,
        "properties": {
            "signal": { "type": "string", "description": "The name of the signal, such as change.approved." },
            "timeout": { "$ref": "#/$defs/duration", "description": "After which the wait for the signal fails." },
            "for": { "$ref": "#/$defs/duration" },
            "until": { "description": "RFC 3339 text or milliseconds since 1970." }
        },
        "oneOf": [
            { "required": ["signal"] },
            { "required": ["for"], "not": { "required": ["timeout"] } },
            { "required": ["until"], "not": { "required": ["timeout"] } }
        ]
    })
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
            let place = match kind {
                "workflow" => "/properties".to_owned(),
                "timeout" => "/$defs/timeout/oneOf/1/properties".to_owned(),
                kind => format!("/$defs/{kind}/properties"),
            };
            let listed: BTreeSet<&str> =
                schema.pointer(&place).unwrap().as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(listed, keys.iter().copied().collect(), "{kind}");
        }
    }

    #[test]
    fn every_shipped_workflow_fits() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../workflows");
        let mut seen = 0;
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
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
