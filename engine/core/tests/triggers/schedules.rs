//! Runs that schedules start.

use patchloom_core::record::{End, Event};
use patchloom_core::run::{Applied, Phase, Refusal};
use patchloom_core::{RunId, ScheduleKey, UtcMs, jitter};
use serde_json::json;

use super::{Stage, failure, missed, stale};

const MINUTE: u64 = 60_000;

fn nightly(overlap: &str) -> String {
    format!(
        r#"
name: nightly
inputs: {{ at: {{ type: string }} }}
on:
  - schedule: {{ every: 1m, overlap: {overlap}, inputs: {{ at: "${{{{ schedule.time }}}}" }} }}
steps:
  s: {{ uses: t.s, compensate: {{ uses: t.undo }} }}
"#
    )
}

fn key() -> ScheduleKey {
    ScheduleKey { workflow: "nightly".into(), index: 0 }
}

impl Stage {
    fn arm(&mut self, next: u64) -> Result<Applied, Refusal> {
        self.say(Event::ScheduleArmed { workflow: "nightly".into(), index: 0, next: Some(UtcMs(next)) })
    }

    fn due(&mut self, nominal: u64) -> Result<Applied, Refusal> {
        let next = Some(UtcMs(nominal + MINUTE));
        self.say(Event::ScheduleDue { workflow: "nightly".into(), index: 0, nominal: UtcMs(nominal), next })
    }

    /// The next instant comes; gives the runs that it starts, and what it leaves out.
    fn minute(&mut self) -> (Vec<RunId>, usize) {
        let nominal = self.partition.scheduled(&key()).unwrap().next.unwrap();
        self.now = nominal.0;
        let applied = self.due(nominal.0).unwrap();
        (self.begin().iter().map(|run| run.id()).collect(), missed(&applied).len())
    }

    fn armed(overlap: &str) -> Self {
        let mut stage = Self::new(&[&nightly(overlap)]);
        let first = stage.now + MINUTE;
        stage.arm(first).unwrap();
        stage
    }
}

#[test]
fn an_instant_starts_a_run_that_knows_its_time() {
    let mut stage = Stage::new(&[&nightly("skip")]);
    assert_eq!(stage.partition.schedules().count(), 1);
    assert_eq!(stage.partition.schedule_comes(&key()), None, "it is not armed");
    let first = stage.now + MINUTE;
    stage.arm(first).unwrap();
    stale(stage.arm(first));
    assert_eq!(stage.partition.schedule_comes(&key()), Some(UtcMs(first)));
    stale(stage.due(first));
    stage.now = first;
    stale(stage.due(first + MINUTE));
    stage.due(first).unwrap();
    stale(stage.due(first));
    stage.restart();
    let runs = stage.begin();
    assert_eq!(*runs[0].inputs, json!({"at": UtcMs(first).to_string()}));
    assert_eq!(runs[0].start.labels["trigger"].as_ref(), "schedule");
    assert_eq!(UtcMs(first).to_string(), "1970-01-12T13:47:40Z");
}

#[test]
fn jitter_moves_the_start_and_not_the_instant() {
    let mut stage = Stage::new(&[&nightly("skip").replace("every: 1m", "every: 1m, jitter: 30s")]);
    let first = stage.now + MINUTE;
    stage.arm(first).unwrap();
    let comes = stage.partition.schedule_comes(&key()).unwrap();
    assert_eq!(comes, UtcMs(first) + jitter("nightly", UtcMs(first), Some(patchloom_core::Millis(30_000))));
    assert!(comes > UtcMs(first), "this instant has a jitter");
    stage.now = comes.0 - 1;
    stale(stage.due(first));
    stage.now = comes.0;
    stage.due(first).unwrap();
    assert_eq!(*stage.begin()[0].inputs, json!({"at": UtcMs(first).to_string()}));
}

#[test]
fn while_the_last_run_is_open_skip_starts_nothing_and_says_so() {
    let mut stage = Stage::armed("skip");
    let (first, _) = stage.minute();
    assert_eq!(stage.minute(), (vec![], 1));
    stage.restart();
    assert_eq!(stage.minute(), (vec![], 1));
    stage.cancel(first[0]);
    assert!(stage.partition.pending().is_empty(), "what was left out is not made up for");
    assert_eq!(stage.minute().0.len(), 1);
}

