//! The world's course: runs begin, things break and come back, until all runs are over.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use patchloom_core::record::{End, Event, SEMANTICS, Start};
use patchloom_core::{Definition, Millis, RunId, UtcMs};
use patchloom_engine::clock::Clock;
use patchloom_engine::journal::{Journal, RecordReader};
use patchloom_engine::queue::Limits;
use patchloom_engine::runtime::{Handle, Leader, NoKeeper, Shelf, Status, Tuning};
use patchloom_engine::sim::{Crash, Latency, LossyIntake, NetFaults, QueueFaults, SimDisk, SimJournal, SimQueue};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::books::{Booked, Books};
use super::core_people::{calendars, happening, wishes};
use super::core_world::{Dice, definition};
use super::people::{Crew, Line};
use super::triggers::triggers;

/// What a world came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Course {
    pub ends: BTreeMap<End, u32>,
    /// Runs without a parent.
    pub roots: u32,
    /// Those of them that an event or a schedule started.
    pub triggered: u32,
    pub restarts: u32,
    pub records: usize,
    /// Of all records.
    pub digest: [u8; 32],
}

/// The leader of the day and all that dies with it.
struct Day {
    leader: JoinHandle<Booked>,
    taker: JoinHandle<()>,
    handle: Handle,
    queue: SimQueue,
}

struct World {
    dice: Dice,
    disk: SimDisk,
    /// The archive.
    shelf: Shelf,
    books: Books,
    clock: Clock,
    crew: Crew,
    day: Day,
    restarts: u32,
    looks: u32,
    /// What people start.
    workflows: Vec<Arc<str>>,
    asked: Vec<RunId>,
}

fn tuning() -> Tuning {
    Tuning { sweep: Duration::from_secs(15), entries_max: 8, ..Tuning::default() }
}

/// Opens the journal, folds it and leads.
async fn dawn(dice: &mut Dice, (disk, shelf): (&SimDisk, &Shelf), books: &Books, clock: &Clock) -> (Day, Line) {
    let latency = Latency { seed: dice.next(), wait_max: Duration::from_millis(5) };
    let (journal, opened) = SimJournal::open(disk, SEMANTICS, Some(latency)).expect("the journal opens after a crash");
    let mut reader = journal.read_from(journal.first()).await.unwrap();
    let mut records = Vec::new();
    while let Some(record) = RecordReader::next(&mut reader).await.unwrap() {
        records.push(record.payload);
    }
    books.reopened(records);
    let state = books.fresh();
    assert!(state.rows().eq(books.lock().model.rows()), "a fresh fold gives the same state");
    books.lock().check_all();
    let limits = Limits { heartbeat: Millis(30_000), deliveries: 4 };
    let faults = QueueFaults { twice: dice.below(20), lost: dice.below(8) };
    let queue = SimQueue::new(clock.clone(), limits, faults, dice.next());
    let keeper = NoKeeper::with(Arc::clone(shelf));
    let (leader, handle) = Leader::new(state, opened.head, queue.clone(), keeper, clock.clone(), tuning());
    let leader = leader.not_before(books.last_at());
    let net = NetFaults {
        lost: dice.below(5),
        unanswered: dice.below(5),
        twice: dice.below(5),
        delay_max: Duration::from_millis(dice.below(200)),
        patience: Duration::from_secs(2),
    };
    let line = LossyIntake::new(handle.clone(), net, dice.next());
    let leader = tokio::spawn(leader.lead(Booked { journal, books: books.clone() }));
    (Day { leader, taker: tokio::spawn(async {}), handle, queue }, line)
}

/// Plays the world of `seed` to its end.
pub async fn play(seed: u64) -> Course {
    let mut dice = Dice(seed);
    let (disk, shelf, books) = (SimDisk::new(), Shelf::default(), Books::default());
    let clock = Clock::of_runtime(UtcMs(1_700_000_000_000));
    let (day, line) = dawn(&mut dice, (&disk, &shelf), &books, &clock).await;
    let luck = Arc::new(AtomicU64::new(*dice.pick(&[99, 90, 70, 40])));
    let crew = Crew { books: books.clone(), line: Arc::new(Mutex::new((0, line))), luck };
    let mut world = World {
        dice,
        disk,
        shelf,
        books,
        clock,
        crew,
        day,
        restarts: 0,
        looks: 0,
        workflows: Vec::new(),
        asked: Vec::new(),
    };
    world.staff();
    world.course().await
}

impl World {
    fn staff(&mut self) {
        let dice = Dice(self.dice.next());
        self.day.taker = tokio::spawn(self.crew.clone().take(self.day.queue.clone(), dice));
    }

