//! What workflows say of each other: that a child exists, that it takes what it is given, that nothing starts itself.
//!
//! Reads the source a second time, only for places: a definition knows none.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::check::compile;
use super::{Action, Definition, Step};
use crate::diagnostic::{Diagnostic, Diagnostics, Span, nearest};
use crate::template::Template;
use crate::yaml::{self, Kind, Node};

/// Checks a definition against the workflows that it may start; `known` holds it and them by name.
///
/// # Errors
/// Each step whose child workflow is not known (E0111), gets inputs that do not fit (E0112) or would come back to this
/// workflow (E0113), with its place in `source`.
pub fn relations(
    definition: &Definition,
    file: &str,
    source: &str,
    known: &BTreeMap<Arc<str>, Arc<Definition>>,
) -> Result<(), Diagnostics> {
    let root = yaml::read(source).ok();
    let mut list = Vec::new();
    for step in &definition.steps {
        let Action::Workflow { name, with } = &step.action else { continue };
        let places = Places { root: root.as_ref(), step };
        match known.get(name) {
            None => list.push(unknown(name, &places, known)),
            Some(child) => {
                inputs(child, with, &places, &mut list);
                list.extend(circle(definition, name, &places, known));
            }
        }
    }
    list.sort_by_key(|mistake| (mistake.span, mistake.code));
    let found = Diagnostics { file: file.to_owned(), source: source.to_owned(), list };
    if found.list.is_empty() { Ok(()) } else { Err(found) }
}

/// Where the parts of one step stand.
struct Places<'a> {
    root: Option<&'a Node>,
    step: &'a Step,
}

fn entry<'a>(node: &'a Node, key: &str) -> Option<(Span, &'a Node)> {
    match &node.kind {
        Kind::Map(entries) => entries.iter().find(|(found, _)| found.text == key).map(|(key, node)| (key.span, node)),
        Kind::Text(_) | Kind::Other(_) | Kind::List(_) => None,
    }
}

impl<'a> Places<'a> {
    fn field(&self, key: &str) -> Option<(Span, &'a Node)> {
        let (_, steps) = entry(self.root?, "steps")?;
        let (_, step) = entry(steps, self.step.name.as_str())?;
        entry(step, key)
    }

    /// The name behind `workflow:`.
    fn workflow(&self) -> Span {
        self.field("workflow").map_or(Span::default(), |(_, node)| node.span)
    }

    /// The word `with`, or the child's name where there is none.
    fn with(&self) -> Span {
        self.field("with").map_or_else(|| self.workflow(), |(key, _)| key)
    }

    /// One key under `with`, and its value.
    fn input(&self, name: &str) -> Option<(Span, &'a Node)> {
        entry(self.field("with")?.1, name)
    }
}

fn unknown(name: &str, places: &Places<'_>, known: &BTreeMap<Arc<str>, Arc<Definition>>) -> Diagnostic {
    let near = nearest(name, known.keys().map(AsRef::as_ref));
    let names: Vec<&str> = known.keys().map(AsRef::as_ref).collect();
    Diagnostic {
        code: "E0111",
        message: format!("no workflow is called `{name}`"),
        span: places.workflow(),
        reason: format!("the workflows given together and those that ship are {}", names.join(", ")),
        fix: Some(near.map_or_else(
            || format!("check it together with the file that defines `{name}`"),
            |near| format!("write `{near}`"),
        )),
    }
}

fn inputs(child: &Definition, with: &Template, places: &Places<'_>, list: &mut Vec<Diagnostic>) {
    let given: BTreeMap<&str, Option<&Value>> = match with {
        // What one expression comes to is not known before it runs.
        Template::Whole(_) | Template::Text(_) => return,
        Template::Map(map) => map.iter().map(|(name, value)| (name.as_str(), literal(value))).collect(),
        Template::Literal(Value::Object(map)) => map.iter().map(|(name, value)| (name.as_str(), Some(value))).collect(),
        Template::Literal(_) | Template::List(_) => {
            list.push(unfit(
                places.with(),
                format!("`{}` is not given a map", child.name),
                "`with` holds the inputs of the child workflow by name".into(),
                None,
            ));
            return;
        }
    };
    let takes: Vec<&str> = child.inputs.keys().map(String::as_str).collect();
    for (name, value) in &given {
        let (key, node) = places.input(name).map_or((places.with(), places.with()), |(key, node)| (key, node.span));
        let Some(input) = child.inputs.get(*name) else {
            let fix = nearest(name, takes.iter().copied()).map(|near| format!("write `{near}`"));
            let reason = format!("`{}` takes {}", child.name, takes.join(", "));
            list.push(unfit(key, format!("`{}` has no input `{name}`", child.name), reason, fix));
            continue;
        };
        if let Some(value) = value
            && let Ok(validator) = compile(&input.schema)
            && let Err(error) = validator.validate(value)
        {
            let message = format!("the input `{name}` does not fit `{}`", child.name);
            list.push(unfit(node, message, error.to_string(), None));
        }
    }
    let missing = child.inputs.iter().filter(|(name, input)| input.default.is_none() && !given.contains_key(&***name));
    for (name, _) in missing {
        let message = format!("`{}` is not given its input `{name}`", child.name);
        let reason = format!("`{name}` has no default");
        list.push(unfit(places.with(), message, reason, Some(format!("add `{name}: …` under `with`"))));
    }
}

fn literal(value: &Template) -> Option<&Value> {
    match value {
        Template::Literal(value) => Some(value),
        Template::Whole(_) | Template::Text(_) | Template::List(_) | Template::Map(_) => None,
    }
}

fn unfit(span: Span, message: String, reason: String, fix: Option<String>) -> Diagnostic {
    Diagnostic { code: "E0112", message, span, reason, fix }
}

/// The way from the child called `name` back to this workflow, where there is one.
fn circle(
    definition: &Definition,
    name: &Arc<str>,
    places: &Places<'_>,
    known: &BTreeMap<Arc<str>, Arc<Definition>>,
) -> Option<Diagnostic> {
    let mut came: BTreeMap<&Arc<str>, &Arc<str>> = BTreeMap::new();
    let mut open = vec![name];
    while let Some(at) = open.pop() {
        if *at == definition.name {
            let mut way = vec![at.as_ref()];
            let mut here = at;
            while here != name {
                let Some(before) = came.get(here) else { break };
                way.push(before);
                here = before;
            }
            way.push(definition.name.as_ref());
            way.reverse();
            return Some(Diagnostic {
                code: "E0113",
                message: format!("`{}` would start itself without end", definition.name),
                span: places.workflow(),
                reason: format!("the way round is {}", way.join(" starts ")),
                fix: Some("walk a list with `for_each` instead".into()),
            });
        }
        for next in known.get(at).into_iter().flat_map(|child| child.children()) {
            if next != name && !came.contains_key(next) {
                came.insert(next, at);
                open.push(next);
            }
        }
    }
    None
}
