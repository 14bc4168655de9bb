//! Runs that events start.

use patchloom_core::record::TimerKind;
use patchloom_core::run::Phase;
use serde_json::{Value, json};

use super::{Stage, event, failure, stale};

const SCAN: &str = r#"
name: scan
inputs: { host: { type: string }, n: { type: integer, default: 0 } }
on:
  - event:
      type: scan.done
      if: event.data.critical > 0
      inputs: { host: "${{ event.subject }}", n: "${{ event.data.critical }}" }
steps:
  s: { uses: t.s }
"#;

const KEYED: &str = r#"
name: keyed
inputs: { id: { type: string } }
on:
  - event: { type: scan.done, key: "${{ event.subject }}", inputs: { id: "${{ event.id }}" } }
steps:
  s: { uses: t.s }
"#;

const BURST: &str = r#"
name: burst
inputs: { id: { type: string } }
on:
  - event: { type: host.changed, key: "${{ event.subject }}", debounce: 10s, inputs: { id: "${{ event.id }}" } }
steps:
  s: { uses: t.s }
"#;

fn scanned(id: &str, critical: Value) -> patchloom_core::CloudEvent {
    event("scan.done", id, "web-1", json!({ "critical": critical }))
}

fn changed(id: &str, host: &str) -> patchloom_core::CloudEvent {
    event("host.changed", id, host, Value::Null)
}

#[test]
fn an_event_that_meets_its_condition_starts_a_run_with_inputs_of_its_own() {
    let mut stage = Stage::new(&[SCAN]);
    let runs = stage.trigger(scanned("1", json!(3)));
    assert_eq!(runs.len(), 1);
    assert_eq!(*runs[0].inputs, json!({"host": "web-1", "n": 3}));
    assert_eq!(runs[0].phase, Phase::Running);
    let labels: Vec<(&str, &str)> = runs[0].start.labels.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(
        labels,
        [("event.id", "1"), ("event.source", "/test"), ("event.type", "scan.done"), ("trigger", "event")]
    );
    assert!(stage.trigger(scanned("2", json!(0))).is_empty(), "its condition does not hold");
    assert!(stage.trigger(event("scan.begun", "3", "x", Value::Null)).is_empty(), "it is of another type");
    stale(stage.receive(scanned("1", json!(3))));
    stage.restart();
    stale(stage.receive(scanned("1", json!(3))));
    assert_eq!(stage.trigger(scanned("4", json!(1))).len(), 1);
    stage.now += 86_400_000;
    assert_eq!(stage.trigger(scanned("1", json!(1))).len(), 1, "after a day nobody remembers it");
}

#[test]
fn what_cannot_start_is_a_run_that_failed_and_never_lost() {
    let mut stage = Stage::new(&[SCAN]);
    let runs = stage.trigger(event("scan.done", "1", "web-1", json!({})));
    let (code, message) = failure(&runs[0]);
    assert_eq!(code, "E0205");
    assert!(message.contains("critical"), "{message}");
    let mut without_subject = scanned("2", json!(1));
    without_subject.subject = None;
    let runs = stage.trigger(without_subject);
    assert_eq!(failure(&runs[0]).0, "E0205", "an input has no value");
    let runs = stage.trigger(scanned("3", json!("7")));
    assert_eq!(failure(&runs[0]).0, "E0205", "a text is not above 0");
    let runs = stage.trigger(scanned("4", json!(1.5)));
    let (code, message) = failure(&runs[0]);
    assert!(code == "E0301" && message.contains("`n`"), "{code} {message}");
}

#[test]
fn a_child_workflow_that_is_not_known_fails_the_run() {
    let mut stage = Stage::new(&["name: a\non: [{ event: { type: t } }]\nsteps:\n  c: { workflow: missing }\n"]);
    let runs = stage.trigger(event("t", "1", "x", Value::Null));
    assert_eq!(failure(&runs[0]), ("E0302", "no workflow is called `missing`, which it may start"));
}

#[test]
fn each_workflow_with_a_trigger_starts_a_run_pinned_to_its_latest_version() {
    let mut stage = Stage::new(&[SCAN, KEYED]);
    let runs = stage.trigger(scanned("1", json!(1)));
    let mut names: Vec<&str> = runs.iter().map(|run| run.start.workflow.as_ref()).collect();
    names.sort_unstable();
    assert_eq!(names, ["keyed", "scan"]);
    let former = runs.iter().find(|run| &*run.start.workflow == "scan").unwrap().start.version.clone();
    stage.register(&SCAN.replace("t.s", "t.other"));
    let runs = stage.trigger(scanned("2", json!(1)));
    let run = runs.iter().find(|run| &*run.start.workflow == "scan").unwrap();
    assert_ne!(run.start.version, former);
    assert_eq!(stage.partition.latest("scan"), Some(&run.start.version));
}

