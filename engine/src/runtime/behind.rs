//! When the leader has something written behind, and what: whole checkpoints at the pace of the journal, runs that go
//! to the archive at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use patchloom_core::run::Run;
use patchloom_core::{Millis, RunId, UtcMs};

use super::keeper::{Keeper, Work};
use super::leader::{Leader, millis};
use super::retention::Sweep;
use crate::queue::TaskQueue;

/// How often the archive may have to be looked through: the keeper does so once a day.
const SWEEP_EVERY: Millis = Millis(3_600_000);
/// The most runs archived with one unit of work.
const RETIRE_MAX: usize = 5_000;
/// A checkpoint of so many bytes is written whenever it is time.
const CHEAP_BYTES: u64 = 1 << 20;
/// A larger one is written at this pace, however little the journal grew: a restart reads the records since.
const WHOLE_EVERY: Millis = Millis(10_000);

impl<Q: TaskQueue, K: Keeper> Leader<Q, K> {
    /// What is to be written behind now; `None` while it is not time.
    pub(super) fn due_work(&mut self, last: bool) -> Option<Work> {
        let now = self.clock.now();
        let waited = now.since(self.checked) >= millis(self.tuning.checkpoint);
        let full = self.recent.bytes() >= self.tuning.checkpoint_bytes;
        if !last && !waited && !full && self.sought.is_empty() && self.forget.is_empty() {
            return None;
        }
        self.checked = now;
        let retire = self.ripe(now);
        let snapshot = self.grown >= self.tuning.snapshot_bytes;
        self.dirty_shared.extend(self.state.shared_changed());
        let triggers = !self.trigger_rows.is_empty() || self.state.triggers_touched();
        let rows = !self.dirty.is_empty() || !self.dirty_shared.is_empty() || self.dirty_head || triggers;
        let changed = rows || !self.gone.is_empty() || !retire.is_empty() || snapshot;
        if changed && (last || full || snapshot || self.pays(now)) {
            return Some(self.whole(now, retire, snapshot));
        }
        let forget = self.cleared();
        let sweep = self.sweep(now);
        if retire.is_empty() && self.sought.is_empty() && forget.is_empty() && sweep.is_none() {
            return None;
        }
        Some(Work {
            forget,
            sweep,
            at: now,
            recent: self.recent.split(retire.iter().map(|run| run.id())),
            retire,
            sought: std::mem::take(&mut self.sought),
            ..Work::default()
        })
    }

    /// What is to go from the archive now: one unit of work at a time, so that each asker hears of its own.
    fn cleared(&mut self) -> BTreeSet<RunId> {
        if !self.clearing.is_empty() {
            return BTreeSet::new();
        }
        self.clearing = std::mem::take(&mut self.forgetters);
        std::mem::take(&mut self.forget)
    }

    /// By what the archive is looked through, where that is to be done again.
    fn sweep(&mut self, now: UtcMs) -> Option<Box<Sweep>> {
        if now.since(self.swept_archive) < SWEEP_EVERY {
            return None;
        }
        self.swept_archive = now;
        Sweep::of(&self.state).map(Box::new)
    }

    /// Whether the journal has grown enough for a whole checkpoint. A run with a hundred thousand items has a row of
    /// many megabytes: written with each tick it would cost more than all that happens.
    fn pays(&self, now: UtcMs) -> bool {
        self.written <= CHEAP_BYTES || self.unwritten >= self.written || now.since(self.whole) >= WHOLE_EVERY
    }

    /// All that changed since the last one.
    fn whole(&mut self, now: UtcMs, retire: Vec<Arc<Run>>, snapshot: bool) -> Work {
        self.whole = now;
        self.unwritten = 0;
        if snapshot {
            self.grown = 0;
        }
        // A run that goes to the archive is written like any other: until its retirement is recorded, a restart finds it
        // in the state, and must not find it as it was before it ended.
        self.dirty.extend(retire.iter().map(|run| run.id()));
        let dirty = std::mem::take(&mut self.dirty);
        self.stored.extend(&dirty);
        let mut trigger_rows = std::mem::take(&mut self.trigger_rows);
        trigger_rows.extend(self.state.take_touched_triggers());
        let shared = std::mem::take(&mut self.dirty_shared);
        let head_rows = if std::mem::take(&mut self.dirty_head) {
            let is_head = |key: &str| ["d/", "k/", "l/"].iter().any(|kind| key.starts_with(kind));
            self.state.rows().take_while(|(key, _)| !key.starts_with("r/")).filter(|(key, _)| is_head(key)).collect()
        } else {
            Vec::new()
        };
        let shared_row = |key: String| {
            let row = self.state.shared_row(&key);
            (key, row)
        };
        Work {
            at: now,
            head: Some(self.head),
            runs: dirty.iter().filter_map(|run| self.state.run(*run).cloned()).collect(),
            gone: std::mem::take(&mut self.gone),
            head_rows,
            trigger_rows,
            shared_rows: shared.into_iter().map(shared_row).collect(),
            recent: self.recent.take(),
            retire,
            sought: std::mem::take(&mut self.sought),
            forget: BTreeSet::new(),
            sweep: None,
            snapshot: snapshot.then(|| Box::new(self.state.clone())),
        }
    }

    /// Runs whose time for the archive has come.
    fn ripe(&mut self, now: UtcMs) -> Vec<Arc<Run>> {
        // All of them: a checkpoint that leaves one out has neither its row nor its place in the archive.
        let departing = self.departing.iter().filter(|(id, _)| !self.archiving.contains(id));
        let mut ripe: Vec<Arc<Run>> = departing.map(|(_, run)| Arc::clone(run)).collect();
        self.archiving.extend(ripe.iter().map(|run| run.id()));
        if self.follows {
            // When a run goes is for the leader to say.
            return ripe;
        }
        let candidates: Vec<(UtcMs, RunId)> =
            self.ended.range(..=(now, RunId(uuid::Uuid::max()))).take(RETIRE_MAX).copied().collect();
        for (_, id) in candidates {
            let Some(run) = self.state.run(id).cloned() else {
                self.unset_ended(id);
                continue;
            };
            if self.state.may_retire(&run) {
                self.unset_ended(id);
                self.archiving.insert(id);
                ripe.push(run);
            }
        }
        ripe
    }

    /// What the keeper had no room for: it is offered again, with what comes.
    pub(super) fn take_back(&mut self, work: Work) {
        for run in &work.runs {
            self.dirty.insert(run.id());
        }
        for run in &work.retire {
            // Still counted as on its way: the next offer has it again.
            self.archiving.insert(run.id());
            self.set_ended(run.id(), work.at);
        }
        self.sought.extend(work.sought);
        if !work.forget.is_empty() {
            self.forget.extend(work.forget);
            self.forgetters.append(&mut self.clearing);
        }
        self.gone.extend(work.gone);
        self.dirty_shared.extend(work.shared_rows.into_iter().map(|(key, _)| key));
        self.dirty_head |= !work.head_rows.is_empty();
        for (key, value) in work.trigger_rows {
            // What changed once more meanwhile is newer.
            self.trigger_rows.entry(key).or_insert(value);
        }
        let newer = self.recent.take();
        self.recent = work.recent;
        self.recent.append(newer);
        if work.head.is_some() {
            // At the next occasion, however little was added.
            self.unwritten = u64::MAX / 2;
        }
        if work.snapshot.is_some() {
            self.grown = self.tuning.snapshot_bytes;
        }
    }
}
