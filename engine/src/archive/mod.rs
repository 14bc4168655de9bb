//! The archive of finished runs: append-only files, looked up by location. Knows keys of 16 bytes and payloads.
//!
//! The index from key to location is the caller's, and can be made again by [`Archive::scan`].

mod frame;

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{Access, Disk, DiskFile, is_full, read_all, widen};
use frame::{FRAME_BYTES, HEADER_BYTES};

/// The version of the files' format.
pub const FORMAT_VERSION: u32 = 1;
/// How long a file gets before the next one begins.
pub const FILE_BYTES_DEFAULT: u64 = 64 * 1024 * 1024;
/// The longest payload.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// So much is gathered for one write.
const WRITE_BYTES: usize = 1 << 20;

/// Why the archive refuses.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No room. Nothing of the batch is in the archive; the same append may succeed later.
    #[error("no room for the archive on {}", path.display())]
    DiskFull {
        /// The file that was written.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
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
    /// An entry is not what it was.
    #[error("archive file {} is damaged at byte {offset}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// The file of this location was removed by retention.
    #[error("archive file {} was removed by retention", path.display())]
    Pruned {
        /// The file.
        path: PathBuf,
    },
    /// A payload is longer than [`PAYLOAD_BYTES_MAX`].
    #[error("an archive entry of {bytes} bytes is too long, the limit is {PAYLOAD_BYTES_MAX}")]
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
            Self::DiskFull { .. } => "E0411",
            Self::Io { .. } => "E0441",
            Self::Damaged { .. } => "E0440",
            Self::Pruned { .. } => "E0442",
            Self::TooLong { .. } => "E0443",
        }
    }
}

/// Where an entry lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// The number of the file.
    pub file: u32,
    /// Length of the payload.
    pub bytes: u32,
    /// Where in the file its frame begins.
    pub offset: u64,
}

impl Location {
    /// As a row of an index.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&self.file.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[8..].copy_from_slice(&self.offset.to_le_bytes());
        bytes
    }

    /// Back from a row; none where it has another length.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; 16] = bytes.try_into().ok()?;
        let (file, rest) = bytes.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        Some(Self {
            file: u32::from_le_bytes(*file),
            bytes: u32::from_le_bytes(*length),
            offset: u64::from_le_bytes(rest.try_into().ok()?),
        })
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The run's id.
    pub key: [u8; 16],
    /// What is kept of it.
    pub payload: Vec<u8>,
}

/// A file, as retention judges it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Its number; later ones are higher.
    pub number: u32,
    /// Its length.
    pub bytes: u64,
    /// When its last entry was written, in milliseconds since 1970 UTC.
    pub modified_utc_ms: u64,
}

/// Writes a batch behind what there is; gives where its entries lie, and where it ends. Small entries go together, large
/// ones from where they are: a copy of the history of a hundred thousand items would be the most that the engine holds.
fn write<F: DiskFile>(active: &mut Active<F>, batch: &[Entry]) -> io::Result<(Vec<Location>, u64)> {
    let mut locations = Vec::with_capacity(batch.len());
    let (mut buffer, mut written) = (Vec::new(), active.end);
    for (index, entry) in batch.iter().enumerate() {
        let left = u32::try_from(batch.len() - index - 1).unwrap_or(u32::MAX);
        let bytes = u32::try_from(entry.payload.len()).unwrap_or(u32::MAX);
        locations.push(Location { file: active.number, bytes, offset: written + widen(buffer.len()) });
        buffer.extend_from_slice(&frame::head(active.batch_next, left, &entry.key, &entry.payload));
        let large = entry.payload.len() >= WRITE_BYTES;
        if !large {
            buffer.extend_from_slice(&entry.payload);
        }
        if large || buffer.len() >= WRITE_BYTES {
            active.file.write_all_at(&buffer, written)?;
            written += widen(buffer.len());
            buffer.clear();
        }
        if large {
            active.file.write_all_at(&entry.payload, written)?;
            written += widen(entry.payload.len());
        }
    }
    active.file.write_all_at(&buffer, written)?;
    Ok((locations, written + widen(buffer.len())))
}

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// A batch that was cut off: it was never acknowledged.
    pub repaired: Option<String>,
    /// Damage in the newest file. The file stays as it is, its sound entries can be read, and a new one was begun.
    pub problem: Option<String>,
}

/// The archive.
#[derive(Debug)]
pub struct Archive<D: Disk> {
    disk: D,
    dir: PathBuf,
    file_bytes: u64,
    /// The file that takes the next batch: made with the first one, so that an unused archive has no files.
    active: Option<Active<D::File>>,
    number_next: u32,
}

#[derive(Debug)]
struct Active<F> {
    file: F,
    path: PathBuf,
    number: u32,
    end: u64,
    batch_next: u32,
}

