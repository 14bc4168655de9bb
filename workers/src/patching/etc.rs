//! In what a directory of configuration differs from its copy. Changes nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Paths that are told at most; a person reads them.
const PATHS_MAX: usize = 50;
/// The deepest directory that is looked into.
const DEPTH_MAX: usize = 16;

/// Files and links below `now` that are new, gone or other than below `saved`, as paths from `/etc`, sorted.
pub(super) fn differences(saved: &Path, now: &Path) -> Vec<String> {
    let (mut before, mut after) = (BTreeSet::new(), BTreeSet::new());
    list(saved, Path::new(""), 0, &mut before);
    list(now, Path::new(""), 0, &mut after);
    let differ = before.union(&after).filter(|path| !same(&saved.join(path), &now.join(path)));
    differ.take(PATHS_MAX).map(|path| Path::new("/etc").join(path).display().to_string()).collect()
}

fn list(base: &Path, inside: &Path, depth: usize, found: &mut BTreeSet<PathBuf>) {
    if depth > DEPTH_MAX {
        return;
    }
    // What cannot be listed cannot be compared; it is told as missing on that side.
    for entry in fs::read_dir(base.join(inside)).into_iter().flatten().flatten() {
        let path = inside.join(entry.file_name());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => list(base, &path, depth + 1, found),
            Ok(kind) if kind.is_file() || kind.is_symlink() => {
                found.insert(path);
            }
            // Sockets and pipes come and go with their programs.
            Ok(_) | Err(_) => {}
        }
    }
}

fn same(one: &Path, other: &Path) -> bool {
    match (fs::read_link(one), fs::read_link(other)) {
        (Ok(one), Ok(other)) => one == other,
        (Err(_), Err(_)) => matches!((fs::read(one), fs::read(other)), (Ok(one), Ok(other)) if one == other),
        (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_gone_and_other_files_are_told_and_no_others() {
        let (saved, now) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for dir in [&saved, &now] {
            fs::create_dir_all(dir.path().join("a/b")).unwrap();
            fs::write(dir.path().join("a/b/same"), "x").unwrap();
            std::os::unix::fs::symlink("same", dir.path().join("a/b/link")).unwrap();
        }
        assert_eq!(differences(saved.path(), now.path()), Vec::<String>::new());
        fs::write(saved.path().join("gone"), "").unwrap();
        fs::write(now.path().join("a/new"), "").unwrap();
        fs::write(now.path().join("a/b/same"), "y").unwrap();
        fs::remove_file(now.path().join("a/b/link")).unwrap();
        fs::write(now.path().join("a/b/link"), "y").unwrap();
        assert_eq!(
            differences(saved.path(), now.path()),
            ["/etc/a/b/link", "/etc/a/b/same", "/etc/a/new", "/etc/gone"]
        );
    }
}
