//! Snapshots of file systems that are a ZFS dataset or an LVM volume of their own. Knows nothing of what lies in them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Error, io_error, tool};

/// What the names of our snapshots begin with.
const PREFIX: &str = "patchloom-";

/// A snapshot of LVM holds what changes beside it: a fifth of the volume, and at least this.
const LVM_SHARE: u64 = 5;
const LVM_BYTES_MIN: u64 = 1 << 30;

/// The tools, and where the kernel lists mounts.
#[derive(Clone, Debug)]
pub struct Tools {
    /// `zfs`.
    pub zfs: PathBuf,
    /// `lvm`, of which `lvs` and the others are words.
    pub lvm: PathBuf,
    /// `mount`.
    pub mount: PathBuf,
    /// `umount`.
    pub umount: PathBuf,
    /// The table of mounts.
    pub mounts: PathBuf,
}

impl Default for Tools {
    fn default() -> Self {
        let path = PathBuf::from;
        Self {
            zfs: path("zfs"),
            lvm: path("lvm"),
            mount: path("mount"),
            umount: path("umount"),
            mounts: path("/proc/self/mountinfo"),
        }
    }
}

/// The volume that a root is, as the document of its snapshot keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Volume {
    /// A dataset of ZFS.
    Zfs {
        /// Its name.
        dataset: String,
    },
    /// A logical volume.
    Lvm {
        /// Its group.
        group: String,
        /// Its name.
        name: String,
        /// What is on it: `ext4`, `xfs`.
        kind: String,
    },
}

/// The volume that is mounted on `root`; none where it is none, or its tool is not there.
pub(super) fn of(root: &Path, tools: &Tools) -> Option<Volume> {
    let table = std::fs::read_to_string(&tools.mounts).ok()?;
    let (kind, source) = mounted(&table, root)?;
    if kind == "zfs" {
        let volume = Volume::Zfs { dataset: source.clone() };
        return tool::run(&tools.zfs, &["list", "-H", "-o", "name", &source]).is_ok().then_some(volume);
    }
    if !source.starts_with("/dev/") {
        return None;
    }
    let words = ["lvs", "--reportformat", "json", "-o", "vg_name,lv_name", &source];
    let rows = rows(&tool::run(&tools.lvm, &words).ok()?, "lv")?;
    let field = |name: &str| Some(rows.first()?.get(name)?.as_str()?.to_owned());
    Some(Volume::Lvm { group: field("vg_name")?, name: field("lv_name")?, kind })
}

/// File system and source of what is mounted exactly on `root`; the last of several.
///
/// # Source
/// proc_pid_mountinfo(5): the mount point is the fifth word, file system and source stand behind ` - `.
fn mounted(table: &str, root: &Path) -> Option<(String, String)> {
    let row = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let point = left.split(' ').nth(4)?.replace("\\040", " ");
        let mut right = right.split(' ');
        let (kind, source) = (right.next()?.to_owned(), right.next()?.to_owned());
        (Path::new(&point) == root).then_some((kind, source))
    };
    table.lines().filter_map(row).next_back()
}

/// The rows of a report of LVM: `{"report": [{"lv": [{…}]}]}`.
fn rows(report: &str, of: &str) -> Option<Vec<serde_json::Value>> {
    let report: serde_json::Value = serde_json::from_str(report).ok()?;
    report.get("report")?.get(0)?.get(of)?.as_array().cloned()
}

/// Where a snapshot is seen as a directory.
pub(super) fn place(volume: &Volume, root: &Path, home: &Path, id: &str) -> PathBuf {
    match volume {
        Volume::Zfs { .. } => root.join(".zfs/snapshot").join(format!("{PREFIX}{id}")),
        Volume::Lvm { .. } => home.join("tree"),
    }
}

/// Makes it; one that a crash left is made anew.
pub(super) fn create(volume: &Volume, place: &Path, id: &str, tools: &Tools) -> Result<(), Error> {
    drop(volume, place, id, tools)?;
    match volume {
        Volume::Zfs { dataset } => tool::run(&tools.zfs, &["snapshot", &format!("{dataset}@{PREFIX}{id}")]).map(|_| ()),
        Volume::Lvm { group, name, .. } => {
            let size = lvm_size(group, name, tools)?;
            let (own, origin) = (format!("{PREFIX}{id}"), format!("{group}/{name}"));
            let mut words = vec!["lvcreate", "--yes", "--snapshot", "--name", &own, "--permission", "r"];
            let size = size.map(|bytes| format!("{bytes}b"));
            match &size {
                Some(size) => words.extend(["--size", size]),
                // A thin one shares the pool, and is not active unless told.
                None => words.extend(["--setactivationskip", "n"]),
            }
            words.push(&origin);
            tool::run(&tools.lvm, &words)?;
            attach(volume, place, id, tools)
        }
    }
}

