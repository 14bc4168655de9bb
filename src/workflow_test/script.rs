//! A case as the script of a play: its mocks answer, its orders are given when their time has come.

use std::collections::BTreeMap;
use std::sync::Arc;

use patchloom_core::record::{Decision, Entry, Event, Extent, Resolution};
use patchloom_core::{
    CloudEvent, Failure, FailureClass, Leg, Millis, Outcome, Partition, RunId, Scope, Template, UtcMs,
};
use patchloom_engine::queue::Lease;
use patchloom_engine::sim::{Reply, Script};
use serde_json::{Value, json};

use super::course::{Looking, runs};
use super::model::{Answers, Case, Order, Say, What, When};
use super::place::{Place, Spot};

/// When an order is given that has nobody to go to.
const NEVER: UtcMs = UtcMs(u64::MAX);

/// Something that went wrong while a case was played, and is no matter of expectations.
#[derive(Clone, Debug, PartialEq)]
pub enum Trouble {
    /// Nobody was named who answers this.
    Unmocked {
        /// The step.
        spot: Spot,
        /// The workflow that the step is of.
        workflow: String,
        /// What it uses.
        uses: String,
        /// What it was given.
        input: Value,
    },
    /// An answer has no value.
    Answer {
        /// Which.
        span: patchloom_core::Span,
        /// Why.
        reason: String,
    },
}

/// The case at play.
pub(super) struct Player<'a> {
    case: &'a Case,
    root: RunId,
    /// When each order is given; `None` where that is not known yet.
    due: Vec<Option<UtcMs>>,
    /// Which orders were given.
    pub given: Vec<bool>,
    pub troubles: Vec<Trouble>,
}

impl<'a> Player<'a> {
    pub fn new(case: &'a Case, root: RunId, begun: UtcMs) -> Self {
        let due = case.orders.iter().map(|order| match order.when {
            When::At(after) => Some(begun + after),
            When::Steps(..) => None,
        });
        Self { case, root, due: due.collect(), given: vec![false; case.orders.len()], troubles: Vec::new() }
    }

    /// The answers for a task: the most exact place counts first, then the task type, then the mocked workflow.
    fn answers(&self, spot: &Spot, uses: &str, stands_in: Option<&str>) -> Option<&'a Answers> {
        let mocks = &self.case.mocks;
        let places = mocks.steps.iter().filter(|(place, _)| place.covers(spot));
        if let Some((_, answers)) = places.max_by_key(|(place, _)| place.exactness()) {
            return Some(answers);
        }
        match stands_in {
            None => mocks.tasks.get(uses),
            Some(name) => mocks.workflows.get(name).and_then(|child| match spot.leg {
                Leg::Forward => Some(&child.answers),
                Leg::Undo => child.undo.as_ref(),
            }),
        }
    }

    fn outcome(&mut self, what: &What, span: patchloom_core::Span, lease: &Lease) -> Outcome {
        let key = &lease.task.key;
        let values = BTreeMap::from([
            ("input", lease.task.input.clone()),
            ("attempt", json!(key.attempt)),
            ("index", json!(key.item)),
        ]);
        let scope = Scope { values, upstream_failed: false };
        let mut value = |template: &Template| {
            template.eval(&scope).unwrap_or_else(|error| {
                self.troubles.push(Trouble::Answer { span, reason: error.to_string() });
                Value::Null
            })
        };
        match what {
            What::Output(output) => Outcome::Succeeded { output: value(output) },
            What::Fail { code, class, message, details } => {
                let message = match value(message) {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                Outcome::Failed(Failure { code: code.clone(), class: *class, message, details: value(details) })
            }
        }
    }

    /// The run that an order is for.
    fn addressee(&self, order: &Order, state: &Partition) -> Option<RunId> {
        let looking = Looking { state, root: self.root };
        let parents = |place: &Place| runs(&looking, &place.path[..place.path.len() - 1]).first().map(|run| run.id());
        match (&order.to, &order.what, &order.when) {
            (Some(child), ..) => runs(&looking, &child.path).first().map(|run| run.id()),
            (None, said, _) if said.step().is_some() => said.step().and_then(parents),
            (None, Say::Signal { .. }, When::Steps(steps, _)) => steps.first().and_then(|(place, status)| {
                looking.run_in(place, status).map(|run| run.id()).or_else(|| parents(place))
            }),
            (None, ..) => Some(self.root),
        }
    }

    /// What is said: to the run, and to those below it where the order is for all of it.
    fn said(&self, order: &Order, run: RunId, state: &Partition, now: UtcMs) -> Vec<Event> {
        let Say::Hold { why, of: None } = &order.what else { return vec![self.event(order, run, now)] };
        let open = state.runs().filter(|below| below.end().is_none() && below.paused.is_some() != why.is_some());
        let below = open.filter(|below| state.ancestors(below).any(|above| above.id() == run)).map(|below| below.id());
        std::iter::once(run).chain(below).map(|run| self.event(order, run, now)).collect()
    }

    fn event(&self, order: &Order, run: RunId, now: UtcMs) -> Event {
        let name = |place: &Place| place.path.last().map_or_else(|| "".into(), |segment| segment.step.clone());
        match &order.what {
            Say::Signal { name, with, id, roles } => Event::SignalReceived {
                run,
                name: name.as_str().into(),
                payload: with.clone(),
                id: id.as_deref().map(Into::into),
                roles: roles.iter().map(|role| role.as_str().into()).collect(),
            },
            Say::Cancel { reason, compensate } => {
                Event::CancelRequested { run, compensate: *compensate, reason: reason.as_str().into() }
            }
            Say::Retry => Event::RetryRequested { run },
            Say::Resolve { step, note } => {
                let last = step.path.last();
                let name = last.map_or_else(|| "".into(), |segment| segment.step.clone());
                let item = last.and_then(|segment| segment.item).unwrap_or(0);
                Event::UndoResolved { run, step: name, item, how: Resolution::Resolved { note: note.as_str().into() } }
            }
            Say::Hold { why, of } => {
                let what = match of {
                    None => Extent::Run,
                    Some((step, None)) => Extent::Step(name(step)),
                    Some((step, Some(when))) => Extent::Items { step: name(step), when: when.as_str().into() },
                };
                match why {
                    Some(why) => Event::PauseRequested { run, what, reason: why.as_str().into() },
                    None => Event::ResumeRequested { run, what },
                }
            }
            Say::Tune { step, tune } => Event::Tuned { run, step: name(step), tune: tune.clone() },
            Say::Skip { step, note } => {
                Event::StepDecided { run, step: name(step), how: Decision::Skip { note: note.as_str().into() } }
            }
            Say::Event(event) => {
                let at = i64::try_from(now.0).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
                let event = CloudEvent { time: at.map(|at| at.to_string()), ..CloudEvent::clone(event) };
                Event::EventReceived { event: Arc::new(event) }
            }
        }
    }
}

