//! From the YAML of a test file to its cases: who answers and who orders. Knows no workflow.

use jiff::Timestamp;
use patchloom_core::calendar::Calendars;
use patchloom_core::yaml::{self, Kind, Node};
use patchloom_core::{Diagnostics, FailureClass, Span, Template, UtcMs, nearest};
use serde_json::{Map, Value, json};

use super::expect;
use super::fields::Reader;
use super::model::{Answer, Answers, Case, Child, File, Mocks, What};
use super::order;
use super::place::Place;

pub(super) const HEAD: &[&str] = &["description", "workflow", "defaults", "cases"];
pub(super) const DEFAULTS: &[&str] = &["clock", "calendars", "inputs", "tasks", "steps", "workflows"];
pub(super) const CASE: &[&str] =
    &["description", "clock", "calendars", "inputs", "tasks", "steps", "workflows", "do", "expect"];
pub(super) const ANSWER: &[&str] = &["output", "fail", "takes", "dies", "ignores_stop"];
pub(super) const CHILD: &[&str] = &["output", "fail", "takes", "dies", "ignores_stop", "undo"];
pub(super) const FAIL: &[&str] = &["code", "class", "message", "details"];
pub(super) const CLASSES: &[&str] = &["transient", "permanent", "ambiguous"];
/// What the expressions of an answer may read.
const NAMES: &[&str] = &["input", "attempt", "index"];
/// 2026-01-05T08:00:00Z, a Monday: what the clock shows where a test does not care.
const CLOCK: UtcMs = UtcMs(1_767_600_000_000);

/// What all cases begin with.
#[derive(Clone)]
struct Base {
    clock: UtcMs,
    calendars: Map<String, Value>,
    inputs: Map<String, Value>,
    inputs_span: Option<Span>,
    mocks: Mocks,
}

/// Reads a test file.
///
/// # Errors
/// All mistakes in one pass, with their places.
pub fn read(file: &str, source: &str) -> Result<File, Diagnostics> {
    let failed = |mut list: Vec<patchloom_core::Diagnostic>| {
        list.sort_by_key(|mistake| (mistake.span, mistake.code));
        list.dedup();
        Diagnostics { file: file.to_owned(), source: source.to_owned(), list }
    };
    let root = yaml::read(source).map_err(failed)?;
    let mut reader = Reader { source, mistakes: Vec::new() };
    let read = head(&mut reader, &root);
    match read {
        Some(read) if reader.mistakes.is_empty() => Ok(read),
        _ => Err(failed(reader.mistakes)),
    }
}

fn head(reader: &mut Reader<'_>, root: &Node) -> Option<File> {
    let fields = reader.open(root, "a test file", HEAD)?;
    fields.get("description").map(|node| reader.text(node, "`description`"));
    let workflow = fields.get("workflow");
    let workflow = workflow.and_then(|node| Some((reader.text(node, "`workflow`")?.to_owned(), node.span)));
    let mut base =
        Base { clock: CLOCK, calendars: Map::new(), inputs: Map::new(), inputs_span: None, mocks: Mocks::default() };
    if let Some(node) = fields.get("defaults") {
        reader.open(node, "`defaults`", DEFAULTS)?;
        lay_over(reader, &mut base, node);
    }
    let Some(cases) = fields.get("cases") else {
        reader.missing(Span::at(root.span.start, 1), "the test file", "cases");
        return None;
    };
    let entries = reader.map(cases, "`cases`")?;
    if entries.is_empty() {
        reader.bad(cases.span, "there are no cases".into(), "a test file holds at least one case", None);
    }
    let cases = entries.iter().filter_map(|(key, node)| case(reader, &base, (&key.text, key.span), node)).collect();
    Some(File { workflow, cases })
}

fn case(reader: &mut Reader<'_>, base: &Base, (name, span): (&str, Span), node: &Node) -> Option<Case> {
    let fields = reader.open(node, "a case", CASE)?;
    fields.get("description").map(|node| reader.text(node, "`description`"));
    let mut base = base.clone();
    lay_over(reader, &mut base, node);
    let mut orders = Vec::new();
    if let Some(node) = fields.get("do") {
        let nodes = reader.list(node, "`do`");
        orders.extend(nodes.iter().enumerate().filter_map(|(at, node)| order::read(reader, node, at)));
    }
    Some(Case {
        name: name.to_owned(),
        span,
        inputs: base.inputs,
        inputs_span: base.inputs_span.unwrap_or(span),
        clock: base.clock,
        calendars: calendars(reader, base.calendars, fields.get("calendars").map_or(span, |node| node.span)),
        mocks: base.mocks,
        orders,
        expect: expect::read(reader, span, fields.get("expect")),
    })
}

/// What a map says goes over what there was before.
fn lay_over(reader: &mut Reader<'_>, base: &mut Base, node: &Node) {
    let Kind::Map(entries) = &node.kind else { return };
    for (key, node) in entries {
        match key.text.as_str() {
            "clock" => base.clock = clock(reader, node).unwrap_or(base.clock),
            "calendars" => {
                let given = reader.map(node, "`calendars`").unwrap_or_default();
                base.calendars.extend(given.iter().map(|(key, value)| (key.text.clone(), value.to_json())));
            }
            "inputs" => {
                let given = reader.map(node, "`inputs`").unwrap_or_default();
                base.inputs.extend(given.iter().map(|(key, value)| (key.text.clone(), value.to_json())));
                base.inputs_span = Some(key.span);
            }
            "tasks" => {
                for (key, node) in reader.map(node, "`tasks`").unwrap_or_default() {
                    let answers = answers(reader, node, key.span);
                    base.mocks.tasks.extend(answers.map(|answers| (key.text.clone(), answers)));
                }
            }
            "steps" => {
                for (key, node) in reader.map(node, "`steps`").unwrap_or_default() {
                    let Some(place) = place(reader, &key.text, key.span) else { continue };
                    base.mocks.steps.extend(answers(reader, node, key.span).map(|answers| (place, answers)));
                }
            }
            "workflows" => {
                for (key, node) in reader.map(node, "`workflows`").unwrap_or_default() {
                    let child = child(reader, node, key.span);
                    base.mocks.workflows.extend(child.map(|child| (key.text.clone(), child)));
                }
            }
            _ => {}
        }
    }
}

