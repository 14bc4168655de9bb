//! How records are folded into the triggers of a partition.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::burst::Burst;
use super::interest::Place;
use super::recent::Kept;
use super::schedule::{ScheduleKey, jitter};
use super::seen::Seen;
use super::{Owed, Row, Triggers};
use crate::definition::{EventTrigger, Overlap, Trigger};
use crate::effect::Effect;
use crate::event::CloudEvent;
use crate::expr::{EvalError, Scope};
use crate::partition::KEY_KEPT;
use crate::record::{Event, Start, TimerKey, TimerKind};
use crate::run::{self, Applied, Fact, FactKind, Refusal};
use crate::template::Template;
use crate::{Definition, Digest, Failure, FailureClass, Partition, RunId, StepName, UtcMs};

/// The record that is folded in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    /// Its number.
    pub seq: u64,
    /// Its time.
    pub at: UtcMs,
}

/// What an event or instant asks for.
struct Order {
    run: RunId,
    definition: Arc<Definition>,
    /// The inputs, or why there are none.
    inputs: Result<Value, Failure>,
    key: Option<Arc<str>>,
    labels: BTreeMap<Arc<str>, Arc<str>>,
}

impl Partition {
    /// An event from outside, or of an `emit` step.
    pub(crate) fn receive(&mut self, stamp: Stamp, event: &Arc<CloudEvent>) -> Result<Applied, Refusal> {
        let name = Seen::name(event);
        if stamp.seq <= self.triggers.floor || self.triggers.seen.knows(name, stamp.at) {
            return Err(Refusal::Stale("this event was received before".into()));
        }
        self.triggers.fold_at(stamp.seq);
        let forgotten = self.triggers.seen.note(name, stamp.at);
        self.triggers.touched.extend(forgotten.into_iter().chain([name]).map(Row::Seen));
        let mut applied = Applied::default();
        let places: Vec<Place> = self.triggers.interest.triggers(&event.kind).cloned().collect();
        if !places.is_empty() {
            let value = event.to_json();
            applied.effects.extend(places.iter().filter_map(|place| self.set_off(stamp, place, event, &value)));
        }
        let taken = self.hand_out(stamp, event, &mut applied);
        if self.triggers.interest.kept(&event.kind).is_some() {
            let kept = Kept { at: stamp.at, event: Arc::clone(event), taken };
            let (number, gone) = self.triggers.recent.note(kept);
            self.triggers.touched.extend(gone.into_iter().chain([number]).map(Row::Recent));
        }
        Ok(applied)
    }

    /// Lets one trigger look at an event.
    fn set_off(&mut self, stamp: Stamp, place: &Place, event: &Arc<CloudEvent>, value: &Value) -> Option<Effect> {
        let (workflow, index) = place;
        let definition = self.latest(workflow).and_then(|version| self.definition(version)).cloned()?;
        let Some(Trigger::Event(trigger)) = triggers(&definition, *index) else { return None };
        let scope = Scope { values: BTreeMap::from([("event", value.clone())]), upstream_failed: false };
        let cause = format!("event\n{workflow}\n{index}\n{}\n{}\n{}", stamp.seq, event.source, event.id);
        let run = RunId::derived(&cause);
        let labels = event_labels(event);
        let (inputs, key) = match meets(trigger, &scope) {
            Ok(None) => return None,
            Ok(Some(key)) => match trigger.debounce {
                Some(debounce) => {
                    let key = key.unwrap_or_default();
                    let found = self.triggers.bursts.find(workflow, *index, &key);
                    let (run, first) = found.map_or((run, stamp.at), |burst| (burst.run, burst.first));
                    let due = Burst::over_at(first, stamp.at, debounce);
                    let moved = found.is_none_or(|burst| burst.due != due);
                    let (workflow, version) = (Arc::clone(workflow), definition.digest.clone());
                    let event = Arc::clone(event);
                    self.triggers.bursts.put(Burst { run, workflow, index: *index, key, version, first, due, event });
                    self.triggers.touch(Row::Burst(run));
                    return moved.then_some(Effect::Timer(TimerKey { run, kind: TimerKind::Debounce }, due));
                }
                None => (trigger.inputs.eval(&scope).map_err(no_value), key),
            },
            Err(failure) => (Err(failure), None),
        };
        let key: Option<Arc<str>> = key.map(|key| format!("{workflow}/{key}").into());
        let known = key.as_deref().and_then(|key| self.started_by(key));
        if known.is_some_and(|known| stamp.at.since(known.at) < KEY_KEPT) {
            return None;
        }
        Some(self.owe_start(Order { run, definition, inputs, key, labels }))
    }

