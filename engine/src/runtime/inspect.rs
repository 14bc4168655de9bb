//! Looking at the runs of a data directory without leading it: no lock, no store, nothing is changed. Also while
//! another process leads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use patchloom_core::record::{Batch, Event, SEMANTICS};
use patchloom_core::run::Run;
use patchloom_core::{Definition, Partition, RunId};

use super::history::{Item, items};
use super::recovery::{Archived, OpenError};
use crate::archive::{Archive, Location};
use crate::datadir::DataDir;
use crate::disk::RealDisk;
use crate::journal;
use crate::snapshot::{self, Snapshots};

/// Tries over when an engine trims the journal meanwhile.
const TRIES: usize = 5;

/// The runs of a data directory as of the last record that was durable when it was looked at.
#[derive(Debug)]
pub struct Inspected {
    /// The state.
    pub state: Partition,
    /// The last record that is in it.
    pub head: u64,
    /// What is damaged but could be passed over, for people.
    pub notes: Vec<String>,
    histories: BTreeMap<RunId, Vec<Item>>,
    archive: Archive<RealDisk>,
    places: BTreeMap<RunId, Location>,
}

/// Looks at the data directory at `path`.
///
/// # Errors
/// There is none, it is of another version, or what must be sound is damaged.
pub fn inspect(path: &Path) -> Result<Inspected, OpenError> {
    let dir = DataDir::inspect(path)?;
    let mut tries = 1;
    let (state, head, histories, mut notes) = loop {
        match fold(&dir) {
            Err(error) if tries < TRIES && went_away(&error) => tries += 1,
            folded => break folded?,
        }
    };
    // After the journal: a run leaves the state only once it lies in the archive.
    let archive = Archive::inspect(RealDisk, &dir.archive());
    let mut places = BTreeMap::new();
    if dir.archive().is_dir() {
        let problems = archive.scan(|place, key, _| {
            places.insert(RunId(uuid::Uuid::from_bytes(*key)), place);
        })?;
        notes.extend(problems.into_iter().map(|what| format!("archive: {what}")));
    }
    Ok(Inspected { state, head, notes, histories, archive, places })
}

/// Whether a file went away while it was looked at: an engine trims behind snapshots, and drops old ones.
fn went_away(error: &OpenError) -> bool {
    match error {
        OpenError::Journal(journal::Error::Trimmed { .. }) => true,
        OpenError::Journal(journal::Error::Io { source, .. })
        | OpenError::Snapshot(snapshot::Error::Io { source, .. }) => source.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

/// A run and the version of its workflow that it is pinned to.
pub type Found = (Arc<Run>, Arc<Definition>);

type Folded = (Partition, u64, BTreeMap<RunId, Vec<Item>>, Vec<String>);

fn fold(dir: &DataDir) -> Result<Folded, OpenError> {
    let mut state = Partition::default();
    let mut histories: BTreeMap<RunId, Vec<Item>> = BTreeMap::new();
    let mut notes = Vec::new();
    let mut head = 0;
    if dir.snapshots().is_dir() {
        let latest = Snapshots::open(RealDisk, &dir.snapshots(), SEMANTICS)?.latest_valid()?;
        notes.extend(latest.skipped.into_iter().map(|what| format!("snapshot: {what}")));
        if let Some(snapshot) = &latest.snapshot {
            head = snapshot.about.head.seq;
            for (key, value) in snapshot.rows() {
                let key = String::from_utf8_lossy(key);
                match key.strip_prefix("h/").and_then(|rest| rest.split('/').next()?.parse::<RunId>().ok()) {
                    Some(run) => histories.entry(run).or_default().extend(items(value)),
                    None => state.load(&key, value)?,
                }
            }
        }
    }
    if !dir.journal().is_dir() {
        return Ok((state, head, histories, notes));
    }
    let mut reader = match journal::records(&dir.journal(), head + 1) {
        Err(journal::Error::BeyondHead { head: journal, .. }) => {
            return Err(OpenError::JournalLost { journal, snapshot: head });
        }
        reader => reader?,
    };
    while let Some(record) = reader.next().transpose()? {
        let seq = record.seq;
        let batch: Batch =
            serde_json::from_slice(&record.payload).map_err(|source| OpenError::Record { seq, source })?;
        for entry in batch.entries {
            // What the state refuses it refused when it was led, too.
            let applied = state.apply(seq, batch.at, &entry);
            match (&entry.event, entry.event.run()) {
                (Event::RunRetired { .. }, Some(run)) if applied.is_ok() => {
                    histories.remove(&run);
                }
                (_, Some(run)) => histories.entry(run).or_default().push(Item { seq, at: batch.at, entry }),
                (_, None) => {}
            }
        }
        head = seq;
    }
    Ok((state, head, histories, notes))
}

impl Inspected {
    /// The ids of all runs, in the state and in the archive.
    #[must_use]
    pub fn ids(&self) -> BTreeSet<RunId> {
        self.state.runs().map(|run| run.id()).chain(self.places.keys().copied()).collect()
    }

    /// A run, archived or not, and its definition.
    ///
    /// # Errors
    /// The archive cannot be read.
    pub fn run(&self, id: RunId) -> Result<Option<Found>, OpenError> {
        let run = match self.state.run(id) {
            Some(run) => Arc::clone(run),
            None => match self.archived(id)? {
                Some(archived) => Arc::new(archived.run),
                None => return Ok(None),
            },
        };
        Ok(self.state.definition(&run.start.version).map(|definition| (run, Arc::clone(definition))))
    }

    /// All that happened to a run, archived or not.
    ///
    /// # Errors
    /// The archive cannot be read.
    pub fn history(&self, id: RunId) -> Result<Vec<Item>, OpenError> {
        let mut all = self.archived(id)?.map(|archived| archived.history).unwrap_or_default();
        // A run that was recalled has more behind it.
        let known = all.last().map_or(0, |item| item.seq);
        all.extend(self.histories.get(&id).into_iter().flatten().filter(|item| item.seq > known).cloned());
        Ok(all)
    }

    fn archived(&self, id: RunId) -> Result<Option<Archived>, OpenError> {
        let Some(place) = self.places.get(&id) else { return Ok(None) };
        let entry = self.archive.get(*place)?;
        serde_json::from_slice(&entry.payload).map(Some).map_err(|source| OpenError::Record { seq: 0, source })
    }
}
