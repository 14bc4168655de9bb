//! Writes checkpoints behind: a thread of its own, a bounded queue, batches that wait are folded into one.

use std::thread::JoinHandle;

use tokio::sync::{mpsc, watch};

use super::{Batch, Error, Store};

/// Checkpoints that may wait. The leader makes the next one only when there is room, so this bounds memory.
const WAITING_MAX: usize = 4;
/// Waiting checkpoints are folded into one write up to this many changes: one write of sled's must not take seconds.
const CHANGES_PER_WRITE: usize = 50_000;

/// How far the store is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The journal record that the store is durably folded to.
    pub checkpoint: u64,
    /// Why it takes no more; the engine goes on without it, the journal being the truth.
    pub failed: Option<String>,
}

/// The handle of the thread that writes the store. Clones share it; the thread ends when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Checkpointer {
    queue: mpsc::Sender<(Batch, u64)>,
    progress: watch::Receiver<Progress>,
}

impl Checkpointer {
    /// Starts the thread. The handle to join it is for the shutdown, behind the drop of the last clone.
    ///
    /// # Errors
    /// [`Error::Io`] where no thread can be started.
    pub fn start(store: Store, checkpoint: u64) -> Result<(Self, JoinHandle<()>), Error> {
        let (queue, inbox) = mpsc::channel(WAITING_MAX);
        let (report, progress) = watch::channel(Progress { checkpoint, failed: None });
        let dir = store.dir.clone();
        let thread = std::thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || write(&store, inbox, &report))
            .map_err(super::io("start the checkpoint thread of", &dir))?;
        Ok((Self { queue, progress }, thread))
    }

    /// Hands over what changed up to the journal record `seq`. Waits while the queue is full.
    ///
    /// # Errors
    /// [`Error::Stopped`] after a checkpoint failed.
    pub async fn submit(&self, batch: Batch, seq: u64) -> Result<(), Error> {
        self.queue.send((batch, seq)).await.map_err(|_| self.stopped())
    }

    /// As [`Checkpointer::submit`], but gives the batch back where it would have to wait or the store has stopped.
    ///
    /// # Errors
    /// The batch, for the next try.
    pub fn try_submit(&self, batch: Batch, seq: u64) -> Result<(), Batch> {
        self.queue.try_send((batch, seq)).map_err(|error| error.into_inner().0)
    }

    /// Waits until the store is durably folded to `seq` or further.
    ///
    /// # Errors
    /// [`Error::Stopped`] where it will never be.
    pub async fn wait_for(&self, seq: u64) -> Result<(), Error> {
        let mut progress = self.progress.clone();
        let there = progress.wait_for(|now| now.checkpoint >= seq || now.failed.is_some()).await;
        match there {
            Ok(now) if now.checkpoint >= seq => Ok(()),
            Ok(_) | Err(_) => Err(self.stopped()),
        }
    }

    /// How far the store is now.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    fn stopped(&self) -> Error {
        let reason = self.progress.borrow().failed.clone();
        Error::Stopped { reason: reason.unwrap_or_else(|| "its thread has ended".to_owned()) }
    }
}

fn write(store: &Store, mut inbox: mpsc::Receiver<(Batch, u64)>, report: &watch::Sender<Progress>) {
    while let Some((mut batch, mut seq)) = inbox.blocking_recv() {
        while batch.len() < CHANGES_PER_WRITE
            && let Ok((later, later_seq)) = inbox.try_recv()
        {
            batch.extend(later);
            seq = later_seq;
        }
        if let Err(error) = store.apply(&batch, seq) {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            report.send_modify(|progress| progress.failed = Some(format!("{error}{source}")));
            // No later checkpoint may cover the rows of this one.
            return;
        }
        report.send_modify(|progress| progress.checkpoint = seq);
    }
}
