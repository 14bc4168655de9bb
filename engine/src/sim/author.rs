//! One run on simulated ports, under a virtual clock: a script answers its tasks and gives it orders.
//!
//! The leader, the journal's format and the queues are the product's own. Knows nothing of how a script is written.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use patchloom_core::record::{Batch, Entry, Event, SEMANTICS, Start};
use patchloom_core::{Effect, Millis, Outcome, Partition, Task, TaskKey, UtcMs};

use super::{QueueFaults, SimDisk, SimJournal, SimQueue};
use crate::clock::Clock;
use crate::journal::{Head, Journal as _, RecordReader};
use crate::queue::{Beat, EmbeddedQueue, Lease, Limits, Recall, TaskQueue};
use crate::runtime::{EngineError, Handle, Intake as _, Leader, NoKeeper, Tuning};

/// The most turns of one play: far more than any run that a person wrote down takes.
const TURNS_MAX: u32 = 200_000;
/// The longest a play goes on, on its own clock.
const SPAN_MAX: Millis = Millis(20 * 365 * 86_400_000);
/// Tasks taken from the queue at once.
const GULP: usize = 1_024;
/// The leader looks at its queue when it is woken, and we wake it whenever a limit is due: no polling in between.
const SWEEP: Duration = Duration::from_secs(365 * 86_400);
/// Longer than any play: nothing is written behind, and runs that are over stay where they can be looked at.
const NEVER: Duration = Duration::from_secs(1 << 40);

/// What a play begins with.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Definitions, and whatever else there was before.
    pub state: Partition,
    /// The run.
    pub start: Arc<Start>,
    /// What the clock shows then.
    pub at: UtcMs,
    /// Draws the order in which tasks are handed out; without one the oldest comes first.
    pub shuffle: Option<u64>,
}

/// What a worker does with a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// How long it takes.
    pub after: Millis,
    /// What comes of it.
    pub outcome: Outcome,
    /// It falls silent at once, and nobody hears of it again.
    pub dies: bool,
    /// It goes on although it is asked to stop.
    pub deaf: bool,
}

/// The workers and the people of a play.
pub trait Script {
    /// What comes of a task that was handed out.
    fn answer(&mut self, lease: &Lease, state: &Partition) -> Reply;

    /// What people say now; each is said once.
    fn orders(&mut self, state: &Partition, now: UtcMs) -> Vec<Entry>;

    /// When people say something next, as far as the clock decides it.
    fn next(&self) -> Option<UtcMs>;
}

/// How a play came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Nothing is left that would move it.
    Still,
    /// It went on beyond every measure.
    Endless,
}

/// A play that is over.
#[derive(Clone, Debug)]
pub struct Played {
    /// All records, with their numbers.
    pub records: Vec<(u64, Batch)>,
    /// How it ended.
    pub rest: Rest,
}

