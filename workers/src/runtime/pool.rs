//! The pool: some tasks at a time, each with its heartbeat, none able to take the others down.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use patchloom_core::{Failure, Outcome, Told as Fact};
use serde_json::Value;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, interval_at, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, error, warn};

use super::{Beat, DataDir, Handlers, Lease, SourceError, TaskContext, TaskSource};
use crate::failure::permanent;

/// First and longest wait before a call to the source is repeated.
const REPEAT_FIRST: Duration = Duration::from_millis(100);
const REPEAT_MAX: Duration = Duration::from_secs(5);

/// Progress is passed on at most this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Bounds of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Tasks at a time; at least 1.
    pub parallel: usize,
    /// Time between two heartbeats of a task; well below the queue's patience.
    pub heartbeat: Duration,
    /// How long running tasks may go on after shutdown began, before they are cancelled.
    pub drain: Duration,
    /// How long a cancelled task may take to come to rest at shutdown, before it is dropped.
    pub rest: Duration,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            parallel: 8,
            heartbeat: Duration::from_secs(5),
            drain: Duration::from_secs(30),
            rest: Duration::from_secs(15),
        }
    }
}

/// Takes tasks from a source and runs them.
pub struct WorkerPool<S> {
    source: Arc<S>,
    handlers: Arc<Handlers>,
    data: DataDir,
    config: PoolConfig,
}

impl<S: TaskSource> WorkerPool<S> {
    /// A pool that does nothing until it is run.
    pub fn new(source: Arc<S>, handlers: Handlers, data: DataDir, config: PoolConfig) -> Self {
        Self { source, handlers: Arc::new(handlers), data, config }
    }

    /// Works until `shutdown` fires or the source closes; then takes nothing more and lets running tasks finish.
    ///
    /// # Cancellation
    /// Dropping the future drops the running tasks; they are handed out again when their leases run out.
    pub async fn run(self, shutdown: CancellationToken) {
        // Cancelled when the drain is over: tasks stop but settle nothing, so that they come again.
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        let mut repeat = REPEAT_FIRST;
        loop {
            let free = self.config.parallel.max(1).saturating_sub(running.len());
            // Cancel-safe: join_next() keeps its set, take() promises it.
            let taken = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(_) = running.join_next(), if !running.is_empty() => continue,
                taken = self.source.take(free), if free > 0 => taken,
            };
            match taken {
                Ok(leases) => {
                    repeat = REPEAT_FIRST;
                    for lease in leases {
                        running.spawn(self.work(lease, stop.clone()).run());
                    }
                }
                Err(SourceError::Closed) => break,
                Err(error @ (SourceError::Unavailable(_) | SourceError::UnknownLease)) => {
                    warn!(%error, "task source unavailable");
                    tokio::select! {
                        () = shutdown.cancelled() => break,
                        () = sleep(repeat) => repeat = (repeat * 2).min(REPEAT_MAX),
                    }
                }
            }
        }
        self.drain(running, stop).await;
    }

    async fn drain(&self, mut running: JoinSet<()>, stop: CancellationToken) {
        let rest = |running: JoinSet<()>| async move {
            let mut running = running;
            while running.join_next().await.is_some() {}
        };
        let finished = timeout(self.config.drain, async { while running.join_next().await.is_some() {} }).await;
        if finished.is_ok() {
            return;
        }
        stop.cancel();
        if timeout(self.config.rest, rest(running)).await.is_err() {
            warn!("tasks dropped at shutdown");
        }
    }

    fn work(&self, lease: Lease, stop: CancellationToken) -> Work<S> {
        Work {
            source: Arc::clone(&self.source),
            handlers: Arc::clone(&self.handlers),
            data: self.data.clone(),
            config: self.config,
            lease,
            stop,
        }
    }
}

/// One task in work.
struct Work<S> {
    source: Arc<S>,
    handlers: Arc<Handlers>,
    data: DataDir,
    config: PoolConfig,
    lease: Lease,
    stop: CancellationToken,
}

/// Why a task was told to stop.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Cancel,
    Lost,
    Stop,
}

