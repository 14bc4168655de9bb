//! A definition as YAML text, its keys in the order in which they were put; and names as the language wants them.

use std::collections::BTreeSet;

use serde_json::Value;

/// What is written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Out {
    /// A text, a number, true or false, nothing.
    Value(Value),
    List(Vec<Out>),
    Map(Pairs),
}

/// A map in its order.
pub(super) type Pairs = Vec<(String, Out)>;

impl Out {
    pub fn text(text: impl Into<String>) -> Self {
        Self::Value(Value::String(text.into()))
    }

    pub fn map<const N: usize>(pairs: [(&str, Out); N]) -> Self {
        Self::Map(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Value(_) => true,
            Self::List(items) => items.is_empty(),
            Self::Map(pairs) => pairs.is_empty(),
        }
    }

    /// On the line of its key.
    fn inline(&self) -> String {
        match self {
            Self::Value(Value::String(text)) if is_plain(text) => text.clone(),
            Self::Value(value) => value.to_string(),
            Self::List(_) => "[]".to_owned(),
            Self::Map(_) => "{}".to_owned(),
        }
    }
}

/// Whether a text may stand without quotes and stays a text.
fn is_plain(text: &str) -> bool {
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c))
        && !words.contains(&text.to_ascii_lowercase().as_str())
}

/// The map as a YAML document.
pub(super) fn yaml(pairs: &Pairs) -> String {
    let mut out = String::new();
    map(pairs, 0, &mut out);
    out
}

fn map(pairs: &Pairs, indent: usize, out: &mut String) {
    for (index, (key, value)) in pairs.iter().enumerate() {
        // The first entry of a map in a list stands behind the dash.
        if index > 0 || !out.ends_with("- ") {
            out.push_str(&" ".repeat(indent));
        }
        out.push_str(&Out::text(key.as_str()).inline());
        out.push(':');
        if value.is_empty() {
            out.push_str(&format!(" {}\n", value.inline()));
        } else {
            out.push('\n');
            block(value, indent + 2, out);
        }
    }
}

fn block(value: &Out, indent: usize, out: &mut String) {
    match value {
        Out::Value(_) => out.push_str(&format!("{}\n", value.inline())),
        Out::Map(pairs) => map(pairs, indent, out),
        Out::List(items) => {
            for item in items {
                out.push_str(&format!("{}- ", " ".repeat(indent)));
                match item {
                    Out::Map(pairs) if !pairs.is_empty() => map(pairs, indent + 2, out),
                    Out::List(inner) if !inner.is_empty() => {
                        out.push('\n');
                        block(item, indent + 2, out);
                    }
                    Out::Value(_) | Out::List(_) | Out::Map(_) => out.push_str(&format!("{}\n", item.inline())),
                }
            }
        }
    }
}

/// A name of the language made of any text.
pub(super) fn name(raw: &str, separator: char) -> String {
    let tidy = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { separator };
    let mut made: String = raw.chars().map(tidy).take(56).collect();
    if !made.starts_with(|c: char| c.is_ascii_lowercase()) {
        made = format!("s{separator}{made}");
    }
    made.trim_end_matches(separator).to_owned()
}

/// A name of a step that is not taken yet, and now is.
pub(super) fn step_name(raw: &str, taken: &mut BTreeSet<String>) -> String {
    let base = name(raw, '_');
    let numbered = (2..).map(|number: usize| format!("{base}_{number}"));
    let free = std::iter::once(base.clone()).chain(numbered).find(|one| !taken.contains(one));
    let free = free.unwrap_or(base);
    taken.insert(free.clone());
    free
}

/// A part of a value behind a path: `.name`, or `['a name']`.
pub(super) fn part(name: &str) -> String {
    let simple = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if simple { format!(".{name}") } else { format!("[{}]", quoted(name)) }
}

/// A text inside of an expression.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n"))
}