impl<D: Disk> Archive<D> {
    /// Opens or makes the archive in `dir`; a new file begins when one is longer than `file_bytes`.
    ///
    /// # Errors
    /// What the disk says. Damage is no error here: it must not stop the engine.
    pub fn open(disk: D, dir: &Path, file_bytes: u64) -> Result<(Self, Opened), Error> {
        disk.create_dir_all(dir).map_err(failed("create", dir))?;
        let mut archive = Self { disk, dir: dir.to_owned(), file_bytes, active: None, number_next: 1 };
        let mut opened = Opened::default();
        if let Some(number) = archive.numbers()?.last().copied() {
            archive.number_next = number.saturating_add(1);
            let path = archive.path_of(number);
            let mut file = archive.disk.open(&path, Access::Write).map_err(failed("open", &path))?;
            let bytes = read_all(&file).map_err(failed("read", &path))?;
            let tail = judge(&bytes, number);
            match tail {
                Tail::Damaged { offset, reason } => {
                    opened.problem = Some(Error::Damaged { path, offset, reason }.to_string());
                }
                Tail::Sound { end, batch_next } => {
                    let length = widen(bytes.len());
                    if end < length {
                        file.set_len(end).and_then(|()| file.sync_data()).map_err(failed("cut", &path))?;
                        let cut = length - end;
                        opened.repaired =
                            Some(format!("cut off {cut} bytes of an unfinished batch in {}", path.display()));
                    }
                    archive.active = Some(Active { file, path, number, end, batch_next });
                }
            }
        }
        Ok((archive, opened))
    }

    /// The archive in `dir` for reading only, also while an engine writes it: nothing is made, cut or repaired.
    #[must_use]
    pub fn inspect(disk: D, dir: &Path) -> Self {
        Self { disk, dir: dir.to_owned(), file_bytes: 0, active: None, number_next: u32::MAX }
    }

    /// Appends a batch, all of it or nothing, and makes it durable. Locations are in the order of the batch.
    ///
    /// # Errors
    /// [`Error::DiskFull`], [`Error::Io`] or [`Error::TooLong`]. After a failed flush the next append begins a new
    /// file, so the batch may be appended again; it may then lie in the archive twice.
    pub fn append(&mut self, batch: &[Entry]) -> Result<Vec<Location>, Error> {
        if let Some(entry) = batch.iter().find(|entry| entry.payload.len() > PAYLOAD_BYTES_MAX) {
            return Err(Error::TooLong { bytes: entry.payload.len() });
        }
        let mut active = match self.active.take() {
            Some(active) if active.end < self.file_bytes && active.batch_next < u32::MAX => active,
            Some(_) | None => self.begin()?,
        };
        let (locations, end) = match write(&mut active, batch) {
            Ok(written) => written,
            Err(source) => {
                let path = active.path.clone();
                // Where even this fails, the file is left to the next opening, which cuts it, and a new one is begun.
                if active.file.set_len(active.end).is_ok() {
                    self.active = Some(active);
                }
                return Err(refused("write", path, source));
            }
        };
        // After a failed flush nobody knows what is in the file: it is not written again.
        active.file.sync_data().map_err(|source| refused("flush", active.path.clone(), source))?;
        active.end = end;
        active.batch_next += 1;
        self.active = Some(active);
        Ok(locations)
    }

