//! Gives up the records of a stream that lie in a snapshot, beside the leader's loop.

use async_nats::jetstream::Context;
use async_nats::jetstream::stream::Stream;
use tracing::warn;

use super::snapshots::NatsSnapshots;
use super::stream::unavailable;
use super::stream_error::StreamError;
use crate::disk::RealDisk;
use crate::snapshot::Snapshots;

/// What is to be given up.
pub(super) struct Trim {
    pub context: Context,
    pub stream: Stream<()>,
    pub name: String,
    pub partition: String,
    pub replicas: usize,
    /// The first record that is still needed.
    pub seq: u64,
    /// The first that can be read now.
    pub first: u64,
}

impl Trim {
    /// Uploads the snapshots, then gives up what they cover. Returns the first record that can be read.
    pub async fn run(self, uploads: Option<Snapshots<RealDisk>>) -> Result<u64, StreamError> {
        let snapshots = NatsSnapshots::open(&self.context, &self.partition, self.replicas).await?;
        if let Some(local) = uploads {
            let there = snapshots.list().await?;
            for seq in local.list().unwrap_or_default().into_iter().filter(|seq| !there.contains(seq)) {
                if let Err(error) = snapshots.upload(seq, &local.path_of(seq)).await {
                    // Also where the keeper has removed it meanwhile, for a newer one: what is covered is asked below.
                    warn!(%error, "a snapshot was not copied");
                }
            }
        }
        let Some(newest) = snapshots.list().await?.last().copied() else { return Ok(self.first) };
        let seq = self.seq.min(newest + 1);
        if seq <= self.first {
            return Ok(self.first);
        }
        // The record before it stays, for its link of the chain.
        let purged = self.stream.purge().sequence(seq - 1).await;
        purged.map_err(|error| unavailable("trim", &self.name, &error))?;
        snapshots.remove_before(seq - 1).await?;
        Ok(seq)
    }
}
