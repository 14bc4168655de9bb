//! Events, schedules and calendars through the whole leader, on a virtual clock and on a real data directory.

use std::sync::Arc;
use std::time::Duration;

use patchloom_core::record::{Batch, SEMANTICS};
use patchloom_core::{CloudEvent, Definition, Millis, Partition, UtcMs};
use patchloom_engine::clock::Clock;
use patchloom_engine::events::Recorded;
use patchloom_engine::journal::{Journal, RecordReader};
use patchloom_engine::queue::Limits;
use patchloom_engine::runtime::{EngineOptions, HORIZON, Handle, Leader, NoKeeper, Published, Tuning, open};
use patchloom_engine::sim::{QueueFaults, SimDisk, SimJournal, SimQueue};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

const START: UtcMs = UtcMs(1_700_000_000_000);

struct Site {
    disk: SimDisk,
    clock: Clock,
    heard: Recorded,
}

/// A leader that is at work.
struct Day {
    handle: Handle,
    leader: JoinHandle<SimJournal>,
}

impl Day {
    async fn close(self) {
        self.handle.stop().await;
        self.leader.await.unwrap();
    }

    async fn rows(&self) -> Vec<(String, Vec<u8>)> {
        self.handle.read(|state| state.rows().collect()).await.unwrap()
    }
}

impl Site {
    fn new() -> Self {
        Self { disk: SimDisk::new(), clock: Clock::of_runtime(START), heard: Recorded::default() }
    }

    /// Folds the journal and leads.
    async fn lead(&self) -> Day {
        let (journal, opened) = SimJournal::open(&self.disk, SEMANTICS, None).unwrap();
        let mut reader = journal.read_from(journal.first()).await.unwrap();
        let mut state = Partition::default();
        while let Some(record) = RecordReader::next(&mut reader).await.unwrap() {
            let batch: Batch = serde_json::from_slice(&record.payload).unwrap();
            for entry in &batch.entries {
                let _ = state.apply(record.seq, batch.at, entry);
            }
        }
        let limits = Limits { heartbeat: Millis(30_000), deliveries: 4 };
        let queue = SimQueue::new(self.clock.clone(), limits, QueueFaults { twice: 0, lost: 0 }, 1);
        let tuning = Tuning { sweep: Duration::from_secs(600), ..Tuning::default() };
        let (leader, handle) = Leader::new(state, opened.head, queue, NoKeeper::default(), self.clock.clone(), tuning);
        let leader = leader.with_events(self.heard.clone(), "/sim".to_owned());
        Day { handle, leader: tokio::spawn(leader.lead(journal)) }
    }

    fn told(&self, kind: &str) -> usize {
        self.heard.all().iter().filter(|event| event.kind == kind).count()
    }

    fn succeeded(&self) -> usize {
        self.told("patchloom.run.succeeded")
    }
}

