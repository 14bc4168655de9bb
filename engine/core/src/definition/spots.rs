//! The places of a step in which expressions stand, and the names that each place knows.

use super::{Action, Step, Wait};
use crate::expr::Expr;
use crate::template::Template;

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

/// One place of a step.
pub(super) struct Spot<'a> {
    pub held: Held<'a>,
    /// Names that exist only here: `item`, `self`, …
    pub locals: Vec<&'static str>,
    /// Whether `failed()` and its kin may be asked.
    pub status: bool,
}

impl<'a> Spot<'a> {
    fn new(held: Held<'a>, locals: &[&'static str]) -> Self {
        Self { held, locals: locals.to_vec(), status: false }
    }

    fn template(template: &'a Template, locals: &[&'static str]) -> Self {
        Self::new(Held::Template(template), locals)
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
        found.push(Spot::template(&for_each.items, &[]));
        found.extend(for_each.key.iter().map(|key| Spot::template(key, item)));
        found.extend(for_each.per.iter().map(|per| Spot::template(&per.key, item)));
        let gates = for_each.waves.iter().filter_map(|wave| wave.gate.as_ref()?.condition.as_ref());
        found.extend(gates.map(|condition| Spot::new(Held::Condition(condition), &["wave"])));
    }
    found.extend(action(&step.action).into_iter().map(|template| Spot::template(template, item)));
    if let Action::Wait(Wait::Event(event)) = &step.action {
        found.extend(event.condition.iter().map(|condition| Spot::new(Held::Condition(condition), &["event"])));
    }
    let around = step.window.iter().flat_map(|window| std::iter::once(&window.calendar).chain(&window.expected));
    let around = around.chain(step.concurrency.iter().map(|concurrency| &concurrency.group));
    let around = around.chain(step.rate.iter().filter_map(|rate| rate.group.as_ref()));
    found.extend(around.map(|template| Spot::template(template, item)));
    found.extend(step.output.iter().map(|output| Spot::template(output, &["result"])));
    if let Some(compensate) = &step.compensate {
        found.push(Spot::template(&compensate.with, &[item, &["self", "failure"]].concat()));
    }
    found
}

fn action(action: &Action) -> Vec<&Template> {
    match action {
        Action::Task { with, .. } | Action::Workflow { with, .. } => vec![with],
        Action::Wait(Wait::Until(until)) => vec![until],
        Action::Wait(Wait::Signal(_) | Wait::For(_)) | Action::Steps(_) => Vec::new(),
        Action::Wait(Wait::Window(window)) => std::iter::once(&window.calendar).chain(&window.expected).collect(),
        Action::Wait(Wait::Event(event)) => event.key.iter().collect(),
        Action::Emit(emit) => [&emit.kind, &emit.data].into_iter().chain(&emit.subject).collect(),
        Action::Set(value) | Action::Fail(value) => vec![value],
    }
}
