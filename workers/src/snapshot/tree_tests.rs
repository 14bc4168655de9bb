//! Mirrored trees are equal in every respect, and a second run writes nothing.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn none() -> BTreeSet<PathBuf> {
    BTreeSet::new()
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A tree with one of everything that an unprivileged user can make.
fn sample(dir: &Path) -> PathBuf {
    let root = dir.join("from");
    write(&root.join("etc/passwd"), "root");
    write(&root.join("etc/shadow"), "secret");
    fs::set_permissions(root.join("etc/shadow"), fs::Permissions::from_mode(0o640)).unwrap();
    write(&root.join("bin/su"), "elf");
    fs::set_permissions(root.join("bin/su"), fs::Permissions::from_mode(0o4755)).unwrap();
    symlink("../etc/passwd", root.join("bin/link")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    fs::hard_link(root.join("etc/passwd"), root.join("etc/passwd-")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    let mode = Mode::from_raw_mode(0o600);
    mknodat(CWD, root.join("fifo"), FileType::Fifo, mode, Dev::from(0_u64)).unwrap();
    let _ = lsetxattr(root.join("etc/passwd"), "user.note", b"kept", XattrFlags::empty());
    root
}

fn copy_of(root: &Path, dir: &Path) -> PathBuf {
    let to = dir.join("to");
    fs::create_dir(&to).unwrap();
    mirror(root, &to, &none()).unwrap();
    to
}

/// Everything that makes up a tree, as text.
fn listing(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut inodes = BTreeMap::new();
    let mut open = vec![PathBuf::new()];
    while let Some(relative) = open.pop() {
        let path = root.join(&relative);
        let data = path.symlink_metadata().unwrap();
        let content = if data.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        let link = fs::read_link(&path).ok();
        let first = inodes.entry(data.ino()).or_insert_with(|| relative.clone()).clone();
        let shared = (!data.is_dir()).then_some(first);
        let times = (data.mtime(), data.mtime_nsec());
        lines.push(format!(
            "{relative:?} {:o} {}:{} {times:?} {link:?} {shared:?} {content:?} {:?}",
            data.mode(),
            data.uid(),
            data.gid(),
            attributes_of(&path).unwrap()
        ));
        if data.is_dir() {
            open.extend(names(&path).unwrap().into_iter().rev().map(|name| relative.join(name)));
        }
    }
    lines
}

#[track_caller]
fn restores(spoil: impl FnOnce(&Path)) {
    let dir = tempfile::tempdir().unwrap();
    let root = sample(dir.path());
    let copy = copy_of(&root, dir.path());
    let before = listing(&root);
    assert_eq!(listing(&copy), before);
    let inode = root.symlink_metadata().unwrap().ino();
    spoil(&root);
    mirror(&copy, &root, &none()).unwrap();
    assert_eq!(listing(&root), before);
    assert_eq!(root.symlink_metadata().unwrap().ino(), inode, "it may be a mount point");
    let again = mirror(&copy, &root, &none()).unwrap();
    assert_eq!((again.written, again.deleted), (0, 0), "a second run has nothing to do");
}

#[test]
fn a_copy_is_equal_in_every_respect() {
    restores(|_| ());
}

#[test]
fn what_changed_comes_back_and_what_is_new_goes() {
    restores(|root| {
        write(&root.join("etc/passwd"), "evil");
        write(&root.join("usr/share/new/file"), "new");
        fs::remove_file(root.join("etc/shadow")).unwrap();
        fs::remove_dir_all(root.join("bin")).unwrap();
    });
}

#[test]
fn a_change_that_keeps_size_and_time_comes_back() {
    restores(|root| {
        let path = root.join("etc/shadow");
        let data = path.symlink_metadata().unwrap();
        fs::write(&path, "SECRET").unwrap();
        let time = Timespec { tv_sec: data.mtime(), tv_nsec: data.mtime_nsec() };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, &path, &times, AtFlags::empty()).unwrap();
    });
}

#[test]
fn entries_that_became_another_type_come_back() {
    restores(|root| {
        fs::remove_dir(root.join("empty")).unwrap();
        write(&root.join("empty"), "now a file");
        fs::remove_file(root.join("bin/su")).unwrap();
        fs::create_dir(root.join("bin/su")).unwrap();
        write(&root.join("bin/su/inner"), "deep");
        fs::remove_file(root.join("dangling")).unwrap();
        write(&root.join("dangling"), "now a file");
        fs::remove_file(root.join("fifo")).unwrap();
        symlink("x", root.join("fifo")).unwrap();
    });
}

#[test]
fn hard_links_come_back_as_hard_links_and_no_others() {
    restores(|root| {
        fs::remove_file(root.join("etc/passwd-")).unwrap();
        write(&root.join("etc/passwd-"), "root");
        fs::remove_file(root.join("etc/shadow")).unwrap();
        fs::hard_link(root.join("bin/su"), root.join("etc/shadow")).unwrap();
    });
}

#[test]
fn modes_and_attributes_come_back() {
    restores(|root| {
        fs::set_permissions(root.join("bin/su"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(root.join("empty"), fs::Permissions::from_mode(0o777)).unwrap();
        let _ = lremovexattr(root.join("etc/passwd"), "user.note");
        let _ = lsetxattr(root.join("bin/su"), "user.other", b"new", XattrFlags::empty());
    });
}

#[test]
fn what_an_interrupted_run_left_is_cleaned_by_the_next() {
    restores(|root| {
        write(&root.join("etc/passwd"), "half");
        write(&beside(&root.join("etc/passwd")), "a part of it");
    });
}

#[test]
fn a_skipped_path_is_neither_copied_nor_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let root = sample(dir.path());
    let to = dir.path().join("to");
    write(&to.join("keep/mine"), "x");
    let skip: BTreeSet<_> = [PathBuf::from("keep"), PathBuf::from("etc")].into();
    mirror(&root, &to, &skip).unwrap();
    assert!(to.join("keep/mine").exists() && !to.join("etc").exists());
}

#[test]
fn a_copy_takes_the_room_that_was_measured() {
    let dir = tempfile::tempdir().unwrap();
    let root = sample(dir.path());
    let copy = copy_of(&root, dir.path());
    assert_eq!(measure(&root, &none()).unwrap(), measure(&copy, &none()).unwrap());
}
