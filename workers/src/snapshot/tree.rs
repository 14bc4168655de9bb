//! Makes one directory tree exactly equal to another, in place: content, types, owners, modes, times, hard links,
//! extended attributes (ACLs and capabilities are such), and nothing that the other does not have.
//!
//! Stays on one mount: what is mounted inside is neither read nor touched. Running it again after a crash goes on
//! where it stopped, because only what differs is written. Knows nothing of packages.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{CString, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dev, FileType, Gid, Mode, StatxFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, ioctl_ficlone,
    lgetxattr, llistxattr, lremovexattr, lsetxattr, mknodat, statx, utimensat,
};

/// Compared and copied at a time.
const CHUNK_BYTES: usize = 128 << 10;

/// What could not be done, on which path.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct Error {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Entries of the tree.
    pub entries: u64,
    /// Entries made, replaced or corrected.
    pub written: u64,
    /// Entries deleted.
    pub deleted: u64,
    /// Bytes of regular files.
    pub bytes: u64,
}

/// Makes `to` exactly equal to `from`; `skip` names paths relative to both that are neither read nor touched.
///
/// The directory `to` itself keeps its inode: it may be a mount point.
///
/// # Errors
/// The first path that could not be read or written; what was done stays done, and another call goes on from there.
pub fn mirror(from: &Path, to: &Path, skip: &BTreeSet<PathBuf>) -> Result<Figures, Error> {
    let mount = |path| mount_id(path).map_err(error("look at", path));
    let mut walk = Walk {
        from,
        to,
        skip,
        from_mount: mount(from)?,
        to_mount: mount(to)?,
        links: HashMap::new(),
        figures: Figures::default(),
    };
    // All that is too much goes first: on a full disk there is no room to bring anything back before.
    walk.prune(Path::new(""), false)?;
    match walk.directory(Path::new("")) {
        Err(full) if full.source.kind() == io::ErrorKind::StorageFull => {
            // No room for old and new at once, nor for what is missing: first what differs is exchanged, which sets
            // room free. A crash in between is made good by the next call, which finds the entry missing.
            walk.prune(Path::new(""), true)?;
            (walk.links, walk.figures.entries, walk.figures.bytes) = (HashMap::new(), 0, 0);
            walk.directory(Path::new(""))?;
        }
        done => done?,
    }
    Ok(walk.figures)
}

/// The room that a copy of `from` takes: bytes on disk and number of entries, on its mount alone.
///
/// # Errors
/// The first path that could not be read.
pub fn measure(from: &Path, skip: &BTreeSet<PathBuf>) -> Result<Figures, Error> {
    let mount = mount_id(from).map_err(error("look at", from))?;
    let mut figures = Figures::default();
    let mut open = vec![PathBuf::new()];
    let mut seen = BTreeSet::new();
    while let Some(relative) = open.pop() {
        for name in names(&from.join(&relative))? {
            let inner = relative.join(name);
            let path = from.join(&inner);
            if skip.contains(&inner) || mount_id(&path).map_err(error("look at", &path))? != mount {
                continue;
            }
            let data = path.symlink_metadata().map_err(error("look at", &path))?;
            figures.entries += 1;
            if data.is_dir() {
                open.push(inner);
            } else if data.nlink() == 1 || seen.insert(data.ino()) {
                figures.bytes = figures.bytes.saturating_add(data.blocks().saturating_mul(512));
            }
        }
    }
    Ok(figures)
}

/// Whether files of `from` can be cloned into `to` without taking room.
#[must_use]
pub fn can_clone(from: &Path, to: &Path) -> bool {
    let Ok(source) = File::open(from) else { return false };
    let Ok(target) = tempfile::Builder::new().prefix(".clone-").tempfile_in(to) else { return false };
    ioctl_ficlone(target.as_file(), &source).is_ok()
}

/// Makes the entry `to` equal to the file or link `from`; whether anything was to be done.
///
/// # Errors
/// The path that could not be read or written.
pub fn copy_one(from: &Path, to: &Path) -> Result<bool, Error> {
    let source = from.symlink_metadata().map_err(error("look at", from))?;
    let equal = match to.symlink_metadata() {
        Ok(target) => same_content(from, &source, to, &target)?,
        Err(_) => false,
    };
    if !equal {
        replace(from, &source, to)?;
    }
    attributes(from, to)?;
    Ok(!equal)
}

