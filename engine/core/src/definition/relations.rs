//! What workflows say of each other and of workers: that a child exists, that it and a task take what they are given,
//! that nothing starts itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::check::compile;
use super::places::Place;
use super::{Contracts, Definition};
use crate::diagnostic::{Diagnostic, Span, near, nearest};
use crate::template::Template;
use crate::types::Type;

/// Definitions by name.
pub type Definitions = BTreeMap<Arc<str>, Arc<Definition>>;

/// What there is besides a definition.
#[derive(Clone, Copy)]
pub struct World<'a> {
    /// The workflows that it may start.
    pub known: &'a Definitions,
    /// What the task types of the workers promise.
    pub contracts: &'a Contracts,
}

/// How many letters a task type may be away from one that ships and still be taken for a mistyped one.
const TYPO_MAX: usize = 2;

/// A task type that is not there, but for two letters.
pub(super) fn task_type(uses: &str, span: Span, contracts: &Contracts) -> Option<Diagnostic> {
    let likely = near(uses, contracts.iter().map(|(known, _)| known), TYPO_MAX)?;
    Some(Diagnostic {
        code: "E0114",
        message: format!("no worker that ships serves `{uses}`"),
        span,
        reason: format!("there is `{likely}`, and nothing else is called nearly so"),
        fix: Some(format!("write `{likely}`")),
    })
}

pub(super) fn unknown(name: &str, span: Span, known: &Definitions) -> Diagnostic {
    let near = nearest(name, known.keys().map(AsRef::as_ref));
    let names: Vec<&str> = known.keys().map(AsRef::as_ref).collect();
    Diagnostic {
        code: "E0111",
        message: format!("no workflow is called `{name}`"),
        span,
        reason: format!("the workflows given together and those that ship are {}", names.join(", ")),
        fix: Some(near.map_or_else(
            || format!("check it together with the file that defines `{name}`"),
            |near| format!("write `{near}`"),
        )),
    }
}

/// What something takes: a workflow its inputs, a task its input.
pub(super) struct Takes<'a> {
    /// Who it is.
    pub who: &'a str,
    /// The key under which it is given.
    pub under: &'static str,
    properties: BTreeMap<&'a str, &'a Value>,
    required: Vec<&'a str>,
    /// Whether it refuses others.
    is_closed: bool,
}

impl<'a> Takes<'a> {
    /// The inputs of a workflow.
    pub fn workflow(definition: &'a Definition, under: &'static str) -> Self {
        let inputs = &definition.inputs;
        Self {
            who: &definition.name,
            under,
            properties: inputs.iter().map(|(name, input)| (name.as_str(), &input.schema)).collect(),
            required: inputs
                .iter()
                .filter(|(_, input)| input.default.is_none())
                .map(|(name, _)| name.as_str())
                .collect(),
            is_closed: true,
        }
    }

    /// The input of a task, where its schema is that of a map.
    pub fn task(who: &'a str, schema: &'a Value) -> Option<Self> {
        let schema: &Map<String, Value> = schema.as_object()?;
        let properties = schema.get("properties")?.as_object()?;
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        Some(Self {
            who,
            under: "with",
            properties: properties.iter().map(|(name, schema)| (name.as_str(), schema)).collect(),
            required: required.filter_map(Value::as_str).collect(),
            is_closed: schema.get("additionalProperties") == Some(&Value::Bool(false)),
        })
    }

