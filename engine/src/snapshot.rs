//! Snapshot files: all rows of a state at one place of the journal, checksummed as a whole.
//!
//! ```text
//! magic 8 | format 4 | semantics 4 | journal id 16 | seq 8 | chain hash 32
//! rows: key length 4 | value length 4 | key | value
//! end:  ff ff ff ff | count of rows 8 | SHA-256 of all before it 32
//! ```

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::disk::{Access, Disk, DiskFile, read_all, widen};
use crate::journal::{ChainHash, Head};

/// How many snapshots are kept: the newest, and one to fall back on.
pub const KEPT: usize = 2;
/// The longest key or value of a row.
pub const FIELD_BYTES_MAX: usize = 64 * 1024 * 1024;

const MAGIC: &[u8; 8] = b"PLOOMSNP";
const FORMAT_VERSION: u32 = 1;
const HEADER_BYTES: usize = 72;
const FOOTER_BYTES: usize = 44;
const END_MARK: u32 = u32::MAX;
/// Rows are written in pieces of about this size.
const BUFFER_BYTES: usize = 256 * 1024;

/// Why a snapshot cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk refused.
    #[error("cannot {attempt} {}", path.display())]
    Io {
        /// What was tried.
        attempt: &'static str,
        /// On what.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
    /// The content is not what was written.
    #[error("snapshot {} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// Written by a newer engine.
    #[error("snapshot {} has {what} version {found}, this engine knows {supported}: use the engine that wrote it", path.display())]
    UnknownVersion {
        /// The file.
        path: PathBuf,
        /// Format or semantics.
        what: &'static str,
        /// Its version.
        found: u32,
        /// The newest that is known.
        supported: u32,
    },
    /// A key or a value is longer than [`FIELD_BYTES_MAX`].
    #[error("a snapshot row of {bytes} bytes is too long, the limit is {FIELD_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

impl Error {
    /// Its code in the error reference.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "E0421",
            Self::Damaged { .. } => "E0420",
            Self::UnknownVersion { .. } => "E0415",
            Self::TooLong { .. } => "E0422",
        }
    }
}

/// What a snapshot is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// The version of the semantics that the state was folded under.
    pub semantics: u32,
    /// The journal's id.
    pub journal: [u8; 16],
    /// The last record that was folded in, and its link of the chain.
    pub head: Head,
}

/// A snapshot whose every byte was checked.
#[derive(Debug)]
pub struct Snapshot {
    /// What it is of.
    pub about: About,
    /// How many rows it has.
    pub row_count: u64,
    /// The file.
    pub path: PathBuf,
    content: Vec<u8>,
}

/// The best snapshot there is.
#[derive(Debug, Default)]
pub struct Latest {
    /// The newest that is sound.
    pub snapshot: Option<Snapshot>,
    /// Newer ones that are not, each with the reason.
    pub skipped: Vec<String>,
}

/// The directory of snapshots.
#[derive(Clone, Debug)]
pub struct Snapshots<D: Disk> {
    disk: D,
    dir: PathBuf,
    semantics_max: u32,
}

impl<D: Disk> Snapshots<D> {
    /// The snapshots in `dir`, which is made where it is missing. Those of semantics beyond `semantics_max` are refused.
    ///
    /// # Errors
    /// What the disk says.
    pub fn open(disk: D, dir: &Path, semantics_max: u32) -> Result<Self, Error> {
        disk.create_dir_all(dir).map_err(failed("create", dir))?;
        Ok(Self { disk, dir: dir.to_owned(), semantics_max })
    }

