//! YAML as a tree whose values know their line and keep their text: `9.10` stays `9.10`. Knows no inventory.

use std::collections::BTreeMap;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};

use super::mistake::{At, Mistakes, Says, Spot};

/// How deep values may nest.
pub const DEPTH_MAX: usize = 64;
/// How many values a document may hold, those that aliases repeat counted again: a hundred thousand hosts have some millions.
pub const NODES_MAX: usize = 20_000_000;
/// How many values of a document one value counts for that an alias repeats.
const ALIAS_COST: usize = 20;

/// A value and the line it begins on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub line: u32,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Its text as written; `plain` where no quotes say that it is text.
    Scalar {
        text: String,
        plain: bool,
    },
    /// What only a secret or a program could read: `!vault`, `!unsafe` …
    Tagged(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Key {
    pub text: String,
    pub line: u32,
}

impl Node {
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The entries of a map; none of anything else.
    pub fn entries(&self) -> &[(Key, Node)] {
        match &self.kind {
            Kind::Map(entries) => entries,
            Kind::Scalar { .. } | Kind::Tagged(_) | Kind::List(_) => &[],
        }
    }

    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|(found, _)| found.text == key).map(|(_, node)| node)
    }

    /// What a person calls such a value.
    pub fn describe(&self) -> &'static str {
        match &self.kind {
            Kind::Scalar { .. } if self.is_null() => "nothing",
            Kind::Scalar { .. } => "text",
            Kind::Tagged(_) => "a tagged value",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a map",
        }
    }

    /// The same as JSON, plain scalars by the core schema as far as JSON has them.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value;
        match &self.kind {
            Kind::Scalar { .. } if self.is_null() => Value::Null,
            Kind::Scalar { text, plain: true } if is_true(text) => Value::Bool(true),
            Kind::Scalar { text, plain: true } if is_false(text) => Value::Bool(false),
            Kind::Scalar { text, plain: true } if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') => {
                serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone()))
            }
            Kind::Scalar { text, .. } | Kind::Tagged(text) => Value::String(text.clone()),
            Kind::List(items) => items.iter().map(Self::to_json).collect(),
            Kind::Map(entries) => {
                Value::Object(entries.iter().map(|(key, node)| (key.text.clone(), node.to_json())).collect())
            }
        }
    }
}

fn is_true(text: &str) -> bool {
    matches!(text, "true" | "True" | "TRUE")
}

fn is_false(text: &str) -> bool {
    matches!(text, "false" | "False" | "FALSE")
}

/// Reads one YAML document; `None` where it cannot be read at all, with the mistake that says why.
pub(crate) fn read(file: &Arc<str>, text: &str, mistakes: &mut Mistakes) -> Option<Node> {
    let lines = u32::try_from(text.lines().count().max(1)).unwrap_or(u32::MAX);
    let mut reader = Reader {
        lines,
        parser: Parser::new_from_str(text),
        file,
        mistakes,
        anchors: BTreeMap::new(),
        nodes: 0,
        stopped: false,
    };
    let root = reader.document();
    if root.is_none() && !reader.stopped {
        let at = At { file: file.clone(), spot: Spot::Line(1) };
        reader.mistakes.error("E0810", &at, Says("the file is empty", "there is nothing to read", "name another file"));
    }
    root
}

struct Reader<'a, 'm> {
    parser: Parser<'a, StrInput<'a>>,
    file: &'m Arc<str>,
    mistakes: &'m mut Mistakes,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    stopped: bool,
    lines: u32,
}

fn line(span: &Span) -> u32 {
    u32::try_from(span.start.line()).unwrap_or(u32::MAX)
}

