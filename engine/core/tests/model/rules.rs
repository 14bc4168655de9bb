//! What must hold on every edge and in every state. Measured against what the onlooker saw, not against the state's
//! own books.

use std::collections::BTreeMap;

use patchloom_core::record::{End, Event};
use patchloom_core::run::{Applied, At, Live, Phase, Refusal, Run, Status, Undo, WaveAt};
use patchloom_core::{Action, Effect, EffectKey, Leg, Partition, TaskKey};

use super::actions::label;
use super::world::{Machine, Mark, Place, World, entry};
use super::{controls, repeats};

/// The rules by name. Each has a fault in `faults` that breaks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    EffectsAreTheDifference,
    RefusalChangesNothing,
    RepeatChangesNothing,
    ReplayGivesTheSame,
    NothingGoesOutTwice,
    OneEndPerEnding,
    EndTellsTheTruth,
    OnlyWhatStartedIsUndone,
    UndoneFromBehind,
    NothingUndonePastPivot,
    StaysWithinItsLimits,
    OpenRunWakes,
    EndIsReachable,
    DueIsNeverIllegal,
    PlacesAreThoseHeld,
    NoPlaceLiesIdle,
    NothingStartsWhilePaused,
    HeldStepWaits,
    LastStepsRunOnce,
    LimitCountsWorkOnly,
}

/// A rule that does not hold, and what was seen.
#[derive(Clone, Debug)]
pub struct Broken {
    pub rule: Rule,
    pub what: String,
}

pub type Verdict = Result<(), Broken>;

pub fn hold(rule: Rule, holds: bool, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(Broken { rule, what: what() }) }
}

/// One event and what it did.
pub struct Edge<'a> {
    pub machine: Machine,
    pub before: &'a World,
    pub event: &'a Event,
    /// Whether it comes of what is owed, or of what a run waits for, and not of somebody's whim.
    pub due: bool,
    pub answer: &'a Result<Applied, Refusal>,
    pub after: &'a World,
}

