//! The store: the fold of the journal in sled, written behind. Never the truth, never on the hot path.
//!
//! Knows keys and values as bytes, and the sequence number they were folded to. Whatever is wrong with it, the way out
//! is the same: it is moved aside and made again from snapshot and journal.

mod checkpointer;
mod error;

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use checkpointer::{Checkpointer, Progress};
pub use error::Error;

/// How many damaged stores are kept for a look at them.
pub const DAMAGED_KEPT: usize = 2;
/// The default of [`Options::cache_bytes`].
pub const CACHE_BYTES_DEFAULT: u64 = 32 * 1024 * 1024;
/// The most that [`Options::cache_bytes`] may be.
pub const CACHE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// How long opening waits for the lock: a store closed a moment ago still holds it until its flusher has stopped.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(5);
const LOCK_WAIT_STEP: Duration = Duration::from_millis(10);
/// Flushing every 500 ms also runs the collection of dead segments; without it memory grows tenfold.
const FLUSH_EVERY_MS: u64 = 500;

/// First byte of our own rows.
const META: u8 = 0;
/// First byte of the caller's rows.
const DATA: u8 = 1;
const CRC_BYTES: usize = 4;

/// How the store is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The id of the journal that it folds.
    pub journal: [u8; 16],
    /// The last record of that journal: a store that is ahead of it is not trusted.
    pub journal_head: u64,
    /// What sled may cache; capped at [`CACHE_BYTES_MAX`]. It takes about 200 bytes per small row besides.
    pub cache_bytes: u64,
}

/// What opening found.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Store,
    /// The journal record that its rows are folded to. 0: it is empty.
    pub checkpoint: u64,
    /// Why the former store was moved aside, and where to. The caller fills this one from snapshot and journal.
    pub rebuilt: Option<Rebuilt>,
}

/// A store was moved aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// What was wrong with it.
    pub reason: String,
    /// Where it lies now.
    pub aside: PathBuf,
}

/// Rows to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Batch {
    /// Sets a row.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.changes.push((key.into(), Some(value.into())));
    }

    /// Deletes a row.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) {
        self.changes.push((key.into(), None));
    }

    /// How many changes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Bytes of its keys and values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.changes.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Adds the changes of a later batch behind these.
    pub fn extend(&mut self, later: Self) {
        self.changes.extend(later.changes);
    }
}

/// The size of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The caller's rows.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub live_bytes: u64,
    /// Bytes on the disk.
    pub disk_bytes: u64,
}

impl Stats {
    /// Whether it takes so much more room than its rows that it is better made again.
    #[must_use]
    pub fn is_bloated(&self) -> bool {
        /// sled settles at 2.8 to 3.0 times its live rows under overwriting; small stores have a fixed cost besides.
        const SLACK_BYTES: u64 = 64 * 1024 * 1024;
        self.disk_bytes > self.live_bytes.saturating_mul(3).saturating_add(SLACK_BYTES)
    }
}

/// The store. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    db: sled::Db,
    dir: PathBuf,
}

impl Store {
    /// Opens the store in `dir`, or makes it; moves one aside that cannot be trusted and makes a new one.
    ///
    /// Waits up to five seconds for the lock.
    ///
    /// # Errors
    /// [`Error::Locked`], or what the disk says. Damage is no error here, see [`Opened::rebuilt`].
    pub fn open(dir: &Path, options: &Options) -> Result<Opened, Error> {
        match try_open(dir, options) {
            Ok((store, checkpoint)) => Ok(Opened { store, checkpoint, rebuilt: None }),
            Err(Error::Damaged { reason, .. }) => Self::replace(dir, options, reason),
            Err(error) => Err(error),
        }
    }

