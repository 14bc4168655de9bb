//! The journal on the simulated disk: the product's own format, repair and failure handling, run in place.

use std::path::PathBuf;
use std::time::Duration;

use super::{Random, SimDisk};
use crate::journal::{
    AppendError, Appended, Error, Head, Journal, Log, Opened, Options, Reader, Record, RecordReader, Report, Stats,
};

/// How slow the simulated journal is, on the clock of the runtime (paused in simulations).
#[derive(Clone, Debug)]
pub struct Latency {
    /// Draws the waits.
    pub seed: u64,
    /// The longest wait before a record is written, and again between its flush and its acknowledgement.
    pub wait_max: Duration,
}

/// The simulated journal.
///
/// Faults come from its [`SimDisk`]. A crash is: drop this, [`SimDisk::crash`], open again. An append whose future is
/// dropped during its waits is lost or durable, as with a process that dies before or after the flush.
#[derive(Debug)]
pub struct SimJournal {
    log: Log<SimDisk>,
    latency: Option<(Random, Duration)>,
}

impl SimJournal {
    /// Small, so that simulations cross segments often.
    pub const SEGMENT_BYTES: u64 = 64 * 1024;

    /// Opens or makes the journal on `disk`.
    ///
    /// # Errors
    /// As the embedded one.
    pub fn open(disk: &SimDisk, semantics: u32, latency: Option<Latency>) -> Result<(Self, Opened), Error> {
        let id_if_new = [0x51; 16];
        let segment_bytes = Self::SEGMENT_BYTES;
        let options = Options { id_if_new, segment_bytes, prefill: false, ..Options::new(semantics) };
        Self::open_with(disk, options, latency)
    }

    /// Opens with options of one's own; `prefill` fills the first segment only.
    ///
    /// # Errors
    /// As the embedded one.
    pub fn open_with(disk: &SimDisk, options: Options, latency: Option<Latency>) -> Result<(Self, Opened), Error> {
        let (log, opened) = Log::open(disk.clone(), &Self::dir(), options)?;
        let latency = latency.map(|latency| (Random::new(latency.seed), latency.wait_max));
        Ok((Self { log, latency }, opened))
    }

    /// Where on the simulated disk its files lie.
    #[must_use]
    pub fn dir() -> PathBuf {
        PathBuf::from("/journal")
    }

    /// Checks every record that lies on the disk, as [`crate::journal::verify`] does.
    ///
    /// # Errors
    /// What the disk says.
    pub fn verify(disk: &SimDisk) -> Result<Report, Error> {
        crate::journal::verify_on(disk, &Self::dir())
    }

    /// Its size.
    ///
    /// # Errors
    /// What the disk says.
    pub fn stats(&self) -> Result<Stats, Error> {
        self.log.stats()
    }

    async fn wait(&mut self) {
        if let Some((random, wait_max)) = &mut self.latency {
            // Saturates far beyond any sensible wait.
            let micros_max = u64::try_from(wait_max.as_micros()).unwrap_or(u64::MAX - 1);
            let wait = Duration::from_micros(random.below(micros_max + 1));
            tokio::time::sleep(wait).await;
        }
    }
}

impl Journal for SimJournal {
    type Reader = Reader<SimDisk>;

    async fn append(&mut self, record: Vec<u8>) -> Result<Appended, AppendError> {
        self.wait().await;
        let result = self.log.append(&record);
        self.wait().await;
        result
    }

    async fn read_from(&self, seq: u64) -> Result<Reader<SimDisk>, Error> {
        self.log.reader(seq)
    }

    fn head(&self) -> Head {
        self.log.head()
    }

    fn first(&self) -> u64 {
        self.log.first()
    }

    async fn trim_before(&mut self, seq: u64) -> Result<u64, Error> {
        self.log.trim_before(seq)
    }
}

impl RecordReader for Reader<SimDisk> {
    async fn next(&mut self) -> Result<Option<Record>, Error> {
        Iterator::next(self).transpose()
    }
}
