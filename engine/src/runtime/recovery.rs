//! Opening a data directory: store or snapshot, then the journal behind it; then the leader is started.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

use patchloom_core::record::{Batch, Event, SEMANTICS};
use patchloom_core::run::Run;
use patchloom_core::{Partition, RunId, UtcMs};
use tokio::task::JoinHandle;

use super::books::{Archived, Books, HistoryError};
use super::handle::Handle;
use super::history::{Item, Recent};
use super::keeper::{EmbeddedKeeper, KeeperOptions, archive_key, archive_place};
use super::leader::{Leader, Tuning};
use crate::archive::{self, Archive};
use crate::clock::Clock;
use crate::datadir::{self, DataDir};
use crate::disk::RealDisk;
use crate::events::{Events, HEARD_MAX, InProcess, News};
use crate::journal::{self, EmbeddedJournal, Head, Journal, Options, RecordReader};
use crate::queue::{EmbeddedQueue, Limits, TaskQueue};
use crate::snapshot::{self, Snapshots};
use crate::store::{self, Store};

/// How an engine is opened.
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    /// What bounds the leader.
    pub tuning: Tuning,
    /// What holds for tasks that say nothing.
    pub limits: Limits,
}

/// Why a data directory cannot be led.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory itself.
    #[error(transparent)]
    DataDir(#[from] datadir::Error),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// The snapshots.
    #[error(transparent)]
    Snapshot(#[from] snapshot::Error),
    /// The store, where it is not just damaged.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The archive.
    #[error(transparent)]
    Archive(#[from] archive::Error),
    /// A snapshot holds more than the journal: acknowledged records are gone.
    #[error(
        "the journal ends at record {journal} but a snapshot was taken at record {snapshot}: acknowledged records are missing"
    )]
    JournalLost {
        /// Where the journal ends.
        journal: u64,
        /// Where the snapshot was taken.
        snapshot: u64,
    },
    /// The journal begins behind the last sound snapshot.
    #[error(
        "the journal begins at record {first}, and no sound snapshot reaches record {needed}: the state cannot be rebuilt"
    )]
    Gap {
        /// The first record there is.
        first: u64,
        /// The record before it.
        needed: u64,
    },
    /// A record is no batch of entries.
    #[error("record {seq} of the journal cannot be understood")]
    Record {
        /// Which.
        seq: u64,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A row of a snapshot does not fit.
    #[error("a row of the state cannot be understood")]
    Row(#[from] patchloom_core::RowError),
    /// The machine gives no thread.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}

impl OpenError {
    /// Its code in the error reference.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::DataDir(error) => error.code(),
            Self::Journal(error) => error.code(),
            Self::Snapshot(error) => error.code(),
            Self::Store(error) => error.code(),
            Self::Archive(error) => error.code(),
            Self::JournalLost { .. } => "E0417",
            Self::Gap { .. } => "E0418",
            Self::Record { .. } | Self::Row(_) => "E0419",
            Self::Thread(_) => "E0450",
        }
    }
}

/// An engine that leads.
pub struct Engine {
    /// How to speak to it.
    pub handle: Handle,
    /// Its task queue.
    pub queue: EmbeddedQueue,
    /// What the world hears of its runs.
    pub events: InProcess,
    /// What was repaired or rebuilt on the way, for people.
    pub notes: Vec<String>,
    /// How many records were folded in at the start.
    pub replayed: u64,
    books: Books,
    leader: JoinHandle<EmbeddedJournal>,
    _dir: DataDir,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("notes", &self.notes).field("replayed", &self.replayed).finish_non_exhaustive()
    }
}

