//! Values with expressions in them: `${{ inputs.host }}` alone keeps its type, inside a text it becomes text.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::diagnostic::{Diagnostic, Span};
use crate::expr::{EvalError, Expr, Reference, Scope};
use crate::yaml::{Kind, Node};

/// A value that may hold expressions.
#[derive(Clone, Debug, PartialEq)]
pub enum Template {
    /// No expression anywhere below.
    Literal(Value),
    /// One whole expression: keeps its type.
    Whole(Expr),
    /// Text with expressions between.
    Text(Vec<Part>),
    /// A list with an expression somewhere below.
    List(Vec<Template>),
    /// A map with an expression somewhere below.
    Map(BTreeMap<String, Template>),
}

/// A piece of a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// As it stands.
    Plain(String),
    /// What the expression comes to: text as it is, nothing for null, JSON for lists and maps.
    Expr(Expr),
}

impl Template {
    /// Reads a template out of a YAML value.
    ///
    /// # Errors
    /// Every expression that cannot be read (E0201, E0209) and every `${{` without its end (E0202), into `mistakes`;
    /// the value returned then only stands in.
    pub fn read(node: &Node, source: &str, mistakes: &mut Vec<Diagnostic>) -> Self {
        match &node.kind {
            Kind::Other(value) => Self::Literal(value.clone()),
            Kind::Text(text) => read_text(text, node.span, source, mistakes),
            Kind::List(items) => {
                let items: Vec<Self> = items.iter().map(|item| Self::read(item, source, mistakes)).collect();
                if items.iter().all(Self::is_literal) { Self::Literal(node.to_json()) } else { Self::List(items) }
            }
            Kind::Map(entries) => {
                let map: BTreeMap<String, Self> = entries
                    .iter()
                    .map(|(key, value)| (key.text.clone(), Self::read(value, source, mistakes)))
                    .collect();
                if map.values().all(Self::is_literal) { Self::Literal(node.to_json()) } else { Self::Map(map) }
            }
        }
    }

    fn is_literal(&self) -> bool {
        matches!(self, Self::Literal(_))
    }

    /// All expressions in it.
    #[must_use]
    pub fn exprs(&self) -> Vec<&Expr> {
        match self {
            Self::Literal(_) => Vec::new(),
            Self::Whole(expr) => vec![expr],
            Self::Text(parts) => parts
                .iter()
                .filter_map(|part| match part {
                    Part::Plain(_) => None,
                    Part::Expr(expr) => Some(expr),
                })
                .collect(),
            Self::List(items) => items.iter().flat_map(Self::exprs).collect(),
            Self::Map(map) => map.values().flat_map(Self::exprs).collect(),
        }
    }

    /// All names it reads.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.exprs().into_iter().flat_map(Expr::references)
    }

    /// Its value.
    ///
    /// # Errors
    /// The first expression without a value.
    pub fn eval(&self, scope: &Scope) -> Result<Value, EvalError> {
        match self {
            Self::Literal(value) => Ok(value.clone()),
            Self::Whole(expr) => expr.eval(scope),
            Self::Text(parts) => {
                let mut text = String::new();
                for part in parts {
                    match part {
                        Part::Plain(plain) => text.push_str(plain),
                        Part::Expr(expr) => match expr.eval(scope)? {
                            Value::Null => {}
                            Value::String(value) => text.push_str(&value),
                            value => text.push_str(&value.to_string()),
                        },
                    }
                }
                Ok(Value::String(text))
            }
            Self::List(items) => items.iter().map(|item| item.eval(scope)).collect(),
            Self::Map(map) => {
                let entries: Result<serde_json::Map<String, Value>, EvalError> =
                    map.iter().map(|(key, value)| Ok((key.clone(), value.eval(scope)?))).collect();
                entries.map(Value::Object)
            }
        }
    }
}

/// Where `inner` (a part of the decoded `text` of a scalar) stands in the source: exactly, where the source holds it
/// letter by letter; else the start of the scalar.
fn position(inner: &str, nth: usize, scalar: Span, source: &str) -> usize {
    let raw = source.get(scalar.start..scalar.end).unwrap_or("");
    raw.match_indices(inner).nth(nth).map_or(scalar.start, |(at, _)| scalar.start + at)
}

