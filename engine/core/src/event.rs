//! A CloudEvent: what scanners, ITSM tools and `emit` steps tell, and what waits and triggers match.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

mod check;
mod message;

pub use check::{EVENT_BYTES_MAX, EventMistake};
pub use message::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX, BATCH_TYPE, BinaryMessage, EVENT_TYPE, NoEvents};

/// One event.
///
/// # Source
/// CloudEvents 1.0.2, sections 3.1 (context attributes) and 4 (JSON format).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CloudEvent {
    /// `1.0`.
    pub specversion: String,
    /// Unique under `source`, and the same when the event is told again.
    pub id: String,
    /// Who tells it: a URI reference.
    pub source: String,
    /// What happened, such as `patchloom.run.succeeded`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// When, in RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Of what kind `data` is; JSON unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datacontenttype: Option<String>,
    /// Where the schema of `data` stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dataschema: Option<String>,
    /// The facts.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub data: Value,
    /// Extension attributes; `data_base64` too, where an event carries bytes.
    #[serde(flatten)]
    pub extensions: BTreeMap<String, Value>,
}

impl CloudEvent {
    /// Reads an event in the JSON format and holds it against the specification.
    ///
    /// # Errors
    /// Every attribute that is missing or wrong, each with the reason and what to write instead.
    pub fn read(text: &str) -> Result<Self, Vec<EventMistake>> {
        check::read(text)
    }

    /// The event as the expressions of triggers and waits see it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut event = Map::new();
        let mut put = |name: &str, value: &str| event.insert(name.to_owned(), Value::String(value.to_owned()));
        put("specversion", &self.specversion);
        put("id", &self.id);
        put("source", &self.source);
        put("type", &self.kind);
        let optional = [
            ("subject", &self.subject),
            ("time", &self.time),
            ("datacontenttype", &self.datacontenttype),
            ("dataschema", &self.dataschema),
        ];
        for (name, value) in optional {
            value.iter().for_each(|value| drop(put(name, value)));
        }
        event.extend(self.extensions.iter().map(|(name, value)| (name.clone(), value.clone())));
        // Always there: an expression that reads it need not ask first.
        event.insert("data".to_owned(), self.data.clone());
        Value::Object(event)
    }

    /// What stands at a place such as `subject` or `data.host.id`; null where there is nothing.
    #[must_use]
    pub fn lookup(&self, path: &str) -> Value {
        let text = |value: &Option<String>| value.clone().map_or(Value::Null, Value::String);
        let (root, rest) = path.split_once('.').map_or((path, None), |(root, rest)| (root, Some(rest)));
        let value = match root {
            "data" => {
                let found = rest
                    .into_iter()
                    .flat_map(|rest| rest.split('.'))
                    .try_fold(&self.data, |value, name| value.get(name));
                return found.cloned().unwrap_or_default();
            }
            "id" => Value::String(self.id.clone()),
            "source" => Value::String(self.source.clone()),
            "type" => Value::String(self.kind.clone()),
            "subject" => text(&self.subject),
            "time" => text(&self.time),
            "dataschema" => text(&self.dataschema),
            "datacontenttype" => text(&self.datacontenttype),
            extension => self.extensions.get(extension).cloned().unwrap_or_default(),
        };
        // Only data has an inside.
        if rest.is_some() { Value::Null } else { value }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_expressions_see_is_the_event_and_what_stands_at_a_place_is_found() {
        let text = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","subject":"web-1","site":"berlin",
            "data":{"host":{"id":7},"list":[1]}}"#;
        let event = CloudEvent::read(text).unwrap();
        assert_eq!(event.to_json(), serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(serde_json::from_value::<CloudEvent>(event.to_json()).unwrap(), event);
        for (path, value) in [
            ("subject", json!("web-1")),
            ("type", json!("t")),
            ("site", json!("berlin")),
            ("data.host.id", json!(7)),
            ("data.host", json!({"id": 7})),
            ("data", event.data.clone()),
            ("data.host.none.deeper", Value::Null),
            ("data.list.0", Value::Null),
            ("subject.x", Value::Null),
            ("none", Value::Null),
            ("time", Value::Null),
            ("", Value::Null),
        ] {
            assert_eq!(event.lookup(path), value, "{path}");
        }
    }

    #[test]
    fn an_event_without_data_has_none_for_expressions() {
        let event = CloudEvent::read(r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#).unwrap();
        assert_eq!(event.to_json()["data"], Value::Null);
        assert!(event.to_json().as_object().unwrap().contains_key("data"));
    }
}