/// Why nothing could be played.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// No runtime, which the machine refused.
    #[error("cannot set up a runtime")]
    Runtime(#[source] std::io::Error),
    /// The simulated journal.
    #[error("cannot use the simulated journal")]
    Journal(#[from] crate::journal::Error),
    /// The leader stopped.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A record that the leader wrote cannot be read.
    #[error("cannot read a record of the simulated journal")]
    Record(#[source] serde_json::Error),
    /// The leader's task ended before it was told to.
    #[error("the leader is gone")]
    Leader,
}

/// Plays a scene to its end. The same scene and script give the same records.
///
/// # Errors
/// The machine or the leader does not do its part; nothing that a workflow does is an error here.
pub fn play(scene: Scene, script: &mut impl Script) -> Result<Played, PlayError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.map_err(PlayError::Runtime)?;
    runtime.block_on(async {
        let clock = Clock::of_runtime(scene.at);
        // A worker that is attended to beats; one that died is given up after the usual time.
        let limits = Limits::default();
        match scene.shuffle {
            None => on(EmbeddedQueue::new(clock.clone(), limits), clock, limits, scene, script).await,
            Some(seed) => {
                let queue = SimQueue::new(clock.clone(), limits, QueueFaults::default(), seed);
                on(queue, clock, limits, scene, script).await
            }
        }
    })
}

async fn on<Q: TaskQueue>(
    queue: Q,
    clock: Clock,
    limits: Limits,
    scene: Scene,
    script: &mut impl Script,
) -> Result<Played, PlayError> {
    let (journal, opened) = SimJournal::open(&SimDisk::new(), SEMANTICS, None)?;
    let queue = Attended { inner: queue, alive: Arc::default() };
    let tuning = Tuning {
        sweep: SWEEP,
        sweep_apart: Duration::ZERO,
        checkpoint: NEVER,
        checkpoint_bytes: usize::MAX,
        ..Tuning::default()
    };
    let head: Head = opened.head;
    let (leader, handle) = Leader::new(scene.state, head, queue.clone(), NoKeeper::default(), clock.clone(), tuning);
    let leader = tokio::spawn(leader.lead(journal));
    let mut stage = Stage {
        queue,
        handle,
        clock,
        silence: limits.heartbeat,
        script,
        agenda: BTreeMap::new(),
        held: BTreeMap::new(),
        deeds: 0,
    };
    stage.tell(Entry { by: "user:test".into(), event: Event::RunStarted(scene.start) }).await?;
    let rest = stage.course().await?;
    stage.handle.stop().await;
    let journal = leader.await.map_err(|_| PlayError::Leader)?;
    let mut reader = journal.read_from(journal.first()).await?;
    let mut records = Vec::new();
    while let Some(record) = RecordReader::next(&mut reader).await? {
        records.push((record.seq, serde_json::from_slice(&record.payload).map_err(PlayError::Record)?));
    }
    Ok(Played { records, rest })
}

/// A queue whose living workers always have been heard of when somebody looks.
#[derive(Clone)]
struct Attended<Q> {
    inner: Q,
    alive: Arc<Mutex<BTreeMap<u64, Lease>>>,
}

impl<Q: TaskQueue> Attended<Q> {
    fn alive(&self) -> MutexGuard<'_, BTreeMap<u64, Lease>> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Q: TaskQueue> TaskQueue for Attended<Q> {
    fn publish(&self, tasks: Vec<Task>) {
        self.inner.publish(tasks);
    }

    fn recall(&self, key: &TaskKey) -> Recall {
        self.inner.recall(key)
    }

    fn forget(&self, keys: &[TaskKey]) {
        self.inner.forget(keys);
    }

    fn sweep(&self) -> Vec<(TaskKey, Outcome)> {
        for lease in self.alive().values() {
            // What they hear is asked for again when they are looked at.
            self.inner.beat(lease);
        }
        self.inner.sweep()
    }

    async fn take(&self, max: usize) -> Vec<Lease> {
        self.inner.take(max).await
    }

    fn beat(&self, lease: &Lease) -> Beat {
        self.inner.beat(lease)
    }

    fn settle(&self, lease: &Lease, outcome: Outcome) -> Option<Outcome> {
        self.inner.settle(lease, outcome)
    }
}

/// What is due at an instant.
enum Deed {
    /// The task under this token is done.
    Settle(u64),
    /// A limit may have passed: the leader looks at its queue.
    Look,
}

struct Held {
    lease: Lease,
    reply: Reply,
}

struct Stage<'a, Q, S> {
    queue: Attended<Q>,
    handle: Handle,
    clock: Clock,
    /// After how long a worker that says nothing counts as dead, where its task does not say.
    silence: Millis,
    script: &'a mut S,
    agenda: BTreeMap<(UtcMs, u64), Deed>,
    held: BTreeMap<u64, Held>,
    deeds: u64,
}

