//! A disk in memory that forgets, fills up and fails on demand.
//!
//! Models what a real one may do: written bytes are durable after a flush of their file, names after a flush of their
//! directory; a crash keeps any sectors of what was not flushed; a failed flush drops its bytes for good while reads
//! still show them.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::Random;
use crate::disk::{Access, Disk, DiskFile, Stat, widen};

const SECTOR: usize = 512;

/// What a crash leaves of the bytes and names that were not flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// All: the process died, the kernel lives.
    Process,
    /// None of it.
    LoseUnsynced,
    /// Some sectors of the bytes and the first few of the names, drawn from the seed: the power went.
    Power {
        /// Where the draw starts.
        seed: u64,
    },
}

/// A disk in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct SimDisk(Arc<Mutex<World>>);

/// An open file of a [`SimDisk`]. Useless after a crash.
#[derive(Debug)]
pub struct SimFile {
    disk: SimDisk,
    inode: u64,
    generation: u64,
}

#[derive(Debug, Default)]
struct World {
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    pending_names: Vec<NameChange>,
    inodes: BTreeMap<u64, Inode>,
    inode_last: u64,
    generation: u64,
    now_utc_ms: u64,
    capacity: Option<u64>,
    write_budget: Option<u64>,
    failing_syncs: u32,
    crash_countdown: Option<u64>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Set(PathBuf, u64),
    Renamed(PathBuf, PathBuf, u64),
    Removed(PathBuf),
}

#[derive(Debug, Default)]
struct Inode {
    seen: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
    modified_utc_ms: u64,
}

#[derive(Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl SimDisk {
    /// An empty disk without limits or faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        // A panic in a test while it held the lock leaves plain bytes behind, which are still a disk.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Limits the sum of all file lengths: what does not fit is cut and reported as `ENOSPC`.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.world().capacity = bytes;
    }

    /// Lets `bytes` more be written; the write that goes beyond is cut there and fails once with `EIO`.
    pub fn fail_write_after(&self, bytes: u64) {
        self.world().write_budget = Some(bytes);
    }

    /// Fails the next `count` flushes of files with `EIO`; what they should have made durable is lost at the next crash.
    pub fn fail_syncs(&self, count: u32) {
        self.world().failing_syncs = count;
    }

    /// Freezes the disk after `operations` more changes: each later one fails until [`SimDisk::crash`].
    pub fn freeze_after(&self, operations: u64) {
        self.world().crash_countdown = Some(operations);
    }

    /// Sets the clock that stamps files.
    pub fn set_now(&self, utc_ms: u64) {
        self.world().now_utc_ms = utc_ms;
    }

    /// The sum of all file lengths.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.world().used()
    }

    /// The content of a file as a reader sees it, for tests that damage it.
    #[must_use]
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let world = self.world();
        world.names.get(path).and_then(|inode| world.inodes.get(inode)).map(|inode| inode.seen.clone())
    }

    /// Replaces the content of a file durably, for tests that damage it.
    pub fn set_content(&self, path: &Path, content: &[u8]) {
        let mut world = self.world();
        if let Some(inode) = world.names.get(path).copied()
            && let Some(inode) = world.inodes.get_mut(&inode)
        {
            *inode = Inode { seen: content.to_vec(), durable: content.to_vec(), ..Inode::default() };
        }
    }

    /// Crashes and comes back: open files are dead, faults are over, the rest is what `crash` leaves.
    pub fn crash(&self, crash: Crash) {
        let mut world = self.world();
        let world = &mut *world;
        let mut random = match crash {
            Crash::Power { seed } => Some(Random::new(seed)),
            Crash::Process | Crash::LoseUnsynced => None,
        };
        world.generation += 1;
        world.write_budget = None;
        world.failing_syncs = 0;
        world.crash_countdown = None;
        let pending = std::mem::take(&mut world.pending_names);
        let kept = match (crash, &mut random) {
            (Crash::Process, _) => pending.len(),
            (_, Some(random)) => usize::try_from(random.below(widen(pending.len()) + 1)).unwrap_or(0),
            (_, None) => 0,
        };
        for change in pending.iter().take(kept) {
            change.apply(&mut world.durable_names);
        }
        for inode in world.inodes.values_mut() {
            let pending = std::mem::take(&mut inode.pending);
            for change in pending {
                match (crash, &mut random) {
                    (Crash::Process, _) => change.apply(&mut inode.durable),
                    (_, Some(random)) => change.apply_in_part(&mut inode.durable, random),
                    (_, None) => {}
                }
            }
            if crash != Crash::Process {
                inode.seen.clone_from(&inode.durable);
            }
        }
        world.names.clone_from(&world.durable_names);
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Set(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            Self::Renamed(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            Self::Removed(path) => {
                names.remove(path);
            }
        }
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write(offset, bytes) => overwrite(content, *offset, bytes),
            Self::Length(bytes) => content.resize(*bytes, 0),
        }
    }

    fn apply_in_part(&self, content: &mut Vec<u8>, random: &mut Random) {
        match self {
            Self::Write(offset, bytes) => {
                let mut at = 0;
                while at < bytes.len() {
                    // Sectors lie on the disk, not in the write: the first piece may be short.
                    let end = bytes.len().min(at + SECTOR - (offset + at) % SECTOR);
                    if random.chance(50) {
                        overwrite(content, offset + at, &bytes[at..end]);
                    }
                    at = end;
                }
            }
            Self::Length(bytes) => {
                if random.chance(50) {
                    content.resize(*bytes, 0);
                }
            }
        }
    }
}

