//! Snapshots of btrfs subvolumes by the `btrfs` tool. Knows nothing of what lies in them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Error, io_error, skip, tree};

/// `BTRFS_SUPER_MAGIC` of linux/magic.h.
const MAGIC: i128 = 0x9123_683E;

/// The inode number of every subvolume's root.
const SUBVOLUME_INODE: u64 = 256;

/// Where snapshots lie, beside a subvolume or inside one that is mounted.
const DIR: &str = ".patchloom-snapshots";

/// Names inside a root that are ours and belong to no snapshot.
pub(super) fn own_names() -> BTreeSet<PathBuf> {
    skip(&[DIR])
}

/// Where a snapshot of `root` would lie; `None` where the file system cannot make one.
pub(super) fn place(root: &Path, id: &str) -> Option<PathBuf> {
    let kind = rustix::fs::statfs(root).ok()?;
    let is_subvolume = i128::from(kind.f_type) == MAGIC && root.symlink_metadata().ok()?.ino() == SUBVOLUME_INODE;
    let has_tool = Command::new("btrfs").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !is_subvolume || !has_tool {
        return None;
    }
    let parent = root.parent().filter(|_| !is_mount_point(root));
    Some(parent.unwrap_or(root).join(DIR).join(id))
}

fn is_mount_point(root: &Path) -> bool {
    let Some(parent) = root.parent() else { return true };
    match (tree::mount_id(root), tree::mount_id(parent)) {
        (Ok(inner), Ok(outer)) => inner != outer,
        // Restoring in place is right in both cases, swapping only in one.
        _ => true,
    }
}

/// A read-only snapshot; one that a crash left is made anew.
pub(super) fn create(root: &Path, place: &Path) -> Result<(), Error> {
    drop(place)?;
    let dir = place.parent().unwrap_or(root);
    std::fs::create_dir_all(dir).map_err(io_error("make", dir))?;
    tool(&["subvolume", "snapshot", "-r"], &[root, place])?;
    tool(&["filesystem", "sync"], &[root])
}

/// Puts a writable snapshot of `place` where `root` is. `false`: `root` is a mount point and must be restored in place.
///
/// After a crash between its steps it is called again: what is where tells how far it was.
pub(super) fn swap(root: &Path, place: &Path) -> Result<bool, Error> {
    if root.exists() && is_mount_point(root) {
        return Ok(false);
    }
    let bad = place.with_extension("bad");
    if root.exists() && !bad.exists() {
        std::fs::rename(root, &bad).map_err(io_error("move aside", root))?;
    }
    if root.exists() {
        // The bad one was moved aside before the crash: what stands here is restored already, perhaps not on disk.
        tool(&["subvolume", "delete"], &[root])?;
    }
    tool(&["subvolume", "snapshot"], &[place, root])?;
    tool(&["filesystem", "sync"], &[root])?;
    tool(&["subvolume", "delete"], &[&bad])?;
    Ok(true)
}

/// Deletes a snapshot and the directory of snapshots once it is empty.
pub(super) fn drop(place: &Path) -> Result<(), Error> {
    if place.exists() {
        tool(&["subvolume", "delete"], &[place])?;
    }
    if let Some(dir) = place.parent() {
        // Other snapshots may lie there, then it stays.
        let _ = std::fs::remove_dir(dir);
    }
    Ok(())
}

fn tool(words: &[&str], paths: &[&Path]) -> Result<(), Error> {
    let args: Vec<&OsStr> = words.iter().map(OsStr::new).chain(paths.iter().map(|path| path.as_os_str())).collect();
    match super::tool::run(Path::new("btrfs"), &args) {
        Ok(_) => Ok(()),
        Err(Error::Tool { said, .. }) => Err(Error::Btrfs { what: words.join(" "), said }),
        Err(other) => Err(other),
    }
}
