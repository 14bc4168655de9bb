//! Looking at a journal without opening it: also while an engine writes it.

use std::path::{Path, PathBuf};

use super::segment::{self, Reader, Scan, Segment, io};
use super::{ChainHash, Error, Head};
use crate::disk::{Access, Disk, RealDisk, read_all, widen};

/// Tries over when an engine trims the journal meanwhile.
const TRIES: usize = 5;

/// What one segment holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentReport {
    /// The file.
    pub path: PathBuf,
    /// The version of the semantics that its records were written under.
    pub semantics: u32,
    /// Its records.
    pub records: u64,
    /// Its length on the disk.
    pub bytes: u64,
    /// Its first record, or the one that will be.
    pub seq_first: u64,
}

/// What a journal holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Its id, where there is a segment.
    pub id: Option<[u8; 16]>,
    /// The segments that could be read to their end.
    pub segments: Vec<SegmentReport>,
    /// Their records.
    pub records: u64,
    /// Their length on the disk.
    pub bytes: u64,
    /// The first record, where there is one.
    pub seq_first: Option<u64>,
    /// The last record, where there is one.
    pub seq_last: Option<u64>,
    /// The link of the chain at the last record that is sound.
    pub head_hash: ChainHash,
    /// An unfinished record at the end: one that is being written, or one that the next opening will cut off. No problem.
    pub unfinished: Option<String>,
    /// Everything that is wrong, each as a sentence.
    pub problems: Vec<String>,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Checks every record of the journal in `dir`: lengths, checksums, numbers and the hash chain.
///
/// # Errors
/// Only where the disk does not let it look; damage is in the report.
pub fn verify(dir: &Path) -> Result<Report, Error> {
    again_while_trimmed(|| verify_on(&RealDisk, dir))
}

/// The records from `seq` (0: from the first that is there) to the head, in order.
///
/// # Errors
/// As opening the journal and reading from it. An unfinished last record is left out.
pub fn records(dir: &Path, seq: u64) -> Result<Reader<RealDisk>, Error> {
    again_while_trimmed(|| {
        let segments = segment::list(&RealDisk, dir, u32::MAX)?;
        let head = match segments.last() {
            Some(last) => read(&RealDisk, last)?.0.head,
            None => Head::default(),
        };
        let first = segments.first().map_or(1, |segment| segment.header.seq_first);
        Reader::new(RealDisk, &segments, if seq == 0 { first } else { seq }, head)
    })
}

fn again_while_trimmed<T>(mut look: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    for _ in 1..TRIES {
        match look() {
            Err(Error::Io { source, attempt: "open" | "look at", .. })
                if source.kind() == std::io::ErrorKind::NotFound => {}
            done => return done,
        }
    }
    look()
}

fn read<D: Disk>(disk: &D, segment: &Segment) -> Result<(Scan, u64), Error> {
    let file = disk.open(&segment.path, Access::Read).map_err(io("open", &segment.path))?;
    let bytes = read_all(&file).map_err(io("read", &segment.path))?;
    Ok((segment::scan(segment, &bytes)?, widen(bytes.len())))
}

pub(crate) fn verify_on<D: Disk>(disk: &D, dir: &Path) -> Result<Report, Error> {
    let mut report = Report::default();
    let segments = match segment::list(disk, dir, u32::MAX) {
        Ok(segments) => segments,
        Err(error @ Error::Io { .. }) => return Err(error),
        Err(error) => {
            report.problems.push(error.to_string());
            return Ok(report);
        }
    };
    report.id = segments.first().map(|segment| segment.header.journal);
    let mut before: Option<(&Segment, usize, Head)> = None;
    for (index, segment) in segments.iter().enumerate() {
        if let Some((ended, end, head)) = before.take()
            && let Err(error) = segment::continues(ended, end, head, segment)
        {
            report.problems.push(error.to_string());
        }
        let (scan, bytes) = match read(disk, segment) {
            Ok(read) => read,
            Err(error @ Error::Io { .. }) => return Err(error),
            Err(error) => {
                report.problems.push(error.to_string());
                continue;
            }
        };
        report.add(segment, &scan, bytes);
        match scan.torn {
            Some(torn) if index + 1 == segments.len() => report.unfinished = Some(torn),
            Some(torn) => report.problems.push(format!("in a finished segment: {torn}")),
            None => {}
        }
        before = Some((segment, scan.end, scan.head));
    }
    Ok(report)
}

impl Report {
    fn add(&mut self, segment: &Segment, scan: &Scan, bytes: u64) {
        self.records += scan.records;
        self.bytes += bytes;
        self.head_hash = scan.head.hash;
        if scan.records > 0 {
            self.seq_first = self.seq_first.or(Some(segment.header.seq_first));
            self.seq_last = Some(scan.head.seq);
        }
        self.segments.push(SegmentReport {
            path: segment.path.clone(),
            semantics: segment.header.semantics,
            records: scan.records,
            bytes,
            seq_first: segment.header.seq_first,
        });
    }
}
