//! YAML text as a tree of values that know their place. Knows nothing of workflows.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError};
use serde_json::{Number, Value};

use crate::diagnostic::{Diagnostic, Span};

/// The largest definition in bytes: a million hand-written lines do not come near it, an alias bomb does.
pub const SOURCE_BYTES_MAX: usize = 4 << 20;
/// How deep values may nest.
pub const DEPTH_MAX: usize = 64;

/// A value and the bytes it was written in.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it stands; for a map or a list from its first to behind its last byte.
    pub span: Span,
    /// What it is.
    pub kind: Kind,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A string; `verbatim` when its bytes in the source are its text (plain, or quoted without escapes).
    Text(String),
    /// `null`, a boolean or a number, by the YAML 1.2 core schema.
    Other(Value),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the source.
    Map(Vec<(Key, Node)>),
}

/// The key of a map entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Its text.
    pub text: String,
    /// Its place.
    pub span: Span,
}

impl Node {
    /// The same value without places; keys sorted, so equal values give equal JSON text.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Text(text) => Value::String(text.clone()),
            Kind::Other(value) => value.clone(),
            Kind::List(items) => items.iter().map(Self::to_json).collect(),
            Kind::Map(entries) => {
                Value::Object(entries.iter().map(|(key, node)| (key.text.clone(), node.to_json())).collect())
            }
        }
    }

    /// What a person calls such a value: `a list`, `text`, …
    #[must_use]
    pub fn describe(&self) -> &'static str {
        match &self.kind {
            Kind::Text(_) => "text",
            Kind::Other(Value::Null) => "nothing",
            Kind::Other(Value::Bool(_)) => "true or false",
            Kind::Other(_) => "a number",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a map",
        }
    }
}

/// Reads one YAML document.
///
/// # Errors
/// Every mistake found: syntax (E0101, the first only: the parser cannot go on), double keys (E0102), what the
/// format leaves out (aliases, tags, several documents, keys that are no text), and texts beyond the limits (E0109).
pub fn read(source: &str) -> Result<Node, Vec<Diagnostic>> {
    if source.len() > SOURCE_BYTES_MAX {
        return Err(vec![limit(
            Span::default(),
            format!("the definition has {} bytes", source.len()),
            format!("at most {SOURCE_BYTES_MAX} bytes are read"),
        )]);
    }
    let offsets: Vec<usize> = source.char_indices().map(|(at, _)| at).chain([source.len()]).collect();
    let mut reader = Reader { parser: Parser::new_from_str(source), source, offsets, mistakes: Vec::new() };
    let root = reader.document();
    match root {
        Ok(node) if reader.mistakes.is_empty() => Ok(node),
        Ok(_) => Err(reader.mistakes),
        Err(stop) => {
            reader.mistakes.push(stop);
            Err(reader.mistakes)
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    source: &'a str,
    /// Byte offset of each character, since the parser counts characters.
    offsets: Vec<usize>,
    mistakes: Vec<Diagnostic>,
}

fn limit(span: Span, message: String, reason: String) -> Diagnostic {
    Diagnostic { code: "E0109", message, span, reason, fix: Some("split it into several workflows".into()) }
}

impl<'a> Reader<'a> {
    fn offset(&self, index: usize) -> usize {
        self.offsets.get(index).copied().unwrap_or(self.source.len())
    }

    fn span(&self, span: saphyr_parser::Span) -> Span {
        Span { start: self.offset(span.start.index()), end: self.offset(span.end.index()) }
    }

    fn syntax(&self, error: &ScanError) -> Diagnostic {
        let start = self.offset(error.marker().index()).min(self.source.len().saturating_sub(1));
        Diagnostic {
            code: "E0101",
            message: format!("this is not YAML: {}", error.info()),
            span: Span::at(start, 1),
            reason: "a definition is one YAML 1.2 document".into(),
            fix: Some("check the indentation, the quotes and the colons around this place".into()),
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Diagnostic> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => {
                let span = self.span(span);
                Ok((event, span))
            }
            Some(Err(error)) => Err(self.syntax(&error)),
            None => Ok((Event::StreamEnd, Span::at(self.source.len(), 0))),
        }
    }

    fn document(&mut self) -> Result<Node, Diagnostic> {
        let empty = Diagnostic {
            code: "E0101",
            message: "the definition is empty".into(),
            span: Span::default(),
            reason: "a definition is one YAML document with at least `name` and `steps`".into(),
            fix: Some("see `patchloom workflow schema`".into()),
        };
        loop {
            match self.next()? {
                (Event::StreamStart | Event::DocumentStart(_) | Event::Nothing, _) => {}
                (Event::StreamEnd | Event::DocumentEnd, _) => return Err(empty),
                (event, span) => {
                    let root = self.value(event, span, 0)?;
                    self.end_of_document()?;
                    return Ok(root);
                }
            }
        }
    }

    fn end_of_document(&mut self) -> Result<(), Diagnostic> {
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(()),
                (Event::DocumentStart(_), span) => {
                    self.mistakes.push(Diagnostic {
                        code: "E0101",
                        message: "a second document begins here".into(),
                        span,
                        reason: "a file holds one workflow".into(),
                        fix: Some("move it to a file of its own".into()),
                    });
                    return Ok(());
                }
                _ => {}
            }
        }
    }

    fn value(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Diagnostic> {
        if depth > DEPTH_MAX {
            return Err(limit(
                span,
                "values nest too deep here".into(),
                format!("at most {DEPTH_MAX} levels are read"),
            ));
        }
        match event {
            Event::Scalar(text, style, _, tag) => {
                if tag.is_some() {
                    self.left_out(span, "a tag");
                }
                Ok(Node { span, kind: scalar(&text, style) })
            }
            Event::Alias(_) => {
                self.left_out(span, "an alias");
                Ok(Node { span, kind: Kind::Other(Value::Null) })
            }
            Event::SequenceStart(..) => self.list(span, depth),
            Event::MappingStart(..) => self.map(span, depth),
            _ => Ok(Node { span, kind: Kind::Other(Value::Null) }),
        }
    }

    fn left_out(&mut self, span: Span, what: &str) {
        self.mistakes.push(Diagnostic {
            code: "E0101",
            message: format!("{what} is not read here"),
            span,
            reason: "aliases and tags make two places depend on each other and hide what a step does".into(),
            fix: Some("write the value out, or share it through `defaults`".into()),
        });
    }

    fn list(&mut self, open: Span, depth: usize) -> Result<Node, Diagnostic> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd | Event::StreamEnd) {
                return Ok(Node {
                    span: Span { start: open.start, end: span.end.max(open.end) },
                    kind: Kind::List(items),
                });
            }
            items.push(self.value(event, span, depth + 1)?);
        }
    }

    fn map(&mut self, open: Span, depth: usize) -> Result<Node, Diagnostic> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut seen: BTreeMap<String, Span> = BTreeMap::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd | Event::StreamEnd) {
                return Ok(Node {
                    span: Span { start: open.start, end: span.end.max(open.end) },
                    kind: Kind::Map(entries),
                });
            }
            let key = match event {
                Event::Scalar(text, ..) => Some(Key { text: text.into_owned(), span }),
                other => {
                    self.value(other, span, depth + 1)?;
                    self.mistakes.push(Diagnostic {
                        code: "E0101",
                        message: "this key is not text".into(),
                        span,
                        reason: "the keys of a definition are words".into(),
                        fix: None,
                    });
                    None
                }
            };
            let (event, span) = self.next()?;
            let value = self.value(event, span, depth + 1)?;
            let Some(key) = key else { continue };
            if seen.insert(key.text.clone(), key.span).is_some() {
                self.mistakes.push(Diagnostic {
                    code: "E0102",
                    message: format!("`{}` stands twice in this map", key.text),
                    span: key.span,
                    reason: "one of the two would be lost without a word".into(),
                    fix: Some("remove or rename one of them".into()),
                });
            } else {
                entries.push((key, value));
            }
        }
    }
}

