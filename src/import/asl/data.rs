//! What a state of the Amazon States Language is given: the paths into it as expressions of this language.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use patchloom_core::yaml::{Kind, Node};
use serde_json::Value;

use crate::import::findings::Findings;
use crate::import::write::{Out, Pairs, name, part, quoted};

/// The input of a state.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Data {
    /// The expression for all of it, where there is one.
    pub base: Option<String>,
    /// Parts that stand elsewhere: the path, and the expression.
    pub over: Vec<(Vec<String>, String)>,
    /// The inputs of the run that were read.
    pub inputs: Rc<RefCell<BTreeSet<String>>>,
}

impl Data {
    /// The same inputs of the run, another value.
    pub fn with(&self, base: Option<String>) -> Self {
        Self { base, over: Vec::new(), inputs: Rc::clone(&self.inputs) }
    }

    /// The expression behind `$.a.b`, `$states.input.a.b` or `$$.Map.Item.Value`.
    pub fn resolve(&self, path: &str) -> Option<String> {
        if let Some(rest) = path.strip_prefix("$$.") {
            return match rest.strip_prefix("Map.Item.Value") {
                Some(rest) if rest.is_empty() || rest.starts_with('.') => Some(format!("item{rest}")),
                _ if rest == "Map.Item.Index" => Some("index".to_owned()),
                _ if rest == "Execution.Id" => Some("run.id".to_owned()),
                _ => None,
            };
        }
        let path = path.strip_prefix("$states.input").or_else(|| path.strip_prefix("$states.result"));
        self.walk(path?)
    }

    pub fn path(&self, path: &str) -> Option<String> {
        if path.starts_with("$$") || path.starts_with("$states") {
            return self.resolve(path);
        }
        self.walk(path.strip_prefix('$')?)
    }

    fn walk(&self, rest: &str) -> Option<String> {
        let simple =
            |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        let parts: Vec<String> = match rest.strip_prefix('.') {
            Some(rest) => rest.split('.').map(str::to_owned).collect(),
            None => Vec::new(),
        };
        if (!rest.is_empty() && parts.is_empty()) || !parts.iter().all(|part| simple(part)) {
            return None;
        }
        for (over, expression) in self.over.iter().rev() {
            if parts.starts_with(over) {
                return Some(format!(
                    "{expression}{}",
                    parts[over.len()..].iter().map(|one| part(one)).collect::<String>()
                ));
            }
            // Only a part of what is asked for stands elsewhere.
            if over.starts_with(&parts) {
                return None;
            }
        }
        let base = self.base.as_ref()?;
        if base == "inputs" {
            let (first, rest) = parts.split_first()?;
            let input = name(first, '_');
            self.inputs.borrow_mut().insert(input.clone());
            return Some(format!("inputs.{input}{}", rest.iter().map(|one| part(one)).collect::<String>()));
        }
        Some(format!("{base}{}", parts.iter().map(|one| part(one)).collect::<String>()))
    }

    /// What comes of it where `result` goes to `path`; `None`: it cannot be told.
    pub fn put(&self, path: Option<&Node>, result: String) -> Option<Self> {
        match path.map(|node| &node.kind) {
            None => Some(self.with(Some(result))),
            Some(Kind::Other(Value::Null)) => Some(self.clone()),
            Some(Kind::Text(path)) if path == "$" => Some(self.with(Some(result))),
            Some(Kind::Text(path)) => {
                let parts: Vec<String> = path.strip_prefix("$.")?.split('.').map(str::to_owned).collect();
                let mut made = self.clone();
                made.over.push((parts, result));
                Some(made)
            }
            Some(Kind::Other(_) | Kind::List(_) | Kind::Map(_)) => None,
        }
    }

