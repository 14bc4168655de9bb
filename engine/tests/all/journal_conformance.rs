//! What every journal must do, run against the embedded, the simulated and the one over NATS.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use patchloom_bed::nats::Server;
use patchloom_engine::journal::{
    AppendError, ChainHash, EmbeddedJournal, Error, Head, Journal, Options, RECORD_BYTES_MAX, Record, RecordReader,
};
use patchloom_engine::nats::{JournalOptions, NatsJournal, NatsSnapshots};
use patchloom_engine::sim::{Crash, Latency, SimDisk, SimJournal};

/// A place where one journal lives on while it is opened and closed.
trait Place {
    type Journal: Journal;
    async fn open(&mut self) -> Self::Journal;
    /// Makes the snapshot without which nothing may be given up.
    async fn snapshot(&mut self, _seq: u64) {}
}

struct OnFiles {
    dir: tempfile::TempDir,
}

impl OnFiles {
    fn path(&self) -> PathBuf {
        self.dir.path().join("journal")
    }
}

impl Place for OnFiles {
    type Journal = EmbeddedJournal;

    async fn open(&mut self) -> EmbeddedJournal {
        let options = Options { segment_bytes: 1024, ..Options::new(1) };
        EmbeddedJournal::open(&self.path(), options).unwrap().0
    }
}

struct Simulated {
    disk: SimDisk,
}

impl Place for Simulated {
    type Journal = SimJournal;

    async fn open(&mut self) -> SimJournal {
        // A process that dies without a trace: each reopening is also a crash that loses what was not flushed.
        self.disk.crash(Crash::LoseUnsynced);
        let options = Options { segment_bytes: 1024, prefill: false, id_if_new: [7; 16], ..Options::new(1) };
        let latency = Latency { seed: 1, wait_max: std::time::Duration::from_millis(5) };
        SimJournal::open_with(&self.disk, options, Some(latency)).unwrap().0
    }
}

/// In a stream of a real server.
struct OverNats {
    context: jetstream::Context,
    dir: tempfile::TempDir,
    _server: Server,
}

impl OverNats {
    async fn start() -> Self {
        let server = Server::start(Default::default());
        let client = async_nats::connect(server.url()).await.unwrap();
        Self { context: jetstream::new(client), dir: tempfile::tempdir().unwrap(), _server: server }
    }
}

impl Place for OverNats {
    type Journal = NatsJournal;

    async fn open(&mut self) -> NatsJournal {
        NatsJournal::open(&self.context, "main", JournalOptions::new(1, 1)).await.unwrap()
    }

    async fn snapshot(&mut self, seq: u64) {
        let path = self.dir.path().join("snapshot");
        std::fs::write(&path, b"of no interest here").unwrap();
        let snapshots = NatsSnapshots::open(&self.context, "main", 1).await.unwrap();
        snapshots.upload(seq, &path).await.unwrap();
    }
}

async fn read<J: Journal>(journal: &J, seq: u64) -> Vec<Record> {
    let mut reader = journal.read_from(seq).await.unwrap();
    let mut records = Vec::new();
    while let Some(record) = reader.next().await.unwrap() {
        records.push(record);
    }
    records
}

fn payload(seq: u64) -> Vec<u8> {
    format!("{{\"record\":{seq},\"fill\":\"{}\"}}", "x".repeat(usize::try_from(seq * 7 % 300).unwrap())).into_bytes()
}

async fn conforms(mut place: impl Place) {
    let mut journal = place.open().await;
    assert_eq!((journal.head(), journal.first()), (Head::default(), 1));
    assert!(read(&journal, 1).await.is_empty());
    assert!(matches!(journal.read_from(0).await.err(), Some(Error::Trimmed { seq: 0, first: 1 })));
    assert!(matches!(journal.read_from(2).await.err(), Some(Error::BeyondHead { seq: 2, head: 0 })));

    let mut chain = ChainHash::default();
    for seq in 1..=60 {
        let appended = journal.append(payload(seq)).await.unwrap();
        chain = chain.next(seq, &payload(seq));
        assert_eq!((appended.seq, appended.hash), (seq, chain));
        assert_eq!(journal.head(), Head { seq, hash: chain });
        if seq % 20 == 0 {
            drop(journal);
            journal = place.open().await;
            assert_eq!(journal.head(), Head { seq, hash: chain }, "the head survives reopening");
        }
    }
    let all = read(&journal, 1).await;
    assert_eq!(all.len(), 60);
    for (record, seq) in all.iter().zip(1..) {
        assert_eq!((record.seq, &record.payload, record.semantics), (seq, &payload(seq), 1));
    }
    for seq in [2, 17, 60, 61] {
        let from = usize::try_from(seq - 1).unwrap();
        assert_eq!(read(&journal, seq).await, all[from..], "reading from {seq}");
    }
    place.snapshot(29).await;
    trims(&mut journal, &all).await;
    let first = journal.first();
    drop(journal);
    let mut journal = place.open().await;
    assert_eq!((journal.first(), journal.head().seq), (first, 60));
    takes_odd_sizes(&mut journal).await;
    drop(journal);
    let journal = place.open().await;
    assert_eq!(read(&journal, 61).await.iter().map(|record| record.payload.len()).collect::<Vec<_>>(), [0, 50_000, 2]);
}

