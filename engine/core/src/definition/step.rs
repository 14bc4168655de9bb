//! From a YAML map to one step.

use std::sync::Arc;

use super::fields::{Fields, bad_value, duration, name, text, wrong_type};
use super::read::Draft;
use super::{ATTEMPTS_MAX, Action, Compensate, ForEach, OnFailure, OnTimeout, Retry, SignalWait, Step, Wait};
use crate::diagnostic::{Diagnostic, Span};
use crate::expr::Expr;
use crate::template::Template;
use crate::yaml::{Key, Kind, Node};
use crate::{Millis, TaskTimeouts};

pub(crate) const STEP: &[&str] = &[
    "uses",
    "workflow",
    "wait",
    "set",
    "fail",
    "with",
    "needs",
    "if",
    "for_each",
    "retry",
    "timeout",
    "compensate",
    "pivot",
    "output",
    "description",
];
pub(crate) const FOR_EACH: &[&str] = &["items", "key", "max_parallel"];
pub(crate) const RETRY: &[&str] = &["attempts", "backoff", "max_backoff", "jitter"];
pub(crate) const TIMEOUT: &[&str] = &["queue", "attempt", "heartbeat", "total"];
pub(crate) const COMPENSATE: &[&str] = &["uses", "with", "retry", "timeout"];
pub(crate) const WAIT: &[&str] = &["signal", "timeout", "for", "until"];
const ACTIONS: [&str; 5] = ["uses", "workflow", "wait", "set", "fail"];

/// Reads the step called `key`.
pub(super) fn read(key: &Key, node: &Node, source: &str, mistakes: &mut Vec<Diagnostic>) -> Option<Draft> {
    let step_name = name(key, "a step", '_', mistakes);
    let fields = Fields::open(node, "a step", STEP, mistakes)?;
    fields.text("description", mistakes);
    let action = read_action(key, &fields, source, mistakes);
    let needs = read_needs(&fields, mistakes);
    let condition = fields.get("if").and_then(|node| read_condition(node, source, mistakes));
    let for_each = fields.get("for_each").and_then(|node| read_for_each(node, source, mistakes));
    let retry = read_retry(&fields, Retry::FORWARD, mistakes);
    let (timeouts, total) = read_timeouts(&fields, mistakes);
    let compensate = fields.get("compensate").and_then(|node| read_compensate(node, source, mistakes));
    let pivot = fields.flag("pivot", mistakes).unwrap_or(false);
    let output = fields.get("output").map(|node| Template::read(node, source, mistakes));
    let action = action?;
    fits_action(&fields, &action, mistakes);
    let step = Step {
        name: step_name?,
        needs: Vec::new(),
        condition,
        action,
        for_each,
        retry,
        timeouts,
        total,
        compensate,
        pivot,
        output,
        window: None,
        concurrency: None,
        rate: None,
        priority: 0,
        on_failure: OnFailure::Fail,
        finally: false,
    };
    Some(Draft { step, span: key.span, needs })
}

fn read_action(key: &Key, fields: &Fields<'_>, source: &str, mistakes: &mut Vec<Diagnostic>) -> Option<Action> {
    let found: Vec<&str> = ACTIONS.into_iter().filter(|action| fields.get(action).is_some()).collect();
    let [action] = found.as_slice() else {
        let (span, message) = match found.last() {
            None => (key.span, format!("the step `{}` does nothing", key.text)),
            Some(last) => {
                (fields.key_span(last), format!("the step `{}` does several things: {}", key.text, found.join(", ")))
            }
        };
        mistakes.push(Diagnostic {
            code: "E0107",
            message,
            span,
            reason: "a step does exactly one thing: uses, workflow, wait, set or fail".into(),
            fix: Some("make it one of them, or several steps".into()),
        });
        return None;
    };
    let node = fields.get(action)?;
    let with = fields
        .get("with")
        .map_or(Template::Literal(serde_json::json!({})), |with| Template::read(with, source, mistakes));
    match *action {
        "uses" => Some(Action::Task { uses: task_type(node, mistakes)?, with }),
        "workflow" => {
            let key = Key { text: text(node, "`workflow`", mistakes)?.to_owned(), span: node.span };
            Some(Action::Workflow { name: name(&key, "a workflow", '-', mistakes)?.0, with })
        }
        "wait" => read_wait(node, source, mistakes).map(Action::Wait),
        "set" => Some(Action::Set(Template::read(node, source, mistakes))),
        _ => Some(Action::Fail(Template::read(node, source, mistakes))),
    }
}

