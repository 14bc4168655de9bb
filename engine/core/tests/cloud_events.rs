//! Events as messages: every example of the specification, both ways, and what is no event.

use std::path::PathBuf;

use patchloom_core::{
    BATCH_BYTES_MAX, BATCH_EVENTS_MAX, BATCH_TYPE, CloudEvent, EVENT_BYTES_MAX, EVENT_TYPE, NoEvents,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const PLAIN: &str = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"a":1}}"#;

fn read(headers: &[(&str, &str)], body: &[u8]) -> Result<Vec<CloudEvent>, NoEvents> {
    CloudEvent::read_message(headers.iter().map(|(name, value)| (*name, value.as_bytes())), body)
}

/// With the four attributes that every event has, and more.
fn binary(more: &[(&str, &str)], body: &[u8]) -> Result<CloudEvent, NoEvents> {
    let must = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")];
    read(&[&must, more].concat(), body).map(|mut events| events.remove(0))
}

fn places(found: Result<Vec<CloudEvent>, NoEvents>) -> Vec<String> {
    match found {
        Err(NoEvents::Wrong(mistakes)) => mistakes.into_iter().map(|mistake| mistake.place).collect(),
        other => panic!("{other:?}"),
    }
}

fn write_binary(event: &CloudEvent) -> Result<Vec<CloudEvent>, NoEvents> {
    let message = event.binary();
    CloudEvent::read_message(
        message.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())),
        &message.body,
    )
}

/// The examples of the specification, by name; `None`, with a word, where they are not.
fn examples() -> Option<Vec<(String, String)>> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let base = std::env::var_os("PATCHLOOM_DATA").map_or(beside, PathBuf::from).join("cloudevents");
    let Ok(files) = std::fs::read_dir(&base) else {
        println!("skipped: no test data (set PATCHLOOM_DATA to the directory that has cloudevents)");
        return None;
    };
    let mut all: Vec<_> = files
        .map(|file| file.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(path).unwrap()))
        .collect();
    all.sort();
    Some(all)
}

#[test]
fn every_example_of_the_json_format_is_taken_or_refused_for_what_is_wrong_with_it() {
    let Some(examples) = examples() else { return };
    let schema = examples.iter().find(|(name, _)| name == "cloudevents-1.0-schema.json").unwrap();
    let schema = jsonschema::validator_for(&serde_json::from_str(&schema.1).unwrap()).unwrap();
    let mut seen = 0;
    for (name, text) in examples.iter().filter(|(name, _)| name.starts_with("ce-") && name.ends_with(".json")) {
        let list = text.trim_start().starts_with('[');
        let kind = if list { BATCH_TYPE } else { EVENT_TYPE };
        let found = read(&[("Content-Type", kind)], text.as_bytes());
        seen += 1;
        // The specification has an ellipsis where the base64 stands.
        match name.as_str() {
            "ce-json-format-1.json" => assert_eq!(places(found), ["data_base64"]),
            "ce-json-format-12.json" => {
                assert_eq!(places(found), ["event 1: data_base64"]);
                let whole = text.replace("... base64 encoded string ...", "AAEC");
                assert_eq!(read(&[("content-type", BATCH_TYPE)], whole.as_bytes()).unwrap().len(), 2);
            }
            _ => {
                let events = found.unwrap_or_else(|error| panic!("{name}: {error}"));
                let back = read(&[("content-type", BATCH_TYPE)], &CloudEvent::batch(&events)).unwrap();
                assert_eq!(back, events, "{name}, as a batch");
                for event in &events {
                    let written: Value = serde_json::from_slice(&event.structured()).unwrap();
                    assert!(schema.is_valid(&written), "{name}: {:?}", schema.validate(&written));
                    let back = read(&[("content-type", EVENT_TYPE)], &event.structured()).unwrap();
                    assert_eq!(back, std::slice::from_ref(event), "{name}");
                }
            }
        }
    }
    assert_eq!(seen, 11, "files");
}

