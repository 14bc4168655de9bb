//! The bytes of an archive file: a magic, then one frame per entry. All numbers are little-endian.
//!
//! ```text
//! file    magic 8 | format 4 | file number 4
//! frame   length of payload 4 | crc of all the rest 4 | batch 4 | entries left in the batch 4 | key 16 | payload
//! ```

use super::{FORMAT_VERSION, PAYLOAD_BYTES_MAX};

pub(super) const HEADER_BYTES: usize = 16;
pub(super) const FRAME_BYTES: usize = 32;

const MAGIC: &[u8; 8] = b"PLOOMARC";

/// An entry as it lies in the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) batch: u32,
    pub(super) left: u32,
    pub(super) key: [u8; 16],
    pub(super) payload: &'a [u8],
    pub(super) bytes: usize,
}

pub(super) fn header(number: u32) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    bytes[12..].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// Why the file does not begin as the archive file of this number.
pub(super) fn check_header(bytes: &[u8], number: u32) -> Result<(), String> {
    match bytes.get(..HEADER_BYTES) {
        Some(found) if found == header(number) => Ok(()),
        Some(found) if found.starts_with(MAGIC) && u32_at(found, 8) != FORMAT_VERSION => {
            Err(format!("it has format version {}, this engine knows {FORMAT_VERSION}", u32_at(found, 8)))
        }
        Some(_) | None => Err("it does not begin as an archive file of its name".to_owned()),
    }
}

/// What stands before the payload of an entry.
pub(super) fn head(batch: u32, left: u32, key: &[u8; 16], payload: &[u8]) -> [u8; FRAME_BYTES] {
    let length = u32::try_from(payload.len()).expect("the caller refuses payloads beyond PAYLOAD_BYTES_MAX");
    let mut head = [0; FRAME_BYTES];
    head[..4].copy_from_slice(&length.to_le_bytes());
    head[8..12].copy_from_slice(&batch.to_le_bytes());
    head[12..16].copy_from_slice(&left.to_le_bytes());
    head[16..].copy_from_slice(key);
    let crc = crc(&head, payload);
    head[4..8].copy_from_slice(&crc.to_le_bytes());
    head
}

/// The entry at the beginning of `bytes`, where there is a valid one.
pub(super) fn parse(bytes: &[u8]) -> Option<Frame<'_>> {
    let head = bytes.get(..FRAME_BYTES)?;
    let length = usize::try_from(u32_at(head, 0)).ok().filter(|length| *length <= PAYLOAD_BYTES_MAX)?;
    let frame = bytes.get(..FRAME_BYTES + length)?;
    (crc(head, &frame[FRAME_BYTES..]) == u32_at(frame, 4)).then(|| Frame {
        batch: u32_at(frame, 8),
        left: u32_at(frame, 12),
        key: frame[16..FRAME_BYTES].try_into().expect("a key has 16 bytes"),
        payload: &frame[FRAME_BYTES..],
        bytes: frame.len(),
    })
}

/// The offset of the next valid entry in `bytes`, at or behind `from`.
pub(super) fn find(bytes: &[u8], from: usize) -> Option<usize> {
    (from..bytes.len().saturating_sub(FRAME_BYTES - 1)).find(|at| {
        // Most places of a text have no plausible length, so the checksum is rarely asked.
        let length = usize::try_from(u32_at(bytes, *at)).unwrap_or(usize::MAX);
        length <= PAYLOAD_BYTES_MAX && parse(&bytes[*at..]).is_some()
    })
}

fn crc(head: &[u8], payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&head[..4]);
    crc.update(&head[8..]);
    crc.update(payload);
    crc.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("the slice has four bytes"))
}
