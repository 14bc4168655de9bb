//! Events of an iCalendar text as time spans. Knows text only: who reads the file gives it in.
//!
//! # Source
//! RFC 5545. Alarms, to-dos and the like are no events; zones are taken by their name from the IANA database, not
//! from VTIMEZONE.

use std::collections::BTreeSet;

use jiff::ToSpan as _;

use super::recur::{self, Start};
use super::schedule::Schedule;
use super::set::Raw;
use super::zone::Zone;
use crate::UtcMs;

mod lines;

use lines::{Component, Moment, components};

/// The longest text that is read, in bytes.
pub const ICAL_BYTES_MAX: usize = 1 << 20;
/// The most events in one text.
pub const EVENTS_MAX: usize = 10_000;
/// The most events of one text that recur.
pub const RECURRING_EVENTS_MAX: usize = 500;

/// How long an event lasts: whole days by the calendar, then elapsed time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Length {
    days: i64,
    ms: u64,
}

/// What is wrong in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub line: usize,
    pub message: String,
    pub reason: String,
}

fn wrong(line: usize, message: impl Into<String>, reason: impl Into<String>) -> Wrong {
    Wrong { line, message: message.into(), reason: reason.into() }
}

/// One event, with all the times it takes place.
#[derive(Clone, Debug)]
pub(super) struct Event {
    zone: Zone,
    /// The beginnings that are written out; sorted.
    dates: Vec<UtcMs>,
    schedule: Option<Schedule>,
    excluded: BTreeSet<UtcMs>,
    length: Length,
}

impl Event {
    /// Adds the spans that touch `lo..=hi`; `false` where the budget is used up.
    pub fn spans(&self, lo: u64, hi: u64, cutoff: u64, budget: &mut usize, into: &mut Vec<Raw>) -> bool {
        let mut take = |open: UtcMs| {
            if self.excluded.contains(&open) {
                return;
            }
            let close = self.close(open);
            if close.0 >= lo && open.0 <= hi {
                into.push(Raw { open: open.0, close: close.0, cutoff: cutoff.min(close.0.saturating_sub(open.0)) });
            }
        };
        for open in &self.dates {
            take(*open);
        }
        let Some(schedule) = &self.schedule else { return true };
        // Days by the calendar can be longer than 24 hours.
        let days = u64::try_from(self.length.days).unwrap_or(0);
        let longest = days.saturating_mul(86_400_000).saturating_add(self.length.ms).saturating_add(2 * 86_400_000);
        let mut at = UtcMs(lo.saturating_sub(longest));
        while let Some(open) = schedule.next_within(at, UtcMs(hi)) {
            if *budget == 0 {
                return false;
            }
            *budget -= 1;
            take(open);
            at = open;
        }
        true
    }

    fn close(&self, open: UtcMs) -> UtcMs {
        let by_days = if self.length.days == 0 {
            Some(open)
        } else {
            let last = self.zone.local(open).checked_add(self.length.days.days()).ok();
            last.and_then(|last| self.zone.instant(last))
        };
        // What ends behind the end of time, ends there.
        UtcMs(by_days.map_or(super::END.0, |at| at.0.saturating_add(self.length.ms)).min(super::END.0))
    }
}

/// An event while others can still change it.
struct Draft {
    uid: Option<String>,
    /// Which occurrence of another event this one stands for.
    replaces: Option<UtcMs>,
    event: Event,
}

/// Reads the events of a text; times without a zone are in `zone`.
pub(super) fn read(text: &str, zone: Option<&Zone>) -> Result<Vec<Event>, Wrong> {
    if text.len() > ICAL_BYTES_MAX {
        let reason = format!("at most {ICAL_BYTES_MAX} bytes are read");
        return Err(wrong(1, format!("the text has {} bytes", text.len()), reason));
    }
    let events: Vec<Component> = components(text)?;
    let recurring = events.iter().filter(|event| event.one("RRULE").is_some()).count();
    if events.len() > EVENTS_MAX || recurring > RECURRING_EVENTS_MAX {
        let message = format!("the text has {} events, {recurring} of them recurring", events.len());
        let reason = format!("at most {EVENTS_MAX} are read, {RECURRING_EVENTS_MAX} of them recurring");
        return Err(wrong(1, message, reason));
    }
    let mut drafts = Vec::new();
    for component in &events {
        drafts.extend(draft(component, zone)?);
    }
    let moved: Vec<(String, UtcMs)> =
        drafts.iter().filter_map(|draft| Some((draft.uid.clone()?, draft.replaces?))).collect();
    for (uid, at) in moved {
        for draft in drafts.iter_mut().filter(|draft| draft.replaces.is_none() && draft.uid.as_ref() == Some(&uid)) {
            draft.event.excluded.insert(at);
        }
    }
    Ok(drafts.into_iter().map(|draft| draft.event).filter(|event| event.length != Length::default()).collect())
}