    /// Holds what is given against it; `place` is the map in which `under` stands, `type_of` tells what a value is.
    pub fn check(
        &self,
        given: &Template,
        place: Place<'_>,
        type_of: &mut dyn FnMut(&Template) -> Type,
        list: &mut Vec<Diagnostic>,
    ) {
        let literal: Map<String, Value>;
        let entries: Vec<(&str, Given<'_>)> = match given {
            Template::Map(map) => map.iter().map(|(name, value)| (name.as_str(), Given::Template(value))).collect(),
            Template::Literal(Value::Object(map)) => {
                literal = map.clone();
                literal.iter().map(|(name, value)| (name.as_str(), Given::Literal(value))).collect()
            }
            Template::Whole(_) | Template::Text(_) | Template::Literal(_) | Template::List(_) => {
                let found = type_of(given);
                if !found.may_be(&Type::open([("", Type::Any); 0])) {
                    let reason = format!("`{}` holds its inputs by name; this is {}", self.under, found.name());
                    list.push(unfit(
                        place.value(self.under),
                        format!("`{}` is not given a map", self.who),
                        reason,
                        None,
                    ));
                }
                return;
            }
        };
        for (name, value) in &entries {
            self.entry(name, value, place, type_of, list);
        }
        for name in self.required.iter().filter(|name| entries.iter().all(|(given, _)| given != *name)) {
            let message = format!("`{}` is not given its input `{name}`", self.who);
            let fix = Some(format!("add `{name}: …` under `{}`", self.under));
            list.push(unfit(place.key(self.under), message, format!("`{name}` has no default"), fix));
        }
    }

    fn entry(
        &self,
        name: &str,
        value: &Given<'_>,
        place: Place<'_>,
        type_of: &mut dyn FnMut(&Template) -> Type,
        list: &mut Vec<Diagnostic>,
    ) {
        let inside = place.below(self.under);
        let (key, at) = match inside {
            Some(inside) => (inside.key(name), inside.value(name)),
            None => (place.key(self.under), place.key(self.under)),
        };
        let Some(schema) = self.properties.get(name) else {
            if self.is_closed {
                let takes: Vec<&str> = self.properties.keys().copied().collect();
                let fix = nearest(name, takes.iter().copied()).map(|near| format!("write `{near}`"));
                let reason = format!("`{}` takes {}", self.who, takes.join(", "));
                list.push(unfit(key, format!("`{}` has no input `{name}`", self.who), reason, fix));
            }
            return;
        };
        let reason = match *value {
            Given::Literal(value) | Given::Template(Template::Literal(value)) if plainly_fits(schema, value) => None,
            Given::Literal(value) | Given::Template(Template::Literal(value)) => compile(schema)
                .ok()
                .and_then(|validator| validator.validate(value).err().map(|error| error.to_string())),
            Given::Template(template) => {
                let (found, wanted) = (type_of(template), Type::from_schema(schema));
                (!found.may_be(&wanted)).then(|| format!("it is {}, wanted is {}", found.name(), wanted.name()))
            }
        };
        if let Some(reason) = reason {
            list.push(unfit(at, format!("the input `{name}` does not fit `{}`", self.who), reason, None));
        }
    }
}

/// Whether a value has the type that is all its schema asks for: most have, and a whole schema is slow to set up.
fn plainly_fits(schema: &Value, value: &Value) -> bool {
    let Some(schema) = schema.as_object() else { return false };
    if schema.keys().any(|key| !["type", "title", "description", "default", "examples"].contains(&key.as_str())) {
        return false;
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => false,
    }
}

enum Given<'a> {
    Literal(&'a Value),
    Template(&'a Template),
}

fn unfit(span: Span, message: String, reason: String, fix: Option<String>) -> Diagnostic {
    Diagnostic { code: "E0112", message, span, reason, fix }
}

/// The way from the child called `name` back to the workflow called `from`, where there is one.
pub(super) fn circle(from: &str, name: &Arc<str>, span: Span, known: &Definitions) -> Option<Diagnostic> {
    let mut came: BTreeMap<&Arc<str>, &Arc<str>> = BTreeMap::new();
    let mut open = vec![name];
    while let Some(at) = open.pop() {
        if at.as_ref() == from {
            let mut way = vec![at.as_ref()];
            let mut here = at;
            while here != name {
                let Some(before) = came.get(here) else { break };
                way.push(before);
                here = before;
            }
            way.push(from);
            way.reverse();
            return Some(Diagnostic {
                code: "E0113",
                message: format!("`{from}` would start itself without end"),
                span,
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