#[test]
fn every_example_of_the_binary_mode_is_the_event_that_stands_beside_it_as_json() {
    let Some(examples) = examples() else { return };
    let text = |wanted: &str| &examples.iter().find(|(name, _)| name == wanted).unwrap().1;
    for (binary, json) in [(2, 1), (4, 3), (6, 5), (8, 7), (10, 9)] {
        let message = text(&format!("ce-json-format-{binary}.txt"));
        let (head, body) = message.split_once("\n\n").unwrap();
        let mut headers: Vec<(&str, &str)> = head.lines().map(|line| line.split_once(": ").unwrap()).collect();
        // The examples leave it out; an event has it.
        assert_eq!(places(read(&headers, body.trim_end().as_bytes())), ["specversion"], "{binary}");
        headers.push(("ce-specversion", "1.0"));
        let event = read(&headers, body.trim_end().as_bytes()).unwrap().remove(0);
        let json = text(&format!("ce-json-format-{json}.json"));
        let bytes = "... base64 encoded string ...";
        let mut expected: Value =
            serde_json::from_str(&json.replace(bytes, "Li4ucmF3IGJpbmFyeSBieXRlcy4uLg==")).unwrap();
        // Headers have text only, and null is as good as not there.
        expected["comexampleothervalue"] = json!("5");
        expected["datacontenttype"] = json!(headers.iter().find(|(name, _)| *name == "content-type").unwrap().1);
        expected.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        assert_eq!(serde_json::to_value(&event).unwrap(), expected, "{binary}");
        assert_eq!(write_binary(&event).unwrap(), [event], "{binary}");
    }
}

