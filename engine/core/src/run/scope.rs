//! What the expressions of a run may read, put together for one expression at a time.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{Run, Status, Work};
use crate::expr::{EvalError, Expr, Reference, Scope};
use crate::template::Template;
use crate::{Definition, Failure};

/// Names that exist in one place only.
pub(super) type Locals = Vec<(&'static str, Value)>;

/// The value of `template` as a step's own work sees it.
pub(super) fn eval(
    run: &Run,
    definition: &Definition,
    template: &Template,
    locals: Locals,
) -> Result<Value, EvalError> {
    value_of(run, definition, template, (locals, false))
}

/// The value of `template` as a compensation sees it: what ended after the failure is not there.
pub(super) fn eval_frozen(
    run: &Run,
    definition: &Definition,
    template: &Template,
    locals: Locals,
) -> Result<Value, EvalError> {
    value_of(run, definition, template, (locals, true))
}

fn value_of(
    run: &Run,
    definition: &Definition,
    template: &Template,
    (locals, frozen): (Locals, bool),
) -> Result<Value, EvalError> {
    match template {
        Template::Literal(value) => Ok(value.clone()),
        _ => template.eval(&scope(run, definition, template.references(), locals, frozen)),
    }
}

/// Whether the step at `at` runs by its `if`.
pub(super) fn condition(
    run: &Run,
    definition: &Definition,
    condition: &Expr,
    upstream_failed: bool,
) -> Result<bool, EvalError> {
    let mut scope = scope(run, definition, condition.references().iter(), Vec::new(), false);
    scope.upstream_failed = upstream_failed;
    match condition.eval(&scope)? {
        Value::Bool(flag) => Ok(flag),
        other => Err(EvalError {
            expression: condition.source().to_owned(),
            reason: format!("a condition is true or false, this is {other}"),
        }),
    }
}

fn scope<'a>(
    run: &Run,
    definition: &Definition,
    references: impl Iterator<Item = &'a Reference>,
    locals: Locals,
    frozen: bool,
) -> Scope {
    let mut values: BTreeMap<&'static str, Value> = locals.into_iter().collect();
    let mut steps: BTreeSet<&str> = BTreeSet::new();
    for reference in references {
        match reference.path[0].as_str() {
            "inputs" => {
                values.entry("inputs").or_insert_with(|| run.inputs.clone());
            }
            "run" => {
                values.entry("run").or_insert_with(|| describe(run));
            }
            "steps" => steps.extend(reference.path.get(1).map(String::as_str)),
            _ => {}
        }
    }
    if !steps.is_empty() {
        let shown = steps.iter().filter_map(|name| {
            let at = definition.position(name)?;
            Some(((*name).to_owned(), show(&run.steps[at].status, frozen)))
        });
        values.insert("steps", Value::Object(shown.collect::<Map<String, Value>>()));
    }
    Scope { values, upstream_failed: false }
}

fn describe(run: &Run) -> Value {
    json!({
        "id": run.id().to_string(), "workflow": run.start.workflow.as_ref(), "version": run.start.version.0.as_ref(),
        "started_ms": run.started.0, "labels": run.start.labels,
    })
}

fn show(status: &Status, frozen: bool) -> Value {
    match status {
        Status::Done { late: true, .. } if frozen => json!({"status": "halted", "output": null}),
        Status::Done { output, .. } => json!({"status": status.name(), "output": output}),
        Status::Pending
        | Status::Active
        | Status::Waiting { .. }
        | Status::Skipped(_)
        | Status::Failed(_)
        | Status::Halted => json!({"status": status.name(), "output": null}),
    }
}

/// `item` and `index`, where the step fans out.
pub(super) fn item(work: &Work, at: u32) -> Locals {
    let position = usize::try_from(at).ok();
    match position.and_then(|position| work.items.get(position)) {
        Some(item) => vec![("item", item.clone()), ("index", Value::from(at))],
        None => Vec::new(),
    }
}

/// What only a compensation sees: its own output, if there is one, and why the run fails.
pub(super) fn undo(work: &Work, at: u32, failure: Option<&Failure>) -> Locals {
    let mut locals = item(work, at);
    locals.push(("self", json!({"output": work.outputs.get(&at)})));
    locals.push(("failure", failure.map_or(Value::Null, |failure| json!(failure))));
    locals
}