    async fn course(mut self) -> Course {
        let texts = self.definitions();
        for (text, on) in &texts {
            self.register(&format!("{text}{on}")).await;
        }
        for event in calendars(self.clock.now()) {
            let _ = self.crew.say("user:sim", event).await;
        }
        let mut to_start = 40 + self.dice.below(21);
        let mut quiet = false;
        let mut faults = self.dice.below(8);
        for turn in 0_u32.. {
            assert!(turn < 3_000, "no end in sight: {:#?}", self.open_runs());
            let calm = to_start == 0 && faults == 0;
            if calm && !quiet {
                // Nothing starts by itself any more: else the world would have no end.
                quiet = true;
                for (text, _) in texts.iter().filter(|(_, on)| !on.is_empty()) {
                    self.register(text).await;
                }
            }
            if calm && turn > 80 {
                self.crew.luck.store(97, Ordering::Relaxed);
            }
            if to_start > 0 {
                let now = to_start.min(1 + self.dice.below(5));
                (0..now).for_each(|_| self.start());
                to_start -= now;
            }
            // Windows open once a day: the calm time passes quickly.
            let nap = if calm { self.dice.below(1_200_000) } else { self.dice.below(8_000) };
            tokio::time::sleep(Duration::from_millis(nap)).await;
            if faults > 0 && self.dice.percent(60) {
                faults -= 1;
                self.break_something().await;
            }
            if self.day.leader.is_finished() {
                self.restart(Crash::Process).await;
            }
            self.look().await;
            if !calm {
                self.happen();
            }
            let events = wishes(&self.books.lock().model, &mut self.dice, calm && turn > 40);
            for (by, event) in events {
                let crew = self.crew.clone();
                tokio::spawn(async move { crew.say(by, event).await });
            }
            if calm && turn > 40 && self.is_over() {
                // An order that was under way may have opened a run again.
                tokio::time::sleep(Duration::from_secs(60)).await;
                if self.is_over() {
                    break;
                }
            }
        }
        self.finish().await
    }

    /// Two families of workflows, and what starts runs of each by itself.
    fn definitions(&mut self) -> Vec<(String, String)> {
        let dice = &mut self.dice;
        let mut texts = Vec::new();
        for family in ["", "-b"] {
            let [leaf, inner, root] = ["leaf", "inner", "root"].map(|name| format!("{name}{family}"));
            texts.push((definition(dice, &leaf, &[]), triggers(dice)));
            texts.push((definition(dice, &inner, &[&leaf]), triggers(dice)));
            texts.push((definition(dice, &root, &[&leaf, &inner]), triggers(dice)));
            self.workflows.extend([root.as_str(), root.as_str(), inner.as_str(), leaf.as_str()].map(Arc::from));
        }
        texts
    }

    async fn register(&self, text: &str) {
        let definition = Definition::parse("generated", text).unwrap_or_else(|wrong| panic!("{wrong}\n{text}"));
        let _ = self.crew.say("user:sim", Event::DefinitionRegistered { text: definition.canonical }).await;
    }

    fn start(&mut self) {
        let run = RunId(Uuid::from_u128((u128::from(self.dice.next()) << 64) | u128::from(self.dice.next())));
        let name = Arc::clone(self.dice.pick(&self.workflows));
        let pins = self.books.lock().model.pins(&name).expect("its definitions are registered");
        let start = Start {
            run,
            version: pins[&name].clone(),
            workflow: name,
            pins: Arc::new(pins),
            inputs: json!({}),
            parent: None,
            key: Some(format!("key-{run}").into()),
            labels: BTreeMap::new(),
            seed: self.dice.next(),
        };
        self.asked.push(run);
        let crew = self.crew.clone();
        tokio::spawn(async move { crew.say("user:sim", Event::RunStarted(Arc::new(start))).await });
    }

    /// Something happens outside. Now and then it is told twice, by two who do not know of each other.
    fn happen(&mut self) {
        if !self.dice.percent(60) {
            return;
        }
        let event = happening(&mut self.dice, &["world.a", "world.b", "host.up"], 100);
        for _ in 0..1 + self.dice.below(2) {
            let (crew, event) = (self.crew.clone(), event.clone());
            let later = Duration::from_millis(self.dice.below(20_000));
            tokio::spawn(async move {
                tokio::time::sleep(later).await;
                crew.say("user:scanner", event).await
            });
        }
    }

