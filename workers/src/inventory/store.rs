//! The recorded inventory: one document, its versions, a lock. Knows nothing of sources but their names.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use patchloom_core::UtcMs;
use patchloom_domain::inventory::{Inventory, Names, diff_inventories};
use serde::{Deserialize, Serialize};

use super::Error;
use crate::durable;

/// The format that is written.
const FORMAT: u32 = 1;
/// How many versions are kept.
pub const HISTORY_KEPT: usize = 10;
/// A tenth of the hosts may be gone without a word, and so many always: small fleets change by more.
const GONE_SHARE: usize = 10;
const GONE_ALWAYS: usize = 3;

/// Where an inventory comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sources {
    /// Files and directories of hosts, absolute.
    pub files: Vec<PathBuf>,
    /// Policy files, absolute.
    pub policies: Vec<PathBuf>,
    /// Names of tags and variables that give fields.
    pub names: Names,
}

/// What is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// The format of the document.
    pub format: u32,
    /// Counts up by one with each record that changed something.
    pub version: u64,
    /// SHA-256 of the inventory.
    pub digest: String,
    /// When it was recorded.
    pub at: UtcMs,
    /// Where it came from.
    pub sources: Sources,
    /// The inventory.
    pub inventory: Inventory,
}

/// The directory of the inventory.
#[derive(Clone, Debug)]
pub struct InventoryStore {
    dir: PathBuf,
}

impl InventoryStore {
    /// The inventory below the data directory at `root`. Nothing need be there yet.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { dir: root.join("inventory") }
    }

    fn current(&self) -> PathBuf {
        self.dir.join("current.json")
    }

    /// What is recorded; `None` where nothing is.
    ///
    /// # Errors
    /// [`Error::Damaged`] where its digest is not that of its content.
    pub fn load(&self) -> Result<Option<Document>, Error> {
        let path = self.current();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(Error::Io { action: "read", path, source }),
        };
        let damaged = |reason: String| Error::Damaged { path: path.clone(), reason };
        let document: Document = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if document.format != FORMAT {
            return Err(damaged(format!("it has format {}, this version reads {FORMAT}", document.format)));
        }
        let digest = document.inventory.digest();
        if digest != document.digest {
            return Err(damaged(format!("its content has the digest {digest}, it says {}", document.digest)));
        }
        Ok(Some(document))
    }

    /// Records an inventory. The same again changes nothing; the answer says whether something changed.
    ///
    /// # Durability
    /// The version and the document are synced when this returns; after a crash the old document stands or the new one.
    /// # Errors
    /// [`Error::TooManyGone`] where more than a tenth of the hosts would vanish, unless `allow_gone`.
    pub fn record(
        &self,
        sources: Sources,
        inventory: Inventory,
        (at, allow_gone): (UtcMs, bool),
    ) -> Result<(Document, bool), Error> {
        let io = |action, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { action, path, source }
        };
        let versions = self.dir.join("versions");
        fs::create_dir_all(&versions).map_err(io("create", &versions))?;
        let _lock = self.lock()?;
        let recorded = self.load()?;
        let digest = inventory.digest();
        if let Some(recorded) = &recorded {
            if recorded.digest == digest && recorded.sources == sources {
                return Ok((recorded.clone(), false));
            }
            let gone = diff_inventories(&recorded.inventory, &inventory).hosts_gone();
            let all = recorded.inventory.hosts.len();
            if !allow_gone && gone > GONE_ALWAYS.max(all / GONE_SHARE) {
                return Err(Error::TooManyGone { gone, recorded: all });
            }
        }
        let version = recorded.map_or(1, |recorded| recorded.version + 1);
        let document = Document { format: FORMAT, version, digest, at, sources, inventory };
        let path = self.current();
        let bytes = serde_json::to_vec(&document).map_err(|error| io("write", &path)(error.into()))?;
        let kept = versions.join(format!("{version:08}.json"));
        durable::replace(&kept, &bytes).map_err(io("write", &kept))?;
        durable::replace(&path, &bytes).map_err(io("write", &path))?;
        let mut old: Vec<PathBuf> =
            fs::read_dir(&versions).map_err(io("list", &versions))?.flatten().map(|entry| entry.path()).collect();
        old.sort();
        // What cannot be deleted takes room and does no harm.
        old.iter().rev().skip(HISTORY_KEPT).for_each(|path| drop(fs::remove_file(path)));
        Ok((document, true))
    }

    /// The operating system lets it go when its holder ends, however it ends.
    fn lock(&self) -> Result<File, Error> {
        let path = self.dir.join("lock");
        let failed = |source| Error::Io { action: "lock", path: path.clone(), source };
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(Error::Busy { path }),
            Err(TryLockError::Error(source)) => Err(Error::Io { action: "lock", path, source }),
        }
    }
}
