//! What a change of a target leaves on disk before its first deed, so that whoever comes after a crash knows.
//!
//! One marker per step and item of a run: all attempts and the way back share it.

use std::path::{Path, PathBuf};

use patchloom_core::{Failure, TaskKey};
use patchloom_domain::{Instant, PackageSet, PlanDigest};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::adjust::Adjusted;
use super::state::HostState;
use crate::durable;
use crate::failure::{permanent, transient};

/// How far a change is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub(super) enum Phase {
    /// The package manager may have been started.
    Started,
    /// It is done, read back and complete; this was answered.
    Done { output: Value },
    /// It was taken back; this was answered.
    Undone { output: Value },
}

/// A target that has to be taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FoundState {
    /// Its packages that were half done, or whose scripts had failed.
    pub(super) broken: PackageSet,
    /// Digest of all its packages; none where they could not be read.
    pub(super) digest: Option<String>,
}

/// The marker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    /// The task that began, as text.
    pub(super) key: String,
    /// Which try began it.
    pub(super) attempt: u32,
    /// The plan.
    pub(super) digest: PlanDigest,
    /// When.
    pub(super) at: Instant,
    /// What was about to run.
    pub(super) argv: Vec<String>,
    /// Our own process.
    pub(super) pid: u32,
    /// The target before.
    pub(super) before: HostState,
    /// What was adjusted after a try failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) adjusted: Vec<Adjusted>,
    /// What the way back found when it was first gone: one that is repeated finds its own half-done work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) found: Option<FoundState>,
    /// Where it stands.
    #[serde(flatten)]
    pub(super) phase: Phase,
}

/// Where the marker of a task lies.
pub(super) fn path(backups: &Path, key: &TaskKey) -> PathBuf {
    let name = Sha256::digest(format!("{}/{}/{}", key.run, key.step, key.item));
    let name: String = name.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    backups.join("markers").join(format!("{name}.json"))
}

/// The marker, where there is one.
pub(super) fn read(path: &Path) -> Result<Option<Marker>, Failure> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(transient("E0512", format!("cannot read {}: {error}", path.display()))),
    };
    // It is replaced as a whole, so no crash of ours damages it. Without it nobody can tell what was before: stop.
    let damaged = |error| permanent("E0513", format!("the marker {} is damaged: {error}", path.display()));
    serde_json::from_slice(&text).map(Some).map_err(damaged)
}

/// Puts the marker on disk; when this returns it survives a power cut.
pub(super) fn write(path: &Path, marker: &Marker) -> Result<(), Failure> {
    let failed = |error: std::io::Error| transient("E0512", format!("cannot write {}: {error}", path.display()));
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(failed)?;
    }
    let text = serde_json::to_vec(marker).map_err(|error| failed(error.into()))?;
    durable::replace(path, &text).map_err(failed)
}

/// Writes down that a change is over, without losing what was before it.
pub(super) fn finish(path: &Path, marker: Marker, phase: Phase) -> Result<(), Failure> {
    write(path, &Marker { phase, ..marker })
}
