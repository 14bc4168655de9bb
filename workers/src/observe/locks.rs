//! Who holds the locks of a package manager. Takes none: taking one, however shortly, could make an apt fail.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::host::HostExec;

/// What apt, dpkg and rpm lock, as the target sees it.
const LOCK_FILES: [&str; 7] = [
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/apt/lists/lock",
    "/var/cache/apt/archives/lock",
    "/var/lib/rpm/.rpm.lock",
    "/usr/lib/sysimage/rpm/.rpm.lock",
    "/root/.rpmdb/.rpm.lock",
];

/// A lock that somebody holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) file: &'static str,
    pub(super) pid: u32,
    pub(super) program: String,
}

/// The locks that are held now, by the kernel's own table.
pub(super) fn held(exec: &HostExec) -> Vec<Held> {
    let table = fs::read_to_string("/proc/locks").unwrap_or_default();
    let mut found = Vec::new();
    for file in LOCK_FILES {
        let path = exec.path(file);
        let Ok(metadata) = fs::metadata(&path) else { continue };
        for (pid, device, inode) in table.lines().filter_map(row) {
            if inode == metadata.ino() && (device == device_of(&metadata) || has_open(pid, &path)) {
                let program = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
                found.push(Held { file, pid, program });
            }
        }
    }
    found
}

/// `1: POSIX  ADVISORY  WRITE 1234 08:01:5678 0 EOF`; a line with `->` is somebody who waits.
fn row(line: &str) -> Option<(u32, (u64, u64), u64)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, kind, _, _, pid, place, ..] = words.as_slice() else { return None };
    if !matches!(*kind, "POSIX" | "OFDLCK" | "FLOCK") {
        return None;
    }
    let place: [&str; 3] = place.split(':').collect::<Vec<_>>().try_into().ok()?;
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    Some((pid.parse().ok()?, (hex(place[0])?, hex(place[1])?), place[2].parse().ok()?))
}

/// Major and minor number of the device a file lies on.
fn device_of(metadata: &fs::Metadata) -> (u64, u64) {
    let device = metadata.dev();
    (u64::from(rustix::fs::major(device)), u64::from(rustix::fs::minor(device)))
}

/// Whether a process has the file open: on overlays and btrfs the device in the table is not the one that stat tells.
fn has_open(pid: u32, path: &Path) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let Ok(wanted) = fs::metadata(path) else { return false };
    let is_same = |seen: fs::Metadata| (seen.dev(), seen.ino()) == (wanted.dev(), wanted.ino());
    files.flatten().any(|file| fs::metadata(file.path()).is_ok_and(is_same))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_kernel_table_are_read_and_waiters_passed_over() {
        assert_eq!(row("1: POSIX  ADVISORY  WRITE 1234 08:1f:5678 0 EOF"), Some((1234, (8, 31), 5678)));
        assert_eq!(row("1: -> POSIX  ADVISORY  WRITE 9 08:01:5678 0 EOF"), None);
        assert_eq!(row("2: LEASE  ACTIVE    READ 9 08:01:5678 0 EOF"), None);
        assert_eq!(row("nonsense"), None);
    }
}
