//! The store: what a checkpoint wrote is there; whatever is damaged leads to a rebuild and never to a crash.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use patchloom_engine::store::{Batch, Checkpointer, Error, Opened, Options, Stats, Store};

fn options(journal_head: u64) -> Options {
    Options { journal: [5; 16], journal_head, cache_bytes: 8 * 1024 * 1024 }
}

fn open(dir: &Path) -> Opened {
    Store::open(dir, &options(1_000)).unwrap()
}

fn batch(keys: std::ops::Range<u32>, fill: u8) -> Batch {
    let mut batch = Batch::default();
    for key in keys {
        batch.put(format!("run/{key:06}"), vec![fill; 200]);
    }
    batch
}

/// A store with 3,000 rows, closed.
fn filled(parent: &Path) -> PathBuf {
    let dir = parent.join("store");
    let opened = open(&dir);
    opened.store.apply(&batch(0..3_000, b'a'), 42).unwrap();
    drop(opened);
    // Opening waits for the lock, hence for the end of the former one.
    drop(open(&dir));
    dir
}

/// Opens and reads everything, rebuilding where a row is damaged: what an engine does when it starts.
fn recover(dir: &Path) -> (Opened, u64) {
    let opened = open(dir);
    match opened.store.load(&[], |_, _| {}) {
        Ok(rows) => (opened, rows),
        Err(Error::Damaged { reason, .. }) => (opened.store.rebuild(&options(1_000), reason).unwrap(), 0),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn rows_and_checkpoint_survive_closing() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("store");
    let opened = open(&dir);
    assert_eq!((opened.checkpoint, opened.rebuilt), (0, None));
    opened.store.apply(&batch(0..100, b'a'), 7).unwrap();
    let mut second = batch(50..60, b'b');
    second.delete("run/000001");
    second.put("", "an empty key");
    opened.store.apply(&second, 9).unwrap();
    drop(opened.store);
    let Opened { store, checkpoint, rebuilt } = open(&dir);
    assert_eq!((checkpoint, rebuilt), (9, None));
    assert_eq!(store.get(b"run/000001").unwrap(), None);
    assert_eq!(store.get(b"run/000055").unwrap(), Some(vec![b'b'; 200]));
    assert_eq!(store.get(b"").unwrap(), Some(b"an empty key".to_vec()));
    let mut keys = Vec::new();
    assert_eq!(store.load(b"run/00005", |key, _| keys.push(key.to_vec())).unwrap(), 10);
    assert!(keys.is_sorted());
    let stats = store.stats().unwrap();
    assert_eq!((stats.rows, stats.is_bloated()), (100, false));
}

#[test]
fn a_store_ahead_of_the_journal_or_of_another_journal_is_rebuilt() {
    let parent = tempfile::tempdir().unwrap();
    let dir = filled(parent.path());
    let ahead = Store::open(&dir, &options(41)).unwrap();
    assert!(ahead.rebuilt.unwrap().reason.contains("record 42"));
    assert_eq!((ahead.checkpoint, ahead.store.stats().unwrap().rows), (0, 0));
    drop(ahead.store);
    let other = Store::open(&dir, &Options { journal: [6; 16], ..options(41) }).unwrap();
    assert!(other.rebuilt.unwrap().reason.contains("another journal"));
}

#[test]
fn a_store_cut_at_any_length_is_whole_or_rebuilt_and_two_damaged_ones_are_kept() {
    let parent = tempfile::tempdir().unwrap();
    for percent in [0, 1, 10, 50, 90, 99] {
        let dir = filled(parent.path());
        let file = OpenOptions::new().write(true).open(dir.join("db")).unwrap();
        file.set_len(file.metadata().unwrap().len() * percent / 100).unwrap();
        let (opened, rows) = recover(&dir);
        assert!(rows == 3_000 || opened.checkpoint == 0, "cut to {percent} %: {rows} rows at {}", opened.checkpoint);
        drop(opened);
        if dir.exists() {
            std::fs::remove_dir_all(&dir).unwrap();
        }
    }
    let kept = std::fs::read_dir(parent.path()).unwrap().count();
    assert!(kept <= 2, "{kept} damaged stores were kept");
}

#[test]
fn a_store_without_its_file_or_with_flipped_bytes_is_whole_or_rebuilt() {
    let mut rebuilt = 0;
    for damage in 0..12_u64 {
        let parent = tempfile::tempdir().unwrap();
        let dir = filled(parent.path());
        let path = dir.join("db");
        if damage == 0 {
            std::fs::remove_file(&path).unwrap();
        } else {
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            let at = file.metadata().unwrap().len() * damage / 13;
            file.write_all_at(&[0x5A; 64], at).unwrap();
        }
        let (opened, rows) = recover(&dir);
        assert!(rows == 3_000 || opened.checkpoint == 0, "damage {damage}: {rows} rows at {}", opened.checkpoint);
        opened.store.apply(&batch(0..10, b'c'), 43).unwrap();
        rebuilt += u32::from(opened.rebuilt.is_some());
    }
    assert!(rebuilt > 0, "no damage was noticed at all");
}

#[test]
fn a_store_in_use_is_waited_for_and_then_refused_without_touching_it() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("store");
    let held = open(&dir);
    assert!(matches!(Store::open(&dir, &options(1_000)), Err(Error::Locked { .. })));
    held.store.apply(&batch(0..1, b'a'), 1).unwrap();
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn checkpoints_are_written_behind_in_order_and_can_be_waited_for() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("store");
    let opened = open(&dir);
    let (checkpointer, thread) = Checkpointer::start(opened.store, opened.checkpoint).unwrap();
    for seq in 1..=20_u64 {
        let mut batch = Batch::default();
        batch.put("latest", seq.to_string());
        checkpointer.submit(batch, seq).await.unwrap();
    }
    checkpointer.wait_for(20).await.unwrap();
    assert_eq!(checkpointer.progress().checkpoint, 20);
    let last = checkpointer.clone();
    drop(checkpointer);
    assert!(last.submit(Batch::default(), 21).await.is_ok(), "the thread runs until the last handle is dropped");
    drop(last);
    thread.join().unwrap();
    let opened = open(&dir);
    assert_eq!((opened.checkpoint, opened.store.get(b"latest").unwrap()), (21, Some(b"20".to_vec())));
}

#[test]
fn bloat_is_three_times_the_live_bytes_and_some() {
    let mib: u64 = 1024 * 1024;
    let stats = |live: u64, disk: u64| Stats { rows: 1, live_bytes: live * mib, disk_bytes: disk * mib };
    assert!(!stats(10, 94).is_bloated());
    assert!(stats(10, 95).is_bloated());
}
