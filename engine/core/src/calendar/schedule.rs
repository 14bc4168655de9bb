//! When something begins, again and again: a rule for local times, its zone, an offset of days. Knows no durations.

use std::fmt;

use jiff::ToSpan as _;
use jiff::civil::DateTime;

use super::cron::{self, Cron};
use super::fields::{Fields, local, mistake, wrong_type};
use super::recur::{self, Recur, Start};
use super::zone::{END, Zone};
use crate::diagnostic::{Diagnostic, Diagnostics, Span};
use crate::yaml::{self, Node};
use crate::{Millis, UtcMs};

/// The most days that an offset may have.
pub const OFFSET_DAYS_MAX: u64 = 366;

/// The keys that make up a schedule.
pub const SCHEDULE_KEYS: [&str; 6] = ["cron", "rrule", "start", "timezone", "offset", "valid"];

const DAY: u64 = 86_400_000;

/// What names the local times.
#[derive(Clone, Debug)]
enum Rule {
    Cron(Cron),
    Recur(Recur),
    /// Elapsed time since its start.
    Every {
        start: UtcMs,
        every: Millis,
    },
    At(DateTime),
}

/// Begins at the local times of a rule, such as every second Tuesday at 22:00 in Berlin, and two days later.
///
/// A local time that a zone skips is shifted forward by what was skipped; of one that comes twice the first counts.
///
/// # Source
/// The rules are those of crontab(5), Quartz, AWS (`cron(…)`, `rate(…)`, `at(…)`) and RFC 5545 (`rrule`).
#[derive(Clone, Debug)]
pub struct Schedule {
    rule: Rule,
    zone: Zone,
    offset_days: i64,
    /// The first local time that counts.
    valid_from: Option<DateTime>,
    /// The local time from which on none counts.
    valid_until: Option<DateTime>,
    written: String,
}

impl Schedule {
    /// Reads a YAML map with the keys of [`SCHEDULE_KEYS`].
    ///
    /// # Errors
    /// Every mistake found, with its place.
    pub fn parse(file: &str, source: &str) -> Result<Self, Diagnostics> {
        let fail = |list| Diagnostics { file: file.to_owned(), source: source.to_owned(), list };
        let node = yaml::read(source).map_err(fail)?;
        let mut mistakes = Vec::new();
        Self::read(&node, "the schedule", &mut mistakes).ok_or(mistakes).map_err(fail)
    }

    /// Reads the map `node`, called `what` in messages, with the keys of [`SCHEDULE_KEYS`] and no other.
    pub(crate) fn read(node: &Node, what: &str, mistakes: &mut Vec<Diagnostic>) -> Option<Self> {
        let before = mistakes.len();
        let fields = Fields::calendar(node, what, &SCHEDULE_KEYS, mistakes)?;
        let found = match (fields.get("cron"), fields.get("rrule")) {
            (Some(_), Some(_)) => {
                let reason = "a schedule has one rule";
                let message = format!("{what} has both `cron` and `rrule`");
                mistakes.push(mistake("E0126", fields.key_span("rrule"), message, reason, Some("keep one of them")));
                None
            }
            (None, None) => {
                let place = Span::at(fields.span.start, 1);
                let reason = "one of them says when it begins";
                let message = format!("{what} has neither `cron` nor `rrule`");
                mistakes.push(mistake("E0104", place, message, reason, Some("add `cron: 0 22 * * TUE`")));
                None
            }
            _ => Self::from_fields(&fields, what, mistakes),
        };
        found.filter(|_| mistakes.len() == before)
    }

    /// As [`read`](Self::read), from a map that is open already and may have more keys.
    pub(super) fn from_fields(fields: &Fields<'_>, what: &str, mistakes: &mut Vec<Diagnostic>) -> Option<Self> {
        let before = mistakes.len();
        let zone = read_zone(fields, what, mistakes);
        let start = fields.local("start", false, mistakes);
        let offset = read_offset(fields, mistakes);
        let (valid_from, valid_until) = read_valid(fields, mistakes);
        let text = if fields.get("cron").is_some() { "cron" } else { "rrule" };
        let written = fields.placed(text, mistakes);
        let rule = match (written, &zone) {
            (Some((written, span)), Some(zone)) if mistakes.len() == before => {
                read_rule(text, written, start, zone, mistakes).map_err(|found| mistakes.push(found.at(span))).ok()
            }
            (Some((written, span)), None) => {
                // What is wrong in the rule is told in the same pass, although its zone is unknown.
                let utc = Zone::get("UTC")?;
                drop(read_rule(text, written, start, &utc, mistakes).map_err(|found| mistakes.push(found.at(span))));
                None
            }
            _ => None,
        };
        let offset_days = offset.unwrap_or(0);
        if let (Some(Rule::Every { .. } | Rule::At(_)), true) = (&rule, offset_days > 0) {
            let reason = "an offset is for the days that a cron expression or a recurrence rule names";
            let message = "`offset` stands beside a rate or a single time".to_owned();
            mistakes.push(mistake("E0125", fields.key_span("offset"), message, reason, Some("move the start instead")));
        }
        let (Some(rule), Some(zone), Some((written, _))) = (rule, zone, written) else { return None };
        (mistakes.len() == before).then(|| Self {
            rule,
            zone,
            offset_days,
            valid_from,
            valid_until,
            written: format!("{text} {written}"),
        })
    }

