//! What campaigns took and when versions were first seen: one JSON document in the data directory, replaced whole, under a lock.
//! What is learned of it is the domain's matter alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use patchloom_core::Failure;
use patchloom_domain::correlate::{FirstSeen, Seen};
use patchloom_domain::{Durations, Ending, FailureRates, MissingPatch, Moment, Work};
use serde::{Deserialize, Serialize};

use crate::failure::{chain, permanent, transient};

/// Packages of one system that are remembered.
const LOOKED_MAX: usize = 100_000;
/// Samples are told apart by their keys: so many of the last ones are remembered.
const KEYS_MAX: usize = 10_000;

/// What was learned of the past.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// Of durations.
    pub durations: Durations,
    /// Of failures.
    pub rates: FailureRates,
    /// When package versions were first seen on offer.
    #[serde(default)]
    pub seen: FirstSeen,
    /// When each installed package was last looked at, by system and version, and name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    looked: BTreeMap<String, BTreeMap<String, Moment>>,
    /// The samples that were learned last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keys: Vec<String>,
}

/// How patching a host went.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its name: the same is learned once.
    pub key: String,
    /// What was done.
    pub work: Work,
    /// How long it took.
    pub took_ms: u64,
    /// How it ended.
    pub ending: Ending,
}

/// What a host was found to run, and to be offered.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// Its system: `debian`.
    pub os: &'a str,
    /// With its version: `debian 12`.
    pub release: &'a str,
    /// The names of its packages.
    pub installed: &'a BTreeSet<String>,
    /// What it lacks, with the date of each changelog.
    pub offered: &'a [(MissingPatch, Option<Moment>)],
}

impl History {
    /// Takes down which versions are on offer on hosts that were looked at together, and which packages were looked at.
    pub fn look(&mut self, looks: &[Look<'_>], now: Moment) {
        for look in looks {
            let before = self.looked.get(look.release);
            for (patch, changelog) in look.offered {
                let not_before = before.and_then(|packages| packages.get(&patch.id.name)).copied();
                let known = self.seen.get(look.os, &patch.id.name, &patch.candidate);
                // Only at its first sight did the look before not find it.
                let not_before = not_before.filter(|_| known.is_none());
                let seen = Seen { first_seen: now, changelog: *changelog, not_before };
                // Where there is no room, the delay counts from now: later, never earlier.
                let _ = self.seen.observe(look.os, &patch.id.name, &patch.candidate, seen);
            }
        }
        for look in looks {
            let packages = self.looked.entry(look.release.to_owned()).or_default();
            for name in look.installed {
                if packages.len() < LOOKED_MAX || packages.contains_key(name) {
                    packages.insert(name.clone(), now);
                }
            }
        }
    }

    /// Takes in a sample, unless it is known.
    pub fn learn(&mut self, sample: &Sample) {
        if self.keys.contains(&sample.key) {
            return;
        }
        // A failure ends early or late; either says nothing of how long it takes to succeed.
        if sample.ending == Ending::Good {
            self.durations.learn(&sample.work, sample.took_ms);
        }
        self.rates.learn(&sample.work, &sample.ending);
        self.keys.push(sample.key.clone());
        let over = self.keys.len().saturating_sub(KEYS_MAX);
        self.keys.drain(..over);
    }
}

/// Why the history could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The document cannot be read as a history.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file system refused, or another process writes and does not end.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What we tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl HistoryError {
    /// Its page in docs/errors.
    #[must_use]
    pub fn code(&self) -> &'static str {
        "E0986"
    }
}

impl From<HistoryError> for Failure {
    fn from(error: HistoryError) -> Self {
        match &error {
            HistoryError::Damaged { .. } => permanent(error.code(), chain(&error)),
            HistoryError::Io { .. } => transient(error.code(), chain(&error)),
        }
    }
}

/// The history in one data directory.
#[derive(Clone, Debug)]
pub struct HistoryStore {
    dir: PathBuf,
}

