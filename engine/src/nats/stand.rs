//! One engine of several on a partition: it follows the one that leads, and leads when it is its turn.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use patchloom_core::CloudEvent;
use patchloom_core::record::SEMANTICS;
use patchloom_core::wire::Names;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::catch_up::catch_up;
use super::connect::Connection;
use super::events::{BusOptions, Intake, NatsEvents, Past, take_in};
use super::journal::{JournalOptions, NatsJournal};
use super::lease::{Lease, TTL_DEFAULT};
use super::mirror::MirroredJournal;
use super::orders::{self, RemoteLeader};
use super::queue::{NatsQueue, QueueOptions};
use super::reader::NatsReader;
use super::stream_error::StreamError;
use super::tenure::Tenure;
use crate::clock::Clock;
use crate::datadir::DataDir;
use crate::events::{Both, Events, Wanted};
use crate::journal::{AppendError, Error, Record, RecordReader, Tail};
use crate::runtime::{
    Books, EmbeddedKeeper, EngineOptions, Follow, Forward, Handle, Leader, OpenError, Seat, recover, told,
};

/// Before the stream is looked at again that did not answer.
const AGAIN: Duration = Duration::from_millis(500);

/// How an engine stands for a partition.
#[derive(Clone, Debug)]
pub struct StandOptions {
    /// Which.
    pub partition: Arc<str>,
    /// What the engine is called.
    pub name: String,
    /// How many servers keep each record, and what else must outlive one of them.
    pub replicas: usize,
    /// How long the lease lasts that is not renewed: for so long nobody leads after a leader died. All engines of a
    /// partition say the same.
    pub ttl: Duration,
    /// The names of subjects and streams.
    pub names: Names,
    /// The queue of tasks; its partition, names and replicas are those above.
    pub queue: QueueOptions,
    /// Events on their way in and out.
    pub bus: BusOptions,
    /// The engine itself.
    pub engine: EngineOptions,
    /// Whether it leads when it is its turn; one that only looks on does not.
    pub leads: bool,
}

impl StandOptions {
    /// What the product uses, for an engine called `name` on one server.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            partition: "main".into(),
            name: name.to_owned(),
            replicas: 1,
            ttl: TTL_DEFAULT,
            names: Names::default(),
            queue: QueueOptions::default(),
            bus: BusOptions::default(),
            engine: EngineOptions::default(),
            leads: true,
        }
    }
}

/// How a stand ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StandEnd {
    /// It was asked to stop.
    Stopped,
    /// Another engine leads now: stand again, to follow it.
    Deposed,
    /// It cannot go on.
    Failed {
        /// Why.
        reason: String,
    },
}

/// An engine that stands for a partition.
#[derive(Debug)]
pub struct Stand {
    /// How to speak to it, whether it leads or follows: orders find the leader.
    pub handle: Handle,
    /// What lies behind the journal, to read.
    pub books: Books,
    /// The queue of tasks; nobody else's tasks are in it while it follows.
    pub queue: NatsQueue,
    /// What is told over NATS, where this engine may lead.
    pub told: Option<NatsEvents>,
    /// What was repaired, copied or rebuilt on the way, for people.
    pub notes: Vec<String>,
    task: JoinHandle<StandEnd>,
}

impl Stand {
    /// Waits until it is over: it was deposed, it failed, or [`Handle::stop`] was called.
    pub async fn ended(&mut self) -> StandEnd {
        match (&mut self.task).await {
            Ok(end) => end,
            Err(error) => StandEnd::Failed { reason: error.to_string() },
        }
    }
}

