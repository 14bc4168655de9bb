//! What lies behind the journal: the store, the archive of runs that are over, the snapshots. Written behind, on a
//! thread of its own; whatever happens to it, the journal is the truth.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use patchloom_core::record::{Event, SEMANTICS};
use patchloom_core::run::Run;
use patchloom_core::{Millis, Partition, RunId, UtcMs};
use serde_json::json;
use tokio::sync::mpsc;

use super::history::{Item, Recent, items};
use super::leader::Leader;
use super::recovery::Archived;
use crate::archive::{Archive, Entry, FileInfo, Location};
use crate::disk::RealDisk;
use crate::journal::Head;
use crate::queue::TaskQueue;
use crate::snapshot::{About, Snapshots};
use crate::store::{Batch, Store};

/// Checkpoints that may wait for the thread; more are folded together by the leader.
const WAITING_MAX: usize = 2;
/// The most runs archived with one checkpoint.
const RETIRE_MAX: usize = 5_000;

/// What changed since the last checkpoint.
pub struct Work {
    /// When it was put together.
    pub(super) at: UtcMs,
    /// The last record that is in it.
    pub(super) head: Head,
    /// Runs as they are now.
    pub(super) runs: Vec<Arc<Run>>,
    /// Runs that left the state.
    pub(super) gone: BTreeSet<RunId>,
    /// Rows of definitions and keys.
    pub(super) head_rows: Vec<(String, Vec<u8>)>,
    /// Rows of triggers that changed; `None` for those that are gone.
    pub(super) trigger_rows: BTreeMap<String, Option<Vec<u8>>>,
    /// What happened to runs.
    pub(super) recent: Recent,
    /// Runs that are over and go to the archive.
    pub(super) retire: Vec<Arc<Run>>,
    /// The whole state, when a snapshot is due.
    pub(super) snapshot: Option<Box<Partition>>,
}

/// What the keeper reports.
#[derive(Debug, Default)]
pub struct Kept {
    /// Runs that lie in the archive now.
    pub archived: Vec<RunId>,
    /// Runs that could not be brought there: they are offered again.
    pub refused: Vec<RunId>,
    /// Records before this one are not needed any more.
    pub trim_before: Option<u64>,
    /// What went wrong, for people.
    pub problem: Option<String>,
}

/// The port behind the leader.
pub trait Keeper: Send + 'static {
    /// Hands work over; gives it back where there is no room.
    ///
    /// # Errors
    /// The work, for the next time.
    fn offer(&mut self, work: Work) -> Result<(), Box<Work>>;

    /// The next report.
    ///
    /// # Cancellation
    /// Safe: a report that was not given stays.
    fn kept(&mut self) -> impl Future<Output = Kept> + Send;

    /// The next report, where there is one.
    fn try_kept(&mut self) -> Option<Kept>;

    /// Writes all that was offered and ends.
    fn finish(self) -> impl Future<Output = ()> + Send;
}

/// Keeps nothing, and lets runs that are over go: for simulations and for measuring the journal alone.
#[derive(Debug, Default)]
pub struct NoKeeper {
    reports: Vec<Kept>,
}

impl Keeper for NoKeeper {
    fn offer(&mut self, work: Work) -> Result<(), Box<Work>> {
        if !work.retire.is_empty() {
            self.reports.push(Kept { archived: work.retire.iter().map(|run| run.id()).collect(), ..Kept::default() });
        }
        Ok(())
    }

    async fn kept(&mut self) -> Kept {
        match self.reports.pop() {
            Some(kept) => kept,
            None => std::future::pending().await,
        }
    }

    fn try_kept(&mut self) -> Option<Kept> {
        self.reports.pop()
    }

    async fn finish(self) {}
}

/// Where the embedded keeper writes.
pub struct KeeperOptions {
    /// The store.
    pub store: Store,
    /// The archive.
    pub archive: Archive<RealDisk>,
    /// The snapshots.
    pub snapshots: Snapshots<RealDisk>,
    /// The id of the journal.
    pub journal: [u8; 16],
    /// How long finished runs are kept in the archive.
    pub archive_kept: Duration,
}

