//! Snapshots of root directories: made before a change, restored when it fails, dropped when it is over.
//!
//! A btrfs subvolume, a ZFS dataset and a logical volume are snapshotted by what holds them, any other directory is copied
//! (cloned where the file system can). Never of the running machine: its way back is its packages. Knows nothing of packages, tasks or plans.

mod btrfs;
pub(crate) mod outside;
mod retain;
#[cfg(test)]
mod tests;
mod tool;
pub(crate) mod tree;
mod volume;
#[cfg(test)]
mod volume_tests;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use patchloom_domain::{Instant, SnapshotKind, SnapshotProof};
use serde::{Deserialize, Serialize};

pub use outside::{Disk, Means, Restored, Taken};
pub use retain::{Fate, Held, Owner, Pruned, TTL_MS};
pub use volume::{Tools, Volume};

use crate::durable;

/// Room that a copy must leave.
const SPARE_BYTES: u64 = 64 << 20;

/// What an entry takes besides its content: an inode and a name.
const ENTRY_BYTES: u64 = 512;

/// The file that keeps a snapshot from being dropped.
const KEEP: &str = "keep";

/// Why a snapshot could not be made, restored or dropped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A copy would not fit.
    #[error("a copy of {} takes {need} bytes, {} has {free} free", root.display(), dir.display())]
    NoRoom {
        /// The directory to copy.
        root: PathBuf,
        /// Where to.
        dir: PathBuf,
        /// Bytes needed.
        need: u64,
        /// Bytes free.
        free: u64,
    },
    /// The copy would hold itself.
    #[error("{} lies inside {}: a copy would hold itself", dir.display(), root.display())]
    Inside {
        /// The directory to copy.
        root: PathBuf,
        /// Where to.
        dir: PathBuf,
    },
    /// It is not there, or was never completed.
    #[error("snapshot {id} is not complete")]
    Incomplete {
        /// Its id.
        id: String,
    },
    /// A host did not come back and may still need it.
    #[error("snapshot {id} is kept, because {why}")]
    Kept {
        /// Its id.
        id: String,
        /// Why.
        why: String,
    },
    /// It was read back and is not what the root is.
    #[error("snapshot {id} differs from {}: {what}", root.display())]
    Differs {
        /// Its id.
        id: String,
        /// The root.
        root: PathBuf,
        /// In what.
        what: String,
    },
    /// A path could not be copied.
    #[error(transparent)]
    Tree(#[from] tree::Error),
    /// The btrfs tool failed.
    #[error("btrfs {what} failed: {said}")]
    Btrfs {
        /// What it should have done.
        what: String,
        /// What it said.
        said: String,
    },
    /// The tool of a volume manager failed.
    #[error("{what} failed: {said}")]
    Tool {
        /// What it should have done.
        what: String,
        /// What it said.
        said: String,
    },
    /// A volume group has too little room for a snapshot.
    #[error("a snapshot takes {need} bytes of the volume group {group}, which has {free} free")]
    VolumesFull {
        /// The group.
        group: String,
        /// Bytes needed.
        need: u64,
        /// Bytes free.
        free: u64,
    },
    /// A machine cannot be snapshotted from outside as somebody said.
    #[error("{what} cannot be snapshotted: {why}")]
    Unfit {
        /// Which.
        what: String,
        /// Why.
        why: String,
    },
    /// The hypervisor refused, or does not answer.
    #[error("{what} failed: {said}")]
    Virsh {
        /// What it should have done.
        what: String,
        /// What it said.
        said: String,
    },
    /// It is not whole, or not of the machine that it was taken of.
    #[error("snapshot {id} cannot be gone back to: {why}")]
    NotProven {
        /// Its id.
        id: String,
        /// Why.
        why: String,
    },
    /// Nobody allowed a run to go back to it.
    #[error("the root of {machine} is not replaced by {snapshot}: replace-root was not allowed")]
    NotAllowed {
        /// The instance.
        machine: String,
        /// The snapshot of the volume that it boots from.
        snapshot: String,
    },
    /// AWS refused, or does not answer.
    #[error(transparent)]
    Aws(#[from] crate::aws::Error),
    /// The file system refused.
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

impl Error {
    /// Its page in docs/errors.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoRoom { .. } | Self::VolumesFull { .. } => "E0551",
            Self::Tool { .. } => "E0977",
            Self::Inside { .. } => "E0552",
            Self::Incomplete { .. } => "E0553",
            Self::Differs { .. } => "E0554",
            Self::Kept { .. } => "E0558",
            Self::Tree(_) | Self::Io { .. } => "E0555",
            Self::Btrfs { .. } => "E0556",
            Self::Unfit { .. } => "E0931",
            Self::Virsh { .. } => "E0932",
            Self::NotProven { .. } => "E0933",
            Self::NotAllowed { .. } => "E0936",
            Self::Aws(error) => error.code(),
        }
    }

    /// Whether the same may work later: whoever holds the disks of a machine did not answer.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Virsh { said, .. } => said.contains("failed to connect") || said.contains("it took more than"),
            Self::Aws(error) => error.is_passing(),
            _ => false,
        }
    }
}

