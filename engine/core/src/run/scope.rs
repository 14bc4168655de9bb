//! What the expressions of a run may read, put together for one expression at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{Items, Phase, Run, Status, Work};
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
        Template::Whole(expr) if !frozen && let Some(value) = plain(run, definition, expr) => Ok(value.clone()),
        _ => template.eval(&scope(run, definition, template.references(), locals, frozen)),
    }
}

/// The list that `template` comes to, without a copy where it just names one.
///
/// # Errors
/// The value that is no list, or why there is none.
pub(super) fn list(run: &Run, definition: &Definition, template: &Template) -> Result<Result<Items, Value>, EvalError> {
    let named = match template {
        Template::Literal(value) => Some(value),
        Template::Whole(expr) => plain(run, definition, expr),
        Template::Text(_) | Template::List(_) | Template::Map(_) => None,
    };
    if let Some(Value::Array(values)) = named {
        return Ok(Ok(values.iter().collect()));
    }
    Ok(match eval(run, definition, template, Vec::new())? {
        Value::Array(values) => Ok(values.iter().collect()),
        other => Err(other),
    })
}

/// What an expression stands for that only names an input or an output; `None` for any other, and where it is not there.
fn plain<'a>(run: &'a Run, definition: &Definition, expr: &Expr) -> Option<&'a Value> {
    let (root, path) = expr.path()?.split_first()?;
    let (from, path) = match root.as_str() {
        "inputs" if definition.captures.is_some() => (run.inputs.get("inputs")?, path),
        "inputs" => (&*run.inputs, path),
        "steps" => {
            let (name, rest) = path.split_first()?;
            let state = &run.steps[definition.position(name)?];
            match (&state.status, rest.split_first()?) {
                (Status::Done { output, .. }, (field, rest)) if field == "output" => (output, rest),
                _ => return None,
            }
        }
        _ => return None,
    };
    path.iter().try_fold(from, |value, name| value.as_object()?.get(name))
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
    truth(condition, &scope)
}

/// Whether a condition holds that sees `locals` besides.
pub(super) fn condition_with(
    run: &Run,
    definition: &Definition,
    condition: &Expr,
    locals: Locals,
) -> Result<bool, EvalError> {
    truth(condition, &scope(run, definition, condition.references().iter(), locals, false))
}

/// The value of `template` as text: a name of a group, a calendar, a key.
pub(super) fn text(
    run: &Run,
    definition: &Definition,
    template: &Template,
    locals: Locals,
) -> Result<Arc<str>, Failure> {
    match eval(run, definition, template, locals) {
        Ok(Value::String(text)) => Ok(text.into()),
        Ok(other) => Ok(other.to_string().into()),
        Err(error) => Err(super::machine::permanent("E0205", error.to_string())),
    }
}