/// A data directory whose state is rebuilt, and that nobody leads yet.
pub struct Recovered<J> {
    /// The directory, held.
    pub dir: DataDir,
    /// Its journal.
    pub journal: J,
    /// The journal's id.
    pub id: [u8; 16],
    /// Where the journal ends.
    pub head: Head,
    /// What was repaired or rebuilt on the way, for people.
    pub notes: Vec<String>,
    /// How many records were folded in.
    pub replayed: u64,
    /// What lies behind the journal, to read.
    pub books: Books,
    state: Partition,
    keeper: EmbeddedKeeper,
    replay: Replay,
    last_at: UtcMs,
}

impl<J> std::fmt::Debug for Recovered<J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recovered").field("head", &self.head).field("notes", &self.notes).finish_non_exhaustive()
    }
}

/// The leader of a directory that was recovered, and all that belongs to it.
pub struct Seat<Q, J> {
    /// The leader; it does nothing yet.
    pub leader: Leader<Q, EmbeddedKeeper>,
    /// How to speak to it.
    pub handle: Handle,
    /// The journal.
    pub journal: J,
    /// What lies behind the journal, to read.
    pub books: Books,
    /// The directory, held.
    pub dir: DataDir,
}

impl<J: Journal> Recovered<J> {
    /// The record from which on whoever is told of events hears of all that happened.
    #[must_use]
    pub fn heard_from(&self) -> u64 {
        self.replay.heard_from.max(self.head.seq - self.replayed + 1)
    }

    /// In whose name events are told.
    #[must_use]
    pub fn source(&self) -> String {
        format!("/patchloom/{}", uuid::Uuid::from_bytes(self.id))
    }

    /// Makes the leader, who hands tasks to `queue` and tells what happens to `events`.
    #[must_use]
    pub fn seat<Q: TaskQueue>(self, queue: Q, events: impl Events, clock: Clock, tuning: Tuning) -> Seat<Q, J> {
        let source = self.source();
        let (mut leader, handle) = Leader::new(self.state, self.head, queue, self.keeper, clock, tuning);
        // What was replayed is written behind with the first checkpoint, or its history would be lost to the next start.
        let Replay { recent, touched, departing, heard, .. } = self.replay;
        leader.mark(recent, touched, departing, self.replayed > 0);
        let leader = leader.with_events(events, source).not_before(self.last_at);
        for (seq, at, news) in heard {
            leader.tell(seq, at, news, |events, seq, told| events.overheard(seq, told));
        }
        Seat { leader, handle, journal: self.journal, books: self.books, dir: self.dir }
    }
}

/// Rebuilds the state of a data directory out of `journal`, which has the id `id` and can be read from where the
/// directory's snapshots end.
///
/// With `copies` the journal is a copy of one that others lead too: a run whose retirement is replayed and that is not in the
/// archive here goes there.
///
/// # Errors
/// [`OpenError`]; nothing was changed but what its notes say.
pub async fn recover<J: Journal + Sync>(
    dir: DataDir,
    journal: J,
    id: [u8; 16],
    copies: bool,
    options: &EngineOptions,
) -> Result<Recovered<J>, OpenError> {
    let (mut notes, head) = (Vec::new(), journal.head());
    let store_options = store::Options { journal: id, journal_head: head.seq, cache_bytes: store::CACHE_BYTES_DEFAULT };
    let snapshots = Snapshots::open(RealDisk, &dir.snapshots(), SEMANTICS)?;
    if let Some(newest) = snapshots.list()?.last().filter(|newest| **newest > head.seq) {
        return Err(OpenError::JournalLost { journal: head.seq, snapshot: *newest });
    }
    let (archive, archive_opened) = Archive::open(RealDisk, &dir.archive(), archive::FILE_BYTES_DEFAULT)?;
    notes.extend(archive_opened.repaired.map(|what| format!("archive: {what}")));
    notes.extend(archive_opened.problem.map(|what| format!("archive: {what}")));
    let mut loaded = load_store(&dir.store(), &store_options, &journal)?;
    let mut rebuilt = None;
    if loaded.fresh && head.seq > 0 {
        if loaded.notes.is_empty() {
            notes.push("store: rebuilt from the journal, it held nothing".into());
        }
        rebuilt = Some(from_snapshot(&snapshots, &journal, &mut loaded, &mut notes)?);
    }
    notes.append(&mut loaded.notes);
    let replay = replay(&journal, &mut loaded, copies).await?;
    let keeper = KeeperOptions {
        store: loaded.store.clone(),
        archive,
        snapshots,
        journal: id,
        archive_kept: options.tuning.archive_kept,
    };
    if let Some(histories) = rebuilt {
        refill(&keeper, &loaded.state, histories)?;
    }
    let keeper = EmbeddedKeeper::start(keeper).map_err(OpenError::Thread)?;
    let last_at = last_at(&journal, head.seq).await?;
    Ok(Recovered {
        id,
        head,
        notes,
        replayed: head.seq - loaded.checkpoint,
        books: Books::new(loaded.store, dir.archive()),
        state: loaded.state,
        keeper,
        replay,
        last_at,
        journal,
        dir,
    })
}

