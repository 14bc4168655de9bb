//! Takes down what a command writes, with a bound. Knows nothing of processes.
//!
//! The command writes into an anonymous file in memory and not into a pipe: a package manager whose patchloom was
//! killed goes on to its end instead of dying by SIGPIPE in the middle of an install, a daemon that keeps its
//! output open does not make us wait for ever, and a full disk cannot swallow the words that explain it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, OFlags, fcntl_getfl, fcntl_setfl, memfd_create};
use serde::{Deserialize, Serialize};

/// More than this on one stream ends the command: nothing that we run has this much to say.
pub(crate) const STREAM_BYTES_MAX: u64 = 64 << 20;

/// Read at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// What one stream of a command held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captured {
    /// The text; what is not UTF-8 is replaced. Where it was longer than the cap: its head, a line that says how much
    /// is missing, and its tail.
    pub text: String,
    /// How many bytes there were in all.
    pub total_bytes: u64,
    /// Whether something is missing in the middle.
    pub truncated: bool,
}

/// One stream while the command runs.
pub(crate) struct Capture {
    file: File,
    read: u64,
    total: u64,
    head: Vec<u8>,
    tail: Vec<u8>,
    keep: usize,
}

impl Capture {
    /// A stream of which `keep` bytes of head and as many of tail are kept.
    pub(crate) fn new(keep: usize) -> io::Result<Self> {
        let fd = memfd_create("patchloom-output", MemfdFlags::CLOEXEC)?;
        // A script that writes to /dev/stderr opens the file anew: without O_APPEND it would write over the beginning.
        fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::APPEND)?;
        Ok(Self { file: fd.into(), read: 0, total: 0, head: Vec::new(), tail: Vec::new(), keep })
    }

    /// The end that the command gets.
    pub(crate) fn writer(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Takes in what was written since the last call and hands it to `seen`.
    pub(crate) fn advance(&mut self, mut seen: impl FnMut(&[u8])) -> io::Result<()> {
        if self.file.metadata()?.len() < self.read {
            // Somebody truncated it (`> /dev/stderr`): what follows is new.
            self.read = 0;
        }
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let count = self.file.read_at(&mut chunk, self.read)?;
            if count == 0 {
                return Ok(());
            }
            let count_u64 = u64::try_from(count).unwrap_or(u64::MAX);
            self.read = self.read.saturating_add(count_u64);
            self.total = self.total.saturating_add(count_u64);
            self.keep_some(&chunk[..count]);
            seen(&chunk[..count]);
        }
    }

    /// Whether the command wrote more than any should.
    pub(crate) fn is_excessive(&self) -> bool {
        self.total > STREAM_BYTES_MAX
    }

    /// What was taken in.
    pub(crate) fn finish(self) -> Captured {
        let kept = u64::try_from(self.head.len() + self.tail.len()).unwrap_or(u64::MAX);
        let missing = self.total.saturating_sub(kept);
        let mut bytes = self.head;
        if missing > 0 {
            bytes.extend_from_slice(format!("\n[… {missing} bytes left out …]\n").as_bytes());
        }
        bytes.extend_from_slice(&self.tail);
        Captured { text: String::from_utf8_lossy(&bytes).into_owned(), total_bytes: self.total, truncated: missing > 0 }
    }

    fn keep_some(&mut self, bytes: &[u8]) {
        let (to_head, rest) = bytes.split_at(self.keep.saturating_sub(self.head.len()).min(bytes.len()));
        self.head.extend_from_slice(to_head);
        self.tail.extend_from_slice(rest);
        // Cut only now and then, so that a long output is not moved once per chunk.
        if self.tail.len() > self.keep.saturating_mul(2).max(CHUNK_BYTES) {
            self.tail.drain(..self.tail.len() - self.keep);
        }
        let excess = self.tail.len().saturating_sub(self.keep);
        if excess > self.keep {
            self.tail.drain(..excess);
        }
    }
}

/// Cuts a stream of bytes into lines, across the borders of chunks.
#[derive(Default)]
pub(crate) struct Lines {
    open: Vec<u8>,
}

impl Lines {
    /// A line longer than this is handed out in pieces.
    const LINE_BYTES_MAX: usize = 64 << 10;

    /// Hands each line that `bytes` completes to `line`.
    pub(crate) fn feed(&mut self, bytes: &[u8], line: &mut dyn FnMut(&str)) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            self.open.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.open.len() > Self::LINE_BYTES_MAX {
                self.flush(line);
            }
        }
    }

    /// Hands out what came without a line end.
    pub(crate) fn flush(&mut self, line: &mut dyn FnMut(&str)) {
        if !self.open.is_empty() {
            line(String::from_utf8_lossy(&self.open).trim_end_matches(['\n', '\r']));
            self.open.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn captured(keep: usize, writes: &[&str]) -> Captured {
        let mut capture = Capture::new(keep).unwrap();
        let mut writer = capture.writer().unwrap();
        for text in writes {
            writer.write_all(text.as_bytes()).unwrap();
            capture.advance(|_| ()).unwrap();
        }
        capture.finish()
    }

    #[test]
    fn a_short_output_is_kept_whole() {
        let all = captured(4, &["abcd", "efgh"]);
        assert_eq!((all.text.as_str(), all.total_bytes, all.truncated), ("abcdefgh", 8, false));
    }

    #[test]
    fn a_long_output_keeps_its_head_and_its_tail_and_says_what_is_missing() {
        let many = "x".repeat(300_000);
        let all = captured(4, &["head", &many, "tail"]);
        assert!(all.text.starts_with("head\n[… "), "{}", all.text);
        assert!(all.text.ends_with("tail"));
        assert_eq!(all.total_bytes, 300_008);
        assert!(all.truncated);
    }

    #[test]
    fn lines_are_whole_across_chunks() {
        let mut lines = Lines::default();
        let mut got = Vec::new();
        for chunk in ["a", "b\nc", "d\r\n", "last"] {
            lines.feed(chunk.as_bytes(), &mut |line| got.push(line.to_owned()));
        }
        lines.flush(&mut |line| got.push(line.to_owned()));
        assert_eq!(got, ["ab", "cd", "last"]);
    }
}
