//! Instants and spans as plain numbers, with their unit in the type.

use std::fmt;
use std::ops::Add;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An instant: milliseconds since 1970-01-01T00:00:00Z, without leap seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UtcMs(pub u64);

/// A span of time in milliseconds; written in definitions and records as `"500ms"`, `"30s"`, `"5m"`, `"2h"`, `"7d"` or a sum such as `"1h30m"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Add<Millis> for UtcMs {
    type Output = Self;

    /// Saturates at the end of time: a span from outside can be of any length.
    fn add(self, span: Millis) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl fmt::Display for UtcMs {
    /// RFC 3339, with as many digits behind the seconds as it takes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = i64::try_from(self.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        match time {
            Some(time) => time.fmt(f),
            None => write!(f, "{}ms", self.0),
        }
    }
}

impl UtcMs {
    /// The span from `earlier` to this instant; zero where `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        for (unit, size) in UNITS {
            let count = rest / size;
            if count > 0 {
                write!(f, "{count}{unit}")?;
                rest %= size;
            }
        }
        Ok(())
    }
}

/// Why a text is not a span of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpanError {
    /// Nothing there.
    #[error("a duration is empty")]
    Empty,
    /// A number without a unit, or a unit without a number.
    #[error("'{0}' is not a duration: write a number and a unit, such as 30s, 5m, 2h, 7d or 1h30m")]
    Malformed(String),
    /// Longer than a `u64` of milliseconds.
    #[error("'{0}' is too long a duration")]
    TooLong(String),
}

impl FromStr for Millis {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        let malformed = || SpanError::Malformed(text.to_owned());
        let too_long = || SpanError::TooLong(text.to_owned());
        if text.is_empty() {
            return Err(SpanError::Empty);
        }
        let mut rest = text;
        let mut total = 0_u64;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(malformed)?;
            if digits == 0 {
                return Err(malformed());
            }
            let (number, tail) = rest.split_at(digits);
            let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(letters);
            let size = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(malformed)?.1;
            let count: u64 = number.parse().map_err(|_| too_long())?;
            total = count.checked_mul(size).and_then(|ms| total.checked_add(ms)).ok_or_else(too_long)?;
            rest = tail;
        }
        Ok(Self(total))
    }
}

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_back_as_they_were_written() {
        for (text, ms) in
            [("500ms", 500), ("30s", 30_000), ("1h30m", 5_400_000), ("7d", 604_800_000), ("1d1ms", 86_400_001)]
        {
            assert_eq!(text.parse::<Millis>(), Ok(Millis(ms)), "{text}");
            assert_eq!(Millis(ms).to_string(), text);
        }
        assert_eq!(Millis(0).to_string().parse::<Millis>(), Ok(Millis(0)));
    }

    #[test]
    fn what_is_no_span_is_refused() {
        for text in ["", "5", "m", "5x", "-5s", "5 s", "99999999999999999999d", "1.5h"] {
            assert!(text.parse::<Millis>().is_err(), "{text}");
        }
    }
}