/// Bytes for the changes of a volume; none where it is thin.
fn lvm_size(group: &str, name: &str, tools: &Tools) -> Result<Option<u64>, Error> {
    let strange = |said: &str| Error::Tool { what: "lvm lvs".to_owned(), said: format!("it says {said}") };
    let origin = format!("{group}/{name}");
    let ask = |words: &[&str]| tool::run(&tools.lvm, words);
    let fixed = ["--reportformat", "json", "--units", "b", "--nosuffix", "-o"];
    let report = ask(&[&["lvs"], &fixed[..], &["lv_size,pool_lv", &origin]].concat())?;
    let row = rows(&report, "lv").and_then(|rows| rows.first().cloned()).ok_or_else(|| strange(&report))?;
    if row["pool_lv"].as_str().is_some_and(|pool| !pool.is_empty()) {
        return Ok(None);
    }
    let bytes = |row: &serde_json::Value, name: &str| row[name].as_str().and_then(|text| text.parse::<u64>().ok());
    let size = bytes(&row, "lv_size").ok_or_else(|| strange(&report))?;
    let need = (size / LVM_SHARE).max(LVM_BYTES_MIN).min(size);
    let report = ask(&[&["vgs"], &fixed[..], &["vg_free", group]].concat())?;
    let free = rows(&report, "vg").and_then(|rows| bytes(rows.first()?, "vg_free")).ok_or_else(|| strange(&report))?;
    if free < need {
        return Err(Error::VolumesFull { group: group.to_owned(), need, free });
    }
    Ok(Some(need))
}

/// Makes a snapshot of LVM seen at its place, also after the machine was booted anew.
fn attach(volume: &Volume, place: &Path, id: &str, tools: &Tools) -> Result<(), Error> {
    let Volume::Lvm { group, kind, .. } = volume else { return Ok(()) };
    let table = std::fs::read_to_string(&tools.mounts).unwrap_or_default();
    if mounted(&table, place).is_some() {
        return Ok(());
    }
    std::fs::create_dir_all(place).map_err(io_error("make", place))?;
    // xfs refuses a second file system of the same UUID, and a journal that cannot be replayed.
    let options = if kind == "xfs" { "ro,nouuid,norecovery" } else { "ro" };
    let device = format!("/dev/{group}/{PREFIX}{id}");
    let words = ["-t", kind, "-o", options, &device, &place.to_string_lossy()];
    tool::run(&tools.mount, &words).map(|_| ())
}

/// Makes it readable for a restore. One of LVM that overflowed holds nothing any more, and is refused.
pub(super) fn ready(volume: &Volume, place: &Path, id: &str, tools: &Tools) -> Result<(), Error> {
    if let Volume::Lvm { group, .. } = volume {
        let own = format!("{group}/{PREFIX}{id}");
        let report = tool::run(&tools.lvm, &["lvs", "--reportformat", "json", "-o", "lv_attr", &own])?;
        let attributes = rows(&report, "lv").and_then(|rows| Some(rows.first()?["lv_attr"].as_str()?.to_owned()));
        // lvs(8): the fifth letter is the state; I is an invalid snapshot, S one that is invalid and suspended.
        match attributes.as_deref().map(|text| text.as_bytes().get(4).copied()) {
            Some(Some(b'a')) => {}
            _ => {
                let said = format!("{own} is {}", attributes.unwrap_or_else(|| "not there".to_owned()));
                return Err(Error::Tool { what: "lvm lvs".to_owned(), said });
            }
        }
    }
    attach(volume, place, id, tools)
}

/// Takes the root back by the volume manager itself; `false` where it must be done entry by entry.
///
/// ZFS goes back to its newest snapshot only, and nobody else's newer one is destroyed for it. LVM would use the snapshot up.
pub(super) fn roll_back(volume: &Volume, id: &str, tools: &Tools) -> bool {
    match volume {
        Volume::Zfs { dataset } => tool::run(&tools.zfs, &["rollback", &format!("{dataset}@{PREFIX}{id}")]).is_ok(),
        Volume::Lvm { .. } => false,
    }
}

/// Deletes it; one that is not there is deleted already.
pub(super) fn drop(volume: &Volume, place: &Path, id: &str, tools: &Tools) -> Result<(), Error> {
    match volume {
        Volume::Zfs { dataset } => {
            let own = format!("{dataset}@{PREFIX}{id}");
            let names = tool::run(&tools.zfs, &["list", "-H", "-t", "snapshot", "-d", "1", "-o", "name", dataset])?;
            if names.lines().any(|name| name == own) {
                tool::run(&tools.zfs, &["destroy", &own]).map(|_| ())
            } else {
                Ok(())
            }
        }
        Volume::Lvm { group, .. } => {
            let table = std::fs::read_to_string(&tools.mounts).unwrap_or_default();
            if mounted(&table, place).is_some() {
                tool::run(&tools.umount, &[place])?;
            }
            let own = format!("{PREFIX}{id}");
            let report = tool::run(&tools.lvm, &["lvs", "--reportformat", "json", "-o", "lv_name", group])?;
            let is_there =
                rows(&report, "lv").is_some_and(|rows| rows.iter().any(|row| row["lv_name"] == own.as_str()));
            if is_there {
                tool::run(&tools.lvm, &["lvremove", "--yes", &format!("{group}/{own}")]).map(|_| ())
            } else {
                Ok(())
            }
        }
    }
}
