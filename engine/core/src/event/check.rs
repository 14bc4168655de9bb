//! Whether a text is an event as the specification has it. All mistakes are found in one pass.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::CloudEvent;

/// The largest event in bytes. The specification asks for 64 KiB at least.
pub const EVENT_BYTES_MAX: usize = 256 << 10;

/// One thing that is wrong with an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}; {remedy}")]
pub struct EventMistake {
    /// Where: the attribute, or the line of the text.
    pub place: String,
    /// What is wrong.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

type Mistakes = Vec<EventMistake>;

pub(super) fn mistake(place: &str, reason: impl Into<String>, remedy: impl Into<String>) -> EventMistake {
    EventMistake { place: place.to_owned(), reason: reason.into(), remedy: remedy.into() }
}

/// An event of so many bytes is too long.
pub(super) fn too_long(bytes: usize) -> EventMistake {
    let reason = format!("it has {bytes} bytes, at most {EVENT_BYTES_MAX} are taken");
    mistake("the event", reason, "put large data elsewhere and name the place in `data`")
}

pub(super) fn read(text: &str) -> Result<CloudEvent, Mistakes> {
    if text.len() > EVENT_BYTES_MAX {
        return Err(vec![too_long(text.len())]);
    }
    let value: Value = serde_json::from_str(text).map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        let text = error.to_string();
        let reason = text.split(" at line ").next().unwrap_or_default().to_owned();
        vec![mistake(&place, reason, "an event is a JSON object (CloudEvents 1.0, structured mode)")]
    })?;
    from_value(value)
}

/// The event that a JSON value is.
pub(super) fn from_value(value: Value) -> Result<CloudEvent, Mistakes> {
    let Value::Object(map) = value else {
        let reason = if value.is_array() { "this is a list, perhaps a batch" } else { "this is no JSON object" };
        return Err(vec![mistake("the event", reason, "send one event, as a JSON object, at a time")]);
    };
    let mut reader = Reader { map, mistakes: Vec::new() };
    let event = reader.event();
    if reader.mistakes.is_empty() { Ok(event) } else { Err(reader.mistakes) }
}

struct Reader {
    map: Map<String, Value>,
    mistakes: Mistakes,
}

impl Reader {
    fn event(&mut self) -> CloudEvent {
        let specversion = self.required("specversion", "write \"specversion\": \"1.0\"");
        if !specversion.is_empty() && specversion != "1.0" {
            let reason = format!("version {specversion:?} is not known");
            self.mistakes.push(mistake("specversion", reason, "write \"specversion\": \"1.0\""));
        }
        let id = self.required("id", "give it an id that is its own under its `source`");
        let source = self.required("source", "say who tells it, as a URI reference such as /scanner/berlin");
        self.check("source", &source, is_uri_reference, "this is no URI reference", "write it as /scanner/berlin");
        let kind = self.required("type", "say what happened, such as com.example.scan.completed");
        let subject = self.optional("subject");
        let time = self.optional("time");
        if let Some(time) = &time {
            let remedy = "write it in RFC 3339, such as 2026-11-21T12:00:00Z";
            self.check("time", time, is_rfc3339, "this is no time", remedy);
        }
        let datacontenttype = self.optional("datacontenttype");
        if let Some(kind) = &datacontenttype {
            self.check("datacontenttype", kind, is_media_type, "this is no media type", "write it as application/json");
        }
        let dataschema = self.optional("dataschema");
        if let Some(schema) = &dataschema {
            let remedy = "write a whole URI, such as https://example.com/schema.json";
            self.check("dataschema", schema, is_uri, "this is no URI", remedy);
        }
        let data = self.map.remove("data").unwrap_or_default();
        let mut extensions = BTreeMap::new();
        self.bytes(!data.is_null(), &mut extensions);
        self.extensions(&mut extensions);
        CloudEvent { specversion, id, source, kind, subject, time, datacontenttype, dataschema, data, extensions }
    }

