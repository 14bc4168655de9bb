//! Calendars: named rules for spans of time, such as maintenance windows, freezes and holidays.
//!
//! Pure: instants are arguments, zones come from the database inside the binary, files are read by others.
//! No span means never.

mod cron;
mod explain;
mod fields;
mod ical;
mod read;
mod recur;
mod schedule;
mod set;
mod spans;
mod zone;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::yaml::{self, Node};
use crate::{Millis, UtcMs};

pub use explain::{Explanation, Verdict};
pub use ical::{EVENTS_MAX, ICAL_BYTES_MAX, RECURRING_EVENTS_MAX};
pub use schedule::{OFFSET_DAYS_MAX, SCHEDULE_KEYS, Schedule};
pub use spans::{FITS_MAX, FOLLOWED_MAX, LOOKED_MAX};
pub use zone::END;

use ical::Event;
use zone::Zone;

/// The most calendars in one set.
pub const CALENDARS_MAX: usize = 1_000;

/// The texts of iCalendar files by the paths that calendars name, or why one cannot be read.
pub type Texts = BTreeMap<String, Result<String, String>>;

/// A span of time that is open.
///
/// # Shape
/// `open` belongs to it, `close` does not. What is to start has to start before `last_start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    /// Its first instant.
    pub open: UtcMs,
    /// Its end.
    pub close: UtcMs,
    /// Its end less the cutoff, and never before `open`.
    pub last_start: UtcMs,
}

impl Span {
    /// Whether what takes `expected` may start at `now`: the span is open, the cutoff is not reached, and it will end
    /// before the cutoff or right with it.
    ///
    /// # Example
    /// ```
    /// use patchloom_core::calendar::Span;
    /// use patchloom_core::{Millis, UtcMs};
    /// let span = Span { open: UtcMs(1000), close: UtcMs(9000), last_start: UtcMs(8000) };
    /// assert!(span.fits(UtcMs(1000), Millis(7000)));
    /// assert!(!span.fits(UtcMs(1001), Millis(7000)));
    /// assert!(span.fits(UtcMs(7999), Millis(0)) && !span.fits(UtcMs(8000), Millis(0)));
    /// ```
    #[must_use]
    pub fn fits(&self, now: UtcMs, expected: Millis) -> bool {
        self.open <= now && now < self.last_start && now + expected <= self.last_start
    }

    /// Whether an instant is in it.
    #[must_use]
    pub fn contains(&self, at: UtcMs) -> bool {
        self.open <= at && at < self.close
    }
}

/// One calendar of a set.
#[derive(Clone, Debug)]
pub struct Calendar {
    rule: Rule,
    cutoff: Millis,
    /// The calendars that are taken away.
    except: Vec<Arc<str>>,
}

/// What opens a calendar.
#[derive(Clone, Debug)]
enum Rule {
    Recurring { schedule: Box<Schedule>, duration: Millis },
    Once { open: UtcMs, close: UtcMs, zone: Zone },
    Events { events: Vec<Event>, zone: Option<Zone> },
    AnyOf(Vec<Arc<str>>),
    AllOf(Vec<Arc<str>>),
    Base(Arc<str>),
}

impl Calendar {
    /// The calendars that open it.
    fn parts(&self) -> &[Arc<str>] {
        match &self.rule {
            Rule::AnyOf(names) | Rule::AllOf(names) => names,
            Rule::Base(name) => std::slice::from_ref(name),
            Rule::Recurring { .. } | Rule::Once { .. } | Rule::Events { .. } => &[],
        }
    }

    fn own_zone(&self) -> Option<&Zone> {
        match &self.rule {
            Rule::Recurring { schedule, .. } => Some(schedule.zone()),
            Rule::Once { zone, .. } => Some(zone),
            Rule::Events { zone, .. } => zone.as_ref(),
            Rule::AnyOf(_) | Rule::AllOf(_) | Rule::Base(_) => None,
        }
    }
}