impl<Q: TaskQueue, S: Script> Stage<'_, Q, S> {
    /// Acts until nothing is left that would move the run. Time moves only while everybody is idle.
    async fn course(&mut self) -> Result<Rest, EngineError> {
        let begun = self.clock.now();
        for _ in 0..TURNS_MAX {
            if self.act().await? {
                continue;
            }
            // The leader answers when it has nothing under way: by then all that it owes is with the queue.
            let state = self.handle.read(Partition::clone).await?;
            if self.take(&state).await? || self.stop_who_is_asked_to().await? {
                continue;
            }
            let orders = self.script.orders(&state, self.clock.now());
            let timer = next_timer(&state);
            drop(state);
            if !orders.is_empty() {
                for order in orders {
                    self.tell(order).await?;
                }
                continue;
            }
            let agenda = self.agenda.keys().next().map(|(at, _)| *at);
            let Some(at) = [agenda, timer, self.script.next()].into_iter().flatten().min() else {
                return Ok(Rest::Still);
            };
            if at.since(begun) > SPAN_MAX {
                return Ok(Rest::Endless);
            }
            tokio::time::sleep(Duration::from_millis(at.since(self.clock.now()).0)).await;
        }
        Ok(Rest::Endless)
    }

    /// Does what is due first; `false` where nothing is due yet.
    async fn act(&mut self) -> Result<bool, EngineError> {
        let Some(first) = self.agenda.first_entry().filter(|first| first.key().0 <= self.clock.now()) else {
            return Ok(false);
        };
        match first.remove() {
            Deed::Look => self.handle.read(|_| ()).await?,
            Deed::Settle(token) => {
                if let Some(held) = self.held.remove(&token) {
                    self.settle(&held.lease, held.reply.outcome).await?;
                }
            }
        }
        Ok(true)
    }

    async fn settle(&mut self, lease: &Lease, outcome: Outcome) -> Result<(), EngineError> {
        let settled = self.queue.settle(lease, outcome);
        self.queue.alive().remove(&lease.token);
        match settled {
            Some(outcome) => {
                let event = Event::AttemptFinished { task: lease.task.key.clone(), outcome, tell: Vec::new() };
                self.tell(Entry { by: "worker:test".into(), event }).await
            }
            None => Ok(()),
        }
    }

    /// Says something. What the state refuses stands in the journal all the same, and is read there.
    async fn tell(&mut self, entry: Entry) -> Result<(), EngineError> {
        self.handle.submit(vec![entry]).await.map(drop)
    }

    /// Hands waiting tasks to workers.
    async fn take(&mut self, state: &Partition) -> Result<bool, EngineError> {
        let leases = tokio::select! {
            biased;
            // Cancel-safe: what is not returned is not leased.
            leases = self.queue.take(GULP) => leases,
            () = std::future::ready(()) => Vec::new(),
        };
        let took = !leases.is_empty();
        let now = self.clock.now();
        // A run that began since the state was read has tasks already: whoever answers must know whose child it is.
        let newer = match leases.iter().all(|lease| state.run(lease.task.key.run).is_some()) {
            true => None,
            false => Some(self.handle.read(Partition::clone).await?),
        };
        let state = newer.as_ref().unwrap_or(state);
        for lease in leases {
            let reply = self.script.answer(&lease, state);
            let limits = lease.task.timeouts;
            let token = lease.token;
            if reply.dies {
                self.plan(now + limits.heartbeat.unwrap_or(self.silence), Deed::Look);
            } else {
                self.queue.alive().insert(token, lease.clone());
                self.plan(now + reply.after, Deed::Settle(token));
            }
            if let Some(limit) = limits.attempt.filter(|limit| *limit < reply.after || reply.dies) {
                self.plan(now + limit, Deed::Look);
            }
            self.held.insert(token, Held { lease, reply });
        }
        Ok(took)
    }

    fn plan(&mut self, at: UtcMs, deed: Deed) {
        self.deeds += 1;
        self.agenda.insert((at, self.deeds), deed);
    }

    /// Workers hear at once that they shall stop.
    async fn stop_who_is_asked_to(&mut self) -> Result<bool, EngineError> {
        let listening = self.held.iter().filter(|(_, held)| !held.reply.dies && !held.reply.deaf);
        let heard: Vec<(u64, Beat)> = listening.map(|(token, held)| (*token, self.queue.beat(&held.lease))).collect();
        let mut any = false;
        for (token, beat) in heard.into_iter().filter(|(_, beat)| *beat != Beat::GoOn) {
            let Some(held) = self.held.remove(&token) else { continue };
            any = true;
            // What was planned for it is passed over when it comes due.
            match beat {
                Beat::Stop => self.settle(&held.lease, Outcome::Cancelled).await?,
                Beat::Lost | Beat::GoOn => drop(self.queue.alive().remove(&token)),
            }
        }
        if any {
            let held = &self.held;
            self.agenda.retain(|_, deed| !matches!(deed, Deed::Settle(token) if !held.contains_key(token)));
        }
        Ok(any)
    }
}

fn next_timer(state: &Partition) -> Option<UtcMs> {
    let due = |effect: Effect| match effect {
        Effect::Timer(_, due) => Some(due),
        _ => None,
    };
    state.pending().into_values().filter_map(due).min()
}