async fn trims<J: Journal>(journal: &mut J, all: &[Record]) {
    let end = Instant::now() + Duration::from_secs(30);
    let mut first = journal.trim_before(30).await.unwrap();
    // Some journals give up in the background.
    while first == 1 {
        assert!(Instant::now() < end, "nothing was given up");
        tokio::time::sleep(Duration::from_millis(10)).await;
        first = journal.trim_before(30).await.unwrap();
    }
    assert!(first > 1 && first <= 30, "trimming gives up something and keeps all from 30 on, but left {first}");
    assert_eq!(journal.first(), first);
    assert!(matches!(journal.read_from(1).await.err(), Some(Error::Trimmed { seq: 1, .. })));
    assert_eq!(read(journal, first).await, all[usize::try_from(first - 1).unwrap()..]);
    // Beyond the head there is nothing to give up: the chain must go on.
    let first = journal.trim_before(1_000).await.unwrap();
    assert!(first <= 61);
    assert_eq!(journal.head().seq, 60);
}

async fn takes_odd_sizes<J: Journal>(journal: &mut J) {
    assert_eq!(journal.append(Vec::new()).await.unwrap().seq, 61);
    assert_eq!(journal.append(vec![b'a'; 50_000]).await.unwrap().seq, 62);
    let refused = journal.append(vec![0; RECORD_BYTES_MAX + 1]).await.err();
    assert!(matches!(refused, Some(AppendError::TooLong { bytes, .. }) if bytes == RECORD_BYTES_MAX + 1));
    assert_eq!(journal.append(b"{}".to_vec()).await.unwrap().seq, 63, "a refused record leaves no gap");
}

#[tokio::test]
async fn the_embedded_journal_conforms() {
    conforms(OnFiles { dir: tempfile::tempdir().unwrap() }).await;
}

#[tokio::test(start_paused = true)]
async fn the_simulated_journal_conforms() {
    conforms(Simulated { disk: SimDisk::new() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_over_nats_conforms() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    conforms(OverNats::start().await).await;
}

#[tokio::test]
async fn a_record_at_the_limit_is_kept() {
    let mut place = OnFiles { dir: tempfile::tempdir().unwrap() };
    let mut journal = place.open().await;
    journal.append(vec![b'x'; RECORD_BYTES_MAX]).await.unwrap();
    journal.append(b"{}".to_vec()).await.unwrap();
    assert_eq!(
        read(&journal, 1).await.iter().map(|record| record.payload.len()).collect::<Vec<_>>(),
        [RECORD_BYTES_MAX, 2]
    );
}

#[tokio::test]
async fn a_running_journal_can_be_verified_and_exported() {
    let mut place = OnFiles { dir: tempfile::tempdir().unwrap() };
    let mut journal = place.open().await;
    for seq in 1..=20 {
        journal.append(payload(seq)).await.unwrap();
    }
    let report = patchloom_engine::journal::verify(&place.path()).unwrap();
    assert!(report.is_sound() && report.unfinished.is_none(), "{report:?}");
    assert_eq!((report.records, report.seq_first, report.seq_last), (20, Some(1), Some(20)));
    assert_eq!(report.head_hash, journal.head().hash);
    assert!(report.segments.len() > 1);
    let exported = patchloom_engine::journal::records(&place.path(), 5).unwrap();
    assert_eq!(exported.map(|record| record.unwrap().seq).collect::<Vec<_>>(), (5..=20).collect::<Vec<_>>());
    let stats = journal.stats().await.unwrap();
    assert_eq!((stats.records, stats.last, stats.bytes), (20, 20, report.bytes));
    journal.close().await;
}

#[tokio::test]
async fn a_reader_that_is_dropped_early_ends_its_thread() {
    let mut place = OnFiles { dir: tempfile::tempdir().unwrap() };
    let mut journal = place.open().await;
    for _ in 0..40 {
        journal.append(vec![b'x'; 300_000]).await.unwrap();
    }
    let mut reader = journal.read_from(1).await.unwrap();
    assert_eq!(reader.next().await.unwrap().unwrap().seq, 1);
    // Dropping joins the thread: were it stuck on a full channel, this test would never end.
    drop(reader);
}

#[tokio::test]
async fn a_journal_can_begin_behind_the_record_of_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let begins_after = Head { seq: 40, hash: ChainHash([4; 32]) };
    let open = || {
        let options = Options { segment_bytes: 1024, begins_after, ..Options::new(1) };
        EmbeddedJournal::open(&dir.path().join("journal"), options).unwrap()
    };
    let (mut journal, opened) = open();
    assert_eq!((opened.created, opened.first, opened.head), (true, 41, begins_after));
    assert!(matches!(journal.read_from(40).await.err(), Some(Error::Trimmed { seq: 40, first: 41 })));
    for seq in 41..=60 {
        assert_eq!(journal.append(payload(seq)).await.unwrap().seq, seq);
    }
    drop(journal);
    let (journal, opened) = open();
    assert_eq!((opened.created, opened.first, opened.head.seq), (false, 41, 60));
    let records = read(&journal, 41).await;
    assert_eq!(records[0].hash, begins_after.hash.next(41, &payload(41)));
    assert_eq!(records.len(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_need_not_be_durable_does_not_flush_its_records() {
    for (durable, kept) in [(true, 5), (false, 0)] {
        let disk = SimDisk::new();
        let options = Options { prefill: false, durable, ..Options::new(1) };
        let mut journal = SimJournal::open_with(&disk, options.clone(), None).unwrap().0;
        for seq in 1..=5 {
            journal.append(payload(seq)).await.unwrap();
        }
        drop(journal);
        disk.crash(Crash::LoseUnsynced);
        let (_, opened) = SimJournal::open_with(&disk, options, None).unwrap();
        assert_eq!(opened.head.seq, kept, "durable: {durable}");
    }
}