    /// A recurrence rule with its start, as events of iCalendar have it.
    pub(super) fn recurring(rule: Recur, zone: Zone, written: &str) -> Self {
        let written = format!("rrule {written}");
        Self { rule: Rule::Recur(rule), zone, offset_days: 0, valid_from: None, valid_until: None, written }
    }

    pub(super) fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The IANA name of its time zone.
    #[must_use]
    pub fn time_zone(&self) -> &str {
        self.zone.name()
    }

    /// The first beginning behind `after`; `None` where there is none any more.
    #[must_use]
    pub fn next_after(&self, after: UtcMs) -> Option<UtcMs> {
        self.next_within(after, END)
    }

    /// The first beginning behind `after` and not behind `until`.
    pub(super) fn next_within(&self, after: UtcMs, until: UtcMs) -> Option<UtcMs> {
        let found = match &self.rule {
            Rule::Every { start, every } => self.next_of_rate(*start, *every, after),
            Rule::At(at) => self.counts(*at).then(|| self.zone.instant(*at)).flatten().filter(|at| *at > after),
            Rule::Cron(_) | Rule::Recur(_) => self.next_of_days(after, until),
        };
        found.filter(|at| *at <= until)
    }

    fn next_of_rate(&self, start: UtcMs, every: Millis, after: UtcMs) -> Option<UtcMs> {
        let from = self.valid_from.and_then(|from| self.zone.instant(from)).map_or(after, |from| {
            // The first that counts may be at `from` itself.
            after.max(UtcMs(from.0.saturating_sub(1)))
        });
        let steps = if from < start { 0 } else { (from.0 - start.0) / every.0 + 1 };
        let at = UtcMs(steps.checked_mul(every.0)?.checked_add(start.0)?);
        (at < END && self.counts(self.zone.local(at))).then_some(at)
    }

    fn next_of_days(&self, after: UtcMs, until: UtcMs) -> Option<UtcMs> {
        let offset = self.offset_days.days();
        let mut from = self.zone.floor(after).checked_sub(offset).ok()?;
        if let Some(first) = self.valid_from {
            from = from.max(first.checked_sub(offset).ok()?);
        }
        // A day of room, for what a zone may skip.
        let to = self.zone.local(until).saturating_add(1.day()).checked_sub(offset).ok()?;
        let mut best: Option<(UtcMs, DateTime)> = None;
        while let Some(named) = self.next_named(from, to) {
            let local = named.checked_add(offset).ok()?;
            // Only what is shifted out of a gap can come before what was found, and never across its shown time.
            if best.is_some_and(|(_, shown)| local >= shown) || self.valid_until.is_some_and(|end| local >= end) {
                break;
            }
            from = named.checked_add(1.second()).ok()?;
            if self.is_behind_the_end(named) {
                break;
            }
            if let Some(at) = self.zone.instant(local).filter(|at| *at > after)
                && best.is_none_or(|(known, _)| at < known)
            {
                best = Some((at, self.zone.local(at)));
            }
        }
        best.map(|(at, _)| at)
    }

    fn next_named(&self, from: DateTime, to: DateTime) -> Option<DateTime> {
        match &self.rule {
            Rule::Cron(cron) => cron.next(from, to),
            Rule::Recur(recur) => recur.next(from, to),
            Rule::Every { .. } | Rule::At(_) => None,
        }
    }

    fn is_behind_the_end(&self, named: DateTime) -> bool {
        let Rule::Recur(recur) = &self.rule else { return false };
        recur.last_instant().is_some_and(|last| self.zone.instant(named).is_none_or(|at| at > last))
    }

    fn counts(&self, local: DateTime) -> bool {
        self.valid_from.is_none_or(|from| local >= from) && self.valid_until.is_none_or(|until| local < until)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)?;
        if self.offset_days > 0 {
            write!(f, " + {}d", self.offset_days)?;
        }
        write!(f, ", {}", self.zone.name())
    }
}

/// A mistake in a rule, before it has a place.
struct Wrong {
    code: &'static str,
    message: String,
    reason: String,
    fix: Option<String>,
}

impl Wrong {
    fn at(self, span: Span) -> Diagnostic {
        Diagnostic { code: self.code, message: self.message, span, reason: self.reason, fix: self.fix }
    }
}

impl From<cron::Wrong> for Wrong {
    fn from(found: cron::Wrong) -> Self {
        Self { code: found.code, message: found.message, reason: found.reason, fix: found.fix }
    }
}

