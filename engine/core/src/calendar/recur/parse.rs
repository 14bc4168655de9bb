//! From the text of a recurrence rule to what it means. What is not supported is a mistake, never passed over.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};

use super::{COUNT_MAX, Freq, Recur, Until, weekday};
use crate::UtcMs;

const WEEKDAYS: [&str; 7] = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"];
const INTERVAL_MAX: i64 = 100_000;

/// Why a text is no recurrence rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::calendar) struct Wrong {
    pub code: &'static str,
    pub message: String,
    pub reason: String,
}

fn wrong(message: impl Into<String>, reason: impl Into<String>) -> Wrong {
    Wrong { code: "E0122", message: message.into(), reason: reason.into() }
}

fn needs_start(what: &str) -> Wrong {
    Wrong {
        code: "E0127",
        message: format!("{what} needs a `start`"),
        reason: "it is counted or taken from the first occurrence".into(),
    }
}

/// Where a rule begins.
#[derive(Clone, Copy, Debug)]
pub(in crate::calendar) enum Start {
    /// At this local time.
    At(DateTime),
    /// Nobody said: at the beginning of all days that the rule names by itself.
    Open,
}

/// Reads the value of an RRULE, with or without `RRULE:` in front.
pub(in crate::calendar) fn parse(text: &str, start: Start) -> Result<Recur, Wrong> {
    let text = text.trim();
    let text = text.strip_prefix("RRULE:").unwrap_or(text);
    let mut parts: Vec<(String, &str)> = Vec::new();
    for part in text.split(';').filter(|part| !part.is_empty()) {
        let (key, value) =
            part.split_once('=').ok_or_else(|| wrong(format!("`{part}` has no `=`"), "a part is NAME=VALUE"))?;
        let key = key.trim().to_ascii_uppercase();
        if parts.iter().any(|(known, _)| *known == key) {
            return Err(wrong(format!("{key} stands twice"), "each part stands once in a rule"));
        }
        parts.push((key, value.trim()));
    }
    let at = match start {
        Start::At(at) => at,
        Start::Open => Date::constant(1970, 1, 1).to_datetime(Time::midnight()),
    };
    let freq = freq(&parts)?;
    let mut rule = Recur {
        freq,
        interval: 1,
        start: at,
        until: Until::Never,
        months: Vec::new(),
        month_days: Vec::new(),
        weekdays: Vec::new(),
        hours: Vec::new(),
        minutes: Vec::new(),
        positions: Vec::new(),
        week_start: 0,
    };
    let mut count = None;
    for (key, value) in parts.iter().filter(|(key, _)| key != "FREQ") {
        take(&mut rule, &mut count, key, value)?;
    }
    check(&rule, count)?;
    if matches!(start, Start::Open) {
        check_open(&rule, count)?;
    }
    derive(&mut rule);
    let end = Date::constant(9998, 12, 31).at(23, 59, 59, 0);
    Ok(match count {
        Some(count) => rule.counted(count, end),
        None => rule,
    })
}

fn freq(parts: &[(String, &str)]) -> Result<Freq, Wrong> {
    let reason = "FREQ is YEARLY, MONTHLY, WEEKLY, DAILY, HOURLY or MINUTELY";
    let Some((_, value)) = parts.iter().find(|(key, _)| key == "FREQ") else {
        return Err(wrong("the rule has no FREQ", reason));
    };
    match value.to_ascii_uppercase().as_str() {
        "YEARLY" => Ok(Freq::Yearly),
        "MONTHLY" => Ok(Freq::Monthly),
        "WEEKLY" => Ok(Freq::Weekly),
        "DAILY" => Ok(Freq::Daily),
        "HOURLY" => Ok(Freq::Hourly),
        "MINUTELY" => Ok(Freq::Minutely),
        _ => Err(wrong(format!("FREQ={value} is not read"), reason)),
    }
}