async fn register(handle: &Handle, text: &str) {
    let definition = Definition::parse("test", text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    handle.register("test", &definition).await.unwrap();
}

fn event(kind: &str, id: &str) -> CloudEvent {
    CloudEvent {
        specversion: "1.0".to_owned(),
        id: id.to_owned(),
        source: "/test".to_owned(),
        kind: kind.to_owned(),
        ..CloudEvent::default()
    }
}

fn every_minute(catch_up: &str) -> String {
    format!("name: tick\non: [{{ schedule: {{ every: 1m, catch_up: {catch_up} }} }}]\nsteps:\n  s: {{ set: 1 }}\n")
}

#[tokio::test(start_paused = true)]
async fn a_schedule_starts_a_run_at_each_instant_and_goes_on_after_a_restart() {
    let site = Site::new();
    let day = site.lead().await;
    register(&day.handle, &every_minute("last")).await;
    tokio::time::sleep(Duration::from_secs(330)).await;
    assert_eq!(site.succeeded(), 5);
    day.close().await;
    let day = site.lead().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(site.succeeded(), 6);
    register(&day.handle, "name: tick\nsteps:\n  s: { set: 1 }\n").await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(site.succeeded(), 6, "the new version has no schedule");
    day.close().await;
}

#[tokio::test(start_paused = true)]
async fn instants_that_passed_while_nobody_led_are_made_up_for_as_the_workflow_says() {
    for (catch_up, runs, missed) in [("none", 0, 1), ("last", 1, 1), ("all", 9, 0)] {
        let site = Site::new();
        let day = site.lead().await;
        register(&day.handle, &every_minute(catch_up).replace("every: 1m", "every: 10m, overlap: allow")).await;
        // START is 13 minutes and 20 seconds past the hour.
        tokio::time::sleep(Duration::from_secs(60)).await;
        day.close().await;
        tokio::time::sleep(Duration::from_secs(90 * 60)).await;
        let day = site.lead().await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!((site.succeeded(), site.told("patchloom.schedule.missed")), (runs, missed), "{catch_up}");
        day.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_in_the_middle_of_a_burst_still_starts_its_run() {
    let site = Site::new();
    let day = site.lead().await;
    let text = "name: b\ninputs: { id: { type: string } }\non: [{ event: { type: t, debounce: 1m, inputs: { id: \"${{ event.id }}\" } } }]\nsteps:\n  s: { emit: { type: done, data: \"${{ inputs.id }}\" } }\n";
    register(&day.handle, text).await;
    for id in ["1", "2"] {
        assert_eq!(day.handle.publish("test", event("t", id)).await, Ok(Published::Recorded));
    }
    let rows = day.rows().await;
    day.close().await;
    let day = site.lead().await;
    assert_eq!(day.rows().await, rows, "the state is what the journal folds to");
    assert_eq!(day.handle.publish("test", event("t", "2")).await, Ok(Published::Known));
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert_eq!(site.succeeded(), 0);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(site.succeeded(), 1);
    let done: Vec<Value> =
        site.heard.all().into_iter().filter(|event| event.kind == "done").map(|event| event.data).collect();
    assert_eq!(done, [json!("2")], "with the last event");
    day.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_queued_instant_survives_a_restart() {
    let site = Site::new();
    let day = site.lead().await;
    let text = "name: q\non: [{ schedule: { every: 1m, overlap: queue } }]\nsteps:\n  s: { wait: { event: go } }\n";
    register(&day.handle, text).await;
    tokio::time::sleep(Duration::from_secs(150)).await;
    day.close().await;
    let day = site.lead().await;
    assert_eq!(site.told("patchloom.run.running"), 1);
    assert_eq!(day.handle.publish("test", event("go", "1")).await, Ok(Published::Recorded));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((site.succeeded(), site.told("patchloom.run.running")), (1, 2));
    day.close().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_step_emits_starts_runs_and_completes_waits_here_too() {
    let site = Site::new();
    let day = site.lead().await;
    register(&day.handle, "name: a\non: [{ event: { type: go } }]\nsteps:\n  e: { emit: { type: chain, data: 7 } }\n")
        .await;
    register(&day.handle, "name: b\non: [{ event: { type: chain } }]\nsteps:\n  s: { set: 1 }\n").await;
    assert_eq!(day.handle.publish("test", event("other", "1")).await, Ok(Published::Unwanted));
    assert_eq!(day.handle.publish("test", event("go", "1")).await, Ok(Published::Recorded));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((site.succeeded(), site.told("chain")), (2, 1));
    day.close().await;
}

#[tokio::test(start_paused = true)]
async fn calendars_are_worked_out_and_extended_before_they_run_out() {
    let site = Site::new();
    let day = site.lead().await;
    let own = "{ night: { cron: \"0 22 * * *\", timezone: Europe/Berlin, duration: 4h } }";
    register(&day.handle, &format!("name: c\ncalendars: {own}\nsteps:\n  w: {{ uses: t.w, window: night }}\n")).await;
    let global = "all: { cron: \"0 1 * * *\", timezone: UTC, duration: 1h }";
    assert_eq!(day.handle.set_calendars("test", "windows.yaml", global).await, Ok(vec!["all".to_owned()]));
    assert!(day.handle.set_calendars("test", "windows.yaml", "x: { cron: \"never\" }").await.is_err());
    let known = async |day: &Day| -> Vec<(String, usize, UtcMs)> {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let query = |state: &Partition| {
            let all = state.shared().calendars().iter();
            all.map(|(name, calendar)| (name.to_string(), calendar.spans.len(), calendar.until)).collect()
        };
        day.handle.read(query).await.unwrap()
    };
    let first = known(&day).await;
    assert_eq!(first.len(), 2, "{first:?}");
    assert!(first.iter().any(|(name, ..)| name.starts_with("sha256:") && name.ends_with("/night")), "{first:?}");
    assert!(first.iter().all(|(_, spans, until)| (399..=401).contains(spans) && until.0 >= START.0 + HORIZON.0));
    let day = {
        day.close().await;
        tokio::time::sleep(Duration::from_secs(150 * 86_400)).await;
        site.lead().await
    };
    assert_eq!(known(&day).await, first, "more than half is left");
    tokio::time::sleep(Duration::from_secs(51 * 86_400)).await;
    let later = known(&day).await;
    assert!(later.iter().zip(&first).all(|(later, first)| later.2 > first.2), "{later:?}");
    day.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_events_is_recorded_and_each_starts_its_run_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let engine = open(dir.path(), &EngineOptions::default()).await.unwrap();
    register(&engine.handle, "name: s\non: [{ event: { type: t } }]\nsteps:\n  s: { wait: { signal: never } }\n").await;
    let begun = std::time::Instant::now();
    let mut senders = Vec::new();
    for sender in 0..100 {
        let handle = engine.handle.clone();
        senders.push(tokio::spawn(async move {
            for nth in 0..100 {
                let told = handle.publish("test", event("t", &format!("{sender}-{nth}"))).await;
                assert_eq!(told, Ok(Published::Recorded));
            }
        }));
    }
    for sender in senders {
        sender.await.unwrap();
    }
    let recorded = begun.elapsed();
    let started = async |handle: &Handle| handle.read(|state| state.runs().count()).await.unwrap();
    let all = async {
        while started(&engine.handle).await < 10_000 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("each starts its run");
    println!("10,000 events recorded in {recorded:?}, their runs started after {:?}", begun.elapsed());
    let before: Vec<(String, Vec<u8>)> = engine.handle.read(|state| state.rows().collect()).await.unwrap();
    engine.close().await;
    let engine = open(dir.path(), &EngineOptions::default()).await.unwrap();
    let after: Vec<(String, Vec<u8>)> = engine.handle.read(|state| state.rows().collect()).await.unwrap();
    assert!(before == after, "the store gives the state back, row for row");
    assert_eq!(engine.handle.publish("test", event("t", "7-7")).await, Ok(Published::Known));
    engine.close().await;
}

#[test]
fn examples_of_the_specification_are_taken_or_refused_with_a_reason() {
    let data = std::env::var("PATCHLOOM_DATA").unwrap_or_else(|_| "../shared/data".into());
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(data).join("cloudevents");
    let mut seen = 0;
    for entry in std::fs::read_dir(&here).unwrap_or_else(|error| panic!("{}: {error}", here.display())) {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.starts_with("ce-") {
            continue;
        }
        seen += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        let place = match name.as_str() {
            // The payload of these is an ellipsis where base64 should stand.
            "ce-json-format-1.json" => Some("data_base64"),
            // Batches, one of them empty.
            "ce-json-format-12.json" | "ce-json-format-13.json" => Some("the event"),
            // Headers of the binary mode, or JSON with parts left out.
            name if name.ends_with(".txt") => Some("line 1"),
            _ => None,
        };
        match (place, CloudEvent::read(&text)) {
            (None, Ok(event)) => assert_eq!(Arc::from(event.specversion), Arc::<str>::from("1.0"), "{name}"),
            (Some(place), Err(mistakes)) => assert!(mistakes[0].place.starts_with(place), "{name}: {mistakes:?}"),
            (_, read) => panic!("{name}: {read:?}"),
        }
    }
    assert_eq!(seen, 18, "the files of the data set");
}
