//! Whether a server made a stream or consumer as it was asked to: servers drop silently what they do not know.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

use super::Error;

/// Servers write their own notes under such names.
const SERVERS_NOTES: &str = "_nats.";
/// What a server fills in where nothing was asked; everything else it leaves as it is.
const FILLED_IN: [&str; 6] = ["name", "num_replicas", "duplicate_window", "ack_wait", "max_ack_pending", "max_waiting"];

/// One field that came out otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its name on the wire, such as `filter_subjects` or `metadata.site`.
    pub field: String,
    /// What was asked for, as JSON; `null` where nothing was.
    pub asked: Value,
    /// What there is.
    pub got: Value,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}, asked was {}", self.field, self.got, self.asked)
    }
}

/// Refuses a stream or consumer that is not what was asked for.
///
/// # Errors
/// [`Error::Differs`] with every difference, as [`differences`] finds them.
pub fn same_config<C: Serialize>(what: impl Into<String>, asked: &C, got: &C) -> Result<(), Error> {
    let differences = differences(asked, got);
    if differences.is_empty() { Ok(()) } else { Err(Error::Differs { what: what.into(), differences }) }
}

/// Compares the configuration of a stream or consumer with the one that was asked for, field by field, in order.
///
/// What was left open and a server always fills in (copies, window of duplicates, name, waits and limits of a consumer)
/// is its choice, and 0 and -1 both mean "without a limit". Everything else has to be equal both ways: a filter or an
/// age that nobody asked for is as bad as one that is missing.
///
/// # Example
/// ```
/// use async_nats::jetstream::stream::Config;
/// let asked = Config { name: "W".into(), subjects: vec!["w.>".into()], ..Config::default() };
/// let second = std::time::Duration::from_secs(1);
/// let got = Config { subjects: vec!["v.>".into()], duplicate_window: second, max_age: second, ..asked.clone() };
/// let fields: Vec<String> = patchloom_engine::nats::differences(&asked, &got).into_iter().map(|d| d.field).collect();
/// assert_eq!(fields, ["max_age", "subjects"]);
/// ```
#[must_use]
pub fn differences<C: Serialize>(asked: &C, got: &C) -> Vec<Difference> {
    let mut found = Vec::new();
    compare("", &fields(asked), &fields(got), &mut found);
    found
}

/// Configurations are structs of plain fields: what is none has no fields to compare.
fn fields<C: Serialize>(config: &C) -> Map<String, Value> {
    match serde_json::to_value(config) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

fn compare(path: &str, asked: &Map<String, Value>, got: &Map<String, Value>, found: &mut Vec<Difference>) {
    let names: BTreeSet<&String> = asked.keys().chain(got.keys()).collect();
    for name in names.into_iter().filter(|name| !name.starts_with(SERVERS_NOTES)) {
        let (a, g) = (asked.get(name).unwrap_or(&Value::Null), got.get(name).unwrap_or(&Value::Null));
        let field = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match (a, g) {
            (Value::Object(a), Value::Object(g)) => compare(&field, a, g, found),
            (Value::Null, Value::Object(g)) => compare(&field, &Map::new(), g, found),
            (Value::Object(a), Value::Null) => compare(&field, a, &Map::new(), found),
            _ if is_chosen_by_server(&field, a, g) || is_same(a, g) => (),
            _ => found.push(Difference { field, asked: a.clone(), got: g.clone() }),
        }
    }
}

fn is_chosen_by_server(field: &str, asked: &Value, got: &Value) -> bool {
    let left_open = is_nothing(asked) && FILLED_IN.contains(&field);
    let is_unlimited = |value: &Value| value.as_i64() == Some(-1) || is_nothing(value);
    let unlimited = is_unlimited(asked) && is_unlimited(got);
    left_open || unlimited
}

fn is_same(asked: &Value, got: &Value) -> bool {
    asked == got || (is_nothing(asked) && is_nothing(got))
}

/// What a field holds that is not there.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(set) => !set,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => ["", "none", "default"].contains(&text.as_str()),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}
