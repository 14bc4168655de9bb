//! What stands around a step: windows, limits, tries, the way back.

use super::action::task_type;
use super::fields::{Fields, bad_value, duration, misfit, wrong_type};
use super::{ATTEMPTS_MAX, Compensate, Concurrency, OnFull, Rate, Retry, Window};
use crate::diagnostic::Diagnostic;
use crate::template::Template;
use crate::yaml::{Kind, Node};
use crate::{Millis, QueueName, TaskTimeouts};

pub(crate) const RETRY: &[&str] = &["attempts", "backoff", "max_backoff", "jitter", "except", "only"];
pub(crate) const TIMEOUT: &[&str] = &["queue", "attempt", "heartbeat", "total"];
pub(crate) const COMPENSATE: &[&str] = &["uses", "with", "retry", "timeout"];
pub(crate) const CONCURRENCY: &[&str] = &["group", "limit", "on_full"];
pub(crate) const RATE: &[&str] = &["limit", "per", "group"];
pub(crate) const WINDOW: &[&str] = &["calendar", "expected"];
/// The most places of a group, and the most starts per time.
const LIMIT_MAX: u32 = 1_000_000;

/// Reads `retry`; what it leaves open is as in `default`.
pub(super) fn retry(fields: &Fields<'_>, default: Retry, mistakes: &mut Vec<Diagnostic>) -> Retry {
    let Some(node) = fields.get("retry") else { return default };
    let Some(fields) = Fields::open(node, "`retry`", RETRY, mistakes) else { return default };
    if fields.has("except") && fields.has("only") {
        let reason = "with `only` every other code is left out anyway";
        mistakes.push(misfit(
            fields.key_span("except"),
            "`except` does not go with `only`".into(),
            reason,
            "keep one of them",
        ));
    }
    Retry {
        attempts: fields.count("attempts", ATTEMPTS_MAX, mistakes).unwrap_or(default.attempts),
        backoff: fields.span_of_time("backoff", mistakes).unwrap_or(default.backoff),
        max_backoff: fields.span_of_time("max_backoff", mistakes).unwrap_or(default.max_backoff),
        jitter: fields.flag("jitter", mistakes).unwrap_or(default.jitter),
        except: fields.texts("except", mistakes),
        only: fields.texts("only", mistakes),
    }
}