    /// A burst of events is over: its run starts, with the last of them.
    pub(crate) fn burst_over(&mut self, stamp: Stamp, run: RunId) -> Result<Applied, Refusal> {
        let burst = self.triggers.bursts.get(run).filter(|burst| burst.due <= stamp.at);
        if burst.is_none() || stamp.seq <= self.triggers.floor {
            return Err(Refusal::Stale("no burst of events is over".into()));
        }
        let Some(burst) = self.triggers.bursts.remove(run) else {
            return Err(Refusal::Stale("no burst of events is over".into()));
        };
        self.triggers.fold_at(stamp.seq);
        self.triggers.touch(Row::Burst(run));
        let Some(definition) = self.definition(&burst.version).cloned() else {
            return Err(Refusal::Illegal(format!("no version {} is known", burst.version)));
        };
        let scope = Scope { values: BTreeMap::from([("event", burst.event.to_json())]), upstream_failed: false };
        let inputs = match triggers(&definition, burst.index) {
            Some(Trigger::Event(trigger)) => trigger.inputs.eval(&scope).map_err(no_value),
            Some(Trigger::Schedule(_)) | None => Ok(Value::Null),
        };
        let labels = event_labels(&burst.event);
        let effect = self.owe_start(Order { run, definition, inputs, key: None, labels });
        Ok(Applied { effects: vec![effect], ..Applied::default() })
    }

    /// Notes a run that is to begin.
    fn owe_start(&mut self, order: Order) -> Effect {
        let Order { run, definition, inputs, key, labels } = order;
        let (mut pins, mut flaw) = match self.pins(&definition.name) {
            Ok(pins) => (pins, None),
            Err(name) => {
                (BTreeMap::new(), Some(failure("E0302", format!("no workflow is called `{name}`, which it may start"))))
            }
        };
        pins.insert(Arc::clone(&definition.name), definition.digest.clone());
        let inputs = inputs.unwrap_or_else(|reason| {
            flaw = Some(reason);
            Value::Null
        });
        let start = Arc::new(Start {
            run,
            workflow: Arc::clone(&definition.name),
            version: definition.digest.clone(),
            pins: Arc::new(pins),
            inputs,
            parent: None,
            key,
            labels,
            seed: run.0.as_u64_pair().1,
        });
        self.triggers.starts.insert(run, Owed { start: Arc::clone(&start), flaw });
        self.triggers.touch(Row::Start(run));
        Effect::StartChild(start)
    }

    /// Hands an event to the steps that wait for it; gives those that it completed.
    fn hand_out(
        &mut self,
        stamp: Stamp,
        event: &Arc<CloudEvent>,
        applied: &mut Applied,
    ) -> BTreeSet<(RunId, StepName)> {
        let mut by_run: BTreeMap<RunId, Vec<usize>> = BTreeMap::new();
        for (run, step) in self.triggers.subscriptions.matching(event) {
            by_run.entry(run).or_default().push(step);
        }
        let mut taken = BTreeSet::new();
        for (run, steps) in by_run {
            // A torn checkpoint may hold the run as it was later: then it has this event already.
            if self.run(run).is_none_or(|run| run.seq > stamp.seq) {
                continue;
            }
            // Together: one step may take back what the one before it would have sent out.
            let mut done = Applied::default();
            for step in steps {
                let Some(name) = self.deliver(stamp, (run, step), event, &mut done) else { continue };
                taken.insert((run, name));
                self.settle(stamp, run, &mut done);
                applied.touched.push(run);
            }
            applied.effects.append(&mut done.effects);
            applied.facts.append(&mut done.facts);
        }
        taken
    }

