//! What lies behind the journal: the store, the archive of runs that are over, the snapshots. Written behind, on a
//! thread of its own; whatever happens to it, the journal is the truth.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use patchloom_core::record::{Event, SEMANTICS};
use patchloom_core::run::Run;
use patchloom_core::{Millis, Partition, RunId, UtcMs};
use serde_json::json;
use tokio::sync::mpsc;

use super::books::Archived;
use super::history::{Item, Recent, items};
use crate::archive::{Archive, Entry, FileInfo, Location};
use crate::disk::RealDisk;
use crate::journal::Head;
use crate::snapshot::{About, Snapshots};
use crate::store::{Batch, Store};

/// Why a run that is looked for cannot be had.
const NOWHERE: &str = "it is neither in the state nor in the archive";
/// Checkpoints that may wait for the thread; more are folded together by the leader.
const WAITING_MAX: usize = 2;

/// What is to be written behind: what changed since the last checkpoint, or only what goes to the archive and what is
/// asked of it.
#[derive(Default)]
pub struct Work {
    /// When it was put together.
    pub(super) at: UtcMs,
    /// The last record that is in it; `None` where it is no whole checkpoint.
    pub(super) head: Option<Head>,
    /// Runs as they are now.
    pub(super) runs: Vec<Arc<Run>>,
    /// Runs that left the state.
    pub(super) gone: BTreeSet<RunId>,
    /// Rows of definitions and keys.
    pub(super) head_rows: Vec<(String, Vec<u8>)>,
    /// Rows of triggers that changed; `None` for those that are gone.
    pub(super) trigger_rows: BTreeMap<String, Option<Vec<u8>>>,
    /// Rows of what runs share; `None` where one is gone.
    pub(super) shared_rows: Vec<(String, Option<Vec<u8>>)>,
    /// What happened to runs.
    pub(super) recent: Recent,
    /// Runs that are over and go to the archive.
    pub(super) retire: Vec<Arc<Run>>,
    /// Runs that are looked for in the archive.
    pub(super) sought: BTreeSet<RunId>,
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
    /// Runs that were looked for, or why they cannot be had.
    pub sought: Vec<(RunId, Result<Arc<Run>, String>)>,
    /// The history of refused runs that no checkpoint has.
    pub(super) recent: Recent,
    /// Bytes of the whole checkpoint, where it was one.
    pub written: Option<u64>,
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

/// The archive of a [`NoKeeper`]: it outlives the leader, as the one on the disk does.
pub type Shelf = Arc<Mutex<BTreeMap<RunId, Arc<Run>>>>;

/// Writes nothing, and keeps runs that are over in memory: for simulations and for measuring the journal alone.
#[derive(Debug, Default)]
pub struct NoKeeper {
    reports: Vec<Kept>,
    shelf: Shelf,
}

impl NoKeeper {
    /// One that finds what another put on the same shelf.
    #[must_use]
    pub fn with(shelf: Shelf) -> Self {
        Self { reports: Vec::new(), shelf }
    }
}

impl Keeper for NoKeeper {
    fn offer(&mut self, work: Work) -> Result<(), Box<Work>> {
        if work.retire.is_empty() && work.sought.is_empty() {
            return Ok(());
        }
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        let archived = work.retire.iter().map(|run| run.id()).collect();
        shelf.extend(work.retire.into_iter().map(|run| (run.id(), run)));
        let find = |run: RunId| (run, shelf.get(&run).cloned().ok_or_else(|| NOWHERE.to_owned()));
        let sought = work.sought.into_iter().map(find).collect();
        drop(shelf);
        self.reports.push(Kept { archived, sought, ..Kept::default() });
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
        let mut writer = Writer { options, pruned: UtcMs(0), owed: Batch::default(), owed_seq: None };
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
    /// The record that those are folded to, where they are rows of the state.
    owed_seq: Option<u64>,
}

impl Writer {
    fn write(&mut self, mut work: Work) -> Kept {
        let mut kept = Kept::default();
        let mut batch = std::mem::take(&mut self.owed);
        let seq = work.head.map(|head| head.seq).or(self.owed_seq.take());
        if let Err(problem) = self.archive(&work, &mut batch, &mut kept) {
            kept.problem = Some(problem);
            kept.archived.clear();
        }
        match self.commit(&work, seq, &kept.archived, &mut batch) {
            Ok(()) => {
                kept.written = work.head.map(|_| crate::disk::widen(batch.bytes()));
                drop(batch);
                if let Err(problem) = self.snapshot(&work, &mut kept) {
                    kept.problem = Some(problem);
                }
            }
            Err(problem) => {
                (self.owed, self.owed_seq) = (batch, seq);
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
        if work.head.is_none() {
            kept.recent = work.recent.split(kept.refused.iter().copied());
        }
        let find = |run: RunId| Ok(Arc::new(self.archived(run)?.ok_or(NOWHERE)?.run));
        kept.sought = work.sought.iter().map(|run| (*run, find(*run))).collect();
        kept
    }

    /// Writes the rows, of the state too where it is a whole checkpoint, or one is owed.
    fn commit(&self, work: &Work, seq: Option<u64>, archived: &[RunId], batch: &mut Batch) -> Result<(), String> {
        if work.head.is_some() {
            self.checkpoint(work, archived, batch)?;
        }
        let done = match seq {
            Some(seq) => self.options.store.apply(batch, seq),
            None if batch.is_empty() => Ok(()),
            None => self.options.store.put(batch),
        };
        done.map_err(|error| chain(&error))
    }

    fn archive(&mut self, work: &Work, batch: &mut Batch, kept: &mut Kept) -> Result<(), String> {
        if work.retire.is_empty() {
            return Ok(());
        }
        let mut entries = Vec::with_capacity(work.retire.len());
        let mut appended = Vec::with_capacity(work.retire.len());
        for run in &work.retire {
            kept.archived.push(run.id());
            let lines = work.recent.lines(run.id());
            // Most runs begin and end between two checkpoints: the store has nothing of those.
            let payload = if begins_with_start(&lines) {
                let mut whole = Whole::begin(run);
                whole.add(&lines);
                whole.end()
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
    fn with_former_history(&self, run: &Run, newest: Vec<u8>) -> Result<Option<Vec<u8>>, String> {
        // A restart before its retirement was recorded brings a run here once more, without the history of before; and
        // one that was recalled comes again.
        let Some(former) = self.archived(run.id())? else {
            let mut whole = Whole::begin(run);
            self.stored_history(run.id(), |lines| whole.add(lines))?;
            whole.add(&newest);
            return Ok(Some(whole.end()));
        };
        if former.run.seq >= run.seq {
            return Ok(None);
        }
        let mut lines = Vec::new();
        self.stored_history(run.id(), |stored| lines.extend_from_slice(stored))?;
        lines.extend_from_slice(&newest);
        let mut history = former.history;
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

    /// What the store holds of the history of a run, chunk by chunk.
    fn stored_history(&self, run: RunId, mut see: impl FnMut(&[u8])) -> Result<(), String> {
        let chunks = format!("h/{run}/");
        let found = self.options.store.load(chunks.as_bytes(), |_, value| see(value));
        found.map(drop).map_err(|error| chain(&error))
    }

    fn checkpoint(&self, work: &Work, archived: &[RunId], batch: &mut Batch) -> Result<(), String> {
        let going: BTreeSet<RunId> = archived.iter().copied().chain(work.gone.iter().copied()).collect();
        for (key, value) in &work.head_rows {
            batch.put(key.as_bytes(), value.as_slice());
        }
        for (key, value) in work.trigger_rows.iter().chain(work.shared_rows.iter().map(|(key, value)| (key, value))) {
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
        Ok(())
    }

    fn snapshot(&self, work: &Work, kept: &mut Kept) -> Result<(), String> {
        let (Some(state), Some(head)) = (&work.snapshot, work.head) else { return Ok(()) };
        let mut rows: Vec<(Vec<u8>, Vec<u8>)> = state.rows().map(|(key, value)| (key.into_bytes(), value)).collect();
        self.options
            .store
            .load(b"h/", |key, value| rows.push((key.to_vec(), value.to_vec())))
            .map_err(|error| chain(&error))?;
        let about = About { semantics: SEMANTICS, journal: self.options.journal, head };
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

/// The payload of a run with its whole history, put together without reading that, and without a second copy of it: of a
/// run with a hundred thousand items it is the most that the engine ever holds.
struct Whole {
    payload: Vec<u8>,
    first: bool,
}

impl Whole {
    fn begin(run: &Run) -> Self {
        let mut payload = b"{\"run\":".to_vec();
        serde_json::to_writer(&mut payload, run).expect("a run has only text keys and finite numbers");
        payload.extend_from_slice(b",\"history\":[");
        Self { payload, first: true }
    }

    /// Adds entries as [`Recent::chunks`] has them.
    fn add(&mut self, lines: &[u8]) {
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            if !std::mem::take(&mut self.first) {
                self.payload.push(b',');
            }
            self.payload.extend_from_slice(line);
        }
    }

    fn end(mut self) -> Vec<u8> {
        self.payload.extend_from_slice(b"]}");
        self.payload
    }
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
