//! What does not go together in one step, and why.

use super::fields::{Fields, misfit};
use super::{Action, OnFailure, Step};
use crate::diagnostic::Diagnostic;

const NO_WORK: [&str; 6] = ["window", "expected", "concurrency", "rate", "priority", "queue"];

/// Refuses keys that have no meaning for the step's action, or beside each other.
pub(super) fn fits(fields: &Fields<'_>, step: &Step, mistakes: &mut Vec<Diagnostic>) {
    let (what, refused): (&str, &[&str]) = match &step.action {
        Action::Task { .. } => ("uses", &[]),
        Action::Workflow { .. } => ("workflow", &["compensate", "retry", "queue"]),
        Action::Steps(_) => ("steps", &["with", "compensate", "retry", "queue"]),
        Action::Wait(_) => ("wait", &["with", "for_each", "retry", "timeout", "compensate"]),
        Action::Set(_) => ("set", &["with", "for_each", "retry", "timeout", "compensate", "output"]),
        Action::Emit(_) => ("emit", &["with", "for_each", "retry", "timeout", "compensate", "output"]),
        Action::Fail(_) => {
            ("fail", &["with", "for_each", "retry", "timeout", "compensate", "output", "pivot", "on_failure"])
        }
    };
    let idle: &[&str] = match &step.action {
        Action::Task { .. } | Action::Workflow { .. } | Action::Steps(_) => &[],
        Action::Wait(_) | Action::Set(_) | Action::Emit(_) | Action::Fail(_) => &NO_WORK,
    };
    for key in refused.iter().chain(idle).filter(|key| fields.has(key)) {
        let message = format!("`{key}` does not go with `{what}`");
        mistakes.push(misfit(fields.key_span(key), message, why(what, key), &format!("remove `{key}`")));
    }
    if step.finally {
        for key in ["compensate", "pivot"].into_iter().filter(|key| fields.has(key)) {
            let reason = "when a step of `finally` runs, the way back is over or was not needed";
            let message = format!("`{key}` does not go with `finally`");
            mistakes.push(misfit(fields.key_span(key), message, reason, &format!("remove `{key}`")));
        }
    }
    half_done(fields, step, mistakes);
}

fn why(what: &str, key: &str) -> &'static str {
    match (what, key) {
        ("workflow", "compensate") => "a child run is undone by its own compensations",
        ("workflow", "retry") => "the steps of the child run retry by themselves",
        ("steps", "compensate") => "the steps inside are undone by their own compensations",
        ("steps", "retry") => "the steps inside retry by themselves",
        ("workflow" | "steps", "queue") => "its own steps say which workers their tasks are for",
        ("steps", "with") => "the steps inside read `inputs`, `steps` and `item` of what is around them",
        ("wait", "timeout") => "the time limit of a wait stands inside `wait`",
        ("wait", "window") => "a wait takes no place in a window; to wait for one, write `wait: {window: NAME}`",
        ("fail", "on_failure") => "a step that fails on purpose fails its run",
        (_, "window" | "expected" | "concurrency" | "rate" | "priority" | "queue") => {
            "such a step gives no work to anybody: there is nothing to hold back"
        }
        _ => "it has no meaning for such a step",
    }
}

/// What is borne is not undone, and what is undone is not borne.
fn half_done(fields: &Fields<'_>, step: &Step, mistakes: &mut Vec<Diagnostic>) {
    if step.compensate.is_none() {
        return;
    }
    let tolerates = step.for_each.as_ref().is_some_and(|for_each| for_each.tolerate.is_some());
    let fix = "put the work under `steps:` so that it is undone by itself";
    if tolerates {
        let reason = "a tolerated item would stay half done";
        let message = "`compensate` does not go with `tolerate`".to_owned();
        mistakes.push(misfit(fields.key_span("compensate"), message, reason, fix));
    }
    if step.on_failure == OnFailure::Continue {
        let reason = "a step whose failure the run passes over would stay half done";
        let message = "`compensate` does not go with `on_failure: continue`".to_owned();
        mistakes.push(misfit(fields.key_span("compensate"), message, reason, fix));
    }
}
