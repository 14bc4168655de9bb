//! Whether an item may start: its window, its `per` keys, its group, its rate, and what operators hold back.
//!
//! All or nothing, in the record that dispatches: an item takes every place at once or stands in line for the first
//! limit that stops it.

use std::sync::Arc;

use serde_json::Value;

use super::lanes::Limit;
use super::machine::{Machine, permanent};
use super::scope::{self, Locals};
use super::{Hold, Status};
use crate::definition::{Action, Concurrency, OnFull, Rate, Wait, Window};
use crate::effect::Effect;
use crate::expr::Expr;
use crate::record::{TimerKey, TimerKind};
use crate::shared::Opening;
use crate::template::Template;
use crate::{Failure, Millis, StepName, UtcMs};

/// The places that an item takes when it starts.
#[derive(Default)]
pub(super) struct Admission {
    per: Vec<(Limit, u32)>,
    group: Option<(Arc<str>, u32)>,
    rate: Option<(Arc<str>, u32, Millis)>,
}

/// A limit without room, and when it opens by the clock.
pub(super) type Block = (Limit, Option<UtcMs>);

/// The kind of a hold's limit: operators may hold back several sets of items.
pub(super) const HOLD: &str = "h";

impl Machine<'_> {
    fn locals(&self, at: usize, item: u32) -> Locals {
        self.run.steps[at].work.as_ref().map(|work| scope::item(work, item)).unwrap_or_default()
    }

    /// What stops the step whatever the item: windows, groups and rates that do not depend on it.
    pub(super) fn wide_block(&mut self, at: usize, item: u32) -> Result<Option<Block>, Failure> {
        let step = &self.definition.steps[at];
        if let Some(window) = step.window.as_ref().filter(|window| !window.reads_item()) {
            let block = self.window_block(at, item, window)?;
            if block.is_some() {
                return Ok(block);
            }
        }
        if let Some(concurrency) = step.concurrency.as_ref().filter(|group| !reads_item(&group.group)) {
            let group = self.group(at, item, concurrency)?;
            if let Some(block) = self.group_block(at, &group, concurrency)? {
                return Ok(Some(block));
            }
        }
        if let Some(rate) = step.rate.as_ref().filter(|rate| !rate.group.as_ref().is_some_and(reads_item)) {
            return Ok(self.rate_block(&self.rate_name(at, item, rate)?, rate));
        }
        Ok(None)
    }

    /// What an item needs to start, or what stops it.
    ///
    /// # Errors
    /// An expression without a value.
    pub(super) fn admit(&mut self, at: usize, item: u32) -> Result<Result<Admission, Block>, Failure> {
        let step = &self.definition.steps[at];
        if let Some(block) = self.held_back(at, item)? {
            return Ok(Err(block));
        }
        if let Some(window) = step.window.as_ref().filter(|window| window.reads_item())
            && let Some(block) = self.window_block(at, item, window)?
        {
            return Ok(Err(block));
        }
        let mut admission = Admission { per: self.per_limits(at, item)?, ..Admission::default() };
        if let Some(work) = &self.run.steps[at].work
            && let Some((limit, _)) = admission.per.iter().find(|(limit, of)| !work.lanes.has_room(limit, *of))
        {
            return Ok(Err((limit.clone(), None)));
        }
        if let Some(concurrency) = &step.concurrency {
            let group = self.group(at, item, concurrency)?;
            if let Some(block) = self.group_block(at, &group, concurrency)? {
                return Ok(Err(block));
            }
            admission.group = Some((group, concurrency.limit));
        }
        if let Some(rate) = &step.rate {
            let name = self.rate_name(at, item, rate)?;
            if let Some(block) = self.rate_block(&name, rate) {
                return Ok(Err(block));
            }
            admission.rate = Some((name, rate.limit, rate.per));
        }
        Ok(Ok(admission))
    }

    pub(super) fn occupy(&mut self, at: usize, admission: Admission) {
        if let Some(work) = self.run.steps[at].work.as_mut() {
            work.lanes.busy += 1;
            for (limit, of) in &admission.per {
                work.lanes.hold(limit, *of);
            }
        }
        if let Some((group, limit)) = admission.group {
            let taken = self.shared.take(&group, limit);
            debug_assert!(taken, "the group had room a moment ago");
        }
        if let Some((rate, limit, per)) = admission.rate {
            self.shared.rate_take(&rate, limit, per, self.now);
        }
    }

    /// Gives back the places of an item. What they were is worked out again: what it reads has not changed since.
    pub(super) fn vacate(&mut self, at: usize, item: u32) {
        let per = self.per_limits(at, item).unwrap_or_default();
        if let Some(work) = self.run.steps[at].work.as_mut() {
            work.lanes.busy -= 1;
            for (limit, of) in &per {
                work.lanes.let_go(limit, *of);
            }
        }
        if let Some(concurrency) = &self.definition.steps[at].concurrency
            && let Ok(group) = self.group(at, item, concurrency)
        {
            self.shared.give_back(&group);
        }
    }

    /// Has an item wait for a limit.
    pub(super) fn block(&mut self, at: usize, item: u32, (limit, opens): Block) {
        self.owe_opening(at, opens);
        let Some(work) = self.run.steps[at].work.as_mut() else { return };
        if !work.live.contains_key(&item) {
            work.fresh.insert(item);
        }
        work.lanes.block(item, limit, opens);
    }

    /// Has all items wait for a limit.
    pub(super) fn block_all(&mut self, at: usize, (limit, opens): Block) {
        self.owe_opening(at, opens);
        if let Some(work) = self.run.steps[at].work.as_mut() {
            work.lanes.block_all(limit, opens);
        }
    }

    fn owe_opening(&mut self, at: usize, opens: Option<UtcMs>) {
        let Some(due) = opens else { return };
        // An earlier time of this limit may be taken back by this one.
        self.retracted = true;
        let known = self.run.steps[at].work.as_ref().is_some_and(|work| work.lanes.instants().contains(&due));
        let kind = TimerKind::Opens { step: self.definition.steps[at].name.clone(), due };
        let timer = Effect::Timer(TimerKey { run: self.run.id(), kind }, due);
        if !known && !self.applied.effects.contains(&timer) {
            self.owe(timer);
        }
    }

    fn window_block(&mut self, at: usize, item: u32, window: &Window) -> Result<Option<Block>, Failure> {
        let (name, expected) = self.window(at, self.locals(at, item), window)?;
        match self.shared.opening(&name, self.now, expected) {
            Opening::Now => Ok(None),
            Opening::At(opens) => {
                self.shared.watch(&name, self.waiter(at));
                Ok(Some((window_limit(&name, expected), Some(opens))))
            }
            Opening::Never => {
                self.shared.watch(&name, self.waiter(at));
                Ok(Some((window_limit(&name, expected), None)))
            }
        }
    }

    /// The full name of a window's calendar, and how long what starts in it takes.
    pub(super) fn window(&self, at: usize, locals: Locals, window: &Window) -> Result<(Arc<str>, Millis), Failure> {
        let name = scope::text(self.run, self.definition, &window.calendar, locals.clone())?;
        let expected = match &window.expected {
            None => Millis(0),
            Some(expected) => {
                let value = scope::eval(self.run, self.definition, expected, locals)
                    .map_err(|error| permanent("E0205", error.to_string()))?;
                span_of(&value).ok_or_else(|| {
                    permanent(
                        "E0206",
                        format!("`expected` of `{}` is {value}, not a duration", self.definition.steps[at].name),
                    )
                })?
            }
        };
        let own = self.definition.calendars.contains_key(&name);
        Ok((if own { format!("{}/{name}", self.definition.digest).into() } else { name }, expected))
    }

    /// The names and numbers of the `per` limits of an item.
    pub(super) fn per_limits(&self, at: usize, item: u32) -> Result<Vec<(Limit, u32)>, Failure> {
        let Some(for_each) = &self.definition.steps[at].for_each else { return Ok(Vec::new()) };
        let tuned = self.run.steps[at].tuned.as_ref();
        for_each
            .per
            .iter()
            .zip(0_u32..)
            .map(|(per, nth)| {
                let key = scope::text(self.run, self.definition, &per.key, self.locals(at, item))?;
                let limit = tuned.and_then(|tune| tune.per.get(&nth)).copied().unwrap_or(per.limit);
                Ok((Limit::new(&format!("p{nth}"), &key), limit))
            })
            .collect()
    }

    fn group(&self, at: usize, item: u32, concurrency: &Concurrency) -> Result<Arc<str>, Failure> {
        scope::text(self.run, self.definition, &concurrency.group, self.locals(at, item))
    }

    fn group_block(
        &mut self,
        at: usize,
        group: &Arc<str>,
        concurrency: &Concurrency,
    ) -> Result<Option<Block>, Failure> {
        if self.shared.has_room(group, concurrency.limit) {
            return Ok(None);
        }
        if concurrency.on_full == OnFull::Reject {
            let message = format!("the concurrency group `{group}` has no place: {} taken already", concurrency.limit);
            return Err(permanent("E0319", message));
        }
        let waiter = self.waiter(at);
        self.shared.stand_in_line(group, concurrency.limit, self.definition.steps[at].priority, waiter);
        Ok(Some((Limit::new("g", group), None)))
    }

    fn rate_name(&self, at: usize, item: u32, rate: &Rate) -> Result<Arc<str>, Failure> {
        match &rate.group {
            Some(group) => scope::text(self.run, self.definition, group, self.locals(at, item)),
            None => Ok(format!("{}/{}", self.definition.name, self.definition.steps[at].name).into()),
        }
    }

    fn rate_block(&self, name: &Arc<str>, rate: &Rate) -> Option<Block> {
        let opens = self.shared.rate_at(name, rate.limit, rate.per, self.now);
        (opens > self.now).then(|| (Limit::new("r", name), Some(opens)))
    }

    fn held_back(&self, at: usize, item: u32) -> Result<Option<Block>, Failure> {
        let holds = &self.run.steps[at].holds;
        for when in holds.iter().filter_map(|hold| hold.when.as_ref()) {
            if self.meets(at, item, when)? {
                return Ok(Some((Limit::new(HOLD, when), None)));
            }
        }
        Ok(None)
    }

    fn meets(&self, at: usize, item: u32, when: &str) -> Result<bool, Failure> {
        let expr = Expr::compile(when, 0).map_err(|mistake| permanent("E0205", mistake.message.clone()))?;
        let mut scope = crate::expr::Scope::default();
        scope.values.extend(self.locals(at, item));
        // An item without the field that the condition speaks of does not meet it.
        Ok(expr.eval(&scope).is_ok_and(|value| value == Value::Bool(true)))
    }

    /// A place in a group may be free.
    pub(super) fn offer(&mut self, step: &StepName, group: &Arc<str>) {
        let Ok(at) = self.step(step) else { return };
        if let Some(work) = self.run.steps[at].work.as_mut() {
            work.lanes.reopen(&Limit::new("g", group));
            self.progress(at);
        }
    }

    /// The calendar that a step waits for has changed.
    pub(super) fn calendar_changed(&mut self, step: &StepName) {
        let Ok(at) = self.step(step) else { return };
        let before = super::pending::pending(self.run, self.definition);
        self.retracted = true;
        if let (Status::Waiting { .. }, Action::Wait(Wait::Window(window))) =
            (&self.run.steps[at].status, &self.definition.steps[at].action)
        {
            self.wait_for_window(at, window);
        } else if let Some(work) = self.run.steps[at].work.as_mut() {
            work.lanes.reopen_kind("w");
            self.progress(at);
        }
        // What opens when it would have opened before is owed already.
        self.applied.effects.retain(|effect| before.get(&effect.key()) != Some(effect));
    }

    /// Limits of a step open by the clock.
    pub(super) fn open_by_clock(&mut self, at: usize) -> bool {
        let now = self.now;
        let opened = self.run.steps[at].work.as_mut().is_some_and(|work| work.lanes.open_due(now));
        if opened {
            self.retracted = true;
            self.progress(at);
        }
        opened
    }

    /// Items that an operator holds back stand in line from the next look on.
    pub(super) fn let_held_go(&mut self, at: usize, when: &str) {
        if let Some(work) = self.run.steps[at].work.as_mut() {
            work.lanes.reopen(&Limit::new(HOLD, when));
        }
    }
}

impl Hold {
    /// Whether it holds back all of its step.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.when.is_none()
    }
}

impl Window {
    fn reads_item(&self) -> bool {
        reads_item(&self.calendar) || self.expected.as_ref().is_some_and(reads_item)
    }
}

fn window_limit(name: &str, expected: Millis) -> Limit {
    Limit::new("w", &format!("{expected}:{name}"))
}

fn reads_item(template: &Template) -> bool {
    template.references().any(|reference| matches!(reference.path[0].as_str(), "item" | "index"))
}

/// A duration as text, or milliseconds.
fn span_of(value: &Value) -> Option<Millis> {
    match value {
        Value::Number(number) => number.as_u64().map(Millis),
        Value::String(text) => text.parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}
