//! All that a step reads, wherever it stands in it.

use super::{Action, Step, Wait, Window};
use crate::expr::{Expr, Reference};
use crate::template::Template;

impl Step {
    /// The templates in it, the one of its compensation too.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        let mut found: Vec<&Template> = Vec::new();
        match &self.action {
            Action::Task { with, .. } | Action::Workflow { with, .. } => found.push(with),
            Action::Wait(Wait::Until(until)) => found.push(until),
            Action::Wait(Wait::Window(window)) => found.extend(window.templates()),
            Action::Wait(Wait::Event(event)) => found.extend(&event.key),
            Action::Wait(Wait::Signal(_) | Wait::For(_)) | Action::Steps(_) => {}
            Action::Set(value) | Action::Fail(value) => found.push(value),
            Action::Emit(emit) => {
                found.extend([&emit.kind, &emit.data]);
                found.extend(&emit.subject);
            }
        }
        if let Some(for_each) = &self.for_each {
            found.push(&for_each.items);
            found.extend(&for_each.key);
            found.extend(for_each.per.iter().map(|per| &per.key));
        }
        found.extend(self.window.iter().flat_map(Window::templates));
        found.extend(self.concurrency.iter().map(|concurrency| &concurrency.group));
        found.extend(self.rate.iter().flat_map(|rate| &rate.group));
        found.extend(&self.queue);
        found.extend(&self.output);
        found.extend(self.compensate.iter().map(|compensate| &compensate.with));
        found.into_iter()
    }

    /// The conditions in it.
    pub fn conditions(&self) -> impl Iterator<Item = &Expr> {
        let event = match &self.action {
            Action::Wait(Wait::Event(event)) => event.condition.as_ref(),
            _ => None,
        };
        let gates = self.for_each.iter().flat_map(|for_each| &for_each.waves);
        let gates = gates.filter_map(|wave| wave.gate.as_ref()?.condition.as_ref());
        self.condition.iter().chain(event).chain(gates)
    }

    /// Whether it reads the input `name` of its run.
    #[must_use]
    pub fn reads_input(&self, name: &str) -> bool {
        let reads = |reference: &Reference| {
            reference.path[0] == "inputs" && reference.path.get(1).is_none_or(|read| read == name)
        };
        let inner = match &self.action {
            Action::Steps(inner) => inner.captures.as_ref().is_some_and(|captures| captures.inputs.contains(name)),
            _ => false,
        };
        inner
            || self.templates().any(|template| template.references().any(reads))
            || self.conditions().any(|condition| condition.references().iter().any(reads))
    }
}

impl Window {
    fn templates(&self) -> impl Iterator<Item = &Template> {
        std::iter::once(&self.calendar).chain(&self.expected)
    }
}
