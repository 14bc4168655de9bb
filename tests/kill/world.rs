//! What a round may leave behind: the state of a root, and all that must not be there any more.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use patchloom_bed::Root;
use patchloom_domain::{ChangeState, CloseCode};
use patchloom_workers::register::Register;

use crate::victim::of_round;

/// How long a leftover reader may take to end.
const LEFTOVER_LIMIT: Duration = Duration::from_secs(20);

/// A root at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct World {
    pub packages: BTreeMap<String, String>,
    pub auto: String,
    pub etc: BTreeMap<String, Vec<u8>>,
}

impl World {
    /// Reads it.
    pub fn of(root: &Root) -> Self {
        let mut etc = BTreeMap::new();
        files(&root.path().join("etc"), &mut etc);
        Self { packages: root.packages(), auto: root.inside(&["apt-mark", "showauto"]), etc }
    }

    /// What differs, for people; the configuration only where it should not.
    pub fn differences(&self, other: &Self, etc_too: bool) -> Vec<String> {
        let mut rest = Vec::new();
        let names: BTreeSet<_> = self.packages.keys().chain(other.packages.keys()).collect();
        for name in names {
            let (one, two) = (self.packages.get(name), other.packages.get(name));
            if one != two {
                rest.push(format!("{name}: {one:?} is {two:?}"));
            }
        }
        if self.auto != other.auto {
            rest.push(format!("marks: {:?} are {:?}", self.auto, other.auto));
        }
        let names: BTreeSet<_> = self.etc.keys().chain(other.etc.keys()).collect();
        for name in names.into_iter().filter(|_| etc_too) {
            if self.etc.get(name) != other.etc.get(name) {
                rest.push(format!("{name} differs"));
            }
        }
        rest
    }
}

fn files(dir: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            files(&path, found);
        } else {
            let target = std::fs::read_link(&path).map(|to| to.into_os_string().into_encoded_bytes());
            let content = target.or_else(|_| std::fs::read(&path)).unwrap_or_default();
            found.insert(path.display().to_string(), content);
        }
    }
}

/// What is still mounted or alive, or lies where nothing should: one line each.
pub fn leftovers(home: &Path) -> Vec<String> {
    let mut rest = Vec::new();
    // A reader whose patchloom was killed goes on to its end.
    let end = Instant::now() + LEFTOVER_LIMIT;
    let mut alive = of_round(home, &BTreeSet::new());
    while !alive.is_empty() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
        alive = of_round(home, &BTreeSet::new());
    }
    for pid in alive {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        rest.push(format!("process {pid} is alive: {}", String::from_utf8_lossy(&words).replace('\0', " ")));
    }
    let inside = format!("{}/", home.display());
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|point| point.starts_with(&inside));
    rest.extend(points.map(|point| format!("{point} is mounted")));
    for (dir, bad) in [("data/backups/snapshots", ""), ("data/backups/debs", ".undo-"), ("root/mnt", "")] {
        let names = std::fs::read_dir(home.join(dir)).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let left = names.filter(|name| name.to_string_lossy().starts_with(bad));
        rest.extend(left.map(|name| format!("{dir} still holds {}", name.display())));
    }
    rest
}

/// How the one change of a round ended; a complaint where there are several.
pub fn change(data: &Path) -> Result<Option<(ChangeState, Option<CloseCode>)>, String> {
    let listing = Register::open(&data.join("changes")).and_then(|register| register.list());
    let listing = listing.map_err(|error| format!("the register: {error}"))?;
    if let Some(damaged) = listing.damaged.first() {
        return Err(format!("the register is damaged: {damaged}"));
    }
    match listing.changes.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some((one.state, one.closure.as_ref().map(|closure| closure.code)))),
        more => Err(format!("{} changes were opened for one run", more.len())),
    }
}
