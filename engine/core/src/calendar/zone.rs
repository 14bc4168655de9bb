//! A time zone by its IANA name, from the database inside the binary: local times to instants and back. Knows no rule.

use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::diagnostic::{Diagnostic, Span, nearest};
use crate::{Millis, UtcMs};

/// The end of time here, 9999-01-01T00:00:00Z: nothing opens at or behind it.
pub const END: UtcMs = UtcMs(253_370_764_800_000);

/// No zone ever skipped more than a day at once (Apia, 2011); with room.
const GAP_MAX: Millis = Millis(26 * 3_600_000);

/// The zones that ship with the library, so that every machine counts the same way.
static BUNDLED: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The names that Windows gives to the more common zones, and the IANA names of the same.
///
/// # Source
/// Unicode CLDR, `windowsZones.xml`, territory 001.
const WINDOWS: &[(&str, &str)] = &[
    ("AUS Eastern Standard Time", "Australia/Sydney"),
    ("Arabian Standard Time", "Asia/Dubai"),
    ("Atlantic Standard Time", "America/Halifax"),
    ("Cen. Australia Standard Time", "Australia/Adelaide"),
    ("Central America Standard Time", "America/Guatemala"),
    ("Central Europe Standard Time", "Europe/Budapest"),
    ("Central European Standard Time", "Europe/Warsaw"),
    ("Central Standard Time", "America/Chicago"),
    ("China Standard Time", "Asia/Shanghai"),
    ("E. Australia Standard Time", "Australia/Brisbane"),
    ("E. South America Standard Time", "America/Sao_Paulo"),
    ("Eastern Standard Time", "America/New_York"),
    ("Egypt Standard Time", "Africa/Cairo"),
    ("FLE Standard Time", "Europe/Kiev"),
    ("GMT Standard Time", "Europe/London"),
    ("GTB Standard Time", "Europe/Bucharest"),
    ("Greenwich Standard Time", "Atlantic/Reykjavik"),
    ("Hawaiian Standard Time", "Pacific/Honolulu"),
    ("India Standard Time", "Asia/Calcutta"),
    ("Israel Standard Time", "Asia/Jerusalem"),
    ("Korea Standard Time", "Asia/Seoul"),
    ("Morocco Standard Time", "Africa/Casablanca"),
    ("Mountain Standard Time", "America/Denver"),
    ("New Zealand Standard Time", "Pacific/Auckland"),
    ("Pacific Standard Time", "America/Los_Angeles"),
    ("Romance Standard Time", "Europe/Paris"),
    ("Russian Standard Time", "Europe/Moscow"),
    ("SE Asia Standard Time", "Asia/Bangkok"),
    ("Singapore Standard Time", "Asia/Singapore"),
    ("South Africa Standard Time", "Africa/Johannesburg"),
    ("Taipei Standard Time", "Asia/Taipei"),
    ("Tokyo Standard Time", "Asia/Tokyo"),
    ("Turkey Standard Time", "Europe/Istanbul"),
    ("US Mountain Standard Time", "America/Phoenix"),
    ("UTC", "UTC"),
    ("W. Australia Standard Time", "Australia/Perth"),
    ("W. Europe Standard Time", "Europe/Berlin"),
];

/// A time zone.
#[derive(Clone, Debug)]
pub(super) struct Zone {
    name: Arc<str>,
    rules: TimeZone,
}

impl Zone {
    /// The zone of this IANA name.
    pub fn get(name: &str) -> Option<Self> {
        let rules = BUNDLED.get(name).ok().filter(|rules| !rules.is_unknown())?;
        let name = rules.iana_name().unwrap_or(name).into();
        Some(Self { name, rules })
    }

    /// As [`get`](Self::get), or by the name that Windows has for it, as calendars from Outlook do.
    pub fn get_any(name: &str) -> Option<Self> {
        Self::get(name).or_else(|| Self::get(windows(name)?))
    }