impl Edge<'_> {
    pub fn check(&self) -> Verdict {
        self.replays()?;
        let alarm = matches!(self.answer, Err(Refusal::Illegal(_))) && self.due && !self.speaks_to_one_set_aside();
        hold(Rule::DueIsNeverIllegal, !alarm, || format!("{:?}", self.answer))?;
        let Ok(applied) = self.answer else {
            let same = self.before.partition.runs().eq(self.after.partition.runs());
            return hold(Rule::RefusalChangesNothing, same, || format!("refused with {:?}", self.answer));
        };
        self.effects(applied)?;
        for effect in &applied.effects {
            self.goes_out_once(effect)?;
            self.goes_out_in_time(effect)?;
            self.way_back(effect)?;
        }
        for run in self.after.partition.runs() {
            self.ends_once(run)?;
        }
        controls::edge(self)?;
        repeats::at_once(self)
    }

    /// A parent or a child knows nothing of that: it says again what it has to say once the run is released.
    fn speaks_to_one_set_aside(&self) -> bool {
        let run = self.event.run().and_then(|run| self.before.partition.run(run));
        run.is_some_and(|run| matches!(run.phase, Phase::Quarantined { .. }))
    }

    /// Whether an attempt is out that goes out again because its run was released.
    fn was_out(&self, key: &TaskKey) -> bool {
        let trace = self.before.ledger.places.get(&Place::of(key));
        let out =
            trace.is_some_and(|trace| trace.out.of(key.leg) == key.attempt && trace.back.of(key.leg) < key.attempt);
        out && matches!(self.event, Event::ReleaseRequested { .. })
    }

    /// The same comes of the event once more, read back from its JSON.
    fn replays(&self) -> Verdict {
        let text = serde_json::to_string(&entry(self.event)).expect("an entry is JSON");
        let entry = serde_json::from_str(&text).expect("an entry reads back");
        let mut again = self.before.partition.clone();
        let answer = (self.machine)(&mut again, self.after.seq, self.after.now, &entry);
        let same = answer == *self.answer && again.runs().eq(self.after.partition.runs());
        hold(Rule::ReplayGivesTheSame, same, || format!("{:?}, and then {answer:?}", self.answer))
    }

    fn effects(&self, applied: &Applied) -> Verdict {
        let (was, is) = (&self.before.owed, &self.after.owed);
        let new = |(key, effect): &(&EffectKey, &Effect)| was.get(*key) != Some(*effect);
        let added: BTreeMap<EffectKey, Effect> =
            is.iter().filter(new).map(|(key, effect)| (key.clone(), effect.clone())).collect();
        let told: BTreeMap<EffectKey, Effect> =
            applied.effects.iter().map(|effect| (effect.key(), effect.clone())).collect();
        // One that is released is told again what its parent and its children told it in vain.
        let again = |key: &EffectKey| matches!(self.event, Event::ReleaseRequested { .. }) && is.contains_key(key);
        let extra = told.iter().all(|(key, effect)| added.contains_key(key) || again(key) && is[key] == *effect);
        let same = extra
            && added.iter().all(|(key, effect)| told.get(key) == Some(effect))
            && told.len() == applied.effects.len();
        hold(Rule::EffectsAreTheDifference, same, || {
            format!("told {:?}\nowed {:?}", told.keys().collect::<Vec<_>>(), added.keys().collect::<Vec<_>>())
        })
    }

    /// What goes out leaves room for no more than may go at once, and goes while its window is open.
    fn goes_out_in_time(&self, effect: &Effect) -> Verdict {
        let Effect::Dispatch(task) = effect else { return Ok(()) };
        if task.key.leg == Leg::Undo || matches!(self.event, Event::ReleaseRequested { .. }) {
            return Ok(());
        }
        let run = self.after.partition.run(task.key.run).expect("it is known");
        let definition = self.after.definition(run);
        let at = definition.position(task.key.step.as_str()).expect("the step is known");
        let (step, state) = (&definition.steps[at], &run.steps[at]);
        let busy = state.work.as_ref().map_or(0, |work| work.live.values().filter(|live| live.at.has_place()).count());
        let tuned = state.tuned.as_ref().and_then(|tune| tune.max_parallel);
        let limit = tuned.or(step.for_each.as_ref().and_then(|for_each| for_each.max_parallel)).unwrap_or(u32::MAX);
        hold(Rule::StaysWithinItsLimits, busy as u64 <= u64::from(limit), || {
            format!("`{}` has {busy} items at work of {limit}", step.name)
        })?;
        let now = self.after.now;
        let open = || {
            let calendars = self.after.partition.shared().calendars();
            calendars.values().any(|night| night.spans.iter().any(|span| span.open <= now && now < span.close))
        };
        hold(Rule::StaysWithinItsLimits, step.window.is_none() || open(), || {
            format!("`{}` goes out while its window is closed", step.name)
        })
    }

    fn goes_out_once(&self, effect: &Effect) -> Verdict {
        let rule = Rule::NothingGoesOutTwice;
        match effect {
            Effect::Dispatch(task) => self.key_goes_out_once(&task.key),
            Effect::Emit { task, .. } => self.key_goes_out_once(task),
            Effect::Cancel(key) => {
                let owed = [EffectKey::Dispatch(key.clone()), EffectKey::Emit(key.clone())];
                let was_out = owed.iter().any(|key| self.before.owed.contains_key(key)) || self.was_out(key);
                hold(rule, was_out, || format!("{key:?} is called back and was not out"))
            }
            Effect::StartChild(start) => {
                let released = matches!(self.event, Event::ReleaseRequested { .. });
                let new = self.before.partition.run(start.run).is_none() || released;
                hold(rule, new, || format!("the child {} is started twice", start.run))
            }
            Effect::Timer(..)
            | Effect::CancelChild { .. }
            | Effect::UnwindChild { .. }
            | Effect::InformParent { .. } => Ok(()),
        }
    }

    fn key_goes_out_once(&self, key: &TaskKey) -> Verdict {
        let trace = self.before.ledger.places.get(&Place::of(key));
        let out = trace.map_or(0, |trace| trace.out.of(key.leg));
        let new = key.attempt > out || self.was_out(key);
        hold(Rule::NothingGoesOutTwice, new, || format!("{key:?} goes out, attempt {out} had before"))
    }

    fn way_back(&self, effect: &Effect) -> Verdict {
        match effect {
            Effect::Dispatch(task) if task.key.leg == Leg::Undo => self.undo(&task.key),
            Effect::UnwindChild { child, .. } => {
                let run = self.after.partition.run(*child).expect("it is known");
                let link = run.start.parent.as_ref().expect("it is a child");
                let parent = self.after.partition.run(link.run).expect("it is known");
                self.not_past_pivot(parent)?;
                self.behind_is_clean(parent, link.step.as_str(), link.item)
            }
            Effect::Dispatch(_)
            | Effect::Emit { .. }
            | Effect::Cancel(_)
            | Effect::Timer(..)
            | Effect::StartChild(_)
            | Effect::CancelChild { .. }
            | Effect::InformParent { .. } => Ok(()),
        }
    }

    fn undo(&self, key: &TaskKey) -> Verdict {
        let run = self.after.partition.run(key.run).expect("it is known");
        self.not_past_pivot(run)?;
        let mark = self.before.ledger.places.get(&Place::of(key)).map(|trace| trace.mark);
        let dirty = matches!(mark, Some(Mark::Touched | Mark::Undoing));
        hold(Rule::OnlyWhatStartedIsUndone, dirty, || format!("{key:?} is undone and is {mark:?}"))?;
        self.behind_is_clean(run, key.step.as_str(), key.item)
    }

    fn not_past_pivot(&self, run: &Run) -> Verdict {
        let beyond = self.before.ledger.beyond.contains(&run.id());
        hold(Rule::NothingUndonePastPivot, !beyond, || {
            format!("`{}{}` goes back", label(&self.after.partition, run.id()), run.start.workflow)
        })
    }

    /// All is at rest, all that stands behind in the graph is clean, and no later item waits for its turn.
    fn behind_is_clean(&self, run: &Run, step: &str, item: u32) -> Verdict {
        let rule = Rule::UndoneFromBehind;
        let definition = self.after.definition(run);
        let at = definition.position(step).expect("the step is known");
        for (behind, other) in definition.steps.iter().enumerate() {
            // What stands under `finally` has its turn after this.
            let settled = run.steps[behind].status.is_settled() || other.finally;
            hold(rule, settled, || format!("`{step}` is undone while `{}` moves", other.name))?;
            if definition.upstream[behind].contains(at) {
                let dirty = dirty(self.after, run, behind);
                hold(rule, dirty.is_none(), || format!("`{step}` is undone before {dirty:?}"))?;
            }
        }
        // What a former try did, and this one did not come to, lies further behind: its turn is later.
        let places = &self.after.ledger.places;
        let own = Place { run: run.id(), step: definition.steps[at].name.clone(), item };
        let this_try = places.get(&own).map_or(0, |trace| trace.out.forward);
        let later = places.iter().find(|(place, trace)| {
            let same = place.run == own.run && place.step == own.step && place.item > item;
            same && trace.mark == Mark::Touched && trace.out.forward >= this_try
        });
        let compensated = definition.steps[at].compensate.is_some();
        hold(rule, later.is_none() || !compensated, || format!("{step}/{item} is undone before {later:?}"))
    }

    fn ends_once(&self, run: &Run) -> Verdict {
        let Some(before) = self.before.partition.run(run.id()) else { return Ok(()) };
        let wanted = matches!(
            self.event,
            Event::RetryRequested { .. } | Event::UnwindRequested { .. } | Event::RerunRequested { .. }
        );
        let lawful = match (before.end(), run.end()) {
            (None, None) => run.endings == before.endings,
            (None, Some(_)) => run.endings == before.endings + 1,
            (Some(was), Some(is)) if run.endings == before.endings => was == is,
            (Some(_), Some(_)) => wanted && run.endings == before.endings + 1,
            (Some(_), None) => wanted && run.endings == before.endings,
        };
        hold(Rule::OneEndPerEnding, lawful, || {
            let of = |run: &Run| format!("{} after {} endings", run.phase.name(), run.endings);
            format!("{}, then {}", of(before), of(run))
        })
    }
}

