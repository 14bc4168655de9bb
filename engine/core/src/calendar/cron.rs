//! Cron expressions: five fields, the Quartz and AWS forms of six and seven, with `L`, `W` and `#`. Knows no zone.
//!
//! What could be read in two ways is refused, never guessed.

use jiff::civil::{Date, DateTime, Time};

mod parse;

pub(super) use parse::{Wrong, parse};

/// A set of small numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bits(u64);

impl Bits {
    fn has(self, number: i8) -> bool {
        u32::try_from(number).is_ok_and(|number| number < 64 && self.0 >> number & 1 == 1)
    }

    fn insert(&mut self, number: u32) {
        self.0 |= 1 << number;
    }
}

/// What a day has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Day {
    /// Any.
    Any,
    /// One of these days of the month.
    OfMonth(Bits),
    /// So many days before the last of the month.
    BeforeLast(i8),
    /// The weekday nearest to this day, in the same month; the last weekday for 0.
    Nearest(i8),
    /// One of these days of the week; Sunday is 0.
    OfWeek(Bits),
    /// This day of the week, the nth in the month.
    Nth(i8, i8),
    /// This day of the week, the last in the month.
    LastOfWeek(i8),
}

impl Day {
    fn matches(self, date: Date) -> bool {
        let weekday = date.weekday().to_sunday_zero_offset();
        let last = date.days_in_month();
        match self {
            Self::Any => true,
            Self::OfMonth(days) => days.has(date.day()),
            Self::BeforeLast(back) => date.day() == last - back,
            Self::Nearest(day) => nearest_weekday(date, if day == 0 { last } else { day }) == Some(date.day()),
            Self::OfWeek(days) => days.has(weekday),
            Self::Nth(wanted, nth) => weekday == wanted && (date.day() - 1) / 7 + 1 == nth,
            Self::LastOfWeek(wanted) => weekday == wanted && date.day() + 7 > last,
        }
    }
}

/// The day from Monday to Friday that is nearest to day `day` of the month of `date`, without leaving the month.
fn nearest_weekday(date: Date, day: i8) -> Option<i8> {
    let last = date.days_in_month();
    let wanted = Date::new(date.year(), date.month(), day).ok()?;
    let shift = match (wanted.weekday().to_sunday_zero_offset(), day) {
        (6, 1) => 2,
        (6, _) => -1,
        (0, day) if day == last => -2,
        (0, _) => 1,
        _ => 0,
    };
    Some(day + shift)
}

/// A cron expression, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cron {
    seconds: Bits,
    minutes: Bits,
    hours: Bits,
    months: Bits,
    /// One of these.
    days: Vec<Day>,
    /// Sorted; empty for any.
    years: Vec<i16>,
}

impl Cron {
    /// The first local time that matches from `from` up to `to`, both among them.
    pub fn next(&self, from: DateTime, to: DateTime) -> Option<DateTime> {
        let mut date = from.date();
        let mut floor = from.time();
        while date <= to.date() {
            let skipped = if !self.years.is_empty() && self.years.binary_search(&date.year()).is_err() {
                let year = self.years.iter().find(|year| **year > date.year())?;
                Some(Date::new(*year, 1, 1).ok()?)
            } else if !self.months.has(date.month()) {
                Some(date.last_of_month().tomorrow().ok()?)
            } else if self.days.iter().any(|day| day.matches(date)) {
                match self.time(floor) {
                    Some(time) => return Some(date.to_datetime(time)).filter(|found| *found <= to),
                    None => None,
                }
            } else {
                None
            };
            date = match skipped {
                Some(date) => date,
                None => date.tomorrow().ok()?,
            };
            floor = Time::midnight();
        }
        None
    }

    fn time(&self, floor: Time) -> Option<Time> {
        for hour in (floor.hour()..24).filter(|hour| self.hours.has(*hour)) {
            let first_minute = if hour == floor.hour() { floor.minute() } else { 0 };
            for minute in (first_minute..60).filter(|minute| self.minutes.has(*minute)) {
                let same = hour == floor.hour() && minute == floor.minute();
                let first_second = if same { floor.second() } else { 0 };
                if let Some(second) = (first_second..60).find(|second| self.seconds.has(*second)) {
                    return Time::new(hour, minute, second, 0).ok();
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