fn truth(condition: &Expr, scope: &Scope) -> Result<bool, EvalError> {
    match condition.eval(scope)? {
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
    let (mut inputs, mut steps) = (Value::Null, Value::Null);
    let around = definition.captures.as_ref().map(|_| &run.inputs);
    for reference in references {
        let path = &reference.path[1..];
        match reference.path[0].as_str() {
            "inputs" => graft(&mut inputs, around.map_or(&*run.inputs, |around| &around["inputs"]), path),
            "steps" => {
                let Some((name, rest)) = path.split_first() else { continue };
                match definition.position(name) {
                    Some(at) => show(&mut steps, (run, definition, at), rest, frozen),
                    None => {
                        if let Some(around) = around {
                            graft(&mut steps, &around["steps"], path);
                        }
                    }
                }
            }
            "run" => {
                values.entry("run").or_insert_with(|| describe(run));
            }
            local @ ("item" | "index") => {
                let name = if local == "item" { "item" } else { "index" };
                if let Some(around) = around
                    && !values.contains_key(name)
                {
                    values.insert(name, around[name].clone());
                }
            }
            _ => {}
        }
    }
    for (name, value) in [("inputs", inputs), ("steps", steps)] {
        if !value.is_null() {
            values.insert(name, value);
        }
    }
    Scope { values, upstream_failed: false }
}

/// Copies what stands at `path` of `from` to the same place of `to`, and no more: inputs may hold a hundred thousand
/// hosts, of which an expression reads the name of their group.
fn graft(to: &mut Value, from: &Value, path: &[String]) {
    match (path.split_first(), from) {
        (Some((name, rest)), Value::Object(map)) => {
            if !to.is_object() {
                *to = Value::Object(Map::new());
            }
            if let (Some(value), Value::Object(to)) = (map.get(name), to) {
                graft(to.entry(name.clone()).or_insert(Value::Null), value, rest);
            }
        }
        _ => *to = from.clone(),
    }
}

/// What a sub-DAG of `run` begins with: the parts of the run around it that it reads.
pub(super) fn captured(run: &Run, definition: &Definition, inner: &Definition, locals: Locals) -> Value {
    let mut all = json!({"inputs": {}, "steps": {}});
    let Some(captures) = &inner.captures else { return all };
    let around = definition.captures.as_ref().map(|_| &run.inputs);
    for name in &captures.inputs {
        let inputs = around.map_or(&*run.inputs, |around| &around["inputs"]);
        graft(&mut all["inputs"], inputs, std::slice::from_ref(name));
    }
    for name in &captures.steps {
        match (definition.position(name), around) {
            (Some(at), _) => show(&mut all["steps"], (run, definition, at), &[], false),
            (None, Some(around)) => graft(&mut all["steps"], &around["steps"], std::slice::from_ref(name)),
            (None, None) => {}
        }
    }
    let own = !locals.is_empty();
    for (name, value) in locals {
        all[name] = value;
    }
    if let (false, Some(around)) = (own, around) {
        for name in ["item", "index"] {
            if let Some(value) = around.get(name) {
                all[name] = value.clone();
            }
        }
    }
    all
}

fn describe(run: &Run) -> Value {
    let end = match &run.phase {
        Phase::Closing { end } => Some(end.name()),
        _ => None,
    };
    json!({
        "id": run.id().to_string(), "workflow": run.start.workflow.as_ref(), "version": run.start.version.0.as_ref(),
        "started_ms": run.started.0, "labels": run.start.labels, "end": end,
        "failure": run.cause.as_ref().map(|cause| &cause.failure),
    })
}

/// Puts what an expression reads of a step into `steps`.
fn show(steps: &mut Value, (run, definition, at): (&Run, &Definition, usize), rest: &[String], frozen: bool) {
    let (step, state) = (&definition.steps[at], &run.steps[at]);
    if !steps.is_object() {
        *steps = Value::Object(Map::new());
    }
    let shown = &mut steps[step.name.as_str()];
    if !shown.is_object() {
        *shown = json!({});
    }
    let late = frozen && matches!(state.status, Status::Done { late: true, .. });
    let wanted = |name: &str| rest.first().is_none_or(|field| field == name);
    if wanted("status") {
        shown["status"] = Value::from(if late { "halted" } else { state.status.name() });
    }
    if wanted("output") {
        match &state.status {
            Status::Done { output, .. } if !late => {
                graft(&mut shown["output"], output, rest.get(1..).unwrap_or_default())
            }
            _ => shown["output"] = Value::Null,
        }
    }
    if wanted("failed") {
        shown["failed"] = failed(run, definition, at);
    }
    if wanted("counts") {
        let work = state.work.as_ref();
        let count = |of: fn(&Work) -> usize| work.map_or(0, |work| of(work));
        shown["counts"] = json!({
            "items": work.map_or(0, |work| work.count), "done": work.map_or(0, |work| work.done),
            "failed": count(|work| work.failed.len()), "cancelled": count(|work| work.rested.len()),
        });
    }
}

/// The items of a step that failed.
fn failed(run: &Run, definition: &Definition, at: usize) -> Value {
    let Some(work) = &run.steps[at].work else { return json!([]) };
    let key = definition.steps[at].for_each.as_ref().and_then(|for_each| for_each.key.as_ref());
    let one = |(at, failure): (&u32, &Failure)| {
        let name = key.and_then(|key| text(run, definition, key, item(work, *at)).ok());
        let value = usize::try_from(*at).ok().and_then(|at| work.items.get(at));
        json!({"index": at, "item": value, "key": name, "code": failure.code, "message": failure.message})
    };
    work.failed.iter().map(one).collect()
}

/// `item` and `index`, where the step fans out.
pub(super) fn item(work: &Work, at: u32) -> Locals {
    let position = usize::try_from(at).ok();
    match position.and_then(|position| work.items.get(position)) {
        Some(item) => vec![("item", item), ("index", Value::from(at))],
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
