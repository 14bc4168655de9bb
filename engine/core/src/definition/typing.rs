//! What every expression of a definition comes to, and whether that is what its place wants.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::places::Place;
use super::relations::{Takes, World, circle, task_type, unknown};
use super::spots::{Held, Spot, Wants, spots};
use super::{Action, Definition, OnTimeout, Step, Trigger, Wait};
use crate::diagnostic::{Diagnostic, Span};
use crate::expr::{Expr, Names};
use crate::template::Template;
use crate::types::Type;
use crate::yaml::Node;

/// Checks a definition against itself and the world; `root` is its text.
pub(super) fn check(definition: &Definition, root: Option<&Node>, world: World<'_>, mistakes: &mut Vec<Diagnostic>) {
    let mut checker = Checker { root: definition, world, children: &RefCell::default(), mistakes };
    let place = Place(root);
    checker.definition(definition, place, None, None);
    for (at, trigger) in definition.triggers.iter().enumerate() {
        let entry = place.nth("on", at);
        let inputs = Takes::workflow(definition, "inputs");
        match trigger {
            Trigger::Event(event) => {
                let names = Names::from([("event", event_type())]);
                if let Some(condition) = &event.condition {
                    checker.want(Held::Condition(condition), Wants::Truth, &names);
                }
                event.key.iter().for_each(|key| checker.want(Held::Template(key), Wants::Anything, &names));
                checker.want(Held::Template(&event.inputs), Wants::Anything, &names);
                checker.takes(&inputs, &event.inputs, entry.below("event"), &names);
            }
            Trigger::Schedule(schedule) => {
                let names = Names::from([("schedule", Type::closed([("time", Type::Text)]))]);
                checker.want(Held::Template(&schedule.inputs), Wants::Anything, &names);
                checker.takes(&inputs, &schedule.inputs, entry.below("schedule"), &names);
            }
        }
    }
}

fn event_type() -> Type {
    Type::open(["id", "source", "type"].map(|name| (name, Type::Text)))
}

fn failure_type() -> Type {
    Type::open(["code", "class", "message"].map(|name| (name, Type::Text)))
}

/// What of a definition is known so far.
struct Frame<'a> {
    positions: BTreeMap<&'a str, usize>,
    /// What its steps give, as far as they were looked at.
    outputs: Vec<Type>,
    /// The item of a `for_each` around all of it.
    item: Option<Type>,
    outer: Option<&'a Frame<'a>>,
}

impl Frame<'_> {
    fn step(&self, name: &str) -> Option<Type> {
        let Some(at) = self.positions.get(name) else { return self.outer?.step(name) };
        let output = self.outputs.get(*at).cloned().unwrap_or(Type::Any);
        let failed = ["index", "item", "key", "code", "message"].map(|name| (name, Type::Any));
        let failed = Type::list(Type::closed(failed));
        Some(Type::open([("output", output), ("status", Type::Text), ("failed", failed)]))
    }

    fn item(&self) -> Option<Type> {
        self.item.clone().or_else(|| self.outer?.item())
    }
}

struct Checker<'a, 'm> {
    /// The definition around all sub-DAGs.
    root: &'a Definition,
    world: World<'a>,
    /// What child workflows give, as far as they were looked at.
    children: &'a RefCell<BTreeMap<Arc<str>, Type>>,
    mistakes: &'m mut Vec<Diagnostic>,
}

impl Checker<'_, '_> {
    /// Checks a graph of steps; what a run of it gives back.
    fn definition(
        &mut self,
        definition: &Definition,
        place: Place<'_>,
        outer: Option<&Frame<'_>>,
        item: Option<Type>,
    ) -> Type {
        let positions = definition.steps.iter().enumerate().map(|(at, step)| (step.name.as_str(), at)).collect();
        let outputs = Vec::with_capacity(definition.steps.len());
        let mut frame = Frame { positions, outputs, item, outer };
        let (ordinary, last) = (place.maps("steps"), place.maps("finally"));
        for step in &definition.steps {
            let steps = if step.finally { &last } else { &ordinary };
            let place = steps.get(step.name.as_str()).copied().unwrap_or(Place(None));
            let output = self.step(step, place, &frame);
            frame.outputs.push(output);
        }
        let Some(output) = &definition.output else { return Type::Any };
        let names = self.names(output.exprs(), &frame, &[]);
        self.type_of(output, &names)
    }

