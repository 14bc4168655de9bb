//! What only the map of a calendar holds: spans that may be zero, local times, names of other calendars.

use jiff::civil::DateTime;

use crate::Millis;
use crate::diagnostic::{Diagnostic, Span};
use crate::yaml::{Kind, Node};

pub(super) use crate::fields::{Fields, wrong_type};

pub(super) fn mistake(code: &'static str, span: Span, message: String, reason: &str, fix: Option<&str>) -> Diagnostic {
    Diagnostic { code, message, span, reason: reason.to_owned(), fix: fix.map(str::to_owned) }
}

impl<'a> Fields<'a> {
    /// Opens the map of a calendar, or one inside of it.
    pub(super) fn calendar(
        node: &'a Node,
        what: &str,
        known: &'static [&'static str],
        mistakes: &mut Vec<Diagnostic>,
    ) -> Option<Self> {
        Self::open_below(node, what, (known, |_| None), mistakes)
    }

    /// Says that `key` is missing, where it is.
    pub(super) fn demanded(
        &self,
        key: &str,
        what: &str,
        reason: &str,
        fix: &str,
        mistakes: &mut Vec<Diagnostic>,
    ) -> bool {
        let found = self.get(key).is_some();
        if !found {
            let place = Span::at(self.span.start, 1);
            mistakes.push(mistake("E0104", place, format!("{what} has no `{key}`"), reason, Some(fix)));
        }
        found
    }

    /// A text, and where it stands.
    pub(super) fn placed(&self, key: &str, mistakes: &mut Vec<Diagnostic>) -> Option<(&'a str, Span)> {
        Some((self.text(key, mistakes)?, self.get(key)?.span))
    }

    /// A span of time; zero is one.
    pub(super) fn duration(&self, key: &str, mistakes: &mut Vec<Diagnostic>) -> Option<(Millis, Span)> {
        let node = self.get(key)?;
        let written = match &node.kind {
            Kind::Text(text) => text.clone(),
            Kind::Other(value) => value.to_string(),
            Kind::List(_) | Kind::Map(_) => {
                mistakes.push(wrong_type(node, &format!("`{key}`"), "a duration such as 4h"));
                return None;
            }
        };
        match written.parse::<Millis>() {
            Ok(span) => Some((span, node.span)),
            Err(_) if written == "0" => Some((Millis(0), node.span)),
            Err(error) => {
                let fix = written.parse::<u64>().is_ok().then(|| format!("write `{written}h` for hours"));
                let message = format!("`{key}` is no duration");
                mistakes.push(mistake("E0125", node.span, message, &error.to_string(), fix.as_deref()));
                None
            }
        }
    }

    /// A local time; a date alone is its first instant, or behind its last day where it is an `end`.
    pub(super) fn local(&self, key: &str, end: bool, mistakes: &mut Vec<Diagnostic>) -> Option<(DateTime, Span)> {
        let (text, span) = self.placed(key, mistakes)?;
        let found = local(text, end);
        if found.is_none() {
            let reason = "a local time is written 2026-12-20T22:00, a day 2026-12-20; the zone stands in `timezone`";
            mistakes.push(mistake("E0124", span, format!("`{key}` is no local time: `{text}`"), reason, None));
        }
        found.map(|at| (at, span))
    }

    /// Names of other calendars.
    pub(super) fn names(&self, key: &str, mistakes: &mut Vec<Diagnostic>) -> Vec<(String, Span)> {
        let Some(node) = self.get(key) else { return Vec::new() };
        let items = match &node.kind {
            Kind::List(items) => items.as_slice(),
            Kind::Text(_) => std::slice::from_ref(node),
            Kind::Other(_) | Kind::Map(_) => {
                mistakes.push(wrong_type(node, &format!("`{key}`"), "a list of names of calendars"));
                return Vec::new();
            }
        };
        if items.is_empty() {
            let reason = "it names the calendars that it is made of";
            mistakes.push(mistake("E0126", node.span, format!("`{key}` is empty"), reason, Some("name at least one")));
        }
        let mut names = Vec::new();
        for item in items {
            match &item.kind {
                Kind::Text(name) => names.push((name.clone(), item.span)),
                Kind::Other(_) | Kind::List(_) | Kind::Map(_) => {
                    mistakes.push(wrong_type(item, "this", "the name of a calendar"));
                }
            }
        }
        names
    }
}

/// A local time or day as it is written in a calendar.
pub(super) fn local(text: &str, end: bool) -> Option<DateTime> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b':' | b'T' | b' '));
    if !plain || text.len() < 10 {
        return None;
    }
    if text.len() == 10 {
        let day: jiff::civil::Date = text.parse().ok()?;
        let first = if end { day.tomorrow().ok()? } else { day };
        return Some(first.at(0, 0, 0, 0));
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::local;

    #[test]
    fn local_times_have_no_zone_and_days_are_whole() {
        for (text, end, expected) in [
            ("2026-12-20", false, "2026-12-20T00:00:00"),
            ("2026-12-20", true, "2026-12-21T00:00:00"),
            ("2026-12-20T22:00", true, "2026-12-20T22:00:00"),
            ("2026-12-20 22:00:30", false, "2026-12-20T22:00:30"),
        ] {
            assert_eq!(local(text, end).unwrap().to_string(), expected);
        }
        for text in ["", "tomorrow", "2026-12-20T22:00Z", "2026-12-20T22:00+01:00", "2026-02-30", "22:00", "2026-13-01"]
        {
            assert_eq!(local(text, false), None, "{text}");
        }
    }
}