fn error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error { action, path, source }
}

pub(super) fn mount_id(path: &Path) -> io::Result<u64> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let data = statx(CWD, path, flags, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)?;
    // Before Linux 5.8 there is no mount id: the device number tells all but bind mounts apart.
    let has_id = data.stx_mask & StatxFlags::MNT_ID.bits() != 0;
    Ok(if has_id { data.stx_mnt_id } else { (u64::from(data.stx_dev_major) << 32) | u64::from(data.stx_dev_minor) })
}

fn names(dir: &Path) -> Result<Vec<OsString>, Error> {
    let entries = fs::read_dir(dir).map_err(error("list", dir))?;
    let mut names =
        entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>().map_err(error("list", dir))?;
    names.sort();
    Ok(names)
}

struct Walk<'a> {
    from: &'a Path,
    to: &'a Path,
    skip: &'a BTreeSet<PathBuf>,
    from_mount: u64,
    to_mount: u64,
    /// First place in `to` of each source inode that has several names.
    links: HashMap<(u64, u64), PathBuf>,
    figures: Figures,
}

impl Walk<'_> {
    fn directory(&mut self, relative: &Path) -> Result<(), Error> {
        let (from, to) = (self.from.join(relative), self.to.join(relative));
        for name in names(&from)? {
            self.entry(&relative.join(name))?;
        }
        // Last, because filling a directory changes its times.
        attributes(&from, &to)
    }

    /// Deletes what the source does not have; with `differing`, exchanges files of another content as well.
    fn prune(&mut self, relative: &Path, differing: bool) -> Result<(), Error> {
        let (from, to) = (self.from.join(relative), self.to.join(relative));
        let wanted: BTreeSet<_> = names(&from)?.into_iter().collect();
        for name in names(&to)? {
            let inner = relative.join(&name);
            if !wanted.contains(&name) {
                self.delete(&inner)?;
                continue;
            }
            let (source, target) = (self.from.join(&inner), self.to.join(&inner));
            if self.skip.contains(&inner) || !self.is_ours(&source, &target)? {
                continue;
            }
            let look = |path: &Path| path.symlink_metadata().map_err(error("look at", path));
            let (of_source, of_target) = (look(&source)?, look(&target)?);
            if of_source.is_dir() && of_target.is_dir() {
                self.prune(&inner, differing)?;
            } else if differing && !same_content(&source, &of_source, &target, &of_target)? {
                // One after the other: should the room still not do, one file is missing and not all of them.
                remove(&target)?;
                replace(&source, &of_source, &target)?;
                attributes(&source, &target)?;
                self.figures.written += 1;
            }
        }
        Ok(())
    }

    /// Whether neither lies on a mount of its own.
    fn is_ours(&self, source: &Path, target: &Path) -> Result<bool, Error> {
        let source_mount = mount_id(source).map_err(error("look at", source))?;
        Ok(source_mount == self.from_mount && mount_id(target).map_err(error("look at", target))? == self.to_mount)
    }

    fn delete(&mut self, relative: &Path) -> Result<(), Error> {
        let path = self.to.join(relative);
        if self.skip.contains(relative) || mount_id(&path).map_err(error("look at", &path))? != self.to_mount {
            return Ok(());
        }
        self.figures.deleted += 1;
        remove(&path)
    }

    fn entry(&mut self, relative: &Path) -> Result<(), Error> {
        let (from, to) = (self.from.join(relative), self.to.join(relative));
        if self.skip.contains(relative) || mount_id(&from).map_err(error("look at", &from))? != self.from_mount {
            return Ok(());
        }
        let source = from.symlink_metadata().map_err(error("look at", &from))?;
        let target = match to.symlink_metadata() {
            Ok(data) => Some(data),
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => None,
            Err(other) => return Err(error("look at", &to)(other)),
        };
        if target.is_some() && mount_id(&to).map_err(error("look at", &to))? != self.to_mount {
            return Ok(());
        }
        self.figures.entries += 1;
        if source.is_dir() {
            return self.inner_directory(relative, &to, target.as_ref());
        }
        if source.is_file() {
            self.figures.bytes = self.figures.bytes.saturating_add(source.len());
        }
        if source.nlink() > 1 {
            let key = (source.dev(), source.ino());
            if let Some(first) = self.links.get(&key).cloned() {
                return self.link(&first, &to, target.as_ref());
            }
            self.links.insert(key, to.clone());
        }
        // A target with more names than the source has may share its content with a file that must stay different.
        let same_links = target.as_ref().is_some_and(|data| data.nlink() == source.nlink());
        let equal = match &target {
            Some(target) if same_links => same_content(&from, &source, &to, target)?,
            Some(_) | None => false,
        };
        if !equal {
            self.figures.written += 1;
            replace(&from, &source, &to)?;
        }
        attributes(&from, &to)
    }

    fn inner_directory(&mut self, relative: &Path, to: &Path, target: Option<&fs::Metadata>) -> Result<(), Error> {
        if target.is_some_and(|data| !data.is_dir()) {
            remove(to)?;
        }
        if !target.is_some_and(fs::Metadata::is_dir) {
            self.figures.written += 1;
            fs::create_dir(to).map_err(error("make directory", to))?;
        }
        self.directory(relative)
    }

    fn link(&mut self, first: &Path, to: &Path, target: Option<&fs::Metadata>) -> Result<(), Error> {
        let of_first = first.symlink_metadata().map_err(error("look at", first))?;
        if target.is_some_and(|data| (data.dev(), data.ino()) == (of_first.dev(), of_first.ino())) {
            return Ok(());
        }
        if target.is_some() {
            remove(to)?;
        }
        self.figures.written += 1;
        fs::hard_link(first, to).map_err(error("link", to))
    }
}