fn read_text(text: &str, span: Span, source: &str, mistakes: &mut Vec<Diagnostic>) -> Template {
    if !text.contains("${{") {
        return Template::Literal(Value::String(text.to_owned()));
    }
    let mut parts = Vec::new();
    let mut rest = text;
    let mut seen: Vec<&str> = Vec::new();
    while let Some(open) = rest.find("${{") {
        if open > 0 {
            parts.push(Part::Plain(rest[..open].to_owned()));
        }
        let body = &rest[open + 3..];
        let Some(close) = end_of_expression(body) else {
            let at = position("${{", seen.len(), span, source);
            mistakes.push(Diagnostic {
                code: "E0202",
                message: "this expression does not end".into(),
                span: Span::at(at, 3),
                reason: "`${{` opens an expression and `}}` closes it".into(),
                fix: Some("add `}}`, or quote the text if it shall not be an expression".into()),
            });
            return Template::Literal(Value::Null);
        };
        let inner = &body[..close];
        let nth = seen.iter().filter(|earlier| **earlier == inner).count();
        seen.push(inner);
        match Expr::compile(inner, position(inner, nth, span, source)) {
            Ok(expr) => parts.push(Part::Expr(expr)),
            Err(mistake) => mistakes.push(*mistake),
        }
        rest = &body[close + 2..];
    }
    if !rest.is_empty() {
        parts.push(Part::Plain(rest.to_owned()));
    }
    match parts.as_slice() {
        [Part::Expr(whole)] => Template::Whole(whole.clone()),
        _ => Template::Text(parts),
    }
}

/// The byte at which the closing `}}` stands: not inside quotes, nor closing a map literal of the expression.
fn end_of_expression(body: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut quote: Option<char> = None;
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '{') => depth += 1,
            (None, '}') if depth > 0 => depth -= 1,
            (None, '}') if body[at..].starts_with("}}") => return Some(at),
            (None, _) => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn eval(yaml: &str) -> Value {
        let node = crate::yaml::read(yaml).unwrap();
        let mut mistakes = Vec::new();
        let template = Template::read(&node, yaml, &mut mistakes);
        assert_eq!(mistakes, []);
        let values = BTreeMap::from([("inputs", json!({"n": 3, "s": "x", "l": [1], "none": null}))]);
        template.eval(&Scope { values, upstream_failed: false }).unwrap()
    }

    #[test]
    fn a_whole_expression_keeps_its_type_and_a_part_becomes_text() {
        assert_eq!(eval("a: ${{ inputs.n }}"), json!({"a": 3}));
        assert_eq!(
            eval("a: n=${{ inputs.n }} s=${{ inputs.s }}${{ inputs.none }} l=${{inputs.l}}"),
            json!({"a": "n=3 s=x l=[1]"})
        );
        assert_eq!(eval("a: [1, '${{ inputs.l }}']\nb: {c: 1}"), json!({"a": [1, [1]], "b": {"c": 1}}));
    }

    #[test]
    fn braces_and_quotes_inside_do_not_end_an_expression() {
        assert_eq!(eval("a: \"${{ {'k': {'m': inputs.n}} }}\""), json!({"a": {"k": {"m": 3}}}));
        assert_eq!(eval("a: \"${{ '}}' + inputs.s }}\""), json!({"a": "}}x"}));
    }

    #[test]
    fn mistakes_point_into_the_expression() {
        for (yaml, code, at) in [
            ("a: ok ${{ inputs.n + }}", "E0201", "a: ok ${{ inputs.n +".len()),
            ("a: ${{ inputs.n", "E0202", 3),
            ("a: '${{ 1 }} ${{ ) }}'", "E0201", "a: '${{ 1 }} ${{ ".len()),
        ] {
            let node = crate::yaml::read(yaml).unwrap();
            let mut mistakes = Vec::new();
            Template::read(&node, yaml, &mut mistakes);
            assert_eq!(mistakes[0].code, code, "{yaml}");
            assert!(mistakes[0].span.start.abs_diff(at) <= 1, "{yaml}: {:?} is not near {at}", mistakes[0].span);
        }
    }
}