    /// Moves this store aside and opens a new one: when a row turns out to be damaged, or it is bloated.
    ///
    /// Other clones keep working on the one that was moved; drop them.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn rebuild(self, options: &Options, reason: impl Into<String>) -> Result<Opened, Error> {
        let dir = self.dir.clone();
        drop(self);
        Self::replace(&dir, options, reason.into())
    }

    fn replace(dir: &Path, options: &Options, reason: String) -> Result<Opened, Error> {
        let aside = move_aside(dir)?;
        let (store, checkpoint) = try_open(dir, options)?;
        Ok(Opened { store, checkpoint, rebuilt: Some(Rebuilt { reason, aside }) })
    }

    /// Writes rows durably, and in the same stroke that they are folded to `checkpoint`: after a crash either all of it
    /// is there or nothing. Rows that speak of one another, such as a run's place and the count of its group, so never
    /// come from different records.
    ///
    /// Blocks; only the [`Checkpointer`]'s thread calls it while an engine runs.
    ///
    /// # Errors
    /// What the database or the disk says. The rows may be there or not then.
    ///
    /// # Source
    /// sled 0.34, `Tree::apply_batch`: recovery keeps a batch only where it finds the whole of it.
    pub fn apply(&self, batch: &Batch, checkpoint: u64) -> Result<(), Error> {
        let mut rows = Self::encoded(batch);
        rows.insert(meta_key("checkpoint"), with_crc(b"checkpoint", &checkpoint.to_le_bytes()));
        self.commit(rows)
    }

    /// Writes rows durably that say nothing of the state: it stays folded to where it was.
    ///
    /// # Errors
    /// What the database or the disk says. The rows may be there or not then.
    pub fn put(&self, batch: &Batch) -> Result<(), Error> {
        self.commit(Self::encoded(batch))
    }

    fn encoded(batch: &Batch) -> sled::Batch {
        let mut rows = sled::Batch::default();
        for (key, value) in &batch.changes {
            match value {
                Some(value) => rows.insert(data_key(key), with_crc(key, value)),
                None => rows.remove(data_key(key)),
            }
        }
        rows
    }

    /// Applies a batch, flushes, and makes it durable: sled's own flush on Linux is no fsync.
    fn commit(&self, batch: sled::Batch) -> Result<(), Error> {
        self.guarded("write to", || {
            self.db.apply_batch(batch)?;
            self.db.flush()
        })?;
        let file = self.dir.join("db");
        File::open(&file).and_then(|db| db.sync_data()).map_err(io("flush", &file))
    }

    /// The value of a row.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the row is not what was written; else what the database says.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let row = self.guarded("read from", || self.db.get(data_key(key)))?;
        row.map(|row| self.checked(key, &row).map(<[u8]>::to_vec)).transpose()
    }

    /// Hands all rows whose keys begin with `prefix` to `see`, in the order of their keys; returns how many.
    ///
    /// # Errors
    /// [`Error::Damaged`] at the first row that is not what was written; else what the database says.
    pub fn load(&self, prefix: &[u8], mut see: impl FnMut(&[u8], &[u8])) -> Result<u64, Error> {
        let mut rows = self.db.scan_prefix(data_key(prefix));
        let mut count = 0;
        loop {
            let row = self.guarded("read from", || rows.next().transpose())?;
            let Some((key, value)) = row else { return Ok(count) };
            let key = &key[1..];
            see(key, self.checked(key, &value)?);
            count += 1;
        }
    }

    /// Counts rows and bytes by reading all of it.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub fn stats(&self) -> Result<Stats, Error> {
        let mut stats = Stats::default();
        stats.rows = self.load(&[], |key, value| {
            stats.live_bytes += crate::disk::widen(key.len() + value.len());
        })?;
        stats.disk_bytes = self.size_on_disk()?;
        Ok(stats)
    }

    /// Bytes on the disk.
    ///
    /// # Errors
    /// What the database says.
    pub fn size_on_disk(&self) -> Result<u64, Error> {
        self.guarded("measure", || self.db.size_on_disk())
    }

    fn checked<'a>(&self, key: &[u8], row: &'a [u8]) -> Result<&'a [u8], Error> {
        let split = row.split_at_checked(CRC_BYTES);
        let sound = split.filter(|(crc, value)| *crc == crc_of(key, value).to_le_bytes());
        sound.map(|(_, value)| value).ok_or_else(|| self.damaged("a row does not match its checksum"))
    }

    fn damaged(&self, reason: &str) -> Error {
        Error::Damaged { path: self.dir.clone(), reason: reason.to_owned() }
    }

    /// Runs an act of sled's and turns its panics, with which it answers corruption, into damage.
    fn guarded<T>(&self, attempt: &'static str, act: impl FnOnce() -> sled::Result<T>) -> Result<T, Error> {
        guarded(&self.dir, attempt, act)
    }

    fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let row = self.guarded("read from", || self.db.get(meta_key(name)))?;
        row.map(|row| self.checked(name.as_bytes(), &row).map(<[u8]>::to_vec)).transpose()
    }

    /// The checkpoint of a store that is what it claims to be.
    fn check(&self, options: &Options) -> Result<u64, Error> {
        let (journal, checkpoint) = (self.meta("journal")?, self.meta("checkpoint")?);
        let (Some(journal), Some(checkpoint)) = (journal, checkpoint) else {
            if self.guarded("read from", || self.db.first())?.is_none_or(|(key, _)| key.first() == Some(&META)) {
                return self.begin(options);
            }
            return Err(self.damaged("it has rows but does not say what they were folded from"));
        };
        if journal != options.journal {
            return Err(self.damaged("it was folded from another journal"));
        }
        let checkpoint: [u8; 8] = checkpoint.try_into().map_err(|_| self.damaged("its checkpoint is no number"))?;
        let checkpoint = u64::from_le_bytes(checkpoint);
        if checkpoint > options.journal_head {
            let head = options.journal_head;
            return Err(self.damaged(&format!("it was folded to record {checkpoint}, yet the journal ends at {head}")));
        }
        Ok(checkpoint)
    }

    fn begin(&self, options: &Options) -> Result<u64, Error> {
        let mut meta = sled::Batch::default();
        meta.insert(meta_key("journal"), with_crc(b"journal", &options.journal));
        meta.insert(meta_key("checkpoint"), with_crc(b"checkpoint", &0_u64.to_le_bytes()));
        self.commit(meta)?;
        Ok(0)
    }
}

