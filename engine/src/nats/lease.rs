//! Who leads a partition, for as long as it says so: a key that its holder renews. For liveness only; that two never both
//! write is the journal's business.

use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::kv::{self, CreateErrorKind, Operation, Store, UpdateErrorKind};
use async_nats::jetstream::stream::StorageType;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use uuid::Uuid;

use super::stream::unavailable;
use super::stream_error::StreamError;

/// How long a lease lasts that is not renewed.
pub const TTL_DEFAULT: Duration = Duration::from_secs(10);
const BUCKET: &str = "PATCHLOOM_LEASES";

/// Who holds a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The engine.
    pub leader: String,
    /// This start of it.
    pub instance: Uuid,
}

/// The lease of a partition, as one engine sees it.
#[derive(Debug)]
pub struct Lease {
    context: Context,
    store: Store,
    key: String,
    me: Holder,
    ttl: Duration,
    replicas: usize,
    revision: Option<u64>,
    /// When the last renewal was sent that the broker confirmed.
    renewed: Option<Instant>,
}

impl Lease {
    /// Looks at the lease of `partition` for the engine `leader`, and takes nothing yet.
    ///
    /// All engines of a system give the same `ttl`: how long a lease lasts that is not renewed.
    ///
    /// # Errors
    /// [`StreamError::Unavailable`]; [`StreamError::Unfit`] where the leases last another time or are kept otherwise.
    pub async fn open(
        context: &Context,
        partition: &str,
        leader: &str,
        ttl: Duration,
        replicas: usize,
    ) -> Result<Self, StreamError> {
        let store = bucket(context, ttl, replicas).await?;
        let me = Holder { leader: leader.to_owned(), instance: Uuid::now_v7() };
        let (context, key) = (context.clone(), partition.to_owned());
        Ok(Self { context, store, key, me, ttl, replicas, revision: None, renewed: None })
    }

    /// Takes the lease if nobody holds it. Whether it is held now.
    ///
    /// # Errors
    /// [`StreamError::Unavailable`]: it may be held or not, and the next try finds out.
    pub async fn try_acquire(&mut self) -> Result<bool, StreamError> {
        let sent = Instant::now();
        match self.store.create(&self.key, self.value().into()).await {
            Ok(revision) => Ok(self.confirm(revision, sent)),
            // Where an earlier try arrived whose answer was lost, the key is ours.
            Err(error) if error.kind() == CreateErrorKind::AlreadyExists => self.retake().await,
            Err(error) => {
                let failed = unavailable("take the lease in", BUCKET, &error);
                // The leases lie in memory: after the loss of all servers there is no such bucket any more.
                self.store = bucket(&self.context, self.ttl, self.replicas).await?;
                Err(failed)
            }
        }
    }

    /// Renews the lease: due every [`Lease::renew_every`]. Whether it is still held.
    ///
    /// # Errors
    /// [`StreamError::Unavailable`]: try again at once; until [`Lease::confirmed`] says no, nobody else has it.
    pub async fn renew(&mut self) -> Result<bool, StreamError> {
        let Some(revision) = self.revision else { return Ok(false) };
        let sent = Instant::now();
        match self.store.update(&self.key, self.value().into(), revision).await {
            Ok(revision) => Ok(self.confirm(revision, sent)),
            Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => self.retake().await,
            Err(error) => Err(unavailable("renew the lease in", BUCKET, &error)),
        }
    }

    /// Whether the broker has confirmed the lease within its time: on this machine's own clock, from when it was asked.
    #[must_use]
    pub fn confirmed(&self) -> bool {
        self.confirmed_until().is_some_and(|until| Instant::now() < until)
    }

    /// Until when nobody else can hold the lease.
    #[must_use]
    pub fn confirmed_until(&self) -> Option<Instant> {
        self.renewed.map(|renewed| renewed + self.ttl)
    }

    /// How often to renew: several tries fit into the time of a lease.
    #[must_use]
    pub fn renew_every(&self) -> Duration {
        self.ttl / 4
    }

    /// Gives the lease back, so that others need not wait until it has lapsed.
    ///
    /// # Errors
    /// [`StreamError::Unavailable`]: it lapses all the same.
    pub async fn release(&mut self) -> Result<(), StreamError> {
        self.renewed = None;
        let Some(revision) = self.revision.take() else { return Ok(()) };
        let deleted = self.store.delete_expect_revision(&self.key, Some(revision)).await;
        deleted.map_err(|error| unavailable("give back the lease in", BUCKET, &error))
    }

    /// Who holds it; `None` while nobody does.
    ///
    /// # Errors
    /// [`StreamError::Unavailable`].
    pub async fn holder(&self) -> Result<Option<Holder>, StreamError> {
        Ok(self.entry().await?.map(|(holder, _)| holder))
    }