/// Opens the data directory at `path`, rebuilds the state and begins to lead.
///
/// # Errors
/// [`OpenError`]; nothing was changed but what its notes say.
pub async fn open(path: &Path, options: &EngineOptions) -> Result<Engine, OpenError> {
    let dir = DataDir::open(path)?;
    let (journal, opened) = EmbeddedJournal::open(&dir.journal(), Options::new(SEMANTICS))?;
    let mut notes: Vec<String> = opened.repaired.map(|what| format!("journal: {what}")).into_iter().collect();
    let recovered = recover(dir, journal, opened.id, false, options).await?;
    notes.extend_from_slice(&recovered.notes);
    let replayed = recovered.replayed;
    let clock = Clock::system();
    let queue = EmbeddedQueue::new(clock.clone(), options.limits);
    let events = InProcess::default();
    let seat = recovered.seat(queue.clone(), events.clone(), clock, options.tuning);
    let leader = tokio::spawn(seat.leader.lead(seat.journal));
    Ok(Engine { handle: seat.handle, queue, events, notes, replayed, books: seat.books, leader, _dir: seat.dir })
}

struct Loaded {
    store: Store,
    state: Partition,
    checkpoint: u64,
    /// Whether the store has nothing to say.
    fresh: bool,
    notes: Vec<String>,
}

fn load_store(path: &Path, options: &store::Options, journal: &impl Journal) -> Result<Loaded, OpenError> {
    let mut opened = Store::open(path, options)?;
    let mut notes = Vec::new();
    let mut state = Partition::default();
    let mut checkpoint = opened.checkpoint;
    let mut wrong = None;
    if checkpoint > 0 {
        match rows(&opened.store, &mut state) {
            Ok(()) => {}
            Err(reason) => wrong = Some(reason),
        }
        if let Some(run) = state.runs().find(|run| run.seq > checkpoint).filter(|_| wrong.is_none()) {
            wrong = Some(format!("it is folded to record {checkpoint}, yet the run {} to {}", run.id(), run.seq));
        }
        if wrong.is_none() && checkpoint + 1 < journal.first() {
            wrong = Some(format!("it ends at record {checkpoint}, the journal begins at {}", journal.first()));
        }
        if wrong.is_none() && opened.store.stats().is_ok_and(|stats| stats.is_bloated()) {
            wrong = Some("it takes more than three times the room of its rows".into());
        }
    }
    if let Some(reason) = wrong {
        opened = opened.store.rebuild(options, reason)?;
        state = Partition::default();
        checkpoint = opened.checkpoint;
    }
    if let Some(rebuilt) = &opened.rebuilt {
        notes.push(format!(
            "store: rebuilt from the journal, {}; the former one lies in {}",
            rebuilt.reason,
            rebuilt.aside.display()
        ));
    }
    Ok(Loaded { store: opened.store, state, checkpoint, fresh: checkpoint == 0, notes })
}

