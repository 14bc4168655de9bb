//! The ledger: what workers did, written by themselves, flushed, outside of all that is tested.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use patchloom_core::TaskKey;
use serde::{Deserialize, Serialize};

/// Microseconds since 1970 on the clock of this machine, which servers, engines and workers share.
pub type Micros = u64;

pub fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is behind 1970");
    u64::try_from(since.as_micros()).expect("the clock is before the year 500000")
}

/// What a worker wrote down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    pub key: TaskKey,
    pub at: Micros,
    /// Tells one execution from every other one.
    pub nonce: String,
    pub what: What,
}

/// What happened to an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    Began,
    Succeeded,
    Failed,
    /// It was told to stop.
    Stopped,
}

/// The file of one worker process.
pub struct Ledger {
    file: Mutex<File>,
    writer: String,
    count: AtomicU64,
}

impl Ledger {
    /// A new file below `dir`, which no other process writes.
    pub fn begin(dir: &Path, name: &str) -> Self {
        let writer = format!("{name}-{}-{}", std::process::id(), now());
        let file = File::options().create_new(true).append(true).open(dir.join(format!("{writer}.ledger")));
        Self { file: Mutex::new(file.expect("a ledger can be made")), writer, count: AtomicU64::new(0) }
    }

    pub fn nonce(&self) -> String {
        format!("{}-{}", self.writer, self.count.fetch_add(1, Ordering::Relaxed))
    }

    /// Writes a line and flushes it.
    pub fn write(&self, key: &TaskKey, nonce: &str, what: What) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let line = Line { key: key.clone(), at: now(), nonce: nonce.to_owned(), what };
        let mut text = serde_json::to_vec(&line).expect("a line is plain");
        text.push(b'\n');
        file.write_all(&text).and_then(|()| file.sync_data()).expect("the ledger can be written");
    }
}

/// All that all workers wrote. The last line of a worker that was killed may be half.
pub fn read(dir: &Path) -> Vec<Line> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "ledger"));
    files.sort();
    let mut lines = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        lines.extend(whole.lines().map(|line| serde_json::from_str::<Line>(line).expect("a line of the ledger")));
    }
    lines
}
