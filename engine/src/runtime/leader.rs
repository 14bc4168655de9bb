//! The leader's loop: gather, append, fold in, release; the next record is gathered while the last one is in flight.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use patchloom_core::record::{Entry, Event, TimerKey};
use patchloom_core::run::Run;
use patchloom_core::{Failure, Millis, Partition, RunId, TaskKey, UtcMs};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tracing::{error, warn};

use super::handle::{Handle, Message, Notice, Seen, Status};
use super::history::Recent;
use super::keeper::Keeper;
use super::planner::Planner;
use super::publish::Published;
use crate::clock::Clock;
use crate::events::{Events, News};
use crate::journal::{AppendError, Appended, Head, Journal};
use crate::queue::TaskQueue;

/// Messages that may wait for the leader: enough that a record is full, few enough that senders feel its pace.
const INTAKE_MAX: usize = 4_096;
/// Notices that a slow watcher may lag behind before it is told to ask the state.
const NOTICES_KEPT: usize = 1_024;
/// Finished runs that may be on their way to the archive before the intake waits for it.
const BACKLOG_MAX: usize = 10_000;
/// Messages taken from the intake at once.
const GULP: usize = 512;

/// What bounds the leader.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// The most entries in one record.
    pub entries_max: usize,
    /// A record is closed when it has so many bytes.
    pub bytes_max: usize,
    /// How often silent workers and late tasks are looked for.
    pub sweep: Duration,
    /// The least time between two looks: each looks at every task there is.
    pub sweep_apart: Duration,
    /// How often what changed is written behind.
    pub checkpoint: Duration,
    /// Written behind at once when so many bytes of history wait.
    pub checkpoint_bytes: usize,
    /// A snapshot is taken each time the journal has grown by so many bytes.
    pub snapshot_bytes: u64,
    /// How long a run that succeeded stays where its start is known, though it is told again: for as long as those who wait
    /// for an answer repeat what they say.
    pub succeeded_kept: Duration,
    /// How long a run that did not succeed stays where it can be retried.
    pub failed_kept: Duration,
    /// How long finished runs are kept in the archive. Whole files go, once the last run in them is that old.
    pub archive_kept: Duration,
    /// How long to wait before a record is tried again that the disk refused.
    pub disk_retry: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            entries_max: 4_096,
            bytes_max: 1 << 20,
            sweep: Duration::from_millis(250),
            sweep_apart: Duration::from_millis(250),
            checkpoint: Duration::from_millis(200),
            checkpoint_bytes: 32 << 20,
            snapshot_bytes: 64 << 20,
            succeeded_kept: Duration::ZERO,
            failed_kept: Duration::from_secs(7 * 86_400),
            archive_kept: Duration::from_secs(400 * 86_400),
            disk_retry: Duration::from_secs(1),
        }
    }
}

/// How the outcome of entries is told.
pub(super) enum Reply {
    Entries(oneshot::Sender<Vec<Seen>>),
    Event(oneshot::Sender<Published>),
}

impl Reply {
    fn tell(self, seen: Vec<Seen>) {
        // The sender may have stopped waiting; what it said counts all the same.
        match self {
            Self::Entries(reply) => drop(reply.send(seen)),
            Self::Event(reply) => {
                let known = seen.iter().any(Result::is_err);
                let _ = reply.send(if known { Published::Known } else { Published::Recorded });
            }
        }
    }
}

/// One who wants runs gone from the archive, and hears how many went.
pub(super) type Forgetter = oneshot::Sender<Result<usize, String>>;

/// One who waits for the outcome of the entries it sent.
struct Waiter {
    reply: Reply,
    left: usize,
    seen: Vec<Seen>,
}

/// An entry that is not in the journal yet.
pub(super) struct Queued {
    pub entry: Entry,
    waiter: Option<u64>,
}

/// A record on its way to the disk.
struct Flight {
    at: UtcMs,
    queued: Vec<Queued>,
    record: Arc<[u8]>,
    ranges: Vec<Range<usize>>,
}