    /// Checks a step; what it gives.
    fn step(&mut self, step: &Step, place: Place<'_>, frame: &Frame<'_>) -> Type {
        let item = step.for_each.as_ref().map(|for_each| {
            let names = self.names(for_each.items.exprs(), frame, &[]);
            // What is wrong in it is told with the other places.
            quietly(self.root, self.world, self.children, |checker| checker.type_of(&for_each.items, &names)).item()
        });
        let one = self.action(step, place, frame, item.as_ref());
        let whole = if item.is_some() { Type::list(one.clone()) } else { one.clone() };
        let mut locals = vec![
            // A fan-out shows what came of it in a form that is not told here.
            ("result", if item.is_some() { Type::Any } else { one.clone() }),
            ("self", Type::closed([("output", one)])),
            ("failure", failure_type()),
            ("event", event_type()),
            ("wave", wave_type()),
        ];
        if let Some(item) = item.clone() {
            locals.extend([("item", item), ("index", Type::Int)]);
        }
        for Spot { held, wants, .. } in spots(step) {
            let names = self.names(held.exprs(), frame, &locals);
            self.want(held, wants, &names);
        }
        if let Some(compensate) = &step.compensate {
            let names = self.names(compensate.with.exprs(), frame, &locals);
            let inside = place.below("compensate");
            self.task(&compensate.uses, &compensate.with, inside.unwrap_or(Place(None)), &names);
        }
        match &step.output {
            Some(output) => {
                let names = self.names(output.exprs(), frame, &locals);
                quietly(self.root, self.world, self.children, |checker| checker.type_of(output, &names))
            }
            None => whole,
        }
    }

