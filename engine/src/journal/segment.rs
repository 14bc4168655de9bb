//! Segment files: their names, their scan, and reading records across them.

use std::path::{Path, PathBuf};

use super::frame::{self, HEADER_BYTES, Header, HeaderError, Parsed};
use super::{ChainHash, Error, Head, Record};
use crate::disk::{Access, Disk, read_all, widen};

/// A segment as its name and header tell.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
}

/// What a scan of a segment's bytes found.
#[derive(Debug)]
pub(crate) struct Scan {
    /// Behind the last valid record.
    pub(crate) end: usize,
    /// Where the last valid record begins; the end, where there is none.
    pub(crate) last: usize,
    pub(crate) head: Head,
    pub(crate) records: u64,
    /// What lies behind the end, where it is not blank.
    pub(crate) torn: Option<String>,
}

pub(crate) fn path_of(dir: &Path, seq_first: u64) -> PathBuf {
    dir.join(format!("{seq_first:020}.seg"))
}

/// The first sequence number that a file name stands for.
pub(crate) fn seq_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    (digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
}

pub(crate) fn io(attempt: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Io { attempt, path: path.to_owned(), source }
}

/// The segments of a directory, in order, with headers that fit together.
///
/// # Errors
/// Also where a header comes from a newer engine or another journal.
pub(crate) fn list<D: Disk>(disk: &D, dir: &Path, semantics_max: u32) -> Result<Vec<Segment>, Error> {
    let names = disk.list(dir).map_err(io("list", dir))?;
    let mut segments: Vec<Segment> = Vec::new();
    for seq_first in names.iter().filter_map(|name| seq_of(name)) {
        let path = path_of(dir, seq_first);
        let header = read_header(disk, &path, seq_first)?;
        if header.semantics > semantics_max {
            return Err(Error::UnknownSemantics { segment: path, found: header.semantics, supported: semantics_max });
        }
        let damaged = |reason: &str| Error::Damaged {
            segment: path.clone(),
            offset: 0,
            seq: seq_first,
            reason: reason.to_owned(),
        };
        if header.seq_first != seq_first {
            return Err(damaged("the header does not belong to the name of the file"));
        }
        if segments.first().is_some_and(|first| first.header.journal != header.journal) {
            return Err(damaged("the segment belongs to another journal"));
        }
        segments.push(Segment { path, header });
    }
    Ok(segments)
}

fn read_header<D: Disk>(disk: &D, path: &Path, seq: u64) -> Result<Header, Error> {
    let file = disk.open(path, Access::Read).map_err(io("open", path))?;
    let mut bytes = [0; HEADER_BYTES];
    let read = crate::disk::DiskFile::read_at(&file, &mut bytes, 0).map_err(io("read", path))?;
    Header::decode(&bytes[..read]).map_err(|error| match error {
        HeaderError::UnknownFormat(found) => Error::UnknownFormat { segment: path.to_owned(), found },
        HeaderError::Invalid(reason) => {
            Error::Damaged { segment: path.to_owned(), offset: 0, seq, reason: reason.to_owned() }
        }
    })
}

/// Checks every record of a segment.
///
/// # Errors
/// [`Error::Damaged`] where a record is not what it was. An unfinished last record is no damage: only one record is
/// ever unflushed, so what is invalid with nothing valid behind it was never acknowledged.
pub(crate) fn scan(segment: &Segment, bytes: &[u8]) -> Result<Scan, Error> {
    let mut cursor = Cursor::new(segment);
    let mut last = cursor.at;
    loop {
        match frame::parse(bytes.get(cursor.at..).unwrap_or_default()) {
            Parsed::Frame { seq, hash, payload, bytes } => {
                cursor.check(segment, seq, hash, payload)?;
                last = cursor.at;
                cursor.at += bytes;
            }
            parsed @ (Parsed::Blank | Parsed::Invalid(_)) => {
                let torn = tail(segment, bytes, cursor.at, cursor.head.seq + 1, &parsed)?;
                let records = cursor.head.seq + 1 - segment.header.seq_first;
                return Ok(Scan { end: cursor.at, last, head: cursor.head, records, torn });
            }
        }
    }
}

/// Judges what lies behind the last valid record.
fn tail(segment: &Segment, bytes: &[u8], at: usize, seq: u64, parsed: &Parsed<'_>) -> Result<Option<String>, Error> {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some(last) = rest.iter().rposition(|byte| *byte != 0) else { return Ok(None) };
    let reason = match parsed {
        Parsed::Invalid(reason) => reason,
        Parsed::Blank | Parsed::Frame { .. } => "the header of the record is blank",
    };
    // A valid record behind this place means that this one was acknowledged once.
    if let Some((_, later)) = frame::find_later(rest, seq) {
        let reason = format!("{reason}, yet record {later} follows");
        return Err(Error::Damaged { segment: segment.path.clone(), offset: widen(at), seq, reason });
    }
    let name = segment.path.display();
    Ok(Some(format!("cut off {} bytes of the unfinished record {seq} in {name}: {reason}", last + 1)))
}

/// A place in a segment, with the chain so far.
#[derive(Debug)]
struct Cursor {
    at: usize,
    head: Head,
}

impl Cursor {
    fn new(segment: &Segment) -> Self {
        // Numbers start at 1; a header that says 0 is caught by the first record.
        let seq = segment.header.seq_first.saturating_sub(1);
        Self { at: HEADER_BYTES, head: Head { seq, hash: segment.header.hash_before } }
    }

