//! An engine that follows: it holds the same state as the leader, byte for byte, hands orders on, and takes over.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use patchloom_core::record::{Entry, Event, SEMANTICS};
use patchloom_core::{CloudEvent, Definition, Outcome, RunId};
use patchloom_engine::clock::Clock;
use patchloom_engine::datadir::DataDir;
use patchloom_engine::events::InProcess;
use patchloom_engine::journal::{
    AppendError, Appended, EmbeddedJournal, EmbeddedReader, Error, Head, Journal, Options, Record, Tail,
};
use patchloom_engine::queue::{EmbeddedQueue, Limits, TaskQueue};
use patchloom_engine::runtime::{
    BoxFuture, EngineError, EngineOptions, Follow, Forward, Handle, Intake, Published, Seat, Seen, StartRun, recover,
};
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};

const LINE: &str = r#"
name: line
inputs: { n: { type: integer } }
steps:
  a: { uses: t.a, with: { n: "${{ inputs.n }}" } }
  b: { needs: a, workflow: leaf, with: { n: "${{ inputs.n }}" } }
  c: { needs: b, uses: t.c }
"#;
const LEAF: &str = r#"
name: leaf
inputs: { n: { type: integer } }
steps:
  x: { for_each: { items: "${{ [1, 2, 3] }}" }, uses: t.x }
"#;

/// A journal whose records another one overhears.
struct Overheard {
    journal: EmbeddedJournal,
    ear: mpsc::UnboundedSender<Record>,
    head: watch::Sender<u64>,
}

impl Journal for Overheard {
    type Reader = EmbeddedReader;

    async fn append(&mut self, record: Vec<u8>) -> Result<Appended, AppendError> {
        let appended = self.journal.append(record.clone()).await?;
        self.head.send_replace(appended.seq);
        // The follower may have taken over.
        let _ = self.ear.send(Record { seq: appended.seq, hash: appended.hash, semantics: SEMANTICS, payload: record });
        Ok(appended)
    }

    async fn read_from(&self, seq: u64) -> Result<EmbeddedReader, Error> {
        self.journal.read_from(seq).await
    }

    fn head(&self) -> Head {
        self.journal.head()
    }

    fn first(&self) -> u64 {
        self.journal.first()
    }

    async fn trim_before(&mut self, seq: u64) -> Result<u64, Error> {
        self.journal.trim_before(seq).await
    }
}

/// Overhears, and keeps a copy.
struct Copying {
    journal: EmbeddedJournal,
    ear: mpsc::UnboundedReceiver<Record>,
    head: watch::Receiver<u64>,
}

impl Tail for Copying {
    async fn next(&mut self) -> Result<Record, Error> {
        match self.ear.recv().await {
            Some(record) => Ok(record),
            None => std::future::pending().await,
        }
    }

    async fn keep(&mut self, record: &Record) -> Result<(), AppendError> {
        let copied = self.journal.append(record.payload.clone()).await?;
        assert_eq!((copied.seq, copied.hash), (record.seq, record.hash), "the same chain");
        Ok(())
    }

    async fn forget_before(&mut self, seq: u64) -> Result<(), Error> {
        self.journal.trim_before(seq).await.map(drop)
    }

    async fn head(&mut self) -> Result<u64, Error> {
        Ok(*self.head.borrow())
    }
}

/// The leader, in this process.
struct Near(Handle);

impl Forward for Near {
    fn submit(&self, entries: Vec<Entry>) -> BoxFuture<Result<Vec<Seen>, EngineError>> {
        let handle = self.0.clone();
        Box::pin(async move { handle.submit(entries).await })
    }

    fn publish(&self, event: Arc<CloudEvent>, by: Arc<str>) -> BoxFuture<Result<Published, EngineError>> {
        let handle = self.0.clone();
        Box::pin(async move { handle.publish(&by, (*event).clone()).await })
    }
}

async fn seat(dir: &Path) -> (Seat<EmbeddedQueue, EmbeddedJournal>, EmbeddedQueue) {
    let mut options = EngineOptions::default();
    options.tuning.checkpoint = Duration::from_millis(5);
    let dir = DataDir::open(dir).unwrap();
    let (journal, opened) = EmbeddedJournal::open(&dir.journal(), Options::new(SEMANTICS)).unwrap();
    let recovered = recover(dir, journal, opened.id, true, &options).await.unwrap();
    let clock = Clock::system();
    let queue = EmbeddedQueue::new(clock.clone(), Limits::default());
    (recovered.seat(queue.clone(), InProcess::default(), clock, options.tuning), queue)
}