/// The calendars of a case; they may name each other, so they are held together only here.
fn calendars(reader: &mut Reader<'_>, rules: Map<String, Value>, span: Span) -> Calendars {
    serde_json::from_value(Value::Object(rules)).unwrap_or_else(|error| {
        let fix = Some("see docs/calendars.md for what a calendar may say".to_owned());
        reader.bad(span, "the calendars of this case do not hold".into(), &error.to_string(), fix);
        Calendars::default()
    })
}

fn clock(reader: &mut Reader<'_>, node: &Node) -> Option<UtcMs> {
    let text = reader.text(node, "`clock`")?;
    let at = text.parse::<Timestamp>().ok().and_then(|at| u64::try_from(at.as_millisecond()).ok());
    if at.is_none() {
        let fix = Some("write it as 2026-01-05T08:00:00Z".to_owned());
        reader.bad(node.span, format!("`{text}` is no instant"), "the clock starts at an RFC 3339 instant", fix);
    }
    at.map(UtcMs)
}

/// A step as tests speak of it.
pub(super) fn place(reader: &mut Reader<'_>, text: &str, span: Span) -> Option<Place> {
    Place::parse(text)
        .map_err(|why| {
            let reason = "a step is written NAME, NAME[ITEM], CHILD_STEP/NAME, and `undo` before it for its way back";
            reader.bad(span, why, reason, None);
        })
        .ok()
}

fn answers(reader: &mut Reader<'_>, node: &Node, span: Span) -> Option<Answers> {
    let nodes = reader.one_or_many(node);
    let list: Vec<Answer> = nodes.into_iter().filter_map(|node| answer(reader, node, ANSWER)).collect();
    if matches!(&node.kind, Kind::List(items) if items.is_empty()) {
        reader.bad(node.span, "there is no answer".into(), "a list of answers has one per attempt", None);
    }
    (!list.is_empty()).then_some(Answers { span, list })
}

fn child(reader: &mut Reader<'_>, node: &Node, span: Span) -> Option<Child> {
    if let Kind::List(_) = node.kind {
        return Some(Child { answers: answers(reader, node, span)?, undo: None });
    }
    let list = vec![answer(reader, node, CHILD)?];
    let undo = reader.open(node, "a mocked workflow", CHILD)?.get("undo");
    let undo = undo.and_then(|node| answers(reader, node, node.span));
    Some(Child { answers: Answers { span, list }, undo })
}

fn answer(reader: &mut Reader<'_>, node: &Node, known: &[&str]) -> Option<Answer> {
    let what = if known == CHILD { "a mocked workflow" } else { "an answer" };
    let fields = reader.open(node, what, known)?;
    let what = match (fields.get("output"), fields.get("fail")) {
        (Some(_), Some(_)) => {
            let reason = "an attempt either succeeds with an output or fails";
            reader.bad(fields.key("fail"), "`fail` stands beside `output`".into(), reason, Some("remove one".into()));
            return None;
        }
        (None, Some(node)) => fail(reader, node)?,
        (Some(node), None) => What::Output(reader.template(node, NAMES)),
        (None, None) => What::Output(Template::Literal(Value::Null)),
    };
    let takes = fields.get("takes").and_then(|node| reader.duration(node, "`takes`")).unwrap_or_default();
    let dies = fields.get("dies").and_then(|node| reader.count(node, "`dies`")).unwrap_or(0);
    let ignores_stop = fields.get("ignores_stop").and_then(|node| reader.flag(node, "`ignores_stop`"));
    Some(Answer { span: node.span, what, takes, dies, ignores_stop: ignores_stop.unwrap_or(false) })
}

fn fail(reader: &mut Reader<'_>, node: &Node) -> Option<What> {
    let literal = |text: &str| Template::Literal(json!(text));
    let (code, message) = ("MOCKED".to_owned(), literal("told to fail by its test"));
    if let Kind::Text(_) = node.kind {
        let class = class(reader, node)?;
        return Some(What::Fail { code, class, message, details: Template::Literal(Value::Null) });
    }
    let fields = reader.open(node, "`fail`", FAIL)?;
    let code = fields.get("code").and_then(|node| reader.text(node, "`code`")).map_or(code, str::to_owned);
    let class = match fields.get("class") {
        Some(node) => class(reader, node)?,
        None => FailureClass::Permanent,
    };
    let message = fields.get("message").map_or(message, |node| reader.template(node, NAMES));
    let details = fields.get("details").map(|node| reader.template(node, NAMES));
    Some(What::Fail { code, class, message, details: details.unwrap_or(Template::Literal(Value::Null)) })
}

fn class(reader: &mut Reader<'_>, node: &Node) -> Option<FailureClass> {
    let text = reader.text(node, "the class of a failure")?;
    match text {
        "transient" => Some(FailureClass::Transient),
        "permanent" => Some(FailureClass::Permanent),
        "ambiguous" => Some(FailureClass::Ambiguous),
        _ => {
            let near = nearest(text, CLASSES.iter().copied()).map(|near| format!("write `{near}`"));
            let reason = format!("a failure is {}", CLASSES.join(", "));
            reader.bad(node.span, format!("`{text}` is no class of failures"), &reason, near);
            None
        }
    }
}
