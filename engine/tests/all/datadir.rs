//! The data directory: one holder, one version, nobody else's files.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use patchloom_engine::datadir::{DataDir, Error};

/// Set for the child process of the lock test; names the directory to hold.
const HOLD: &str = "PATCHLOOM_TEST_HOLD";

#[test]
fn a_new_directory_gets_its_version_and_places_and_opens_again() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("a/b/data");
    assert!(matches!(DataDir::inspect(&path), Err(Error::Missing { .. })));
    let data = DataDir::open(&path).unwrap();
    for place in [data.journal(), data.snapshots(), data.archive(), data.artifacts(), data.changes(), data.cache_debs()]
    {
        assert!(place.is_dir(), "{}", place.display());
    }
    drop(data);
    assert_eq!(DataDir::open(&path).unwrap().path(), path);
}

#[test]
fn another_version_is_refused_by_name_and_nothing_is_changed() {
    for (text, found) in
        [("patchloom data directory, version 2\n", "2"), ("gibberish\n", "\"gibberish\""), ("", "\"\"")]
    {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("VERSION"), text).unwrap();
        for refused in [DataDir::open(dir.path()), DataDir::inspect(dir.path())] {
            let error = refused.err().unwrap();
            assert!(matches!(&error, Error::UnknownVersion { found: said, .. } if said == found), "{error}");
            assert_eq!(error.code(), "E0402");
        }
        assert_eq!(std::fs::read_to_string(dir.path().join("VERSION")).unwrap(), text);
        assert!(!dir.path().join("journal").exists());
    }
}

#[test]
fn a_directory_with_files_of_somebody_else_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("thesis.txt"), "chapter 1").unwrap();
    for refused in [DataDir::open(dir.path()), DataDir::inspect(dir.path())] {
        assert!(matches!(refused.err(), Some(Error::NotOurs { example, .. }) if example == "thesis.txt"));
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "not even a lock file");
}

#[test]
fn what_a_first_opening_left_when_it_died_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("lock"), "123\n").unwrap();
    std::fs::write(dir.path().join("VERSION.tmp"), "patch").unwrap();
    DataDir::open(dir.path()).unwrap();
}

#[test]
fn a_second_opening_names_this_process_and_looking_needs_no_lock() {
    let dir = tempfile::tempdir().unwrap();
    let held = DataDir::open(dir.path()).unwrap();
    let error = DataDir::open(dir.path()).err().unwrap();
    assert!(matches!(error, Error::Locked { pid: Some(pid), .. } if pid == std::process::id()), "{error}");
    DataDir::inspect(dir.path()).unwrap();
    drop(held);
    DataDir::open(dir.path()).unwrap();
}

#[test]
fn a_second_process_is_named_and_its_death_frees_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "datadir::the_child_that_holds_a_directory", "--nocapture"])
        .env(HOLD, dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("held")), "the child died before it held the directory");
    let error = DataDir::open(dir.path()).err().unwrap();
    assert!(matches!(error, Error::Locked { pid: Some(pid), .. } if pid == child.id()), "{error}");
    assert!(error.to_string().contains(&child.id().to_string()));
    child.kill().unwrap();
    child.wait().unwrap();
    DataDir::open(dir.path()).unwrap();
}

/// Does nothing by itself: the test above runs it in a process of its own.
#[test]
fn the_child_that_holds_a_directory() {
    let Some(path) = std::env::var_os(HOLD) else { return };
    let _held = DataDir::open(path.as_ref()).unwrap();
    println!("held");
    // Until it is killed, or its parent is gone.
    std::io::stdin().read_line(&mut String::new()).unwrap();
}
