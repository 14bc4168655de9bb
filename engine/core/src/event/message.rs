//! Events as messages: the structured, batch and binary mode of CloudEvents, whatever carries them.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::check::{from_value, mistake, too_long};
use super::{CloudEvent, EVENT_BYTES_MAX, EventMistake};

/// The media type of one event in the JSON format.
pub const EVENT_TYPE: &str = "application/cloudevents+json";
/// The media type of a list of events in the JSON format.
pub const BATCH_TYPE: &str = "application/cloudevents-batch+json";
/// The longest batch in bytes.
pub const BATCH_BYTES_MAX: usize = 8 << 20;
/// The most events of a batch.
pub const BATCH_EVENTS_MAX: usize = 10_000;

const CONTENT_TYPE: &str = "content-type";

/// Why a message holds no events that can be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoEvents {
    /// Its events are in a format that is not known.
    #[error("events as `{0}` cannot be read; write them as `application/cloudevents+json`")]
    Format(String),
    /// Nothing says that it is an event.
    #[error(
        "nothing says that this is an event; give it the content type `application/cloudevents+json`, or headers \
         `ce-specversion`, `ce-id`, `ce-source` and `ce-type`"
    )]
    NotOne,
    /// It is too long for a batch.
    #[error("the batch has {0} bytes, at most {BATCH_BYTES_MAX} are taken; send several")]
    TooLong(usize),
    /// It is too long a batch.
    #[error("the batch has {0} events, at most {BATCH_EVENTS_MAX} are taken; send several")]
    TooMany(usize),
    /// All that is wrong. Of a batch nothing is taken then.
    #[error("{}", .0.iter().map(EventMistake::to_string).collect::<Vec<_>>().join("; "))]
    Wrong(Vec<EventMistake>),
}

/// An event in binary mode: its attributes are headers, its data is the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BinaryMessage {
    /// Names in lower case, with values as they go over the wire.
    pub headers: Vec<(String, String)>,
    /// The data.
    pub body: Vec<u8>,
}

impl CloudEvent {
    /// The events of a message, in whichever mode it is; names of headers count in any case.
    ///
    /// A message without a content type and without attributes in headers is read as JSON: NATS messages had no headers
    /// once, and the binding has them so.
    ///
    /// # Errors
    /// [`NoEvents`], also where one event of a batch is wrong: a batch is taken as a whole or not at all.
    ///
    /// # Source
    /// CloudEvents 1.0.2, HTTP binding (section 3), NATS binding (section 3), JSON format (sections 3 and 4).
    pub fn read_message<'a>(
        headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
        body: &[u8],
    ) -> Result<Vec<Self>, NoEvents> {
        let (mut media, mut attributes) = (None, Vec::new());
        for (name, value) in headers {
            let name = name.to_ascii_lowercase();
            if name == CONTENT_TYPE {
                media = media.or_else(|| Some(String::from_utf8_lossy(value).trim().to_owned()));
            } else if let Some(attribute) = name.strip_prefix("ce-") {
                attributes.push((attribute.to_owned(), value));
            }
        }
        let kind = media.as_deref().map(MediaType::read);
        let essence = kind.as_ref().map_or("", |kind| kind.essence.as_str());
        match essence.strip_prefix("application/cloudevents") {
            Some("+json") => return structured(kind.as_ref(), body).map(|event| vec![event]),
            Some("-batch+json") => return batch(kind.as_ref(), body),
            Some(format) if format.is_empty() || format.starts_with(['+', '-']) => {
                return Err(NoEvents::Format(essence.to_owned()));
            }
            Some(_) | None => {}
        }
        if !attributes.is_empty() {
            return binary(&attributes, media, body).map(|event| vec![event]);
        }
        match media {
            Some(_) => Err(NoEvents::NotOne),
            None if body.trim_ascii_start().starts_with(b"[") => batch(None, body),
            None => structured(None, body).map(|event| vec![event]),
        }
    }

    /// The event in structured mode; its media type is [`EVENT_TYPE`].
    #[must_use]
    pub fn structured(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an event has text keys")
    }

    /// Events in batch mode; the media type is [`BATCH_TYPE`].
    #[must_use]
    pub fn batch(events: &[Self]) -> Vec<u8> {
        serde_json::to_vec(events).expect("events have text keys")
    }

    /// The event in binary mode.
    #[must_use]
    pub fn binary(&self) -> BinaryMessage {
        let mut headers = Vec::new();
        let mut put = |name: &str, value: &str| headers.push((format!("ce-{name}"), encode(value)));
        put("specversion", &self.specversion);
        put("id", &self.id);
        put("source", &self.source);
        put("type", &self.kind);
        for (name, value) in [("subject", &self.subject), ("time", &self.time), ("dataschema", &self.dataschema)] {
            value.iter().for_each(|value| put(name, value));
        }
        let bytes = self.extensions.get("data_base64").and_then(Value::as_str);
        for (name, value) in self.extensions.iter().filter(|(name, _)| *name != "data_base64") {
            match value {
                Value::String(text) => put(name, text),
                other => put(name, &other.to_string()),
            }
        }
        // The JSON format has JSON where nothing is said; other carriers do not.
        let implied = (!self.data.is_null()).then_some("application/json");
        let kind = self.datacontenttype.as_deref().or(implied);
        headers.extend(kind.map(|kind| (CONTENT_TYPE.to_owned(), kind.to_owned())));
        let body = match (&self.data, bytes) {
            (Value::Null, None) => Vec::new(),
            // What was checked as it came is base64.
            (Value::Null, Some(bytes)) => STANDARD.decode(bytes).unwrap_or_default(),
            (Value::String(text), _) if !kind.is_some_and(|kind| MediaType::read(kind).is_json()) => {
                text.clone().into_bytes()
            }
            (data, _) => data.to_string().into_bytes(),
        };
        BinaryMessage { headers, body }
    }
}

