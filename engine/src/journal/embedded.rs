//! The journal over real files: one thread writes and flushes, another fills the next segment with zeros.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::log::{Log, Opened, Options, Stats, prefill};
use super::segment::Reader;
use super::{AppendError, Appended, Error, Head, Journal, Record, RecordReader};
use crate::disk::RealDisk;

/// One append is under way at a time; the rest is room for readers and for appends whose callers went away.
const COMMANDS_MAX: usize = 8;
/// Batches of records that a reader may be ahead of its consumer.
const READ_BATCHES_MAX: usize = 2;
/// A batch of records is handed over when it holds this many bytes of payload.
const READ_BATCH_BYTES: usize = 1024 * 1024;
/// Or this many records.
const READ_BATCH_RECORDS: usize = 512;

/// The journal in segment files of a directory.
///
/// Dropping it waits for the flush under way. The caller holds the lock on the directory.
#[derive(Debug)]
pub struct EmbeddedJournal {
    commands: Option<mpsc::Sender<Command>>,
    thread: Option<JoinHandle<()>>,
    ends: Arc<Mutex<Ends>>,
}

#[derive(Clone, Copy, Debug)]
struct Ends {
    first: u64,
    head: Head,
}

#[derive(Debug)]
enum Command {
    Append(Vec<u8>, oneshot::Sender<Result<Appended, AppendError>>),
    Copy(Vec<u8>, u32, oneshot::Sender<Result<Appended, AppendError>>),
    Flush(oneshot::Sender<Result<(), AppendError>>),
    Read(u64, oneshot::Sender<Result<Reader<RealDisk>, Error>>),
    Trim(u64, oneshot::Sender<Result<u64, Error>>),
    Stats(oneshot::Sender<Result<Stats, Error>>),
}

impl EmbeddedJournal {
    /// Opens the journal in `dir`, or makes it.
    ///
    /// Reads the last segment and blocks meanwhile.
    ///
    /// # Errors
    /// [`Error::Damaged`] where an acknowledged record is not what it was; [`Error::UnknownFormat`] and
    /// [`Error::UnknownSemantics`] where a newer engine wrote it; else what the disk says.
    pub fn open(dir: &Path, options: Options) -> Result<(Self, Opened), Error> {
        let (log, opened) = Log::open(RealDisk, dir, options)?;
        let ends = Arc::new(Mutex::new(Ends { first: opened.first, head: opened.head }));
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let worker = Worker { log, dir: dir.to_owned(), ends: Arc::clone(&ends), filler: None, filled: 0 };
        let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(move || worker.run(inbox)).map_err(
            |source| Error::Io { attempt: "start the thread of the journal in", path: dir.to_owned(), source },
        )?;
        Ok((Self { commands: Some(commands), thread: Some(thread), ends }, opened))
    }

    /// Its size.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn stats(&self) -> Result<Stats, Error> {
        self.ask(Command::Stats).await.unwrap_or(Err(Error::Stopped))
    }

    /// Hands over the copy of a record that was written under these semantics, and does not wait until it is written.
    pub(crate) async fn hand_over(
        &self,
        record: Vec<u8>,
        semantics: u32,
    ) -> oneshot::Receiver<Result<Appended, AppendError>> {
        let (answer, answered) = oneshot::channel();
        if let Some(commands) = &self.commands {
            // A thread that has ended drops the answer, which says so.
            let _ = commands.send(Command::Copy(record, semantics, answer)).await;
        }
        answered
    }

    /// Makes durable what was appended without; also waits for all that was handed over before.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub async fn flush(&self) -> Result<(), AppendError> {
        self.ask(Command::Flush).await.unwrap_or(Err(AppendError::Stopped))
    }

    /// Waits for the flush under way and closes the files.
    pub async fn close(mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been seen by each append as `Stopped`.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.commands.as_ref()?.send(command(answer)).await.ok()?;
        answered.await.ok()
    }

    fn ends(&self) -> Ends {
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for EmbeddedJournal {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            // Else a journal opened right after this one would share the files with a thread that still writes.
            let _ = thread.join();
        }
    }
}

impl Journal for EmbeddedJournal {
    type Reader = EmbeddedReader;

    async fn append(&mut self, record: Vec<u8>) -> Result<Appended, AppendError> {
        self.ask(|answer| Command::Append(record, answer)).await.unwrap_or(Err(AppendError::Stopped))
    }

    async fn read_from(&self, seq: u64) -> Result<EmbeddedReader, Error> {
        let reader = self.ask(|answer| Command::Read(seq, answer)).await.unwrap_or(Err(Error::Stopped))?;
        EmbeddedReader::start(reader)
    }

    fn head(&self) -> Head {
        self.ends().head
    }

    fn first(&self) -> u64 {
        self.ends().first
    }

