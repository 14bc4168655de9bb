//! The bytes of a segment file: its header, and one frame per record. All numbers are little-endian.
//!
//! ```text
//! header  magic 8 | format 4 | semantics 4 | journal id 16 | first seq 8 | chain hash before it 32 | zeros 4 | crc 4
//! frame   length of payload 4 | crc of all the rest 4 | seq 8 | chain hash 32 | payload
//! ```

use super::{ChainHash, FORMAT_VERSION, RECORD_BYTES_MAX};

/// Bytes of a segment's header.
pub(crate) const HEADER_BYTES: usize = 80;
/// Bytes of a frame before its payload.
pub(crate) const FRAME_BYTES: usize = 48;

const MAGIC: &[u8; 8] = b"PLOOMJNL";

/// What a segment says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) semantics: u32,
    pub(crate) journal: [u8; 16],
    pub(crate) seq_first: u64,
    pub(crate) hash_before: ChainHash,
}

/// Why a header is none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    Invalid(&'static str),
    UnknownFormat(u32),
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.semantics.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.journal);
        bytes[32..40].copy_from_slice(&self.seq_first.to_le_bytes());
        bytes[40..72].copy_from_slice(&self.hash_before.0);
        let crc = crc32fast::hash(&bytes[..76]);
        bytes[76..80].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let Some(bytes) = bytes.get(..HEADER_BYTES) else {
            return Err(HeaderError::Invalid("the file is shorter than its header"));
        };
        if &bytes[..8] != MAGIC {
            return Err(HeaderError::Invalid("the file does not begin as a journal segment"));
        }
        if crc32fast::hash(&bytes[..76]) != u32_at(bytes, 76) {
            return Err(HeaderError::Invalid("the checksum of the header does not match"));
        }
        // Checked behind the checksum, so that a flipped bit is damage and not a version from the future.
        let format = u32_at(bytes, 8);
        if format != FORMAT_VERSION {
            return Err(HeaderError::UnknownFormat(format));
        }
        Ok(Self {
            semantics: u32_at(bytes, 12),
            journal: array_at(bytes, 16),
            seq_first: u64_at(bytes, 32),
            hash_before: ChainHash(array_at(bytes, 40)),
        })
    }
}

/// What lies at a place of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed<'a> {
    Frame { seq: u64, hash: ChainHash, payload: &'a [u8], bytes: usize },
    Blank,
    Invalid(&'static str),
}

/// Writes a frame into `buffer`, replacing what was in it.
pub(crate) fn encode(buffer: &mut Vec<u8>, seq: u64, hash: &ChainHash, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("the caller refuses records beyond RECORD_BYTES_MAX");
    buffer.clear();
    buffer.extend_from_slice(&length.to_le_bytes());
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&seq.to_le_bytes());
    buffer.extend_from_slice(&hash.0);
    buffer.extend_from_slice(payload);
    let crc = frame_crc(buffer);
    buffer[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// Looks at the beginning of `bytes`, which reach to the end of the segment.
pub(crate) fn parse(bytes: &[u8]) -> Parsed<'_> {
    let head = &bytes[..bytes.len().min(FRAME_BYTES)];
    if head.iter().all(|byte| *byte == 0) {
        return Parsed::Blank;
    }
    if head.len() < FRAME_BYTES {
        return Parsed::Invalid("the segment ends inside a record's header");
    }
    let Ok(length) = usize::try_from(u32_at(bytes, 0)) else {
        return Parsed::Invalid("the length of the record does not fit into memory");
    };
    if length > RECORD_BYTES_MAX {
        return Parsed::Invalid("the length of the record is beyond the limit");
    }
    let Some(frame) = bytes.get(..FRAME_BYTES + length) else {
        return Parsed::Invalid("the segment ends inside a record");
    };
    if frame_crc(frame) != u32_at(frame, 4) {
        return Parsed::Invalid("the checksum of the record does not match");
    }
    Parsed::Frame {
        seq: u64_at(frame, 8),
        hash: ChainHash(array_at(frame, 16)),
        payload: &frame[FRAME_BYTES..],
        bytes: frame.len(),
    }
}

/// Finds a valid frame with `seq` or a later number anywhere in `bytes`, as the offset and its number.
///
/// A payload cannot be mistaken for one: it is text, and the high bytes of a plausible number are zeros.
pub(crate) fn find_later(bytes: &[u8], seq: u64) -> Option<(usize, u64)> {
    // No segment holds more frames than fit into it, so other numbers need no look at the checksum.
    let seq_max = seq.saturating_add(crate::disk::widen(bytes.len() / FRAME_BYTES));
    (0..bytes.len().saturating_sub(FRAME_BYTES - 1)).find_map(|at| {
        let found = u64_at(bytes, at + 8);
        let plausible = (seq..=seq_max).contains(&found);
        (plausible && matches!(parse(&bytes[at..]), Parsed::Frame { .. })).then_some((at, found))
    })
}

fn frame_crc(frame: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&frame[..4]);
    crc.update(&frame[8..]);
    crc.finalize()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_and_each_flipped_bit_is_noticed() {
        let header = Header { semantics: 3, journal: [7; 16], seq_first: 42, hash_before: ChainHash([9; 32]) };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes), Ok(header));
        for at in 0..bytes.len() {
            let mut flipped = bytes;
            flipped[at] ^= 0x10;
            assert!(matches!(Header::decode(&flipped), Err(HeaderError::Invalid(_))), "byte {at}");
        }
    }

    #[test]
    fn a_header_of_another_format_names_its_version() {
        let mut bytes =
            Header { semantics: 1, journal: [0; 16], seq_first: 1, hash_before: ChainHash::default() }.encode();
        bytes[8] = 2;
        let crc = crc32fast::hash(&bytes[..76]);
        bytes[76..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Header::decode(&bytes), Err(HeaderError::UnknownFormat(2)));
    }

    #[test]
    fn a_frame_reads_back_and_the_next_is_found_behind_garbage() {
        let mut first = Vec::new();
        encode(&mut first, 5, &ChainHash([1; 32]), b"{}");
        assert_eq!(parse(&first), Parsed::Frame { seq: 5, hash: ChainHash([1; 32]), payload: b"{}", bytes: 50 });
        let mut bytes = vec![0xAA; 33];
        bytes.extend_from_slice(&first);
        assert_eq!(find_later(&bytes, 5), Some((33, 5)));
        assert_eq!(find_later(&bytes, 6), None);
        assert_eq!(parse(&[0; 100]), Parsed::Blank);
        assert_eq!(parse(&[]), Parsed::Blank);
    }
}
