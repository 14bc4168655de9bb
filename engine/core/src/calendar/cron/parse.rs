//! From the text of a cron expression to what it means. Every mistake says which field, and why.

use super::{Bits, Cron, Day};

const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const YEARS: (u32, u32) = (1970, 2199);

/// Why a text is no cron expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::calendar) struct Wrong {
    pub code: &'static str,
    pub message: String,
    pub reason: String,
    pub fix: Option<String>,
}

fn wrong(message: impl Into<String>, reason: impl Into<String>) -> Wrong {
    Wrong { code: "E0120", message: message.into(), reason: reason.into(), fix: None }
}

fn unclear(message: &str, reason: &str, fix: &str) -> Wrong {
    Wrong { code: "E0121", message: message.into(), reason: reason.into(), fix: Some(fix.into()) }
}

/// How the days of the week are counted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Week {
    /// 0 and 7 are Sunday, as in crontab(5).
    Unix,
    /// 1 is Sunday, as in Quartz and AWS.
    Quartz,
}

/// Reads a cron expression, in or without `cron(…)`.
///
/// # Source
/// crontab(5) for five fields; the Quartz scheduler's `CronExpression` and the AWS reference of cron expressions for
/// six and seven.
pub(in crate::calendar) fn parse(text: &str) -> Result<Cron, Wrong> {
    let inner = text.trim().strip_prefix("cron(").map(|rest| rest.strip_suffix(')'));
    let aws = inner.is_some();
    let body = match inner {
        None => text.trim(),
        Some(Some(inner)) => inner,
        Some(None) => return Err(wrong("`cron(` is not closed", "the AWS form is written cron(0 16 ? * TUE *)")),
    };
    let fields: Vec<&str> = body.split_ascii_whitespace().collect();
    match *fields.as_slice() {
        [minute, hour, day, month, weekday] if !aws => cron(["0", minute, hour, day, month, weekday, "*"], Week::Unix),
        [minute, hour, day, month, weekday, year] if aws => {
            cron(["0", minute, hour, day, month, weekday, year], Week::Quartz)
        }
        [a, b, c, d, e, f] => six([a, b, c, d, e, f]),
        [second, minute, hour, day, month, weekday, year] => {
            cron([second, minute, hour, day, month, weekday, year], Week::Quartz)
        }
        _ => Err(count(text, fields.len(), aws)),
    }
}

fn count(text: &str, count: usize, aws: bool) -> Wrong {
    let reason = if aws {
        "cron(…) has six fields: minute, hour, day of month, month, day of week, year; seven with the second in front"
    } else {
        "a cron expression has five fields: minute, hour, day of month, month, day of week; Quartz and AWS have six or \
         seven, with the second in front or the year behind"
    };
    let mut found = wrong(format!("this cron expression has {count} fields"), reason);
    let named = [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@weekly", "0 0 * * SUN"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
    ];
    found.fix = named.iter().find(|(name, _)| *name == text.trim()).map(|(_, long)| format!("write `{long}`"));
    found
}

/// Six fields have the second in front (Quartz) or the year behind (AWS): whichever makes sense, if only one does.
fn six([a, b, c, d, e, f]: [&str; 6]) -> Result<Cron, Wrong> {
    let seconds = cron([a, b, c, d, e, f, "*"], Week::Quartz);
    let years = cron(["0", a, b, c, d, e, f], Week::Quartz);
    match (seconds, years) {
        (Ok(_), Ok(_)) => Err(unclear(
            "these six fields can be read in two ways",
            "Quartz puts the second in front, AWS the year behind",
            "put `?` for the day that does not matter, or write five fields, or seven with second and year",
        )),
        (Ok(cron), Err(_)) | (Err(_), Ok(cron)) => Ok(cron),
        // What is wrong depends on which of the two was meant: `?` and the year tell it.
        (Err(seconds), Err(years)) => {
            let year = f == "*" || f.len() >= 4 && f.starts_with(|c: char| c.is_ascii_digit());
            Err(if c == "?" || e == "?" || year { years } else { seconds })
        }
    }
}

fn cron([second, minute, hour, day, month, weekday, year]: [&str; 7], week: Week) -> Result<Cron, Wrong> {
    let plain = |text, what, range| numbers(text, &Field { what, range, names: &[], first: 0 });
    let months = Field { what: "month", range: (1, 12), names: &MONTHS, first: 1 };
    let years = if year == "*" { Vec::new() } else { list(year, &Field::year())? };
    Ok(Cron {
        seconds: plain(second, "second", (0, 59))?,
        minutes: plain(minute, "minute", (0, 59))?,
        hours: plain(hour, "hour", (0, 23))?,
        months: numbers(month, &months)?,
        days: days(day, weekday, week)?,
        years: years.into_iter().filter_map(|year| i16::try_from(year).ok()).collect(),
    })
}

fn days(day: &str, weekday: &str, week: Week) -> Result<Vec<Day>, Wrong> {
    let free = |field: &str| matches!(field, "*" | "?");
    match (free(day), free(weekday)) {
        (true, true) if day == "?" && weekday == "?" => Err(wrong(
            "neither the day of the month nor the day of the week is given",
            "`?` says that the other one of the two decides",
        )),
        (true, true) => Ok(vec![Day::Any]),
        (false, true) => days_of_month(day),
        (true, false) => days_of_week(weekday, week),
        (false, false) => Err(unclear(
            "both the day of the month and the day of the week are given",
            "crontab(5) takes days that are either, other schedulers days that are both",
            "write TUE#2 for the second Tuesday, FRIL for the last Friday, or two calendars under `any_of`",
        )),
    }
}

