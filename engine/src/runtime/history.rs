//! What happened to a run, entry by entry, as the journal wrote it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use patchloom_core::record::Entry;
use patchloom_core::{RunId, UtcMs};
use serde::{Deserialize, Serialize};

/// One entry of a run's history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// The record.
    pub seq: u64,
    /// When.
    pub at: UtcMs,
    /// Who and what.
    #[serde(flatten)]
    pub entry: Entry,
}

/// Entries of many runs, as slices of the records they came in: nothing is encoded twice.
#[derive(Debug, Default)]
pub(super) struct Recent {
    runs: BTreeMap<RunId, Vec<Slice>>,
    bytes: usize,
}

#[derive(Clone, Debug)]
struct Slice {
    seq: u64,
    at: UtcMs,
    record: Arc<[u8]>,
    range: Range<usize>,
}

impl Recent {
    pub fn push(&mut self, run: RunId, seq: u64, at: UtcMs, record: &Arc<[u8]>, range: Range<usize>) {
        self.bytes += range.len();
        self.runs.entry(run).or_default().push(Slice { seq, at, record: Arc::clone(record), range });
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The entries of one run.
    pub fn of(&self, run: RunId) -> Vec<Item> {
        let slices = self.runs.get(&run).map(Vec::as_slice).unwrap_or_default();
        slices
            .iter()
            .filter_map(|slice| {
                let entry = serde_json::from_slice(&slice.record[slice.range.clone()]).ok()?;
                Some(Item { seq: slice.seq, at: slice.at, entry })
            })
            .collect()
    }

    /// The runs that something happened to.
    pub fn runs(&self) -> impl Iterator<Item = RunId> + '_ {
        self.runs.keys().copied()
    }

    /// Adds what came later.
    pub fn append(&mut self, later: Self) {
        self.bytes += later.bytes;
        for (run, slices) in later.runs {
            self.runs.entry(run).or_default().extend(slices);
        }
    }

    /// Takes out the entries of these runs.
    pub fn split(&mut self, runs: impl Iterator<Item = RunId>) -> Self {
        let mut taken = Self::default();
        for run in runs {
            if let Some(slices) = self.runs.remove(&run) {
                taken.bytes += slices.iter().map(|slice| slice.range.len()).sum::<usize>();
                taken.runs.insert(run, slices);
            }
        }
        self.bytes -= taken.bytes;
        taken
    }

    pub fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Each run with its first record and its entries as JSON objects, each ended by a line feed.
    pub fn chunks(&self) -> impl Iterator<Item = (RunId, u64, Vec<u8>)> + '_ {
        self.runs.iter().filter_map(|(run, slices)| Some((*run, slices.first()?.seq, self.lines(*run))))
    }

    /// The entries of one run, written as in [`Recent::chunks`].
    pub fn lines(&self, run: RunId) -> Vec<u8> {
        let mut lines = Vec::new();
        for slice in self.runs.get(&run).into_iter().flatten() {
            lines.extend_from_slice(format!("{{\"seq\":{},\"at\":{},", slice.seq, slice.at.0).as_bytes());
            // The entry is a JSON object of its own: its opening brace gives way to ours.
            lines.extend_from_slice(&slice.record[slice.range.start + 1..slice.range.end]);
            lines.push(b'\n');
        }
        lines
    }
}

/// Reads the lines of [`Recent::chunks`] back. A line that is no item is left out: the checksums around it hold.
pub(super) fn items(lines: &[u8]) -> Vec<Item> {
    lines.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}