fn try_open(dir: &Path, options: &Options) -> Result<(Store, u64), Error> {
    let config = sled::Config::default()
        .path(dir)
        .mode(sled::Mode::HighThroughput)
        .cache_capacity(options.cache_bytes.min(CACHE_BYTES_MAX))
        .flush_every_ms(Some(FLUSH_EVERY_MS));
    let deadline = Instant::now() + LOCK_WAIT_MAX;
    let db = loop {
        match guarded(dir, "open", || config.open()) {
            Err(Error::Database { source, .. }) if is_locked(&source) => {
                if Instant::now() >= deadline {
                    return Err(Error::Locked { path: dir.to_owned() });
                }
                std::thread::sleep(LOCK_WAIT_STEP);
            }
            // What it cannot read or understand while it opens can only be made again.
            Err(Error::Database {
                source: source @ (sled::Error::Unsupported(_) | sled::Error::ReportableBug(_)),
                ..
            }) => {
                return Err(Error::Damaged { path: dir.to_owned(), reason: source.to_string() });
            }
            Err(Error::Database { source: sled::Error::Io(source), .. }) if is_content(&source) => {
                return Err(Error::Damaged { path: dir.to_owned(), reason: source.to_string() });
            }
            opened => break opened?,
        }
    };
    let store = Store { db, dir: dir.to_owned() };
    let checkpoint = store.check(options)?;
    Ok((store, checkpoint))
}

fn is_locked(error: &sled::Error) -> bool {
    // sled wraps the kind of the error into a text.
    matches!(error, sled::Error::Io(source) if source.to_string().contains("could not acquire lock"))
}

/// Whether an IO error of sled's speaks of what is in its files, as opposed to a disk or a permission.
fn is_content(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::Other
    )
}

fn guarded<T>(dir: &Path, attempt: &'static str, act: impl FnOnce() -> sled::Result<T>) -> Result<T, Error> {
    // Sound to go on after an unwind: a store that panicked is moved aside and not used again.
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(sled::Error::Corruption { at, .. })) => {
            Err(Error::Damaged { path: dir.to_owned(), reason: format!("sled found corruption at {at:?}") })
        }
        Ok(Err(source)) => Err(Error::Database { attempt, path: dir.to_owned(), source }),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message");
            Err(Error::Damaged { path: dir.to_owned(), reason: format!("sled panicked: {text}") })
        }
    }
}

/// Renames the store's directory to `store.damaged-N` and removes all but the newest [`DAMAGED_KEPT`] of them.
fn move_aside(dir: &Path) -> Result<PathBuf, Error> {
    let parent = dir.parent().unwrap_or(Path::new("."));
    let prefix = format!("{}.damaged-", dir.file_name().unwrap_or_default().to_string_lossy());
    let mut numbers: Vec<u64> = Vec::new();
    for entry in std::fs::read_dir(parent).map_err(io("list", parent))? {
        let name = entry.map_err(io("list", parent))?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.strip_prefix(&prefix)?.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    let place = |number: u64| parent.join(format!("{prefix}{number}"));
    let aside = place(numbers.last().map_or(1, |last| last.saturating_add(1)));
    std::fs::rename(dir, &aside).map_err(io("move aside", dir))?;
    let surplus = (numbers.len() + 1).saturating_sub(DAMAGED_KEPT);
    for number in &numbers[..surplus] {
        let path = place(*number);
        std::fs::remove_dir_all(&path).map_err(io("remove", &path))?;
    }
    Ok(aside)
}

fn io(attempt: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Io { attempt, path: path.to_owned(), source }
}

fn data_key(key: &[u8]) -> Vec<u8> {
    [&[DATA], key].concat()
}

fn meta_key(name: &str) -> Vec<u8> {
    [&[META], name.as_bytes()].concat()
}

/// Over the key too, so that a value that ended up under another key is noticed.
fn crc_of(key: &[u8], value: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(key);
    crc.update(value);
    crc.finalize()
}

fn with_crc(key: &[u8], value: &[u8]) -> Vec<u8> {
    [&crc_of(key, value).to_le_bytes(), value].concat()
}