#[test]
fn the_examples_of_the_nats_binding_are_read_once_their_ellipses_are_filled() {
    let Some(examples) = examples() else { return };
    let text = |wanted: &str| &examples.iter().find(|(name, _)| name == wanted).unwrap().1;
    let payload = |text: &str| {
        let after = text.split("payload -------------------").nth(1).unwrap();
        after.split("\n---").next().unwrap().trim().to_owned()
    };
    let first = text("ce-nats-protocol-binding-1.txt");
    let headers: Vec<(&str, &str)> = first.lines().filter_map(|line| line.split_once(": ")).collect();
    let body = payload(first).replace("... application data ...", "\"x\": 1");
    let event = read(&headers, body.as_bytes()).unwrap().remove(0);
    assert_eq!((event.data.clone(), event.datacontenttype.as_deref()), (json!({"x": 1}), Some("application/json")));
    assert_eq!(places(read(&headers, payload(first).as_bytes())), ["data"], "an ellipsis is no JSON");
    // Without headers the message is the event in JSON.
    let second = payload(text("ce-nats-protocol-binding-2.txt"));
    let second = second
        .replace("... application data ...", "")
        .replace("... further attributes omitted ...", r#""id": "1", "source": "/s","#);
    assert_eq!(read(&[], second.as_bytes()).unwrap()[0].data, json!({}));
}

#[test]
fn media_types_are_known_in_any_case_and_with_parameters() {
    let list = format!("[{PLAIN},{PLAIN}]");
    for kind in [
        "application/cloudevents+json",
        "Application/CloudEvents+JSON; charset=UTF-8",
        "application/cloudevents+json;charset=\"utf-8\"; x=y",
        " application/cloudevents+json ",
    ] {
        assert_eq!(read(&[("CONTENT-TYPE", kind)], PLAIN.as_bytes()).unwrap().len(), 1, "{kind}");
        let kind = kind.to_lowercase().replace("+json", "-batch+json");
        assert_eq!(read(&[("content-type", &kind)], list.as_bytes()).unwrap().len(), 2, "{kind}");
    }
    assert_eq!(read(&[], list.as_bytes()).unwrap().len(), 2);
    let odd = read(&[("content-type", "application/cloudevents+json; charset=iso-8859-1")], PLAIN.as_bytes());
    assert!(odd.unwrap_err().to_string().contains("iso-8859-1"));
    for kind in ["application/cloudevents+avro", "application/cloudevents", "application/cloudevents-batch+xml"] {
        let found = read(&[("content-type", kind)], PLAIN.as_bytes());
        assert_eq!(found, Err(NoEvents::Format(kind.to_owned())), "{kind}");
    }
    for kind in ["application/json", "application/cloudeventsx", "nonsense", ""] {
        assert_eq!(read(&[("content-type", kind)], PLAIN.as_bytes()), Err(NoEvents::NotOne), "{kind}");
    }
    assert!(matches!(read(&[], b"hello"), Err(NoEvents::Wrong(_))));
    assert!(matches!(read(&[], b""), Err(NoEvents::Wrong(_))));
    assert!(matches!(read(&[("content-type", EVENT_TYPE)], b"\xFF{}"), Err(NoEvents::Wrong(_))));
}

#[test]
fn data_in_binary_mode_is_json_text_or_bytes_as_its_type_says() {
    for (kind, body, data, bytes) in [
        (Some("application/json"), &b"{\"a\": 1.5}"[..], json!({"a": 1.5}), None),
        (Some("application/problem+JSON; x=1"), b"[1]", json!([1]), None),
        (Some("text/plain"), "Gr\u{fc}n".as_bytes(), json!("Gr\u{fc}n"), None),
        (Some("text/plain; charset=utf-8"), b"5", json!("5"), None),
        (Some("text/plain"), b"\xFF", Value::Null, Some("/w==")),
        (Some("text/plain; charset=iso-8859-1"), b"x", Value::Null, Some("eA==")),
        (Some("application/xml"), b"<a/>", json!("<a/>"), None),
        (Some("image/svg+xml"), b"<svg/>", json!("<svg/>"), None),
        (Some("application/octet-stream"), b"{}", Value::Null, Some("e30=")),
        (None, b"{\"a\": 1}", json!({"a": 1}), None),
        (None, b"hello", Value::Null, Some("aGVsbG8=")),
        (Some("application/json"), b"", Value::Null, None),
    ] {
        let headers: Vec<(&str, &str)> = kind.map(|kind| ("content-type", kind)).into_iter().collect();
        let event = binary(&headers, body).unwrap();
        let found = event.extensions.get("data_base64").and_then(Value::as_str);
        assert_eq!((&event.data, found), (&data, bytes), "{kind:?}");
        assert_eq!(event.datacontenttype.as_deref(), kind);
        let back = event.binary().body;
        let same = data.is_object() || data.is_array() || back == body;
        assert!(same, "{kind:?}: {}", String::from_utf8_lossy(&back));
    }
    assert_eq!(places(binary(&[("content-type", "application/json")], b"{").map(|event| vec![event])), ["data"]);
}

#[test]
fn values_of_headers_are_encoded_as_the_binding_has_it() {
    // The example of the binding, and its counter-example.
    let mut event = CloudEvent::read(PLAIN).unwrap();
    event.subject = Some("Euro \u{20ac} \u{1F600}".to_owned());
    let headers = event.binary().headers;
    let subject = ("ce-subject".to_owned(), "Euro%20%E2%82%AC%20%F0%9F%98%80".to_owned());
    assert!(headers.contains(&subject), "{headers:?}");
    for (value, expected) in [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", Ok("Euro \u{20ac} \u{1F600}")),
        ("%e2%82%ac %41", Ok("\u{20ac} A")),
        ("\"a b \\\"c\\\" \\\\ %25\"", Ok("a b \"c\" \\ %")),
        ("  x  ", Ok("x")),
        ("gr\u{fc}n", Ok("gr\u{fc}n")),
        ("%C0%A0", Err("UTF-8")),
        ("100%", Err("two digits")),
        ("%zz", Err("two digits")),
        ("%00", Err("control characters")),
    ] {
        match (binary(&[("ce-subject", value)], b""), expected) {
            (Ok(event), Ok(expected)) => assert_eq!(event.subject.as_deref(), Some(expected), "{value}"),
            (Err(error), Err(reason)) => assert!(error.to_string().contains(reason), "{value}: {error}"),
            (found, _) => panic!("{value}: {found:?}"),
        }
    }
    assert_eq!(binary(&[("CE-Site", "berlin")], b"").unwrap().lookup("site"), json!("berlin"));
}

#[test]
fn what_is_wrong_with_headers_is_told_all_at_once() {
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("CE-ID", "2"),
        ("ce-type", "%"),
        ("ce-data", "x"),
        ("ce-datacontenttype", "text/plain"),
        ("content-type", "application/json"),
        ("ce-my_site", "x"),
        ("user-agent", "curl"),
    ];
    let found = places(read(&headers, b"{}"));
    assert_eq!(found, ["ce-id", "ce-type", "ce-data", "ce-datacontenttype", "source", "my_site"]);
    assert_eq!(read(&[("user-agent", "curl"), ("content-type", "text/plain")], b"x"), Err(NoEvents::NotOne));
}

