//! Snapshots of a partition in an object store, so that an engine without a past can begin behind a trimmed journal.

use std::path::Path;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::ObjectStoreErrorKind;
use async_nats::jetstream::object_store::{self, ObjectStore};
use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;

use super::stream_error::{StreamError, chain};
use crate::snapshot;

/// The object store with the snapshots of a partition.
#[derive(Clone)]
pub struct NatsSnapshots {
    store: ObjectStore,
    bucket: String,
}

impl std::fmt::Debug for NatsSnapshots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsSnapshots").field("bucket", &self.bucket).finish_non_exhaustive()
    }
}

impl NatsSnapshots {
    /// Opens the store of `partition`, or makes it.
    ///
    /// # Errors
    /// [`StreamError::Unavailable`], or [`StreamError::Unfit`] where it keeps fewer copies than asked for.
    pub async fn open(context: &Context, partition: &str, replicas: usize) -> Result<Self, StreamError> {
        let bucket = format!("PATCHLOOM_SNAPSHOTS_{partition}");
        let store = match context.get_object_store(&bucket).await {
            Ok(store) => store,
            Err(error) if error.kind() == ObjectStoreErrorKind::GetStore => {
                let config =
                    object_store::Config { bucket: bucket.clone(), num_replicas: replicas, ..Default::default() };
                context.create_object_store(config).await.map_err(|error| unavailable("make", &bucket, &error))?
            }
            Err(error) => return Err(unavailable("open", &bucket, &error)),
        };
        let info = context.get_stream(format!("OBJ_{bucket}")).await;
        let found = info.map_err(|error| unavailable("look at", &bucket, &error))?.cached_info().config.num_replicas;
        if found != replicas {
            let reason = format!("it keeps {found} copies, and must keep {replicas}");
            return Err(StreamError::Unfit { stream: bucket, reason });
        }
        Ok(Self { store, bucket })
    }

    /// The sequence numbers that there are snapshots of, in order.
    ///
    /// # Errors
    /// [`StreamError::Unavailable`].
    pub async fn list(&self) -> Result<Vec<u64>, StreamError> {
        let failed = |error: &dyn std::error::Error| unavailable("list", &self.bucket, error);
        let mut objects = self.store.list().await.map_err(|error| failed(&error))?;
        let mut seqs = Vec::new();
        while let Some(object) = objects.next().await {
            let object = object.map_err(|error| failed(&error))?;
            seqs.extend(snapshot::seq_of(&object.name));
        }
        seqs.sort_unstable();
        Ok(seqs)
    }

    /// Copies a snapshot file into the store.
    ///
    /// # Errors
    /// [`StreamError::Unavailable`]; nobody sees half a snapshot then.
    pub async fn upload(&self, seq: u64, path: &Path) -> Result<(), StreamError> {
        let failed = |error: &dyn std::error::Error| unavailable("copy a snapshot to", &self.bucket, error);
        let mut file = tokio::fs::File::open(path).await.map_err(|error| failed(&error))?;
        let name = snapshot::name_of(seq);
        self.store.put(name.as_str(), &mut file).await.map_err(|error| failed(&error))?;
        Ok(())
    }

    /// Copies a snapshot out of the store into the directory `dir`, under the name that snapshots have there.
    ///
    /// # Errors
    /// [`StreamError::Unavailable`], also where the disk refuses. The file is there whole or not at all.
    pub async fn download(&self, seq: u64, dir: &Path) -> Result<(), StreamError> {
        let failed = |error: &dyn std::error::Error| unavailable("copy a snapshot from", &self.bucket, error);
        let name = snapshot::name_of(seq);
        let mut object = self.store.get(name.as_str()).await.map_err(|error| failed(&error))?;
        let (path, draft) = (dir.join(&name), dir.join(format!("{seq:020}.tmp")));
        let written = async {
            let mut file = tokio::fs::File::create(&draft).await?;
            // Fails where the content is not what its digest says.
            tokio::io::copy(&mut object, &mut file).await?;
            file.flush().await?;
            file.sync_all().await?;
            tokio::fs::rename(&draft, &path).await?;
            tokio::fs::File::open(dir).await?.sync_all().await
        };
        written.await.map_err(|error: std::io::Error| failed(&error))
    }

    /// Removes the snapshots before that of `seq`.
    ///
    /// # Errors
    /// [`StreamError::Unavailable`].
    pub async fn remove_before(&self, seq: u64) -> Result<(), StreamError> {
        for old in self.list().await?.into_iter().filter(|old| *old < seq) {
            let removed = self.store.delete(snapshot::name_of(old)).await;
            removed.map_err(|error| unavailable("remove a snapshot from", &self.bucket, &error))?;
        }
        Ok(())
    }
}

fn unavailable(attempt: &'static str, bucket: &str, error: &dyn std::error::Error) -> StreamError {
    StreamError::Unavailable { attempt, stream: bucket.to_owned(), reason: chain(error) }
}
