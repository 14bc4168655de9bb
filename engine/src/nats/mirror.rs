//! The journal over NATS with a copy on the disk of this engine: the stream is the truth, the copy is what reads are
//! served from, and what the stream is checked against.

use std::path::Path;
use std::time::Duration;

use patchloom_core::UtcMs;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::catch_up::agrees;
use super::journal::{NatsJournal, Opening};
use super::reader::NatsReader;
use super::stream_error::{StreamError, chain};
use crate::disk::RealDisk;
use crate::journal::{
    AppendError, Appended, EmbeddedJournal, EmbeddedReader, Error, Head, Journal, Record, RecordReader,
};
use crate::snapshot::Snapshots;

/// How long the disk of the copy may refuse what the stream has: then another engine had better lead.
const COPY_PATIENCE: Duration = Duration::from_secs(30);

/// The journal of a partition and its copy. [`super::catch_up`] makes one.
#[derive(Debug)]
pub struct MirroredJournal {
    nats: NatsJournal,
    local: EmbeddedJournal,
    snapshots: Snapshots<RealDisk>,
    /// The answer for the record that is on its way into the copy.
    copying: Option<oneshot::Receiver<Result<Appended, AppendError>>>,
    /// Since when the disk of the copy refuses.
    refuses: Option<Instant>,
    copy_patience: Duration,
}

impl MirroredJournal {
    pub(super) fn new(nats: NatsJournal, local: EmbeddedJournal, snapshots: Snapshots<RealDisk>) -> Self {
        Self { nats, local, snapshots, copying: None, refuses: None, copy_patience: COPY_PATIENCE }
    }

    /// Has it give up when the disk of the copy refused for so long, and not for half a minute.
    pub fn set_copy_patience(&mut self, patience: Duration) {
        self.copy_patience = patience;
    }

    /// The journal itself.
    #[must_use]
    pub fn nats(&self) -> &NatsJournal {
        &self.nats
    }

    /// Where the copy ends: for an engine that follows, how far it has come.
    #[must_use]
    pub fn copied(&self) -> Head {
        self.local.head()
    }

    /// The records behind the copy, and then each as it comes: hand each to [`MirroredJournal::take`].
    ///
    /// # Errors
    /// As [`NatsJournal::tail`].
    pub async fn tail(&self) -> Result<NatsReader, Error> {
        self.nats.tail(self.local.head()).await
    }

    /// Copies the next record of the stream, as read from [`MirroredJournal::tail`]; one that is there is passed over.
    ///
    /// # Errors
    /// What the disk says; [`AppendError::Lost`] where the record does not follow the copy.
    pub async fn take(&mut self, record: &Record) -> Result<(), AppendError> {
        let (seq, before) = (record.seq, self.local.head());
        if seq <= before.seq {
            return Ok(());
        }
        if seq > before.seq + 1 || before.hash.next(seq, &record.payload) != record.hash {
            let reason = format!("record {seq} does not follow the copy, which ends at {}", before.seq);
            return Err(AppendError::Lost { stream: self.nats.stream().to_owned(), reason });
        }
        copied(self.local.hand_over(record.payload.clone(), record.semantics).await.await).map(drop)
    }

    /// Looks anew where the journal ends, and copies what the copy lacks, each record being shown to `see`: what an engine
    /// does before it leads.
    ///
    /// # Errors
    /// As [`NatsJournal::refresh`] and reading; [`StreamError::Lost`] where the copy has more than the stream, or something
    /// else; [`Error::Trimmed`] where the copy must begin anew ([`super::catch_up`]); what the disk says.
    pub async fn refresh(&mut self, mut see: impl FnMut(&Record) + Send) -> Result<Head, Error> {
        self.nats.refresh().await?;
        if !agrees(&self.nats, self.local.head()).await? {
            return Err(Error::Trimmed { seq: self.local.head().seq + 1, first: self.nats.first() });
        }
        self.copy_missing(&mut see).await?;
        Ok(self.nats.head())
    }

    /// Opens a term; see [`NatsJournal::begin_term`]. The copy must have all records: see [`MirroredJournal::refresh`].
    ///
    /// # Errors
    /// As [`Journal::append`]; [`AppendError::Unavailable`] also where the stream was not looked at since records were taken.
    pub async fn begin_term(&mut self, at: UtcMs, leader: &str) -> Result<Opening, AppendError> {
        if self.local.head().seq > self.nats.head().seq {
            // What was followed is in the copy; where the stream ends by now, nobody could tell yet.
            let stream = self.nats.stream().to_owned();
            let reason = "it was not looked at since the copy got its last records".to_owned();
            return Err(AppendError::Unavailable { stream, reason });
        }
        self.settle().await?;
        let opening = self.nats.begin_term(at, leader).await?;
        self.copy(opening.record.clone(), opening.appended).await?;
        Ok(opening)
    }