/// A snapshot, as its document beside it tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its id: the same for each try to make it.
    pub id: String,
    /// The run that it belongs to, and that drops it.
    pub owner: String,
    /// The change that it stands behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
    /// How long it lives from its making on; [`TTL_MS`] where nobody said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// The directory it was made of.
    pub root: PathBuf,
    /// How it was made.
    pub kind: SnapshotKind,
    /// Where it lies.
    pub place: PathBuf,
    /// The volume that its root is, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Volume>,
    /// When.
    pub at: Instant,
    /// Bytes and entries copied; zero where the file system shares them.
    pub entries: u64,
    /// Bytes of regular files.
    pub bytes: u64,
    /// Complete, on disk, and read back.
    pub verified: bool,
}

impl Snapshot {
    /// What the gate wants to know of it.
    #[must_use]
    pub fn proof(&self) -> SnapshotProof {
        SnapshotProof { id: self.id.clone(), kind: self.kind, verified: self.verified }
    }
}

/// The snapshots that lie in one directory.
#[derive(Clone, Debug)]
pub struct Snapshots {
    dir: PathBuf,
    tools: Tools,
    means: Means,
}

impl Snapshots {
    /// The snapshots in `dir`.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), tools: Tools::default(), means: Means::default() }
    }

    /// With tools that lie elsewhere.
    #[must_use]
    pub fn with(self, tools: Tools) -> Self {
        Self { tools, ..self }
    }

    /// With other means for those that are taken from outside.
    #[must_use]
    pub fn by(self, means: Means) -> Self {
        Self { means, ..self }
    }

    /// Makes the snapshot `id` of `root`; one that is complete stays as it is, an unfinished one is finished.
    ///
    /// # Errors
    /// When there is no room, a path cannot be copied, or what was made differs from the root.
    pub fn create(&self, id: &str, owner: &Owner, root: &Path, at: Instant) -> Result<Snapshot, Error> {
        if let Ok(known) = self.get(id) {
            return Ok(known);
        }
        let home = self.home(id);
        std::fs::create_dir_all(&home).map_err(io_error("make", &home))?;
        let mut snapshot = Snapshot {
            id: id.to_owned(),
            owner: owner.run.clone(),
            change: owner.change.clone(),
            ttl_ms: Some(owner.ttl_ms),
            root: root.to_owned(),
            kind: SnapshotKind::Copy,
            place: home.join("tree"),
            volume: None,
            at,
            entries: 0,
            bytes: 0,
            verified: false,
        };
        match btrfs::place(root, id) {
            Some(place) => {
                snapshot.kind = SnapshotKind::Btrfs;
                snapshot.place = place;
                // Its document goes first, so that what a crash leaves is found and dropped.
                self.write(&snapshot)?;
                btrfs::create(root, &snapshot.place)?;
            }
            None => match volume::of(root, &self.tools) {
                Some(volume) => self.of_volume(&mut snapshot, volume)?,
                None => self.copy(&mut snapshot)?,
            },
        }
        verify(&snapshot)?;
        snapshot.verified = true;
        self.write(&snapshot)?;
        Ok(snapshot)
    }

    /// A complete snapshot.
    ///
    /// # Errors
    /// [`Error::Incomplete`].
    pub fn get(&self, id: &str) -> Result<Snapshot, Error> {
        let incomplete = || Error::Incomplete { id: id.to_owned() };
        let known = self.read(id).ok_or_else(incomplete)?;
        if known.verified && known.place.is_dir() { Ok(known) } else { Err(incomplete()) }
    }

    /// Makes its root exactly what it was. Repeating it, or doing it after a crash in the middle, comes to the same end.
    ///
    /// # Errors
    /// [`Error::Incomplete`], and the first path that could not be restored.
    pub fn restore(&self, id: &str) -> Result<Snapshot, Error> {
        let snapshot = self.get(id)?;
        if snapshot.kind == SnapshotKind::Btrfs && btrfs::swap(&snapshot.root, &snapshot.place)? {
            return Ok(snapshot);
        }
        if let Some(known) = &snapshot.volume {
            volume::ready(known, &snapshot.place, id, &self.tools)?;
            if volume::roll_back(known, id, &self.tools) {
                return Ok(snapshot);
            }
        }
        tree::mirror(&snapshot.place, &snapshot.root, &own_names())?;
        sync(&snapshot.root)?;
        Ok(snapshot)
    }

    /// Deletes a snapshot, whole or half made. One that is not there is dropped already.
    ///
    /// # Errors
    /// [`Error::Kept`], or when it cannot be deleted.
    pub fn drop(&self, id: &str) -> Result<bool, Error> {
        let home = self.home(id);
        if let Ok(why) = std::fs::read_to_string(home.join(KEEP)) {
            return Err(Error::Kept { id: id.to_owned(), why });
        }
        if let Some(taken) = self.outside(id) {
            self.delete_outside(&taken)?;
        }
        match self.read(id) {
            Some(snapshot) if snapshot.kind == SnapshotKind::Btrfs => btrfs::drop(&snapshot.place)?,
            Some(Snapshot { volume: Some(known), place, .. }) => volume::drop(&known, &place, id, &self.tools)?,
            Some(_) | None => {}
        }
        match std::fs::remove_dir_all(&home) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(io_error("delete", &home)(error)),
        }
    }

    /// Keeps a snapshot from being dropped, because its host did not come back; `None` lets it go again.
    ///
    /// # Errors
    /// [`Error::Io`]. A snapshot that is not there needs no keeping.
    pub fn keep(&self, id: &str, why: Option<&str>) -> Result<(), Error> {
        let path = self.home(id).join(KEEP);
        match why {
            Some(why) if self.home(id).is_dir() => {
                durable::replace(&path, why.as_bytes()).map_err(io_error("write", &path))
            }
            None if path.exists() => std::fs::remove_file(&path).map_err(io_error("delete", &path)),
            Some(_) | None => Ok(()),
        }
    }

    fn of_volume(&self, snapshot: &mut Snapshot, of: Volume) -> Result<(), Error> {
        snapshot.kind = match of {
            Volume::Zfs { .. } => SnapshotKind::Zfs,
            Volume::Lvm { .. } => SnapshotKind::Lvm,
        };
        snapshot.place = volume::place(&of, &snapshot.root, &self.home(&snapshot.id), &snapshot.id);
        snapshot.volume = Some(of.clone());
        // What is only in memory would be missing in it.
        sync(&snapshot.root)?;
        // As with btrfs: what a crash leaves is found by its document.
        self.write(snapshot)?;
        volume::create(&of, &snapshot.place, &snapshot.id, &self.tools)
    }

    fn copy(&self, snapshot: &mut Snapshot) -> Result<(), Error> {
        let (root, place) = (snapshot.root.clone(), snapshot.place.clone());
        let real = |path: &Path| path.canonicalize().map_err(io_error("resolve", path));
        let (real_root, real_dir) = (real(&root)?, real(&self.dir)?);
        if real_dir.starts_with(&real_root) {
            return Err(Error::Inside { root, dir: self.dir.clone() });
        }
        let need = tree::measure(&root, &btrfs::own_names())?;
        let sample = root.join("var/lib/dpkg/status");
        if !tree::can_clone(&sample, &self.home(&snapshot.id)) {
            let need = need.bytes.saturating_add(need.entries.saturating_mul(ENTRY_BYTES)).saturating_add(SPARE_BYTES);
            let space = rustix::fs::statvfs(&self.dir).map_err(|e| io_error("look at", &self.dir)(e.into()))?;
            let free = space.f_bavail.saturating_mul(space.f_frsize);
            if free < need {
                return Err(Error::NoRoom { root, dir: self.dir.clone(), need, free });
            }
        }
        std::fs::create_dir_all(&place).map_err(io_error("make", &place))?;
        let done = tree::mirror(&root, &place, &btrfs::own_names())?;
        if done.entries != need.entries {
            let what = format!("{} entries were counted, {} copied", need.entries, done.entries);
            return Err(Error::Differs { id: snapshot.id.clone(), root, what });
        }
        (snapshot.entries, snapshot.bytes) = (done.entries, done.bytes);
        sync(&place)
    }

    fn home(&self, id: &str) -> PathBuf {
        self.dir.join(id)
    }

    fn read(&self, id: &str) -> Option<Snapshot> {
        let text = std::fs::read(self.home(id).join("snapshot.json")).ok()?;
        serde_json::from_slice(&text).ok()
    }

    fn write(&self, snapshot: &Snapshot) -> Result<(), Error> {
        let path = self.home(&snapshot.id).join("snapshot.json");
        let text = serde_json::to_vec_pretty(snapshot).map_err(|error| io_error("write", &path)(error.into()))?;
        durable::replace(&path, &text).map_err(io_error("write", &path))
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

/// Brings a whole file system to disk: thousands of single syncs would take minutes.
fn sync(path: &Path) -> Result<(), Error> {
    let dir = File::open(path).map_err(io_error("open", path))?;
    rustix::fs::syncfs(&dir).map_err(|error| io_error("sync", path)(error.into()))
}

/// The package database is what a way back is measured by.
fn verify(snapshot: &Snapshot) -> Result<(), Error> {
    let read = |base: &Path| {
        let path = base.join("var/lib/dpkg/status");
        std::fs::read(&path).map_err(io_error("read", &path))
    };
    if read(&snapshot.root)? == read(&snapshot.place)? {
        return Ok(());
    }
    let what = "the package database changed while it was made".to_owned();
    Err(Error::Differs { id: snapshot.id.clone(), root: snapshot.root.clone(), what })
}

/// Names inside a root that belong to no snapshot: ours, and the one under which ZFS shows its own.
fn own_names() -> BTreeSet<PathBuf> {
    let mut names = btrfs::own_names();
    names.insert(PathBuf::from(".zfs"));
    names
}

fn skip(names: &[&str]) -> BTreeSet<PathBuf> {
    names.iter().map(PathBuf::from).collect()
}
