//! Concurrency groups in which a run waits for itself: it holds a place, and what it waits for needs one too.
//!
//! Only names that are written out are compared: what an expression comes to is not known here.

use serde_json::Value;

use super::places::Place;
use super::relations::Definitions;
use super::{Action, Concurrency, Definition, OnFull, Step};
use crate::diagnostic::{Diagnostic, Span};
use crate::template::Template;

/// A place that is held while something else is waited for.
struct Hold<'a> {
    group: &'a str,
    who: String,
    /// Whether the definition that is checked holds it, and not one below: that one is told of it itself.
    own: bool,
}

/// Goes through a definition and all that it starts, with the places that are held on the way.
struct Walk<'a> {
    known: &'a Definitions,
    held: Vec<Hold<'a>>,
    /// The workflows on the way: a circle ends here, and is told elsewhere.
    way: Vec<&'a str>,
}

/// What can never get a place: who needs it, who holds it, and how many places there are.
struct Stuck {
    group: String,
    holder: String,
    needer: String,
    limit: u32,
    on_full: OnFull,
}

/// Finds each step of `definition` that waits for a place which its own run holds.
pub(super) fn check(definition: &Definition, place: Place<'_>, known: &Definitions, mistakes: &mut Vec<Diagnostic>) {
    let mut walk = Walk { known, held: Vec::new(), way: vec![&definition.name] };
    walk.hold(definition.concurrency.as_ref(), format!("the run of `{}`", definition.name), true);
    walk.own(definition, place, mistakes);
}

impl<'a> Walk<'a> {
    /// The steps of the definition itself, those of its sub-DAGs too.
    fn own(&mut self, definition: &'a Definition, place: Place<'_>, mistakes: &mut Vec<Diagnostic>) {
        let (ordinary, last) = (place.maps("steps"), place.maps("finally"));
        for step in &definition.steps {
            let steps = if step.finally { &last } else { &ordinary };
            let place = steps.get(step.name.as_str()).copied().unwrap_or(Place(None));
            let who = format!("the step `{}`", step.name);
            if let Some(stuck) = self.stuck(step.concurrency.as_ref(), &who) {
                mistakes.push(told(stuck, place.key("concurrency")));
            }
            let holds = self.hold(step.concurrency.as_ref(), who, true);
            match &step.action {
                Action::Steps(inner) => self.own(inner, place, mistakes),
                Action::Workflow { name, .. } => {
                    let key = if holds { "concurrency" } else { "workflow" };
                    mistakes.extend(self.child(name).map(|stuck| told(stuck, place.key(key))));
                }
                _ => {}
            }
            self.let_go(holds);
        }
    }

    /// What in a child run, or below it, can never get its place.
    fn child(&mut self, name: &str) -> Option<Stuck> {
        // Who holds nothing waits for nobody.
        if self.held.iter().all(|hold| !hold.own) || self.way.contains(&name) {
            return None;
        }
        let (name, child) = self.known.get_key_value(name)?;
        let who = format!("a run of `{name}`");
        if let Some(stuck) = self.stuck(child.concurrency.as_ref(), &who) {
            return Some(stuck);
        }
        self.way.push(name);
        let holds = self.hold(child.concurrency.as_ref(), who, false);
        let found = self.below(child);
        self.let_go(holds);
        self.way.pop();
        found
    }

    fn below(&mut self, definition: &'a Definition) -> Option<Stuck> {
        definition.steps.iter().find_map(|step| self.step_below(definition, step))
    }

    fn step_below(&mut self, definition: &Definition, step: &'a Step) -> Option<Stuck> {
        let who = format!("the step `{}` of `{}`", step.name, definition.name);
        if let Some(stuck) = self.stuck(step.concurrency.as_ref(), &who) {
            return Some(stuck);
        }
        let holds = self.hold(step.concurrency.as_ref(), who, false);
        let found = match &step.action {
            Action::Steps(inner) => self.below(inner),
            Action::Workflow { name, .. } => self.child(name),
            _ => None,
        };
        self.let_go(holds);
        found
    }

    fn hold(&mut self, concurrency: Option<&'a Concurrency>, who: String, own: bool) -> bool {
        let group = concurrency.and_then(group);
        self.held.extend(group.map(|group| Hold { group, who, own }));
        group.is_some()
    }

    fn let_go(&mut self, holds: bool) {
        if holds {
            self.held.pop();
        }
    }

    /// Whether `who` needs a place of a group of which one is held on the way; not where that is so without the own ones.
    fn stuck(&self, concurrency: Option<&Concurrency>, who: &str) -> Option<Stuck> {
        let concurrency = concurrency?;
        let wanted = group(concurrency)?;
        let same = || self.held.iter().filter(|hold| hold.group == wanted);
        let holder = same().rfind(|hold| hold.own)?;
        // However many places there are: as many who hold one, at once, leave none for what they wait for.
        if same().any(|hold| !hold.own) {
            return None;
        }
        Some(Stuck {
            group: wanted.to_owned(),
            holder: holder.who.clone(),
            needer: who.to_owned(),
            limit: concurrency.limit,
            on_full: concurrency.on_full,
        })
    }
}

/// The name of a group, where it is written out.
fn group(concurrency: &Concurrency) -> Option<&str> {
    match &concurrency.group {
        Template::Literal(Value::String(name)) => Some(name),
        _ => None,
    }
}

fn told(stuck: Stuck, span: Span) -> Diagnostic {
    let Stuck { group, holder, needer, limit, on_full } = stuck;
    let becomes = match on_full {
        OnFull::Queue => "neither would ever go on",
        OnFull::Reject => "it would always be refused",
        OnFull::Replace => "it would cancel the run that waits for it",
    };
    let places = if limit == 1 { "one place".to_owned() } else { format!("{limit} places") };
    Diagnostic {
        code: "E0115",
        message: format!("{holder} holds a place in the group `{group}` while {needer} needs one"),
        span,
        reason: format!(
            "the group has {places}, and each is held until what it waits for is over: as soon as that many are held at \
             once, {becomes}"
        ),
        fix: Some("take `concurrency` away from one of them, or give it another group".into()),
    }
}
