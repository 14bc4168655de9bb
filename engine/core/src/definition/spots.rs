//! The places of a step in which expressions stand, and the names that each place knows.

use super::{Action, Step, Wait, Window};
use crate::expr::Expr;
use crate::template::Template;
use crate::types::Type;

/// What stands in a place.
#[derive(Clone, Copy)]
pub(super) enum Held<'a> {
    Condition(&'a Expr),
    Template(&'a Template),
}

impl<'a> Held<'a> {
    pub fn exprs(self) -> Vec<&'a Expr> {
        match self {
            Self::Condition(expr) => vec![expr],
            Self::Template(template) => template.exprs(),
        }
    }
}

/// What a place wants.
#[derive(Clone, Copy)]
pub(super) enum Wants {
    Anything,
    /// A condition.
    Truth,
    /// What `for_each` walks.
    Items,
    /// The name of a calendar.
    Calendar,
    /// How long an item takes.
    Expected,
    /// An instant.
    Instant,
    /// The name of a queue.
    Queue,
    /// The type of an event.
    EventType,
}

impl Wants {
    /// What the place is called, and what it wants.
    pub fn told(self) -> Option<(&'static str, Type)> {
        match self {
            Self::Anything => None,
            Self::Truth => Some(("`if`", Type::Bool)),
            Self::Items => Some(("`items`", Type::list(Type::Any))),
            Self::Calendar => Some(("the calendar", Type::Text)),
            Self::Expected => Some(("`expected`", Type::either([Type::Text, Type::Int]))),
            Self::Instant => Some(("`until`", Type::either([Type::Text, Type::Int]))),
            Self::Queue => Some(("`queue`", Type::Text)),
            Self::EventType => Some(("`type`", Type::Text)),
        }
    }
}

/// One place of a step.
pub(super) struct Spot<'a> {
    pub held: Held<'a>,
    pub wants: Wants,
    /// Names that exist only here: `item`, `self`, …
    pub locals: Vec<&'static str>,
    /// Whether `failed()` and its kin may be asked.
    pub status: bool,
}

impl<'a> Spot<'a> {
    fn new(held: Held<'a>, locals: &[&'static str]) -> Self {
        let wants = if matches!(held, Held::Condition(_)) { Wants::Truth } else { Wants::Anything };
        Self { held, wants, locals: locals.to_vec(), status: false }
    }

    fn template(template: &'a Template, wants: Wants, locals: &[&'static str]) -> Self {
        Self { wants, ..Self::new(Held::Template(template), locals) }
    }
}

/// Every place of `step` but those inside its sub-DAG.
pub(super) fn spots(step: &Step) -> Vec<Spot<'_>> {
    let item: &[&'static str] = if step.for_each.is_some() { &["item", "index"] } else { &[] };
    let mut found = Vec::new();
    if let Some(condition) = &step.condition {
        found.push(Spot { status: true, ..Spot::new(Held::Condition(condition), &[]) });
    }
    if let Some(for_each) = &step.for_each {
        found.push(Spot::template(&for_each.items, Wants::Items, &[]));
        let keys = for_each.key.iter().chain(for_each.per.iter().map(|per| &per.key));
        found.extend(keys.map(|key| Spot::template(key, Wants::Anything, item)));
        let gates = for_each.waves.iter().filter_map(|wave| wave.gate.as_ref()?.condition.as_ref());
        found.extend(gates.map(|condition| Spot::new(Held::Condition(condition), &["wave"])));
    }
    found.extend(action(&step.action).into_iter().map(|(template, wants)| Spot::template(template, wants, item)));
    if let Action::Wait(Wait::Event(event)) = &step.action {
        found.extend(event.condition.iter().map(|condition| Spot::new(Held::Condition(condition), &["event"])));
    }
    found.extend(step.window.iter().flat_map(window).map(|(template, wants)| Spot::template(template, wants, item)));
    let groups = step.concurrency.iter().map(|concurrency| &concurrency.group);
    let groups = groups.chain(step.rate.iter().filter_map(|rate| rate.group.as_ref()));
    found.extend(groups.map(|group| Spot::template(group, Wants::Anything, item)));
    found.extend(step.queue.iter().map(|queue| Spot::template(queue, Wants::Queue, item)));
    found.extend(step.output.iter().map(|output| Spot::template(output, Wants::Anything, &["result"])));
    if let Some(compensate) = &step.compensate {
        let locals = [item, &["self", "failure"]].concat();
        found.push(Spot::template(&compensate.with, Wants::Anything, &locals));
    }
    found
}

fn window(window: &Window) -> Vec<(&Template, Wants)> {
    let expected = window.expected.iter().map(|expected| (expected, Wants::Expected));
    std::iter::once((&window.calendar, Wants::Calendar)).chain(expected).collect()
}

fn action(action: &Action) -> Vec<(&Template, Wants)> {
    match action {
        Action::Task { with, .. } | Action::Workflow { with, .. } => vec![(with, Wants::Anything)],
        Action::Wait(Wait::Until(until)) => vec![(until, Wants::Instant)],
        Action::Wait(Wait::Signal(_) | Wait::For(_)) | Action::Steps(_) => Vec::new(),
        Action::Wait(Wait::Window(inner)) => window(inner),
        Action::Wait(Wait::Event(event)) => event.key.iter().map(|key| (key, Wants::Anything)).collect(),
        Action::Emit(emit) => {
            let subject = emit.subject.iter().map(|subject| (subject, Wants::Anything));
            [(&emit.kind, Wants::EventType), (&emit.data, Wants::Anything)].into_iter().chain(subject).collect()
        }
        Action::Set(value) | Action::Fail(value) => vec![(value, Wants::Anything)],
    }
}
