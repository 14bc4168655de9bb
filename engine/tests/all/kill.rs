//! A process with journal and store is killed (-9) at any moment: what it had acknowledged is there afterwards.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use patchloom_engine::journal::{EmbeddedJournal, Journal, Opened, Options, RecordReader};
use patchloom_engine::sim::Random;
use patchloom_engine::store::{Batch, Checkpointer, Options as StoreOptions, Store};

/// Set for the process that is killed; names its directory.
const VICTIM: &str = "PATCHLOOM_TEST_KILL";
const ROUNDS: u64 = 20;

fn journal(dir: &Path) -> (EmbeddedJournal, Opened) {
    // Small segments, so that the kill also meets rotation and filling.
    EmbeddedJournal::open(&dir.join("journal"), Options { segment_bytes: 32 * 1024, ..Options::new(1) }).unwrap()
}

fn store(dir: &Path, opened: &Opened) -> patchloom_engine::store::Opened {
    let options = StoreOptions { journal: opened.id, journal_head: opened.head.seq, cache_bytes: 8 * 1024 * 1024 };
    Store::open(&dir.join("store"), &options).unwrap()
}

fn payload(seq: u64) -> Vec<u8> {
    let size = usize::try_from(Random::new(seq).below(3_000)).unwrap();
    format!("{seq}:{}", "x".repeat(size)).into_bytes()
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random::new(2026);
    let mut acknowledged = 0_u64;
    let mut checkpoint = 0_u64;
    for round in 0..ROUNDS {
        let lines_wanted = 1 + random.below(400);
        let (journaled, stored) = run_and_kill(dir.path(), lines_wanted);
        acknowledged = acknowledged.max(journaled);
        checkpoint = checkpoint.max(stored);

        let (journal, opened) = journal(dir.path());
        assert!(opened.head.seq >= acknowledged, "round {round}: {acknowledged} was acknowledged, found {opened:?}");
        let mut reader = journal.read_from(1).await.unwrap();
        let mut seq = 0;
        while let Some(record) = reader.next().await.unwrap() {
            seq += 1;
            assert_eq!((record.seq, record.payload), (seq, payload(seq)), "round {round}");
        }
        assert_eq!(seq, opened.head.seq);
        let store = store(dir.path(), &opened);
        assert_eq!(store.rebuilt, None, "round {round}");
        assert!(store.checkpoint >= checkpoint, "round {round}: stored to {checkpoint}, found {}", store.checkpoint);
        for seq in 1..=store.checkpoint {
            let row = store.store.get(&seq.to_be_bytes()).unwrap();
            assert_eq!(row.as_deref(), Some(seq.to_string().as_bytes()), "round {round}");
        }
        let ahead = store.store.get(&(store.checkpoint + 1).to_be_bytes()).unwrap();
        assert_eq!(ahead, None, "round {round}: rows and checkpoint are one stroke");
    }
    assert!(acknowledged > ROUNDS && checkpoint > 0, "{acknowledged} records and checkpoint {checkpoint} prove little");
}

/// Runs the victim until it has said `lines_wanted` things, kills it, and returns the last record and checkpoint it acknowledged.
fn run_and_kill(dir: &Path, lines_wanted: u64) -> (u64, u64) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::the_victim", "--nocapture"])
        .env(VICTIM, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut journaled, mut stored, mut lines) = (0, 0, 0);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        // The last line may be cut by the kill: what follows the number shows that it is whole.
        let number = |prefix: &str| line.split_once(prefix)?.1.strip_suffix(" ok")?.parse::<u64>().ok();
        if let Some(seq) = number("journal ") {
            journaled = seq;
        } else if let Some(seq) = number("store ") {
            stored = seq;
        }
        lines += 1;
        if lines == lines_wanted {
            // What it says between now and its death still counts: the loop reads on to the end.
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    (journaled, stored)
}

/// Does nothing by itself: the test above runs it in a process of its own, and kills it.
#[tokio::test]
async fn the_victim() {
    let Some(dir) = std::env::var_os(VICTIM).map(PathBuf::from) else { return };
    let (mut journal, opened) = journal(&dir);
    let store = store(&dir, &opened);
    let mut stored = store.checkpoint;
    let (checkpointer, _thread) = Checkpointer::start(store.store, stored).unwrap();
    let mut out = std::io::stdout();
    let mut batch = Batch::default();
    for seq in stored + 1..=opened.head.seq {
        batch.put(seq.to_be_bytes(), seq.to_string());
    }
    loop {
        let seq = journal.append(payload(journal.head().seq + 1)).await.unwrap().seq;
        writeln!(out, "journal {seq} ok").unwrap();
        batch.put(seq.to_be_bytes(), seq.to_string());
        if seq.is_multiple_of(7) {
            batch = checkpointer.try_submit(batch, seq).err().unwrap_or_default();
        }
        let checkpoint = checkpointer.progress().checkpoint;
        if checkpoint > stored {
            stored = checkpoint;
            writeln!(out, "store {stored} ok").unwrap();
        }
    }
}