    /// Hands an event to one step; `None` where it does not take it.
    fn deliver(
        &mut self,
        stamp: Stamp,
        place: (RunId, usize),
        event: &CloudEvent,
        applied: &mut Applied,
    ) -> Option<StepName> {
        let (id, step) = place;
        let run = self.runs.get_mut(&id)?;
        let definition = self.definitions.get(&run.start.version)?;
        let what = (step, event, stamp.at);
        run::deliver(Arc::make_mut(run), definition, &mut self.shared, what, applied).ok()?;
        Arc::make_mut(run).seq = stamp.seq;
        Some(definition.steps[step].name.clone())
    }

    /// What follows for triggers from what a record did to a run: `applied` is what that was, and nothing of other runs.
    pub(crate) fn settle(&mut self, stamp: Stamp, id: RunId, applied: &mut Applied) {
        while self.deliver_recent(stamp, id, applied).is_some() {}
        let Some(run) = self.run(id) else { return };
        if run.end().is_some()
            && let Some(key) = self.triggers.followers.remove(&id)
        {
            applied.effects.extend(self.start_queued(&key));
        }
    }

    /// Takes over for what a run waits; where the event came before, the oldest one completes the step.
    fn deliver_recent(&mut self, stamp: Stamp, id: RunId, applied: &mut Applied) -> Option<()> {
        let run = self.runs.get(&id)?;
        let definition = self.definitions.get(&run.start.version)?;
        let begun = self.triggers.subscriptions.follow(run, definition);
        for (step, wanted) in begun {
            let name = definition_step(self.definitions.get(&self.runs.get(&id)?.start.version)?, step)?;
            let fits = |(_, kept): &(u64, &Kept)| wanted.fits(&kept.event) && !kept.taken.contains(&(id, name.clone()));
            let of_kind = self.triggers.recent.of(&wanted.kind, wanted.since, stamp.at);
            let candidates: Vec<_> =
                of_kind.filter(fits).map(|(number, kept)| (number, Arc::clone(&kept.event))).collect();
            for (number, event) in candidates {
                if let Some(name) = self.deliver(stamp, (id, step), &event, applied) {
                    self.triggers.fold_at(stamp.seq);
                    self.triggers.recent.take(number, id, name);
                    self.triggers.touch(Row::Recent(number));
                    return Some(());
                }
            }
        }
        None
    }

    /// The next instant of a schedule is known.
    pub(crate) fn arm_schedule(
        &mut self,
        stamp: Stamp,
        key: &ScheduleKey,
        next: Option<UtcMs>,
    ) -> Result<Applied, Refusal> {
        if stamp.seq <= self.triggers.floor {
            return Err(Refusal::Stale("the schedule is further than that".into()));
        }
        if self.schedule(key).is_none() {
            return Err(Refusal::Stale("the latest version of the workflow has no such schedule".into()));
        }
        let known = self.triggers.schedules.get(key);
        if known.is_some_and(|known| known.next == next) {
            return Err(Refusal::Stale("the schedule is armed for just that".into()));
        }
        let passed = known
            .and_then(|known| known.next)
            .filter(|passed| *passed <= stamp.at && next.is_none_or(|next| next > *passed));
        self.triggers.fold_at(stamp.seq);
        self.triggers.schedules.entry(key.clone()).or_default().next = next;
        self.triggers.touch(Row::Schedule(key.clone()));
        let facts = passed.map(|nominal| missed(key, nominal, "nobody was there")).into_iter().collect();
        Ok(Applied { facts, ..Applied::default() })
    }

