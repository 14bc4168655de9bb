//! What a round comes to: the state of a root, and its change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use patchloom_bed::Root;
use patchloom_domain::{ChangeState, CloseCode};
use patchloom_workers::register::Register;

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