#[test]
fn allow_starts_a_run_beside_it() {
    let mut stage = Stage::armed("allow");
    let all: Vec<RunId> = (0..3).flat_map(|_| stage.minute().0).collect();
    assert_eq!(all.len(), 3);
    assert!(all.iter().all(|run| stage.run(*run).phase == Phase::Running));
}

#[test]
fn queue_starts_one_run_once_the_last_is_over() {
    let mut stage = Stage::armed("queue");
    let (first, _) = stage.minute();
    let waiting = stage.now + MINUTE;
    assert_eq!(stage.minute(), (vec![], 0), "it waits");
    assert_eq!(stage.minute(), (vec![], 1), "one waits at most");
    stage.restart();
    stage.cancel(first[0]);
    stage.restart();
    let runs = stage.begin();
    assert_eq!(runs.len(), 1);
    assert_eq!(*runs[0].inputs, json!({"at": UtcMs(waiting).to_string()}), "with its own instant");
    assert_eq!(stage.minute(), (vec![], 0), "and the next one waits for that");
    stage.cancel(runs[0].id());
    assert_eq!(stage.begin().len(), 1);
}

#[test]
fn replace_has_the_last_run_make_room() {
    let mut stage = Stage::armed("replace");
    let (first, _) = stage.minute();
    let (second, missed) = stage.minute();
    assert_eq!((second.len(), missed), (1, 0));
    assert_eq!(stage.run(first[0]).phase, Phase::Halting, "it goes back");
    assert!(stage.run(first[0]).cause.as_ref().unwrap().compensate);
    assert_eq!(stage.run(second[0]).phase, Phase::Running);
    // The next instant comes before the run of this one is in the journal.
    let nominal = stage.partition.scheduled(&key()).unwrap().next.unwrap().0;
    stage.now = nominal + MINUTE;
    stage.due(nominal).unwrap();
    stage.due(nominal + MINUTE).unwrap();
    let runs = stage.begin();
    let (over, on): (Vec<_>, Vec<_>) = runs.iter().partition(|run| run.end().is_some());
    assert_eq!((over.len(), on.len()), (1, 1));
    assert_eq!(failure(over[0]).0, "E0316");
    assert_eq!(*on[0].inputs, json!({"at": UtcMs(nominal + MINUTE).to_string()}));
}

#[test]
fn a_run_that_ends_as_it_begins_lets_the_next_one_go() {
    let mut stage = Stage::armed("queue");
    // Inputs that do not fit end it at once.
    stage.register(&nightly("queue").replace("type: string", "type: integer"));
    let (first, _) = stage.minute();
    assert_eq!(stage.run(first[0]).end(), Some(End::Failed));
    assert_eq!(stage.minute().0.len(), 1);
}

#[test]
fn a_version_with_another_rule_or_none_is_armed_anew() {
    let mut stage = Stage::armed("skip");
    let next = stage.partition.scheduled(&key()).unwrap().next;
    stage.register(&nightly("allow"));
    assert_eq!(stage.partition.scheduled(&key()).unwrap().next, next, "the rule is the same");
    stage.register(&nightly("allow").replace("every: 1m", "every: 2m"));
    assert_eq!(stage.partition.scheduled(&key()), None);
    stage.now += MINUTE;
    let now = stage.now;
    stale(stage.due(now));
    stage.arm(now + MINUTE).unwrap();
    stage.register("name: nightly\nsteps:\n  s: { uses: t.s }\n");
    assert_eq!(stage.partition.schedules().count(), 0);
    stale(stage.arm(now + 2 * MINUTE));
}

#[test]
fn instants_that_nobody_was_there_for_are_told() {
    let mut stage = Stage::armed("skip");
    let first = stage.now + MINUTE;
    stage.now = first + 10 * MINUTE;
    let applied = stage.arm(first + 11 * MINUTE).unwrap();
    assert_eq!(missed(&applied), [(first, "nobody was there")]);
    let applied = stage.arm(first + 12 * MINUTE).unwrap();
    assert_eq!(missed(&applied), [], "that one is still to come");
}