impl From<recur::Wrong> for Wrong {
    fn from(found: recur::Wrong) -> Self {
        let fix = (found.code == "E0127").then(|| "add `start: 2026-01-01T22:00`".to_owned());
        Self { code: found.code, message: found.message, reason: found.reason, fix }
    }
}

fn bad_rule(message: String, reason: &str) -> Wrong {
    Wrong { code: "E0120", message, reason: reason.to_owned(), fix: None }
}

fn read_rule(
    key: &str,
    written: &str,
    start: Option<(DateTime, Span)>,
    zone: &Zone,
    mistakes: &mut Vec<Diagnostic>,
) -> Result<Rule, Wrong> {
    let text = written.trim();
    let at = start.map(|(at, _)| at);
    if key == "rrule" {
        return Ok(Rule::Recur(recur::parse(text, at.map_or(Start::Open, Start::At))?));
    }
    if let Some(inner) = text.strip_prefix("rate(").and_then(|rest| rest.strip_suffix(')')) {
        let every = rate(inner)?;
        let Some(start) = at else {
            return Err(Wrong {
                code: "E0127",
                message: "a rate needs a `start`".to_owned(),
                reason: "it is counted from there".to_owned(),
                fix: Some("add `start: 2026-01-01T22:00`".to_owned()),
            });
        };
        let outside = || bad_rule(format!("the start of `{written}` is out of range"), "it is from 1970 to 9998");
        return Ok(Rule::Every { start: zone.instant(start).ok_or_else(outside)?, every });
    }
    if let Some((_, span)) = start {
        let reason = "a cron expression and a single time say it themselves";
        let fix = "use `valid: {from: …}` for the first day that counts";
        mistakes.push(mistake("E0126", span, "`start` says nothing here".to_owned(), reason, Some(fix)));
    }
    if let Some(inner) = text.strip_prefix("at(").and_then(|rest| rest.strip_suffix(')')) {
        let found = local(inner.trim(), false);
        let bad = || bad_rule(format!("`{written}` is no single time"), "it is written at(2026-07-07T14:00:00)");
        return Ok(Rule::At(found.ok_or_else(bad)?));
    }
    Ok(Rule::Cron(cron::parse(text)?))
}

/// `7 days`, `1 hour`, `30 minutes`.
fn rate(text: &str) -> Result<Millis, Wrong> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let bad = || bad_rule(format!("`rate({text})` is no rate"), "it is a whole number of minutes, hours or days");
    let [number, unit] = *words.as_slice() else { return Err(bad()) };
    let unit = match unit.strip_suffix('s').unwrap_or(unit) {
        "minute" => 60_000,
        "hour" => 3_600_000,
        "day" => DAY,
        _ => return Err(bad()),
    };
    let number = number.parse::<u64>().ok().filter(|number| (1..=1_000_000).contains(number)).ok_or_else(bad)?;
    Ok(Millis(number * unit))
}

/// The zone of a map, which has to name one.
pub(super) fn read_zone(fields: &Fields<'_>, what: &str, mistakes: &mut Vec<Diagnostic>) -> Option<Zone> {
    let reason = "local times mean nothing without a zone, and none is taken silently";
    if !fields.demanded("timezone", what, reason, "add `timezone: Europe/Berlin`, or UTC", mistakes) {
        return None;
    }
    let (name, span) = fields.placed("timezone", mistakes)?;
    Zone::read(name, span, mistakes)
}

fn read_offset(fields: &Fields<'_>, mistakes: &mut Vec<Diagnostic>) -> Option<i64> {
    let (offset, span) = fields.duration("offset", mistakes)?;
    let days = offset.0 / DAY;
    if offset.0 % DAY != 0 || days > OFFSET_DAYS_MAX {
        let reason = format!("it is a number of whole days, such as 2d, and at most {OFFSET_DAYS_MAX}");
        mistakes.push(mistake("E0125", span, "`offset` does not fit".to_owned(), &reason, None));
        return None;
    }
    i64::try_from(days).ok()
}

fn read_valid(fields: &Fields<'_>, mistakes: &mut Vec<Diagnostic>) -> (Option<DateTime>, Option<DateTime>) {
    let Some(node) = fields.get("valid") else { return (None, None) };
    let Some(valid) = Fields::calendar(node, "`valid`", &["from", "until"], mistakes) else { return (None, None) };
    if valid.get("from").is_none() && valid.get("until").is_none() {
        mistakes.push(wrong_type(node, "`valid`", "a map with `from`, `until` or both"));
    }
    let from = valid.local("from", false, mistakes).map(|(at, _)| at);
    let until = valid.local("until", true, mistakes).map(|(at, _)| at);
    if let (Some(from), Some(until)) = (from, until)
        && from >= until
    {
        let reason = "nothing begins in it";
        mistakes.push(mistake("E0124", valid.span, "`valid` ends before it begins".to_owned(), reason, None));
    }
    (from, until)
}
