//! Steps that wait for events.

use std::collections::BTreeMap;
use std::sync::Arc;

use patchloom_core::record::{Event, Start, TimerKind};
use patchloom_core::run::{Phase, Status};
use patchloom_core::{RunId, UtcMs};
use serde_json::{Value, json};

use super::{Stage, event, failure, stale};

fn waiting(wait: &str) -> String {
    format!(
        "name: w\ninputs: {{ host: {{ type: string, default: a }} }}\nsteps:\n  w: {{ wait: {{ {wait} }} }}\noutput: {{ got: \"${{{{ steps.w.output }}}}\" }}\n"
    )
}

impl Stage {
    fn waiting(wait: &str) -> Self {
        Self::new(&[&waiting(wait)])
    }

    fn begin_run(&mut self, name: &str, host: &str) -> RunId {
        let pins = self.partition.pins("w").unwrap();
        let start = Start {
            run: RunId::derived(name),
            workflow: "w".into(),
            version: pins["w"].clone(),
            pins: Arc::new(pins),
            inputs: json!({ "host": host }),
            parent: None,
            key: None,
            labels: BTreeMap::new(),
            seed: 0,
        };
        self.say(Event::RunStarted(Arc::new(start))).unwrap();
        RunId::derived(name)
    }

    fn is_waiting(&self, run: RunId) -> bool {
        matches!(self.run(run).steps[0].status, Status::Waiting { .. })
    }

    fn got(&self, run: RunId) -> Value {
        assert_eq!(self.run(run).phase.name(), "succeeded");
        self.run(run).output["got"]["id"].clone()
    }
}

fn up(id: &str, host: &str) -> patchloom_core::CloudEvent {
    event("host.up", id, host, json!({"host": {"id": host}, "load": 1}))
}

#[test]
fn an_event_completes_the_step_that_waits_for_it_and_is_its_output() {
    let mut stage = Stage::waiting("event: host.up");
    let run = stage.begin_run("1", "a");
    stage.receive(event("host.down", "0", "a", Value::Null)).unwrap();
    assert!(stage.is_waiting(run));
    stage.receive(up("1", "a")).unwrap();
    assert_eq!(stage.got(run), json!("1"));
    let other = stage.begin_run("2", "a");
    stale(stage.receive(up("1", "a")));
    assert!(stage.is_waiting(other), "an event that is told again is none");
}

#[test]
fn the_key_decides_who_is_meant() {
    for by in ["", ", by: data.host.id"] {
        let mut stage = Stage::waiting(&format!("event: host.up, key: \"${{{{ inputs.host }}}}\"{by}"));
        let runs = [("1", "a"), ("2", "b"), ("3", "b")].map(|(name, host)| (host, stage.begin_run(name, host)));
        let late = stage.begin_run("late", "b");
        stage.restart();
        stage.receive(up("1", "b")).unwrap();
        for (host, run) in runs.into_iter().chain([("b", late)]) {
            assert_eq!(stage.is_waiting(run), host == "a", "{host}");
        }
    }
}

#[test]
fn the_condition_decides_too_and_what_it_cannot_read_is_no_match() {
    let mut stage = Stage::waiting("event: host.up, if: event.data.load > 5 && event.subject == inputs.host");
    let run = stage.begin_run("1", "a");
    for (id, host, data) in [("1", "a", json!({})), ("2", "a", json!({"load": 5})), ("3", "b", json!({"load": 6}))] {
        stage.receive(event("host.up", id, host, data)).unwrap();
        assert!(stage.is_waiting(run), "{id}");
    }
    stage.receive(event("host.up", "4", "a", json!({"load": 6}))).unwrap();
    assert_eq!(stage.got(run), json!("4"));
}

