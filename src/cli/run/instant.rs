//! Points in time and in the journal, as people write them.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use patchloom_core::{Millis, UtcMs};
use patchloom_engine::runtime::Until;

use crate::output::time;

/// An instant: RFC 3339, a date of this machine's zone, or a span before now.
pub(in crate::cli) fn parse(text: &str) -> Result<UtcMs, String> {
    at(text, time::now())
}

/// A record by its number, or an instant.
pub(super) fn until(text: &str) -> Result<Until, String> {
    match text.parse() {
        Ok(record) => Ok(Until::Record(record)),
        Err(_) => parse(text).map(Until::Time),
    }
}

fn at(text: &str, now: UtcMs) -> Result<UtcMs, String> {
    if let Some(at) = time::parse_rfc3339(text) {
        return Ok(at);
    }
    if let Ok(date) = text.parse::<Date>().and_then(|date| date.to_zoned(TimeZone::system())) {
        return Ok(UtcMs(u64::try_from(date.timestamp().as_millisecond()).unwrap_or(0)));
    }
    let span: Millis =
        text.parse().map_err(|_| "write it as 2026-11-21, 2026-11-21T03:15:00Z, or a span such as 24h".to_owned())?;
    Ok(UtcMs(now.0.saturating_sub(span.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_a_time_a_date_or_a_span_before_now() {
        let now = UtcMs(1_790_000_000_000);
        assert_eq!(at("2026-09-21T14:13:20Z", now), Ok(now));
        assert_eq!(at("1h30m", now), Ok(UtcMs(now.0 - 5_400_000)));
        assert!(at("2026-09-21", now).is_ok());
        assert!(at("yesterday", now).is_err());
        assert_eq!(until("17"), Ok(Until::Record(17)));
        assert!(until("").is_err());
    }
}
