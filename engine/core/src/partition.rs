//! The state of one partition: its runs, the definitions they are pinned to, the keys of their starts.
//!
//! Folding the same records into it gives the same state on every machine, byte for byte.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::effect::{Effect, EffectKey};
use crate::record::{Entry, Event, Start, TimerKind};
use crate::run::{self, Applied, Phase, Refusal, Run};
use crate::shared::Shared;
use crate::triggers::{ScheduleKey, Stamp, Triggers};
use crate::{CloudEvent, Definition, Digest, Millis, RunId, TaskKey, UtcMs};

/// How long the key of a start is remembered.
pub const KEY_KEPT: Millis = Millis(7 * 86_400_000);

/// All that is folded out of one journal.
#[derive(Clone, Debug, Default)]
pub struct Partition {
    pub(crate) definitions: BTreeMap<Digest, Arc<Definition>>,
    latest: BTreeMap<Arc<str>, Digest>,
    pub(crate) runs: BTreeMap<RunId, Arc<Run>>,
    keys: BTreeMap<Arc<str>, StartKey>,
    /// The keys by age, so that forgetting them costs nothing.
    aging: BTreeMap<(UtcMs, Arc<str>), ()>,
    pub(crate) shared: Shared,
    pub(crate) triggers: Triggers,
}

/// What the key of a start stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartKey {
    /// The run that it started.
    pub run: RunId,
    /// When.
    pub at: UtcMs,
}

/// Why a stored row does not fit into a state.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// Its key is of no known kind.
    #[error("the row `{0}` is of no known kind")]
    Key(String),
    /// Its value cannot be read.
    #[error("the row `{key}` cannot be read")]
    Value {
        /// Its key.
        key: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A stored definition does not pass its own check any more.
    #[error("the stored definition `{digest}` cannot be read: {reason}")]
    Definition {
        /// Its version.
        digest: String,
        /// Why.
        reason: String,
    },
}

impl Partition {
    /// Folds one entry in. `seq` and `at` are those of its record.
    ///
    /// # Errors
    /// [`Refusal`]: the entry changes nothing. A run that cannot be understood is quarantined, which is no error: the
    /// partition goes on.
    pub fn apply(&mut self, seq: u64, at: UtcMs, entry: &Entry) -> Result<Applied, Refusal> {
        let stamp = Stamp { seq, at };
        let mut applied = self.fold(stamp, entry)?;
        self.pass_on(stamp, &mut applied);
        Ok(applied)
    }

    fn fold(&mut self, stamp: Stamp, entry: &Entry) -> Result<Applied, Refusal> {
        let Stamp { seq, at } = stamp;
        match &entry.event {
            Event::DefinitionRegistered { text } => self.register(text),
            Event::RunStarted(start) => self.start(seq, at, start),
            Event::RunRetired { run } => self.retire(*run),
            Event::RunRecalled { run } => self.recall(seq, run),
            Event::Migrated { run, version, pins } => self.migrate(stamp, *run, version, pins),
            Event::CalendarSet { name, rules, spans, until } => {
                self.shared.set_calendar(name, rules.clone(), spans, *until);
                Ok(Applied::default())
            }
            Event::EventReceived { event } => self.receive(stamp, event),
            Event::ScheduleArmed { workflow, index, next } => {
                self.arm_schedule(stamp, &ScheduleKey { workflow: Arc::clone(workflow), index: *index }, *next)
            }
            Event::ScheduleDue { workflow, index, nominal, next } => {
                let key = ScheduleKey { workflow: Arc::clone(workflow), index: *index };
                self.schedule_due(stamp, &key, *nominal, *next)
            }
            Event::TimerFired { timer } if timer.kind == TimerKind::Debounce => self.burst_over(stamp, timer.run),
            event => {
                let id = event.run().ok_or(Refusal::Stale("no run is named".into()))?;
                self.fold_run(stamp, id, (event, &entry.by))
            }
        }
    }