/// A plain scalar by the YAML 1.2 core schema; quoted and block scalars are text.
fn scalar(text: &str, style: ScalarStyle) -> Kind {
    if style != ScalarStyle::Plain {
        return Kind::Text(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Other(Value::Null),
        "true" | "True" | "TRUE" => return Kind::Other(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Kind::Other(Value::Bool(false)),
        _ => {}
    }
    let looks_numeric = text.trim_start_matches(['-', '+']).starts_with(|c: char| c.is_ascii_digit() || c == '.');
    if !looks_numeric {
        return Kind::Text(text.to_owned());
    }
    if let Ok(number) = text.parse::<i64>() {
        return Kind::Other(Value::Number(number.into()));
    }
    if let Ok(number) = text.parse::<u64>() {
        return Kind::Other(Value::Number(number.into()));
    }
    let digits_only = text.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E'));
    match text.parse::<f64>().ok().filter(|_| digits_only).and_then(Number::from_f64) {
        Some(number) => Kind::Other(Value::Number(number)),
        None => Kind::Text(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_follow_the_core_schema() {
        let source = "a: [1, -2, 3.5, 1e3, yes, '1', true, null, ~, 12ab, 5m, .5]\nb: |\n  x\n  y\n";
        assert_eq!(
            read(source).unwrap().to_json(),
            json!({"a": [1, -2, 3.5, 1000.0, "yes", "1", true, null, null, "12ab", "5m", 0.5], "b": "x\ny\n"})
        );
    }

    #[test]
    fn places_are_bytes_even_behind_wide_characters() {
        let source = "ä: ö\nkey: wert\n";
        let Kind::Map(entries) = read(source).unwrap().kind else { panic!("a map") };
        assert_eq!(&source[entries[1].0.span.start..entries[1].0.span.end], "key");
        assert_eq!(&source[entries[1].1.span.start..entries[1].1.span.end], "wert");
    }

    #[test]
    fn bad_texts_are_refused_with_their_code() {
        for (source, code) in [
            ("a: [", "E0101"),
            ("a: 1\na: 2", "E0102"),
            ("a: &x 1\nb: *x", "E0101"),
            ("", "E0101"),
            ("a: !!int 3", "E0101"),
            ("a: 1\n---\nb: 2", "E0101"),
        ] {
            let found = read(source).unwrap_err();
            assert_eq!(found[0].code, code, "{source}: {found:?}");
        }
        let deep = "[".repeat(DEPTH_MAX + 2) + &"]".repeat(DEPTH_MAX + 2);
        assert_eq!(read(&deep).unwrap_err()[0].code, "E0109");
        assert_eq!(read(&" ".repeat(SOURCE_BYTES_MAX + 1)).unwrap_err()[0].code, "E0109");
    }
}