fn take(rule: &mut Recur, count: &mut Option<u32>, key: &str, value: &str) -> Result<(), Wrong> {
    match key {
        "INTERVAL" => rule.interval = number(key, value, 1, INTERVAL_MAX)?,
        "COUNT" => *count = Some(number(key, value, 1, i64::from(COUNT_MAX))?),
        "UNTIL" => rule.until = until(value)?,
        "BYMONTH" => rule.months = numbers(key, value, 1, 12)?,
        "BYMONTHDAY" => rule.month_days = signed(key, value, 31)?,
        "BYDAY" => rule.weekdays = value.split(',').map(by_day).collect::<Result<_, _>>()?,
        "BYHOUR" => rule.hours = numbers(key, value, 0, 23)?,
        "BYMINUTE" => rule.minutes = numbers(key, value, 0, 59)?,
        "BYSETPOS" => rule.positions = signed(key, value, 366)?,
        "WKST" => rule.week_start = day(value)?,
        _ => {
            let known = "FREQ, INTERVAL, COUNT, UNTIL, BYMONTH, BYMONTHDAY, BYDAY, BYHOUR, BYMINUTE, BYSETPOS and WKST";
            return Err(wrong(format!("{key} is not read"), format!("a rule knows {known} here")));
        }
    }
    Ok(())
}

fn number<T: TryFrom<i64>>(key: &str, text: &str, low: i64, high: i64) -> Result<T, Wrong> {
    let found = text.parse::<i64>().ok().filter(|number| (low..=high).contains(number) && !text.starts_with('+'));
    let found = found.and_then(|number| T::try_from(number).ok());
    found.ok_or_else(|| wrong(format!("{key}={text} is out of its range"), format!("it is {low} to {high}")))
}

fn numbers(key: &str, text: &str, low: i64, high: i64) -> Result<Vec<i8>, Wrong> {
    let mut found: Vec<i8> = text.split(',').map(|item| number(key, item, low, high)).collect::<Result<_, _>>()?;
    found.sort_unstable();
    Ok(found)
}

/// Numbers from 1 to `high`, or from -1 to `-high`, counted from the end.
fn signed<T: TryFrom<i64>>(key: &str, text: &str, high: i64) -> Result<Vec<T>, Wrong> {
    let one = |item: &str| match item.strip_prefix('+').unwrap_or(item) {
        "0" | "-0" => Err(wrong(format!("{key} has a 0"), "it counts from 1, or from -1 from the end")),
        item => number(key, item, -high, high),
    };
    text.split(',').map(one).collect()
}

fn day(text: &str) -> Result<i8, Wrong> {
    let found = WEEKDAYS.iter().position(|name| name.eq_ignore_ascii_case(text));
    let found = found.and_then(|at| i8::try_from(at).ok());
    found.ok_or_else(|| wrong(format!("`{text}` is no day of the week"), "they are MO, TU, WE, TH, FR, SA and SU"))
}

fn by_day(item: &str) -> Result<(i16, i8), Wrong> {
    let at = item.len().checked_sub(2).filter(|at| item.is_char_boundary(*at)).unwrap_or(0);
    let (nth, name) = item.split_at(at);
    let nth = match nth.strip_prefix('+').unwrap_or(nth) {
        "" => 0,
        nth => signed("BYDAY", nth, 53)?.first().copied().unwrap_or(0),
    };
    Ok((nth, day(name)?))
}

/// A day is meant whole; with a `Z` it is an instant.
fn until(text: &str) -> Result<Until, Wrong> {
    let bad = || wrong(format!("UNTIL={text} is no time"), "it is 20261231, 20261231T220000 or 20261231T220000Z");
    let (local, utc) = text.strip_suffix('Z').map_or((text, false), |local| (local, true));
    let at = stamp(local).ok_or_else(bad)?;
    if !utc {
        return Ok(Until::Local(if local.len() == 8 { at.date().at(23, 59, 59, 0) } else { at }));
    }
    let at = jiff::tz::Offset::UTC.to_timestamp(at).map_err(|_| bad())?;
    Ok(Until::Utc(utc_ms(at).ok_or_else(bad)?))
}