fn task_type(node: &Node, mistakes: &mut Vec<Diagnostic>) -> Option<Arc<str>> {
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

/// Keys that have a meaning for some actions only.
fn fits_action(fields: &Fields<'_>, action: &Action, mistakes: &mut Vec<Diagnostic>) {
    let (what, refused): (&str, &[&str]) = match action {
        Action::Task { .. } => return,
        Action::Workflow { .. } => ("workflow", &["compensate", "retry"]),
        Action::Wait(_) => ("wait", &["with", "for_each", "retry", "timeout", "compensate"]),
        Action::Set(_) => ("set", &["with", "for_each", "retry", "timeout", "compensate", "output"]),
        Action::Emit(_) => ("emit", &["with", "for_each", "retry", "timeout", "compensate", "output"]),
        Action::Steps(_) => ("steps", &["with", "compensate", "retry"]),
        Action::Fail(_) => ("fail", &["with", "for_each", "retry", "timeout", "compensate", "output", "pivot"]),
    };
    for key in refused.iter().filter(|key| fields.get(key).is_some()) {
        let reason = match (what, *key) {
            ("workflow", "compensate") => "a child run is undone by its own compensations",
            ("workflow", "retry") => "the steps of the child run retry by themselves",
            ("wait", "timeout") => "the time limit of a signal stands inside `wait`",
            _ => "it has no meaning for such a step",
        };
        mistakes.push(Diagnostic {
            code: "E0107",
            message: format!("`{key}` does not go with `{what}`"),
            span: fields.key_span(key),
            reason: reason.into(),
            fix: Some(format!("remove `{key}`")),
        });
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

fn read_condition(node: &Node, source: &str, mistakes: &mut Vec<Diagnostic>) -> Option<Expr> {
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

fn read_for_each(node: &Node, source: &str, mistakes: &mut Vec<Diagnostic>) -> Option<ForEach> {
    let fields = Fields::open(node, "`for_each`", FOR_EACH, mistakes)?;
    let items =
        fields.required("items", "`for_each`", mistakes).map(|items| Template::read(items, source, mistakes))?;
    if matches!(&items, Template::Literal(value) if !value.is_array())
        || matches!(items, Template::Map(_) | Template::Text(_))
    {
        mistakes.push(Diagnostic {
            code: "E0105",
            message: "`items` is not a list".into(),
            span: fields.get("items").map_or(fields.span, |items| items.span),
            reason: "`for_each` walks a list, or an expression that comes to one".into(),
            fix: None,
        });
    }
    Some(ForEach {
        items,
        key: fields.get("key").map(|key| Template::read(key, source, mistakes)),
        max_parallel: fields.count("max_parallel", 1_000_000, mistakes),
        per: Vec::new(),
        waves: Vec::new(),
        tolerate: None,
    })
}

fn read_retry(fields: &Fields<'_>, default: Retry, mistakes: &mut Vec<Diagnostic>) -> Retry {
    let Some(node) = fields.get("retry") else { return default };
    let Some(fields) = Fields::open(node, "`retry`", RETRY, mistakes) else { return default };
    Retry {
        attempts: fields.count("attempts", ATTEMPTS_MAX, mistakes).unwrap_or(default.attempts),
        backoff: fields.span_of_time("backoff", mistakes).unwrap_or(default.backoff),
        max_backoff: fields.span_of_time("max_backoff", mistakes).unwrap_or(default.max_backoff),
        jitter: fields.flag("jitter", mistakes).unwrap_or(default.jitter),
        except: default.except,
        only: default.only,
    }
}

fn read_timeouts(fields: &Fields<'_>, mistakes: &mut Vec<Diagnostic>) -> (TaskTimeouts, Option<Millis>) {
    let Some(node) = fields.get("timeout") else { return (TaskTimeouts::default(), None) };
    if !matches!(node.kind, Kind::Map(_)) {
        let attempt = duration(node, "`timeout`", mistakes);
        return (TaskTimeouts { attempt, ..TaskTimeouts::default() }, None);
    }
    let Some(fields) = Fields::open(node, "`timeout`", TIMEOUT, mistakes) else {
        return (TaskTimeouts::default(), None);
    };
    let timeouts = TaskTimeouts {
        queue: fields.span_of_time("queue", mistakes),
        attempt: fields.span_of_time("attempt", mistakes),
        heartbeat: fields.span_of_time("heartbeat", mistakes),
    };
    (timeouts, fields.span_of_time("total", mistakes))
}

fn read_compensate(node: &Node, source: &str, mistakes: &mut Vec<Diagnostic>) -> Option<Compensate> {
    let fields = Fields::open(node, "`compensate`", COMPENSATE, mistakes)?;
    let uses = fields.required("uses", "`compensate`", mistakes).and_then(|node| task_type(node, mistakes));
    let with = fields
        .get("with")
        .map_or(Template::Literal(serde_json::json!({})), |with| Template::read(with, source, mistakes));
    let retry = read_retry(&fields, Retry::UNDO, mistakes);
    let (timeouts, total) = read_timeouts(&fields, mistakes);
    if total.is_some() {
        mistakes.push(bad_value(
            fields.key_span("timeout"),
            "a compensation has no `total` limit".into(),
            "the way back is tried until it holds or a person takes over",
            Some("limit one attempt with `attempt`".into()),
        ));
    }
    Some(Compensate { uses: uses?, with, retry, timeouts })
}

fn read_wait(node: &Node, source: &str, mistakes: &mut Vec<Diagnostic>) -> Option<Wait> {
    let fields = Fields::open(node, "`wait`", WAIT, mistakes)?;
    let signal = fields.text("signal", mistakes);
    let timeout = fields.span_of_time("timeout", mistakes);
    let span = fields.span_of_time("for", mistakes);
    let until = fields.get("until").map(|until| Template::read(until, source, mistakes));
    match (signal, span, until) {
        (Some(name), None, None) => Some(Wait::Signal(SignalWait {
            name: name.into(),
            schema: None,
            quorum: 1,
            roles: Vec::new(),
            timeout,
            on_timeout: OnTimeout::Fail,
        })),
        (None, Some(span), None) if timeout.is_none() => Some(Wait::For(span)),
        (None, None, Some(until)) if timeout.is_none() => Some(Wait::Until(until)),
        _ => {
            mistakes.push(Diagnostic {
                code: "E0107",
                message: "this waits for nothing, or for several things".into(),
                span: node.span,
                reason: "a wait is {signal: NAME, timeout: 5d}, {for: 30s} or {until: INSTANT}".into(),
                fix: None,
            });
            None
        }
    }
}