fn draft(component: &Component, zone: Option<&Zone>) -> Result<Option<Draft>, Wrong> {
    let Some(start) = component.one("DTSTART") else {
        return Err(wrong(component.line, "an event has no DTSTART", "it says when the event begins"));
    };
    if let Some(rule) = component.one("EXRULE") {
        return Err(wrong(rule.line, "EXRULE is not read", "RFC 5545 took it away; use EXDATE"));
    }
    let begin = start.moment(zone)?;
    let replaces = match component.one("RECURRENCE-ID") {
        None => None,
        Some(property) if property.param("RANGE").is_some() => {
            return Err(wrong(
                property.line,
                "RANGE is not read",
                "each moved occurrence has to be an event of its own",
            ));
        }
        Some(property) => Some(property.moment(zone)?.instant(property.line)?),
    };
    let cancelled = component.one("STATUS").is_some_and(|status| status.value.eq_ignore_ascii_case("CANCELLED"));
    let mut length = length(component, &begin, zone)?;
    if cancelled {
        if replaces.is_none() {
            return Ok(None);
        }
        // A cancelled occurrence takes its place away and leaves nothing there.
        length = Length::default();
    }
    let mut event = Event {
        zone: begin.zone.clone(),
        dates: vec![begin.instant(start.line)?],
        schedule: None,
        excluded: BTreeSet::new(),
        length,
    };
    for property in component.all("RDATE") {
        for moment in property.moments(zone)? {
            event.dates.push(moment.instant(property.line)?);
        }
    }
    for property in component.all("EXDATE") {
        for moment in property.moments(zone)? {
            if moment.whole_day != begin.whole_day {
                let reason = "they have to be both days, or both times";
                return Err(wrong(property.line, "EXDATE is of another kind than DTSTART", reason));
            }
            event.excluded.insert(moment.instant(property.line)?);
        }
    }
    event.dates.sort_unstable();
    if let Some(property) = component.one("RRULE") {
        let rule = recur::parse(&property.value, Start::At(begin.local));
        let rule = rule.map_err(|found| wrong(property.line, found.message, found.reason))?;
        event.schedule = Some(Schedule::recurring(rule, begin.zone.clone(), &property.value));
    }
    let uid = component.one("UID").map(|property| property.value.clone());
    Ok(Some(Draft { uid, replaces, event }))
}

fn length(component: &Component, begin: &Moment, zone: Option<&Zone>) -> Result<Length, Wrong> {
    if let Some(property) = component.one("DURATION") {
        if component.one("DTEND").is_some() {
            return Err(wrong(property.line, "an event has both DTEND and DURATION", "one of them says when it ends"));
        }
        let bad = || {
            wrong(property.line, format!("`{}` is no duration", property.value), "it is written PT4H, P1D or P1DT12H")
        };
        return duration(&property.value).ok_or_else(bad);
    }
    let Some(property) = component.one("DTEND") else {
        // RFC 5545: without an end a day lasts a day, and a time no time at all.
        return Ok(Length { days: i64::from(begin.whole_day), ms: 0 });
    };
    let end = property.moment(zone)?;
    if end.whole_day != begin.whole_day {
        return Err(wrong(property.line, "DTEND is of another kind than DTSTART", "both are days, or both are times"));
    }
    if begin.whole_day {
        let days = end.local.date().duration_since(begin.local.date()).as_hours() / 24;
        if days > 0 {
            return Ok(Length { days, ms: 0 });
        }
    } else {
        let (from, to) = (begin.instant(property.line)?, end.instant(property.line)?);
        if from <= to {
            return Ok(Length { days: 0, ms: to.since(from).0 });
        }
    }
    Err(wrong(property.line, "an event ends before it begins", "DTEND comes behind DTSTART"))
}

/// `P2W`, `P1D`, `P1DT2H30M`, `PT15M`.
fn duration(text: &str) -> Option<Length> {
    let text = text.strip_prefix('+').unwrap_or(text).strip_prefix('P')?;
    let (days, time) = text.split_once('T').map_or((text, None), |(days, time)| (days, Some(time)));
    if days.is_empty() && time.is_none_or(str::is_empty) {
        return None;
    }
    let mut length = Length::default();
    for (unit, number) in parts(days)? {
        let days = number.checked_mul(match unit {
            'W' => 7,
            'D' => 1,
            _ => return None,
        })?;
        length.days = length.days.checked_add(i64::try_from(days).ok()?)?;
    }
    for (unit, number) in parts(time.unwrap_or_default())? {
        let ms = number.checked_mul(match unit {
            'H' => 3_600_000,
            'M' => 60_000,
            'S' => 1_000,
            _ => return None,
        })?;
        length.ms = length.ms.checked_add(ms)?;
    }
    // A hundred years are enough, and keep all sums far from their limits.
    (length.days <= 36_525 && length.ms <= 36_525 * 86_400_000).then_some(length)
}

fn parts(text: &str) -> Option<Vec<(char, u64)>> {
    let mut found = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number = rest[..digits].parse().ok()?;
        let unit = rest[digits..].chars().next()?;
        found.push((unit, number));
        rest = &rest[digits + unit.len_utf8()..];
    }
    Some(found)
}

#[cfg(test)]
mod tests;