    /// Gives up records before `seq` in the copy alone: a snapshot here stands for them.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn forget_copy_before(&mut self, seq: u64) -> Result<(), Error> {
        self.local.trim_before(seq).await.map(drop)
    }

    /// Makes the copy durable and closes it.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn close(self) -> Result<(), AppendError> {
        let flushed = self.local.flush().await;
        self.local.close().await;
        flushed
    }

    /// Copies all that the stream has and the copy lacks.
    pub(super) async fn copy_missing(&mut self, see: &mut (impl FnMut(&Record) + Send)) -> Result<u64, Error> {
        // Also waits for what a caller that went away had handed over.
        self.local.flush().await.map_err(unwritten)?;
        self.copying = None;
        let mut count = 0;
        if self.local.head().seq >= self.nats.head().seq {
            return Ok(count);
        }
        let mut reader = self.nats.read_from(self.local.head().seq + 1).await?;
        while let Some(record) = reader.next().await? {
            self.take(&record).await.map_err(unwritten)?;
            see(&record);
            count += 1;
        }
        Ok(count)
    }

    /// Waits until the copy has what it was handed; what the disk refused is read from the stream and tried again.
    async fn settle(&mut self) -> Result<(), AppendError> {
        if let Some(answer) = &mut self.copying {
            let result = copied(answer.await);
            self.copying = None;
            if let Err(error) = result
                && !error.is_transient()
            {
                return Err(error);
            }
        }
        if self.local.head() == self.nats.head() {
            return Ok(());
        }
        let stream = self.nats.stream().to_owned();
        if self.local.head().seq >= self.nats.head().seq {
            let reason = format!("the copy ends at record {}", self.local.head().seq);
            return Err(AppendError::Lost { stream, reason });
        }
        match self.copy_missing(&mut |_| {}).await {
            Ok(_) => {
                self.refuses = None;
                Ok(())
            }
            Err(Error::Io { path, source, .. }) => Err(self.refused(&path, source)),
            Err(Error::Stopped) => Err(AppendError::Stopped),
            Err(error @ Error::Stream(StreamError::Unavailable { .. })) => {
                Err(AppendError::Unavailable { stream, reason: chain(&error) })
            }
            Err(error) => Err(AppendError::Lost { stream, reason: chain(&error) }),
        }
    }

    /// What it means that the disk of the copy refuses: for a while, that it is tried again; then, that this engine gives
    /// up its office.
    fn refused(&mut self, path: &Path, source: std::io::Error) -> AppendError {
        let since = *self.refuses.get_or_insert_with(Instant::now);
        if since.elapsed() < self.copy_patience {
            return AppendError::Io { path: path.to_owned(), source };
        }
        let reason = format!("the copy cannot be written to {} for {:?}: {source}", path.display(), since.elapsed());
        AppendError::Poisoned { reason }
    }

    /// Hands a record to the copy; one that does not follow it is left for [`MirroredJournal::settle`].
    async fn copy(&mut self, record: Vec<u8>, appended: Appended) -> Result<(), AppendError> {
        if appended.seq == self.local.head().seq + 1 {
            self.copying = Some(self.local.hand_over(record, self.nats.semantics()).await);
            Ok(())
        } else {
            self.settle().await
        }
    }
}

impl Journal for MirroredJournal {
    type Reader = EmbeddedReader;

    /// Appends to the stream; the copy is written meanwhile, and an error of its disk is told by the next append:
    /// [`AppendError::Poisoned`] where the disk refuses for half a minute.
    async fn append(&mut self, record: Vec<u8>) -> Result<Appended, AppendError> {
        self.settle().await?;
        let appended = self.nats.append(record.clone()).await?;
        // The record is acknowledged: an error now would have it appended twice.
        let _ = self.copy(record, appended).await;
        Ok(appended)
    }

    async fn read_from(&self, seq: u64) -> Result<EmbeddedReader, Error> {
        self.local.read_from(seq).await
    }

    fn head(&self) -> Head {
        self.nats.head()
    }

    fn first(&self) -> u64 {
        self.local.first()
    }

    /// Trims the copy; copies the snapshots to the object store and trims the stream in the background.
    async fn trim_before(&mut self, seq: u64) -> Result<u64, Error> {
        self.nats.trim(seq, Some(self.snapshots.clone())).await?;
        self.local.trim_before(seq).await
    }
}

fn copied(answer: Result<Result<Appended, AppendError>, oneshot::error::RecvError>) -> Result<Appended, AppendError> {
    answer.unwrap_or(Err(AppendError::Stopped))
}

fn unwritten(error: AppendError) -> Error {
    match error {
        AppendError::DiskFull { path, source } | AppendError::Io { path, source } => {
            Error::Io { attempt: "copy the journal to", path, source }
        }
        AppendError::Lost { stream, reason } | AppendError::Unavailable { stream, reason } => {
            StreamError::Unfit { stream, reason }.into()
        }
        AppendError::TooLong { .. }
        | AppendError::Deposed { .. }
        | AppendError::Poisoned { .. }
        | AppendError::Stopped => Error::Stopped,
    }
}
