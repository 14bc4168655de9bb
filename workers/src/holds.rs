//! The holds of a fleet on disk: one JSON document, read whole, replaced whole, under a lock. What a hold means is the
//! domain's matter alone.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use patchloom_core::Failure;
use patchloom_domain::{
    Actor, Cause, Hold, HoldCause, HoldError, HoldKey, HoldRelease, HoldScope, Holds, HostPlan, Instant, PackageSet,
    UndoWay, VersionScheme, blamed,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::apt::missing::Missing;
use crate::changes::REQUESTER;
use crate::failure::{chain, permanent, transient};
use crate::runtime::TaskContext;

/// A larger document is not read.
const DOCUMENT_BYTES_MAX: u64 = 256 << 20;

/// Why the holds could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The document cannot be read as holds.
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
    /// The order was not taken.
    #[error(transparent)]
    Refused(#[from] HoldError),
}

impl Error {
    /// Its page in docs/errors.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Damaged { .. } | Self::Io { .. } => "E0875",
            Self::Refused(_) => "E0876",
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: u32,
    holds: Vec<Hold>,
}

/// The holds in one data directory.
///
/// # Durability
/// A call that returned is on disk.
#[derive(Clone, Debug)]
pub struct HoldStore {
    dir: PathBuf,
}

impl HoldStore {
    /// The store in the data directory `dir`.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// All holds; none where nothing was ever held.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Io`]: never as if nothing were held.
    pub fn read(&self) -> Result<Holds, Error> {
        let path = self.path();
        let damaged = |reason: String| Error::Damaged { path: path.clone(), reason };
        match std::fs::metadata(&path) {
            Ok(data) if data.len() > DOCUMENT_BYTES_MAX => return Err(damaged("it is too large".to_owned())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Holds::default()),
            Err(source) => return Err(Error::Io { action: "read", path, source }),
        }
        let text = std::fs::read(&path).map_err(|source| Error::Io { action: "read", path: path.clone(), source })?;
        let document: Document = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        if document.format != 1 {
            return Err(damaged(format!("it has format {}, this version reads format 1", document.format)));
        }
        Ok(document.holds.into_iter().collect())
    }

    /// Holds a version; says whether that is new.
    ///
    /// # Errors
    /// [`Error`].
    pub fn hold(&self, key: HoldKey, cause: HoldCause) -> Result<bool, Error> {
        let _lock = self.lock()?;
        let mut holds = self.read()?;
        let changed = holds.hold(key, cause)?;
        if changed {
            self.write(&holds)?;
        }
        Ok(changed)
    }

    /// Lets a version be installed again.
    ///
    /// # Errors
    /// [`Error`].
    pub fn release(&self, key: &HoldKey, release: HoldRelease) -> Result<(), Error> {
        let _lock = self.lock()?;
        let mut holds = self.read()?;
        holds.release(key, release)?;
        self.write(&holds)
    }

    fn path(&self) -> PathBuf {
        self.dir.join("holds.json")
    }

    fn write(&self, holds: &Holds) -> Result<(), Error> {
        let path = self.path();
        let document = Document { format: 1, holds: holds.iter().cloned().collect() };
        let io_error = |source| Error::Io { action: "write", path: path.clone(), source };
        let mut text = serde_json::to_vec_pretty(&document).map_err(|error| io_error(error.into()))?;
        text.push(b'\n');
        crate::durable::replace(&path, &text).map_err(io_error)
    }

    fn lock(&self) -> Result<File, Error> {
        let path = self.dir.join(".holds.lock");
        crate::durable::lock(&path).map_err(|source| Error::Io { action: "lock", path, source })
    }
}

fn failure(error: &Error) -> Failure {
    match error {
        Error::Io { .. } => transient(error.code(), chain(error)),
        Error::Damaged { .. } | Error::Refused(_) => permanent(error.code(), chain(error)),
    }
}

/// All holds of the data directory of a task; on a host that it was carried to, those that came with it.
pub(crate) fn of(context: &TaskContext) -> Result<Holds, Failure> {
    if let Some(station) = context.station() {
        return Ok(station.holds.clone());
    }
    HoldStore::new(context.data().root()).read().map_err(|error| failure(&error))
}

/// Takes what is held on `host` out of what could be installed, together with what comes from the same source, which would
/// ask for it; each says why.
pub(crate) fn reject(holds: &Holds, host: &str, found: &mut Missing) {
    let held = |patch: &patchloom_domain::MissingPatch| holds.held(host, &patch.id.name, &patch.candidate);
    let sources: Vec<(String, String, String)> = found
        .patches
        .iter()
        .filter_map(|patch| {
            let why = held(patch)?.causes.last().map(|cause| cause.why.clone()).unwrap_or_default();
            let note = format!("rejected: {} {} is held ({why})", patch.id.name, patch.candidate);
            Some((patch.source.clone(), patch.source_version.clone(), note))
        })
        .collect();
    for mut patch in std::mem::take(&mut found.patches) {
        let of =
            sources.iter().find(|(source, version, _)| (source, version) == (&patch.source, &patch.source_version));
        match of {
            Some((_, _, note)) => {
                patch.held = Some(note.clone());
                found.withheld.push(patch);
            }
            None => found.patches.push(patch),
        }
    }
}

/// Holds, for the whole fleet, the versions that a way back blames; the states that its output tells say which.
///
/// # Errors
/// `E0875` where it cannot be written; a memory that is full is no reason to call a way back failed.
pub(crate) fn after_rollback(
    context: &TaskContext,
    change: &str,
    part: &HostPlan,
    cause: &Cause,
    output: &Value,
) -> Result<(), Failure> {
    if output["way"] == json!(UndoWay::NothingToUndo) {
        return Ok(());
    }
    // Versions that nobody compares are not held: a hold says whose they are.
    if output.get("scheme").is_some_and(Value::is_null) {
        tracing::warn!(host = part.host, "no version is held after this way back");
        return Ok(());
    }
    let found: PackageSet = serde_json::from_value(output["found"].clone()).unwrap_or_default();
    let store = HoldStore::new(context.data().root());
    // A way back that was done by an older version tells no scheme: it knew only one.
    let scheme = serde_json::from_value(output["scheme"].clone()).unwrap_or(VersionScheme::Deb);
    for planned in blamed(cause, &found, &part.changes) {
        let key = HoldKey {
            ecosystem: scheme,
            package: planned.id.name.clone(),
            version: planned.candidate.clone(),
            scope: HoldScope::Fleet,
        };
        let held = HoldCause {
            by: Actor::Service(REQUESTER.to_owned()),
            at: Instant(context.now().0),
            change: Some(change.to_owned()),
            host: Some(part.host.clone()),
            why: cause.to_string(),
        };
        match store.hold(key, held) {
            Ok(_) => {}
            Err(Error::Refused(refused)) => tracing::warn!(%refused, "a version was not held"),
            Err(error) => return Err(failure(&error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(package: &str) -> HoldKey {
        let (package, version) = (package.to_owned(), "2".to_owned());
        HoldKey { ecosystem: VersionScheme::Deb, package, version, scope: HoldScope::Fleet }
    }

    fn cause() -> HoldCause {
        HoldCause { by: Actor::Person("ann".to_owned()), at: Instant(1), change: None, host: None, why: "w".to_owned() }
    }

    #[test]
    fn what_is_held_is_there_after_a_restart_and_damage_is_never_taken_for_nothing_held() {
        let dir = tempfile::tempdir().unwrap();
        let store = HoldStore::new(dir.path());
        assert_eq!(store.read().unwrap().iter().count(), 0);
        assert!(store.hold(key("jq"), cause()).unwrap());
        assert!(!store.hold(key("jq"), cause()).unwrap());
        let again = HoldStore::new(dir.path());
        assert!(again.read().unwrap().held("h", "jq", "2").is_some());
        let release = HoldRelease { by: Actor::Person("bo".to_owned()), at: Instant(2), why: "fixed".to_owned() };
        again.release(&key("jq"), release.clone()).unwrap();
        assert!(store.read().unwrap().held("h", "jq", "2").is_none());
        assert_eq!(store.release(&key("jq"), release).unwrap_err().code(), "E0876");
        for damage in ["", "{}", r#"{"format":2,"holds":[]}"#] {
            std::fs::write(dir.path().join("holds.json"), damage).unwrap();
            assert_eq!(store.read().unwrap_err().code(), "E0875", "{damage}");
            assert!(store.hold(key("zip"), cause()).is_err(), "what cannot be read is not written over");
        }
    }

    #[test]
    fn many_writers_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for at in 0..8 {
                let store = HoldStore::new(dir.path());
                scope.spawn(move || store.hold(key(&format!("p{at}")), cause()).unwrap());
            }
        });
        assert_eq!(HoldStore::new(dir.path()).read().unwrap().iter().count(), 8);
    }
}