impl<'a> Reader<'a, '_> {
    fn at(&self, line: u32) -> At {
        At { file: self.file.clone(), spot: Spot::Line(line) }
    }

    fn stop<T>(&mut self, code: &'static str, line: u32, message: String, reason: &str, fix: &str) -> Option<T> {
        self.stopped = true;
        // What ends too early is found behind the last line.
        let at = self.at(line.min(self.lines));
        self.mistakes.error(code, &at, Says(message, reason, fix));
        None
    }

    fn next(&mut self) -> Option<(Event<'a>, Span)> {
        match self.parser.next_event() {
            Some(Ok(found)) => Some(found),
            Some(Err(error)) => {
                let line = u32::try_from(error.marker().line()).unwrap_or(u32::MAX);
                let message = format!("this is not YAML: {}", error.info());
                let fix = "check the indentation, the quotes and the colons around this line";
                self.stop("E0810", line, message, "the file has to be one YAML document", fix)
            }
            None => None,
        }
    }

    fn document(&mut self) -> Option<Node> {
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentStart(_) | Event::Nothing => {}
                Event::StreamEnd | Event::DocumentEnd => return None,
                event => {
                    let root = self.value(event, &span, 0)?;
                    self.end()?;
                    return Some(root);
                }
            }
        }
    }

    /// Sees to it that nothing follows the first document.
    fn end(&mut self) -> Option<()> {
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Some(()),
                (Event::DocumentStart(_), span) => {
                    let message = "a second document begins here".to_owned();
                    return self.stop(
                        "E0810",
                        line(&span),
                        message,
                        "a file holds one document",
                        "make it a file of its own",
                    );
                }
                _ => {}
            }
        }
    }

    fn value(&mut self, event: Event<'a>, span: &Span, depth: usize) -> Option<Node> {
        let line = line(span);
        self.nodes += 1;
        if depth > DEPTH_MAX || self.nodes > NODES_MAX {
            let message = "the document is too deep or too large here".to_owned();
            let reason = format!("at most {DEPTH_MAX} levels and {NODES_MAX} values are read");
            return self.stop("E0818", line, message, &reason, "split it into several files");
        }
        let (anchor, node) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let own = tag.as_ref().is_some_and(|tag| !tag.handle.contains("yaml.org"));
                let kind = match own {
                    true => Kind::Tagged(tag.map(|tag| tag.suffix.clone()).unwrap_or_default()),
                    false => Kind::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain },
                };
                (anchor, Node { line, kind })
            }
            Event::SequenceStart(anchor, _) => (anchor, Node { line, kind: self.list(depth)? }),
            Event::MappingStart(anchor, _) => (anchor, Node { line, kind: self.map(depth)? }),
            Event::Alias(anchor) => {
                // Counted before it is copied: aliases of aliases grow without bounds.
                self.nodes += self.anchors.get(&anchor).map_or(0, count) * ALIAS_COST;
                if self.nodes > NODES_MAX {
                    let reason = format!("aliases may repeat at most {} values", NODES_MAX / ALIAS_COST);
                    let message = "aliases repeat too much here".to_owned();
                    return self.stop("E0818", line, message, &reason, "write the values out");
                }
                (0, self.anchors.get(&anchor).cloned()?)
            }
            _ => (0, Node { line, kind: Kind::Scalar { text: String::new(), plain: true } }),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Some(node)
    }

    fn list(&mut self, depth: usize) -> Option<Kind> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd | Event::StreamEnd) {
                return Some(Kind::List(items));
            }
            items.push(self.value(event, &span, depth + 1)?);
        }
    }

    fn map(&mut self, depth: usize) -> Option<Kind> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        let mut seen: BTreeMap<String, u32> = BTreeMap::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd | Event::StreamEnd) {
                // `<<`: what the map does not say itself.
                let fresh = merged.into_iter().filter(|(key, _): &(Key, Node)| !seen.contains_key(&key.text));
                entries.extend(fresh.collect::<Vec<_>>());
                return Some(Kind::Map(entries));
            }
            let Event::Scalar(text, ..) = event else {
                let message = "this key is not text".to_owned();
                return self.stop("E0810", line(&span), message, "keys are words", "write a word before the colon");
            };
            let key = Key { text: text.into_owned(), line: line(&span) };
            let (event, span) = self.next()?;
            let value = self.value(event, &span, depth + 1)?;
            if key.text == "<<" && !value.entries().is_empty() {
                merged.extend(value.entries().to_vec());
            } else if let Some(first) = seen.insert(key.text.clone(), key.line) {
                let at = self.at(key.line);
                let message = format!("`{}` stands here for the second time; the first is in line {first}", key.text);
                self.mistakes.error(
                    "E0811",
                    &at,
                    Says(message, "one of the two would be lost", "remove or rename one"),
                );
            } else {
                entries.push((key, value));
            }
        }
    }
}

fn count(node: &Node) -> usize {
    match &node.kind {
        Kind::Scalar { .. } | Kind::Tagged(_) => 1,
        Kind::List(items) => 1 + items.iter().map(count).sum::<usize>(),
        Kind::Map(entries) => 1 + entries.iter().map(|(_, node)| count(node)).sum::<usize>(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn parse(text: &str) -> (Option<Node>, Mistakes) {
        let mut mistakes = Mistakes::default();
        let node = read(&Arc::from("f.yaml"), text, &mut mistakes);
        (node, mistakes)
    }

    #[test]
    fn values_keep_their_text_and_know_their_line() {
        let (node, mistakes) = parse("a: 9.10\nb:\n  - x\n  - 'true'\n");
        let node = node.unwrap();
        assert!(mistakes.list().is_empty());
        assert_eq!(node.get("a").unwrap().kind, Kind::Scalar { text: "9.10".into(), plain: true });
        assert_eq!(node.get("b").unwrap().line, 3);
        assert_eq!(node.to_json(), serde_json::json!({ "a": 9.10, "b": ["x", "true"] }));
    }

    #[test]
    fn anchors_and_merges_are_written_out() {
        let (node, _) = parse("base: &b {x: 1, y: 2}\nhost: {<<: *b, y: 3}\n");
        assert_eq!(node.unwrap().to_json()["host"], serde_json::json!({ "x": 1, "y": 3 }));
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_line() {
        for (text, code, line) in [
            ("a: [", "E0810", 1),
            ("a: 1\nb: 2\na: 3", "E0811", 3),
            ("", "E0810", 1),
            ("a: 1\n---\nb: 1\n", "E0810", 2),
        ] {
            let (_, mistakes) = parse(text);
            let first = &mistakes.list()[0];
            assert_eq!((first.code, first.at.clone()), (code, format!("f.yaml:{line}")), "{text}");
        }
        let deep = "[".repeat(DEPTH_MAX + 2) + &"]".repeat(DEPTH_MAX + 2);
        assert_eq!(parse(&deep).1.list()[0].code, "E0818");
        assert!(parse(&("[".repeat(DEPTH_MAX) + &"]".repeat(DEPTH_MAX))).1.list().is_empty());
    }
}
