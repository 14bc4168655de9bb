//! The JSON Schema of test files, for editors: structure and names.

use serde_json::{Value, json};

use super::expect::{PHASES, STATUSES, UNDOS};
use super::read::CLASSES;

/// The schema, in draft 2020-12. What it refuses, the reader refuses; the reader refuses more.
#[must_use]
pub fn schema() -> Value {
    let mut case = parts();
    case["description"] = json!({ "type": "string" });
    case["do"] = json!({ "type": "array", "items": { "$ref": "#/$defs/order" }, "description": "What people do." });
    case["expect"] = json!({ "$ref": "#/$defs/expect" });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Patchloom tests of a workflow",
        "type": "object",
        "required": ["cases"],
        "additionalProperties": false,
        "properties": {
            "description": { "type": "string" },
            "workflow": { "type": "string", "description": "The file of the workflow; else the one beside this file." },
            "defaults": { "type": "object", "additionalProperties": false, "properties": parts() },
            "cases": {
                "type": "object",
                "minProperties": 1,
                "description": "The cases by name.",
                "additionalProperties": { "type": "object", "additionalProperties": false, "properties": case }
            }
        },
        "$defs": {
            "duration": { "type": "string", "pattern": "^([0-9]+(ms|s|m|h|d))+$", "description": "500ms, 30s, 1h30m." },
            "place": { "type": "string", "description": "NAME, NAME[ITEM], CHILD_STEP/NAME; `undo` before it." },
            "answer": answer(&json!({})),
            "answers": several("#/$defs/answer"),
            "child": answer(&json!({ "undo": { "$ref": "#/$defs/answers" } })),
            "fail": fail(),
            "order": order(),
            "expect": expect(),
            "condition": { "type": "string", "pattern": "\\$\\{\\{" },
            "step": step(),
            "failure": failure()
        }
    })
}

fn several(one: &str) -> Value {
    json!({ "oneOf": [{ "$ref": one }, { "type": "array", "minItems": 1, "items": { "$ref": one } }] })
}

/// What defaults and cases share.
fn parts() -> Value {
    let answers = json!({ "type": "object", "additionalProperties": { "$ref": "#/$defs/answers" } });
    json!({
        "clock": { "type": "string", "format": "date-time", "description": "What the clock shows at the start." },
        "calendars": {
            "type": "object", "additionalProperties": { "type": "object" },
            "description": "The calendars that the engine knows, as in a file of calendars."
        },
        "inputs": { "type": "object", "description": "What the run is given." },
        "tasks": answers,
        "steps": answers,
        "workflows": {
            "type": "object",
            "description": "Child workflows that are not run, by name.",
            "additionalProperties": {
                "oneOf": [
                    { "$ref": "#/$defs/child" },
                    { "type": "array", "minItems": 1, "items": { "$ref": "#/$defs/answer" } }
                ]
            }
        }
    })
}

fn answer(more: &Value) -> Value {
    let mut properties = json!({
        "output": { "description": "What it gives back; may read input, attempt and index." },
        "fail": { "$ref": "#/$defs/fail" },
        "takes": { "$ref": "#/$defs/duration" },
        "dies": { "type": "integer", "minimum": 0, "description": "How many workers die with it first." },
        "ignores_stop": { "type": "boolean", "description": "It goes on although it is asked to stop." }
    });
    if let (Some(properties), Some(more)) = (properties.as_object_mut(), more.as_object()) {
        properties.extend(more.clone());
    }
    json!({ "type": "object", "additionalProperties": false, "properties": properties, "not": { "required": ["output", "fail"] } })
}

fn fail() -> Value {
    json!({ "oneOf": [
        { "enum": CLASSES },
        { "type": "object", "additionalProperties": false, "properties": {
            "code": { "type": "string" }, "class": { "enum": CLASSES }, "message": { "type": "string" }, "details": {}
        } }
    ] })
}

