//! The way back that is shown before anything runs is the one that a run then takes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use patchloom_core::record::{End, Entry, Event, Start};
use patchloom_core::{
    Definition, Effect, Failure, FailureClass, How, Known, Leg, Outcome, Partition, RunId, TaskKey, Undoing, UtcMs,
    ways_back,
};
use serde_json::{Value, json};
use uuid::Uuid;

/// One run, moved by hand; what passes between parent and child is carried at once.
struct Stage {
    partition: Partition,
    root: RunId,
    seq: u64,
}

impl Stage {
    fn new(known: &Known, name: &str) -> Self {
        let mut stage = Self { partition: Partition::default(), root: RunId(Uuid::from_u128(7)), seq: 0 };
        for definition in known.values() {
            stage.tell(Event::DefinitionRegistered { text: Arc::clone(&definition.canonical) });
        }
        let pins = stage.partition.pins(name).unwrap();
        let start = Start {
            run: stage.root,
            workflow: name.into(),
            version: pins[name].clone(),
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

    fn tell(&mut self, event: Event) {
        self.seq += 1;
        let entry = Entry { by: "test".into(), event };
        let Ok(applied) = self.partition.apply(self.seq, UtcMs(1_000), &entry) else { return };
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
                Effect::UnwindChild { child, failure, .. } => self.tell(Event::UnwindRequested { run: child, failure }),
                Effect::InformParent { link, report } => {
                    let (run, ending) = (report.child, report.ending);
                    self.tell(Event::ChildEnded { link, report });
                    self.tell(Event::ParentInformed { run, ending });
                }
                Effect::Emit { .. } | Effect::Dispatch(_) | Effect::Cancel(_) | Effect::Timer(..) => {}
            }
        }
    }

    fn out(&self, leg: Leg) -> Vec<TaskKey> {
        let pending = self.partition.pending();
        let task = |effect: &Effect| match effect {
            Effect::Dispatch(task) if task.key.leg == leg => Some(task.key.clone()),
            _ => None,
        };
        pending.values().filter_map(task).collect()
    }

    fn finish(&mut self, task: TaskKey, outcome: Outcome) {
        self.tell(Event::AttemptFinished { task, outcome, tell: Vec::new() });
    }

    /// Finishes all that is out but `failing` until nothing moves, then fails that one.
    fn forward(&mut self, failing: &str) {
        loop {
            let (held, free): (Vec<_>, Vec<_>) =
                self.out(Leg::Forward).into_iter().partition(|key| key.step.as_str() == failing);
            if free.is_empty() {
                let failure = Failure {
                    code: "X".into(),
                    class: FailureClass::Permanent,
                    message: "told to".into(),
                    details: Value::Null,
                };
                let key = held.into_iter().next().expect("the step is out");
                return self.finish(key, Outcome::Failed(failure));
            }
            for key in free {
                self.finish(key, Outcome::Succeeded { output: Value::Null });
            }
        }
    }

    /// The steps that are undone, round by round.
    fn back(&mut self) -> Vec<BTreeSet<String>> {
        let mut rounds = Vec::new();
        loop {
            let out = self.out(Leg::Undo);
            if out.is_empty() {
                return rounds;
            }
            rounds.push(out.iter().map(|key| key.step.to_string()).collect());
            for key in out {
                self.finish(key, Outcome::Succeeded { output: Value::Null });
            }
        }
    }

    fn end(&self) -> Option<End> {
        self.partition.run(self.root).unwrap().end()
    }
}

fn known(texts: &[String]) -> Known {
    let parse = |text: &String| Arc::new(Definition::parse("x", text).unwrap_or_else(|bad| panic!("{bad}")));
    texts.iter().map(parse).map(|definition| (Arc::clone(&definition.name), definition)).collect()
}

/// A graph of tasks drawn from a seed (SplitMix64).
fn graph(mut seed: u64) -> String {
    let mut percent = move |chance: u64| {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % 100 < chance
    };
    let mut text = "name: x\nsteps:\n".to_owned();
    for at in 0..7 {
        let needs: Vec<String> = (0..at).filter(|_| percent(35)).map(|need| format!("s{need}")).collect();
        let undo = if percent(70) { ", compensate: { uses: u.u }" } else { "" };
        let pivot = if percent(6) { ", pivot: true" } else { "" };
        text.push_str(&format!("  s{at}: {{ needs: [{}], uses: t.t{undo}{pivot} }}\n", needs.join(", ")));
    }
    text
}

#[test]
fn each_step_of_random_graphs_is_undone_round_by_round_as_shown() {
    for seed in 0..200 {
        let text = graph(seed);
        let known = known(std::slice::from_ref(&text));
        for way in ways_back(&known["x"], &known) {
            let mut stage = Stage::new(&known, "x");
            stage.forward(way.step.as_str());
            let mut shown: Vec<BTreeSet<String>> = Vec::new();
            // All that may have started has: where a point of no return is among it, nothing is undone.
            for one in way.undo.iter().filter(|_| way.unless.is_empty()) {
                shown.resize(shown.len().max(one.round), BTreeSet::new());
                shown[one.round - 1].insert(one.step.to_string());
            }
            let undone = stage.back();
            assert_eq!(undone, shown, "seed {seed}, {} fails in\n{text}", way.step);
            assert_eq!(stage.end(), Some(if undone.is_empty() { End::Failed } else { End::Compensated }));
        }
    }
}

/// The steps in the order in which they are undone, those of child runs in between.
fn flat(undo: &[Undoing]) -> Vec<String> {
    let of = |one: &Undoing| match &one.how {
        How::Task { .. } => vec![one.step.to_string()],
        How::Child { undo, .. } => flat(undo),
        How::Itself { .. } | How::Unknown { .. } => Vec::new(),
    };
    undo.iter().flat_map(of).collect()
}

#[test]
fn child_runs_are_taken_back_in_between_as_shown() {
    let child = "name: child\nsteps:\n  x: { uses: t.x, compensate: { uses: u.x } }\n  y: { needs: x, uses: t.y, compensate: { uses: u.y } }\n";
    let parent = "name: parent\nsteps:\n  a: { uses: t.a, compensate: { uses: u.a } }\n  b: { needs: a, workflow: child }\n  c: { needs: b, uses: t.c, compensate: { uses: u.c } }\n";
    let known = known(&[child.to_owned(), parent.to_owned()]);
    for (failing, expected) in [("c", vec!["c", "y", "x", "a"]), ("a", vec!["a"])] {
        let ways = ways_back(&known["parent"], &known);
        let way = ways.iter().find(|way| way.step.as_str() == failing).unwrap();
        let mut stage = Stage::new(&known, "parent");
        stage.forward(failing);
        let undone: Vec<String> = stage.back().into_iter().flatten().collect();
        assert_eq!(undone, expected);
        assert_eq!(flat(&way.undo), expected);
    }
}
