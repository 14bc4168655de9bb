//! Taking a YAML map apart key by key, so that what nobody took is a mistake. Knows neither workflows nor calendars.

use crate::diagnostic::{Diagnostic, Span, nearest};
use crate::yaml::{Key, Kind, Node};

/// One map while it is read.
pub(crate) struct Fields<'a> {
    entries: &'a [(Key, Node)],
    known: &'static [&'static str],
    /// The whole map.
    pub span: Span,
    /// The known keys that unknown ones most likely meant.
    typos: Vec<&'static str>,
}

/// Where a key that is unknown in one map stands: the name of the map below it.
pub(crate) type Home = fn(&str) -> Option<&'static str>;

pub(crate) fn wrong_type(node: &Node, what: &str, wanted: &str) -> Diagnostic {
    Diagnostic {
        code: "E0105",
        message: format!("{what} is {}, not {wanted}", node.describe()),
        span: node.span,
        reason: format!("{what} has to be {wanted}"),
        fix: None,
    }
}

pub(crate) fn bad_value(span: Span, message: String, reason: &str, fix: Option<String>) -> Diagnostic {
    Diagnostic { code: "E0106", message, span, reason: reason.to_owned(), fix }
}

impl<'a> Fields<'a> {
    /// Opens the map `node`, called `what` in messages, in which only the `known` keys may stand.
    ///
    /// `home` tells of a key that is often written one level too high where it belongs.
    pub fn open_below(
        node: &'a Node,
        what: &str,
        (known, home): (&'static [&'static str], Home),
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

pub(crate) fn text<'a>(node: &'a Node, what: &str, mistakes: &mut Vec<Diagnostic>) -> Option<&'a str> {
    match &node.kind {
        Kind::Text(text) => Some(text),
        Kind::Other(_) | Kind::List(_) | Kind::Map(_) => {
            mistakes.push(wrong_type(node, what, "text"));
            None
        }
    }
}