fn utc_ms(at: Timestamp) -> Option<UtcMs> {
    u64::try_from(at.as_millisecond()).ok().map(UtcMs)
}

/// A date or a date with a time, as iCalendar writes them: `20261231`, `20261231T220000`.
pub(in crate::calendar) fn stamp(text: &str) -> Option<DateTime> {
    let digits = |from: usize, to: usize| {
        let part = text.get(from..to).filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()))?;
        part.parse::<i16>().ok()
    };
    let two = |from: usize| digits(from, from + 2).and_then(|number| i8::try_from(number).ok());
    let date = Date::new(digits(0, 4)?, two(4)?, two(6)?).ok()?;
    match text.len() {
        8 => Some(date.to_datetime(Time::midnight())),
        15 if text.as_bytes()[8] == b'T' => {
            // A leap second is the one before it, as RFC 5545 wants where there are none.
            Some(date.to_datetime(Time::new(two(9)?, two(11)?, two(13)?.min(59), 0).ok()?))
        }
        _ => None,
    }
}

fn check(rule: &Recur, count: Option<u32>) -> Result<(), Wrong> {
    if count.is_some() && rule.until != Until::Never {
        return Err(wrong("COUNT and UNTIL stand together", "a rule ends by the one or by the other"));
    }
    let numbered = rule.weekdays.iter().any(|(nth, _)| *nth != 0);
    if numbered && !matches!(rule.freq, Freq::Monthly | Freq::Yearly) {
        return Err(wrong("BYDAY counts days here", "2TU needs FREQ=MONTHLY or FREQ=YEARLY"));
    }
    if rule.freq == Freq::Weekly && !rule.month_days.is_empty() {
        return Err(wrong("BYMONTHDAY stands in a weekly rule", "it needs another FREQ"));
    }
    if !rule.positions.is_empty() && matches!(rule.freq, Freq::Hourly | Freq::Minutely) {
        return Err(wrong("BYSETPOS is not read here", "it needs FREQ=DAILY, WEEKLY, MONTHLY or YEARLY"));
    }
    let by = rule.months.len() + rule.month_days.len() + rule.weekdays.len() + rule.hours.len() + rule.minutes.len();
    if !rule.positions.is_empty() && by == 0 {
        return Err(wrong("BYSETPOS stands alone", "it chooses from what another BY… part names"));
    }
    Ok(())
}

/// Without a start nothing may depend on it but the time of day, which is midnight.
fn check_open(rule: &Recur, count: Option<u32>) -> Result<(), Wrong> {
    if count.is_some() {
        return Err(needs_start("COUNT"));
    }
    if rule.interval > 1 {
        return Err(needs_start("INTERVAL"));
    }
    let day = !rule.weekdays.is_empty() || !rule.month_days.is_empty();
    match rule.freq {
        Freq::Yearly if !day => Err(needs_start("a yearly rule without BYDAY or BYMONTHDAY")),
        Freq::Monthly if !day => Err(needs_start("a monthly rule without BYDAY or BYMONTHDAY")),
        Freq::Weekly if !day => Err(needs_start("a weekly rule without BYDAY")),
        _ => Ok(()),
    }
}

/// What the rule leaves open, its start says.
fn derive(rule: &mut Recur) {
    if !rule.weekdays.is_empty() || !rule.month_days.is_empty() {
        return;
    }
    match rule.freq {
        Freq::Yearly => {
            if rule.months.is_empty() {
                rule.months = vec![rule.start.month()];
            }
            rule.month_days = vec![rule.start.day()];
        }
        Freq::Monthly => rule.month_days = vec![rule.start.day()],
        Freq::Weekly => rule.weekdays = vec![(0, weekday(rule.start.date()))],
        Freq::Daily | Freq::Hourly | Freq::Minutely => {}
    }
}