    fn check(&mut self, place: &str, text: &str, holds: fn(&str) -> bool, reason: &str, remedy: &str) {
        // What is missing was said already.
        if !text.is_empty() && !holds(text) {
            self.mistakes.push(mistake(place, format!("{reason}: {text:?}"), remedy));
        }
    }

    fn required(&mut self, name: &str, remedy: &str) -> String {
        let missing = self.map.get(name).is_none_or(Value::is_null);
        if missing {
            self.map.remove(name);
            self.mistakes.push(mistake(name, "it is missing", remedy));
            return String::new();
        }
        self.optional(name).unwrap_or_default()
    }

    /// An attribute that is text; null is as good as not there.
    fn optional(&mut self, name: &str) -> Option<String> {
        match self.map.remove(name)? {
            Value::Null => None,
            Value::String(text) if text.is_empty() => {
                self.mistakes.push(mistake(name, "it is empty", "fill it, or leave it out where it may be"));
                None
            }
            Value::String(text) if text.chars().any(is_forbidden) => {
                self.mistakes.push(mistake(name, "it holds control characters", "leave them out"));
                None
            }
            Value::String(text) => Some(text),
            other => {
                self.mistakes.push(mistake(name, format!("this is no text: {other}"), "write it as text in quotes"));
                None
            }
        }
    }

    fn bytes(&mut self, has_data: bool, extensions: &mut BTreeMap<String, Value>) {
        let place = "data_base64";
        match self.map.remove(place) {
            None | Some(Value::Null) => {}
            Some(_) if has_data => {
                self.mistakes.push(mistake(place, "the event has `data` too", "leave one of them out"));
            }
            Some(Value::String(text)) if is_base64(&text) => {
                extensions.insert(place.to_owned(), Value::String(text));
            }
            Some(_) => {
                self.mistakes.push(mistake(place, "this is no base64", "write the bytes in base64 (RFC 4648)"));
            }
        }
    }

    fn extensions(&mut self, extensions: &mut BTreeMap<String, Value>) {
        for (name, value) in std::mem::take(&mut self.map) {
            let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
            if !plain {
                let remedy = "names of attributes are lower-case letters and digits; facts of your own go into `data`";
                self.mistakes.push(mistake(&name, "this is no name of an attribute", remedy));
                continue;
            }
            let fits = match &value {
                Value::Null => continue,
                Value::Bool(_) => true,
                Value::Number(number) => number.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
                Value::String(text) => !text.chars().any(is_forbidden),
                Value::Array(_) | Value::Object(_) => false,
            };
            if fits {
                extensions.insert(name, value);
            } else {
                let reason = "an attribute is text, true or false, or a whole number of 32 bits";
                self.mistakes.push(mistake(&name, reason, "put it into `data`"));
            }
        }
    }
}

/// # Source
/// CloudEvents 1.0.2 section 2.2, `String`.
fn is_forbidden(c: char) -> bool {
    c.is_control() || (u32::from(c) & 0xFFFE) == 0xFFFE || ('\u{FDD0}'..='\u{FDEF}').contains(&c)
}

/// # Source
/// RFC 3986 section 2: the characters a URI is made of.
fn is_uri_reference(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().enumerate().all(|(at, byte)| match byte {
        b'%' => bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)),
        byte => byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=".contains(byte),
    })
}

fn is_uri(text: &str) -> bool {
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    let named = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    named && scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && is_uri_reference(text)
}

fn is_rfc3339(text: &str) -> bool {
    let shaped = text.len() >= 20 && text.as_bytes().get(10).is_some_and(|byte| matches!(byte, b'T' | b't'));
    shaped && !text.contains('[') && text.parse::<jiff::Timestamp>().is_ok()
}

fn is_media_type(text: &str) -> bool {
    let (kind, sub) = text.split(';').next().and_then(|text| text.trim().split_once('/')).unwrap_or_default();
    let token = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    token(kind) && token(sub)
}

