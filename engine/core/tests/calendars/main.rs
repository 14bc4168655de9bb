//! Calendars against answers of others: recorded recurrences, schedules of AWS, and minute by minute by brute force.

mod brute;
mod recorded;
mod sets;

use patchloom_core::UtcMs;

/// An instant from RFC 3339.
fn at(text: &str) -> UtcMs {
    let at: jiff::Timestamp = text.parse().unwrap();
    UtcMs(u64::try_from(at.as_millisecond()).unwrap())
}

/// An instant to RFC 3339.
fn show(at: UtcMs) -> String {
    jiff::Timestamp::from_millisecond(i64::try_from(at.0).unwrap()).unwrap().to_string()
}