/// What a content type says.
struct MediaType {
    /// Type and subtype, in lower case.
    essence: String,
    /// In lower case.
    charset: Option<String>,
}

impl MediaType {
    /// # Source
    /// RFC 9110 section 8.3.1.
    fn read(text: &str) -> Self {
        let mut parts = text.split(';');
        let essence = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
        let charset = parts.filter_map(|part| part.split_once('=')).find_map(|(name, value)| {
            let named = name.trim().eq_ignore_ascii_case("charset");
            named.then(|| value.trim().trim_matches('"').to_ascii_lowercase())
        });
        Self { essence, charset }
    }

    fn is_json(&self) -> bool {
        self.essence.split_once('/').is_some_and(|(_, sub)| sub == "json" || sub.ends_with("+json"))
    }

    fn is_text(&self) -> bool {
        let (kind, sub) = self.essence.split_once('/').unwrap_or_default();
        kind == "text" || sub == "xml" || sub.ends_with("+xml") || self.charset.is_some()
    }

    fn is_utf8(&self) -> bool {
        self.charset.as_deref().is_none_or(|charset| matches!(charset, "utf-8" | "utf8" | "us-ascii"))
    }
}

fn text<'a>(kind: Option<&MediaType>, body: &'a [u8]) -> Result<&'a str, NoEvents> {
    if let Some(charset) = kind.filter(|kind| !kind.is_utf8()).and_then(|kind| kind.charset.as_deref()) {
        let reason = format!("the text is in the charset {charset}");
        return Err(NoEvents::Wrong(vec![mistake("the event", reason, "write it in utf-8")]));
    }
    std::str::from_utf8(body).map_err(|error| {
        let place = format!("byte {}", error.valid_up_to());
        NoEvents::Wrong(vec![mistake(&place, "this is no UTF-8", "write the event in utf-8")])
    })
}

fn structured(kind: Option<&MediaType>, body: &[u8]) -> Result<CloudEvent, NoEvents> {
    CloudEvent::read(text(kind, body)?).map_err(NoEvents::Wrong)
}

fn batch(kind: Option<&MediaType>, body: &[u8]) -> Result<Vec<CloudEvent>, NoEvents> {
    if body.len() > BATCH_BYTES_MAX {
        return Err(NoEvents::TooLong(body.len()));
    }
    let list: Vec<Value> = serde_json::from_str(text(kind, body)?).map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        let text = error.to_string();
        let reason = text.split(" at line ").next().unwrap_or_default().to_owned();
        NoEvents::Wrong(vec![mistake(&place, reason, "a batch is a JSON array of events (CloudEvents 1.0)")])
    })?;
    if list.len() > BATCH_EVENTS_MAX {
        return Err(NoEvents::TooMany(list.len()));
    }
    let (mut events, mut mistakes) = (Vec::with_capacity(list.len()), Vec::new());
    for (nth, value) in list.into_iter().enumerate() {
        match from_value(value).and_then(within_limit) {
            Ok(event) => events.push(event),
            Err(found) => mistakes.extend(found.into_iter().map(|found| {
                let place = format!("event {}: {}", nth + 1, found.place);
                EventMistake { place, ..found }
            })),
        }
    }
    if mistakes.is_empty() { Ok(events) } else { Err(NoEvents::Wrong(mistakes)) }
}