impl<S: TaskSource> Work<S> {
    async fn run(self) {
        let Some(handler) = self.handlers.get(&self.lease.task.uses) else {
            let message = format!("no worker here knows the task type {}", self.lease.task.uses);
            return self.settle(Outcome::Failed(permanent("E0591", message)), &[]).await;
        };
        let cancel = CancellationToken::new();
        let key = self.lease.task.key.clone();
        let (context, mut heard) = TaskContext::new(key, self.lease.redelivered, cancel.clone(), self.data.clone());
        let (input, teller) = (self.lease.task.input.clone(), context.clone());
        // In a task of its own, so that a panic ends there and shows as a join error here.
        let mut job = AbortOnDropHandle::new(tokio::spawn(async move { handler.run(&context, input).await }));
        let start = tokio::time::Instant::now();
        let every = self.beat_every();
        let mut beat = interval_at(start + every, every);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pace = interval_at(start, PROGRESS_EVERY);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = Told::Nothing;
        let result = loop {
            // Cancel-safe: a join handle may be polled again; ticks keep their state.
            tokio::select! {
                biased;
                result = &mut job => break result,
                () = self.stop.cancelled(), if told == Told::Nothing => told = Told::Stop,
                _ = beat.tick() => told = self.beat(told).await,
                _ = pace.tick() => if heard.has_changed().unwrap_or(false) {
                    let progress = heard.borrow_and_update().clone();
                    // A slow source must not keep us from the heartbeat.
                    let _ = timeout(self.config.heartbeat, self.source.progress(&self.lease, &progress)).await;
                },
            }
            if matches!(told, Told::Stop | Told::Lost) {
                teller.left().cancel();
            }
            if told != Told::Nothing {
                cancel.cancel();
            }
        };
        if heard.has_changed().unwrap_or(true) {
            let progress = heard.borrow_and_update().clone();
            let _ = timeout(self.config.heartbeat, self.source.progress(&self.lease, &progress)).await;
        }
        match outcome_of(result, told, &self.lease) {
            Some(outcome) => match crate::witness::record(&teller, &outcome).await {
                Ok(()) => self.settle(outcome, &teller.told()).await,
                Err(failure) => self.settle(Outcome::Failed(failure), &[]).await,
            },
            None => debug!(task = %self.lease.task.key, "task left unsettled"),
        }
    }

    /// Often enough for the queue's patience with this task.
    fn beat_every(&self) -> Duration {
        let patience = self.lease.task.timeouts.heartbeat.map(|patience| Duration::from_millis(patience.0.max(3)) / 3);
        patience.map_or(self.config.heartbeat, |third| third.min(self.config.heartbeat))
    }

    async fn beat(&self, told: Told) -> Told {
        match timeout(self.config.heartbeat, self.source.heartbeat(&self.lease)).await {
            Ok(Ok(Beat::Continue)) => told,
            Ok(Ok(Beat::Cancel)) if told == Told::Nothing => Told::Cancel,
            Ok(Ok(Beat::Cancel)) => told,
            Ok(Ok(Beat::Lost) | Err(SourceError::UnknownLease | SourceError::Closed)) => Told::Lost,
            Ok(Err(SourceError::Unavailable(_))) | Err(_) => {
                warn!(task = %self.lease.task.key, "heartbeat not delivered");
                told
            }
        }
    }

    /// Repeats until the source has recorded it, the lease is unknown or the pool stops.
    async fn settle(&self, outcome: Outcome, tell: &[Fact]) {
        let mut repeat = REPEAT_FIRST;
        loop {
            match self.source.settle(&self.lease, &outcome, tell).await {
                Ok(()) | Err(SourceError::UnknownLease | SourceError::Closed) => return,
                Err(error @ SourceError::Unavailable(_)) => {
                    warn!(task = %self.lease.task.key, %error, "outcome not delivered");
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = sleep(repeat) => repeat = (repeat * 2).min(REPEAT_MAX),
            }
        }
    }
}

/// What to settle; `None` where the task is to come again or is not ours.
fn outcome_of(result: Result<Result<Value, Failure>, JoinError>, told: Told, lease: &Lease) -> Option<Outcome> {
    let task = &lease.task.key;
    match (result, told) {
        (_, Told::Lost) => None,
        (Ok(Ok(output)), Told::Nothing | Told::Cancel | Told::Stop) => Some(Outcome::Succeeded { output }),
        (Ok(Err(failure)), Told::Nothing) => Some(Outcome::Failed(failure)),
        (Ok(Err(_)), Told::Cancel) => Some(Outcome::Cancelled),
        (Ok(Err(_)), Told::Stop) => None,
        (Err(join), Told::Nothing | Told::Cancel | Told::Stop) => match join.try_into_panic() {
            Ok(payload) => {
                let said = panic_text(payload.as_ref());
                error!(%task, uses = %lease.task.uses, panic = %said, "handler panicked");
                let message = format!("the worker's own code failed in {} (a bug): {said}", lease.task.uses);
                Some(Outcome::Failed(permanent("E0590", message)))
            }
            // The runtime is going down under us: the task comes again.
            Err(_) => None,
        },
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
