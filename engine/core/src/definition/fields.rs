//! Taking a YAML map apart key by key, so that what nobody took is a mistake.

use crate::diagnostic::{Diagnostic, Span, nearest};
use crate::template::Template;
use crate::yaml::{Key, Kind, Node};
use crate::{Millis, StepName};

/// One map of a definition while it is read.
pub(super) struct Fields<'a> {
    entries: &'a [(Key, Node)],
    known: &'static [&'static str],
    /// The whole map.
    pub span: Span,
    /// The known keys that unknown ones most likely meant.
    typos: Vec<&'static str>,
}

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

pub(super) fn wrong_type(node: &Node, what: &str, wanted: &str) -> Diagnostic {
    Diagnostic {
        code: "E0105",
        message: format!("{what} is {}, not {wanted}", node.describe()),
        span: node.span,
        reason: format!("{what} has to be {wanted}"),
        fix: None,
    }
}

pub(super) fn misfit(span: Span, message: String, reason: &str, fix: &str) -> Diagnostic {
    Diagnostic { code: "E0107", message, span, reason: reason.to_owned(), fix: Some(fix.to_owned()) }
}

pub(super) fn bad_value(span: Span, message: String, reason: &str, fix: Option<String>) -> Diagnostic {
    Diagnostic { code: "E0106", message, span, reason: reason.to_owned(), fix }
}

impl<'a> Fields<'a> {
    /// Opens the map `node`, called `what` in messages, in which only the `known` keys may stand.
    pub fn open(
        node: &'a Node,
        what: &str,
        known: &'static [&'static str],
        mistakes: &mut Vec<Diagnostic>,
    ) -> Option<Self> {
        let Kind::Map(entries) = &node.kind else {
            mistakes.push(wrong_type(node, what, "a map"));
            return None;
        };
        let mut typos = Vec::new();
        for (key, _) in entries.iter().filter(|(key, _)| !known.contains(&key.text.as_str())) {
            let near = nearest(&key.text, known.iter().copied());
            typos.extend(near.and_then(|near| known.iter().find(|key| **key == near)));
            mistakes.push(Diagnostic {
                code: "E0103",
                message: format!("unknown key `{}` in {what}", key.text),
                span: key.span,
                reason: format!("{what} knows {}", known.join(", ")),
                fix: Some(match (near, home(&key.text)) {
                    (Some(near), _) => format!("write `{near}`"),
                    (None, Some(home)) => format!("write it under `{home}`"),
                    (None, None) => "remove it".to_owned(),
                }),
            });
        }
        Some(Self { entries, known, span: node.span, typos })
    }

    /// Whether an unknown key most likely meant one of these: then its absence is no second mistake.
    pub fn misspells(&self, keys: &[&str]) -> bool {
        self.typos.iter().any(|typo| keys.contains(typo))
    }

    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    pub fn template(&self, key: &str, source: &str, mistakes: &mut Vec<Diagnostic>) -> Option<Template> {
        self.get(key).map(|node| Template::read(node, source, mistakes))
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&self, key: &str, words: &[(&str, T)], mistakes: &mut Vec<Diagnostic>) -> Option<T> {
        let node = self.get(key)?;
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let Kind::Text(written) = &node.kind else {
            mistakes.push(wrong_type(node, &format!("`{key}`"), &format!("one of {}", known.join(", "))));
            return None;
        };
        let found = words.iter().find(|(word, _)| word == written).map(|(_, value)| *value);
        if found.is_none() {
            let near = nearest(written, known.iter().copied()).map(|near| format!("write `{near}`"));
            let reason = format!("it is one of {}", known.join(", "));
            mistakes.push(bad_value(node.span, format!("`{key}` cannot be `{written}`"), &reason, near));
        }
        found
    }

    /// A list of texts; one text stands for a list of one.
    pub fn texts(&self, key: &str, mistakes: &mut Vec<Diagnostic>) -> Vec<std::sync::Arc<str>> {
        let Some(node) = self.get(key) else { return Vec::new() };
        let items: Vec<&Node> = match &node.kind {
            Kind::List(items) => items.iter().collect(),
            Kind::Text(_) => vec![node],
            Kind::Other(_) | Kind::Map(_) => {
                mistakes.push(wrong_type(node, &format!("`{key}`"), "a list of texts"));
                return Vec::new();
            }
        };
        items.into_iter().filter_map(|item| text(item, &format!("one of `{key}`"), mistakes)).map(Into::into).collect()
    }

    /// A whole number between `least` and `most`.
    pub fn integer(&self, key: &str, least: i32, most: i32, mistakes: &mut Vec<Diagnostic>) -> Option<i32> {
        let node = self.get(key)?;
        let number = match &node.kind {
            Kind::Other(value) => value.as_i64().and_then(|number| i32::try_from(number).ok()),
            Kind::Text(_) | Kind::List(_) | Kind::Map(_) => None,
        };
        let fits = number.filter(|number| (least..=most).contains(number));
        if fits.is_none() {
            let message = format!("`{key}` is out of its range");
            mistakes.push(bad_value(node.span, message, &format!("it is a whole number from {least} to {most}"), None));
        }
        fits
    }

    pub fn get(&self, key: &str) -> Option<&'a Node> {
        debug_assert!(self.known.contains(&key), "{key} is read but not declared");
        self.entries.iter().find(|(found, _)| found.text == key).map(|(_, node)| node)
    }

    pub fn key_span(&self, key: &str) -> Span {
        self.entries.iter().find(|(found, _)| found.text == key).map_or(self.span, |(found, _)| found.span)
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

    pub fn text(&self, key: &str, mistakes: &mut Vec<Diagnostic>) -> Option<&'a str> {
        text(self.get(key)?, &format!("`{key}`"), mistakes)
    }

    pub fn flag(&self, key: &str, mistakes: &mut Vec<Diagnostic>) -> Option<bool> {
        let node = self.get(key)?;
        match &node.kind {
            Kind::Other(serde_json::Value::Bool(flag)) => Some(*flag),
            _ => {
                mistakes.push(wrong_type(node, &format!("`{key}`"), "true or false"));
                None
            }
        }
    }

    pub fn span_of_time(&self, key: &str, mistakes: &mut Vec<Diagnostic>) -> Option<Millis> {
        duration(self.get(key)?, &format!("`{key}`"), mistakes)
    }

    /// A whole number from 1 to `max`.
    pub fn count(&self, key: &str, max: u32, mistakes: &mut Vec<Diagnostic>) -> Option<u32> {
        let node = self.get(key)?;
        let number = match &node.kind {
            Kind::Other(value) => value.as_u64().and_then(|number| u32::try_from(number).ok()),
            Kind::Text(_) | Kind::List(_) | Kind::Map(_) => None,
        };
        let fits = number.filter(|number| (1..=max).contains(number));
        if fits.is_none() {
            let message = format!("`{key}` is out of its range");
            mistakes.push(bad_value(node.span, message, &format!("it is a whole number from 1 to {max}"), None));
        }
        fits
    }
}

pub(super) fn text<'a>(node: &'a Node, what: &str, mistakes: &mut Vec<Diagnostic>) -> Option<&'a str> {
    match &node.kind {
        Kind::Text(text) => Some(text),
        Kind::Other(_) | Kind::List(_) | Kind::Map(_) => {
            mistakes.push(wrong_type(node, what, "text"));
            None
        }
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