fn binary(attributes: &[(String, &[u8])], media: Option<String>, body: &[u8]) -> Result<CloudEvent, NoEvents> {
    let (mut map, mut mistakes) = (Map::new(), Vec::new());
    for (name, value) in attributes {
        let place = format!("ce-{name}");
        if matches!(name.as_str(), "data" | "data_base64") {
            mistakes.push(mistake(&place, "data is no attribute", "put it into the body"));
            continue;
        }
        if map.contains_key(name) {
            mistakes.push(mistake(&place, "it is there twice", "leave one of them out"));
            continue;
        }
        // What cannot be read is not said to be missing on top.
        let value = decode(value).unwrap_or_else(|reason| {
            mistakes.push(mistake(&place, reason, "percent-encode its UTF-8, and `%` itself as `%25`"));
            "?".to_owned()
        });
        map.insert(name.clone(), Value::String(value));
    }
    let own = map.get("datacontenttype").and_then(Value::as_str);
    match (&media, own) {
        (Some(media), Some(own)) if !media.eq_ignore_ascii_case(own) => {
            let reason = format!("the content type is `{media}`, and not `{own}`");
            mistakes.push(mistake("ce-datacontenttype", reason, "leave it out"));
        }
        (Some(media), _) => {
            map.insert("datacontenttype".to_owned(), Value::String(media.clone()));
        }
        (None, _) => {}
    }
    if let Err(found) = put_data(&mut map, body) {
        mistakes.push(found);
    }
    match from_value(Value::Object(map)).and_then(within_limit) {
        Ok(event) if mistakes.is_empty() => Ok(event),
        Ok(_) => Err(NoEvents::Wrong(mistakes)),
        Err(found) => {
            mistakes.extend(found);
            Err(NoEvents::Wrong(mistakes))
        }
    }
}

/// What is taken is kept and told as JSON: that form has the limit, in every mode.
fn within_limit(event: CloudEvent) -> Result<CloudEvent, Vec<EventMistake>> {
    let bytes = event.structured().len();
    if bytes > EVENT_BYTES_MAX { Err(vec![too_long(bytes)]) } else { Ok(event) }
}

/// JSON as it is, text as text, all else as bytes.
fn put_data(map: &mut Map<String, Value>, body: &[u8]) -> Result<(), EventMistake> {
    if body.is_empty() {
        return Ok(());
    }
    let kind = map.get("datacontenttype").and_then(Value::as_str).map(MediaType::read);
    let text = || kind.as_ref().filter(|kind| kind.is_text() && kind.is_utf8()).and_then(|_| str::from_utf8(body).ok());
    let json = match &kind {
        Some(kind) if kind.is_json() => Some(serde_json::from_slice(body).map_err(|error| {
            let reason = format!("the content type is JSON, and this is none: {error}");
            mistake("data", reason, "mend it, or name another content type")
        })?),
        // The JSON format has it so, and bytes that are no JSON stay bytes.
        None => serde_json::from_slice(body).ok(),
        Some(_) => None,
    };
    let (name, value) = match json.or_else(|| text().map(|text| Value::String(text.to_owned()))) {
        Some(value) => ("data", value),
        None => ("data_base64", Value::String(STANDARD.encode(body))),
    };
    map.insert(name.to_owned(), value);
    Ok(())
}

/// # Source
/// CloudEvents 1.0.2, HTTP binding section 3.1.3.2.
fn encode(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'"' | b'%' | 0..=0x20 | 0x7F.. => write!(encoded, "%{byte:02X}").expect("text can be written to"),
            printable => encoded.push(char::from(printable)),
        }
    }
    encoded
}

fn decode(value: &[u8]) -> Result<String, &'static str> {
    let value = value.trim_ascii();
    let unquoted = match value {
        [b'"', inner @ .., b'"'] => unescape(inner),
        value => value.to_vec(),
    };
    let mut bytes = Vec::with_capacity(unquoted.len());
    let mut rest = unquoted.as_slice();
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let hex = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let [high, low, after @ ..] = rest else { return Err("`%` stands without two digits") };
        let (Some(high), Some(low)) = (hex(*high), hex(*low)) else { return Err("`%` stands without two digits") };
        bytes.push(high << 4 | low);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| "this is no UTF-8")
}

/// # Source
/// RFC 9110 section 5.6.4: in a quoted string a backslash stands before a character that is meant as itself.
fn unescape(quoted: &[u8]) -> Vec<u8> {
    let (mut bytes, mut escaped) = (Vec::with_capacity(quoted.len()), false);
    for byte in quoted {
        if *byte == b'\\' && !escaped {
            escaped = true;
        } else {
            bytes.push(*byte);
            escaped = false;
        }
    }
    bytes
}
