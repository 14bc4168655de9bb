//! The semantics of the language, scenario by scenario: what is told to a run, and the outline it leaves.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use patchloom_core::record::{Entry, Event, Resolution, Start};
use patchloom_core::run::{Run, Status, Undo};
use patchloom_core::{
    Definition, Effect, Failure, FailureClass, Leg, Millis, Outcome, Partition, RunId, StepName, TaskKey, UtcMs,
};
use serde_json::{Value, json};
use uuid::Uuid;

/// One run in a partition of its own, moved by hand.
struct Stage {
    partition: Partition,
    root: RunId,
    seq: u64,
    now: UtcMs,
}

fn failure(code: &str, class: FailureClass) -> Outcome {
    Outcome::Failed(Failure { code: code.into(), class, message: format!("{code} happened"), details: Value::Null })
}

fn ok(output: Value) -> Outcome {
    Outcome::Succeeded { output }
}

impl Stage {
    fn new(texts: &[&str]) -> Self {
        let root = RunId(Uuid::from_u128(7));
        let mut stage = Self { partition: Partition::default(), root, seq: 0, now: UtcMs(1_000_000) };
        let mut name: Arc<str> = "".into();
        for text in texts {
            let definition = Definition::parse("scenario", text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
            name = Arc::clone(&definition.name);
            stage.tell(Event::DefinitionRegistered { text: definition.canonical });
        }
        let pins = stage.partition.pins(&name).unwrap();
        let start = Start {
            run: root,
            workflow: Arc::clone(&name),
            version: pins[&name].clone(),
            pins: Arc::new(pins),
            inputs: json!({}),
            parent: None,
            key: None,
            labels: BTreeMap::new(),
            seed: 1,
        };
        stage.tell(Event::RunStarted(Arc::new(start)));
        stage
    }

    /// Folds an event in; messages between parent and child are carried at once.
    fn tell(&mut self, event: Event) -> bool {
        self.seq += 1;
        let entry = Entry { by: "test".into(), event };
        let Ok(applied) = self.partition.apply(self.seq, self.now, &entry) else { return false };
        for effect in applied.effects {
            match effect {
                Effect::StartChild(start) => {
                    let (child, link) = (start.run, start.parent.clone().unwrap());
                    self.tell(Event::RunStarted(start));
                    self.tell(Event::ChildStarted { link, child });
                }
                Effect::CancelChild { child, reason } => {
                    self.tell(Event::CancelRequested { run: child, compensate: true, reason });
                }
                Effect::UnwindChild { child, failure, .. } => {
                    self.tell(Event::UnwindRequested { run: child, failure });
                }
                Effect::InformParent { link, report } => {
                    let (run, ending) = (report.child, report.ending);
                    self.tell(Event::ChildEnded { link, report });
                    self.tell(Event::ParentInformed { run, ending });
                }
                Effect::Emit { task, .. } => {
                    self.tell(Event::EventEmitted { task });
                }
                Effect::Dispatch(_) | Effect::Cancel(_) | Effect::Timer(..) => {}
            }
        }
        true
    }

    /// The tasks that are out, as `step/item/attempt` with `/undo` behind and `!` where they are asked to stop.
    fn out(&self) -> Vec<String> {
        let short = |key: &TaskKey| {
            let undo = if key.leg == Leg::Undo { "/undo" } else { "" };
            format!("{}/{}/{}{undo}", key.step, key.item, key.attempt)
        };
        let pending = self.partition.pending();
        pending
            .values()
            .filter_map(|effect| match effect {
                Effect::Dispatch(task) => Some(short(&task.key)),
                Effect::Cancel(key) => Some(format!("{}!", short(key))),
                _ => None,
            })
            .collect()
    }

    /// The task called `step/item/attempt[/undo]` of any run comes to `outcome`.
    #[track_caller]
    fn finish(&mut self, name: &str, outcome: Outcome) {
        let parts: Vec<&str> = name.split('/').collect();
        let leg = if parts.get(3) == Some(&"undo") { Leg::Undo } else { Leg::Forward };
        let (item, attempt): (u32, u32) = (parts[1].parse().unwrap(), parts[2].parse().unwrap());
        let pending = self.partition.pending();
        let key = pending
            .values()
            .find_map(|effect| {
                let key = match effect {
                    Effect::Dispatch(task) => &task.key,
                    Effect::Cancel(key) => key,
                    _ => return None,
                };
                let same =
                    key.step.as_str() == parts[0] && key.item == item && key.attempt == attempt && key.leg == leg;
                same.then(|| key.clone())
            })
            .unwrap_or_else(|| panic!("{name} is not out, but {:?}", self.out()));
        self.tell(Event::AttemptFinished { task: key, outcome, tell: Vec::new() });
    }

    fn input(&self, name: &str) -> Value {
        let pending = self.partition.pending();
        let found = pending.values().find_map(|effect| match effect {
            Effect::Dispatch(task)
                if format!("{}/{}", task.key.step, if task.key.leg == Leg::Undo { "undo" } else { "do" }) == name =>
            {
                Some(task.input.clone())
            }
            _ => None,
        });
        found.unwrap_or_else(|| panic!("{name} is not out"))
    }

    /// The next timer fires.
    #[track_caller]
    fn timer(&mut self) {
        let pending = self.partition.pending();
        let next = pending.values().filter_map(|effect| match effect {
            Effect::Timer(timer, due) => Some((*due, timer.clone())),
            _ => None,
        });
        let (due, timer) = next.min().expect("a timer is armed");
        self.now = self.now.max(due);
        self.tell(Event::TimerFired { timer });
    }

    fn run(&self) -> &Arc<Run> {
        self.partition.run(self.root).unwrap()
    }

    /// The run as an outline: a line for itself and one per step.
    fn outline(&self) -> String {
        let run = self.run();
        let definition = self.partition.definition(&run.start.version).unwrap();
        let mut text = format!("run {}\n", run.phase.name());
        for (step, state) in definition.steps.iter().zip(&run.steps) {
            let status = match &state.status {
                Status::Failed(failure) => format!("failed {}", failure.code),
                Status::Skipped(why) => format!("skipped {why:?}").to_lowercase(),
                Status::Done { late: true, .. } => "done late".into(),
                other => other.name().into(),
            };
            let undo = match &state.undo {
                Undo::NotNeeded => String::new(),
                other => format!(", undo {}", other.name()),
            };
            let _ = writeln!(text, "  {} {status}{undo}", step.name);
        }
        text
    }

    #[track_caller]
    fn shows(&self, expected: &str) {
        let tidy =
            |text: &str| text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
        assert_eq!(tidy(&self.outline()), tidy(expected));
    }
}

const CHAIN: &str = "
name: chain
steps:
  a: { uses: t.a, compensate: { uses: t.undo, with: { got: '${{ self.output }}', why: '${{ failure.code }}' } } }
  b: { needs: a, uses: t.b, retry: { attempts: 2, backoff: 1s, jitter: false }, compensate: { uses: t.undo, with: { a: '${{ steps.a.output }}', got: '${{ self.output }}' } } }
  c: { needs: b, uses: t.c }
";

#[test]
fn a_failed_step_is_compensated_too_and_its_output_is_absent() {
    let mut stage = Stage::new(&[CHAIN]);
    stage.finish("a/0/1", ok(json!(1)));
    stage.finish("b/0/1", failure("X", FailureClass::Permanent));
    assert_eq!(stage.out(), ["b/0/1/undo"], "what came last is undone first");
    assert_eq!(stage.input("b/undo"), json!({"a": 1, "got": null}));
    stage.finish("b/0/1/undo", ok(Value::Null));
    assert_eq!(stage.input("a/undo"), json!({"got": 1, "why": "X"}));
    stage.finish("a/0/1/undo", ok(Value::Null));
    stage.shows("run compensated\n a done, undo done\n b failed X, undo done\n c skipped halted");
}

#[test]
fn a_transient_failure_is_tried_again_under_the_next_attempt_and_then_fails() {
    let mut stage = Stage::new(&[CHAIN]);
    stage.finish("a/0/1", ok(Value::Null));
    stage.finish("b/0/1", failure("NET", FailureClass::Transient));
    assert_eq!(stage.out(), Vec::<String>::new(), "it waits and holds no worker");
    stage.timer();
    assert_eq!(stage.out(), ["b/0/2"]);
    stage.finish("b/0/2", failure("NET", FailureClass::Ambiguous));
    assert_eq!(stage.out(), ["b/0/1/undo"]);
}

const FORK: &str = "
name: fork
steps:
  a: { uses: t.a, compensate: { uses: t.undo } }
  b: { needs: a, uses: t.b, compensate: { uses: t.undo } }
  c: { needs: a, uses: t.c, compensate: { uses: t.undo } }
  d: { needs: [b, c], uses: t.d }
";

#[test]
fn nothing_is_undone_before_all_that_is_out_has_come_to_rest() {
    let mut stage = Stage::new(&[FORK]);
    stage.finish("a/0/1", ok(Value::Null));
    stage.finish("b/0/1", failure("X", FailureClass::Permanent));
    assert_eq!(stage.out(), ["c/0/1!"], "the other branch is asked to stop");
    stage.shows("run halting\n a done\n b failed X\n c active\n d skipped halted");
    stage.finish("c/0/1", ok(json!("too late")));
    assert_eq!(stage.out(), ["b/0/1/undo", "c/0/1/undo"], "independent branches are undone side by side");
    stage.finish("c/0/1/undo", ok(Value::Null));
    assert_eq!(stage.out(), ["b/0/1/undo"], "and what both need waits for both");
    stage.finish("b/0/1/undo", ok(Value::Null));
    stage.finish("a/0/1/undo", ok(Value::Null));
    stage.shows(
        "run compensated\n a done, undo done\n b failed X, undo done\n c done late, undo done\n d skipped halted",
    );
}

#[test]
fn a_compensation_that_fails_waits_for_an_operator_who_retries_or_resolves_it() {
    let mut stage = Stage::new(&[CHAIN]);
    stage.finish("a/0/1", ok(Value::Null));
    stage.finish("b/0/1", failure("X", FailureClass::Permanent));
    stage.finish("b/0/1/undo", failure("STUCK", FailureClass::Permanent));
    stage.shows("run compensation_failed\n a done, undo owed\n b failed X, undo failed\n c skipped halted");
    assert!(
        !stage.tell(Event::CancelRequested { run: stage.root, compensate: false, reason: "now".into() }),
        "a cancel does not stop the way back"
    );
    let resolve = |how| Event::UndoResolved { run: RunId(Uuid::from_u128(7)), step: StepName::from("b"), item: 0, how };
    assert!(stage.tell(resolve(Resolution::Retry)));
    stage.finish("b/0/2/undo", failure("STUCK", FailureClass::Permanent));
    assert!(stage.tell(resolve(Resolution::Resolved { note: "reinstalled by hand".into() })));
    stage.finish("a/0/1/undo", ok(Value::Null));
    stage.shows("run compensated\n a done, undo done\n b failed X, undo done\n c skipped halted");
}

#[test]
fn behind_the_pivot_a_run_only_goes_forward() {
    let text = CHAIN.replace("b: { needs: a,", "b: { needs: a, pivot: true,");
    let mut stage = Stage::new(&[&text]);
    stage.finish("a/0/1", ok(Value::Null));
    stage.finish("b/0/1", ok(Value::Null));
    stage.finish("c/0/1", failure("X", FailureClass::Permanent));
    stage.shows("run failed\n a done\n b done\n c failed X");
    let mut before = Stage::new(&[&text]);
    before.finish("a/0/1", ok(Value::Null));
    before.finish("b/0/1", failure("X", FailureClass::Permanent));
    assert_eq!(before.out(), ["b/0/1/undo"], "a pivot that did not come through is undone like any step");
}

#[test]
fn a_cancel_undoes_what_was_done_unless_it_says_otherwise() {
    for (compensate, end) in [(true, "compensated"), (false, "cancelled")] {
        let mut stage = Stage::new(&[CHAIN]);
        stage.finish("a/0/1", ok(Value::Null));
        assert!(stage.tell(Event::CancelRequested { run: stage.root, compensate, reason: "not today".into() }));
        assert_eq!(stage.out(), ["b/0/1!"]);
        stage.finish("b/0/1", Outcome::Cancelled);
        while let Some(next) = stage.out().first().cloned() {
            stage.finish(&next, ok(Value::Null));
        }
        assert_eq!(stage.run().phase.name(), end);
        assert!(stage.run().cause.as_ref().unwrap().cancelled);
    }
}

#[test]
fn a_failure_that_a_later_step_takes_upon_itself_does_not_fail_the_run() {
    let text = "
name: caught
steps:
  a: { uses: t.a }
  b: { needs: a, uses: t.b }
  rescue: { needs: a, if: failed(), uses: t.rescue }
  last: { needs: [b, rescue], if: always(), set: { seen: '${{ steps.a.status }}' } }
";
    let mut stage = Stage::new(&[text]);
    stage.finish("a/0/1", failure("X", FailureClass::Permanent));
    assert_eq!(stage.out(), ["rescue/0/1"]);
    stage.finish("rescue/0/1", ok(Value::Null));
    stage.shows("run succeeded\n a failed X\n b skipped upstream\n rescue done\n last done");
    let mut lost = Stage::new(&[text]);
    lost.finish("a/0/1", failure("X", FailureClass::Permanent));
    lost.finish("rescue/0/1", failure("Y", FailureClass::Permanent));
    lost.shows("run failed\n a failed X\n b skipped upstream\n rescue failed Y\n last done late");
}

#[test]
fn a_fan_out_keeps_its_limit_and_undoes_only_the_items_that_started() {
    let text = "
name: fan
steps:
  a: { uses: t.a, for_each: { items: [10, 20, 30, 40], max_parallel: 2 }, with: { n: '${{ item }}', at: '${{ index }}' }, compensate: { uses: t.undo, with: { n: '${{ item }}' } } }
";
    let mut stage = Stage::new(&[text]);
    assert_eq!(stage.out(), ["a/0/1", "a/1/1"]);
    stage.finish("a/1/1", ok(json!("b")));
    assert_eq!(stage.out(), ["a/0/1", "a/2/1"]);
    stage.finish("a/0/1", failure("X", FailureClass::Permanent));
    assert_eq!(stage.out(), ["a/2/1!"], "no further item starts");
    stage.finish("a/2/1", Outcome::Cancelled);
    assert_eq!(stage.out(), ["a/1/1/undo", "a/2/1/undo"], "the last that started first, two at a time");
    for item in ["a/2/1/undo", "a/1/1/undo", "a/0/1/undo"] {
        stage.finish(item, ok(Value::Null));
    }
    stage.shows("run compensated\n a failed X, undo done");
    let mut all = Stage::new(&[&format!("{text}output: {{ all: '${{{{ steps.a.output }}}}' }}\n")]);
    while let Some(next) = all.out().first().cloned() {
        let item = next.split('/').nth(1).unwrap().to_owned();
        all.finish(&next, ok(json!(item)));
    }
    assert_eq!(all.run().output, json!({"all": ["0", "1", "2", "3"]}));
}

const LEAF: &str = "
name: leaf
steps:
  x: { uses: t.x, compensate: { uses: t.undo, with: { why: '${{ failure.code }}' } } }
output: { x: '${{ steps.x.output }}' }
";

#[test]
fn a_child_that_succeeded_is_taken_back_when_its_parent_fails() {
    let parent = "
name: parent
steps:
  first: { workflow: leaf }
  then: { needs: first, uses: t.then }
";
    let mut stage = Stage::new(&[LEAF, parent]);
    stage.finish("x/0/1", ok(json!(5)));
    stage.finish("then/0/1", failure("LATER", FailureClass::Permanent));
    assert_eq!(stage.input("x/undo"), json!({"why": "LATER"}));
    stage.finish("x/0/1/undo", ok(Value::Null));
    stage.shows("run compensated\n first done, undo done\n then failed LATER");
    let child = stage.root.child(&"first".into(), 0, 1);
    assert_eq!(stage.partition.run(child).unwrap().phase.name(), "compensated");
}

#[test]
fn a_child_at_work_undoes_itself_before_its_parent_goes_back_further() {
    let parent = "
name: parent
steps:
  first: { uses: t.first, compensate: { uses: t.undo } }
  kid: { needs: first, workflow: leaf }
  other: { needs: first, uses: t.other }
";
    let mut stage = Stage::new(&[LEAF, parent]);
    stage.finish("first/0/1", ok(Value::Null));
    stage.finish("other/0/1", failure("X", FailureClass::Permanent));
    assert_eq!(stage.out(), ["x/0/1!"]);
    stage.finish("x/0/1", Outcome::Cancelled);
    assert_eq!(stage.out(), ["x/0/1/undo"], "the child goes back first");
    stage.finish("x/0/1/undo", ok(Value::Null));
    assert_eq!(stage.out(), ["first/0/1/undo"]);
    stage.finish("first/0/1/undo", ok(Value::Null));
    stage.shows("run compensated\n first done, undo done\n kid halted\n other failed X");
}

#[test]
fn a_run_whose_child_undid_itself_is_compensated_though_it_has_nothing_of_its_own_to_undo() {
    let parent = "\nname: parent\nsteps:\n  kid: { workflow: leaf }\n";
    let above = "\nname: above\nsteps:\n  inner: { workflow: parent }\n";
    let mut stage = Stage::new(&[LEAF, parent, above]);
    stage.finish("x/0/1", failure("X", FailureClass::Permanent));
    stage.finish("x/0/1/undo", ok(Value::Null));
    stage.shows("run compensated\n inner failed X");
    // In the next try nothing is begun below, so nothing was undone in it.
    stage.tell(Event::RetryRequested { run: stage.root });
    stage.tell(Event::CancelRequested { run: stage.root, compensate: false, reason: "enough".into() });
    stage.finish("x/0/1", Outcome::Cancelled);
    stage.finish("x/0/1/undo", ok(Value::Null));
    stage.shows("run cancelled\n inner halted");
    // Where nothing was undone, it says so.
    let plain = "\nname: leaf\nsteps:\n  x: { uses: t.x }\n";
    let mut stage = Stage::new(&[plain, parent]);
    stage.finish("x/0/1", failure("X", FailureClass::Permanent));
    stage.shows("run failed\n kid failed X");
}

#[test]
fn the_reason_of_a_cancel_reaches_the_runs_below() {
    let parent = "\nname: parent\nsteps:\n  kid: { workflow: leaf }\n";
    let above = "\nname: above\nsteps:\n  inner: { workflow: parent }\n";
    let mut stage = Stage::new(&[LEAF, parent, above]);
    stage.tell(Event::CancelRequested { run: stage.root, compensate: true, reason: "change freeze".into() });
    for run in stage.partition.runs() {
        let cause = run.cause.as_ref().expect("each run knows why it ends");
        assert_eq!(cause.failure.message, "cancelled: change freeze", "{}", run.start.workflow);
    }
    let mut stage = Stage::new(&[LEAF, "\nname: two\nsteps:\n  kid: { workflow: leaf }\n  b: { uses: t.b }\n"]);
    stage.finish("b/0/1", failure("X", FailureClass::Permanent));
    let child = stage.root.child(&"kid".into(), 0, 1);
    let cause = stage.partition.run(child).unwrap().cause.clone().unwrap();
    assert_eq!(cause.failure.message, "cancelled: its parent run does not go on");
}

#[test]
fn waits_end_by_signal_time_or_limit() {
    let text = "
name: waits
steps:
  early: { wait: { signal: go, timeout: 1h } }
  late: { needs: early, wait: { signal: go, timeout: 1h } }
  pause: { needs: late, wait: { for: 5m } }
output: { by: '${{ steps.early.output.by }}' }
";
    let mut stage = Stage::new(&[text]);
    let go = |stage: &Stage, by: &str, id: &str| Event::SignalReceived {
        run: stage.root,
        name: "go".into(),
        payload: json!({"by": by}),
        id: Some(id.into()),
        roles: Vec::new(),
    };
    let (one, again, two) = (go(&stage, "ann", "1"), go(&stage, "ann", "1"), go(&stage, "bob", "2"));
    assert!(stage.tell(one));
    assert!(!stage.tell(again), "the same signal counts once");
    assert!(stage.tell(two));
    let before = stage.now;
    stage.timer();
    assert_eq!(stage.now.since(before), Millis(300_000));
    assert_eq!(stage.run().output, json!({"by": "ann"}));
    let mut never = Stage::new(&[text]);
    never.timer();
    never.shows("run failed\n early failed E0311\n late skipped halted\n pause skipped halted");
}

#[test]
fn a_signal_that_comes_before_its_step_is_kept_for_it() {
    let text = "name: early\nsteps:\n  a: { uses: t.a }\n  b: { needs: a, wait: { signal: go } }\n";
    let mut stage = Stage::new(&[text]);
    let event =
        Event::SignalReceived { run: stage.root, name: "go".into(), payload: Value::Null, id: None, roles: Vec::new() };
    assert!(stage.tell(event));
    stage.finish("a/0/1", ok(Value::Null));
    stage.shows("run succeeded\n a done\n b done");
}

#[test]
fn limits_of_a_step_and_of_a_run_end_them() {
    let mut step = Stage::new(&["name: slow\nsteps:\n  a: { uses: t.a, timeout: { total: 1m } }\n"]);
    step.timer();
    assert_eq!(step.out(), ["a/0/1!"]);
    step.finish("a/0/1", Outcome::Cancelled);
    step.shows("run failed\n a failed E0314");
    let mut run = Stage::new(&["name: slow\ntimeout: 1m\nsteps:\n  a: { uses: t.a, compensate: { uses: t.undo } }\n"]);
    run.timer();
    run.finish("a/0/1", Outcome::Cancelled);
    run.finish("a/0/1/undo", ok(Value::Null));
    run.shows("run compensated\n a halted, undo done");
    assert_eq!(run.run().cause.as_ref().unwrap().failure.code, "E0313");
}

#[test]
fn a_retried_run_keeps_what_holds_and_uses_no_key_twice() {
    let text = CHAIN
        .replace(", compensate: { uses: t.undo, with: { got: '${{ self.output }}', why: '${{ failure.code }}' } }", "");
    let mut stage = Stage::new(&[&text]);
    stage.finish("a/0/1", ok(json!("kept")));
    stage.finish("b/0/1", failure("X", FailureClass::Permanent));
    stage.finish("b/0/1/undo", ok(Value::Null));
    assert!(stage.tell(Event::RetryRequested { run: stage.root }));
    assert_eq!(stage.out(), ["b/0/2"], "a holds, b begins anew under a new key");
    stage.finish("b/0/2", failure("X", FailureClass::Permanent));
    assert_eq!(stage.out(), ["b/0/2/undo"]);
    stage.finish("b/0/2/undo", ok(Value::Null));
    assert!(stage.tell(Event::RetryRequested { run: stage.root }));
    stage.finish("b/0/3", ok(Value::Null));
    stage.finish("c/0/1", ok(Value::Null));
    stage.shows("run succeeded\n a done\n b done\n c done");
    assert!(!stage.tell(Event::RetryRequested { run: stage.root }), "what succeeded is not retried");
}

#[test]
fn a_result_counts_once_and_only_for_the_attempt_that_is_out() {
    let mut stage = Stage::new(&[CHAIN]);
    let key =
        |attempt| TaskKey { run: RunId(Uuid::from_u128(7)), step: "a".into(), item: 0, attempt, leg: Leg::Forward };
    assert!(!stage.tell(Event::AttemptFinished { task: key(2), outcome: ok(json!(2)), tell: Vec::new() }));
    assert!(stage.tell(Event::AttemptFinished { task: key(1), outcome: ok(json!(1)), tell: Vec::new() }));
    assert!(!stage.tell(Event::AttemptFinished { task: key(1), outcome: ok(json!(9)), tell: Vec::new() }));
    stage.shows("run running\n a done\n b active\n c pending");
}

#[test]
fn expressions_without_a_value_fail_their_step_in_words() {
    let mut stage = Stage::new(&[
        "name: bad\nsteps:\n  a: { uses: t.a }\n  b: { needs: a, uses: t.b, with: { v: '${{ steps.a.output.nope }}' } }\n",
    ]);
    stage.finish("a/0/1", ok(json!({"yes": 1})));
    stage.shows("run failed\n a done\n b failed E0205");
    assert!(stage.run().cause.as_ref().unwrap().failure.message.contains("there is no `nope`"));
}
