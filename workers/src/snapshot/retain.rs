//! How long snapshots live: listed with their owners, deleted when their time is over, never while somebody may need them.

use std::io;
use std::path::PathBuf;

use patchloom_domain::{Instant, Outside, SnapshotKind};
use serde::{Deserialize, Serialize};

use super::{Error, KEEP, Snapshots, io_error};

/// A snapshot that outlives its run is of no use after a week: the host has moved on.
pub const TTL_MS: u64 = 7 * 86_400_000;

/// Whose a snapshot is, and how long it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The run that made it, and that drops it.
    pub run: String,
    /// The change that it stands behind.
    pub change: Option<String>,
    /// How long it lives from its making on.
    pub ttl_ms: u64,
}

impl Owner {
    /// A run, for the usual time.
    #[must_use]
    pub fn run(run: impl Into<String>) -> Self {
        Self { run: run.into(), change: None, ttl_ms: TTL_MS }
    }
}

/// A snapshot as it lies there, whole or half made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Its id.
    pub id: String,
    /// The run that made it.
    pub run: String,
    /// The change that it stands behind.
    pub change: Option<String>,
    /// What it is of; none for one whose document was never written, and for one from outside.
    pub root: Option<PathBuf>,
    /// Who took it from outside, where somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside: Option<Outside>,
    /// How it was made.
    pub kind: Option<SnapshotKind>,
    /// When.
    pub at: Instant,
    /// From when on nobody needs it any more.
    pub expires: Instant,
    /// Whether it is complete.
    pub complete: bool,
    /// Bytes of a copy.
    pub bytes: u64,
    /// Why it is kept, where a host did not come back.
    pub kept: Option<String>,
}

/// What becomes of a snapshot when old ones are deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It is deleted.
    Deleted,
    /// It is not its time yet.
    Young,
    /// Its run is open, or the change that it stands behind.
    InUse,
    /// A host did not come back and may need it.
    Kept,
}

impl Held {
    /// What is to become of it at `now`; `in_use` says whether its run, one above it, or its change is open.
    #[must_use]
    pub fn fate(&self, now: Instant, in_use: bool) -> Fate {
        match (self.kept.is_some(), in_use, now >= self.expires) {
            (true, _, _) => Fate::Kept,
            (false, true, _) => Fate::InUse,
            (false, false, true) => Fate::Deleted,
            (false, false, false) => Fate::Young,
        }
    }
}

/// A snapshot with what became of it.
pub type Pruned = (Held, Result<Fate, Error>);

impl Snapshots {
    /// All that lie there, half-made ones too, by their ids.
    ///
    /// # Errors
    /// When the directory cannot be read. One that is not there holds none.
    pub fn list(&self) -> Result<Vec<Held>, Error> {
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io_error("list", &self.dir)(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(io_error("list", &self.dir))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !name.starts_with('.') {
                found.push(self.held(name));
            }
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    fn held(&self, id: String) -> Held {
        let home = self.home(&id);
        let kept = std::fs::read_to_string(home.join(KEEP)).ok();
        if let Some(taken) = self.outside(&id) {
            return Held {
                kind: Some(taken.kind()),
                at: taken.at,
                expires: taken.at.plus(taken.ttl_ms),
                run: taken.run,
                change: taken.change,
                root: None,
                outside: Some(taken.outside),
                complete: taken.verified,
                bytes: 0,
                kept,
                id,
            };
        }
        if let Some(known) = self.read(&id) {
            let complete = known.verified && known.place.is_dir();
            return Held {
                run: known.owner,
                change: known.change,
                root: Some(known.root),
                outside: None,
                kind: Some(known.kind),
                at: known.at,
                expires: known.at.plus(known.ttl_ms.unwrap_or(TTL_MS)),
                complete,
                bytes: known.bytes,
                kept,
                id,
            };
        }
        // A crash came before its document: its id begins with its run, and its directory is as old as itself.
        let modified = home.metadata().and_then(|data| data.modified()).ok();
        let since = modified.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
        let at = Instant(u64::try_from(since.as_millis()).unwrap_or(0));
        let run = id.get(..RUN_ID_LENGTH).unwrap_or(&id).to_owned();
        Held {
            run,
            change: None,
            root: None,
            outside: None,
            kind: None,
            at,
            expires: at.plus(TTL_MS),
            complete: false,
            bytes: 0,
            kept,
            id,
        }
    }

    /// Deletes those whose time is over and that nobody may need; tells what became of each.
    ///
    /// # Errors
    /// When the directory cannot be read; one that could not be deleted is told as such beside it.
    pub fn prune(&self, now: Instant, in_use: impl Fn(&Held) -> bool, dry_run: bool) -> Result<Vec<Pruned>, Error> {
        let mut told = Vec::new();
        for held in self.list()? {
            let fate = held.fate(now, in_use(&held));
            let done = match fate {
                Fate::Deleted if !dry_run => self.drop(&held.id).map(|_| Fate::Deleted),
                other => Ok(other),
            };
            told.push((held, done));
        }
        Ok(told)
    }
}

/// The length of a run's id as text.
const RUN_ID_LENGTH: usize = 36;