/// Reads `timeout`: the limits of one attempt, and the one over all.
pub(super) fn timeouts(fields: &Fields<'_>, mistakes: &mut Vec<Diagnostic>) -> (TaskTimeouts, Option<Millis>) {
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

/// Reads what stands behind `compensate`.
pub(super) fn compensate(node: &Node, source: &str, mistakes: &mut Vec<Diagnostic>) -> Option<Compensate> {
    let fields = Fields::open(node, "`compensate`", COMPENSATE, mistakes)?;
    let uses = fields.required("uses", "`compensate`", mistakes).and_then(|node| task_type(node, mistakes));
    let with = fields.template("with", source, mistakes);
    let retry = retry(&fields, Retry::UNDO, mistakes);
    let (timeouts, total) = timeouts(&fields, mistakes);
    if total.is_some() {
        mistakes.push(bad_value(
            fields.key_span("timeout"),
            "a compensation has no `total` limit".into(),
            "the way back is tried until it holds or a person takes over",
            Some("limit one attempt with `attempt`".into()),
        ));
    }
    let with = with.unwrap_or_else(|| Template::Literal(serde_json::json!({})));
    Some(Compensate { uses: uses?, with, retry, timeouts })
}

/// Reads `window`, and the `expected` beside it.
pub(super) fn window(fields: &Fields<'_>, source: &str, mistakes: &mut Vec<Diagnostic>) -> Option<Window> {
    let beside = fields.get("expected").and_then(|node| expected(node, source, mistakes));
    let Some(node) = fields.get("window") else {
        if fields.has("expected") {
            let reason = "it says how long before the end of a window an item may still start";
            let span = fields.key_span("expected");
            mistakes.push(misfit(span, "`expected` stands alone".into(), reason, "add `window: NAME`, or remove it"));
        }
        return None;
    };
    match &node.kind {
        Kind::Text(_) => Some(Window { calendar: Template::read(node, source, mistakes), expected: beside }),
        Kind::Map(_) => {
            let inside = Fields::open(node, "`window`", WINDOW, mistakes)?;
            let calendar = inside.required("calendar", "`window`", mistakes)?;
            let own = inside.get("expected").and_then(|node| expected(node, source, mistakes));
            if own.is_some() && beside.is_some() {
                let reason = "it stands inside `window` already";
                let span = fields.key_span("expected");
                mistakes.push(misfit(span, "`expected` is said twice".into(), reason, "keep one of them"));
            }
            Some(Window { calendar: Template::read(calendar, source, mistakes), expected: own.or(beside) })
        }
        Kind::Other(_) | Kind::List(_) => {
            mistakes.push(wrong_type(node, "`window`", "the name of a calendar"));
            None
        }
    }
}

/// Reads `queue`: a name, or an expression that comes to one.
pub(super) fn queue(fields: &Fields<'_>, source: &str, mistakes: &mut Vec<Diagnostic>) -> Option<Template> {
    let node = fields.get("queue")?;
    let template = match &node.kind {
        Kind::Text(_) => Template::read(node, source, mistakes),
        // A name may be all digits.
        Kind::Other(serde_json::Value::Number(number)) => Template::Literal(number.to_string().into()),
        Kind::Other(_) | Kind::List(_) | Kind::Map(_) => {
            mistakes.push(wrong_type(node, "`queue`", "the name of a queue"));
            return None;
        }
    };
    let written = match &template {
        Template::Literal(serde_json::Value::String(written)) => Some(written),
        _ => None,
    };
    if let Some(Err(error)) = written.map(|written| written.parse::<QueueName>()) {
        let message = format!("`{}` is no name for a queue", error.0);
        let reason = "a name is made of a-z, 0-9 and `-` and has at most 64 characters";
        let tidy = error.0.to_lowercase().replace([' ', '_', '.'], "-");
        let fix = tidy.parse::<QueueName>().ok().map(|name| format!("write `{name}`"));
        mistakes.push(bad_value(node.span, message, reason, fix));
    }
    Some(template)
}

/// How long something takes: a duration, or an expression that comes to one.
pub(super) fn expected(node: &Node, source: &str, mistakes: &mut Vec<Diagnostic>) -> Option<Template> {
    match Template::read(node, source, mistakes) {
        Template::Literal(_) => duration(node, "`expected`", mistakes)
            .map(|span| Template::Literal(serde_json::Value::String(span.to_string()))),
        template @ (Template::Whole(_) | Template::Text(_)) => Some(template),
        Template::List(_) | Template::Map(_) => {
            mistakes.push(wrong_type(node, "`expected`", "a duration such as 45m"));
            None
        }
    }
}

/// Reads `concurrency`; only a whole run may `replace` another.
pub(super) fn concurrency(
    fields: &Fields<'_>,
    whole_run: bool,
    source: &str,
    mistakes: &mut Vec<Diagnostic>,
) -> Option<Concurrency> {
    let fields = Fields::open(fields.get("concurrency")?, "`concurrency`", CONCURRENCY, mistakes)?;
    let group = fields.required("group", "`concurrency`", mistakes).map(|node| Template::read(node, source, mistakes));
    let limit = if whole_run { fields.get("limit") } else { fields.required("limit", "`concurrency`", mistakes) };
    let limit = if limit.is_some() { fields.count("limit", LIMIT_MAX, mistakes) } else { whole_run.then_some(1) };
    let all = [("queue", OnFull::Queue), ("reject", OnFull::Reject), ("replace", OnFull::Replace)];
    let is_replace = fields.get("on_full").is_some_and(|node| matches!(&node.kind, Kind::Text(t) if t == "replace"));
    if is_replace && !whole_run {
        mistakes.push(misfit(
            fields.key_span("on_full"),
            "a step cannot `replace` another".into(),
            "only whole runs are cancelled for one that comes after them",
            "write `queue` or `reject`, or put `concurrency` beside `steps` at the top",
        ));
        return None;
    }
    let words = if whole_run { &all[..] } else { &all[..2] };
    let on_full = fields.choice("on_full", words, mistakes).unwrap_or_default();
    Some(Concurrency { group: group?, limit: limit?, on_full })
}

/// Reads `rate`: a map, or `10/1m`.
pub(super) fn rate(fields: &Fields<'_>, source: &str, mistakes: &mut Vec<Diagnostic>) -> Option<Rate> {
    let node = fields.get("rate")?;
    if let Kind::Text(written) = &node.kind {
        let read = written.split_once('/').and_then(|(limit, per)| {
            let limit = limit.trim().parse::<u32>().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit))?;
            let per = per.trim().parse::<Millis>().ok().filter(|per| per.0 > 0)?;
            Some(Rate { limit, per, group: None })
        });
        if read.is_none() {
            let reason = format!("a rate is a number from 1 to {LIMIT_MAX}, a slash and a span of time");
            let fix = Some("write it like `10/1m`: ten a minute".into());
            mistakes.push(bad_value(node.span, format!("`{written}` is no rate"), &reason, fix));
        }
        return read;
    }
    let fields = Fields::open(node, "`rate`", RATE, mistakes)?;
    let limit = fields.required("limit", "`rate`", mistakes).and_then(|_| fields.count("limit", LIMIT_MAX, mistakes));
    let per = fields.required("per", "`rate`", mistakes).and_then(|node| duration(node, "`per`", mistakes));
    let group = fields.template("group", source, mistakes);
    Some(Rate { limit: limit?, per: per?, group })
}
