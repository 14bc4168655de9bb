//! What lies in a root, file by file: two equal trees are the same to the last byte.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use crate::Root;

/// The files below a directory, each with all that makes it what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    entries: BTreeMap<String, String>,
}

impl Tree {
    /// In what another tree differs: one line for each path, `+` new, `-` gone, `~` changed.
    #[must_use]
    pub fn changes_to(&self, other: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (path, mine) in &self.entries {
            match other.entries.get(path) {
                None => lines.push(format!("- {path}")),
                Some(theirs) if theirs != mine => lines.push(format!("~ {path}: {mine} -> {theirs}")),
                Some(_) => {}
            }
        }
        lines.extend(
            other.entries.keys().filter(|path| !self.entries.contains_key(*path)).map(|path| format!("+ {path}")),
        );
        lines
    }

    /// How many files, directories and links there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// Without the paths that begin so: what a test says may differ.
    #[must_use]
    pub fn without(mut self, prefixes: &[&str]) -> Self {
        self.entries.retain(|path, _| !prefixes.iter().any(|prefix| path.starts_with(prefix)));
        self
    }

    #[track_caller]
    fn walk(&mut self, base: &Path, dir: &Path, times: bool) {
        let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("cannot list {}: {error}", dir.display()));
        for entry in entries {
            let path = entry.unwrap_or_else(|error| panic!("cannot list {}: {error}", dir.display())).path();
            let (name, row) = row(base, &path, times);
            self.entries.insert(name, row);
            if path.is_dir() && !path.is_symlink() {
                self.walk(base, &path, times);
            }
        }
    }
}

#[track_caller]
fn row(base: &Path, path: &Path, times: bool) -> (String, String) {
    let fail = |error: std::io::Error| -> ! { panic!("cannot look at {}: {error}", path.display()) };
    let data = path.symlink_metadata().unwrap_or_else(|error| fail(error));
    let mut hasher = DefaultHasher::new();
    if data.is_file() {
        fs::read(path).unwrap_or_else(|error| fail(error)).hash(&mut hasher);
    } else if data.is_symlink() {
        fs::read_link(path).unwrap_or_else(|error| fail(error)).hash(&mut hasher);
    }
    let mut row = format!("{:o} {}:{} {:016x}", data.permissions().mode(), data.uid(), data.gid(), hasher.finish());
    if times {
        row.push_str(&format!(" {}.{:09}", data.mtime(), data.mtime_nsec()));
    }
    let name = path.strip_prefix(base).unwrap_or(path).display();
    (format!("/{name}"), row)
}

impl Root {
    /// All that lies in the root, with the time of each last change.
    ///
    /// # Panics
    /// Where a file cannot be read.
    #[must_use]
    #[track_caller]
    pub fn tree(&self) -> Tree {
        let mut tree = Tree { entries: BTreeMap::new() };
        tree.walk(self.path(), self.path(), true);
        tree
    }

    /// What lies below one directory of the root, by content: when it was written does not count.
    ///
    /// # Panics
    /// As [`tree`](Self::tree).
    #[must_use]
    #[track_caller]
    pub fn content(&self, dir: &str) -> Tree {
        let mut tree = Tree { entries: BTreeMap::new() };
        tree.walk(self.path(), &self.path().join(dir.trim_start_matches('/')), false);
        tree
    }
}