/// Stands for a partition, with the data directory at `path` as the copy of its journal.
///
/// # Errors
/// [`OpenError`]: the broker does not answer or lost what it had acknowledged, or the directory cannot be used.
pub async fn stand(
    connection: &Connection,
    path: &Path,
    events: impl Events,
    mut options: StandOptions,
) -> Result<Stand, OpenError> {
    let stream = |error: StreamError| OpenError::Journal(Error::Stream(error));
    let dir = DataDir::open(path)?;
    let context = &connection.jetstream();
    let journal = JournalOptions::new(SEMANTICS, options.replicas);
    let nats = match options.leads {
        true => NatsJournal::open(context, &options.partition, journal).await,
        false => NatsJournal::open_there(context, &options.partition, journal).await,
    };
    let nats = nats.map_err(stream)?;
    let id = nats.id();
    // A record is closed behind the entry that passes this: there must be room for that entry too.
    let tuning = &mut options.engine.tuning;
    tuning.bytes_max = tuning.bytes_max.min(nats.record_bytes_max() / 2);
    tuning.succeeded_kept = tuning.succeeded_kept.max(orders::REPEATED_FOR);
    let (mirror, caught_up) = catch_up(nats, &dir).await?;
    let mut notes: Vec<String> = caught_up.notes.into_iter().map(|note| format!("journal: {note}")).collect();
    let recovered = recover(dir, mirror, id, true, &options.engine).await?;
    notes.extend_from_slice(&recovered.notes);
    let lease = match options.leads {
        true => {
            let lease = Lease::open(context, &options.partition, &options.name, options.ttl, options.replicas);
            Some(lease.await.map_err(stream)?)
        }
        // Who only looks on need not know how long leases last.
        false => None,
    };
    let clock = Clock::system();
    let queue = QueueOptions {
        names: options.names.clone(),
        partition: Arc::clone(&options.partition),
        replicas: options.replicas,
        ..options.queue.clone()
    };
    let queue = NatsQueue::new(queue, clock.clone());
    let told = options.leads.then(|| {
        let partition = Arc::clone(&options.partition);
        let past = Directory { path: path.to_owned(), source: recovered.source() };
        let (names, bus, from) = (options.names.clone(), options.bus.clone(), recovered.heard_from());
        NatsEvents::behind(names, partition, options.replicas, bus, from, Some(Box::new(past)))
    });
    let events = Both(events, told.clone());
    let seat = recovered.seat(queue.clone(), events, clock.clone(), options.engine.tuning);
    let Seat { leader, handle, journal, books, dir } = seat;
    let engine = Standing {
        forward: Arc::new(RemoteLeader::new(connection.client().clone(), &options.names, &options.partition)),
        connection: connection.clone(),
        options,
        queue: queue.clone(),
        told: told.clone(),
        handle: handle.clone(),
        clock,
        _dir: dir,
    };
    let task = tokio::spawn(engine.run(leader, journal, lease));
    Ok(Stand { handle, books, queue, told, notes, task })
}

/// What the journal of a data directory told.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    source: String,
}

impl Past for Directory {
    fn told(&self, records: RangeInclusive<u64>, wanted: Wanted) -> Result<Vec<(u64, CloudEvent)>, String> {
        told(&self.path, &self.source, records, wanted).map_err(|error| chain(&error))
    }
}

type Chair = Leader<NatsQueue, EmbeddedKeeper>;

struct Standing {
    connection: Connection,
    options: StandOptions,
    queue: NatsQueue,
    told: Option<NatsEvents>,
    handle: Handle,
    forward: Arc<dyn Forward>,
    clock: Clock,
    _dir: DataDir,
}

/// The stream as a follower reads it, and the copy that it keeps.
struct Following<'a> {
    journal: &'a mut MirroredJournal,
    /// `None` while the stream does not answer: questions and the wish to stop are heard all the same.
    reader: Option<NatsReader>,
}

impl Following<'_> {
    fn away(&self) -> Error {
        let stream = self.journal.nats().stream().to_owned();
        let reason = "there is no reader of it".to_owned();
        StreamError::Unavailable { attempt: "follow", stream, reason }.into()
    }
}

