//! Holding what is seen against what is written: maps may have more keys, everything else is equal.

use patchloom_core::yaml::{Kind, Node};
use patchloom_core::{Scope, Span, Template};
use serde_json::Value;

/// An expectation that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miss {
    /// Its code, where it is a mistake of the test rather than a finding of it.
    pub code: Option<&'static str>,
    /// Where it stands in the test file.
    pub span: Span,
    /// What it is about.
    pub what: String,
    /// What was expected.
    pub expected: String,
    /// What was seen.
    pub seen: String,
    /// What to do about it, where that can be said.
    pub hint: Option<String>,
}

impl Miss {
    /// A finding.
    #[must_use]
    pub fn new(span: Span, what: impl Into<String>, expected: impl Into<String>, seen: impl Into<String>) -> Self {
        Self { code: None, span, what: what.into(), expected: expected.into(), seen: seen.into(), hint: None }
    }
}

/// Holds `seen` against a pattern.
pub(super) struct Pattern<'a> {
    /// The text that the pattern stands in.
    pub source: &'a str,
    /// What its expressions may read.
    pub scope: &'a Scope,
}

impl Pattern<'_> {
    /// Each part of the pattern that does not hold.
    pub fn misses(&self, what: &str, node: &Node, seen: &Value) -> Vec<Miss> {
        let mut misses = Vec::new();
        self.hold(what, node, seen, &mut misses);
        misses
    }

    fn hold(&self, what: &str, node: &Node, seen: &Value, misses: &mut Vec<Miss>) {
        match (&node.kind, seen) {
            (Kind::Map(entries), Value::Object(map)) => {
                for (key, node) in entries {
                    let what = format!("{what}.{}", key.text);
                    match map.get(&key.text) {
                        Some(seen) => self.hold(&what, node, seen, misses),
                        None if node.kind == Kind::Other(Value::Null) => {}
                        None => {
                            let there: Vec<&str> = map.keys().map(String::as_str).collect();
                            let seen = format!("nothing; there is {}", list(&there));
                            misses.push(Miss::new(key.span, what, node.to_json().to_string(), seen));
                        }
                    }
                }
            }
            (Kind::List(nodes), Value::Array(items)) if nodes.len() == items.len() => {
                for (at, (node, seen)) in nodes.iter().zip(items).enumerate() {
                    self.hold(&format!("{what}[{at}]"), node, seen, misses);
                }
            }
            (Kind::Text(text), _) if text.contains("${{") => self.computed(what, node, seen, misses),
            _ if same(&node.to_json(), seen) => {}
            _ => misses.push(Miss::new(node.span, what, node.to_json().to_string(), seen.to_string())),
        }
    }

    fn computed(&self, what: &str, node: &Node, seen: &Value, misses: &mut Vec<Miss>) {
        // Whether it can be read was checked with the file.
        match Template::read(node, self.source, &mut Vec::new()).eval(self.scope) {
            Ok(value) if same(&value, seen) => {}
            Ok(value) => misses.push(Miss::new(node.span, what, value.to_string(), seen.to_string())),
            Err(error) => misses.push(Miss::new(node.span, what, error.to_string(), seen.to_string())),
        }
    }
}

fn list(words: &[&str]) -> String {
    if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
}

/// Equal, and 1 is 1.0.
pub(super) fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use patchloom_core::yaml;
    use serde_json::json;

    use super::*;

    fn misses(pattern: &str, seen: &Value) -> Vec<String> {
        let scope = Scope { values: [("inputs", json!({"n": 2}))].into(), upstream_failed: false };
        let pattern_of = Pattern { source: pattern, scope: &scope };
        let found = pattern_of.misses("output", &yaml::read(pattern).unwrap(), seen);
        found.into_iter().map(|miss| format!("{}: {} / {}", miss.what, miss.expected, miss.seen)).collect()
    }

    #[test]
    fn a_map_may_have_more_and_nothing_else_may_differ() {
        let seen = json!({"a": 1, "b": [1, {"c": "x"}], "d": null});
        for pattern in ["{a: 1}", "{a: 1.0}", "{b: [1, {}]}", "{d: null, e: null}", "{a: '${{ inputs.n - 1 }}'}"] {
            assert_eq!(misses(pattern, &seen), Vec::<String>::new(), "{pattern}");
        }
        assert_eq!(misses("{a: 2}", &seen), ["output.a: 2 / 1"]);
        assert_eq!(misses("{b: [1]}", &seen), ["output.b: [1] / [1,{\"c\":\"x\"}]"]);
        assert_eq!(misses("{b: [1, {c: y}]}", &seen), ["output.b[1].c: \"y\" / \"x\""]);
        assert_eq!(misses("{f: 1}", &seen), ["output.f: 1 / nothing; there is a, b, d"]);
        assert_eq!(misses("{a: '${{ inputs.n }}'}", &seen), ["output.a: 2 / 1"]);
    }
}