/// The leader of one partition.
pub struct Leader<Q, K> {
    pub(super) state: Partition,
    pub(super) queue: Q,
    pub(super) keeper: K,
    pub(super) clock: Clock,
    pub(super) tuning: Tuning,
    pub(super) buffer: Vec<Queued>,
    pub(super) timers: BTreeSet<(UtcMs, TimerKey)>,
    pub(super) due: BTreeMap<TimerKey, UtcMs>,
    pub(super) planner: Planner,
    waiters: BTreeMap<u64, Waiter>,
    waiter_next: u64,
    pub(super) last_at: UtcMs,
    pub(super) head: Head,
    /// Its number, for those who ask without a message.
    folded: Arc<AtomicU64>,
    pub(super) recent: Recent,
    /// Runs that changed since the last checkpoint.
    pub(super) dirty: BTreeSet<RunId>,
    /// Runs that a checkpoint may have written.
    pub(super) stored: BTreeSet<RunId>,
    /// Those of them that left the state since the last checkpoint.
    pub(super) gone: BTreeSet<RunId>,
    /// Rows of triggers that changed and could not be handed to the keeper yet.
    pub(super) trigger_rows: BTreeMap<String, Option<Vec<u8>>>,
    /// Keys of shared rows that changed since the last checkpoint.
    pub(super) dirty_shared: BTreeSet<String>,
    /// Whether definitions or keys changed since the last checkpoint.
    pub(super) dirty_head: bool,
    /// Runs that are over, by when they may go to the archive, and the same by run.
    pub(super) ended: BTreeSet<(UtcMs, RunId)>,
    pub(super) ended_when: BTreeMap<RunId, UtcMs>,
    /// Runs at the keeper on their way to the archive.
    pub(super) archiving: BTreeSet<RunId>,
    /// Runs whose retirement another leader recorded, which are not in the archive here yet.
    pub(super) departing: BTreeMap<RunId, Arc<Run>>,
    /// Whether another one leads: nothing is said, and nothing is released.
    pub(super) follows: bool,
    /// Child runs that are being taken back: which attempt of their parents asks for it, and why.
    pub(super) unwinding: BTreeMap<RunId, (TaskKey, Failure)>,
    /// Those of them that are looked for in the archive.
    pub(super) sought: BTreeSet<RunId>,
    /// Runs that are to go from the archive, who wants it, and who wanted what is under way.
    pub(super) forget: BTreeSet<RunId>,
    pub(super) forgetters: Vec<Forgetter>,
    pub(super) clearing: Vec<Forgetter>,
    /// When the archive was last to be looked through for runs that have had their time.
    pub(super) swept_archive: UtcMs,
    /// By how much the journal has grown since the last snapshot.
    pub(super) grown: u64,
    /// By how much it has grown since the last whole checkpoint, when that was, and how many bytes it had.
    pub(super) unwritten: u64,
    pub(super) written: u64,
    pub(super) whole: UtcMs,
    /// When silent workers and late tasks were last looked for.
    swept: UtcMs,
    /// When the last checkpoint was put together.
    pub(super) checked: UtcMs,
    pub(super) trim_before: Option<u64>,
    pub(super) notices: broadcast::Sender<Notice>,
    /// Who hears of facts, and in whose name they are told.
    pub(super) events: Option<(Box<dyn Events>, String)>,
    pub(super) status: watch::Sender<Status>,
    pub(super) inbox: mpsc::Receiver<Message>,
    pub(super) stopping: Vec<oneshot::Sender<()>>,
}