#[test]
fn a_wait_that_looks_back_takes_the_oldest_event_that_still_counts() {
    let mut stage = Stage::waiting("event: host.up, key: \"${{ inputs.host }}\", since: 5m");
    for (id, host) in [("1", "a"), ("2", "b"), ("3", "a"), ("4", "a")] {
        stage.receive(up(id, host)).unwrap();
        stage.now += 60_000;
    }
    stage.now += 120_000;
    stage.restart();
    let run = stage.begin_run("1", "a");
    assert_eq!(stage.got(run), json!("3"), "the first is six minutes old");
    stage.now += 60_001;
    assert_eq!(stage.begin_run("2", "a"), RunId::derived("2"));
    assert_eq!(stage.got(RunId::derived("2")), json!("4"), "an event may complete a step of each run");
    stage.now += 120_000;
    let late = stage.begin_run("3", "a");
    assert!(stage.is_waiting(late));
    stage.receive(up("5", "a")).unwrap();
    assert_eq!(stage.got(late), json!("5"));
}

#[test]
fn without_looking_back_what_came_before_does_not_count() {
    let mut stage = Stage::waiting("event: host.up");
    stage.receive(up("1", "a")).unwrap();
    let run = stage.begin_run("1", "a");
    assert!(stage.is_waiting(run));
}

#[test]
fn one_event_completes_a_step_once_though_the_run_comes_back_to_it() {
    let text = r#"
name: w
inputs: { host: { type: string, default: a } }
steps:
  u: { uses: t.u, compensate: { uses: t.undo } }
  w: { needs: u, wait: { event: host.up, since: 10m } }
  x: { needs: w, fail: "no" }
"#;
    let mut stage = Stage::new(&[text]);
    stage.receive(up("1", "a")).unwrap();
    let run = stage.begin_run("1", "a");
    stage.work();
    assert_eq!(stage.run(run).phase.name(), "compensated", "the event of before took it to the step that fails");
    stage.restart();
    stage.say(Event::RetryRequested { run }).unwrap();
    stage.work();
    assert!(matches!(stage.run(run).steps[1].status, Status::Waiting { .. }), "that event is used up for this step");
    stage.receive(up("2", "a")).unwrap();
    stage.work();
    assert_eq!(stage.run(run).phase.name(), "compensated");
}

#[test]
fn two_steps_of_a_run_are_completed_by_one_event() {
    let text = "name: w\ninputs: { host: { type: string, default: a } }\nsteps:\n  a: { wait: { event: host.up } }\n  b: { wait: { event: host.up } }\n";
    let mut stage = Stage::new(&[text]);
    let run = stage.begin_run("1", "a");
    stage.receive(up("1", "a")).unwrap();
    assert_eq!(stage.run(run).phase.name(), "succeeded");
}

#[test]
fn what_the_same_record_takes_back_never_started_and_is_not_undone() {
    // The simulation found both: an event that came before the wait, and one that two steps waited for.
    let before = r#"
name: w
inputs: { host: { type: string, default: a } }
steps:
  u: { uses: t.u, compensate: { uses: t.undo } }
  w: { wait: { event: host.up, since: 10m } }
  x: { needs: w, fail: "no" }
"#;
    let mut stage = Stage::new(&[before]);
    stage.receive(up("1", "a")).unwrap();
    let run = stage.begin_run("1", "a");
    assert_eq!(stage.run(run).phase.name(), "failed", "no worker ever had `u`");
    assert!(stage.partition.pending().is_empty());

    let together = r#"
name: w
inputs: { host: { type: string, default: a } }
steps:
  a: { wait: { event: host.up } }
  b: { needs: a, uses: t.u, compensate: { uses: t.undo } }
  c: { wait: { event: host.up } }
  d: { needs: c, fail: "no" }
"#;
    let mut stage = Stage::new(&[together]);
    let run = stage.begin_run("1", "a");
    stage.receive(up("1", "a")).unwrap();
    assert_eq!(stage.run(run).phase.name(), "failed");
    assert!(stage.partition.pending().is_empty());
}

