//! What only the maps of a definition hold: values with expressions, spans of time, names.

use crate::diagnostic::{Diagnostic, Span};
use crate::template::Template;
use crate::yaml::{Key, Kind, Node};
use crate::{Millis, StepName};

pub(super) use crate::fields::{Fields, bad_value, text, wrong_type};

/// The key under which a key stands that is often written one level too high.
fn home(key: &str) -> Option<&'static str> {
    match key {
        "waves" | "per" | "tolerate" | "max_parallel" | "items" => Some("for_each"),
        "attempts" | "backoff" | "max_backoff" | "jitter" | "except" | "only" => Some("retry"),
        "heartbeat" | "queue" | "total" => Some("timeout"),
        "signal" | "quorum" | "roles" | "until" | "on_timeout" => Some("wait"),
        "cron" | "rrule" | "every" | "overlap" | "catch_up" => Some("schedule"),
        "soak" | "gate" => Some("waves"),
        _ => None,
    }
}

pub(super) fn misfit(span: Span, message: String, reason: &str, fix: &str) -> Diagnostic {
    Diagnostic { code: "E0107", message, span, reason: reason.to_owned(), fix: Some(fix.to_owned()) }
}

impl<'a> Fields<'a> {
    /// Opens the map `node`, called `what` in messages, in which only the `known` keys may stand.
    pub fn open(
        node: &'a Node,
        what: &str,
        known: &'static [&'static str],
        mistakes: &mut Vec<Diagnostic>,
    ) -> Option<Self> {
        Self::open_below(node, what, (known, home), mistakes)
    }

    pub fn required(&self, key: &str, what: &str, mistakes: &mut Vec<Diagnostic>) -> Option<&'a Node> {
        let found = self.get(key);
        if found.is_none() && !self.misspells(&[key]) {
            mistakes.push(Diagnostic {
                code: "E0104",
                message: format!("{what} has no `{key}`"),
                span: Span::at(self.span.start, 1),
                reason: format!("`{key}` is required here"),
                fix: Some(format!("add `{key}: …`")),
            });
        }
        found
    }

    pub fn template(&self, key: &str, source: &str, mistakes: &mut Vec<Diagnostic>) -> Option<Template> {
        self.get(key).map(|node| Template::read(node, source, mistakes))
    }

    pub fn span_of_time(&self, key: &str, mistakes: &mut Vec<Diagnostic>) -> Option<Millis> {
        duration(self.get(key)?, &format!("`{key}`"), mistakes)
    }
}

pub(super) fn duration(node: &Node, what: &str, mistakes: &mut Vec<Diagnostic>) -> Option<Millis> {
    let written = match &node.kind {
        Kind::Text(text) => text.clone(),
        Kind::Other(value) => value.to_string(),
        Kind::List(_) | Kind::Map(_) => {
            mistakes.push(wrong_type(node, what, "a duration such as 30s"));
            return None;
        }
    };
    match written.parse::<Millis>() {
        Ok(span) if span.0 > 0 => Some(span),
        Ok(_) => {
            mistakes.push(bad_value(
                node.span,
                format!("{what} is zero"),
                "a span of time is longer than nothing",
                None,
            ));
            None
        }
        Err(error) => {
            let fix = written.parse::<u64>().is_ok().then(|| format!("write `{written}s` for seconds"));
            mistakes.push(bad_value(node.span, format!("{what} is no duration"), &error.to_string(), fix));
            None
        }
    }
}

/// A name of the language: lower case, digits and `separator`, starting with a letter, at most 64 characters.
pub(super) fn name(key: &Key, what: &str, separator: char, mistakes: &mut Vec<Diagnostic>) -> Option<StepName> {
    let good = key.text.len() <= 64
        && key.text.starts_with(|c: char| c.is_ascii_lowercase())
        && key.text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == separator);
    if good {
        return Some(StepName::from(key.text.as_str()));
    }
    let tidy: String = key.text.to_lowercase().replace([' ', '-', '_', '.'], &separator.to_string());
    mistakes.push(bad_value(
        key.span,
        format!("`{}` is no name for {what}", key.text),
        &format!("a name is made of a-z, 0-9 and `{separator}`, begins with a letter and has at most 64 characters"),
        Some(format!("write `{tidy}`")),
    ));
    None
}