fn is_base64(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    text.len().is_multiple_of(4)
        && text.len() - body.len() <= 2
        && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with(name: &str, value: Value) -> String {
        let mut event = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t"});
        event[name] = value;
        event.to_string()
    }

    #[track_caller]
    fn check(name: &str, value: Value, fits: bool) {
        let text = with(name, value);
        match read(&text) {
            Ok(_) => assert!(fits, "{text} is taken"),
            Err(mistakes) => {
                assert!(!fits, "{text} is refused: {mistakes:?}");
                assert_eq!(mistakes.len(), 1, "{mistakes:?}");
                assert_eq!(mistakes[0].place, name);
            }
        }
    }

    #[test]
    fn each_attribute_is_held_against_the_specification() {
        for (name, good, bad) in [
            ("specversion", vec![json!("1.0")], vec![json!("0.3"), json!("2.0"), json!(1.0), Value::Null]),
            ("id", vec![json!("ü 1")], vec![json!(""), json!(7), Value::Null, json!("a\u{7}")]),
            ("source", vec![json!("urn:x:1"), json!("a/b?c=%20")], vec![json!("a b"), json!("%zz"), json!("ü")]),
            ("type", vec![json!("com.example")], vec![json!(""), json!([])]),
            ("subject", vec![json!("x"), Value::Null], vec![json!(""), json!({})]),
            (
                "time",
                vec![json!("2018-04-05T17:31:00Z"), json!("2018-04-05T17:31:00.123+02:00"), Value::Null],
                vec![json!("2018-04-05"), json!("yesterday"), json!("2018-04-05T17:31:00"), json!(1_522_949_460)],
            ),
            ("datacontenttype", vec![json!("application/json; charset=utf-8")], vec![json!("json"), json!("a/")]),
            ("dataschema", vec![json!("https://e.org/s"), json!("urn:s")], vec![json!("/s"), json!("1:2")]),
            (
                "site",
                vec![json!("b"), json!(true), json!(-5), Value::Null],
                vec![json!(1.5), json!([]), json!(1_u64 << 40)],
            ),
            ("Site", vec![], vec![json!("b")]),
            ("my_site", vec![], vec![json!("b")]),
            ("data", vec![json!({"a": [1.5]}), json!("x"), Value::Null], vec![]),
            ("data_base64", vec![json!("eyAieHl6IjogMTIzIH0="), json!("")], vec![json!("..."), json!("abc"), json!(1)]),
        ] {
            good.into_iter().for_each(|value| check(name, value, true));
            bad.into_iter().for_each(|value| check(name, value, false));
        }
    }

    #[test]
    fn all_mistakes_are_told_at_once_and_say_what_to_do() {
        let mistakes = read(r#"{"specversion": "1.0", "time": "now", "Bad": 1, "data": 1, "data_base64": "eA=="}"#);
        let mistakes = mistakes.unwrap_err();
        let places: Vec<&str> = mistakes.iter().map(|mistake| mistake.place.as_str()).collect();
        assert_eq!(places, ["id", "source", "type", "time", "data_base64", "Bad"]);
        assert!(mistakes.iter().all(|mistake| !mistake.reason.is_empty() && !mistake.remedy.is_empty()));
    }

    #[test]
    fn what_is_no_object_is_refused_with_its_place() {
        for (text, place) in
            [("[]", "the event"), ("7", "the event"), ("{\n \"a\": }", "line 2, column 7"), ("", "line 1, column 0")]
        {
            assert_eq!(read(text).unwrap_err()[0].place, place, "{text}");
        }
    }

    #[test]
    fn the_largest_event_is_taken_and_one_byte_more_is_not() {
        let room = EVENT_BYTES_MAX - with("data", json!("")).len();
        assert!(read(&with("data", json!("x".repeat(room)))).is_ok());
        let mistakes = read(&with("data", json!("x".repeat(room + 1)))).unwrap_err();
        assert!(mistakes[0].reason.contains("262144"), "{mistakes:?}");
    }
}
