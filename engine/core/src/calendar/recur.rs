//! Recurrence rules of iCalendar (RRULE): which local times they name. Knows no zone.
//!
//! # Source
//! RFC 5545, section 3.3.10, without BYSECOND, BYYEARDAY, BYWEEKNO and FREQ=SECONDLY, which are refused.

use jiff::civil::{Date, DateTime, Time};

use crate::UtcMs;

mod parse;

pub(super) use parse::{Start, Wrong, parse, stamp};

/// The most occurrences that COUNT may ask for.
pub(super) const COUNT_MAX: u32 = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Freq {
    Minutely,
    Hourly,
    Daily,
    Weekly,
    Monthly,
    Yearly,
}

/// The last occurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    Never,
    Local(DateTime),
    Utc(UtcMs),
}

/// A recurrence rule with its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recur {
    freq: Freq,
    interval: i64,
    start: DateTime,
    until: Until,
    /// Sorted, as are all lists; empty for any.
    months: Vec<i8>,
    month_days: Vec<i8>,
    /// Which one in the month or year (0 for each, negative from the end), and Monday as 0.
    weekdays: Vec<(i16, i8)>,
    hours: Vec<i8>,
    minutes: Vec<i8>,
    positions: Vec<i16>,
    /// The first day of the week; Monday is 0.
    week_start: i8,
}

/// Days since 1970-01-01.
fn day_number(date: Date) -> i64 {
    date.duration_since(Date::constant(1970, 1, 1)).as_hours() / 24
}

fn weekday(date: Date) -> i8 {
    date.weekday().to_monday_zero_offset()
}

impl Recur {
    /// The first local time that the rule names from `from` up to `to`, both among them.
    pub fn next(&self, from: DateTime, to: DateTime) -> Option<DateTime> {
        let from = from.max(self.start);
        let to = if let Until::Local(last) = self.until { to.min(last) } else { to };
        if self.positions.is_empty() { self.next_by_day(from, to) } else { self.next_by_position(from, to) }
    }

    /// The instant behind which there is no occurrence, where the rule says it as one.
    pub fn last_instant(&self) -> Option<UtcMs> {
        if let Until::Utc(at) = self.until { Some(at) } else { None }
    }

    fn next_by_day(&self, from: DateTime, to: DateTime) -> Option<DateTime> {
        let mut date = from.date();
        let mut floor = from.time();
        while date <= to.date() {
            let next = if self.freq == Freq::Yearly && !self.in_period(date) {
                date.last_of_year().tomorrow().ok()?
            } else if self.is_out_of_month(date) || (self.freq == Freq::Monthly && !self.in_period(date)) {
                date.last_of_month().tomorrow().ok()?
            } else {
                if self.in_period(date)
                    && self.takes(date)
                    && let Some(time) = self.time(date, floor)
                {
                    return Some(date.to_datetime(time)).filter(|found| *found <= to);
                }
                date.tomorrow().ok()?
            };
            date = next;
            floor = Time::midnight();
        }
        None
    }

    /// With BYSETPOS the whole set of a period has to be known.
    fn next_by_position(&self, from: DateTime, to: DateTime) -> Option<DateTime> {
        let mut first = self.period_start(from.date());
        while first <= to.date() {
            let last = self.period_end(first)?;
            if self.in_period(first)
                && let Some(found) = self.set(first, last).into_iter().find(|at| *at >= from)
            {
                return Some(found).filter(|found| *found <= to);
            }
            first = last.tomorrow().ok()?;
        }
        None
    }

    fn set(&self, first: Date, last: Date) -> Vec<DateTime> {
        let mut all = Vec::new();
        let mut date = first;
        while date <= last {
            if !self.is_out_of_month(date) && self.takes(date) {
                let mut floor = Some(Time::midnight());
                while let Some(time) = floor.and_then(|floor| self.time(date, floor)) {
                    all.push(date.to_datetime(time));
                    floor = time.checked_add(jiff::ToSpan::seconds(1)).ok();
                }
            }
            match date.tomorrow() {
                Ok(next) => date = next,
                Err(_) => break,
            }
        }
        let len = i16::try_from(all.len()).unwrap_or(i16::MAX);
        let mut places: Vec<i16> = self.positions.iter().map(|at| if *at < 0 { len + at } else { at - 1 }).collect();
        places.sort_unstable();
        places.dedup();
        places.iter().filter_map(|at| usize::try_from(*at).ok().and_then(|at| all.get(at).copied())).collect()
    }

    fn period_start(&self, date: Date) -> Date {
        match self.freq {
            Freq::Yearly => date.first_of_year(),
            Freq::Monthly => date.first_of_month(),
            Freq::Weekly => {
                let back = (weekday(date) - self.week_start).rem_euclid(7);
                date.saturating_sub(jiff::ToSpan::days(i64::from(back)))
            }
            Freq::Daily | Freq::Hourly | Freq::Minutely => date,
        }
    }