    /// Waits for the lease from now on.
    ///
    /// # Errors
    /// [`StreamError::Unavailable`].
    pub async fn watch(&self) -> Result<LeaseWatch, StreamError> {
        let changes = self.store.watch(&self.key).await;
        let changes = changes.map_err(|error| unavailable("watch the lease in", BUCKET, &error))?;
        Ok(LeaseWatch { store: self.store.clone(), key: self.key.clone(), ttl: self.ttl, changes })
    }

    fn value(&self) -> Vec<u8> {
        serde_json::to_vec(&self.me).expect("a holder is plain text")
    }

    fn confirm(&mut self, revision: u64, sent: Instant) -> bool {
        (self.revision, self.renewed) = (Some(revision), Some(sent));
        true
    }

    /// Goes on with a key that an earlier call of ours wrote; nothing where it is somebody else's.
    async fn retake(&mut self) -> Result<bool, StreamError> {
        let sent = Instant::now();
        match self.entry().await? {
            Some((holder, revision)) if holder == self.me => {
                let updated = self.store.update(&self.key, self.value().into(), revision).await;
                let revision = updated.map_err(|error| unavailable("renew the lease in", BUCKET, &error))?;
                Ok(self.confirm(revision, sent))
            }
            Some(_) | None => {
                (self.revision, self.renewed) = (None, None);
                Ok(false)
            }
        }
    }

    async fn entry(&self) -> Result<Option<(Holder, u64)>, StreamError> {
        entry(&self.store, &self.key).await
    }

    /// Who holds the lease of `partition`, for one who does not want it: makes nothing, and needs not know how long leases
    /// last. `None` also where no engine ever stood there.
    ///
    /// # Errors
    /// [`StreamError::Unavailable`].
    pub async fn holder_of(context: &Context, partition: &str) -> Result<Option<Holder>, StreamError> {
        match context.get_key_value(BUCKET).await {
            Ok(store) => Ok(entry(&store, partition).await?.map(|(holder, _)| holder)),
            Err(_) => Ok(None),
        }
    }
}

async fn entry(store: &Store, key: &str) -> Result<Option<(Holder, u64)>, StreamError> {
    let entry = store.entry(key).await.map_err(|error| unavailable("look at the lease in", BUCKET, &error))?;
    let Some(entry) = entry.filter(|entry| entry.operation == Operation::Put) else { return Ok(None) };
    let holder = serde_json::from_slice(&entry.value)
        .map_err(|_| StreamError::Unfit { stream: BUCKET.to_owned(), reason: format!("the key {key} is no lease") })?;
    Ok(Some((holder, entry.revision)))
}

/// Waits until a lease can be taken.
pub struct LeaseWatch {
    store: Store,
    key: String,
    ttl: Duration,
    changes: kv::Watch,
}

impl std::fmt::Debug for LeaseWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LeaseWatch").field("key", &self.key).finish_non_exhaustive()
    }
}

impl LeaseWatch {
    /// Returns when the lease was given back, or was not renewed for as long as it lasts. It may be taken again by then:
    /// try, and wait again.
    pub async fn free(&mut self) {
        let mut lapses = Instant::now() + self.ttl;
        loop {
            match tokio::time::timeout_at(lapses, self.changes.next()).await {
                Err(_) => return,
                Ok(Some(Ok(entry))) if entry.operation == Operation::Put => lapses = Instant::now() + self.ttl,
                Ok(Some(Ok(_))) => return,
                Ok(Some(Err(_)) | None) => {
                    // The broker is away: nothing is heard until it is back, and then the lease may have lapsed.
                    tokio::time::sleep_until(lapses.min(Instant::now() + self.ttl / 4)).await;
                    if let Ok(changes) = self.store.watch(&self.key).await {
                        self.changes = changes;
                    }
                }
            }
        }
    }
}

/// The bucket of all leases, made where it is not there yet.
async fn bucket(context: &Context, ttl: Duration, replicas: usize) -> Result<Store, StreamError> {
    let config = kv::Config {
        bucket: BUCKET.to_owned(),
        history: 1,
        max_age: ttl,
        storage: StorageType::Memory,
        num_replicas: replicas,
        ..kv::Config::default()
    };
    let store = match context.get_key_value(BUCKET).await {
        Ok(store) => store,
        Err(_) => {
            let made = context.create_key_value(config).await;
            made.map_err(|error| unavailable("make", BUCKET, &error))?
        }
    };
    let status = store.status().await.map_err(|error| unavailable("look at", BUCKET, &error))?;
    let found = &status.info.config;
    if found.max_age != ttl || found.storage != StorageType::Memory || found.num_replicas != replicas {
        let reason = format!(
            "its leases last {:?} in {:?} on {} servers, and must last {ttl:?} in memory on {replicas}",
            found.max_age, found.storage, found.num_replicas
        );
        return Err(StreamError::Unfit { stream: BUCKET.to_owned(), reason });
    }
    Ok(store)
}