    async fn break_something(&mut self) {
        match self.dice.below(10) {
            0..4 => {
                let crash = self.crash();
                self.restart(crash).await;
            }
            4..6 => {
                // The power goes in the middle of what the journal writes.
                self.disk.freeze_after(self.dice.below(6));
                tokio::time::sleep(Duration::from_millis(self.dice.below(3_000))).await;
                let crash = self.crash();
                self.restart(crash).await;
            }
            6..8 => {
                self.disk.set_capacity(Some(self.disk.used() + self.dice.below(3_000)));
                tokio::time::sleep(Duration::from_millis(self.dice.below(20_000))).await;
                if self.dice.percent(30) {
                    let crash = self.crash();
                    self.restart(crash).await;
                }
                self.disk.set_capacity(None);
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            _ => {
                self.disk.fail_syncs(1);
                tokio::time::sleep(Duration::from_millis(self.dice.below(10_000))).await;
                let crash = self.crash();
                self.restart(crash).await;
            }
        }
    }

    fn crash(&mut self) -> Crash {
        match self.dice.below(3) {
            0 => Crash::Process,
            1 => Crash::LoseUnsynced,
            _ => Crash::Power { seed: self.dice.next() },
        }
    }

    /// The machine dies and comes back.
    async fn restart(&mut self, crash: Crash) {
        self.restarts += 1;
        self.day.taker.abort();
        self.day.leader.abort();
        let leader = &mut self.day.leader;
        if let Err(error) = leader.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
        self.disk.crash(crash);
        // While the disk is full, the machine stays down: opening may need room.
        self.disk.set_capacity(None);
        // Now and then so long that instants of schedules are missed.
        let down = if self.dice.percent(10) { 300_000 } else { 5_000 };
        tokio::time::sleep(Duration::from_millis(self.dice.below(down))).await;
        // The machine's clock may come back behind what it showed before.
        let back = if self.dice.percent(30) { self.dice.below(60_000) } else { 0 };
        self.clock = Clock::of_runtime(UtcMs(self.clock.now().0 - back));
        let (day, line) = dawn(&mut self.dice, (&self.disk, &self.shelf), &self.books, &self.clock).await;
        self.day = day;
        *self.crew.line.lock().unwrap() = (self.restarts, line);
        self.staff();
    }

    /// Compares the leader with the books.
    async fn look(&mut self) {
        self.books.check();
        self.looks += 1;
        // All rows now and then: to write them down takes long. The runs, which change most, each time.
        let whole = self.looks.is_multiple_of(8);
        let (books, queue) = (self.books.clone(), self.day.queue.clone());
        let compare = move |state: &patchloom_core::Partition| {
            let books = books.lock();
            let same = state.runs().eq(books.model.runs()) && (!whole || state.rows().eq(books.model.rows()));
            assert!(same, "the leader's state is not what the journal folds to");
            let published: std::collections::BTreeSet<_> = queue.keys().into_iter().collect();
            let (dispatch, cancel) = books.owed();
            let lost: Vec<_> = dispatch.difference(&published).collect();
            assert!(lost.is_empty(), "owed and not in the queue: {lost:?}");
            let owed = dispatch.union(&cancel).cloned().collect();
            // What a worker had when its run was set aside stays with it until it answers.
            let aside = |run: RunId| {
                let phase = state.run(run).map(|run| run.phase.name());
                phase == Some("quarantined")
            };
            let stale: Vec<_> = published.difference(&owed).filter(|task| !aside(task.run)).collect();
            assert!(stale.is_empty(), "in the queue and not owed: {stale:?}");
        };
        if self.day.handle.read(compare).await.is_err() {
            assert!(
                matches!(&*self.day.handle.status().borrow(), Status::Stopped { .. }) || self.day.leader.is_finished()
            );
            self.restart(Crash::LoseUnsynced).await;
        }
    }

    fn open_runs(&self) -> Vec<Arc<patchloom_core::run::Run>> {
        self.books.lock().model.runs().filter(|run| run.end().is_none()).cloned().collect()
    }

    fn is_over(&self) -> bool {
        let books = self.books.lock();
        let begun = self.asked.iter().all(|run| books.watch.over.contains(run));
        begun && books.model.runs().all(|run| run.end().is_some())
    }

    async fn finish(mut self) -> Course {
        // A quiet moment: what was still under way comes to rest.
        tokio::time::sleep(Duration::from_secs(120)).await;
        self.look().await;
        self.restart(Crash::LoseUnsynced).await;
        tokio::time::sleep(Duration::from_secs(120)).await;
        self.look().await;
        let left = self.day.queue.keys();
        assert!(left.is_empty(), "all runs are over and the queue holds {left:?}");
        self.day.handle.stop().await;
        if let Err(error) = self.day.leader.await {
            std::panic::resume_unwind(error.into_panic());
        }
        self.day.taker.abort();
        self.books.check();
        let (books, shelf) = (self.books.lock(), self.shelf.lock().unwrap());
        let mut ends = BTreeMap::new();
        for run in &books.watch.over {
            let found = books.model.run(*run).cloned().or_else(|| shelf.get(run).cloned());
            let found = found.unwrap_or_else(|| panic!("{run} is neither in the state nor in the archive"));
            let end = found.end().unwrap_or_else(|| panic!("{run} ended, and is open"));
            *ends.entry(end).or_default() += 1;
        }
        let mut hasher = Sha256::new();
        books.records.iter().for_each(|record| hasher.update(record));
        Course {
            ends,
            roots: u32::try_from(books.roots.len()).unwrap(),
            triggered: u32::try_from(books.roots.values().filter(|triggered| **triggered).count()).unwrap(),
            restarts: self.restarts,
            records: books.records.len(),
            digest: hasher.finalize().into(),
        }
    }
}
