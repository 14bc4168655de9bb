//! The journal on a disk, without threads: opening, repair, appending, trimming.
//!
//! [`super::EmbeddedJournal`] runs it on a thread over real files, the simulated journal runs it in place.

use std::path::{Path, PathBuf};

use super::frame::{self, HEADER_BYTES, Header};
use super::segment::{self, Reader, Segment, io};
use super::{AppendError, Appended, Error, Head, RECORD_BYTES_MAX, SEGMENT_BYTES_DEFAULT};
use crate::disk::{Access, Disk, DiskFile, is_full, read_all, widen};

/// How a journal is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The version of the semantics that new records are written under; older ones can be read.
    pub semantics: u32,
    /// The id of the journal, where this opening makes it.
    pub id_if_new: [u8; 16],
    /// How long a segment gets before the next one begins, in bytes. At least that of a header.
    pub segment_bytes: u64,
    /// Whether segments are filled with zeros before use: overwriting written blocks makes a flush a third cheaper,
    /// and room for the coming records is known to be there.
    pub prefill: bool,
    /// What the first record follows, where this opening makes the journal: nothing, or the record of a snapshot.
    pub begins_after: Head,
    /// Whether an append waits until its record is durable. A copy of a journal that is durable elsewhere need not.
    pub durable: bool,
}

impl Options {
    /// What the product uses.
    #[must_use]
    pub fn new(semantics: u32) -> Self {
        let id_if_new = uuid::Uuid::now_v7().into_bytes();
        Self {
            semantics,
            id_if_new,
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            prefill: true,
            begins_after: Head::default(),
            durable: true,
        }
    }
}

/// What opening found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The journal's id.
    pub id: [u8; 16],
    /// Where it ends.
    pub head: Head,
    /// The first record that can be read; one behind the head where there is none.
    pub first: u64,
    /// Whether this opening made it.
    pub created: bool,
    /// What was cut off: an unfinished record that was never acknowledged.
    pub repaired: Option<String>,
}

/// The size of a journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Its segment files.
    pub segments: u64,
    /// Records that can be read.
    pub records: u64,
    /// Bytes on the disk, those filled with zeros for coming records among them.
    pub bytes: u64,
    /// The first record that can be read; one behind the head where there is none.
    pub first: u64,
    /// The last record.
    pub last: u64,
}

/// The journal on a disk.
#[derive(Debug)]
pub(crate) struct Log<D: Disk> {
    disk: D,
    dir: PathBuf,
    options: Options,
    /// In order; the last one takes the records.
    segments: Vec<Segment>,
    file: D::File,
    end: u64,
    file_bytes: u64,
    head: Head,
    poisoned: Option<String>,
    /// A file filled with zeros, for the next segment.
    spare: Option<PathBuf>,
    buffer: Vec<u8>,
}

impl<D: Disk> Log<D> {
    pub(crate) fn open(disk: D, dir: &Path, options: Options) -> Result<(Self, Opened), Error> {
        disk.create_dir_all(dir).map_err(io("create", dir))?;
        // Unfinished segments hold no record yet.
        for name in disk.list(dir).map_err(io("list", dir))?.iter().filter(|name| name.ends_with(".tmp")) {
            let path = dir.join(name);
            disk.remove(&path).map_err(io("remove", &path))?;
        }
        let mut segments = segment::list(&disk, dir, options.semantics)?;
        let created = segments.is_empty();
        if created {
            let header = Header {
                semantics: options.semantics,
                journal: options.id_if_new,
                seq_first: options.begins_after.seq + 1,
                hash_before: options.begins_after.hash,
            };
            let spare = dir.join("first.tmp");
            if options.prefill {
                prefill(&disk, &spare, options.segment_bytes, &|| false).map_err(io("fill", &spare))?;
            }
            let spare = options.prefill.then_some(spare);
            segments.push(begin(&disk, dir, header, spare).map_err(BeginError::into_open)?.0);
        }
        let last = segments.last().expect("there is a segment, or one was just made").clone();
        let mut file = disk.open(&last.path, Access::Write).map_err(io("open", &last.path))?;
        let bytes = read_all(&file).map_err(io("read", &last.path))?;
        let scan = segment::scan(&last, &bytes)?;
        let end = widen(scan.end);
        let mut file_bytes = widen(bytes.len());
        if scan.torn.is_some() {
            // Cut, and durably so: the next record must not be read together with the rest of this one.
            file.set_len(end).map_err(io("cut", &last.path))?;
            file_bytes = end;
        }
        // The last record may be one that was never flushed, or whose flush failed: then reads show it, and no later
        // flush makes it durable. Nothing may build on it before it was written and flushed again.
        file.write_all_at(&bytes[scan.last..scan.end], widen(scan.last)).map_err(io("write", &last.path))?;
        file.sync_data().map_err(io("flush", &last.path))?;
        // The same holds for the name of the segment that it is in.
        disk.sync_dir(dir).map_err(io("flush", dir))?;
        let first = segments[0].header.seq_first;
        let opened = Opened { id: last.header.journal, head: scan.head, first, created, repaired: scan.torn };
        let (dir, head) = (dir.to_owned(), scan.head);
        let log = Self {
            disk,
            dir,
            options,
            segments,
            file,
            end,
            file_bytes,
            head,
            poisoned: None,
            spare: None,
            buffer: Vec::new(),
        };
        Ok((log, opened))
    }

