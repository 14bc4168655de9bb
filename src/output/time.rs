//! Instants and spans for people.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use patchloom_core::{Millis, UtcMs};

/// Now, by this machine's clock.
#[must_use]
pub fn now() -> UtcMs {
    UtcMs(u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0))
}

fn timestamp(at: UtcMs) -> Timestamp {
    // An instant beyond jiff's last year comes from a damaged record only.
    i64::try_from(at.0).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::MAX)
}

/// RFC 3339 in UTC, with milliseconds: for machines.
///
/// # Example
/// ```
/// use patchloom_core::UtcMs;
/// assert_eq!(patchloom::output::time::rfc3339(UtcMs(1_790_000_000_123)), "2026-09-21T14:13:20.123Z");
/// ```
#[must_use]
pub fn rfc3339(at: UtcMs) -> String {
    timestamp(at).strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// Reads what [`rfc3339`] writes, or any other RFC 3339 instant since 1970; `None` where the text is none.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<UtcMs> {
    let at: Timestamp = text.parse().ok()?;
    u64::try_from(at.as_millisecond()).ok().map(UtcMs)
}

/// `2026-09-21 14:13:20 UTC`, in UTC: for reports, which travel.
#[must_use]
pub fn utc(at: UtcMs) -> String {
    timestamp(at).strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// `2026-09-21 16:13:20 CEST`, in this machine's own zone: for a terminal.
#[must_use]
pub fn local(at: UtcMs) -> String {
    timestamp(at).to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// How long ago, or how long to go: `12 s ago`, `in 3 min`, `just now`.
#[must_use]
pub fn relative(at: UtcMs, now: UtcMs) -> String {
    let (past, ahead) = (now.since(at), at.since(now));
    if past.0.max(ahead.0) < 1000 {
        "just now".to_owned()
    } else if ahead.0 > 0 {
        format!("in {}", coarse(ahead))
    } else {
        format!("{} ago", coarse(past))
    }
}

/// A span in its largest unit only: `3 d`, `5 h`, `12 min`, `8 s`.
#[must_use]
pub fn coarse(span: Millis) -> String {
    let seconds = span.0 / 1000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// How long something took, with three figures or so: `340 ms`, `2.4 s`, `1 min 05 s`, `3 h 20 min`.
///
/// # Example
/// ```
/// use patchloom_core::Millis;
/// use patchloom::output::time::duration;
/// assert_eq!(duration(Millis(0)), "0 ms");
/// assert_eq!(duration(Millis(65_400)), "1 min 05 s");
/// ```
#[must_use]
pub fn duration(span: Millis) -> String {
    let ms = span.0;
    let seconds = ms / 1000;
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{seconds}.{} s", ms % 1000 / 100),
        60_000..3_600_000 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3_600_000..86_400_000 => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_keep_the_figures_that_matter() {
        for (ms, expected) in [
            (999, "999 ms"),
            (1000, "1.0 s"),
            (59_999, "59.9 s"),
            (60_000, "1 min 00 s"),
            (3_600_000, "1 h 00 min"),
            (90_000_000, "1 d 1 h"),
        ] {
            assert_eq!(duration(Millis(ms)), expected);
        }
    }

    #[test]
    fn relative_times_look_both_ways() {
        let now = UtcMs(1_000_000_000);
        for (at, expected) in [
            (now.0, "just now"),
            (now.0 - 999, "just now"),
            (now.0 - 12_000, "12 s ago"),
            (now.0 + 200_000, "in 3 min"),
            (0, "11 d ago"),
        ] {
            assert_eq!(relative(UtcMs(at), now), expected);
        }
    }

    #[test]
    fn an_instant_reads_back_as_it_was_written() {
        let at = UtcMs(1_790_000_000_123);
        assert_eq!(parse_rfc3339(&rfc3339(at)), Some(at));
        assert_eq!(parse_rfc3339("yesterday"), None);
        assert_eq!(parse_rfc3339("1950-01-01T00:00:00Z"), None);
    }
}