fn days_of_month(text: &str) -> Result<Vec<Day>, Wrong> {
    let field = Field { what: "day of month", range: (1, 31), names: &[], first: 0 };
    let mut days = Vec::new();
    let mut plain = Bits::default();
    for item in text.split(',') {
        let upper = item.to_ascii_uppercase();
        if upper == "L" {
            days.push(Day::BeforeLast(0));
        } else if upper == "LW" || upper == "WL" {
            days.push(Day::Nearest(0));
        } else if let Some(back) = upper.strip_prefix("L-") {
            let back = field.number(back)?;
            if back > 30 {
                return Err(field.wrong(item, "a month has no day that long before its last"));
            }
            days.push(Day::BeforeLast(small(back)));
        } else if let Some(day) = upper.strip_suffix('W') {
            days.push(Day::Nearest(small(field.number(day)?)));
        } else {
            field.item(item, &mut |number| plain.insert(number))?;
        }
    }
    if plain != Bits::default() {
        days.push(Day::OfMonth(plain));
    }
    Ok(days)
}

fn days_of_week(text: &str, week: Week) -> Result<Vec<Day>, Wrong> {
    let (range, first) = if week == Week::Unix { ((0, 7), 0) } else { ((1, 7), 1) };
    let field = Field { what: "day of week", range, names: &WEEKDAYS, first };
    // Sunday is 0, whichever way it was counted.
    let sunday_zero = |number: u32| (number - first) % 7;
    let mut days = Vec::new();
    let mut plain = Bits::default();
    for item in text.split(',') {
        let upper = item.to_ascii_uppercase();
        if let Some((day, nth)) = upper.split_once('#') {
            let nth = nth.parse::<u32>().ok().filter(|nth| (1..=5).contains(nth));
            let nth = nth.ok_or_else(|| field.wrong(item, "behind `#` stands which one in the month, 1 to 5"))?;
            days.push(Day::Nth(small(sunday_zero(field.number(day)?)), small(nth)));
        } else if upper == "L" {
            let mut found = field.wrong(item, "`L` needs the day whose last one in the month is meant");
            found.fix = Some("write FRIL for the last Friday, or SAT for every Saturday".into());
            return Err(found);
        } else if let Some(day) = upper.strip_suffix('L') {
            days.push(Day::LastOfWeek(small(sunday_zero(field.number(day)?))));
        } else {
            field.item(item, &mut |number| plain.insert(sunday_zero(number)))?;
        }
    }
    if plain != Bits::default() {
        days.push(Day::OfWeek(plain));
    }
    Ok(days)
}

fn small(number: u32) -> i8 {
    i8::try_from(number).expect("a field of days has no number beyond 31")
}

/// What one field takes.
struct Field<'a> {
    what: &'a str,
    range: (u32, u32),
    names: &'a [&'a str],
    /// The number of the first name.
    first: u32,
}

impl Field<'_> {
    fn year() -> Self {
        Self { what: "year", range: YEARS, names: &[], first: 0 }
    }

    fn wrong(&self, item: &str, reason: &str) -> Wrong {
        wrong(format!("`{item}` is no {} of a cron expression", self.what), reason)
    }

    fn number(&self, text: &str) -> Result<u32, Wrong> {
        let named = self.names.iter().zip(self.first..).find(|(name, _)| name.eq_ignore_ascii_case(text));
        if let Some((_, number)) = named {
            return Ok(number);
        }
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let (low, high) = self.range;
        match text.parse::<u32>().ok().filter(|number| digits && (low..=high).contains(number)) {
            Some(number) => Ok(number),
            None => {
                let names = self.names.first().zip(self.names.last());
                let names = names.map(|(first, last)| format!(" or {first} to {last}")).unwrap_or_default();
                Err(self.wrong(text, &format!("it is a number from {low} to {high}{names}")))
            }
        }
    }

    /// One item of a list: `*`, `a`, `a-b`, each with `/step`.
    fn item(&self, item: &str, take: &mut dyn FnMut(u32)) -> Result<(), Wrong> {
        let (low, high) = self.range;
        // Sunday as 7 is another name for 0, which a range without an end does not reach.
        let high = if self.names.len() == 7 { self.first + 6 } else { high };
        let (base, step) = match item.split_once('/') {
            None => (item, None),
            Some((base, step)) => {
                let number = step.parse::<u32>().ok().filter(|step| *step > 0 && *step <= high);
                let reason = format!("behind `/` stands a step from 1 to {high}");
                (base, Some(number.ok_or_else(|| self.wrong(item, &reason))?))
            }
        };
        let (from, to) = if base == "*" {
            (low, high)
        } else if let Some((from, to)) = base.split_once('-') {
            (self.number(from)?, self.number(to)?)
        } else {
            let from = self.number(base)?;
            (from, if step.is_some() { high } else { from })
        };
        let step = step.unwrap_or(1);
        if from <= to {
            (from..=to).step_by(usize::try_from(step).unwrap_or(usize::MAX)).for_each(take);
            return Ok(());
        }
        if self.names.len() != 7 {
            return Err(self.wrong(item, "the range ends before it begins; write two, such as 22-23,0-2"));
        }
        // FRI-MON goes over the end of the week.
        let around = (from..=to + 7).step_by(usize::try_from(step).unwrap_or(usize::MAX));
        around.map(|number| if number > high { number - 7 } else { number }).for_each(take);
        Ok(())
    }
}

fn numbers(text: &str, field: &Field<'_>) -> Result<Bits, Wrong> {
    let mut bits = Bits::default();
    for item in text.split(',') {
        field.item(item, &mut |number| bits.insert(number))?;
    }
    Ok(bits)
}

fn list(text: &str, field: &Field<'_>) -> Result<Vec<u32>, Wrong> {
    let mut found = Vec::new();
    for item in text.split(',') {
        field.item(item, &mut |number| found.push(number))?;
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}