impl Tail for Following<'_> {
    async fn next(&mut self) -> Result<Record, Error> {
        let Some(reader) = &mut self.reader else {
            sleep(AGAIN).await;
            return Err(self.away());
        };
        match reader.next().await? {
            Some(record) => Ok(record),
            None => Err(self.away()),
        }
    }

    async fn keep(&mut self, record: &Record) -> Result<(), AppendError> {
        self.journal.take(record).await
    }

    async fn forget_before(&mut self, seq: u64) -> Result<(), Error> {
        self.journal.forget_copy_before(seq).await
    }

    /// What is here: the rest comes when office is taken.
    async fn head(&mut self) -> Result<u64, Error> {
        Ok(self.journal.copied().seq)
    }
}

impl Standing {
    async fn run(self, mut leader: Chair, mut journal: MirroredJournal, mut lease: Option<Lease>) -> StandEnd {
        loop {
            match self.follow(&mut leader, &mut journal, &mut lease).await {
                Follow::Turn => {}
                Follow::Stopped => {
                    leader.leave(None).await;
                    close(journal).await;
                    return StandEnd::Stopped;
                }
                Follow::Failed(Error::Stream(StreamError::Unavailable { .. })) => continue,
                Follow::Failed(error) => return fail(leader, journal, &error).await,
                Follow::NotKept(error) => return fail(leader, journal, &error).await,
                Follow::Unreadable { seq, source } => {
                    let error = OpenError::Record { seq, source };
                    return fail(leader, journal, &error).await;
                }
            }
            let Some(held) = lease.take() else {
                return StandEnd::Failed { reason: "one that only looks on was to lead".to_owned() };
            };
            let tenure = Tenure::begin(held);
            match self.take_office(&mut leader, &mut journal, &tenure).await {
                Ok(true) => return self.lead(leader, journal, tenure).await,
                Ok(false) => match tenure.end().await {
                    Some(given) => lease = Some(given),
                    None => return StandEnd::Failed { reason: "the lease was dropped".to_owned() },
                },
                Err(reason) => {
                    leader.leave(Some(reason.clone())).await;
                    close(journal).await;
                    return StandEnd::Failed { reason };
                }
            }
        }
    }

    async fn follow(&self, leader: &mut Chair, journal: &mut MirroredJournal, lease: &mut Option<Lease>) -> Follow {
        let reader = match journal.tail().await {
            Ok(reader) => Some(reader),
            Err(Error::Stream(error @ StreamError::Unavailable { .. })) => {
                warn!(%error, "the journal cannot be followed");
                None
            }
            Err(error) => return Follow::Failed(error),
        };
        let mut tail = Following { journal, reader };
        let turn = async {
            match lease {
                Some(lease) => turn(lease).await,
                None => std::future::pending().await,
            }
        };
        leader.follow(&mut tail, &self.forward, turn).await
    }

    /// Folds in all there is and opens a term; false where the lease was lost meanwhile.
    async fn take_office(
        &self,
        leader: &mut Chair,
        journal: &mut MirroredJournal,
        tenure: &Tenure,
    ) -> Result<bool, String> {
        let holds = tenure.holds();
        loop {
            // Also where nobody confirms it any more: a follower hears that it is to stop, this loop does not.
            if tenure.lost.is_cancelled() || !holds() {
                return Ok(false);
            }
            let mut missed = Vec::new();
            match journal.refresh(|record| missed.push(record.clone())).await {
                Ok(_) => {}
                Err(Error::Stream(error @ StreamError::Unavailable { .. })) => {
                    warn!(%error, "the journal cannot be read to its end");
                    sleep(AGAIN).await;
                }
                Err(error) => return Err(chain(&error)),
            }
            for record in &missed {
                leader.overtake(record).map_err(|end| format!("{end:?}"))?;
            }
            match journal.begin_term(self.clock.now(), &self.options.name).await {
                Ok(opening) => {
                    let (seq, hash) = (opening.appended.seq, opening.appended.hash);
                    let record = Record { seq, hash, semantics: SEMANTICS, payload: opening.record };
                    leader.overtake(&record).map_err(|end| format!("{end:?}"))?;
                    info!(partition = %self.options.partition, term = opening.term.number, record = seq, "leads");
                    return Ok(true);
                }
                // The former leader was at it still: what it wrote counts, and comes first.
                Err(AppendError::Deposed { .. }) => {}
                Err(error) if error.is_transient() => {
                    warn!(%error, "the term cannot be opened");
                    sleep(AGAIN).await;
                }
                Err(error) => return Err(chain(&error)),
            }
        }
    }