    /// Folds what is about one run into it.
    pub(crate) fn fold_run(
        &mut self,
        stamp: Stamp,
        id: RunId,
        (event, by): (&Event, &Arc<str>),
    ) -> Result<Applied, Refusal> {
        let run =
            self.runs.get_mut(&id).ok_or(Refusal::Stale("the run is not known, or lies in the archive".into()))?;
        let Some(definition) = self.definitions.get(&run.start.version) else {
            return Ok(quarantine(run, stamp.seq, "the version it is pinned to is not known"));
        };
        if run.steps.len() != definition.steps.len() {
            return Ok(quarantine(run, stamp.seq, "its steps are not those of its version"));
        }
        let run = Arc::make_mut(run);
        let mut applied = run::apply(run, definition, &mut self.shared, (event, by, stamp.at))?;
        run.seq = stamp.seq;
        if let Event::ReleaseRequested { .. } = event {
            // What is owed again went out before it was set aside: no event that came meanwhile takes it back unseen.
            let again = std::mem::take(&mut applied.effects);
            self.settle(stamp, id, &mut applied);
            applied.effects.extend(self.still_owed(id, again));
            applied.effects.extend(self.missed(id));
        } else {
            self.settle(stamp, id, &mut applied);
        }
        Ok(applied)
    }

    /// Hands on the places that came free, and has runs make room, until nothing moves.
    fn pass_on(&mut self, stamp: Stamp, applied: &mut Applied) {
        let Stamp { seq, at } = stamp;
        loop {
            let (id, more) = if let Some((waiter, group)) = self.shared.next_woken() {
                let nudge = |run: &mut Run, definition: &Definition, shared: &mut Shared| {
                    run::nudge(run, definition, shared, (waiter.step.as_ref(), group.as_ref(), at))
                };
                (waiter.run, self.move_other(seq, waiter.run, nudge))
            } else if let Some((replaced, reason)) = self.shared.next_replaced() {
                let cancel = Event::CancelRequested { run: replaced, compensate: true, reason };
                let by: Arc<str> = "engine".into();
                let make_room = |run: &mut Run, definition: &Definition, shared: &mut Shared| {
                    run::apply(run, definition, shared, (&cancel, &by, at)).unwrap_or_default()
                };
                (replaced, self.move_other(seq, replaced, make_room))
            } else {
                return;
            };
            if let Some(mut more) = more {
                self.settle(stamp, id, &mut more);
                applied.effects.append(&mut more.effects);
                applied.facts.append(&mut more.facts);
                applied.touched.push(id);
            }
        }
    }

    fn move_other(
        &mut self,
        seq: u64,
        id: RunId,
        how: impl FnOnce(&mut Run, &Definition, &mut Shared) -> Applied,
    ) -> Option<Applied> {
        let run = self.runs.get_mut(&id)?;
        if matches!(run.phase, Phase::Quarantined { .. } | Phase::Ended(_)) {
            return None;
        }
        let definition = self.definitions.get(&run.start.version)?;
        let run = Arc::make_mut(run);
        run.seq = seq;
        Some(how(run, definition, &mut self.shared))
    }

    /// Those of `effects` that a run still owes.
    fn still_owed(&self, id: RunId, mut effects: Vec<Effect>) -> Vec<Effect> {
        let run = self.runs.get(&id);
        let definition = run.and_then(|run| self.definitions.get(&run.start.version));
        let owed = run.zip(definition).map(|(run, definition)| run::pending(run, definition)).unwrap_or_default();
        effects.retain(|effect| owed.contains_key(&effect.key()));
        effects
    }

    /// What others told a run in vain while it was quarantined: they are owed it still.
    fn missed(&self, id: RunId) -> Vec<Effect> {
        let Some(run) = self.runs.get(&id) else { return Vec::new() };
        let owed_by = |run: &Run| {
            self.definitions.get(&run.start.version).map(|definition| run::pending(run, definition)).unwrap_or_default()
        };
        let parent = run.start.parent.as_ref().and_then(|link| self.runs.get(&link.run));
        let from_parent = parent.map(|parent| owed_by(parent)).unwrap_or_default();
        let about_me = |effect: &Effect| match effect {
            Effect::CancelChild { child, .. } | Effect::UnwindChild { child, .. } => *child == id,
            _ => false,
        };
        let children = run.children().filter_map(|child| self.runs.get(&child));
        let from_children = children.flat_map(|child| owed_by(child));
        let informs = |effect: &Effect| matches!(effect, Effect::InformParent { .. });
        let parents = from_parent.into_values().filter(about_me);
        parents.chain(from_children.map(|(_, effect)| effect).filter(informs)).collect()
    }