/// What in the step at `at` was changed and not put back, where it could have been.
fn dirty(world: &World, run: &Run, at: usize) -> Option<String> {
    let step = &world.definition(run).steps[at];
    match &step.action {
        Action::Task { .. } if step.compensate.is_some() => world.ledger.places.iter().find_map(|(place, trace)| {
            let own = place.run == run.id() && place.step == step.name;
            (own && trace.mark != Mark::Clean).then(|| format!("{place:?} {trace:?}"))
        }),
        Action::Workflow { .. } | Action::Steps(_) => world.partition.runs().find_map(|child| {
            let link = child.start.parent.as_ref()?;
            if link.run != run.id() || link.step != step.name {
                return None;
            }
            let kept = world.ledger.beyond.contains(&child.id()) || child.end() == Some(End::Cancelled);
            match child.end() {
                None => Some(format!("a child that is {}", child.phase.name())),
                Some(_) if kept => None,
                Some(_) => (0..child.steps.len()).find_map(|at| dirty(world, child, at)),
            }
        }),
        Action::Task { .. } | Action::Wait(_) | Action::Set(_) | Action::Fail(_) | Action::Emit(_) => None,
    }
}

/// What must hold in `world`, however it came about.
pub fn state(machine: Machine, world: &World) -> Verdict {
    for run in world.partition.runs() {
        reads_back(world, run)?;
        limits(world, run)?;
        wakes(world, run)?;
        controls::limit(world, run)?;
        if let Some(end) = run.end() {
            truth(world, run, end)?;
        }
    }
    controls::state(world)?;
    for key in world.owed.keys() {
        let (EffectKey::Dispatch(task) | EffectKey::Cancel(task) | EffectKey::Emit(task)) = key else { continue };
        let back = world.ledger.places.get(&Place::of(task)).map_or(0, |trace| trace.back.of(task.leg));
        hold(Rule::NothingGoesOutTwice, task.attempt > back, || format!("{task:?} was answered and is owed again"))?;
    }
    repeats::later(machine, world)
}

