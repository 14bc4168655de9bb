//! What each key means, with a default, an example and the test that covers it: read from `keys.txt`.

use serde_json::Value;

const TEXT: &str = include_str!("keys.txt");

/// One key of the language.
pub(super) struct Key {
    /// The kind of map it stands in.
    #[cfg(test)]
    pub kind: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Its default as YAML, or in words.
    pub default_text: &'static str,
    /// Its default, where it is a value.
    pub default: Option<Value>,
    /// An example as YAML.
    pub example_text: &'static str,
    /// An example.
    pub example: Value,
    /// What it means.
    pub what: &'static str,
    /// The test that covers it.
    pub test: &'static str,
    /// Where it stands in the schema.
    pub place: String,
}

/// A kind of map and its keys.
pub(super) struct Section {
    /// What a person calls it.
    pub title: &'static str,
    /// Its keys, as they are listed.
    pub keys: Vec<Key>,
}

/// All kinds of maps.
pub(super) fn sections() -> Vec<Section> {
    let mut found: Vec<Section> = Vec::new();
    let (mut kind, mut test) = ("", "");
    for line in TEXT.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let cells: Vec<&'static str> = line.split(" | ").collect();
        if let Some((name, title)) = line.strip_prefix('[').and_then(|_| cells[0].strip_prefix('[')?.split_once("] ")) {
            (kind, test) = (name, cells.get(1).copied().unwrap_or_default());
            found.push(Section { title, keys: Vec::new() });
        } else if let (Some(section), [name, default, example, what, own @ ..]) = (found.last_mut(), cells.as_slice()) {
            section.keys.push(Key {
                #[cfg(test)]
                kind,
                name,
                default_text: default,
                default: default.strip_prefix("= ").map(value),
                example_text: example,
                example: value(example),
                what,
                test: own.first().copied().unwrap_or(test),
                place: place(kind, name),
            });
        }
    }
    found
}

/// All keys.
pub(super) fn keys() -> impl Iterator<Item = Key> {
    sections().into_iter().flat_map(|section| section.keys)
}

fn value(yaml: &str) -> Value {
    crate::yaml::read(yaml).map_or(Value::Null, |node| node.to_json())
}

fn place(kind: &str, name: &str) -> String {
    match kind {
        "workflow" => format!("/properties/{name}"),
        // Each of these may be written in a short way too.
        "rate" | "timeout" | "tolerate" | "window" => format!("/$defs/{kind}/oneOf/1/properties/{name}"),
        kind => format!("/$defs/{kind}/properties/{name}"),
    }
}