    /// An instant of a schedule has come.
    pub(crate) fn schedule_due(
        &mut self,
        stamp: Stamp,
        key: &ScheduleKey,
        nominal: UtcMs,
        next: Option<UtcMs>,
    ) -> Result<Applied, Refusal> {
        let known = self.triggers.schedules.get(key).filter(|known| known.next == Some(nominal));
        let Some(known) = known.filter(|_| stamp.seq > self.triggers.floor) else {
            return Err(Refusal::Stale("the schedule is not armed for this instant".into()));
        };
        let Some((overlap, spread)) = self.schedule(key).map(|schedule| (schedule.overlap, schedule.jitter)) else {
            return Err(Refusal::Stale("the latest version of the workflow has no such schedule".into()));
        };
        if nominal + jitter(&key.workflow, nominal, spread) > stamp.at {
            return Err(Refusal::Stale("the instant has not come".into()));
        }
        let (open, queued) = (known.last.filter(|last| self.is_open(*last)), known.queued.is_some());
        self.triggers.fold_at(stamp.seq);
        self.triggers.touch(Row::Schedule(key.clone()));
        let mut applied = Applied::default();
        let starts = match (open, overlap) {
            (None, _) | (Some(_), Overlap::Allow) => true,
            (Some(last), Overlap::Replace) => {
                applied = self.replace(stamp, last);
                true
            }
            (Some(last), Overlap::Queue) if !queued => {
                self.triggers.followers.insert(last, key.clone());
                false
            }
            (Some(_), Overlap::Queue | Overlap::Skip) => {
                applied.facts.push(missed(key, nominal, "the last run is open"));
                false
            }
        };
        let waits = !starts && applied.facts.is_empty();
        if let Some(scheduled) = self.triggers.schedules.get_mut(key) {
            scheduled.next = next;
            if waits {
                scheduled.queued = Some((nominal, stamp.seq));
            }
        }
        if starts {
            applied.effects.extend(self.start_scheduled(key, nominal, stamp.seq));
        }
        Ok(applied)
    }

    /// Has the last run of a schedule make room.
    fn replace(&mut self, stamp: Stamp, last: RunId) -> Applied {
        let reason: Arc<str> = "the next instant of its schedule has come".into();
        if let Some(owed) = self.triggers.starts.get_mut(&last) {
            // It is on its way into the journal: it begins, and fails at once.
            owed.flaw.get_or_insert(failure("E0316", format!("cancelled: {reason}")));
            self.triggers.touch(Row::Start(last));
            return Applied::default();
        }
        // One that is on its way back already needs no word.
        let cancel = Event::CancelRequested { run: last, compensate: true, reason };
        let mut applied = self.fold_run(stamp, last, (&cancel, &"engine".into())).unwrap_or_default();
        applied.touched.push(last);
        applied
    }

    /// The last run of a schedule is over: what waited for that starts.
    fn start_queued(&mut self, key: &ScheduleKey) -> Option<Effect> {
        let (nominal, seq) = self.triggers.schedules.get_mut(key)?.queued.take()?;
        self.triggers.touch(Row::Schedule(key.clone()));
        self.start_scheduled(key, nominal, seq)
    }

    fn start_scheduled(&mut self, key: &ScheduleKey, nominal: UtcMs, seq: u64) -> Option<Effect> {
        let definition = self.latest(&key.workflow).and_then(|version| self.definition(version)).cloned()?;
        let Some(Trigger::Schedule(schedule)) = triggers(&definition, key.index) else { return None };
        let run = RunId::derived(&format!("schedule\n{}\n{}\n{}\n{seq}", key.workflow, key.index, nominal.0));
        let time = nominal.to_string();
        let values = BTreeMap::from([("schedule", json!({"time": time}))]);
        let inputs = schedule.inputs.eval(&Scope { values, upstream_failed: false }).map_err(no_value);
        let labels =
            BTreeMap::from([("trigger".into(), "schedule".into()), ("schedule.time".into(), time.as_str().into())]);
        if let Some(scheduled) = self.triggers.schedules.get_mut(key) {
            scheduled.last = Some(run);
        }
        Some(self.owe_start(Order { run, definition, inputs, key: None, labels }))
    }

    fn is_open(&self, run: RunId) -> bool {
        self.triggers.starts.contains_key(&run) || self.run(run).is_some_and(|run| run.end().is_none())
    }