#[test]
fn what_was_out_before_a_run_was_set_aside_is_called_back_and_undone() {
    let text = r#"
name: w
inputs: { host: { type: string, default: a } }
steps:
  u: { uses: t.u, compensate: { uses: t.undo } }
  w: { wait: { event: host.up, since: 10m } }
  x: { needs: w, fail: "no" }
"#;
    let mut stage = Stage::new(&[text]);
    let run = stage.begin_run("1", "a");
    stage.say(Event::QuarantineRequested { run, reason: "a look at it".into() }).unwrap();
    stage.receive(up("1", "a")).unwrap();
    stage.say(Event::ReleaseRequested { run }).unwrap();
    assert_eq!(stage.run(run).phase.name(), "halting", "a worker may have `u`");
    stage.work();
    assert_eq!(stage.run(run).phase.name(), "compensated");
}

#[test]
fn a_wait_whose_time_is_over_fails_or_goes_on() {
    for (on_timeout, phase) in [("fail", "failed"), ("continue", "succeeded")] {
        let mut stage = Stage::waiting(&format!("event: host.up, timeout: 1m, on_timeout: {on_timeout}"));
        let run = stage.begin_run("1", "a");
        let timer = || TimerKind::Wait { step: "w".into() };
        stale(stage.fire(run, timer()));
        stage.now += 60_000;
        stage.fire(run, timer()).unwrap();
        assert_eq!(stage.run(run).phase.name(), phase);
        if phase == "failed" {
            let (code, message) = failure(stage.run(run));
            assert_eq!((code, message), ("E0311", "no event `host.up` that fits came within 1m"));
        }
        assert!(!stage.partition.wants(&up("1", "a"), UtcMs(stage.now)), "nobody waits any more");
        stale(stage.fire(run, timer()));
    }
}

#[test]
fn what_came_before_leaves_no_timer_behind() {
    let mut stage = Stage::waiting("event: host.up, since: 5m, timeout: 1h");
    stage.receive(up("1", "a")).unwrap();
    let run = stage.begin_run("1", "a");
    assert_eq!(stage.got(run), json!("1"));
    assert!(stage.partition.pending().is_empty());
}

#[test]
fn a_run_that_does_not_go_on_waits_for_nothing() {
    let mut stage = Stage::waiting("event: host.up");
    let run = stage.begin_run("1", "a");
    assert!(stage.partition.wants(&up("1", "a"), UtcMs(stage.now)));
    stage.cancel(run);
    assert!(!stage.partition.wants(&up("1", "a"), UtcMs(stage.now)));
    assert_eq!(stage.run(run).phase, Phase::Ended(stage.run(run).end().unwrap()));
}

#[test]
fn a_key_without_a_value_fails_the_step() {
    let mut stage = Stage::waiting("event: host.up, key: \"${{ run.labels.?host.orValue(null) }}\"");
    let run = stage.begin_run("1", "a");
    assert_eq!(failure(stage.run(run)).0, "E0206");
}

#[test]
fn ten_thousand_runs_wait_for_one_type_and_each_event_finds_its_own() {
    let mut stage = Stage::waiting("event: host.up, key: \"${{ inputs.host }}\"");
    // Straight into the partition: the stage compares all of it with each record.
    let pins = Arc::new(stage.partition.pins("w").unwrap());
    let apply = |stage: &mut Stage, event: Event| {
        let entry = patchloom_core::record::Entry { by: "test".into(), event };
        stage.partition.apply(9, UtcMs(stage.now), &entry).unwrap()
    };
    for nth in 0..10_000 {
        let start = Start {
            run: RunId::derived(&nth.to_string()),
            workflow: "w".into(),
            version: pins["w"].clone(),
            pins: Arc::clone(&pins),
            inputs: json!({ "host": format!("h{nth}") }),
            parent: None,
            key: None,
            labels: BTreeMap::new(),
            seed: 0,
        };
        apply(&mut stage, Event::RunStarted(Arc::new(start)));
    }
    let before = std::time::Instant::now();
    for nth in 0..10_000 {
        let event = Arc::new(up(&nth.to_string(), &format!("h{nth}")));
        let applied = apply(&mut stage, Event::EventReceived { event });
        assert!(applied.facts.iter().all(|fact| fact.run == RunId::derived(&nth.to_string())), "{nth}");
    }
    println!("10,000 events among 10,000 waits: {:?}", before.elapsed());
    assert!(stage.partition.runs().all(|run| run.end().is_some()));
}