    async fn lead(self, leader: Chair, journal: MirroredJournal, tenure: Tenure) -> StandEnd {
        let stop = CancellationToken::new();
        let holds = tenure.holds();
        let client = self.connection.client().clone();
        let (names, partition) = (self.options.names.clone(), Arc::clone(&self.options.partition));
        let orders = orders::take(client, names, partition, self.handle.clone(), holds.clone(), stop.clone());
        let orders = tokio::spawn(orders);
        let (queue, context, intake) = (self.queue.clone(), self.connection.jetstream(), self.handle.clone());
        let bus = self.bus(holds.clone(), &stop);
        let (until, answers) = (stop.clone(), holds);
        let workers = tokio::spawn(async move { queue.serve(context, intake, answers, until).await });
        let mut status = self.handle.status();
        let (lost, handle) = (tenure.lost.clone(), self.handle.clone());
        let watch = tokio::spawn(async move {
            lost.cancelled().await;
            handle.stop().await;
        });
        let journal = leader.lead(journal).await;
        let reason = match &*status.borrow_and_update() {
            crate::runtime::Status::Stopped { reason } => reason.clone(),
            _ => None,
        };
        watch.abort();
        stop.cancel();
        // A panic in either was printed; what they had answered is recorded.
        let _ = tokio::join!(orders, workers, bus);
        let deposed = journal.nats().is_deposed() || tenure.lost.is_cancelled();
        close(journal).await;
        if let Some(mut lease) = tenure.end().await
            && let Err(error) = lease.release().await
        {
            warn!(%error, "the lease was not given back; it lapses");
        }
        match reason {
            _ if deposed => StandEnd::Deposed,
            None => StandEnd::Stopped,
            Some(reason) => StandEnd::Failed { reason },
        }
    }
}

impl Standing {
    /// Takes events in and tells ours, until `stop` fires.
    fn bus(
        &self,
        holds: impl Fn() -> bool + Clone + Send + Sync + 'static,
        stop: &CancellationToken,
    ) -> JoinHandle<()> {
        let intake = Intake {
            names: self.options.names.clone(),
            partition: Arc::clone(&self.options.partition),
            replicas: self.options.replicas,
            options: self.options.bus.clone(),
            handle: self.handle.clone(),
            clock: self.clock.clone(),
        };
        let (told, context, stop) = (self.told.clone(), self.connection.jetstream(), stop.clone());
        tokio::spawn(async move {
            let taking = take_in(context.clone(), intake, holds.clone(), stop.clone());
            let telling = async {
                if let Some(told) = told {
                    told.tell(context, holds, stop).await;
                }
            };
            tokio::join!(taking, telling);
        })
    }
}

/// Returns when the lease is ours.
async fn turn(lease: &mut Lease) {
    loop {
        match lease.try_acquire().await {
            Ok(true) => return,
            Ok(false) => match lease.watch().await {
                Ok(mut watch) => watch.free().await,
                Err(error) => {
                    warn!(%error, "the lease cannot be watched");
                    sleep(AGAIN).await;
                }
            },
            Err(error) => {
                warn!(%error, "the lease cannot be looked at");
                sleep(AGAIN).await;
            }
        }
    }
}

async fn close(journal: MirroredJournal) {
    if let Err(error) = journal.close().await {
        warn!(%error, "the copy of the journal was not closed well; it is made whole from the stream");
    }
}

async fn fail(leader: Chair, journal: MirroredJournal, error: &(dyn std::error::Error + Sync)) -> StandEnd {
    let reason = chain(error);
    leader.leave(Some(reason.clone())).await;
    close(journal).await;
    StandEnd::Failed { reason }
}

/// An error with all that is behind it, in one line.
fn chain(error: &(dyn std::error::Error + Sync)) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
