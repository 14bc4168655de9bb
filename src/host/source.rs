//! The engine's queue as the workers' source of tasks: the one place where the two ports meet.

use patchloom_core::record::{Entry, Event};
use patchloom_core::{Outcome, Told};
use patchloom_engine::queue::{Beat, EmbeddedQueue, Lease, TaskQueue};
use patchloom_engine::runtime::{Handle, Intake};
use patchloom_workers::runtime::{self as workers, Progress, SourceError, TaskSource};
use tokio::sync::watch;

use super::TaskProgress;

/// Who the records of this process's workers say they are by.
const BY: &str = "worker:local";

pub(super) struct QueueSource {
    queue: EmbeddedQueue,
    handle: Handle,
    report: watch::Sender<TaskProgress>,
}

impl QueueSource {
    pub fn new(queue: EmbeddedQueue, handle: Handle, report: watch::Sender<TaskProgress>) -> Self {
        Self { queue, handle, report }
    }
}

fn theirs(lease: &workers::Lease) -> Lease {
    Lease { task: lease.task.clone(), token: lease.token, redelivered: lease.redelivered }
}

impl TaskSource for QueueSource {
    async fn take(&self, max: usize) -> Result<Vec<workers::Lease>, SourceError> {
        let ours =
            |lease: Lease| workers::Lease { task: lease.task, token: lease.token, redelivered: lease.redelivered };
        Ok(self.queue.take(max).await.into_iter().map(ours).collect())
    }

    async fn heartbeat(&self, lease: &workers::Lease) -> Result<workers::Beat, SourceError> {
        Ok(match self.queue.beat(&theirs(lease)) {
            Beat::GoOn => workers::Beat::Continue,
            Beat::Stop => workers::Beat::Cancel,
            Beat::Lost => workers::Beat::Lost,
        })
    }

    async fn progress(&self, lease: &workers::Lease, progress: &Progress) {
        self.report.send_modify(|all| {
            all.insert(lease.task.key.clone(), progress.clone());
        });
    }

    async fn settle(&self, lease: &workers::Lease, outcome: &Outcome, tell: &[Told]) -> Result<(), SourceError> {
        let key = lease.task.key.clone();
        let Some(outcome) = self.queue.settle(&theirs(lease), outcome.clone()) else {
            return Err(SourceError::UnknownLease);
        };
        let (tell, unfit) = Told::fitting(tell.to_vec());
        if !unfit.is_empty() {
            tracing::warn!(task = %key, reasons = %unfit.join("; "), "a result told what cannot be published");
        }
        let event = Event::AttemptFinished { task: key.clone(), outcome, tell };
        // What the state says to it, known before or not, settles the task just the same.
        let told = self.handle.submit(vec![Entry { by: BY.into(), event }]).await;
        self.report.send_modify(|all| {
            all.remove(&key);
        });
        told.map(|_| ()).map_err(|_| SourceError::Closed)
    }
}