    /// A run comes back from the archive.
    fn recall(&mut self, seq: u64, run: &Arc<Run>) -> Result<Applied, Refusal> {
        if self.runs.contains_key(&run.id()) {
            return Err(Refusal::Stale("the run is in the state".into()));
        }
        if !self.definitions.contains_key(&run.start.version) {
            return Err(Refusal::Illegal(format!("no version {} is known", run.start.version)));
        }
        let mut run = Arc::clone(run);
        Arc::make_mut(&mut run).seq = seq;
        self.runs.insert(run.id(), run);
        Ok(Applied::default())
    }

    fn migrate(
        &mut self,
        stamp: Stamp,
        id: RunId,
        version: &Digest,
        pins: &Arc<BTreeMap<Arc<str>, Digest>>,
    ) -> Result<Applied, Refusal> {
        let run =
            self.runs.get_mut(&id).ok_or(Refusal::Stale("the run is not known, or lies in the archive".into()))?;
        let to =
            self.definitions.get(version).ok_or_else(|| Refusal::Illegal(format!("no version {version} is known")))?;
        let Some(from) = self.definitions.get(&run.start.version) else {
            return Err(Refusal::Illegal("the version it is pinned to is not known".into()));
        };
        if from.digest == to.digest {
            return Err(Refusal::Stale("it goes by this version already".into()));
        }
        let run = Arc::make_mut(run);
        let before = run::pending(run, from);
        run::migrate(run, (from, to), pins)?;
        run.seq = stamp.seq;
        let mut applied = run::look(run, to, &mut self.shared, stamp.at);
        let after = run::pending(run, to);
        applied.effects =
            after.into_iter().filter(|(key, _)| !before.contains_key(key)).map(|(_, effect)| effect).collect();
        // Its steps may stand elsewhere now.
        self.triggers.retired(id);
        self.settle(stamp, id, &mut applied);
        Ok(applied)
    }

    fn register(&mut self, text: &Arc<str>) -> Result<Applied, Refusal> {
        let definition = Definition::parse("registered", text)
            .map_err(|mistakes| Refusal::Illegal(format!("the definition does not hold: {mistakes}")))?;
        let current = self.latest.get(&definition.name) == Some(&definition.digest);
        if current {
            return Err(Refusal::Stale("this version is the latest already".into()));
        }
        let former = self.latest.insert(Arc::clone(&definition.name), definition.digest.clone());
        self.latest_changed(former.as_ref(), &definition);
        self.know(Arc::new(definition));
        Ok(Applied::default())
    }

    /// Keeps a version, and the sub-DAGs that stand in it.
    fn know(&mut self, definition: Arc<Definition>) {
        for step in &definition.steps {
            if let crate::Action::Steps(inner) = &step.action {
                self.know(Arc::clone(inner));
            }
        }
        self.definitions.entry(definition.digest.clone()).or_insert(definition);
    }

    fn start(&mut self, seq: u64, at: UtcMs, start: &Arc<Start>) -> Result<Applied, Refusal> {
        while let Some(((since, key), ())) = self.aging.first_key_value().map(|(key, ())| (key.clone(), ())) {
            if at.since(since) < KEY_KEPT {
                break;
            }
            self.aging.remove(&(since, Arc::clone(&key)));
            self.keys.remove(&key);
        }
        if self.runs.contains_key(&start.run) {
            return Err(Refusal::Stale("the run exists".into()));
        }
        if start.key.as_ref().is_some_and(|key| self.keys.contains_key(key)) {
            // Two events with one key were under way at once: the trigger that owed the second is through with it.
            let settled = self.triggers.begun(start.run).map(|_| Applied::default());
            return settled.ok_or(Refusal::Stale("a run was started with this key before".into()));
        }
        let Some(definition) = self.definitions.get(&start.version) else {
            return Err(Refusal::Illegal(format!("no version {} of `{}` is known", start.version, start.workflow)));
        };
        let flaw = self.triggers.begun(start.run).and_then(|owed| owed.flaw);
        let (mut run, mut applied) = run::begin(start, definition, &mut self.shared, (flaw, at));
        run.seq = seq;
        if let Some(key) = &start.key {
            self.keys.insert(Arc::clone(key), StartKey { run: start.run, at });
            self.aging.insert((at, Arc::clone(key)), ());
        }
        self.runs.insert(start.run, Arc::new(run));
        self.settle(Stamp { seq, at }, start.run, &mut applied);
        Ok(applied)
    }

