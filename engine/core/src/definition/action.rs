//! What a step does: the one action key of its map.

use std::sync::Arc;

use super::fields::{Fields, bad_value, misfit, name, text};
use super::read::Around;
use super::{Action, Emit, nest, wait};
use crate::diagnostic::Diagnostic;
use crate::template::Template;
use crate::yaml::{Key, Node};

pub(crate) const EMIT: &[&str] = &["type", "subject", "data"];
/// The keys of which a step has exactly one.
pub(super) const ACTIONS: [&str; 7] = ["uses", "workflow", "wait", "set", "fail", "emit", "steps"];

/// Reads the action of the step called `key`; `output` is the step's own, which a sub-DAG takes over.
pub(super) fn read(
    key: &Key,
    fields: &Fields<'_>,
    output: Option<&Template>,
    around: &Around<'_>,
    mistakes: &mut Vec<Diagnostic>,
) -> Option<Action> {
    let found: Vec<&str> = ACTIONS.into_iter().filter(|action| fields.has(action)).collect();
    let [action] = found.as_slice() else {
        if found.is_empty() && fields.misspells(&ACTIONS) {
            return None;
        }
        let (span, message) = match found.last() {
            None => (key.span, format!("the step `{}` does nothing", key.text)),
            Some(last) => {
                (fields.key_span(last), format!("the step `{}` does several things: {}", key.text, found.join(", ")))
            }
        };
        let reason = "a step does exactly one thing: uses, workflow, wait, set, fail, emit or steps";
        mistakes.push(misfit(span, message, reason, "make it one of them, or several steps"));
        return None;
    };
    let node = fields.get(action)?;
    let with = |mistakes: &mut Vec<Diagnostic>| {
        fields.template("with", around.source, mistakes).unwrap_or_else(|| Template::Literal(serde_json::json!({})))
    };
    match *action {
        "uses" => {
            let with = with(mistakes);
            Some(Action::Task { uses: task_type(node, mistakes)?, with })
        }
        "workflow" => {
            let with = with(mistakes);
            let key = Key { text: text(node, "`workflow`", mistakes)?.to_owned(), span: node.span };
            Some(Action::Workflow { name: name(&key, "a workflow", '-', mistakes)?.0, with })
        }
        "wait" => wait::read(node, around.source, mistakes).map(Action::Wait),
        "set" => Some(Action::Set(Template::read(node, around.source, mistakes))),
        "emit" => emit(node, around.source, mistakes).map(Action::Emit),
        "steps" => nest::read(key, node, output.cloned(), around, mistakes).map(Action::Steps),
        _ => Some(Action::Fail(Template::read(node, around.source, mistakes))),
    }
}

fn emit(node: &Node, source: &str, mistakes: &mut Vec<Diagnostic>) -> Option<Emit> {
    let fields = Fields::open(node, "`emit`", EMIT, mistakes)?;
    let kind = fields.required("type", "`emit`", mistakes)?;
    let kind = match text(kind, "`type`", mistakes)? {
        "" => {
            mistakes.push(bad_value(kind.span, "`type` is empty".into(), "an event has a type", None));
            return None;
        }
        _ => Template::read(kind, source, mistakes),
    };
    let data = fields.template("data", source, mistakes);
    Some(Emit {
        kind,
        subject: fields.template("subject", source, mistakes),
        data: data.unwrap_or_else(|| Template::Literal(serde_json::json!({}))),
    })
}

/// Two or more names with dots between.
pub(super) fn task_type(node: &Node, mistakes: &mut Vec<Diagnostic>) -> Option<Arc<str>> {
    let uses = text(node, "`uses`", mistakes)?;
    let good = uses.split('.').count() >= 2
        && uses.split('.').all(|part| {
            part.starts_with(|c: char| c.is_ascii_lowercase())
                && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        });
    if !good {
        let reason = "a task type is two or more names with dots between, such as scan.packages";
        mistakes.push(bad_value(node.span, format!("`{uses}` is no task type"), reason, None));
        return None;
    }
    Some(uses.into())
}