    fn check(&mut self, segment: &Segment, seq: u64, hash: ChainHash, payload: &[u8]) -> Result<(), Error> {
        let expected = self.head.seq + 1;
        let reason = if seq != expected {
            format!("record {seq} stands here")
        } else if self.head.hash.next(seq, payload) != hash {
            "the hash chain is broken".to_owned()
        } else {
            self.head = Head { seq, hash };
            return Ok(());
        };
        Err(Error::Damaged { segment: segment.path.clone(), offset: widen(self.at), seq: expected, reason })
    }
}

/// Reads records in order, across segments, up to a head that was fixed when it was made.
#[derive(Debug)]
pub struct Reader<D: Disk> {
    disk: D,
    segments: std::vec::IntoIter<Segment>,
    current: Option<(Segment, Vec<u8>, Cursor)>,
    seq_next: u64,
    head: Head,
}

impl<D: Disk> Reader<D> {
    /// Reads from `seq` to `head`.
    pub(crate) fn new(disk: D, segments: &[Segment], seq: u64, head: Head) -> Result<Self, Error> {
        let first = segments.first().map_or(head.seq + 1, |segment| segment.header.seq_first);
        if seq < first {
            return Err(Error::Trimmed { seq, first });
        }
        if seq > head.seq + 1 {
            return Err(Error::BeyondHead { seq, head: head.seq });
        }
        let start = segments.partition_point(|segment| segment.header.seq_first <= seq).saturating_sub(1);
        // A copy of its own: the journal may begin and trim segments while this is read.
        let segments = Vec::from(&segments[start..]).into_iter();
        Ok(Self { disk, segments, current: None, seq_next: seq, head })
    }

    /// The next record, or none behind the head.
    pub(crate) fn next_record(&mut self) -> Result<Option<Record>, Error> {
        while self.seq_next <= self.head.seq {
            if self.current.is_none() {
                self.advance()?;
            }
            let Some((segment, bytes, cursor)) = &mut self.current else { break };
            match frame::parse(bytes.get(cursor.at..).unwrap_or_default()) {
                Parsed::Frame { seq, hash, payload, bytes } => {
                    cursor.check(segment, seq, hash, payload)?;
                    cursor.at += bytes;
                    if seq == self.seq_next {
                        self.seq_next += 1;
                        let semantics = segment.header.semantics;
                        return Ok(Some(Record { seq, hash, semantics, payload: payload.to_vec() }));
                    }
                }
                parsed @ (Parsed::Blank | Parsed::Invalid(_)) => {
                    let seq = cursor.head.seq + 1;
                    if let Some(reason) = tail(segment, bytes, cursor.at, seq, &parsed)? {
                        let (segment, offset) = (segment.path.clone(), widen(cursor.at));
                        return Err(Error::Damaged { segment, offset, seq, reason });
                    }
                    self.advance()?;
                }
            }
        }
        Ok(None)
    }

    /// Goes to the next segment, which must continue where the current one ends.
    fn advance(&mut self) -> Result<(), Error> {
        let before = self.current.take().map(|(segment, _, cursor)| (segment, cursor));
        let Some(segment) = self.segments.next() else {
            let (path, offset, seq) = before.map_or((PathBuf::new(), 0, self.seq_next), |(segment, cursor)| {
                (segment.path, widen(cursor.at), cursor.head.seq + 1)
            });
            let reason = format!("the records from here to {} are missing", self.head.seq);
            return Err(Error::Damaged { segment: path, offset, seq, reason });
        };
        if let Some((ended, cursor)) = before {
            continues(&ended, cursor.at, cursor.head, &segment)?;
        }
        let file = self.disk.open(&segment.path, Access::Read).map_err(io("open", &segment.path))?;
        let bytes = read_all(&file).map_err(io("read", &segment.path))?;
        let cursor = Cursor::new(&segment);
        self.current = Some((segment, bytes, cursor));
        Ok(())
    }
}

/// Checks that `next` begins where `ended` ends.
pub(crate) fn continues(ended: &Segment, end: usize, head: Head, next: &Segment) -> Result<(), Error> {
    let reason = if next.header.seq_first != head.seq + 1 {
        format!("the segment ends here, yet the next one begins with record {}", next.header.seq_first)
    } else if next.header.hash_before != head.hash {
        "the hash chain does not lead into the next segment".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::Damaged { segment: ended.path.clone(), offset: widen(end), seq: head.seq + 1, reason })
}

impl<D: Disk> Iterator for Reader<D> {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.next_record().transpose();
        if matches!(item, Some(Err(_))) {
            // The stream is over after damage: nothing behind it can be trusted to be what was acknowledged.
            self.seq_next = u64::MAX;
        }
        item
    }
}

/// Whether there is a journal in `dir`, sound or not.
pub(crate) fn is_in(dir: &Path) -> Result<bool, Error> {
    match crate::disk::RealDisk.list(dir) {
        Ok(names) => Ok(names.iter().any(|name| seq_of(name).is_some())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io("list", dir)(error)),
    }
}

/// What the first record that the journal in `dir` can hold follows.
pub(crate) fn begins_after(dir: &Path) -> Result<Head, Error> {
    let segments = list(&crate::disk::RealDisk, dir, u32::MAX)?;
    Ok(segments.first().map_or_else(Head::default, |segment| Cursor::new(segment).head))
}