impl HistoryStore {
    /// The store in the data directory `dir`.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.join("history.json")
    }

    /// All that was learned; nothing where no campaign ever ran.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub fn read(&self) -> Result<History, HistoryError> {
        let path = self.path();
        match std::fs::read(&path) {
            Ok(text) => {
                serde_json::from_slice(&text).map_err(|error| HistoryError::Damaged { path, reason: error.to_string() })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(History::default()),
            Err(source) => Err(HistoryError::Io { action: "read", path, source }),
        }
    }

    /// Changes what is known and returns it as it is then.
    ///
    /// # Durability
    /// A call that returned is on disk.
    /// # Errors
    /// [`HistoryError`]: what cannot be read is not written over.
    pub fn update(&self, change: impl FnOnce(&mut History)) -> Result<History, HistoryError> {
        let _lock = self.lock()?;
        let before = self.read()?;
        let mut history = before.clone();
        change(&mut history);
        if history == before {
            return Ok(history);
        }
        let path = self.path();
        let io_error = |source| HistoryError::Io { action: "write", path: path.clone(), source };
        let text = serde_json::to_vec(&history).map_err(|error| io_error(error.into()))?;
        crate::durable::replace(&path, &text).map_err(io_error)?;
        Ok(history)
    }

    fn lock(&self) -> Result<File, HistoryError> {
        let path = self.dir.join(".history.lock");
        crate::durable::lock(&path).map_err(|source| HistoryError::Io { action: "lock", path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(key: &str, took_ms: u64, ending: Ending) -> Sample {
        let work = Work { host: "a".into(), look: "x".into(), packages: Vec::new(), bytes: 0, rebooted: false };
        Sample { key: key.to_owned(), work, took_ms, ending }
    }

    #[test]
    fn what_was_not_on_offer_at_the_look_before_was_not_handed_out_before() {
        let patch = |version: &str| MissingPatch {
            id: patchloom_domain::PackageId { name: "a".to_owned(), arch: "all".to_owned() },
            installed: Some("1".to_owned()),
            candidate: version.to_owned(),
            source: "a".to_owned(),
            source_version: version.to_owned(),
            origin: String::new(),
            security: true,
            sha256: None,
            size_bytes: None,
            cves: Vec::new(),
            urgency: None,
            note: None,
            held: None,
        };
        let installed: BTreeSet<String> = ["a".to_owned()].into();
        let mut history = History::default();
        let mut look = |release: &str, version: &str, now: i64| {
            let offered = [(patch(version), Some(Moment(5)))];
            history.look(&[Look { os: "debian", release, installed: &installed, offered: &offered }], Moment(now));
            history.seen.get("debian", "a", version).unwrap()
        };
        let seen = |first: i64, not_before: Option<i64>| Seen {
            first_seen: Moment(first),
            changelog: Some(Moment(5)),
            not_before: not_before.map(Moment),
        };
        assert_eq!(look("debian 12", "2", 10), seen(10, None), "nobody looked before");
        assert_eq!(look("debian 12", "2", 20), seen(10, None), "it was there at the look before");
        assert_eq!(look("debian 13", "4", 25), seen(25, None), "looks at another release say nothing");
        assert_eq!(look("debian 12", "3", 30), seen(30, Some(20)));
        assert_eq!(look("debian 12", "3", 40), seen(30, Some(20)), "the look at which it was there changes nothing");
        let text = serde_json::to_string(&history).unwrap();
        assert_eq!(serde_json::from_str::<History>(&text).unwrap(), history);
    }

    #[test]
    fn a_sample_is_learned_once_and_a_failure_teaches_no_duration() {
        let dir = tempfile::tempdir().unwrap();
        let store = HistoryStore::new(dir.path());
        assert_eq!(store.read().unwrap(), History::default());
        for _ in 0..2 {
            store.update(|history| history.learn(&sample("one", 60_000, Ending::Good))).unwrap();
        }
        let known = store.update(|history| history.learn(&sample("two", 5_000, Ending::Failed))).unwrap();
        assert_eq!(known.durations.samples(), 1);
        assert_eq!(HistoryStore::new(dir.path()).read().unwrap(), known);
        std::fs::write(store.path(), "{").unwrap();
        assert_eq!(store.read().unwrap_err().code(), "E0986");
        assert!(store.update(|_| ()).is_err(), "what cannot be read is not written over");
    }
}
