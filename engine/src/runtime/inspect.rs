//! Looking at the runs of a data directory without leading it: no lock, no store, nothing is changed. Also while
//! another process leads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use patchloom_core::record::{Event, SEMANTICS};
use patchloom_core::run::Run;
use patchloom_core::{Definition, Partition, RunId};

use super::books::Archived;
use super::history::{Item, items};
use super::past::{Until, first_record, walk};
use super::recovery::OpenError;
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
    dir: DataDir,
}

/// The begin of an archived run's payload; the run itself comes right behind it.
const PAYLOAD_BEGIN: &[u8] = b"{\"run\":";

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
    Ok(Inspected { state, head, notes, histories, archive, places, dir })
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
    head = walk(dir, &mut state, head, Until::Now, |state, seq, at, _, entry| {
        // What the state refuses it refused when it was led, too.
        let applied = state.apply(seq, at, &entry);
        match (&entry.event, entry.event.run()) {
            (Event::RunRetired { .. }, Some(run)) if applied.is_ok() => {
                histories.remove(&run);
            }
            (_, Some(run)) => histories.entry(run).or_default().push(Item { seq, at, entry }),
            (_, None) => {}
        }
    })?;
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
        let recent = self.histories.get(&id).filter(|_| self.state.run(id).is_some()).cloned().unwrap_or_default();
        let whole = recent.first().is_some_and(|item| matches!(item.entry.event, Event::RunStarted(_)));
        if whole {
            return Ok(recent);
        }
        // A run that came back from the archive left the begin of its history there.
        let mut all = self.archived(id)?.map(|archived| archived.history).unwrap_or_default();
        let known = all.last().map_or(0, |item| item.seq);
        all.extend(recent.into_iter().filter(|item| item.seq > known));
        Ok(all)
    }

    /// A run, archived or not, without its definition and its history: for looking through many.
    ///
    /// # Errors
    /// The archive cannot be read.
    pub fn brief(&self, id: RunId) -> Result<Option<Arc<Run>>, OpenError> {
        if let Some(run) = self.state.run(id) {
            return Ok(Some(Arc::clone(run)));
        }
        let Some(place) = self.places.get(&id) else { return Ok(None) };
        let payload = self.archive.get(*place)?.payload;
        match payload.strip_prefix(PAYLOAD_BEGIN) {
            // What stands behind the run is not even looked at.
            Some(rest) => {
                let run = serde_json::Deserializer::from_slice(rest).into_iter::<Run>().next().transpose();
                run.map(|run| run.map(Arc::new)).map_err(|source| OpenError::Record { seq: 0, source })
            }
            None => Ok(self.archived(id)?.map(|archived| Arc::new(archived.run))),
        }
    }

    /// Whether a run lies in the archive and not in the state.
    #[must_use]
    pub fn is_archived(&self, id: RunId) -> bool {
        self.state.run(id).is_none() && self.places.contains_key(&id)
    }

    /// The first record that the journal still has.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn first_record(&self) -> Result<u64, OpenError> {
        first_record(&self.dir)
    }

    pub(super) fn dir(&self) -> &DataDir {
        &self.dir
    }

    fn archived(&self, id: RunId) -> Result<Option<Archived>, OpenError> {
        let Some(place) = self.places.get(&id) else { return Ok(None) };
        let entry = self.archive.get(*place)?;
        serde_json::from_slice(&entry.payload).map(Some).map_err(|source| OpenError::Record { seq: 0, source })
    }
}