    /// Writes a snapshot and removes all but the newest [`KEPT`].
    ///
    /// # Errors
    /// What the disk says, or a row that is too long. The older snapshots are untouched then.
    /// # Durability
    /// When it returns `Ok`, the snapshot survives the loss of power.
    pub fn write<K, V>(&self, about: &About, rows: impl IntoIterator<Item = (K, V)>) -> Result<PathBuf, Error>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        let path = self.path_of(about.head.seq);
        let draft = path.with_extension("tmp");
        let written = self.write_draft(&draft, about, rows);
        if let Err(error) = written {
            // Best effort: a draft is never read, but it takes room.
            let _ = self.disk.remove(&draft);
            return Err(error);
        }
        self.disk.rename(&draft, &path).map_err(failed("rename to", &path))?;
        self.disk.sync_dir(&self.dir).map_err(failed("flush", &self.dir))?;
        self.prune()?;
        Ok(path)
    }

    /// The newest snapshot that is sound, and which ones are not.
    ///
    /// # Errors
    /// What the disk says, and [`Error::UnknownVersion`]: an older snapshot in place of one from a newer engine would
    /// hide that this engine must not lead.
    pub fn latest_valid(&self) -> Result<Latest, Error> {
        let mut latest = Latest::default();
        for seq in self.list()?.into_iter().rev() {
            match self.read(&self.path_of(seq)) {
                Ok(snapshot) => {
                    latest.snapshot = Some(snapshot);
                    break;
                }
                Err(error @ Error::Damaged { .. }) => latest.skipped.push(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        Ok(latest)
    }

    /// The snapshot of `seq`.
    ///
    /// # Errors
    /// As [`Snapshots::latest_valid`]; [`Error::Damaged`] where it is not sound.
    pub fn get(&self, seq: u64) -> Result<Snapshot, Error> {
        self.read(&self.path_of(seq))
    }

    /// The oldest snapshot that is sound.
    ///
    /// # Errors
    /// What the disk says, and [`Error::UnknownVersion`].
    pub fn oldest_valid(&self) -> Result<Option<Snapshot>, Error> {
        for seq in self.list()? {
            match self.read(&self.path_of(seq)) {
                Ok(snapshot) => return Ok(Some(snapshot)),
                Err(Error::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The sequence numbers that there are snapshots of, in order, sound or not. The journal is needed from the first on.
    ///
    /// # Errors
    /// What the disk says.
    pub fn list(&self) -> Result<Vec<u64>, Error> {
        let names = self.disk.list(&self.dir).map_err(failed("list", &self.dir))?;
        Ok(names.iter().filter_map(|name| seq_of(name)).collect())
    }

    /// Where the snapshot of `seq` lies.
    pub(crate) fn path_of(&self, seq: u64) -> PathBuf {
        self.dir.join(name_of(seq))
    }

    fn write_draft<K, V>(
        &self,
        draft: &Path,
        about: &About,
        rows: impl IntoIterator<Item = (K, V)>,
    ) -> Result<(), Error>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        let file = self.disk.create(draft).map_err(failed("create", draft))?;
        let mut writer = Writer { file, end: 0, buffer: Vec::new(), hasher: Sha256::new() };
        writer.buffer.extend_from_slice(MAGIC);
        writer.buffer.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        writer.buffer.extend_from_slice(&about.semantics.to_le_bytes());
        writer.buffer.extend_from_slice(&about.journal);
        writer.buffer.extend_from_slice(&about.head.seq.to_le_bytes());
        writer.buffer.extend_from_slice(&about.head.hash.0);
        let mut count = 0_u64;
        for (key, value) in rows {
            let (key, value) = (key.as_ref(), value.as_ref());
            for field in [key, value] {
                let length = u32::try_from(field.len()).ok().filter(|_| field.len() <= FIELD_BYTES_MAX);
                let length = length.ok_or(Error::TooLong { bytes: field.len() })?;
                writer.buffer.extend_from_slice(&length.to_le_bytes());
            }
            writer.buffer.extend_from_slice(key);
            writer.buffer.extend_from_slice(value);
            count += 1;
            if writer.buffer.len() >= BUFFER_BYTES {
                writer.spill().map_err(failed("write", draft))?;
            }
        }
        writer.finish(count).map_err(failed("write", draft))
    }

    fn read(&self, path: &Path) -> Result<Snapshot, Error> {
        let file = self.disk.open(path, Access::Read).map_err(failed("open", path))?;
        let content = read_all(&file).map_err(failed("read", path))?;
        let damaged = |reason| Error::Damaged { path: path.to_owned(), reason };
        let body = content.len().checked_sub(FOOTER_BYTES).filter(|body| *body >= HEADER_BYTES);
        let body = body.ok_or_else(|| damaged("it is shorter than its header and footer"))?;
        if !content.starts_with(MAGIC) {
            return Err(damaged("it does not begin as a snapshot"));
        }
        let digest: [u8; 32] = Sha256::digest(&content[..body + 12]).into();
        if digest != array_at::<32>(&content, body + 12) {
            return Err(damaged("its checksum does not match"));
        }
        let (format, semantics) = (u32_at(&content, 8), u32_at(&content, 12));
        for (what, found, supported) in
            [("format", format, FORMAT_VERSION), ("semantics", semantics, self.semantics_max)]
        {
            if found > supported {
                return Err(Error::UnknownVersion { path: path.to_owned(), what, found, supported });
            }
        }
        let head = Head { seq: u64_at(&content, 32), hash: ChainHash(array_at(&content, 40)) };
        let about = About { semantics, journal: array_at(&content, 16), head };
        let row_count = u64_at(&content, body + 4);
        let snapshot = Snapshot { about, row_count, path: path.to_owned(), content };
        // Under a checksum that matches, rows that do not add up can only come from a mistake of the writer's.
        if widen(snapshot.rows().count()) != row_count {
            return Err(damaged("its rows do not add up"));
        }
        Ok(snapshot)
    }

    fn prune(&self) -> Result<(), Error> {
        let seqs = self.list()?;
        for seq in &seqs[..seqs.len().saturating_sub(KEPT)] {
            let path = self.path_of(*seq);
            self.disk.remove(&path).map_err(failed("remove", &path))?;
        }
        for name in self.disk.list(&self.dir).map_err(failed("list", &self.dir))? {
            if name.ends_with(".tmp") {
                let path = self.dir.join(name);
                self.disk.remove(&path).map_err(failed("remove", &path))?;
            }
        }
        Ok(())
    }
}

impl Snapshot {
    /// Its rows, in the order they were written.
    pub fn rows(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = &self.content[HEADER_BYTES..];
        std::iter::from_fn(move || {
            let key_bytes = usize::try_from(u32_at(rest.get(..8)?, 0)).ok()?;
            if u32_at(rest, 0) == END_MARK {
                return None;
            }
            let value_bytes = usize::try_from(u32_at(rest, 4)).ok()?;
            let (key, behind) = rest[8..].split_at_checked(key_bytes)?;
            let (value, behind) = behind.split_at_checked(value_bytes)?;
            rest = behind;
            Some((key, value))
        })
    }
}

struct Writer<F> {
    file: F,
    end: u64,
    buffer: Vec<u8>,
    hasher: Sha256,
}

impl<F: DiskFile> Writer<F> {
    fn spill(&mut self) -> io::Result<()> {
        self.hasher.update(&self.buffer);
        self.file.write_all_at(&self.buffer, self.end)?;
        self.end += widen(self.buffer.len());
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self, count: u64) -> io::Result<()> {
        self.buffer.extend_from_slice(&END_MARK.to_le_bytes());
        self.buffer.extend_from_slice(&count.to_le_bytes());
        self.spill()?;
        let digest: [u8; 32] = self.hasher.finalize().into();
        self.file.write_all_at(&digest, self.end)?;
        self.file.sync_data()
    }
}

/// The name of a snapshot's file.
pub(crate) fn name_of(seq: u64) -> String {
    format!("{seq:020}.snap")
}

/// Which snapshot a file is, where it is one.
pub(crate) fn seq_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".snap")?;
    (digits.len() == 20).then(|| digits.parse().ok())?
}

fn failed(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { attempt, path: path.to_owned(), source }
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the slice has the length of the array")
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}