/// Writes store, archive and snapshots on a thread.
pub struct EmbeddedKeeper {
    work: Option<mpsc::Sender<Work>>,
    reports: mpsc::UnboundedReceiver<Kept>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl EmbeddedKeeper {
    /// Starts the thread.
    ///
    /// # Errors
    /// The machine gives no thread.
    pub fn start(options: KeeperOptions) -> std::io::Result<Self> {
        let (work, mut inbox) = mpsc::channel::<Work>(WAITING_MAX);
        // Unbounded in type only: one report per unit of work, and those are bounded.
        let (report, reports) = mpsc::unbounded_channel();
        let mut writer = Writer { options, pruned: UtcMs(0), owed: Batch::default() };
        let thread = std::thread::Builder::new().name("keeper".to_owned()).spawn(move || {
            while let Some(work) = inbox.blocking_recv() {
                // Nobody left to hear it: the leader has stopped.
                let _ = report.send(writer.write(work));
            }
        })?;
        Ok(Self { work: Some(work), reports, thread: Some(thread) })
    }
}

impl Keeper for EmbeddedKeeper {
    fn offer(&mut self, work: Work) -> Result<(), Box<Work>> {
        match &self.work {
            Some(sender) => sender.try_send(work).map_err(|error| Box::new(error.into_inner())),
            None => Err(Box::new(work)),
        }
    }

    async fn kept(&mut self) -> Kept {
        match self.reports.recv().await {
            Some(kept) => kept,
            None => std::future::pending().await,
        }
    }

    fn try_kept(&mut self) -> Option<Kept> {
        self.reports.try_recv().ok()
    }