impl Script for Player<'_> {
    fn answer(&mut self, lease: &Lease, state: &Partition) -> Reply {
        let key = &lease.task.key;
        let looking = Looking { state, root: self.root };
        let (spot, stands_in) = looking.spot(&self.case.mocks, key.run, &key.step, key.item, key.leg);
        let Some(answers) = self.answers(&spot, &lease.task.uses, stands_in.as_deref()) else {
            let workflow = state.run(key.run).map(|run| run.start.workflow.to_string()).unwrap_or_default();
            let (uses, input) = (lease.task.uses.clone(), lease.task.input.clone());
            let failure = Failure {
                code: "E0547".into(),
                class: FailureClass::Permanent,
                message: format!("no mock answers `{uses}` of {spot}"),
                details: Value::Null,
            };
            self.troubles.push(Trouble::Unmocked { spot, workflow, uses, input });
            return Reply { after: Millis(0), outcome: Outcome::Failed(failure), dies: false, deaf: false };
        };
        let nth = usize::try_from(key.attempt).unwrap_or(usize::MAX).saturating_sub(1).min(answers.list.len() - 1);
        let answer = &answers.list[nth];
        let outcome = self.outcome(&answer.what, answer.span, lease);
        Reply { after: answer.takes, outcome, dies: lease.redelivered < answer.dies, deaf: answer.ignores_stop }
    }

    fn orders(&mut self, state: &Partition, now: UtcMs) -> Vec<Entry> {
        let mut said = Vec::new();
        for (at, order) in self.case.orders.iter().enumerate() {
            if self.given[at] {
                continue;
            }
            if let (None, When::Steps(steps, after)) = (self.due[at], &order.when) {
                let looking = Looking { state, root: self.root };
                if steps.iter().all(|(place, status)| looking.statuses(place).iter().any(|seen| seen == status)) {
                    self.due[at] = Some(now + *after);
                }
            }
            if self.due[at].is_none_or(|due| due > now) {
                continue;
            }
            match self.addressee(order, state) {
                Some(run) => {
                    self.given[at] = true;
                    let events = self.said(order, run, state, now).into_iter();
                    said.extend(events.map(|event| Entry { by: format!("test:{at}").into(), event }));
                }
                // There is no such run when its time has come: it is told of as an order that was never given.
                None => self.due[at] = Some(NEVER),
            }
        }
        said
    }

    fn next(&self) -> Option<UtcMs> {
        let open = self.due.iter().zip(&self.given).filter(|(_, given)| !**given);
        open.filter_map(|(due, _)| *due).filter(|due| *due != NEVER).min()
    }
}