/// Does every task, until the engine is gone; `t.c` only while `open`.
fn worker(queue: EmbeddedQueue, handle: Handle, mut open: watch::Receiver<bool>) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            for lease in queue.take(16).await {
                if lease.task.uses == "t.c" {
                    // The test may be over.
                    let _ = open.wait_for(|open| *open).await;
                }
                let outcome = Outcome::Succeeded { output: json!({"n": lease.task.input}) };
                let Some(outcome) = queue.settle(&lease, outcome) else { continue };
                let event = Event::AttemptFinished { task: lease.task.key, outcome, tell: Vec::new() };
                if handle.submit(vec![Entry { by: "worker:test".into(), event }]).await.is_err() {
                    return;
                }
            }
        }
    })
}

async fn start(handle: &Handle, n: u32) -> RunId {
    let order = StartRun { workflow: "line".into(), inputs: json!({"n": n}), ..StartRun::default() };
    handle.start("test", order).await.unwrap()
}

async fn rows(handle: &Handle) -> BTreeMap<String, Vec<u8>> {
    handle.read(|state| state.rows().collect()).await.unwrap()
}

/// Waits until none of the runs is in the state: they are over and in the archive.
async fn all_gone(handle: &Handle, ids: &[RunId]) {
    let ids = ids.to_vec();
    for _ in 0..2_000 {
        let ids = ids.clone();
        if handle.read(move |state| ids.iter().all(|id| state.run(*id).is_none())).await.unwrap() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the runs do not end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_holds_the_same_state_hands_orders_on_and_takes_over() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ear, heard) = mpsc::unbounded_channel();
    let (head, known) = watch::channel(0);
    let (open, gate) = watch::channel(false);

    let (leading, queue) = seat(first.path()).await;
    let (handle, books) = (leading.handle.clone(), leading.books.clone());
    let journal = Overheard { journal: leading.journal, ear, head };
    let leader = tokio::spawn(leading.leader.lead(journal));
    let leading_worker = worker(queue, handle.clone(), gate.clone());

    let (mut following, standby_queue) = seat(second.path()).await;
    let (standby, standby_books) = (following.handle.clone(), following.books.clone());
    let (turn, comes) = oneshot::channel::<()>();
    let forward: Arc<dyn Forward> = Arc::new(Near(handle.clone()));
    let mut tail = Copying { journal: following.journal, ear: heard, head: known };
    let follower = tokio::spawn(async move {
        let turn = async { comes.await.unwrap_or_default() };
        let end = following.leader.follow(&mut tail, &forward, turn).await;
        assert!(matches!(end, Follow::Turn), "{end:?}");
        following.leader.lead(tail.journal).await
    });

    for text in [LEAF, LINE] {
        standby.register("test", &Definition::parse("test", text).unwrap()).await.unwrap();
    }
    // What the follower was told it knows when it answers: the order went to the leader and came back in a record.
    let mut ids = Vec::new();
    for n in 0..20 {
        let id = start(&standby, n).await;
        assert!(standby.run(id).await.unwrap().is_some(), "the follower does not know what it handed on");
        ids.push(id);
    }
    open.send_replace(true);
    all_gone(&handle, &ids).await;
    all_gone(&standby, &ids).await;
    assert_eq!(rows(&handle).await, rows(&standby).await);
    for id in &ids {
        let ours = history(&standby_books, &standby, *id).await;
        let theirs = history(&books, &handle, *id).await;
        assert_eq!(ours, theirs, "the archive of the follower has the same history");
        assert!(ours.len() >= 5, "{ours:?}");
    }

    // The leader dies in the midst of runs; the follower has them all and brings them to their end.
    open.send_replace(false);
    let mut late = Vec::new();
    for n in 0..5 {
        late.push(start(&handle, n).await);
    }
    leading_worker.abort();
    leader.abort();
    assert!(leader.await.is_err_and(|error| error.is_cancelled()));
    turn.send(()).unwrap();
    let _worker = worker(standby_queue, standby.clone(), gate);
    open.send_replace(true);
    all_gone(&standby, &late).await;
    standby.stop().await;
    let journal = follower.await.unwrap();
    assert_eq!(journal.first(), 1);
    journal.close().await;
    let report = patchloom_engine::journal::verify(&second.path().join("journal")).unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}

async fn history(books: &patchloom_engine::runtime::Books, handle: &Handle, id: RunId) -> Vec<String> {
    // What goes to the archive is written behind.
    for _ in 0..500 {
        if let Some(archived) = books.archived(id).unwrap() {
            return archived.history.iter().map(|item| format!("{} {}", item.seq, item.entry.event.name())).collect();
        }
        drop(handle.recent_history(id).await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("run {id} is not in the archive");
}