    async fn trim_before(&mut self, seq: u64) -> Result<u64, Error> {
        self.ask(|answer| Command::Trim(seq, answer)).await.unwrap_or(Err(Error::Stopped))
    }
}

/// The thread's side.
struct Worker {
    log: Log<RealDisk>,
    dir: PathBuf,
    ends: Arc<Mutex<Ends>>,
    filler: Option<Filler>,
    filled: u64,
}

struct Filler {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<bool>,
}

impl Worker {
    fn run(mut self, mut inbox: mpsc::Receiver<Command>) {
        while let Some(command) = inbox.blocking_recv() {
            // Callers that went away need no answer, hence no look at what `send` returns.
            match command {
                Command::Append(record, answer) => {
                    let result = self.log.append(&record);
                    self.publish();
                    let _ = answer.send(result);
                    self.tend_spare();
                }
                Command::Copy(record, semantics, answer) => {
                    let result = self.log.append_as(&record, semantics);
                    self.publish();
                    let _ = answer.send(result);
                    self.tend_spare();
                }
                Command::Flush(answer) => {
                    let _ = answer.send(self.log.flush());
                }
                Command::Read(seq, answer) => {
                    let _ = answer.send(self.log.reader(seq));
                }
                Command::Trim(seq, answer) => {
                    let result = self.log.trim_before(seq);
                    self.publish();
                    let _ = answer.send(result);
                }
                Command::Stats(answer) => {
                    let _ = answer.send(self.log.stats());
                }
            }
        }
        if let Some(filler) = self.filler {
            filler.stop.store(true, Ordering::Relaxed);
            let _ = filler.thread.join();
        }
    }

    fn publish(&self) {
        let ends = Ends { first: self.log.first(), head: self.log.head() };
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = ends;
    }

    /// Starts filling the next segment once the current one is used enough, and takes it when it is ready.
    fn tend_spare(&mut self) {
        if self.filler.as_ref().is_some_and(|filler| filler.thread.is_finished())
            && let Some(filler) = self.filler.take()
            && filler.thread.join().unwrap_or(false)
        {
            self.log.take_spare(filler.path);
        }
        // One try per segment: on a full disk each try would take the room that records need.
        let segment = self.log.segment_seq();
        if self.filler.is_some() || self.filled == segment || !self.log.wants_spare() {
            return;
        }
        self.filled = segment;
        let path = self.dir.join(format!("spare-{segment}.tmp"));
        let stop = Arc::new(AtomicBool::new(false));
        let (bytes, file, stopping) = (self.log.options().segment_bytes, path.clone(), Arc::clone(&stop));
        let fill = move || prefill(&RealDisk, &file, bytes, &|| stopping.load(Ordering::Relaxed)).is_ok();
        // Without the thread the next segment begins unfilled, which is slower and nothing else.
        if let Ok(thread) = std::thread::Builder::new().name("journal-fill".to_owned()).spawn(fill) {
            self.filler = Some(Filler { path, stop, thread });
        }
    }
}

/// Reads records on a thread of its own, a little ahead of its consumer.
#[derive(Debug)]
pub struct EmbeddedReader {
    batches: mpsc::Receiver<Vec<Result<Record, Error>>>,
    current: std::vec::IntoIter<Result<Record, Error>>,
    thread: Option<JoinHandle<()>>,
}

impl EmbeddedReader {
    fn start(mut reader: Reader<RealDisk>) -> Result<Self, Error> {
        let (sender, batches) = mpsc::channel(READ_BATCHES_MAX);
        let read = move || {
            loop {
                let mut batch = Vec::new();
                let mut bytes = 0;
                while bytes < READ_BATCH_BYTES && batch.len() < READ_BATCH_RECORDS {
                    let Some(item) = reader.next() else { break };
                    bytes += item.as_ref().map_or(0, |record| record.payload.len());
                    batch.push(item);
                }
                if batch.is_empty() || sender.blocking_send(batch).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("journal-read".to_owned()).spawn(read).map_err(|source| {
            Error::Io { attempt: "start a thread to read", path: PathBuf::from("the journal"), source }
        })?;
        Ok(Self { batches, current: Vec::new().into_iter(), thread: Some(thread) })
    }
}

impl RecordReader for EmbeddedReader {
    async fn next(&mut self) -> Result<Option<Record>, Error> {
        loop {
            if let Some(item) = self.current.next() {
                return item.map(Some);
            }
            match self.batches.recv().await {
                Some(batch) => self.current = batch.into_iter(),
                // A thread that ended by a panic has not read to the end.
                None => match self.thread.take().map(JoinHandle::join) {
                    Some(Err(_)) => return Err(Error::Stopped),
                    Some(Ok(())) | None => return Ok(None),
                },
            }
        }
    }
}

impl Drop for EmbeddedReader {
    fn drop(&mut self) {
        self.batches.close();
        // Empties the channel, so that the thread finds it closed instead of waiting for room.
        while self.batches.try_recv().is_ok() {}
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
