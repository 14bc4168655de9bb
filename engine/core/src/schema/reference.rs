//! The reference of the language for people, written from the schema and its keys.

use std::fmt::Write as _;

use serde_json::Value;

use super::keys::{Key, sections};
use super::schema;

const HEAD: &str = "# Workflow reference

Every key of the language, as `patchloom workflow schema` has it. This page is generated; a test compares it with the
schema and holds each key to the test that it names. How the keys play together is told in [workflows.md](workflows.md).
";

/// Every key with its type, default, example and test, as Markdown.
#[must_use]
pub fn reference() -> String {
    let schema = schema();
    let mut out = HEAD.to_owned();
    for section in sections() {
        // Writing into a String cannot fail.
        let _ = write!(out, "\n## {}\n\n", section.title);
        out.push_str("| key | type | default | example | meaning | test |\n|---|---|---|---|---|---|\n");
        for key in section.keys {
            let property = schema.pointer(&key.place).unwrap_or(&Value::Null);
            let _ = writeln!(
                out,
                "| `{}` | {} | {} | `{}` | {} | `{}` |",
                key.name,
                kind(property, &schema),
                default(&key),
                key.example_text,
                key.what.replace('|', "\\|"),
                key.test,
            );
        }
    }
    out
}

fn default(key: &Key) -> String {
    key.default_text.strip_prefix("= ").map_or_else(|| key.default_text.to_owned(), |yaml| format!("`{yaml}`"))
}

/// A schema in few words.
fn kind(property: &Value, schema: &Value) -> String {
    if let Some(name) = property["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/$defs/")) {
        return match name {
            "duration" => "duration".to_owned(),
            "task_type" => "task type".to_owned(),
            "condition" => "condition".to_owned(),
            "portion" => "number or percentage".to_owned(),
            "texts" => "text, or list of texts".to_owned(),
            name => kind(&schema["$defs"][name], schema),
        };
    }
    if property["$ref"].is_string() {
        return "JSON Schema".to_owned();
    }
    if let Some(words) = property["enum"].as_array() {
        let words: Vec<String> = words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`")).collect();
        return words.join(", ");
    }
    if let Some(ways) = property["oneOf"].as_array().filter(|_| property["type"].is_null()) {
        let ways: Vec<String> = ways.iter().map(|way| kind(way, schema)).collect();
        return ways.join(", or ");
    }
    let plain = |name: &str| match name {
        "object" => "map".to_owned(),
        "array" => format!("list of {}s", kind(&property["items"], schema)),
        "string" => "text".to_owned(),
        "integer" => match (property["minimum"].as_i64(), property["maximum"].as_i64()) {
            (Some(least), Some(most)) => format!("{least} to {most}"),
            _ => "whole number".to_owned(),
        },
        "boolean" => "true or false".to_owned(),
        other => other.to_owned(),
    };
    match &property["type"] {
        Value::String(name) if name == "array" && property["items"].is_null() => "list".to_owned(),
        Value::String(name) => plain(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).map(plain).collect::<Vec<_>>().join(" or "),
        _ => "any value".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    #[test]
    fn the_page_is_what_the_schema_generates() {
        let path = root().join("docs/workflow-reference.md");
        let wanted = reference();
        if std::env::var_os("PATCHLOOM_WRITE_DOCS").is_some() {
            fs::write(&path, &wanted).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        let differs = found.lines().zip(wanted.lines()).find(|(found, wanted)| found != wanted);
        assert!(
            found == wanted,
            "docs/workflow-reference.md is not what the schema generates, first at {differs:?}: run this test with PATCHLOOM_WRITE_DOCS=1"
        );
    }

    /// Every test below `dir`, with its body and the constants that it names.
    fn tests(dir: &Path, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                tests(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let consts: Vec<(&str, &str)> = text
                    .split("\nconst ")
                    .skip(1)
                    .filter_map(|rest| Some((rest.split(':').next()?, rest.split("\"#;").next()?)))
                    .collect();
                for rest in text.split("#[test]\n").skip(1) {
                    let Some(name) = rest.split("fn ").nth(1).and_then(|rest| rest.split('(').next()) else { continue };
                    let body = rest.split("\n}\n").next().unwrap_or(rest);
                    let named = consts.iter().filter(|(name, _)| body.contains(name)).map(|(_, text)| *text);
                    found.insert(name.to_owned(), std::iter::once(body).chain(named).collect::<Vec<_>>().join("\n"));
                }
            }
        }
    }

    #[test]
    fn every_key_names_a_test_that_speaks_of_it() {
        let mut found = BTreeMap::new();
        tests(&root().join("engine"), &mut found);
        for Key { kind, name, test, .. } in super::super::keys::keys() {
            let body = found.get(test).unwrap_or_else(|| panic!("{kind}.{name}: there is no test {test}"));
            let words = [format!("{name}:"), format!("{name}=")];
            assert!(words.iter().any(|word| body.contains(word)), "{kind}.{name}: {test} does not speak of it");
        }
    }
}
