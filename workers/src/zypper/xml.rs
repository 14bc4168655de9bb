//! The elements of zypper's machine-readable answers (`--xmlout`): flat, and all that counts stands in their attributes.

use std::collections::{BTreeMap, BTreeSet};

use patchloom_domain::PackageId;

/// A start tag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tag {
    /// Its name; that of an end tag begins with `/`.
    pub(crate) name: String,
    /// What it says.
    pub(crate) attributes: BTreeMap<String, String>,
}

impl Tag {
    /// An attribute; empty where it has none.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }

    /// The package that it names.
    pub(crate) fn package(&self) -> PackageId {
        PackageId { name: self.get("name").to_owned(), arch: self.get("arch").to_owned() }
    }
}

/// All tags of a text, in order. Text between them is passed over: in it, `<` is always escaped.
pub(crate) fn tags(text: &str) -> Vec<Tag> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, behind)) = rest.split_once('<') {
        let end = end_of(behind);
        found.extend(tag(behind.get(..end).unwrap_or_default()));
        rest = behind.get(end..).unwrap_or_default();
    }
    found
}

/// Where a tag ends: at the first `>` that is in no quotes.
fn end_of(text: &str) -> usize {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, '>') => return at,
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            _ => {}
        }
    }
    text.len()
}

fn tag(text: &str) -> Option<Tag> {
    let name_end = text.find(|c: char| c.is_whitespace()).unwrap_or(text.len());
    let (name, mut rest) = text.split_at(name_end);
    let name = name.trim_end_matches('/');
    if name.is_empty() || name.starts_with(['?', '!']) {
        return None;
    }
    let mut attributes = BTreeMap::new();
    while let Some((key, behind)) = rest.split_once('=') {
        let behind = behind.trim_start();
        let Some(quote) = behind.chars().next().filter(|c| matches!(c, '"' | '\'')) else { break };
        let Some((value, more)) = behind.get(1..).and_then(|inside| inside.split_once(quote)) else { break };
        attributes.insert(key.trim().to_owned(), unescaped(value));
        rest = more;
    }
    Some(Tag { name: name.to_owned(), attributes })
}

fn unescaped(value: &str) -> String {
    let pairs = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    pairs.iter().fold(value.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// What a transaction would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// What would be there afterwards: version before, and after.
    pub(crate) installs: BTreeMap<PackageId, (Option<String>, String)>,
    /// Names and versions that would be gone.
    pub(crate) removes: BTreeSet<(String, String)>,
}

/// Reads the `install-summary` of a dry run.
pub(crate) fn summary(text: &str) -> Summary {
    let mut found = Summary::default();
    let mut section = String::new();
    for tag in tags(text) {
        match tag.name.as_str() {
            name if name.starts_with("to-") => section = name.to_owned(),
            "solvable" if tag.get("type") == "package" => {
                let version = tag.get("edition").to_owned();
                if section == "to-remove" {
                    found.removes.insert((tag.get("name").to_owned(), version));
                } else {
                    let before = Some(tag.get("edition-old")).filter(|old| !old.is_empty()).map(str::to_owned);
                    found.installs.insert(tag.package(), (before, version));
                }
            }
            _ => {}
        }
    }
    found
}