fn overwrite(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

impl World {
    fn used(&self) -> u64 {
        self.names.values().filter_map(|inode| self.inodes.get(inode)).map(|inode| widen(inode.seen.len())).sum()
    }

    /// Counts one change; an error once the disk is frozen.
    fn change(&mut self) -> io::Result<()> {
        match &mut self.crash_countdown {
            Some(0) => Err(io::Error::other("the simulated machine has crashed")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn set_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending_names.push(change);
    }

    fn find(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn write(&mut self, inode: u64, bytes: &[u8], offset: usize) -> io::Result<()> {
        self.change()?;
        let used = self.used();
        let now = self.now_utc_ms;
        let Some(file) = self.inodes.get_mut(&inode) else { return Err(ErrorKind::NotFound.into()) };
        let mut fits = bytes.len();
        let mut result = Ok(());
        if let Some(capacity) = self.capacity {
            let room = usize::try_from(capacity.saturating_sub(used)).unwrap_or(usize::MAX);
            let end_max = file.seen.len().saturating_add(room);
            if offset + fits > end_max {
                fits = end_max.saturating_sub(offset);
                result = Err(io::Error::from(Errno::NOSPC));
            }
        }
        if let Some(budget) = self.write_budget {
            if widen(fits) > budget {
                fits = usize::try_from(budget).unwrap_or(0);
                self.write_budget = None;
                result = Err(io::Error::from(Errno::IO));
            } else {
                self.write_budget = Some(budget - widen(fits));
            }
        }
        let change = Change::Write(offset, bytes[..fits].to_vec());
        if fits > 0 {
            change.apply(&mut file.seen);
            file.pending.push(change);
            file.modified_utc_ms = now;
        }
        result
    }

    fn sync(&mut self, inode: u64) -> io::Result<()> {
        self.change()?;
        let Some(file) = self.inodes.get_mut(&inode) else { return Err(ErrorKind::NotFound.into()) };
        let pending = std::mem::take(&mut file.pending);
        if self.failing_syncs > 0 {
            self.failing_syncs -= 1;
            return Err(io::Error::from(Errno::IO));
        }
        for change in pending {
            change.apply(&mut file.durable);
        }
        Ok(())
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        self.world().change()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let world = self.world();
        let inside = world.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect())
    }

    fn create(&self, path: &Path) -> io::Result<SimFile> {
        let mut world = self.world();
        world.change()?;
        world.inode_last += 1;
        let inode = world.inode_last;
        world.inodes.insert(inode, Inode::default());
        world.set_name(NameChange::Set(path.to_owned(), inode));
        Ok(SimFile { disk: self.clone(), inode, generation: world.generation })
    }

    fn open(&self, path: &Path, _access: Access) -> io::Result<SimFile> {
        let world = self.world();
        Ok(SimFile { disk: self.clone(), inode: world.find(path)?, generation: world.generation })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.change()?;
        let inode = world.find(from)?;
        world.set_name(NameChange::Renamed(from.to_owned(), to.to_owned(), inode));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.change()?;
        world.find(path)?;
        world.set_name(NameChange::Removed(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.change()?;
        let pending = std::mem::take(&mut world.pending_names);
        for change in pending {
            change.apply(&mut world.durable_names);
        }
        // Inodes without a name, now or after a crash, can never be seen again.
        let World { names, durable_names, inodes, .. } = &mut *world;
        inodes.retain(|inode, _| names.values().chain(durable_names.values()).any(|named| named == inode));
        Ok(())
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let world = self.world();
        let inode = world.find(path)?;
        let inode = world.inodes.get(&inode).ok_or(ErrorKind::NotFound)?;
        Ok(Stat { bytes: widen(inode.seen.len()), modified_utc_ms: inode.modified_utc_ms })
    }
}

impl SimFile {
    fn with<T>(&self, act: impl FnOnce(&mut World) -> io::Result<T>) -> io::Result<T> {
        let mut world = self.disk.world();
        if world.generation != self.generation {
            return Err(io::Error::other("this file was opened before the simulated crash"));
        }
        act(&mut world)
    }

    fn read<T>(&self, look: impl FnOnce(&Inode) -> T) -> io::Result<T> {
        self.with(|world| world.inodes.get(&self.inode).map(look).ok_or_else(|| ErrorKind::NotFound.into()))
    }
}

impl DiskFile for SimFile {
    fn bytes(&self) -> io::Result<u64> {
        self.read(|inode| widen(inode.seen.len()))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let offset = usize::try_from(offset).map_err(|_| ErrorKind::InvalidInput)?;
        self.read(|inode| {
            let rest = inode.seen.get(offset..).unwrap_or_default();
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            count
        })
    }

    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(|_| ErrorKind::InvalidInput)?;
        self.with(|world| world.write(self.inode, bytes, offset))
    }

    fn set_len(&mut self, bytes: u64) -> io::Result<()> {
        let bytes = usize::try_from(bytes).map_err(|_| ErrorKind::InvalidInput)?;
        self.with(|world| {
            world.change()?;
            let Some(file) = world.inodes.get_mut(&self.inode) else { return Err(ErrorKind::NotFound.into()) };
            let change = Change::Length(bytes);
            change.apply(&mut file.seen);
            file.pending.push(change);
            Ok(())
        })
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.with(|world| world.sync(self.inode))
    }
}
