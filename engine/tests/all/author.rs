//! Plays: time is exact, workers die and hear, and the same scene gives the same records.

use std::sync::Arc;

use patchloom_core::record::{Entry, Event, Start};
use patchloom_core::run::Run;
use patchloom_core::{Definition, Millis, Outcome, Partition, RunId, UtcMs};
use patchloom_engine::queue::Lease;
use patchloom_engine::sim::{Played, Reply, Rest, Scene, Script, play};
use serde_json::{Value, json};

const BEGUN: UtcMs = UtcMs(1_700_000_000_000);

/// Answers all alike; cancels at an instant, if it does.
struct Alike {
    reply: Reply,
    deaths: u32,
    cancel: Option<UtcMs>,
    taken: Vec<(String, u32)>,
}

impl Alike {
    fn new(after: Millis) -> Self {
        let outcome = Outcome::Succeeded { output: json!(1) };
        let reply = Reply { after, outcome, dies: false, deaf: false };
        Self { reply, deaths: 0, cancel: None, taken: Vec::new() }
    }
}

impl Script for Alike {
    fn answer(&mut self, lease: &Lease, state: &Partition) -> Reply {
        assert!(state.run(lease.task.key.run).is_some(), "a task is of a run that is there");
        self.taken.push((lease.task.key.step.to_string(), lease.redelivered));
        Reply { dies: lease.redelivered < self.deaths, ..self.reply.clone() }
    }

    fn orders(&mut self, state: &Partition, now: UtcMs) -> Vec<Entry> {
        let due = self.cancel.take_if(|at| *at <= now).is_some();
        let run = state.runs().next().filter(|_| due).map(|run| run.id());
        let cancel = |run| Event::CancelRequested { run, compensate: true, reason: "enough".into() };
        run.map(|run| Entry { by: "user:test".into(), event: cancel(run) }).into_iter().collect()
    }

    fn next(&self) -> Option<UtcMs> {
        self.cancel
    }
}

fn stage(text: &str, shuffle: Option<u64>) -> Scene {
    let definition = Definition::parse("test", text).unwrap();
    let mut state = Partition::default();
    let event = Event::DefinitionRegistered { text: Arc::clone(&definition.canonical) };
    state.apply(0, UtcMs(0), &Entry { by: "test".into(), event }).unwrap();
    let start = Start {
        run: RunId(uuid::Uuid::from_u128(7)),
        workflow: Arc::clone(&definition.name),
        version: definition.digest,
        pins: Arc::default(),
        inputs: Value::Null,
        parent: None,
        key: None,
        labels: Default::default(),
        seed: 7,
    };
    Scene { state, start: Arc::new(start), at: BEGUN, shuffle }
}

/// Plays; gives the run at the end and how long it took.
fn end(text: &str, script: &mut Alike) -> (Arc<Run>, Millis, Played) {
    let scene = stage(text, None);
    let mut state = scene.state.clone();
    let played = play(scene, script).unwrap();
    for (seq, batch) in &played.records {
        for entry in &batch.entries {
            let _ = state.apply(*seq, batch.at, entry);
        }
    }
    let run = Arc::clone(state.runs().next().unwrap());
    let took = run.ended.unwrap_or(BEGUN).since(BEGUN);
    (run, took, played)
}

const ONE: &str =
    "name: one\nsteps:\n  a: { uses: t.a, timeout: { attempt: 1m, heartbeat: 10s }, compensate: { uses: t.b } }\n";

#[test]
fn time_is_exact_and_costs_none() {
    let text = "name: w\nsteps:\n  a: { wait: { for: 400d } }\n  b: { needs: a, uses: t.b }\n";
    let (run, took, played) = end(text, &mut Alike::new(Millis(1_234)));
    assert_eq!((run.phase.name(), took, played.rest), ("succeeded", Millis(400 * 86_400_000 + 1_234), Rest::Still));
}

#[test]
fn an_attempt_is_stopped_at_its_very_limit_and_a_worker_that_lives_is_never_called_silent() {
    let (run, took, _) = end(ONE, &mut Alike::new(Millis(59_999)));
    assert_eq!((run.phase.name(), took), ("succeeded", Millis(59_999)));
    let mut script = Alike::new(Millis(3_600_000));
    let (run, took, _) = end(ONE, &mut script);
    assert_eq!(run.cause.as_ref().unwrap().failure.code, "E0320");
    assert!(took > Millis(60_000), "the way back takes its attempts too: {took}");
}

#[test]
fn a_task_whose_worker_dies_goes_out_again_under_its_key() {
    let mut script = Alike { deaths: 1, ..Alike::new(Millis(1_000)) };
    let (run, took, _) = end(ONE, &mut script);
    assert_eq!((run.phase.name(), took), ("succeeded", Millis(11_000)));
    assert_eq!(script.taken, [("a".to_owned(), 0), ("a".to_owned(), 1)]);
}

#[test]
fn who_is_asked_to_stop_stops_and_who_is_deaf_goes_on() {
    let cancel = Some(BEGUN + Millis(5_000));
    let (run, took, _) = end(ONE, &mut Alike { cancel, ..Alike::new(Millis(20_000)) });
    assert_eq!((run.phase.name(), run.steps[0].status.name(), took), ("compensated", "halted", Millis(25_000)));
    let mut deaf = Alike { cancel, ..Alike::new(Millis(20_000)) };
    deaf.reply.deaf = true;
    let (run, took, _) = end(ONE, &mut deaf);
    assert_eq!((run.phase.name(), run.steps[0].status.name(), took), ("compensated", "done", Millis(40_000)));
}

#[test]
fn a_run_that_nobody_moves_comes_to_rest_and_one_without_end_is_given_up() {
    let (run, _, played) = end("name: w\nsteps:\n  a: { wait: { signal: go } }\n", &mut Alike::new(Millis(0)));
    assert_eq!((run.phase.name(), played.rest), ("running", Rest::Still));
    let long = "name: w\nsteps:\n  a: { wait: { for: 9000d } }\n";
    assert_eq!(end(long, &mut Alike::new(Millis(0))).2.rest, Rest::Endless);
}

#[test]
fn the_same_scene_gives_the_same_records() {
    let text = "name: w\nsteps:\n  a: { for_each: { items: [1, 2, 3, 4, 5, 6], max_parallel: 4 }, uses: t.a }\n  b: { uses: t.b }\n  c: { uses: t.c }\n";
    let records = |shuffle| play(stage(text, shuffle), &mut Alike::new(Millis(10))).unwrap().records;
    for shuffle in [None, Some(1), Some(2)] {
        assert_eq!(records(shuffle), records(shuffle));
    }
    assert!((1..20).any(|seed| records(Some(seed)) != records(None)), "a seed changes the order of hand-outs");
}