fn attributes(from: &Path, to: &Path) -> Result<(), Error> {
    let source = from.symlink_metadata().map_err(error("look at", from))?;
    let target = to.symlink_metadata().map_err(error("look at", to))?;
    if (source.uid(), source.gid()) != (target.uid(), target.gid()) {
        let (owner, group) = (Uid::from_raw(source.uid()), Gid::from_raw(source.gid()));
        chownat(CWD, to, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(io::Error::from)
            .map_err(error("set the owner of", to))?;
    }
    // After the owner, because changing that clears set-user-id; a symbolic link has no mode of its own.
    if !source.is_symlink() && to.symlink_metadata().map_err(error("look at", to))?.mode() != source.mode() {
        fs::set_permissions(to, source.permissions()).map_err(error("set the mode of", to))?;
    }
    // After the mode, because an ACL is an extended attribute and a mode would change its mask.
    extended(from, to)?;
    let times = |data: &fs::Metadata| (data.mtime(), data.mtime_nsec());
    if times(&source) != times(&to.symlink_metadata().map_err(error("look at", to))?) {
        let modified = Timespec { tv_sec: source.mtime(), tv_nsec: source.mtime_nsec() };
        let accessed = Timespec { tv_sec: source.atime(), tv_nsec: source.atime_nsec() };
        let times = Timestamps { last_access: accessed, last_modification: modified };
        utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(io::Error::from)
            .map_err(error("set the times of", to))?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), Error> {
    let data = path.symlink_metadata().map_err(error("look at", path))?;
    // Fails on a mount point inside, with its path: nothing that is mounted is ever deleted.
    let removed = if data.is_dir() { remove_tree(path) } else { fs::remove_file(path) };
    removed.map_err(error("delete", path))
}

fn remove_tree(path: &Path) -> io::Result<()> {
    let mount = mount_id(path)?;
    let mut open = vec![path.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir)? {
            let inner = entry?.path();
            if mount_id(&inner)? != mount {
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, format!("{} is mounted", inner.display())));
            }
            if inner.symlink_metadata()?.is_dir() {
                open.push(inner);
            }
        }
    }
    fs::remove_dir_all(path)
}

fn same_content(from: &Path, source: &fs::Metadata, to: &Path, target: &fs::Metadata) -> Result<bool, Error> {
    if source.file_type() != target.file_type() {
        return Ok(false);
    }
    if source.is_symlink() {
        let (a, b) = (fs::read_link(from), fs::read_link(to));
        return Ok(a.map_err(error("read", from))? == b.map_err(error("read", to))?);
    }
    if source.is_file() {
        return Ok(source.len() == target.len() && same_bytes(from, to)?);
    }
    Ok(source.rdev() == target.rdev())
}