    /// A version became what its name means; `former` was that before. Schedules that changed are disarmed.
    pub(crate) fn latest_changed(&mut self, former: Option<&Digest>, definition: &Definition) {
        self.triggers.interest.know(definition);
        self.triggers.interest.make_latest(definition);
        let former = former.and_then(|former| self.definition(former)).cloned();
        let rule = |definition: &Definition, index| match triggers(definition, index) {
            Some(Trigger::Schedule(schedule)) => Some(schedule.rule.clone()),
            Some(Trigger::Event(_)) | None => None,
        };
        let changed = |key: &&ScheduleKey| {
            let now = rule(definition, key.index);
            key.workflow == definition.name
                && (now.is_none() || former.as_ref().and_then(|former| rule(former, key.index)) != now)
        };
        let disarmed: Vec<ScheduleKey> = self.triggers.schedules.keys().filter(changed).cloned().collect();
        for key in disarmed {
            self.triggers.disarm(&key);
        }
    }
}

impl Triggers {
    fn disarm(&mut self, key: &ScheduleKey) {
        self.schedules.remove(key);
        self.followers.retain(|_, follower| follower != key);
        self.touch(Row::Schedule(key.clone()));
    }

    /// A run that was owed is in the journal; says how it was to begin.
    pub fn begun(&mut self, run: RunId) -> Option<Owed> {
        let owed = self.starts.remove(&run)?;
        self.touch(Row::Start(run));
        Some(owed)
    }

    /// A run left the state.
    pub fn retired(&mut self, run: RunId) {
        self.subscriptions.forget(run);
    }

    /// All that triggers owe.
    pub fn pending(&self) -> impl Iterator<Item = Effect> + '_ {
        let timer = |burst: &Burst| Effect::Timer(TimerKey { run: burst.run, kind: TimerKind::Debounce }, burst.due);
        let starts = self.starts.values().map(|owed| Effect::StartChild(Arc::clone(&owed.start)));
        self.bursts.all().map(timer).chain(starts)
    }
}

fn definition_step(definition: &Definition, at: usize) -> Option<StepName> {
    definition.steps.get(at).map(|step| step.name.clone())
}

pub(super) fn triggers(definition: &Definition, index: u32) -> Option<&Trigger> {
    usize::try_from(index).ok().and_then(|index| definition.triggers.get(index))
}

/// Whether an event meets a trigger, and its key where there is one.
fn meets(trigger: &EventTrigger, scope: &Scope) -> Result<Option<Option<Arc<str>>>, Failure> {
    if let Some(condition) = &trigger.condition {
        match condition.eval(scope).map_err(no_value)? {
            Value::Bool(true) => {}
            Value::Bool(false) => return Ok(None),
            other => {
                let message = format!("`{}` is true or false, this is {other}", condition.source());
                return Err(failure("E0205", message));
            }
        }
    }
    let key = |template: &Template| template.eval(scope).map_err(no_value);
    let key = trigger.key.as_ref().map(key).transpose()?;
    Ok(Some(key.and_then(|key| run::as_key(&key))))
}

fn no_value(error: EvalError) -> Failure {
    failure("E0205", error.to_string())
}

fn failure(code: &str, message: String) -> Failure {
    Failure { code: code.into(), class: FailureClass::Permanent, message, details: Value::Null }
}

fn event_labels(event: &CloudEvent) -> BTreeMap<Arc<str>, Arc<str>> {
    BTreeMap::from([
        ("trigger".into(), "event".into()),
        ("event.type".into(), event.kind.as_str().into()),
        ("event.source".into(), event.source.as_str().into()),
        ("event.id".into(), event.id.as_str().into()),
    ])
}

/// An instant that starts nothing.
fn missed(key: &ScheduleKey, nominal: UtcMs, why: &'static str) -> Fact {
    let run = RunId::derived(&format!("missed\n{}\n{}\n{}", key.workflow, key.index, nominal.0));
    Fact { run, kind: FactKind::Missed { workflow: Arc::clone(&key.workflow), nominal, why } }
}