#[test]
fn a_batch_is_taken_as_a_whole_or_not_at_all_and_has_limits() {
    let batch = |list: &str| read(&[("content-type", BATCH_TYPE)], list.as_bytes());
    assert_eq!(batch("[]").unwrap(), []);
    let mistaken = batch(&format!("[{PLAIN},7,{{\"id\":\"1\"}}]"));
    let expected = ["event 2: the event", "event 3: specversion", "event 3: source", "event 3: type"];
    assert_eq!(places(mistaken), expected);
    assert_eq!(places(batch(PLAIN)).len(), 1);
    let many = |count: usize| format!("[{}]", vec![PLAIN; count].join(","));
    assert_eq!(batch(&many(BATCH_EVENTS_MAX)).unwrap().len(), BATCH_EVENTS_MAX);
    assert_eq!(batch(&many(BATCH_EVENTS_MAX + 1)), Err(NoEvents::TooMany(BATCH_EVENTS_MAX + 1)));
    let wide = format!("{}[]", " ".repeat(BATCH_BYTES_MAX - 2));
    assert_eq!(batch(&wide).unwrap(), []);
    assert_eq!(batch(&format!(" {wide}")), Err(NoEvents::TooLong(BATCH_BYTES_MAX + 1)));
}

#[test]
fn an_event_has_the_same_limit_in_every_mode() {
    let plain = |kind: &'static str, room: usize| binary(&[("content-type", kind)], &vec![b'x'; room]);
    let frame = plain("text/plain", 1).unwrap().structured().len() - 1;
    let room = EVENT_BYTES_MAX - frame;
    let largest = plain("text/plain", room).unwrap();
    assert_eq!(largest.structured().len(), EVENT_BYTES_MAX);
    assert_eq!(read(&[], &largest.structured()).unwrap(), [largest]);
    assert!(plain("text/plain", room + 1).unwrap_err().to_string().contains("262144"));
    assert!(plain("image/png", room).is_err(), "as base64 it is longer");
}

proptest! {
    #[test]
    fn binary_mode_gives_back_what_was_written(
        id in "\\PC{1,12}", subject in proptest::option::of("[^\\p{Cc}\\p{Cn}]{1,20}"), site in "[ -~]{1,9}",
        data in prop_oneof![Just(Value::Null), any::<i32>().prop_map(Value::from), "\\PC{0,9}".prop_map(Value::from)],
    ) {
        let mut event = CloudEvent::read(PLAIN).unwrap();
        (event.subject, event.data) = (subject, data);
        event.id = id.trim().to_owned();
        event.extensions.insert("site".to_owned(), Value::String(site));
        event.datacontenttype = (!event.data.is_null()).then(|| "application/json".to_owned());
        prop_assume!(CloudEvent::read(&String::from_utf8(event.structured()).unwrap()).is_ok());
        prop_assert_eq!(write_binary(&event).unwrap(), [event]);
    }

    #[test]
    fn no_message_breaks_the_reader(name in "(ce-)?[a-z]{0,12}", value in any::<Vec<u8>>(), body in any::<Vec<u8>>()) {
        let headers = [(name.as_str(), value.as_slice()), ("ce-id", b"1")];
        let _ = CloudEvent::read_message(headers, &body);
        let _ = CloudEvent::read_message([("content-type", value.as_slice())], &body);
    }
}