// Size and time alone would do for an ordinary synchronisation. A way back must not rest on a guess.
fn same_bytes(from: &Path, to: &Path) -> Result<bool, Error> {
    let open = |path: &Path| File::open(path).map_err(error("open", path));
    let (mut a, mut b) = (open(from)?, open(to)?);
    let (mut chunk_a, mut chunk_b) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    loop {
        let count = fill(&mut a, &mut chunk_a).map_err(error("read", from))?;
        let other = fill(&mut b, &mut chunk_b).map_err(error("read", to))?;
        if chunk_a[..count] != chunk_b[..other] {
            return Ok(false);
        }
        if count == 0 {
            return Ok(true);
        }
    }
}

fn fill(file: &mut File, chunk: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < chunk.len() {
        match file.read(&mut chunk[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// Puts a copy of one entry in place of whatever is there; the old one stays until the new one is whole.
fn replace(from: &Path, source: &fs::Metadata, to: &Path) -> Result<(), Error> {
    if to.symlink_metadata().is_ok_and(|data| data.is_dir()) {
        remove(to)?;
    }
    let beside = beside(to);
    // Left by a crash in the middle of this function.
    let _ = fs::remove_file(&beside);
    if source.is_symlink() {
        let points_at = fs::read_link(from).map_err(error("read", from))?;
        symlink(points_at, &beside).map_err(error("make link", &beside))?;
    } else if source.is_file() {
        copy_file(from, &beside)?;
    } else {
        let kind = FileType::from_raw_mode(source.mode());
        mknodat(CWD, &beside, kind, Mode::from_raw_mode(source.mode()), Dev::from(source.rdev()))
            .map_err(io::Error::from)
            .map_err(error("make node", &beside))?;
    }
    fs::rename(&beside, to).map_err(error("replace", to))
}

fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".patchloom-new-");
    // A name may have 255 bytes: the end of a long one tells it apart well enough within one directory.
    let bytes = path.file_name().unwrap_or_default().to_owned().into_vec();
    name.push(OsString::from_vec(bytes[bytes.len().saturating_sub(200)..].to_vec()));
    path.with_file_name(name)
}

fn copy_file(from: &Path, to: &Path) -> Result<(), Error> {
    let mut source = File::open(from).map_err(error("open", from))?;
    let mut options = OpenOptions::new();
    let mut target = options.write(true).create_new(true).mode(0o600).open(to).map_err(error("create", to))?;
    if ioctl_ficlone(&target, &source).is_err() {
        io::copy(&mut source, &mut target).map_err(error("copy into", to))?;
    }
    Ok(())
}

fn extended(from: &Path, to: &Path) -> Result<(), Error> {
    let (wanted, found) = (attributes_of(from)?, attributes_of(to)?);
    for name in found.keys().filter(|name| !wanted.contains_key(*name)) {
        lremovexattr(to, name).map_err(io::Error::from).map_err(error("remove an attribute of", to))?;
    }
    for (name, value) in wanted.iter().filter(|(name, value)| found.get(*name) != Some(*value)) {
        lsetxattr(to, name, value, XattrFlags::empty())
            .map_err(io::Error::from)
            .map_err(error("set an attribute of", to))?;
    }
    Ok(())
}

fn attributes_of(path: &Path) -> Result<BTreeMap<CString, Vec<u8>>, Error> {
    let mut list = vec![0_u8; 64 << 10];
    let count = match llistxattr(path, list.as_mut_slice()) {
        Ok(count) => count,
        // The file system has none.
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(other) => return Err(error("list the attributes of", path)(other.into())),
    };
    let mut all = BTreeMap::new();
    for name in list[..count].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        // Overlay file systems keep their own bookkeeping in these; it belongs to the mount, not to the tree.
        if name.starts_with(b"trusted.overlay.") {
            continue;
        }
        let name = CString::new(name).expect("split at every zero byte");
        let mut value = vec![0_u8; 64 << 10];
        let length = lgetxattr(path, &name, value.as_mut_slice())
            .map_err(io::Error::from)
            .map_err(error("read an attribute of", path))?;
        value.truncate(length);
        all.insert(name, value);
    }
    Ok(all)
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