#[test]
fn events_with_an_equal_key_start_one_run_in_seven_days() {
    let mut stage = Stage::new(&[KEYED]);
    let about = |id: &str, host: &str| event("scan.done", id, host, Value::Null);
    assert_eq!(stage.trigger(about("1", "a")).len(), 1);
    assert_eq!(stage.trigger(about("2", "a")).len(), 0);
    assert_eq!(stage.trigger(about("3", "b")).len(), 1);
    assert!(stage.partition.started_by("keyed/a").is_some(), "keys of workflows do not get into each other's way");
    stage.now += 7 * 86_400_000 - 1;
    assert_eq!(stage.trigger(about("4", "a")).len(), 0);
    stage.now += 1;
    assert_eq!(stage.trigger(about("5", "a")).len(), 1);
}

#[test]
fn two_events_with_one_key_that_are_under_way_at_once_start_one_run() {
    let mut stage = Stage::new(&[KEYED]);
    stage.receive(event("scan.done", "1", "a", Value::Null)).unwrap();
    stage.receive(event("scan.done", "2", "a", Value::Null)).unwrap();
    assert_eq!(stage.partition.pending().len(), 2);
    assert_eq!(stage.begin().len(), 1);
    assert!(!stage.partition.pending().keys().any(|key| matches!(key, patchloom_core::EffectKey::StartChild(_))));
}

#[test]
fn an_event_whose_run_was_not_begun_is_not_forgotten_by_a_restart() {
    let mut stage = Stage::new(&[SCAN]);
    stage.receive(scanned("1", json!(1))).unwrap();
    stage.receive(event("scan.done", "2", "x", json!({}))).unwrap();
    stage.restart();
    let mut phases: Vec<&str> = stage.begin().iter().map(|run| run.phase.name()).collect();
    phases.sort_unstable();
    assert_eq!(phases, ["failed", "running"], "and what is wrong with it neither");
}

#[test]
fn a_burst_starts_one_run_with_its_last_event() {
    let mut stage = Stage::new(&[BURST]);
    let begun = stage.now;
    assert!(stage.trigger(changed("1", "a")).is_empty());
    let [(run, due)] = stage.bursts()[..] else { panic!("one burst is on: {:?}", stage.bursts()) };
    assert_eq!(due, begun + 10_000);
    stage.now += 9_999;
    stale(stage.fire(run, TimerKind::Debounce));
    assert!(stage.trigger(changed("2", "a")).is_empty());
    assert_eq!(stage.bursts(), [(run, stage.now + 10_000)], "a further event moves it");
    assert!(stage.trigger(changed("3", "b")).is_empty());
    assert_eq!(stage.bursts().len(), 2, "another key is another burst");
    stage.now += 5_000;
    stale(stage.fire(run, TimerKind::Debounce));
    stage.restart();
    assert!(stage.trigger(changed("4", "a")).is_empty());
    stage.restart();
    stage.now += 10_000;
    stage.fire(run, TimerKind::Debounce).unwrap();
    let runs = stage.begin();
    assert_eq!((runs[0].id(), &*runs[0].inputs), (run, &json!({"id": "4"})));
    stale(stage.fire(run, TimerKind::Debounce));
    assert!(stage.trigger(changed("5", "a")).is_empty());
    let next = stage.bursts().into_iter().find(|(_, due)| *due == stage.now + 10_000).unwrap();
    assert_ne!(next.0, run, "the next burst is another run");
    stage.now += 10_000;
    stage.fire(next.0, TimerKind::Debounce).unwrap();
    assert_eq!(stage.begin().len(), 1, "with debounce a key does not hold for seven days");
}

#[test]
fn a_burst_that_never_ends_starts_its_run_all_the_same() {
    let mut stage = Stage::new(&[BURST]);
    let begun = stage.now;
    for nth in 0..20 {
        stage.receive(changed(&nth.to_string(), "a")).unwrap();
        stage.now += 9_000;
        if stage.bursts()[0].1 <= stage.now {
            break;
        }
    }
    let (run, due) = stage.bursts()[0];
    assert_eq!(due, begun + 100_000, "ten times the debounce after the first");
    stage.fire(run, TimerKind::Debounce).unwrap();
    assert_eq!(*stage.begin()[0].inputs, json!({"id": "11"}));
}

#[test]
fn a_burst_keeps_to_the_version_its_last_event_met() {
    let mut stage = Stage::new(&[BURST]);
    stage.receive(changed("1", "a")).unwrap();
    let (run, due) = stage.bursts()[0];
    let version = stage.partition.latest("burst").cloned();
    stage.register("name: burst\nsteps:\n  s: { uses: t.s }\n");
    stage.now = due;
    stage.fire(run, TimerKind::Debounce).unwrap();
    let runs = stage.begin();
    assert_eq!((Some(&runs[0].start.version), runs[0].inputs["id"].as_str()), (version.as_ref(), Some("1")));
    assert_eq!(runs[0].phase, Phase::Running);
}