    async fn finish(mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            // Its panic has been printed; the journal has all it would have written.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

/// How often the archive is looked through for files that have had their time.
const PRUNE_EVERY: Millis = Millis(3_600_000);

struct Writer {
    options: KeeperOptions,
    /// When the archive was last looked through.
    pruned: UtcMs,
    /// Rows of checkpoints that failed: a later checkpoint without them would claim what is not there.
    owed: Batch,
}

impl Writer {
    fn write(&mut self, work: Work) -> Kept {
        let mut kept = Kept::default();
        let mut batch = std::mem::take(&mut self.owed);
        if let Err(problem) = self.archive(&work, &mut batch, &mut kept) {
            kept.problem = Some(problem);
            kept.archived.clear();
        }
        match self.checkpoint(&work, &kept.archived, &mut batch) {
            Ok(()) => {
                if let Err(problem) = self.snapshot(&work, &mut kept) {
                    kept.problem = Some(problem);
                }
            }
            Err(problem) => {
                self.owed = batch;
                // Their place in the archive is not on the disk yet.
                kept.archived.clear();
                kept.problem = Some(problem);
            }
        }
        if let Err(problem) = self.prune(work.at) {
            kept.problem = Some(problem);
        }
        let archived: BTreeSet<RunId> = kept.archived.iter().copied().collect();
        kept.refused = work.retire.iter().map(|run| run.id()).filter(|run| !archived.contains(run)).collect();
        kept
    }

    fn archive(&mut self, work: &Work, batch: &mut Batch, kept: &mut Kept) -> Result<(), String> {
        if work.retire.is_empty() {
            return Ok(());
        }
        let newest: BTreeMap<RunId, Vec<u8>> = work.recent.chunks().map(|(run, _, lines)| (run, lines)).collect();
        let mut entries = Vec::with_capacity(work.retire.len());
        let mut appended = Vec::with_capacity(work.retire.len());
        for run in &work.retire {
            kept.archived.push(run.id());
            let lines = newest.get(&run.id()).map(Vec::as_slice).unwrap_or_default();
            // Most runs begin and end between two checkpoints: the store has nothing of those.
            let payload = if begins_with_start(lines) {
                whole(run, lines)
            } else {
                match self.with_former_history(run, lines)? {
                    Some(payload) => payload,
                    None => continue,
                }
            };
            entries.push(Entry { key: *run.id().0.as_bytes(), payload });
            appended.push(run.id());
        }
        let places = self.options.archive.append(&entries).map_err(|error| chain(&error))?;
        for (run, place) in appended.into_iter().zip(places) {
            batch.put(archive_key(run), place.to_bytes());
        }
        Ok(())
    }

    /// Removes archive files whose last run ended long ago, and the rows that lead to them.
    fn prune(&mut self, now: UtcMs) -> Result<(), String> {
        let kept = Millis(u64::try_from(self.options.archive_kept.as_millis()).unwrap_or(u64::MAX));
        if now.since(self.pruned) < PRUNE_EVERY {
            return Ok(());
        }
        self.pruned = now;
        let young = |file: &FileInfo| now.since(UtcMs(file.modified_utc_ms)) < kept;
        let gone = self.options.archive.prune(young).map_err(|error| chain(&error))?;
        if gone.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::default();
        let leads_there = |value: &[u8]| Location::from_bytes(value).is_some_and(|place| gone.contains(&place.file));
        let see = |key: &[u8], value: &[u8]| {
            if leads_there(value) {
                batch.delete(key);
            }
        };
        self.options.store.load(b"a/", see).map_err(|error| chain(&error))?;
        self.owed.extend(batch);
        Ok(())
    }

    /// The payload of a run of which the store or the archive may have a part; `None` where the archive has all of it.
    fn with_former_history(&self, run: &Run, newest: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let mut history = Vec::new();
        // A restart before its retirement was recorded brings a run here once more, without the history of before.
        if let Some(former) = self.archived(run.id())? {
            if former.run.seq >= run.seq {
                return Ok(None);
            }
            history = former.history;
        }
        let mut lines = self.stored_history(run.id())?;
        lines.extend_from_slice(newest);
        let known = history.last().map_or(0, |item| item.seq);
        history.extend(items(&lines).into_iter().filter(|item| item.seq > known));
        let payload = json!({"run": run, "history": history});
        serde_json::to_vec(&payload).map(Some).map_err(|error| error.to_string())
    }

    fn archived(&self, run: RunId) -> Result<Option<Archived>, String> {
        let Some(place) = archive_place(&self.options.store, run).map_err(|error| chain(&error))? else {
            return Ok(None);
        };
        let entry = self.options.archive.get(place).map_err(|error| chain(&error))?;
        serde_json::from_slice(&entry.payload).map(Some).map_err(|error| error.to_string())
    }

    fn stored_history(&self, run: RunId) -> Result<Vec<u8>, String> {
        let mut lines = Vec::new();
        self.options
            .store
            .load(format!("h/{run}/").as_bytes(), |_, value| lines.extend_from_slice(value))
            .map_err(|error| chain(&error))?;
        Ok(lines)
    }

    fn checkpoint(&self, work: &Work, archived: &[RunId], batch: &mut Batch) -> Result<(), String> {
        let going: BTreeSet<RunId> = archived.iter().copied().chain(work.gone.iter().copied()).collect();
        for (key, value) in &work.head_rows {
            batch.put(key.as_bytes(), value.as_slice());
        }
        for (key, value) in &work.trigger_rows {
            match value {
                Some(value) => batch.put(key.as_bytes(), value.as_slice()),
                None => batch.delete(key.as_bytes()),
            }
        }
        for run in &work.runs {
            let (key, value) = Partition::run_row(run);
            batch.put(key, value);
        }
        for (run, first, lines) in work.recent.chunks().filter(|(run, ..)| !going.contains(run)) {
            batch.put(format!("h/{run}/{first:020}"), lines);
        }
        for run in &work.gone {
            batch.delete(format!("r/{run}"));
            self.options
                .store
                .load(format!("h/{run}/").as_bytes(), |key, _| batch.delete(key))
                .map_err(|error| chain(&error))?;
        }
        self.options.store.apply(batch, work.head.seq).map_err(|error| chain(&error))
    }

    fn snapshot(&self, work: &Work, kept: &mut Kept) -> Result<(), String> {
        let Some(state) = &work.snapshot else { return Ok(()) };
        let mut rows: Vec<(Vec<u8>, Vec<u8>)> = state.rows().map(|(key, value)| (key.into_bytes(), value)).collect();
        self.options
            .store
            .load(b"h/", |key, value| rows.push((key.to_vec(), value.to_vec())))
            .map_err(|error| chain(&error))?;
        let about = About { semantics: SEMANTICS, journal: self.options.journal, head: work.head };
        self.options.snapshots.write(&about, rows).map_err(|error| chain(&error))?;
        // The older of the two must still find its records, should the newer one turn out to be damaged.
        let list = self.options.snapshots.list().map_err(|error| chain(&error))?;
        kept.trim_before = (list.len() >= 2).then(|| list[0] + 1);
        Ok(())
    }
}

/// Whether these lines of a run's history begin with its beginning.
fn begins_with_start(lines: &[u8]) -> bool {
    let first = lines.split(|byte| *byte == b'\n').next().unwrap_or_default();
    serde_json::from_slice::<Item>(first).is_ok_and(|item| matches!(item.entry.event, Event::RunStarted(_)))
}

/// The payload of a run whose whole history is in `lines`, put together without reading them.
fn whole(run: &Run, lines: &[u8]) -> Vec<u8> {
    let mut payload = b"{\"run\":".to_vec();
    payload.extend(Partition::run_row(run).1);
    payload.extend_from_slice(b",\"history\":[");
    for (nth, line) in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).enumerate() {
        if nth > 0 {
            payload.push(b',');
        }
        payload.extend_from_slice(line);
    }
    payload.extend_from_slice(b"]}");
    payload
}

/// The row that says where a run lies in the archive.
pub(super) fn archive_key(run: RunId) -> String {
    format!("a/{run}")
}

/// Where a run lies in the archive.
pub(super) fn archive_place(store: &Store, run: RunId) -> Result<Option<Location>, crate::store::Error> {
    Ok(store.get(archive_key(run).as_bytes())?.as_deref().and_then(Location::from_bytes))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

impl<Q: TaskQueue, K: Keeper> Leader<Q, K> {
    /// What is to be written behind now; `None` while it is not time.
    pub(super) fn due_work(&mut self, last: bool) -> Option<Work> {
        let now = self.clock.now();
        let waited = now.since(self.checked).0 >= u64::try_from(self.tuning.checkpoint.as_millis()).unwrap_or(u64::MAX);
        let full = self.recent.bytes() >= self.tuning.checkpoint_bytes;
        if !last && !waited && !full {
            return None;
        }
        self.checked = now;
        let retire = self.ripe(now);
        let snapshot = self.grown >= self.tuning.snapshot_bytes;
        self.dirty_head |= self.state.shared_changed();
        let quiet = self.trigger_rows.is_empty() && !self.state.triggers_touched();
        let idle = quiet
            && self.dirty.is_empty()
            && self.gone.is_empty()
            && !self.dirty_head
            && retire.is_empty()
            && !snapshot;
        if idle {
            return None;
        }
        if snapshot {
            self.grown = 0;
        }
        // A run that goes to the archive is written like any other: until its retirement is recorded, a restart finds it
        // in the state, and must not find it as it was before it ended.
        self.dirty.extend(retire.iter().map(|run| run.id()));
        let dirty = std::mem::take(&mut self.dirty);
        let mut trigger_rows = std::mem::take(&mut self.trigger_rows);
        trigger_rows.extend(self.state.take_touched_triggers());
        let head_rows = if std::mem::take(&mut self.dirty_head) {
            self.state.rows().take_while(|(key, _)| !key.starts_with("r/")).collect()
        } else {
            Vec::new()
        };
        Some(Work {
            at: now,
            head: self.head,
            runs: dirty.iter().filter_map(|run| self.state.run(*run).cloned()).collect(),
            gone: std::mem::take(&mut self.gone),
            head_rows,
            trigger_rows,
            recent: self.recent.take(),
            retire,
            snapshot: snapshot.then(|| Box::new(self.state.clone())),
        })
    }

    /// Runs whose time for the archive has come.
    fn ripe(&mut self, now: UtcMs) -> Vec<Arc<Run>> {
        let mut ripe = Vec::new();
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
}
