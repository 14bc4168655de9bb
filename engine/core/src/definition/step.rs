//! From a YAML map to one step.

use super::action;
use super::around::{compensate, concurrency, queue, rate, retry, timeouts, window};
use super::fields::{Fields, bad_value, name, text, wrong_type};
use super::fits::fits;
use super::read::{Around, Draft};
use super::{Action, OnFailure, Retry, Step, fanout};
use crate::diagnostic::{Diagnostic, Span};
use crate::expr::Expr;
use crate::template::Template;
use crate::yaml::{Key, Kind, Node};

pub(crate) const STEP: &[&str] = &[
    "description",
    "uses",
    "workflow",
    "wait",
    "set",
    "fail",
    "emit",
    "steps",
    "with",
    "needs",
    "if",
    "for_each",
    "window",
    "expected",
    "concurrency",
    "rate",
    "priority",
    "queue",
    "retry",
    "timeout",
    "on_failure",
    "compensate",
    "pivot",
    "output",
];
/// The words of `on_failure`.
pub(super) const ON_FAILURE: [(&str, OnFailure); 3] =
    [("fail", OnFailure::Fail), ("continue", OnFailure::Continue), ("pause", OnFailure::Pause)];
/// The lowest and the highest priority.
pub(super) const PRIORITY: (i32, i32) = (-100, 100);

/// Reads the step called `key`.
pub(super) fn read(key: &Key, node: &Node, around: &Around<'_>, mistakes: &mut Vec<Diagnostic>) -> Option<Draft> {
    let source = around.source;
    let step_name = name(key, "a step", '_', mistakes);
    let fields = Fields::open(node, "a step", STEP, mistakes)?;
    fields.text("description", mistakes);
    let output = fields.template("output", source, mistakes);
    let action = action::read(key, &fields, output.as_ref(), around, mistakes);
    let needs = read_needs(&fields, mistakes);
    let (timeouts, total) = timeouts(&fields, mistakes);
    let mut step = Step {
        name: crate::StepName::from(key.text.as_str()),
        needs: Vec::new(),
        condition: fields.get("if").and_then(|node| condition(node, source, mistakes)),
        for_each: fields.get("for_each").and_then(|node| fanout::read(node, source, mistakes)),
        retry: retry(&fields, Retry::FORWARD, mistakes),
        timeouts,
        total,
        compensate: fields.get("compensate").and_then(|node| compensate(node, source, mistakes)),
        pivot: fields.flag("pivot", mistakes).unwrap_or(false),
        window: window(&fields, source, mistakes),
        concurrency: concurrency(&fields, false, source, mistakes),
        rate: rate(&fields, source, mistakes),
        priority: fields.integer("priority", PRIORITY.0, PRIORITY.1, mistakes).unwrap_or(0),
        queue: queue(&fields, source, mistakes),
        on_failure: fields.choice("on_failure", &ON_FAILURE, mistakes).unwrap_or_default(),
        finally: around.finally,
        // The output of a sub-DAG is told by the sub-DAG.
        output: output.filter(|_| !matches!(action, Some(Action::Steps(_)))),
        action: action?,
    };
    complete(&mut step, &fields, around);
    fits(&fields, &step, mistakes);
    step.name = step_name?;
    Some(Draft { step, span: key.span, needs })
}

/// Fills in what `defaults` say and the step does not.
fn complete(step: &mut Step, fields: &Fields<'_>, around: &Around<'_>) {
    let defaults = around.defaults;
    let works = matches!(step.action, Action::Task { .. } | Action::Workflow { .. } | Action::Steps(_));
    if matches!(step.action, Action::Task { .. }) {
        if let Some(retry) = defaults.retry.clone().filter(|_| !fields.has("retry")) {
            step.retry = retry;
        }
        if let Some((timeouts, total)) = defaults.timeout.filter(|_| !fields.has("timeout")) {
            (step.timeouts, step.total) = (timeouts, total);
        }
        if !fields.has("queue") {
            step.queue = defaults.queue.clone();
        }
    }
    if let Some(priority) = defaults.priority.filter(|_| !fields.has("priority")) {
        step.priority = priority;
    }
    if let Some(on_failure) = defaults.on_failure
        && !fields.has("on_failure")
        && !matches!(step.action, Action::Fail(_))
    {
        step.on_failure = on_failure;
    }
    // What tidies up does not wait for a window.
    if works && !step.finally && !fields.has("window") {
        step.window = defaults.window.clone();
    }
}

fn read_needs(fields: &Fields<'_>, mistakes: &mut Vec<Diagnostic>) -> Vec<(String, Span)> {
    let Some(node) = fields.get("needs") else { return Vec::new() };
    let items: Vec<&Node> = match &node.kind {
        Kind::List(items) => items.iter().collect(),
        Kind::Text(_) => vec![node],
        Kind::Other(_) | Kind::Map(_) => {
            mistakes.push(wrong_type(node, "`needs`", "a list of step names"));
            return Vec::new();
        }
    };
    items.into_iter().filter_map(|item| Some((text(item, "a step name", mistakes)?.to_owned(), item.span))).collect()
}

/// Reads what stands behind `if`: always an expression, in braces or bare.
pub(super) fn condition(node: &Node, source: &str, mistakes: &mut Vec<Diagnostic>) -> Option<Expr> {
    let written = match &node.kind {
        Kind::Text(text) => text.clone(),
        Kind::Other(serde_json::Value::Bool(flag)) => flag.to_string(),
        Kind::Other(_) | Kind::List(_) | Kind::Map(_) => {
            mistakes.push(wrong_type(node, "`if`", "an expression"));
            return None;
        }
    };
    if !written.contains("${{") {
        // A bare condition: what `if` holds is always an expression.
        let quoted = usize::from(source.get(node.span.start..).is_some_and(|raw| raw.starts_with(['"', '\''])));
        return Expr::compile(&written, node.span.start + quoted).map_err(|mistake| mistakes.push(*mistake)).ok();
    }
    let before = mistakes.len();
    match Template::read(node, source, mistakes) {
        Template::Whole(expr) => Some(expr),
        _ if mistakes.len() > before => None,
        _ => {
            mistakes.push(bad_value(
                node.span,
                "`if` is text with an expression in it".into(),
                "a condition is one expression that comes to true or false",
                Some("put all of it between one `${{` and `}}`".into()),
            ));
            None
        }
    }
}