    /// What one item of a step gives.
    fn action(&mut self, step: &Step, place: Place<'_>, frame: &Frame<'_>, item: Option<&Type>) -> Type {
        let locals: Vec<(&'static str, Type)> =
            item.into_iter().flat_map(|item| [("item", item.clone()), ("index", Type::Int)]).collect();
        match &step.action {
            Action::Task { uses, with } => {
                let names = self.names(with.exprs(), frame, &locals);
                self.task(uses, with, place, &names)
            }
            Action::Workflow { name, with } => {
                let names = self.names(with.exprs(), frame, &locals);
                self.child(name, with, place, &names)
            }
            Action::Steps(inner) => {
                let given = self.definition(inner, place, Some(frame), item.cloned());
                if inner.output.is_some() { given } else { Type::Any }
            }
            Action::Set(value) => {
                let names = self.names(value.exprs(), frame, &[]);
                quietly(self.root, self.world, self.children, |checker| checker.type_of(value, &names))
            }
            Action::Wait(Wait::Signal(signal)) => {
                let sent = signal.schema.as_ref().map_or(Type::Any, Type::from_schema);
                let sent = if signal.quorum > 1 { Type::list(sent) } else { sent };
                let late = signal.on_timeout == OnTimeout::Continue;
                Type::either([sent, if late { Type::Null } else { Type::Never }])
            }
            Action::Wait(_) | Action::Fail(_) | Action::Emit(_) => Type::Any,
        }
    }

    fn task(&mut self, uses: &str, with: &Template, place: Place<'_>, names: &Names) -> Type {
        let Some(contract) = self.world.contracts.get(uses) else {
            self.mistakes.extend(task_type(uses, place.value("uses"), self.world.contracts));
            return Type::Any;
        };
        if let Some(takes) = Takes::task(uses, &contract.input) {
            self.takes(&takes, with, Some(place), names);
        }
        Type::from_schema(&contract.output)
    }

    fn child(&mut self, name: &Arc<str>, with: &Template, place: Place<'_>, names: &Names) -> Type {
        let world = self.world;
        let Some(child) = world.known.get(name) else {
            self.mistakes.push(unknown(name, place.value("workflow"), world.known));
            return Type::Any;
        };
        self.takes(&Takes::workflow(child, "with"), with, Some(place), names);
        self.mistakes.extend(circle(&self.root.name, name, place.value("workflow"), world.known));
        if let Some(known) = self.children.borrow().get(name) {
            return known.clone();
        }
        // A circle ends here.
        self.children.borrow_mut().insert(Arc::clone(name), Type::Any);
        let found = quietly(child, world, self.children, |checker| checker.definition(child, Place(None), None, None));
        self.children.borrow_mut().insert(Arc::clone(name), found.clone());
        found
    }

    fn takes(&mut self, takes: &Takes<'_>, given: &Template, place: Option<Place<'_>>, names: &Names) {
        let (root, world, children) = (self.root, self.world, self.children);
        let mut type_of = |value: &Template| quietly(root, world, children, |checker| checker.type_of(value, names));
        takes.check(given, place.unwrap_or(Place(None)), &mut type_of, self.mistakes);
    }

    /// What the names in these expressions stand for.
    fn names(&self, exprs: Vec<&Expr>, frame: &Frame<'_>, locals: &[(&'static str, Type)]) -> Names {
        let mut names = Names::new();
        let mut steps: BTreeMap<String, Type> = BTreeMap::new();
        if let Some(item) = frame.item() {
            names.insert("item", item);
            names.insert("index", Type::Int);
        }
        for reference in exprs.into_iter().flat_map(Expr::references) {
            match (reference.path[0].as_str(), reference.path.get(1)) {
                ("inputs", _) if !names.contains_key("inputs") => {
                    let inputs = self.root.inputs.iter().map(|(name, input)| (name, Type::from_schema(&input.schema)));
                    names.insert("inputs", Type::open(inputs));
                }
                ("steps", Some(name)) => {
                    steps.extend(frame.step(name).map(|found| (name.clone(), found)));
                }
                (root, _) => names.extend(locals.iter().find(|(name, _)| *name == root).cloned()),
            }
        }
        if !steps.is_empty() {
            names.insert("steps", Type::open(steps));
        }
        names
    }

    /// Infers what stands in a place and holds it against what the place wants.
    fn want(&mut self, held: Held<'_>, wants: Wants, names: &Names) {
        let (found, span) = match held {
            Held::Condition(expr) => (expr.infer(names, self.mistakes), expr.span()),
            Held::Template(template) => {
                let span = template.exprs().first().map_or(Span::default(), |expr| expr.span());
                (self.type_of(template, names), span)
            }
        };
        let Some((what, wanted)) = wants.told() else { return };
        if !found.may_be(&wanted) {
            self.mistakes.push(Diagnostic {
                code: "E0204",
                message: format!("{what} is {}, not {}", found.name(), wanted.name()),
                span,
                reason: format!("{what} has to be {}", wanted.name()),
                fix: None,
            });
        }
    }

    fn type_of(&mut self, template: &Template, names: &Names) -> Type {
        match template {
            Template::Literal(value) => Type::of(value),
            Template::Whole(expr) => expr.infer(names, self.mistakes),
            Template::Text(_) => {
                for expr in template.exprs() {
                    expr.infer(names, self.mistakes);
                }
                Type::Text
            }
            Template::List(items) => {
                let items: Vec<Type> = items.iter().map(|item| self.type_of(item, names)).collect();
                Type::list(Type::either(items))
            }
            Template::Map(map) => {
                let held: Vec<(String, Type)> =
                    map.iter().map(|(key, value)| (key.clone(), self.type_of(value, names))).collect();
                Type::closed(held)
            }
        }
    }
}

fn wave_type() -> Type {
    let numbers = ["index", "size", "done", "failed"].map(|name| (name, Type::Int));
    Type::closed(numbers.into_iter().chain([("name", Type::Text)]))
}

/// Infers something whose mistakes are told elsewhere.
fn quietly<'a, T>(
    root: &'a Definition,
    world: World<'a>,
    children: &'a RefCell<BTreeMap<Arc<str>, Type>>,
    ask: impl FnOnce(&mut Checker<'a, '_>) -> T,
) -> T {
    let mut ignored = Vec::new();
    ask(&mut Checker { root, world, children, mistakes: &mut ignored })
}