/// Loads the rows of the state; the reason why they cannot be trusted, where they cannot.
fn rows(store: &Store, state: &mut Partition) -> Result<(), String> {
    let mut wrong = None;
    for prefix in ["c/", "d/", "g/", "k/", "l/", "q/", "r/", "t/"] {
        let see = |key: &[u8], value: &[u8]| {
            if let Err(error) = state.load(&String::from_utf8_lossy(key), value) {
                wrong = Some(error.to_string());
            }
        };
        store.load(prefix.as_bytes(), see).map_err(|error| error.to_string())?;
    }
    wrong.map_or(Ok(()), Err)
}

type Histories = Vec<(Vec<u8>, Vec<u8>)>;

/// Loads the newest sound snapshot, if the journal does not reach back to its beginning.
fn from_snapshot(
    snapshots: &Snapshots<RealDisk>,
    journal: &impl Journal,
    loaded: &mut Loaded,
    notes: &mut Vec<String>,
) -> Result<Histories, OpenError> {
    let latest = snapshots.latest_valid()?;
    notes.extend(latest.skipped.into_iter().map(|what| format!("snapshot: {what}")));
    let mut histories = Vec::new();
    if let Some(snapshot) = &latest.snapshot {
        for (key, value) in snapshot.rows() {
            if key.starts_with(b"h/") {
                histories.push((key.to_vec(), value.to_vec()));
            } else {
                loaded.state.load(&String::from_utf8_lossy(key), value)?;
            }
        }
        loaded.checkpoint = snapshot.about.head.seq;
    }
    if loaded.checkpoint + 1 < journal.first() {
        return Err(OpenError::Gap { first: journal.first(), needed: journal.first() - 1 });
    }
    Ok(histories)
}

/// What was folded in behind the checkpoint.
#[derive(Default)]
struct Replay {
    /// The history of it.
    recent: Recent,
    /// Which other runs it changed.
    touched: BTreeSet<RunId>,
    /// Runs that left the state and are not in the archive here: another engine retired them into its own.
    departing: BTreeMap<RunId, Arc<Run>>,
    /// What each of the last records told the world: whoever led may not have come to it.
    heard: VecDeque<(u64, UtcMs, News)>,
    heard_count: usize,
    /// Of the records before this one some is forgotten.
    heard_from: u64,
}

impl Replay {
    /// Keeps what a record told, and forgets the oldest.
    fn hear(&mut self, seq: u64, at: UtcMs, news: News) {
        let count = |news: &News| news.facts.len() + news.emitted.len();
        if count(&news) == 0 {
            return;
        }
        self.heard_count += count(&news);
        self.heard.push_back((seq, at, news));
        while self.heard_count > HEARD_MAX
            && let Some((seq, _, oldest)) = self.heard.pop_front()
        {
            self.heard_from = seq + 1;
            self.heard_count -= count(&oldest);
        }
    }
}

/// Folds in what the journal has behind the checkpoint.
async fn replay<J: Journal + Sync>(journal: &J, loaded: &mut Loaded, copies: bool) -> Result<Replay, OpenError> {
    let mut done = Replay::default();
    let mut reader = journal.read_from(loaded.checkpoint + 1).await?;
    while let Some(record) = reader.next().await? {
        let seq = record.seq;
        let batch: Batch =
            serde_json::from_slice(&record.payload).map_err(|source| OpenError::Record { seq, source })?;
        let mut news = News::default();
        for entry in &batch.entries {
            let departs = match &entry.event {
                Event::RunRetired { run } if copies && archive_place(&loaded.store, *run)?.is_none() => {
                    loaded.state.run(*run)
                }
                Event::RunRecalled { run } => {
                    done.departing.remove(&run.id());
                    None
                }
                _ => None,
            };
            let departs = departs.cloned();
            let emitted = match &entry.event {
                Event::EventEmitted { task } if copies => loaded.state.emission(task),
                _ => None,
            };
            let seen = loaded.state.apply(seq, batch.at, entry);
            if let (Some(run), Ok(_)) = (departs, &seen) {
                // Its retirement is not part of its history.
                done.departing.insert(run.id(), run);
                continue;
            }
            let mut moved = Vec::new();
            if let Ok(applied) = seen {
                moved = applied.touched;
                if copies {
                    news.facts.extend(applied.facts);
                    news.emitted.extend(emitted);
                }
            }
            // What moved another run belongs to its history too.
            let runs: BTreeSet<RunId> = entry.event.run().into_iter().chain(moved.iter().copied()).collect();
            done.touched.extend(moved);
            if runs.is_empty() {
                continue;
            }
            let text: Arc<[u8]> = serde_json::to_vec(entry).map_err(|source| OpenError::Record { seq, source })?.into();
            for run in runs {
                done.recent.push(run, seq, batch.at, &text, 0..text.len());
            }
        }
        done.hear(seq, batch.at, news);
    }
    Ok(done)
}