    /// The entry at a location.
    ///
    /// # Errors
    /// [`Error::Pruned`], [`Error::Damaged`], or what the disk says.
    pub fn get(&self, location: Location) -> Result<Entry, Error> {
        let path = self.path_of(location.file);
        let file = match self.disk.open(&path, Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Error::Pruned { path }),
            Err(source) => return Err(failed("open", &path)(source)),
        };
        let damaged =
            |reason: &str| Error::Damaged { path: path.clone(), offset: location.offset, reason: reason.to_owned() };
        let length = usize::try_from(location.bytes).ok().filter(|length| *length <= PAYLOAD_BYTES_MAX);
        let length = length.ok_or_else(|| damaged("its location is beyond the limit"))?;
        let mut bytes = vec![0; FRAME_BYTES + length];
        let read = file.read_at(&mut bytes, location.offset).map_err(failed("read", &path))?;
        let frame = frame::parse(&bytes[..read]).filter(|frame| frame.payload.len() == length);
        let frame = frame.ok_or_else(|| damaged("there is no sound entry"))?;
        Ok(Entry { key: frame.key, payload: frame.payload.to_vec() })
    }

    /// Hands every sound entry to `see`, oldest first, and returns what is damaged, each as a sentence.
    ///
    /// # Errors
    /// What the disk says.
    pub fn scan(&self, mut see: impl FnMut(Location, &[u8; 16], &[u8])) -> Result<Vec<String>, Error> {
        let mut problems = Vec::new();
        for number in self.numbers()? {
            let path = self.path_of(number);
            let file = self.disk.open(&path, Access::Read).map_err(failed("open", &path))?;
            let bytes = read_all(&file).map_err(failed("read", &path))?;
            let mut problem = |offset: usize, reason: String| {
                problems.push(Error::Damaged { path: path.clone(), offset: widen(offset), reason }.to_string());
            };
            if let Err(reason) = frame::check_header(&bytes, number) {
                problem(0, reason);
            }
            let mut at = HEADER_BYTES;
            while at < bytes.len() {
                if let Some(found) = frame::parse(&bytes[at..]) {
                    let length = u32::try_from(found.payload.len()).unwrap_or(u32::MAX);
                    see(Location { file: number, bytes: length, offset: widen(at) }, &found.key, found.payload);
                    at += found.bytes;
                } else {
                    let next = frame::find(&bytes, at + 1).unwrap_or(bytes.len());
                    problem(at, format!("{} bytes are no entry", next - at));
                    at = next;
                }
            }
        }
        Ok(problems)
    }

    /// Its files, oldest first.
    ///
    /// # Errors
    /// What the disk says.
    pub fn files(&self) -> Result<Vec<FileInfo>, Error> {
        let info = |number| {
            let path = self.path_of(number);
            let stat = self.disk.stat(&path).map_err(failed("look at", &path))?;
            Ok(FileInfo { number, bytes: stat.bytes, modified_utc_ms: stat.modified_utc_ms })
        };
        self.numbers()?.into_iter().map(info).collect()
    }

    /// Removes the files that `keep` does not want and returns their numbers. The newest one always stays.
    ///
    /// # Errors
    /// What the disk says; files before the one that failed are gone then.
    pub fn prune(&mut self, keep: impl Fn(&FileInfo) -> bool) -> Result<Vec<u32>, Error> {
        let mut files = self.files()?;
        // It carries the number that the next one counts from, so that no number is used twice.
        files.pop();
        let mut removed = Vec::new();
        for info in files {
            if !keep(&info) {
                let path = self.path_of(info.number);
                self.disk.remove(&path).map_err(failed("remove", &path))?;
                removed.push(info.number);
            }
        }
        self.disk.sync_dir(&self.dir).map_err(failed("flush", &self.dir))?;
        Ok(removed)
    }

    fn begin(&mut self) -> Result<Active<D::File>, Error> {
        let number = self.number_next;
        let path = self.path_of(number);
        let draft = path.with_extension("tmp");
        let begun = (|| {
            let mut file = self.disk.create(&draft)?;
            file.write_all_at(&frame::header(number), 0)?;
            file.sync_data()?;
            self.disk.rename(&draft, &path)?;
            self.disk.sync_dir(&self.dir)?;
            Ok(file)
        })();
        let file = begun.map_err(|source| refused("begin", path.clone(), source))?;
        // Numbers are never used twice, so an index row never points into another file than it was made for.
        self.number_next = number.saturating_add(1);
        Ok(Active { file, path, number, end: widen(HEADER_BYTES), batch_next: 1 })
    }

    fn numbers(&self) -> Result<Vec<u32>, Error> {
        let names = self.disk.list(&self.dir).map_err(failed("list", &self.dir))?;
        let number_of = |name: &String| name.strip_suffix(".arc")?.parse().ok();
        let mut numbers: Vec<u32> = names.iter().filter_map(number_of).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn path_of(&self, number: u32) -> PathBuf {
        self.dir.join(format!("{number:08}.arc"))
    }
}

#[derive(Debug)]
enum Tail {
    Sound { end: u64, batch_next: u32 },
    Damaged { offset: u64, reason: String },
}

/// Finds the end of the last whole batch.
///
/// Only one batch is ever unflushed, but a crash may keep any of its sectors, so valid entries of that batch behind an
/// invalid place are no sign of damage; an entry of a later batch is.
fn judge(bytes: &[u8], number: u32) -> Tail {
    if let Err(reason) = frame::check_header(bytes, number) {
        return Tail::Damaged { offset: 0, reason };
    }
    let (mut at, mut end, mut batch_next) = (HEADER_BYTES, HEADER_BYTES, 1);
    while let Some(found) = frame::parse(&bytes[at..]) {
        at += found.bytes;
        if found.left == 0 {
            end = at;
            batch_next = found.batch.saturating_add(1);
        }
    }
    let mut from = at;
    while let Some(later) = frame::find(bytes, from) {
        let found = frame::parse(&bytes[later..]);
        if found.is_some_and(|found| found.batch > batch_next) {
            let reason = "an entry is not what it was, yet later ones follow".to_owned();
            return Tail::Damaged { offset: widen(at), reason };
        }
        from = later + 1;
    }
    Tail::Sound { end: widen(end), batch_next }
}

fn failed(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { attempt, path: path.to_owned(), source }
}

fn refused(attempt: &'static str, path: PathBuf, source: io::Error) -> Error {
    if is_full(&source) { Error::DiskFull { path, source } } else { Error::Io { attempt, path, source } }
}