/// A run that comes out of a snapshot is the one that went in.
fn reads_back(world: &World, run: &Run) -> Verdict {
    let (key, row) = Partition::run_row(run);
    let mut loaded = Partition::default();
    loaded.load(&key, &row).expect("a row reads back");
    let same = loaded.run(run.id()).is_some_and(|loaded| **loaded == *run);
    hold(Rule::ReplayGivesTheSame, same, || {
        format!("`{}{}` reads back as another", label(&world.partition, run.id()), run.start.workflow)
    })
}

fn limits(world: &World, run: &Run) -> Verdict {
    for (step, state) in world.definition(run).steps.iter().zip(&run.steps) {
        let declared = step.for_each.as_ref().and_then(|for_each| for_each.max_parallel).unwrap_or(u32::MAX);
        // Where an operator lowered it, what was out stays out: that no more joins it is looked at on the edge.
        let limit = if state.tuned.is_some() { u32::MAX } else { declared };
        let placed = |live: &BTreeMap<u32, Live>| live.values().filter(|live| live.at.has_place()).count();
        let forward = state.work.as_ref().map_or(0, |work| placed(&work.live));
        let undo = if let Undo::Active(undo) = &state.undo { placed(&undo.live) } else { 0 };
        hold(Rule::StaysWithinItsLimits, forward.max(undo) as u64 <= u64::from(limit), || {
            format!("`{}` has {forward} items at work and {undo} on the way back of {limit}", step.name)
        })?;
    }
    Ok(())
}

