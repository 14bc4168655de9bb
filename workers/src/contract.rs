//! What the task types of this crate take, give and fail with. Each group of handlers tells its own.

use patchloom_core::{Contract, Contracts};
use serde_json::{Map, Value, json};

/// All of them.
#[must_use]
pub fn contracts() -> Contracts {
    let groups = [
        crate::observe::contracts(),
        crate::changes::contracts(),
        crate::patching::contracts(),
        crate::inventory::contracts(),
        crate::campaign::contracts(),
    ];
    groups.into_iter().flatten().collect()
}

/// One contract, told by the fields of its input and output; a field whose name ends with `?` may be absent.
pub(crate) fn contract(summary: &str, input: Value, output: Value, failures: &[&str]) -> Contract {
    Contract {
        summary: summary.to_owned(),
        input: map(input),
        output: map(output),
        failures: failures.iter().map(|code| (*code).to_owned()).collect(),
    }
}

/// The schema of a map with these fields and no others.
pub(crate) fn map(fields: Value) -> Value {
    let Value::Object(fields) = fields else { return fields };
    let required: Vec<&str> = fields.keys().map(String::as_str).filter(|name| !name.ends_with('?')).collect();
    let properties: Map<String, Value> =
        fields.iter().map(|(name, schema)| (name.trim_end_matches('?').to_owned(), schema.clone())).collect();
    json!({ "type": "object", "required": required, "properties": properties, "additionalProperties": false })
}

/// A target: this machine, a root directory, or a machine that is reached over SSH or through Systems Manager.
pub(crate) fn target() -> Value {
    let kind = json!({ "enum": ["local", "root", "ssh", "ssm"] });
    let path = json!({ "type": "string", "description": "Absolute path of a root directory." });
    let host = json!({ "type": "string", "description": "Name or address, for ssh." });
    let port = json!({ "type": "integer", "minimum": 1, "maximum": 65_535 });
    let instance = json!({ "type": "string", "description": "Id of an instance, for ssm." });
    map(json!({
        "kind": kind, "path?": path, "host?": host, "port?": port, "user?": text(), "jump?": list(text()),
        "instance?": instance, "region?": text(),
    }))
}

pub(crate) fn text() -> Value {
    json!({ "type": "string" })
}

/// Text, or null.
pub(crate) fn maybe_text() -> Value {
    json!({ "type": ["string", "null"] })
}

/// A whole number that is not negative.
pub(crate) fn count() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

/// As [`count`], or null.
pub(crate) fn maybe_count() -> Value {
    json!({ "type": ["integer", "null"], "minimum": 0 })
}

pub(crate) fn flag() -> Value {
    json!({ "type": "boolean" })
}

/// The name of an artifact.
pub(crate) fn artifact() -> Value {
    json!({ "type": "string", "description": "The name of an artifact." })
}

/// Whether hosts may change.
pub(crate) fn mode() -> Value {
    json!({ "enum": ["observe", "apply"] })
}

pub(crate) fn list(of: Value) -> Value {
    json!({ "type": "array", "items": of })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::runtime::Handlers;

    #[test]
    fn every_handler_has_a_contract_and_every_contract_a_handler() {
        let mut handlers = Handlers::default();
        crate::observe::register(&mut handlers, &crate::carry::Carrier::default()).unwrap();
        crate::changes::register(&mut handlers).unwrap();
        crate::inventory::register(&mut handlers, &crate::carry::Carrier::default()).unwrap();
        crate::patching::register(&mut handlers, None, &crate::carry::Carrier::default()).unwrap();
        crate::campaign::register(&mut handlers, &crate::carry::Carrier::default()).unwrap();
        let contracts = contracts();
        let told: BTreeSet<&str> = contracts.iter().map(|(uses, _)| uses).collect();
        assert_eq!(told, handlers.names().collect());
        for (uses, contract) in contracts.iter() {
            assert!(contract.summary.ends_with('.'), "{uses}: {}", contract.summary);
            assert!(contract.takes(&json!(7)).is_err() && contract.gives(&json!(7)).is_err(), "{uses}");
        }
    }

    #[test]
    fn fields_are_required_unless_they_say_otherwise() {
        let contract = contract("X.", json!({ "a": text(), "b?": count() }), json!({}), &[]);
        assert_eq!(contract.takes(&json!({ "a": "x" })), Ok(()));
        for bad in [json!({}), json!({ "a": "x", "b": -1 }), json!({ "a": "x", "c": 1 })] {
            assert!(contract.takes(&bad).is_err(), "{bad}");
        }
    }
}