impl fmt::Display for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Rule::Recurring { schedule, duration } => write!(f, "{schedule}, for {duration}")?,
            Rule::Once { open, close, zone } => write!(f, "once, {} to {}", zone.show(*open), zone.show(*close))?,
            Rule::Events { events, .. } => write!(f, "iCalendar, {} events", events.len())?,
            Rule::AnyOf(names) => write!(f, "any of {}", names.join(", "))?,
            Rule::AllOf(names) => write!(f, "all of {}", names.join(", "))?,
            Rule::Base(name) => write!(f, "{name}")?,
        }
        if self.cutoff.0 > 0 {
            write!(f, ", cutoff {}", self.cutoff)?;
        }
        if !self.except.is_empty() {
            write!(f, ", except {}", self.except.join(", "))?;
        }
        Ok(())
    }
}

/// A set of calendars, which may name each other.
///
/// It is written as canonical JSON, and reads back from it to the same set: texts of iCalendar files are in it.
#[derive(Clone, Debug, Default)]
pub struct Calendars {
    all: BTreeMap<Arc<str>, Calendar>,
    canonical: Value,
}

impl Calendars {
    /// Reads a file of calendars: a map of names to calendars, alone or under the key `calendars`.
    ///
    /// # Errors
    /// Every mistake found, with its place.
    pub fn parse(file: &str, source: &str) -> Result<Self, Diagnostics> {
        Self::parse_with(file, source, &Texts::new())
    }

    /// As [`parse`](Self::parse), with the iCalendar files that [`ical_paths`] names.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), and a path that is not among `texts`.
    pub fn parse_with(file: &str, source: &str, texts: &Texts) -> Result<Self, Diagnostics> {
        let fail = |mut list: Vec<Diagnostic>| {
            list.sort_by_key(|mistake| mistake.span);
            Diagnostics { file: file.to_owned(), source: source.to_owned(), list }
        };
        let root = yaml::read(source).map_err(fail)?;
        let mut mistakes = Vec::new();
        let section = read::section(&root, &mut mistakes);
        let calendars = Self::read_with(section, texts, &mut mistakes);
        if mistakes.is_empty() { Ok(calendars) } else { Err(fail(mistakes)) }
    }

    /// Reads the map of names to calendars at `node`; what is wrong goes to `mistakes`, what is sound is read.
    #[must_use]
    pub(crate) fn read_with(node: &Node, texts: &Texts, mistakes: &mut Vec<Diagnostic>) -> Self {
        read::calendars(node, texts, mistakes)
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all.keys().map(AsRef::as_ref)
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Calendar> {
        self.all.get(name)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The IANA name of the zone that people read a calendar in: its own, or that of the first it is made of.
    #[must_use]
    pub fn time_zone(&self, name: &str) -> Option<&str> {
        self.zone(name).map(Zone::name)
    }

    /// An instant in the zone of a calendar, for people: `Fri 2026-12-18 22:00 CET`.
    #[must_use]
    pub fn show(&self, name: &str, at: UtcMs) -> String {
        let utc = || Zone::get("UTC").map_or_else(|| at.0.to_string(), |utc| utc.show(at));
        self.zone(name).map_or_else(utc, |zone| zone.show(at))
    }

    /// The instant of a local time such as `2026-12-18T22:00` in the zone of a calendar.
    #[must_use]
    pub fn instant(&self, name: &str, local: &str) -> Option<UtcMs> {
        self.zone(name)?.instant(fields::local(local, false)?)
    }

    fn zone(&self, name: &str) -> Option<&Zone> {
        let calendar = self.all.get(name)?;
        calendar.own_zone().or_else(|| calendar.parts().iter().find_map(|part| self.zone(part)))
    }
}

impl PartialEq for Calendars {
    fn eq(&self, other: &Self) -> bool {
        self.canonical == other.canonical
    }
}

impl Serialize for Calendars {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.canonical.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Calendars {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if value.is_null() {
            return Ok(Self::default());
        }
        let mut mistakes = Vec::new();
        let calendars = Self::read_with(&read::node(&value), &Texts::new(), &mut mistakes);
        match mistakes.first() {
            None => Ok(calendars),
            Some(first) => {
                let text = format!("{} {}: {}", first.code, first.message, first.reason);
                Err(serde::de::Error::custom(text))
            }
        }
    }
}

/// The paths under `ical` in a file of calendars, or in the `calendars` of a workflow: what [`Calendars::parse_with`]
/// wants the texts of. Empty where the text is no YAML, which parsing will say.
#[must_use]
pub fn ical_paths(source: &str) -> Vec<String> {
    yaml::read(source).map(|root| read::ical_paths(&root)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