    /// As [`get`](Self::get), with a mistake at `span` where there is none.
    pub fn read(name: &str, span: Span, mistakes: &mut Vec<Diagnostic>) -> Option<Self> {
        let zone = Self::get(name);
        if zone.is_none() {
            mistakes.push(unknown(name, span));
        }
        zone
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The instant of a local time: behind a gap by its length where it falls into one, the first of the two where
    /// it comes twice. `None` before 1970 and behind [`END`].
    pub fn instant(&self, local: DateTime) -> Option<UtcMs> {
        let at = self.rules.to_timestamp(local).ok()?;
        u64::try_from(at.as_millisecond()).ok().map(UtcMs).filter(|at| *at < END)
    }

    /// What a clock on the wall shows at an instant.
    pub fn local(&self, at: UtcMs) -> DateTime {
        self.rules.to_datetime(timestamp(at))
    }

    /// No local time before this one is an instant behind `at`, although clocks were put forward a moment ago.
    pub fn floor(&self, at: UtcMs) -> DateTime {
        let now = self.rules.to_offset(timestamp(at));
        let before = self.rules.to_offset(timestamp(UtcMs(at.0.saturating_sub(GAP_MAX.0))));
        now.min(before).to_datetime(timestamp(at))
    }

    /// An instant for people: `2026-12-18 22:00 CET`.
    pub fn show(&self, at: UtcMs) -> String {
        let zoned = timestamp(at).to_zoned(self.rules.clone());
        let seconds = if zoned.second() == 0 { "" } else { ":%S" };
        zoned.strftime(&format!("%a %Y-%m-%d %H:%M{seconds} %Z")).to_string()
    }
}

fn timestamp(at: UtcMs) -> Timestamp {
    i64::try_from(at.0.min(END.0)).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::MAX)
}

fn windows(name: &str) -> Option<&'static str> {
    WINDOWS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, iana)| *iana)
}

fn unknown(name: &str, span: Span) -> Diagnostic {
    let near = windows(name).map(str::to_owned).or_else(|| {
        let names: Vec<String> = BUNDLED.available().map(|known| known.to_string()).collect();
        nearest(name, names.iter().map(String::as_str)).map(str::to_owned)
    });
    Diagnostic {
        code: "E0123",
        message: format!("there is no time zone `{name}`"),
        span,
        reason: "zones are named as in the IANA database, such as Europe/Berlin, America/New_York or UTC".into(),
        fix: near.map(|near| format!("write `{near}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_windows_name_stands_for_a_zone() {
        for (name, iana) in WINDOWS {
            assert!(Zone::get(iana).is_some(), "{name}");
            assert!(Zone::get_any(name).is_some(), "{name}");
        }
    }

    #[test]
    fn an_unknown_zone_gets_a_suggestion() {
        let mut mistakes = Vec::new();
        for (name, near) in [("Europe/Berlinn", "Europe/Berlin"), ("Pacific Standard Time", "America/Los_Angeles")] {
            assert!(Zone::read(name, Span::default(), &mut mistakes).is_none());
            assert_eq!(mistakes.pop().unwrap().fix.unwrap(), format!("write `{near}`"));
        }
        assert!(Zone::get("Etc/Unknown").is_none());
    }

    #[test]
    fn a_gap_shifts_forward_and_a_fold_takes_the_first() {
        for (zone, local, utc) in [
            ("Europe/Berlin", "2026-03-29T02:30", "2026-03-29T01:30:00Z"),
            ("Europe/Berlin", "2026-10-25T02:30", "2026-10-25T00:30:00Z"),
            ("Australia/Lord_Howe", "2026-10-04T02:10", "2026-10-03T15:40:00Z"),
            ("Australia/Lord_Howe", "2026-04-05T01:40", "2026-04-04T14:40:00Z"),
            ("Pacific/Apia", "2011-12-30T10:00", "2011-12-30T20:00:00Z"),
        ] {
            let at: Timestamp = utc.parse().unwrap();
            let found = Zone::get(zone).unwrap().instant(local.parse().unwrap()).unwrap();
            assert_eq!(i64::try_from(found.0).unwrap(), at.as_millisecond(), "{zone} {local}");
        }
    }
}
