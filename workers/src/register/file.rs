//! Documents on disk: read whole, replaced whole, under a lock. Knows nothing of what changes mean.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use patchloom_domain::ChangeRequest;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Error;

/// A document larger than this is not read: no change is.
const DOCUMENT_BYTES_MAX: u64 = 256 << 20;

/// How often a waiting writer asks for the lock.
const LOCK_POLL: Duration = Duration::from_millis(20);

#[derive(Deserialize)]
struct Document {
    format: u32,
    change: ChangeRequest,
}

#[derive(Serialize)]
struct DocumentRef<'a> {
    format: u32,
    change: &'a ChangeRequest,
}

pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

pub(super) fn number_text(number: u64) -> String {
    format!("CHG{number:07}")
}

pub(super) fn parse_number(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("CHG").filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok()
}

pub(super) fn index_name(correlation_id: &str) -> String {
    Sha256::digest(correlation_id).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All numbers in use, in order; a damaged document keeps its number.
pub(super) fn numbers(dir: &Path) -> Result<Vec<u64>, Error> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io_error("list", dir))? {
        let name = entry.map_err(io_error("list", dir))?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.strip_suffix(".json")).and_then(parse_number));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

pub(super) fn read_text(path: &Path) -> Result<Option<String>, Error> {
    match std::fs::metadata(path) {
        Ok(data) if data.len() > DOCUMENT_BYTES_MAX => {
            let reason = format!("it has {} bytes, the limit is {DOCUMENT_BYTES_MAX}", data.len());
            return Err(Error::Damaged { path: path.to_owned(), reason });
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", path)(error)),
    }
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(Error::Damaged { path: path.to_owned(), reason: "it is not UTF-8".to_owned() })
        }
        Err(error) => Err(io_error("read", path)(error)),
    }
}

pub(super) fn read_change(path: &Path, number: &str) -> Result<Option<ChangeRequest>, Error> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    let damaged = |reason: String| Error::Damaged { path: path.to_owned(), reason };
    let document: Document = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    if document.format != 1 {
        return Err(damaged(format!("it has format {}, this version reads format 1", document.format)));
    }
    if document.change.number != number {
        return Err(damaged(format!("it holds {}, its name says {number}", document.change.number)));
    }
    Ok(Some(document.change))
}

pub(super) fn write_change(path: &Path, change: &ChangeRequest) -> Result<(), Error> {
    let mut text = serde_json::to_vec_pretty(&DocumentRef { format: 1, change })
        .map_err(|error| io_error("write", path)(error.into()))?;
    text.push(b'\n');
    write(path, &text)
}

/// Replaces a file as a whole: after a crash it is the old or the new one, never a part.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    crate::durable::replace(path, bytes).map_err(io_error("write", path))
}

/// Waits for the lock, which the operating system lets go when its holder ends, however it ends.
pub(super) fn lock(path: &Path, wait: Duration) -> Result<File, Error> {
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(io_error("open", path))?;
    let deadline = Instant::now() + wait;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(LOCK_POLL),
            Err(std::fs::TryLockError::WouldBlock) => return Err(Error::Busy { path: path.to_owned() }),
            Err(std::fs::TryLockError::Error(error)) => return Err(io_error("lock", path)(error)),
        }
    }
}
