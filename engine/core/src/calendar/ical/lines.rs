//! The lines of an iCalendar text: unfolded, taken apart, gathered into events.

use jiff::civil::DateTime;

use super::{Wrong, wrong};
use crate::UtcMs;
use crate::calendar::recur;
use crate::calendar::zone::Zone;

/// One line: its name, its parameters, its value.
#[derive(Clone, Debug)]
pub(super) struct Property {
    pub line: usize,
    name: String,
    params: Vec<(String, String)>,
    pub value: String,
}

/// A time as it is written.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    pub local: DateTime,
    pub zone: Zone,
    pub whole_day: bool,
}

impl Moment {
    pub fn instant(&self, line: usize) -> Result<UtcMs, Wrong> {
        let outside = || wrong(line, format!("{} is out of range", self.local), "times are from 1970 to 9998");
        self.zone.instant(self.local).ok_or_else(outside)
    }
}

/// One event.
#[derive(Clone, Debug)]
pub(super) struct Component {
    pub line: usize,
    properties: Vec<Property>,
}

impl Component {
    pub fn one(&self, name: &str) -> Option<&Property> {
        self.properties.iter().find(|property| property.name == name)
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Property> {
        self.properties.iter().filter(move |property| property.name == name)
    }
}

impl Property {
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Its value as one time.
    pub fn moment(&self, zone: Option<&Zone>) -> Result<Moment, Wrong> {
        self.read(&self.value, zone)
    }

    /// Its value as a list of times.
    pub fn moments(&self, zone: Option<&Zone>) -> Result<Vec<Moment>, Wrong> {
        self.value.split(',').map(|value| self.read(value, zone)).collect()
    }

    fn read(&self, value: &str, zone: Option<&Zone>) -> Result<Moment, Wrong> {
        if self.param("VALUE") == Some("PERIOD") {
            return Err(wrong(self.line, "periods are not read", "an RDATE is a list of days or of times"));
        }
        let (text, utc) = value.strip_suffix('Z').map_or((value, false), |text| (text, true));
        let Some(local) = recur::stamp(text) else {
            let reason = "it is written 20261220, 20261220T220000 or 20261220T220000Z";
            return Err(wrong(self.line, format!("`{value}` is no time"), reason));
        };
        let whole_day = text.len() == 8;
        let zone = match self.param("TZID") {
            _ if utc => Zone::get("UTC"),
            Some(name) => {
                let reason = "zones are taken by their IANA name, such as Europe/Berlin, or a common Windows name";
                let unknown = || wrong(self.line, format!("there is no time zone `{name}`"), reason);
                Some(Zone::get_any(name.trim_start_matches('/')).ok_or_else(unknown)?)
            }
            None => zone.cloned(),
        };
        let reason = "whole days and times without a TZID are local: give the calendar a `timezone`";
        let zone = zone.ok_or_else(|| wrong(self.line, format!("`{value}` has no time zone"), reason))?;
        Ok(Moment { local, zone, whole_day })
    }
}

/// The events of a text.
pub(super) fn components(text: &str) -> Result<Vec<Component>, Wrong> {
    let mut open: Vec<String> = Vec::new();
    let mut events: Vec<Component> = Vec::new();
    let mut calendars = 0;
    for (line, text) in unfold(text) {
        let property = property(line, &text)?;
        let value = property.value.to_ascii_uppercase();
        match property.name.as_str() {
            "BEGIN" => {
                if open.is_empty() {
                    if value != "VCALENDAR" {
                        return Err(wrong(line, "this is no iCalendar text", "it begins with BEGIN:VCALENDAR"));
                    }
                    calendars += 1;
                }
                if value == "VEVENT" {
                    events.push(Component { line, properties: Vec::new() });
                }
                open.push(value);
            }
            "END" => {
                if open.pop().as_ref() != Some(&value) {
                    return Err(wrong(line, format!("END:{value} closes nothing"), "it closes what BEGIN opened last"));
                }
            }
            _ => {
                // Alarms stand within an event and have times of their own.
                if open.last().is_some_and(|name| name == "VEVENT")
                    && let Some(event) = events.last_mut()
                {
                    event.properties.push(property);
                } else if open.is_empty() {
                    return Err(wrong(line, "this is no iCalendar text", "it begins with BEGIN:VCALENDAR"));
                }
            }
        }
    }
    match open.last() {
        Some(name) => Err(wrong(text.lines().count(), format!("{name} is not closed"), "each BEGIN has its END")),
        None if calendars == 0 => Err(wrong(1, "this is no iCalendar text", "it begins with BEGIN:VCALENDAR")),
        None => Ok(events),
    }
}

/// A line that begins with white space goes on from the one before.
fn unfold(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        match (line.strip_prefix([' ', '\t']), lines.last_mut()) {
            (Some(rest), Some((_, last))) => last.push_str(rest),
            _ if line.trim().is_empty() => {}
            _ => lines.push((at + 1, line.trim_start_matches('\u{feff}').to_owned())),
        }
    }
    lines
}

fn property(line: usize, text: &str) -> Result<Property, Wrong> {
    let mut quoted = false;
    let mut cuts = Vec::new();
    let mut colon = None;
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            ';' if !quoted => cuts.push(at),
            ':' if !quoted => {
                colon = Some(at);
                break;
            }
            _ => {}
        }
    }
    let Some(colon) = colon else {
        return Err(wrong(line, "a line has no `:`", "a line is NAME;PARAMETER=VALUE:VALUE"));
    };
    let ends = cuts.iter().copied().skip(1).chain([colon]);
    let params = cuts.iter().zip(ends).filter_map(|(from, to)| {
        let (name, value) = text[from + 1..to].split_once('=')?;
        Some((name.to_ascii_uppercase(), value.trim_matches('"').to_owned()))
    });
    let name = &text[..cuts.first().copied().unwrap_or(colon)];
    Ok(Property {
        line,
        name: name.to_ascii_uppercase(),
        params: params.collect(),
        value: text[colon + 1..].trim().to_owned(),
    })
}