    /// A payload: keys that end in `.$` are paths, texts between `{%` and `%}` are JSONata.
    pub fn payload(&self, node: &Node, findings: &mut Findings) -> Out {
        match &node.kind {
            Kind::Map(entries) => {
                let mut pairs = Pairs::new();
                for (key, node) in entries {
                    let (key, value) = match (key.text.strip_suffix(".$"), &node.kind) {
                        (Some(key), Kind::Text(path)) => (key, self.reference(path, node, findings)),
                        _ => (key.text.as_str(), self.payload(node, findings)),
                    };
                    pairs.push((key.to_owned(), value));
                }
                Out::Map(pairs)
            }
            Kind::List(items) => Out::List(items.iter().map(|item| self.payload(item, findings)).collect()),
            Kind::Text(text) => match text.trim().strip_prefix("{%").and_then(|rest| rest.strip_suffix("%}")) {
                Some(inner) => self.reference(inner.trim(), node, findings),
                None => {
                    if text.contains("${{") {
                        findings.unread(
                            node.span,
                            "a text with `${{`",
                            "it would be read as an expression",
                            "rewrite it",
                        );
                    }
                    Out::text(text.as_str())
                }
            },
            Kind::Other(value) => Out::Value(value.clone()),
        }
    }

    pub fn reference(&self, path: &str, node: &Node, findings: &mut Findings) -> Out {
        if let Some(found) = self.path(path) {
            return Out::text(format!("${{{{ {found} }}}}"));
        }
        let reason = "simple paths into the input of a state are, where one can tell which step it came from";
        findings.unread(node.span, &format!("`{path}`"), reason, "write the expression by hand; null stands for it");
        Out::Value(Value::Null)
    }
}

/// A condition of a `Choice`; `None` where it has no counterpart.
pub(super) fn condition(node: &Node, data: &Data) -> Option<String> {
    let Kind::Map(entries) = &node.kind else { return None };
    let get = |key: &str| entries.iter().find(|(one, _)| one.text == key).map(|(_, node)| node);
    let many = |node: &Node, between: &str| {
        let Kind::List(items) = &node.kind else { return None };
        let all: Option<Vec<String>> = items.iter().map(|item| condition(item, data)).collect();
        Some(format!("({})", all.filter(|all| !all.is_empty())?.join(between)))
    };
    let known = ["Next", "Comment", "Variable"];
    let mut asked = entries.iter().filter(|(key, _)| !known.contains(&key.text.as_str()));
    let (operator, value) = asked.next().map(|(key, node)| (key.text.as_str(), node))?;
    if asked.next().is_some() {
        return None;
    }
    match operator {
        "And" => return many(value, " && "),
        "Or" => return many(value, " || "),
        "Not" => return Some(format!("!({})", condition(value, data)?)),
        _ => {}
    }
    let Kind::Text(path) = &get("Variable")?.kind else { return None };
    let variable = data.path(path)?;
    let given = value.to_json();
    match operator {
        "IsNull" => return Some(format!("({variable} == null) == {}", given.as_bool()?)),
        "IsPresent" if variable.contains('.') && !variable.ends_with(']') => {
            return Some(format!("has({variable}) == {}", given.as_bool()?));
        }
        _ => {}
    }
    let kinds = ["String", "Numeric", "Boolean", "Timestamp"];
    let (kind, comparison) = kinds.iter().find_map(|kind| Some((*kind, operator.strip_prefix(kind)?)))?;
    let sign = match comparison {
        "Equals" => "==",
        "LessThan" => "<",
        "LessThanEquals" => "<=",
        "GreaterThan" => ">",
        "GreaterThanEquals" => ">=",
        _ => return None,
    };
    match (kind, &given) {
        ("String", Value::String(text)) => Some(format!("{variable} {sign} {}", quoted(text))),
        ("Numeric", Value::Number(number)) => Some(format!("double({variable}) {sign} double({number})")),
        ("Boolean", Value::Bool(flag)) => Some(format!("{variable} {sign} {flag}")),
        ("Timestamp", Value::String(text)) => Some(format!("timestamp({variable}) {sign} timestamp({})", quoted(text))),
        _ => None,
    }
}