    fn period_end(&self, first: Date) -> Option<Date> {
        match self.freq {
            Freq::Yearly => Some(first.last_of_year()),
            Freq::Monthly => Some(first.last_of_month()),
            Freq::Weekly => first.checked_add(jiff::ToSpan::days(6)).ok(),
            Freq::Daily | Freq::Hourly | Freq::Minutely => Some(first),
        }
    }

    /// Whether the year, month, week or day of `date` is one of each INTERVAL-th.
    fn in_period(&self, date: Date) -> bool {
        let start = self.start.date();
        let months = |date: Date| i64::from(date.year()) * 12 + i64::from(date.month());
        // 1970-01-01 was a Thursday.
        let weeks = |date: Date| (day_number(date) + 3 - i64::from(self.week_start)).div_euclid(7);
        let passed = match self.freq {
            Freq::Yearly => i64::from(date.year()) - i64::from(start.year()),
            Freq::Monthly => months(date) - months(start),
            Freq::Weekly => weeks(date) - weeks(start),
            Freq::Daily => day_number(date) - day_number(start),
            Freq::Hourly | Freq::Minutely => 0,
        };
        passed % self.interval == 0
    }

    fn is_out_of_month(&self, date: Date) -> bool {
        !self.months.is_empty() && !self.months.contains(&date.month())
    }

    /// Whether BYMONTHDAY and BYDAY take a day.
    fn takes(&self, date: Date) -> bool {
        let days = date.days_in_month();
        let by_month = self.month_days.is_empty()
            || self
                .month_days
                .iter()
                .any(|day| if *day < 0 { days + day + 1 == date.day() } else { *day == date.day() });
        by_month && (self.weekdays.is_empty() || self.weekdays.iter().any(|(nth, day)| self.is_nth(date, *nth, *day)))
    }

    fn is_nth(&self, date: Date, nth: i16, day: i8) -> bool {
        if weekday(date) != day {
            return false;
        }
        let in_month = self.freq == Freq::Monthly || !self.months.is_empty();
        let (at, of) = if in_month {
            (i16::from(date.day()), i16::from(date.days_in_month()))
        } else {
            (date.day_of_year(), date.days_in_year())
        };
        match nth {
            0 => true,
            1.. => (at - 1) / 7 + 1 == nth,
            _ => (of - at) / 7 + 1 == -nth,
        }
    }

    /// The first time of a day that the rule takes, from `floor` on.
    fn time(&self, date: Date, floor: Time) -> Option<Time> {
        let second = self.start.second();
        for hour in (floor.hour()..24).filter(|hour| self.takes_hour(date, *hour)) {
            let first = if hour == floor.hour() { floor.minute() } else { 0 };
            let minutes = (first..60).filter(|minute| self.takes_minute(date, hour, *minute));
            let found =
                minutes.filter_map(|minute| Time::new(hour, minute, second, 0).ok()).find(|time| *time >= floor);
            if found.is_some() {
                return found;
            }
        }
        None
    }

    fn takes_hour(&self, date: Date, hour: i8) -> bool {
        if !self.hours.is_empty() && !self.hours.contains(&hour) {
            return false;
        }
        match self.freq {
            Freq::Minutely => true,
            Freq::Hourly => {
                let start = day_number(self.start.date()) * 24 + i64::from(self.start.hour());
                (day_number(date) * 24 + i64::from(hour) - start) % self.interval == 0
            }
            Freq::Daily | Freq::Weekly | Freq::Monthly | Freq::Yearly => {
                !self.hours.is_empty() || hour == self.start.hour()
            }
        }
    }

    fn takes_minute(&self, date: Date, hour: i8, minute: i8) -> bool {
        if !self.minutes.is_empty() && !self.minutes.contains(&minute) {
            return false;
        }
        if self.freq == Freq::Minutely {
            let count =
                |date: Date, hour: i8, minute: i8| (day_number(date) * 24 + i64::from(hour)) * 60 + i64::from(minute);
            let start = count(self.start.date(), self.start.hour(), self.start.minute());
            return (count(date, hour, minute) - start) % self.interval == 0;
        }
        !self.minutes.is_empty() || minute == self.start.minute()
    }

    /// Turns "so many" into "until the last of them", which needs no counting later.
    fn counted(mut self, count: u32, end: DateTime) -> Self {
        let mut last = None;
        let mut from = self.start;
        for _ in 0..count {
            let Some(found) = self.next(from, end) else { break };
            last = Some(found);
            from = found.saturating_add(jiff::ToSpan::seconds(1));
        }
        // A rule without any occurrence has none afterwards either.
        self.until = Until::Local(last.unwrap_or(self.start));
        self
    }
}

#[cfg(test)]
mod tests;
