//! What lies behind the journal, to read: the archive and the histories in the store.

use std::path::PathBuf;

use patchloom_core::RunId;

use super::handle::{EngineError, Handle};
use super::history::{Item, items};
use super::keeper::archive_place;
use super::recovery::OpenError;
use crate::archive::Archive;
use crate::disk::RealDisk;
use crate::store::Store;

/// A run out of the archive.
#[derive(Debug, serde::Deserialize)]
pub struct Archived {
    /// As it was when it went there.
    pub run: patchloom_core::run::Run,
    /// All that happened to it.
    pub history: Vec<Item>,
}

/// The store and the archive of a data directory, for those who read. Clones read the same.
#[derive(Clone)]
pub struct Books {
    store: Store,
    archive: PathBuf,
}

impl std::fmt::Debug for Books {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Books").field("archive", &self.archive).finish_non_exhaustive()
    }
}

impl Books {
    pub(super) fn new(store: Store, archive: PathBuf) -> Self {
        Self { store, archive }
    }

    /// A run out of the archive; `None` where it is not there.
    ///
    /// # Errors
    /// The store or the archive cannot be read.
    pub fn archived(&self, run: RunId) -> Result<Option<Archived>, OpenError> {
        let Some(place) = archive_place(&self.store, run)? else { return Ok(None) };
        // Only to read: opening it would cut off what the keeper is writing at this moment.
        let entry = Archive::inspect(RealDisk, &self.archive).get(place)?;
        serde_json::from_slice(&entry.payload).map(Some).map_err(|source| OpenError::Record { seq: 0, source })
    }

    /// All that happened to a run, archived or not; what is not written behind yet `handle` tells.
    ///
    /// # Errors
    /// The leader has stopped, or what is stored cannot be read.
    pub async fn history(&self, handle: &Handle, run: RunId) -> Result<Vec<Item>, HistoryError> {
        let mut all = self.archived(run)?.map(|archived| archived.history).unwrap_or_default();
        // A run that was recalled has more behind it.
        let recent = handle.recent_history(run).await?;
        let mut lines = Vec::new();
        self.store
            .load(format!("h/{run}/").as_bytes(), |_, value| lines.extend_from_slice(value))
            .map_err(OpenError::from)?;
        for later in [items(&lines), recent] {
            let known = all.last().map_or(0, |item| item.seq);
            all.extend(later.into_iter().filter(|item| item.seq > known));
        }
        Ok(all)
    }

    /// The ids of all archived runs.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn archived_ids(&self) -> Result<Vec<RunId>, OpenError> {
        let mut ids = Vec::new();
        self.store.load(b"a/", |key, _| {
            let text = String::from_utf8_lossy(&key[2..]);
            ids.extend(text.parse::<RunId>());
        })?;
        Ok(ids)
    }
}

/// Why a history cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The leader has stopped.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// What is stored cannot be read.
    #[error(transparent)]
    Stored(#[from] OpenError),
}