fn order() -> Value {
    let duration = json!({ "$ref": "#/$defs/duration" });
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "at": duration,
            "when": { "type": "object", "minProperties": 1, "additionalProperties": { "enum": statuses() } },
            "after": duration,
            "to": { "$ref": "#/$defs/place" },
            "signal": { "type": "string" },
            "with": {},
            "id": { "type": "string" },
            "roles": { "oneOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] },
            "cancel": { "type": "string", "description": "Why." },
            "compensate": { "type": "boolean" },
            "retry": {},
            "resolve": { "$ref": "#/$defs/place" },
            "note": { "type": "string" },
            "pause": { "type": "string", "description": "Why." },
            "resume": {},
            "step": { "$ref": "#/$defs/place" },
            "items": { "type": "string", "description": "A condition over item and index." },
            "tune": { "$ref": "#/$defs/place" },
            "max_parallel": { "type": "integer", "minimum": 0 },
            "per": { "type": "object", "propertyNames": { "pattern": "^[1-9][0-9]*$" },
                "additionalProperties": { "type": "integer", "minimum": 0 } },
            "skip": { "$ref": "#/$defs/place" },
            "event": { "type": "string", "description": "Its CloudEvents type; `with` is its data." },
            "subject": { "type": "string" }
        },
        "allOf": [
            { "oneOf": [{ "required": ["at"] }, { "required": ["when"] }] },
            { "oneOf": [
                { "required": ["signal"] }, { "required": ["cancel"] }, { "required": ["retry"] },
                { "required": ["resolve"] }, { "required": ["pause"] }, { "required": ["resume"] },
                { "required": ["tune"] }, { "required": ["skip"] }, { "required": ["event"] }
            ] }
        ]
    })
}

fn statuses() -> Vec<&'static str> {
    let mut all: Vec<&str> = STATUSES.iter().chain(UNDOS).copied().collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn expect() -> Value {
    let places = json!({ "type": "array", "items": { "$ref": "#/$defs/place" } });
    let pairs = json!({ "type": "object", "additionalProperties": { "oneOf": [{ "$ref": "#/$defs/place" }, places] } });
    let steps = json!({ "type": "object", "additionalProperties": { "$ref": "#/$defs/step" } });
    let duration = json!({ "$ref": "#/$defs/duration" });
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "run": { "enum": PHASES },
            "output": {},
            "failure": { "$ref": "#/$defs/failure" },
            "steps": steps,
            "order": places,
            "before": pairs,
            "after": pairs,
            "dispatches": places,
            "undone": places,
            "takes": { "oneOf": [duration, {
                "type": "object", "additionalProperties": false,
                "properties": { "at_least": duration, "at_most": duration }
            }] },
            "at": { "type": "object", "additionalProperties": {
                "type": "object", "additionalProperties": false,
                "properties": { "run": { "enum": PHASES }, "steps": steps }
            } },
            "that": several("#/$defs/condition")
        }
    })
}

fn step() -> Value {
    json!({ "oneOf": [
        { "enum": statuses() },
        { "type": "object", "additionalProperties": false, "properties": {
            "status": { "enum": statuses() }, "output": {}, "input": {},
            "attempts": { "type": "integer", "minimum": 0 }, "failure": { "$ref": "#/$defs/failure" }
        } }
    ] })
}

fn failure() -> Value {
    json!({ "type": "object", "additionalProperties": false, "properties": {
        "code": { "type": "string" }, "class": { "enum": CLASSES }, "details": {}, "step": { "type": "string" },
        "message": { "type": "string", "description": "A part of what is said." }
    } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow_test::{expect, order, read};

    #[test]
    fn the_schema_knows_the_keys_that_the_reader_knows_and_no_others() {
        let schema = schema();
        for (place, keys) in [
            ("/properties", read::HEAD),
            ("/properties/defaults/properties", read::DEFAULTS),
            ("/properties/cases/additionalProperties/properties", read::CASE),
            ("/$defs/answer/properties", read::ANSWER),
            ("/$defs/child/properties", read::CHILD),
            ("/$defs/fail/oneOf/1/properties", read::FAIL),
            ("/$defs/order/properties", order::ORDER),
            ("/$defs/expect/properties", expect::EXPECT),
            ("/$defs/expect/properties/takes/oneOf/1/properties", expect::TAKES),
            ("/$defs/expect/properties/at/additionalProperties/properties", expect::AT),
            ("/$defs/step/oneOf/1/properties", expect::STEP),
            ("/$defs/failure/properties", expect::FAILURE),
        ] {
            let known = schema.pointer(place).and_then(Value::as_object).unwrap_or_else(|| panic!("no {place}"));
            let mut known: Vec<&str> = known.keys().map(String::as_str).collect();
            let mut keys = keys.to_vec();
            known.sort_unstable();
            keys.sort_unstable();
            assert_eq!(known, keys, "{place}");
        }
    }
}