    pub(crate) fn head(&self) -> Head {
        self.head
    }

    pub(crate) fn first(&self) -> u64 {
        self.segments[0].header.seq_first
    }

    pub(crate) fn reader(&self, seq: u64) -> Result<Reader<D>, Error> {
        Reader::new(self.disk.clone(), &self.segments, seq, self.head)
    }

    /// Whether a spare should be filled now, so that it is ready in time.
    pub(crate) fn wants_spare(&self) -> bool {
        self.options.prefill && self.spare.is_none() && self.end > self.options.segment_bytes / 4
    }

    pub(crate) fn take_spare(&mut self, path: PathBuf) {
        self.spare = Some(path);
    }

    /// The first record of the segment in use: its name.
    pub(crate) fn segment_seq(&self) -> u64 {
        self.active().header.seq_first
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// Appends a record that was written under these semantics.
    pub(crate) fn append_as(&mut self, payload: &[u8], semantics: u32) -> Result<Appended, AppendError> {
        self.options.semantics = semantics;
        self.append(payload)
    }

    /// Makes durable what was appended without.
    pub(crate) fn flush(&mut self) -> Result<(), AppendError> {
        if let Some(reason) = &self.poisoned {
            return Err(AppendError::Poisoned { reason: reason.clone() });
        }
        self.sync()
    }

    fn sync(&mut self) -> Result<(), AppendError> {
        self.file.sync_data().map_err(|error| {
            let reason = format!("cannot flush {}: {error}", self.active().path.display());
            self.poison(reason)
        })
    }

    /// Appends a record and flushes it.
    pub(crate) fn append(&mut self, payload: &[u8]) -> Result<Appended, AppendError> {
        if let Some(reason) = &self.poisoned {
            return Err(AppendError::Poisoned { reason: reason.clone() });
        }
        if payload.len() > RECORD_BYTES_MAX {
            return Err(AppendError::TooLong { bytes: payload.len(), limit: RECORD_BYTES_MAX });
        }
        let seq = self.head.seq + 1;
        let hash = self.head.hash.next(seq, payload);
        let mut buffer = std::mem::take(&mut self.buffer);
        frame::encode(&mut buffer, seq, &hash, payload);
        let result = self.append_frame(&buffer);
        // A rare giant must not pin its memory for good.
        buffer.shrink_to(1024 * 1024);
        self.buffer = buffer;
        result?;
        self.head = Head { seq, hash };
        Ok(Appended { seq, hash })
    }

    fn append_frame(&mut self, frame: &[u8]) -> Result<(), AppendError> {
        let length = widen(frame.len());
        let empty = self.end == widen(HEADER_BYTES);
        let semantics_old = self.active().header.semantics != self.options.semantics;
        // A record longer than a segment gets one of its own.
        if semantics_old || (!empty && self.end + length > self.options.segment_bytes) {
            self.rotate()?;
        }
        if let Err(source) = self.file.write_all_at(frame, self.end) {
            let path = self.active().path.clone();
            self.undo_write(length);
            return Err(refused(path, source));
        }
        if self.options.durable {
            self.sync()?;
        }
        self.end += length;
        self.file_bytes = self.file_bytes.max(self.end);
        Ok(())
    }

    fn active(&self) -> &Segment {
        self.segments.last().expect("a journal has at least one segment")
    }

    fn poison(&mut self, reason: String) -> AppendError {
        self.poisoned = Some(reason.clone());
        AppendError::Poisoned { reason }
    }

    /// Takes back what a refused write left, so that a refused record never comes back when the journal is opened.
    fn undo_write(&mut self, length: u64) {
        let inside = self.file_bytes.saturating_sub(self.end).min(length);
        let undone = self.file.set_len(self.file_bytes).and_then(|()| zero(&mut self.file, self.end, inside));
        if let Err(error) = undone {
            let path = self.active().path.display();
            self.poisoned = Some(format!("cannot take back an unfinished record in {path}: {error}"));
        }
    }

    /// Begins the next segment. On failure the current one stays in use.
    fn rotate(&mut self) -> Result<(), AppendError> {
        if !self.options.durable {
            // Later flushes reach only the segment in use.
            self.sync()?;
        }
        let header = Header {
            semantics: self.options.semantics,
            journal: self.active().header.journal,
            seq_first: self.head.seq + 1,
            hash_before: self.head.hash,
        };
        match begin(&self.disk, &self.dir, header, self.spare.take()) {
            Ok((segment, file, file_bytes)) => {
                if segment.path == self.active().path {
                    // The current one was empty and of older semantics: it is replaced under its own name.
                    self.segments.pop();
                }
                self.segments.push(segment);
                self.file = file;
                self.file_bytes = file_bytes;
                self.end = widen(HEADER_BYTES);
                Ok(())
            }
            Err(BeginError::NotBegun { path, source }) => Err(refused(path, source)),
            Err(BeginError::Unclear { path, source }) => {
                Err(self.poison(format!("cannot begin segment {}: {source}", path.display())))
            }
        }
    }

    /// Removes segments whose records are all before `seq`.
    pub(crate) fn trim_before(&mut self, seq: u64) -> Result<u64, Error> {
        // Oldest first: whenever this stops, what is left is without gaps.
        while self.segments.len() > 1 && self.segments[1].header.seq_first <= seq {
            let path = &self.segments[0].path;
            self.disk.remove(path).map_err(io("remove", path))?;
            self.segments.remove(0);
        }
        self.disk.sync_dir(&self.dir).map_err(io("flush", &self.dir))?;
        Ok(self.first())
    }

    pub(crate) fn stats(&self) -> Result<Stats, Error> {
        let mut stats = Stats { first: self.first(), last: self.head.seq, ..Stats::default() };
        for segment in &self.segments {
            stats.segments += 1;
            stats.bytes += self.disk.stat(&segment.path).map_err(io("look at", &segment.path))?.bytes;
        }
        stats.records = stats.last + 1 - stats.first;
        Ok(stats)
    }
}

fn refused(path: PathBuf, source: std::io::Error) -> AppendError {
    if is_full(&source) { AppendError::DiskFull { path, source } } else { AppendError::Io { path, source } }
}

enum BeginError {
    NotBegun { path: PathBuf, source: std::io::Error },
    Unclear { path: PathBuf, source: std::io::Error },
}

impl BeginError {
    fn into_open(self) -> Error {
        match self {
            Self::NotBegun { path, source } | Self::Unclear { path, source } => {
                Error::Io { attempt: "begin the journal segment", path, source }
            }
        }
    }
}

/// Makes a segment with a durable header, so that a segment file whose header is invalid is always damage.
fn begin<D: Disk>(
    disk: &D,
    dir: &Path,
    header: Header,
    spare: Option<PathBuf>,
) -> Result<(Segment, D::File, u64), BeginError> {
    let path = segment::path_of(dir, header.seq_first);
    let draft = spare.clone().unwrap_or_else(|| path.with_extension("tmp"));
    let written = (|| {
        let mut file = if spare.is_some() { disk.open(&draft, Access::Write)? } else { disk.create(&draft)? };
        file.write_all_at(&header.encode(), 0)?;
        file.sync_data()?;
        let bytes = file.bytes()?;
        disk.rename(&draft, &path)?;
        Ok((file, bytes))
    })();
    let (file, bytes) = match written {
        Ok(written) => written,
        Err(source) => {
            // Best effort: opening removes unfinished segments too.
            let _ = disk.remove(&draft);
            return Err(BeginError::NotBegun { path, source });
        }
    };
    match disk.sync_dir(dir) {
        Ok(()) => Ok((Segment { path, header }, file, bytes)),
        Err(source) => Err(BeginError::Unclear { path, source }),
    }
}

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

fn zero(file: &mut impl DiskFile, from: u64, length: u64) -> std::io::Result<()> {
    let mut done = 0;
    while done < length {
        let step = (length - done).min(widen(ZEROS.len()));
        let piece = usize::try_from(step).map_or(&ZEROS[..], |step| &ZEROS[..step]);
        file.write_all_at(piece, from + done)?;
        done += step;
    }
    Ok(())
}

/// Makes a file of durable zeros; gives up early when `stop` says so.
pub(crate) fn prefill<D: Disk>(disk: &D, path: &Path, bytes: u64, stop: &dyn Fn() -> bool) -> std::io::Result<()> {
    /// Small steps keep the flushes of records from waiting behind one large flush.
    const STEP: u64 = 1024 * 1024;
    let filled = (|| {
        let mut file = disk.create(path)?;
        let mut done = 0;
        while done < bytes && !stop() {
            let step = (bytes - done).min(STEP);
            zero(&mut file, done, step)?;
            file.sync_data()?;
            done += step;
        }
        if done < bytes { Err(std::io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    })();
    if filled.is_err() {
        // A half-filled file is of no use and takes the room that records need.
        let _ = disk.remove(path);
    }
    filled
}