    fn retire(&mut self, id: RunId) -> Result<Applied, Refusal> {
        let run = self.runs.get(&id).ok_or(Refusal::Stale("the run is not known, or lies in the archive".into()))?;
        if !self.may_retire(run) {
            // It may have gone on while it was on its way to the archive.
            return Err(Refusal::Stale("the run goes on, or its parent was not told of its end".into()));
        }
        self.runs.remove(&id);
        self.triggers.retired(id);
        Ok(Applied::default())
    }

    /// Whether a run may go to the archive: it is over, and its parent knows. Should that one take it back later, it is
    /// recalled.
    #[must_use]
    pub fn may_retire(&self, run: &Run) -> bool {
        let told = run.start.parent.is_none() || run.informed == run.endings;
        run.end().is_some() && told
    }

    /// The runs above this one, from its parent on, as far as they are in the state.
    pub fn ancestors<'a>(&'a self, run: &Run) -> impl Iterator<Item = &'a Arc<Run>> + use<'a> {
        let above = |run: &Run| run.start.parent.as_ref().map(|link| link.run);
        std::iter::successors(above(run).and_then(|id| self.runs.get(&id)), move |run| {
            above(run).and_then(|id| self.runs.get(&id))
        })
    }

    /// A run.
    #[must_use]
    pub fn run(&self, id: RunId) -> Option<&Arc<Run>> {
        self.runs.get(&id)
    }

    /// All runs, by id.
    pub fn runs(&self) -> impl Iterator<Item = &Arc<Run>> {
        self.runs.values()
    }

    /// The limits and calendars that its runs share.
    #[must_use]
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The keys of the shared rows that changed since this was last asked.
    pub fn shared_changed(&mut self) -> BTreeSet<String> {
        self.shared.changed_keys()
    }

    /// A shared row as it is now; `None` where it is gone.
    #[must_use]
    pub fn shared_row(&self, key: &str) -> Option<Vec<u8>> {
        self.shared.row(key)
    }

    /// A version of a workflow.
    #[must_use]
    pub fn definition(&self, version: &Digest) -> Option<&Arc<Definition>> {
        self.definitions.get(version)
    }

    /// All known versions of a workflow, by digest.
    pub fn versions<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Arc<Definition>> + 'a {
        self.definitions.values().filter(move |known| known.captures.is_none() && known.name.as_ref() == name)
    }

    /// All versions of all workflows, those of sub-DAGs too.
    pub fn definitions(&self) -> impl Iterator<Item = &Arc<Definition>> {
        self.definitions.values()
    }

    /// The version that a name means now.
    #[must_use]
    pub fn latest(&self, name: &str) -> Option<&Digest> {
        self.latest.get(name)
    }

    /// The names of all workflows and the version each means now.
    #[must_use]
    pub fn workflows(&self) -> &BTreeMap<Arc<str>, Digest> {
        &self.latest
    }

    /// What a start with this key gave.
    #[must_use]
    pub fn started_by(&self, key: &str) -> Option<StartKey> {
        self.keys.get(key).copied()
    }

    /// The versions that a run of `name` is pinned to: its own, and all that it may start.
    ///
    /// # Errors
    /// The name of the first workflow that is not known.
    pub fn pins(&self, name: &str) -> Result<BTreeMap<Arc<str>, Digest>, Arc<str>> {
        let mut pins = BTreeMap::new();
        let mut open: Vec<Arc<str>> = vec![name.into()];
        while let Some(name) = open.pop() {
            if pins.contains_key(&name) {
                continue;
            }
            let digest = self.latest.get(&name).ok_or_else(|| Arc::clone(&name))?;
            let definition = self.definitions.get(digest).ok_or_else(|| Arc::clone(&name))?;
            pins.insert(name, digest.clone());
            open.extend(definition.children().cloned());
        }
        Ok(pins)
    }

    /// The event that an attempt of an `emit` step publishes, before it counts as published.
    #[must_use]
    pub fn emission(&self, task: &TaskKey) -> Option<CloudEvent> {
        let run = self.runs.get(&task.run)?;
        run::emission(run, self.definitions.get(&run.start.version)?, task)
    }

    /// All the work that the state owes.
    #[must_use]
    pub fn pending(&self) -> BTreeMap<EffectKey, Effect> {
        let of = |run: &Arc<Run>| {
            self.definitions.get(&run.start.version).map(|definition| run::pending(run, definition)).unwrap_or_default()
        };
        let triggers = self.triggers.pending().map(|effect| (effect.key(), effect));
        self.runs.values().flat_map(of).chain(triggers).collect()
    }

    /// The state as rows, sorted by key: what snapshots and the store hold. Equal states give equal rows.
    pub fn rows(&self) -> impl Iterator<Item = (String, Vec<u8>)> + '_ {
        let definitions = self
            .definitions
            .iter()
            // The sub-DAGs come back with the definition they stand in.
            .filter(|(_, definition)| definition.captures.is_none())
            .map(|(digest, definition)| (format!("d/{digest}"), definition.canonical.as_bytes().to_vec()));
        let keys = self.keys.iter().map(|(key, value)| (format!("k/{key}"), json(value)));
        let latest = self.latest.iter().map(|(name, digest)| (format!("l/{name}"), json(digest)));
        let runs = self.runs.values().map(|run| Self::run_row(run));
        let [calendars, groups, rates] = self.shared.rows();
        let shared = calendars.chain(definitions).chain(groups).chain(keys).chain(latest).chain(rates);
        shared.chain(runs).chain(self.triggers.rows())
    }

    /// The row of one run.
    #[must_use]
    pub fn run_row(run: &Run) -> (String, Vec<u8>) {
        (format!("r/{}", run.id()), json(run))
    }

    /// Puts one row of [`Partition::rows`] back.
    ///
    /// # Errors
    /// [`RowError`]: the row is damaged or of another version.
    pub fn load(&mut self, key: &str, value: &[u8]) -> Result<(), RowError> {
        let unreadable = |source| RowError::Value { key: key.to_owned(), source };
        let (kind, name) = key.split_once('/').ok_or_else(|| RowError::Key(key.to_owned()))?;
        match kind {
            "d" => {
                let text = String::from_utf8_lossy(value);
                let definition = Definition::parse("stored", &text).map_err(|mistakes| RowError::Definition {
                    digest: name.to_owned(),
                    reason: mistakes.to_string(),
                })?;
                self.triggers.know(&definition);
                self.know(Arc::new(definition));
            }
            "c" | "g" | "q" => {
                self.shared.load(kind, name, value).map_err(unreadable)?;
            }
            "k" => {
                let started: StartKey = serde_json::from_slice(value).map_err(unreadable)?;
                self.aging.insert((started.at, name.into()), ());
                self.keys.insert(name.into(), started);
            }
            "l" => {
                let digest: Digest = serde_json::from_slice(value).map_err(unreadable)?;
                // Rows are loaded in the order of their keys: definitions first.
                if let Some(definition) = self.definitions.get(&digest) {
                    self.triggers.make_latest(definition);
                }
                self.latest.insert(name.into(), digest);
            }
            "r" => {
                let run: Run = serde_json::from_slice(value).map_err(unreadable)?;
                if let Some(definition) = self.definitions.get(&run.start.version) {
                    self.triggers.follow(&run, definition);
                }
                self.runs.insert(run.id(), Arc::new(run));
            }
            "t" => self.triggers.load(name, value)?,
            _ => return Err(RowError::Key(key.to_owned())),
        }
        Ok(())
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("the state has only text keys and finite numbers")
}

fn quarantine(run: &mut Arc<Run>, seq: u64, reason: &str) -> Applied {
    let run = Arc::make_mut(run);
    run.phase = Phase::Quarantined { reason: reason.into(), was: None };
    run.seq = seq;
    let kind = run::FactKind::Phase("quarantined");
    Applied { facts: vec![run::Fact { run: run.id(), kind }], ..Applied::default() }
}