/// When the last record was written; the beginning of time where there is none to be read.
async fn last_at<J: Journal + Sync>(journal: &J, head: u64) -> Result<UtcMs, OpenError> {
    if head < journal.first() {
        return Ok(UtcMs(0));
    }
    let mut reader = journal.read_from(head).await?;
    let Some(record) = reader.next().await? else { return Ok(UtcMs(0)) };
    let batch: Batch =
        serde_json::from_slice(&record.payload).map_err(|source| OpenError::Record { seq: head, source })?;
    Ok(batch.at)
}

/// Writes a rebuilt state into the new store, the index of the archive with it.
fn refill(keeper: &KeeperOptions, state: &Partition, histories: Histories) -> Result<(), OpenError> {
    let mut batch = store::Batch::default();
    // A rebuild that was cut off may have left rows of groups and rates that are gone since.
    for kind in ["c/", "g/", "q/"] {
        keeper.store.load(kind.as_bytes(), |key, _| batch.delete(key))?;
    }
    for (key, value) in state.rows() {
        batch.put(key, value);
    }
    for (key, value) in histories {
        batch.put(key, value);
    }
    keeper.archive.scan(|place, key, _| {
        batch.put(archive_key(RunId(uuid::Uuid::from_bytes(*key))), place.to_bytes());
    })?;
    // Folded to nothing until the first checkpoint: a crash before it rebuilds once more.
    keeper.store.apply(&batch, 0)?;
    Ok(())
}

impl Engine {
    /// A run out of the archive; `None` where it is not there.
    ///
    /// # Errors
    /// The store or the archive cannot be read.
    pub fn archived(&self, run: RunId) -> Result<Option<Archived>, OpenError> {
        self.books.archived(run)
    }

    /// Tells a run something: see [`Books::tell_recalled`].
    ///
    /// # Errors
    /// A refusal; the leader has stopped, or what is stored cannot be read.
    pub async fn tell_recalled(&self, by: &str, id: RunId, event: Event) -> Result<u64, HistoryError> {
        self.books.tell_recalled(&self.handle, by, id, event).await
    }

    /// What lies behind the journal, to read.
    #[must_use]
    pub fn books(&self) -> &Books {
        &self.books
    }

    /// All that happened to a run, archived or not.
    ///
    /// # Errors
    /// The leader has stopped, or what is stored cannot be read.
    pub async fn history(&self, run: RunId) -> Result<Vec<Item>, HistoryError> {
        self.books.history(&self.handle, run).await
    }

    /// The ids of all archived runs.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn archived_ids(&self) -> Result<Vec<RunId>, OpenError> {
        self.books.archived_ids()
    }

    /// Stops: writes down all there is and gives the directory free.
    pub async fn close(self) {
        self.handle.stop().await;
        // A panic of the leader has been printed and seen by all who asked it anything.
        if let Ok(journal) = self.leader.await {
            journal.close().await;
        }
    }
}
