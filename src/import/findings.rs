//! What a translation could not carry over, each with its place; and maps that know which of their keys were read.

use std::cell::RefCell;
use std::collections::BTreeSet;

use patchloom_core::yaml::{Key, Kind, Node};
use patchloom_core::{Diagnostic, Span};

/// The code of what only has to be known: nothing was left out.
const NOTE: &str = "E0565";

/// What is to be told about a translation, in order of place.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    list: Vec<Diagnostic>,
}

impl Findings {
    pub(super) fn tell(&mut self, code: &'static str, span: Span, message: String, reason: &str, fix: &str) {
        let known = |one: &Diagnostic| one.code == code && one.span == span && one.message == message;
        if !self.list.iter().any(known) {
            self.list.push(Diagnostic { code, message, span, reason: reason.to_owned(), fix: Some(fix.to_owned()) });
        }
    }

    /// A key, or a kind of thing, that has no counterpart.
    pub(super) fn left_out(&mut self, span: Span, what: &str, reason: &str, fix: &str) {
        self.tell("E0561", span, format!("{what} is left out"), reason, fix);
    }

    /// An expression, a condition or a value that cannot be put into other words.
    pub(super) fn unread(&mut self, span: Span, what: &str, reason: &str, fix: &str) {
        self.tell("E0562", span, format!("{what} is not translated"), reason, fix);
    }

    /// A name that leads nowhere in this file.
    pub(super) fn missing(&mut self, span: Span, what: &str, fix: &str) {
        self.tell("E0563", span, format!("{what} is not in this file"), "only one file is translated at a time", fix);
    }

    /// What is carried over, but does not mean quite the same.
    pub(super) fn differs(&mut self, span: Span, what: &str, reason: &str, fix: &str) {
        self.tell("E0564", span, format!("{what} is translated by something near to it"), reason, fix);
    }

    /// What has to be there for the translation to run.
    pub(super) fn note(&mut self, span: Span, what: String, reason: &str, fix: &str) {
        self.tell(NOTE, span, what, reason, fix);
    }

    /// A graph that cannot be carried over: circles, nesting that is too deep.
    pub(super) fn shape(&mut self, span: Span, what: String, reason: &str, fix: &str) {
        self.tell("E0566", span, what, reason, fix);
    }

    /// Whether something is not as it was in the source.
    #[must_use]
    pub fn lossy(&self) -> bool {
        self.list.iter().any(|one| one.code != NOTE)
    }

    /// All of them, in order of place.
    #[must_use]
    pub fn into_list(mut self) -> Vec<Diagnostic> {
        self.list.sort_by_key(|one| (one.span.start, one.code));
        self.list
    }
}

/// A map of the source that remembers which of its keys somebody looked for.
pub(super) struct Fields<'a> {
    what: String,
    entries: &'a [(Key, Node)],
    read: RefCell<BTreeSet<String>>,
}

impl<'a> Fields<'a> {
    /// Opens a map; anything else is told and looks empty.
    pub fn open(node: &'a Node, what: &str, findings: &mut Findings) -> Self {
        let entries: &[(Key, Node)] = match &node.kind {
            Kind::Map(entries) => entries,
            Kind::Text(_) | Kind::Other(_) | Kind::List(_) => {
                let message = format!("{what}, which is {},", node.describe());
                findings.unread(node.span, &message, "a map is expected here", "check the source");
                &[]
            }
        };
        Self { what: what.to_owned(), entries, read: RefCell::default() }
    }

    /// The value behind a key, which counts as read from now on.
    pub fn get(&self, key: &str) -> Option<&'a Node> {
        self.read.borrow_mut().insert(key.to_owned());
        self.entries.iter().find(|(one, _)| one.text == key).map(|(_, node)| node)
    }

    pub fn text(&self, key: &str) -> Option<&'a str> {
        self.get(key).and_then(text)
    }

    /// Keys that have no meaning for the translation.
    pub fn pass_over(&self, keys: &[&str]) {
        self.read.borrow_mut().extend(keys.iter().map(|key| (*key).to_owned()));
    }

    /// Names each key that nobody read.
    pub fn finish(self, findings: &mut Findings) {
        let read = self.read.into_inner();
        for (key, _) in self.entries.iter().filter(|(key, _)| !read.contains(&key.text)) {
            let what = format!("`{}` of {}", key.text, self.what);
            findings.left_out(
                key.span,
                &what,
                "the translation knows nothing like it",
                "write it by hand, if it matters",
            );
        }
    }
}

pub(super) fn text(node: &Node) -> Option<&str> {
    match &node.kind {
        Kind::Text(text) => Some(text),
        Kind::Other(_) | Kind::List(_) | Kind::Map(_) => None,
    }
}

/// The text of a scalar: Kubernetes takes numbers and texts for each other.
pub(super) fn scalar(node: &Node) -> Option<String> {
    match &node.kind {
        Kind::Text(text) => Some(text.clone()),
        Kind::Other(value) if !value.is_null() => Some(value.to_string()),
        Kind::Other(_) | Kind::List(_) | Kind::Map(_) => None,
    }
}

pub(super) fn items(node: &Node) -> &[Node] {
    match &node.kind {
        Kind::List(items) => items,
        Kind::Text(_) | Kind::Other(_) | Kind::Map(_) => &[],
    }
}