impl<Q: TaskQueue, K: Keeper> Leader<Q, K> {
    /// A leader of the partition whose journal folds to `state` at `head`, and the handle to it.
    pub fn new(state: Partition, head: Head, queue: Q, keeper: K, clock: Clock, tuning: Tuning) -> (Self, Handle) {
        let (intake, inbox) = mpsc::channel(INTAKE_MAX);
        let (notices, _) = broadcast::channel(NOTICES_KEPT);
        let (status, watch) = watch::channel(Status::Following);
        let folded = Arc::new(AtomicU64::new(head.seq));
        let handle = Handle { intake, notices: notices.clone(), status: watch, folded: Arc::clone(&folded) };
        let stored = state.runs().map(|run| run.id()).collect();
        let leader = Self {
            state,
            queue,
            keeper,
            clock,
            tuning,
            buffer: Vec::new(),
            timers: BTreeSet::new(),
            due: BTreeMap::new(),
            planner: Planner::default(),
            trigger_rows: BTreeMap::new(),
            waiters: BTreeMap::new(),
            waiter_next: 0,
            last_at: UtcMs(0),
            head,
            folded,
            recent: Recent::default(),
            dirty: BTreeSet::new(),
            stored,
            gone: BTreeSet::new(),
            dirty_shared: BTreeSet::new(),
            dirty_head: false,
            ended: BTreeSet::new(),
            ended_when: BTreeMap::new(),
            archiving: BTreeSet::new(),
            departing: BTreeMap::new(),
            follows: false,
            unwinding: BTreeMap::new(),
            sought: BTreeSet::new(),
            forget: BTreeSet::new(),
            forgetters: Vec::new(),
            clearing: Vec::new(),
            swept_archive: UtcMs(0),
            grown: 0,
            unwritten: 0,
            written: 0,
            whole: UtcMs(0),
            swept: UtcMs(0),
            checked: UtcMs(0),
            trim_before: None,
            notices,
            events: None,
            status,
            inbox,
            stopping: Vec::new(),
        };
        (leader, handle)
    }

    pub(super) fn set_head(&mut self, head: Head) {
        self.head = head;
        self.folded.store(head.seq, Ordering::Relaxed);
    }

    /// Tells what happens to `events`, in the name of `source`.
    #[must_use]
    pub fn with_events(mut self, events: impl Events, source: String) -> Self {
        self.events = Some((Box::new(events), source));
        self
    }

    /// Has no record be older than the last one, though the machine's clock was set back meanwhile.
    #[must_use]
    pub fn not_before(mut self, at: UtcMs) -> Self {
        self.last_at = at;
        self
    }

    /// Takes over what a recovery replayed: it is written behind with the first checkpoint.
    pub(super) fn mark(
        &mut self,
        recent: Recent,
        touched: BTreeSet<RunId>,
        departing: BTreeMap<RunId, Arc<Run>>,
        changed: bool,
    ) {
        self.departing = departing;
        self.dirty.extend(recent.runs());
        self.dirty.extend(touched);
        self.gone.extend(recent.runs().filter(|run| self.state.run(*run).is_none()));
        self.dirty_head |= changed;
        self.recent = recent;
    }

    /// Leads until it is stopped or the journal takes no more. First releases all that the state owes.
    pub async fn lead<J: Journal>(mut self, mut journal: J) -> J {
        self.follows = false;
        self.status.send_replace(Status::Leading);
        self.release_all();
        let reason = self.run(&mut journal).await;
        if let Some(reason) = &reason {
            error!(%reason, "the leader stops");
        }
        self.status.send_replace(Status::Stopped { reason });
        self.keeper.finish().await;
        for reply in self.stopping.drain(..) {
            // Whoever asked may have gone.
            let _ = reply.send(());
        }
        journal
    }

    async fn run<J: Journal>(&mut self, journal: &mut J) -> Option<String> {
        let mut landed: Option<(Flight, Appended)> = None;
        loop {
            if self.buffer.is_empty() {
                if let Some((flight, appended)) = landed.take() {
                    self.fold(flight, appended);
                    continue;
                }
                if let Some(seq) = self.trim_before.take()
                    && let Err(error) = journal.trim_before(seq).await
                {
                    warn!(%error, "the journal was not trimmed");
                }
                if !self.stopping.is_empty() {
                    self.checkpoint(true);
                    return None;
                }
                self.wait().await;
                continue;
            }
            let flight = self.take_off();
            let result = {
                let mut append = std::pin::pin!(journal.append(flight.record.to_vec()));
                // The first poll hands the record to the disk; what the one before it did is folded in meanwhile.
                let mut result = poll_once(append.as_mut()).await;
                if let Some((flight, appended)) = landed.take() {
                    self.fold(flight, appended);
                }
                loop {
                    if let Some(result) = result {
                        break result;
                    }
                    tokio::select! {
                        biased;
                        done = append.as_mut() => result = Some(done),
                        // Cancel-safe: what was not received stays in the channel.
                        message = self.inbox.recv(), if self.has_room() => self.accept(message),
                    }
                }
            };
            match result {
                Ok(appended) => landed = Some((flight, appended)),
                Err(error) => match self.refused(journal, &flight, error).await {
                    Ok(appended) => landed = Some((flight, appended)),
                    Err(reason) => return Some(reason),
                },
            }
        }
    }

