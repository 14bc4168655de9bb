//! Where the parts of a definition stand in its text: a definition itself knows no places.

use std::collections::BTreeMap;

use crate::diagnostic::Span;
use crate::yaml::{Key, Kind, Node};

/// A map of the text; `None` where there is no text.
#[derive(Clone, Copy)]
pub(super) struct Place<'a>(pub Option<&'a Node>);

impl<'a> Place<'a> {
    fn entry(self, key: &str) -> Option<(Span, &'a Node)> {
        match &self.0?.kind {
            Kind::Map(entries) => {
                entries.iter().find(|(found, _)| found.text == key).map(|(key, node)| (key.span, node))
            }
            Kind::Text(_) | Kind::Other(_) | Kind::List(_) => None,
        }
    }

    /// The map behind `key`, where it is one.
    pub fn below(self, key: &str) -> Option<Self> {
        self.entry(key).filter(|(_, node)| matches!(node.kind, Kind::Map(_))).map(|(_, node)| Self(Some(node)))
    }

    /// The maps behind the keys of the map behind `key`.
    pub fn maps(self, key: &str) -> BTreeMap<&'a str, Self> {
        let entries = match self.entry(key).map(|(_, node)| &node.kind) {
            Some(Kind::Map(entries)) => entries.as_slice(),
            _ => &[],
        };
        let is_map = |(_, node): &&(Key, Node)| matches!(node.kind, Kind::Map(_));
        entries.iter().filter(is_map).map(|(key, node)| (key.text.as_str(), Self(Some(node)))).collect()
    }

    /// The map at position `at` of the list behind `key`.
    pub fn nth(self, key: &str, at: usize) -> Self {
        match self.entry(key).map(|(_, node)| &node.kind) {
            Some(Kind::List(items)) => Self(items.get(at)),
            _ => Self(None),
        }
    }

    /// The word `key`; the first word of the map where it is not there.
    pub fn key(self, key: &str) -> Span {
        self.entry(key).map_or_else(|| self.first(), |(span, _)| span)
    }

    /// What stands behind `key`.
    pub fn value(self, key: &str) -> Span {
        self.entry(key).map_or_else(|| self.first(), |(_, node)| node.span)
    }

    fn first(self) -> Span {
        match self.0.map(|node| (&node.kind, node.span)) {
            Some((Kind::Map(entries), span)) => entries.first().map_or(span, |(key, _)| key.span),
            Some((_, span)) => span,
            None => Span::default(),
        }
    }
}