/// An open run owes something, or waits for a place, a child, a signal or a person; and it can say what.
fn wakes(world: &World, run: &Run) -> Verdict {
    let owes = world.owed.keys().any(|key| match key {
        EffectKey::Dispatch(task) | EffectKey::Cancel(task) | EffectKey::Emit(task) => task.run == run.id(),
        EffectKey::Timer(timer) => timer.run == run.id(),
        EffectKey::StartChild(_)
        | EffectKey::CancelChild(_)
        | EffectKey::UnwindChild(_)
        | EffectKey::InformParent(..) => false,
    });
    let child = |live: &Live| matches!(live.at, At::Child { .. });
    let waits = run.steps.iter().zip(&world.definition(run).steps).any(|(step, declared)| {
        matches!(step.status, Status::Waiting { .. } | Status::Held { .. })
            || !step.status.is_settled() && !step.holds.is_empty()
            || controls::stands_in_line(step, declared)
            || step.work.as_ref().and_then(|work| work.wave.as_ref()).is_some_and(|wave| wave.at != WaveAt::Working)
            || step.work.as_ref().is_some_and(|work| work.live.values().any(child))
            || matches!(&step.undo, Undo::Active(undo) if undo.live.values().any(child))
    });
    let asks = || run.steps.iter().any(|step| matches!(step.undo, Undo::Failed(_)));
    let awake = match run.phase {
        Phase::Ended(_) | Phase::Quarantined { .. } | Phase::Queued { .. } => true,
        Phase::CompensationFailed => asks(),
        Phase::Running | Phase::Halting | Phase::Closing { .. } | Phase::Compensating => {
            owes || waits || run.paused.is_some()
        }
    };
    let why = patchloom_core::run::why(run, world.definition(run), world.now);
    hold(Rule::OpenRunWakes, awake && !why.is_empty(), || format!("{} waits for nothing: {why:?}", run.phase.name()))
}

/// A run that says that it ended is at rest, and as clean as its end says.
fn truth(world: &World, run: &Run, end: End) -> Verdict {
    let rule = Rule::EndTellsTheTruth;
    let rests = run.steps.iter().all(|step| step.status.is_settled() && step.undo.is_settled());
    hold(rule, rests, || format!("{} and not at rest: {run:#?}", end.name()))?;
    let undone = run.steps.iter().any(|step| matches!(step.undo, Undo::Done { .. }));
    hold(rule, !undone || end == End::Compensated, || format!("{} with steps undone", end.name()))?;
    let caused = run.cause.is_some() != (end == End::Succeeded);
    hold(rule, caused, || format!("{}, because of {:?}", end.name(), run.cause))?;
    let open = world
        .partition
        .runs()
        .find(|child| child.start.parent.as_ref().is_some_and(|link| link.run == run.id()) && child.end().is_none());
    hold(rule, open.is_none(), || format!("{} while a child is open", end.name()))?;
    let clean = match end {
        End::Succeeded => false,
        End::Compensated => true,
        End::Failed => !world.ledger.beyond.contains(&run.id()),
        End::Cancelled => {
            run.cause.as_ref().is_some_and(|cause| cause.compensate) && !world.ledger.beyond.contains(&run.id())
        }
    };
    let dirty = (0..run.steps.len()).find_map(|at| dirty(world, run, at)).filter(|_| clean);
    hold(rule, dirty.is_none(), || format!("{}, and left behind: {dirty:?}", end.name()))
}
