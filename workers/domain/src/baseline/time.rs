//! Instants as SSM writes them: seconds since 1970 as a number, or a text of RFC 3339.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The number of seconds in a day, which is what a day of delay is: SSM counts in UTC, to the second.
pub(super) const DAY: i64 = 86_400;

/// An instant, in seconds since 1970 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub i64);

/// A text that is no instant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no instant: write 2026-11-21T18:00:00Z, or 2026-11-21 for its first second")]
pub struct MomentError(String);

impl Moment {
    /// Reads `2026-11-21`, `2026-11-21T18:00:00Z` or one with an offset such as `+01:00`.
    ///
    /// # Errors
    /// Where it is none, or a day that no calendar has.
    pub fn parse(text: &str) -> Result<Self, MomentError> {
        read(text).map(Self).ok_or_else(|| MomentError(text.to_owned()))
    }
}

fn read(text: &str) -> Option<i64> {
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00:00Z"));
    let days = days(date)?;
    let at = time.rfind(['Z', '+', '-'])?;
    let (clock, zone) = time.split_at(at);
    let clock = clock.split_once('.').map_or(clock, |(whole, _)| whole);
    let mut parts = clock.splitn(3, ':').map(|part| number(part, 2));
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?);
    let offset = match zone {
        "Z" => 0,
        zone => {
            let (hours, minutes) = zone[1..].split_once(':')?;
            let seconds = number(hours, 2)? * 3600 + number(minutes, 2)? * 60;
            if zone.starts_with('-') { -seconds } else { seconds }
        }
    };
    let valid = hours < 24 && minutes < 60 && seconds < 61 && offset.abs() < DAY;
    valid.then(|| days * DAY + hours * 3600 + minutes * 60 + seconds - offset)
}

fn number(text: &str, digits: usize) -> Option<i64> {
    (text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

/// The days from 1970 to a date of the Gregorian calendar.
pub(super) fn days(date: &str) -> Option<i64> {
    let mut parts = date.split('-');
    let (year, month, day) = (number(parts.next()?, 4)?, number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if parts.next().is_some() || day < 1 || day > length {
        return None;
    }
    // Years begin in March here, so that the leap day is the last of its year.
    let year = year - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

/// The date of an instant.
fn date(seconds: i64) -> String {
    let days = seconds.div_euclid(DAY) + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    format!("{:04}-{month:02}-{day:02}", year + era * 400 + i64::from(month <= 2))
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let clock = self.0.rem_euclid(DAY);
        write!(f, "{}T{:02}:{:02}:{:02}Z", date(self.0), clock / 3600, clock / 60 % 60, clock % 60)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Whole(i64),
            Fraction(f64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Whole(seconds) => Ok(Self(seconds)),
            // A float holds every second of the next millions of years; what is beyond is no date.
            Written::Fraction(seconds) if seconds.abs() < 1e14 => {
                let whole = format!("{:.0}", seconds.floor());
                whole.parse().map(Self).map_err(serde::de::Error::custom)
            }
            Written::Fraction(seconds) => Err(serde::de::Error::custom(format!("{seconds} is no instant"))),
            Written::Text(text) => Self::parse(&text).map_err(serde::de::Error::custom),
        }
    }
}