    /// The disk refused a record: nothing is acknowledged until it takes it.
    async fn refused<J: Journal>(
        &mut self,
        journal: &mut J,
        flight: &Flight,
        mut error: AppendError,
    ) -> Result<Appended, String> {
        loop {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            let reason = format!("{error}{source}");
            if !error.is_transient() {
                return Err(reason);
            }
            warn!(%reason, "the journal is stalled: nothing is acknowledged until it takes the record");
            self.status.send_replace(Status::Stalled { reason });
            let again = tokio::time::Instant::now() + self.tuning.disk_retry;
            loop {
                tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(again) => break,
                    // Cancel-safe: what was not received stays in the channel.
                    message = self.inbox.recv(), if self.has_room() => self.accept(message),
                }
                if !self.stopping.is_empty() {
                    return Err("it was stopped while the disk took no records".into());
                }
            }
            match journal.append(flight.record.to_vec()).await {
                Ok(appended) => {
                    self.status.send_replace(Status::Leading);
                    return Ok(appended);
                }
                Err(again) => error = again,
            }
        }
    }

    /// Nothing is under way: waits for a message, a timer, or the next look at the workers.
    async fn wait(&mut self) {
        let now = self.clock.now();
        let first = self.timers.first().map(|(due, _)| *due).into_iter().chain(self.planner.next()).min();
        let timer = first.map(|due| Duration::from_millis(due.since(now).0));
        let nap = timer.unwrap_or(self.tuning.sweep).min(self.tuning.sweep);
        let mut messages = Vec::new();
        tokio::select! {
            biased;
            // Cancel-safe: what was not received stays in the channel.
            count = self.inbox.recv_many(&mut messages, GULP), if self.has_room() => {
                if count == 0 {
                    // All handles are gone: nobody can ask for anything, but workers' results cannot come either.
                    let (reply, _) = oneshot::channel();
                    self.stopping.push(reply);
                }
            }
            kept = self.keeper.kept() => self.kept(kept),
            () = tokio::time::sleep(nap) => {}
        }
        for message in messages {
            self.accept(Some(message));
        }
        self.tick();
    }

    /// What the passing of time brings.
    fn tick(&mut self) {
        let now = self.clock.now();
        self.fire_timers(now);
        self.come_due(now);
        // Not with every record: it looks at every task there is.
        if now.since(self.swept) >= millis(self.tuning.sweep_apart) {
            self.swept = now;
            for (task, outcome) in self.queue.sweep() {
                self.say(patchloom_core::record::Event::AttemptFinished { task, outcome, tell: Vec::new() });
            }
        }
        while let Some(kept) = self.keeper.try_kept() {
            self.kept(kept);
        }
        self.checkpoint(false);
    }

    /// Whether more may come in: not while a record is full, nor while the archive is so far behind that finished runs
    /// pile up in memory. Then senders feel its pace.
    fn has_room(&self) -> bool {
        self.buffer.len() < self.tuning.entries_max && self.archiving.len() < BACKLOG_MAX
    }

    fn accept(&mut self, message: Option<Message>) {
        match message {
            Some(Message::Submit { entries, reply }) => {
                if entries.is_empty() {
                    let _ = reply.send(Vec::new());
                    return;
                }
                self.enqueue(entries, Reply::Entries(reply));
            }
            Some(Message::Publish { event, by, reply }) => self.take_in(event, by, reply),
            Some(Message::Read(query)) => query(&self.state, self.clock.now()),
            Some(Message::History { run, reply }) => {
                let _ = reply.send(self.recent.of(run));
            }
            Some(Message::Forget { runs, reply }) => {
                self.forget.extend(runs.into_iter().filter(|run| self.state.run(*run).is_none()));
                match self.forget.is_empty() {
                    // Whoever asked may have gone.
                    true => drop(reply.send(Ok(0))),
                    false => self.forgetters.push(reply),
                }
            }
            Some(Message::Stop { reply }) => self.stopping.push(reply),
            None => {}
        }
    }

    /// Entries of somebody who waits for their outcome.
    pub(super) fn enqueue(&mut self, entries: Vec<Entry>, reply: Reply) {
        let waiter = self.waiter_next;
        self.waiter_next += 1;
        let left = entries.len();
        self.waiters.insert(waiter, Waiter { reply, left, seen: Vec::with_capacity(left) });
        self.buffer.extend(entries.into_iter().map(|entry| Queued { entry, waiter: Some(waiter) }));
    }

    /// An entry of the leader's own.
    pub(super) fn say(&mut self, event: patchloom_core::record::Event) {
        if self.follows {
            return;
        }
        self.buffer.push(Queued { entry: Entry { by: "engine".into(), event }, waiter: None });
    }

    /// Closes the next record.
    fn take_off(&mut self) -> Flight {
        let at = self.clock.now().max(self.last_at);
        self.last_at = at;
        let mut record = format!("{{\"at\":{},\"entries\":[", at.0).into_bytes();
        let mut ranges = Vec::new();
        for queued in self.buffer.iter().take(self.tuning.entries_max) {
            if record.len() > self.tuning.bytes_max {
                break;
            }
            if !ranges.is_empty() {
                record.push(b',');
            }
            let start = record.len();
            serde_json::to_writer(&mut record, &queued.entry).expect("entries have text keys and finite numbers");
            ranges.push(start..record.len());
        }
        record.extend_from_slice(b"]}");
        let rest = self.buffer.split_off(ranges.len());
        let queued = std::mem::replace(&mut self.buffer, rest);
        Flight { at, queued, record: record.into(), ranges }
    }

    /// A record is durable: folds it in, answers, releases what it owes.
    fn fold(&mut self, flight: Flight, appended: Appended) {
        self.set_head(Head { seq: appended.seq, hash: appended.hash });
        let bytes = crate::disk::widen(flight.record.len());
        self.grown += bytes;
        self.unwritten += bytes;
        let mut news = News::default();
        let mut effects = Vec::new();
        let mut aside = false;
        for (queued, range) in flight.queued.into_iter().zip(flight.ranges) {
            if let Some(run) = queued.entry.event.run() {
                self.recent.push(run, appended.seq, flight.at, &flight.record, range.clone());
            }
            let emitted = self.emitted_by(&queued.entry.event);
            let seen = self.state.apply(appended.seq, flight.at, &queued.entry);
            let seen = match seen {
                Ok(applied) => {
                    self.changed(&queued.entry.event, &applied);
                    // What moved another run belongs to its history too.
                    let own = queued.entry.event.run();
                    let others: BTreeSet<RunId> =
                        applied.touched.iter().copied().filter(|id| own != Some(*id)).collect();
                    for run in others {
                        self.recent.push(run, appended.seq, flight.at, &flight.record, range.clone());
                    }
                    news.facts.extend(applied.facts);
                    news.emitted.extend(emitted);
                    effects.extend(applied.effects);
                    Ok(appended.seq)
                }
                Err(refusal) => Err(refusal),
            };
            aside |= matches!(queued.entry.event, Event::QuarantineRequested { .. } | Event::ReleaseRequested { .. });
            self.follow_up(&queued.entry.event, &seen, queued.waiter.is_none());
            if let Some(waiter) = queued.waiter {
                self.answer(waiter, seen);
            }
        }
        if aside {
            // What was owed in the midst of this record need not be owed at its end.
            effects.retain(|effect| self.is_owed(effect));
        }
        self.release(effects);
        self.tell(appended.seq, flight.at, news, |events, seq, told| events.publish(seq, told));
        self.tick();
    }

    fn answer(&mut self, id: u64, seen: Seen) {
        let Some(waiter) = self.waiters.get_mut(&id) else { return };
        waiter.seen.push(seen);
        waiter.left -= 1;
        if waiter.left == 0
            && let Some(waiter) = self.waiters.remove(&id)
        {
            waiter.reply.tell(waiter.seen);
        }
    }

    /// Hands what changed to the keeper, when it is time.
    pub(super) fn checkpoint(&mut self, last: bool) {
        if let Some(work) = self.due_work(last) {
            match self.keeper.offer(work) {
                Ok(()) => {}
                Err(work) => self.take_back(*work),
            }
        }
    }
}

pub(super) fn millis(span: Duration) -> Millis {
    Millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

/// Polls a future once; `None` where it is not ready.
async fn poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}
