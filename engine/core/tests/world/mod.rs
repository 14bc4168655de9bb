//! A world in which the effects of the machine come true in any order: workers that succeed, fail and stay away,
//! timers, children, operators; everything drawn from one seed.

mod generator;
mod limits;
mod people;
mod sources;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;

use patchloom_core::record::{End, Entry, Event, Start};
use patchloom_core::run::{EVENT_TYPES, Fact, FactKind, Refusal, Run};
use patchloom_core::{
    Definition, Digest, Effect, EffectKey, Failure, FailureClass, Millis, Outcome, Partition, RunId, Told, UtcMs,
};
use serde_json::{Value, json};
use uuid::Uuid;

pub use generator::{Dice, definition};
pub use people::{calendars, wishes};

/// What one history did, for the checks at the end.
pub struct World {
    pub partition: Partition,
    pub log: Vec<(u64, UtcMs, Entry)>,
    pub seq: u64,
    pub now: UtcMs,
    pub dice: Dice,
    pub open: BTreeMap<EffectKey, Effect>,
    watch: watch::Watch,
    /// How willing the workers are, in percent.
    pub luck: u64,
    turns: u32,
    planned: UtcMs,
}

fn failure(class: FailureClass) -> Failure {
    Failure { code: "X1".into(), class, message: "did not work".into(), details: Value::Null }
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let luck = *dice.pick(&[99, 90, 70, 40]);
        Self {
            partition: Partition::default(),
            log: Vec::new(),
            seq: 0,
            now: UtcMs(1_000_000),
            dice,
            open: BTreeMap::new(),
            watch: watch::Watch::default(),
            luck,
            turns: 0,
            planned: UtcMs(0),
        }
    }

    pub fn register(&mut self, text: &str) {
        let definition = Definition::parse("generated", text).unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}"));
        self.record(Event::DefinitionRegistered { text: definition.canonical }).unwrap();
    }

    pub fn start(&mut self, workflow: &str) -> RunId {
        let run = RunId(Uuid::from_u128((u128::from(self.dice.next()) << 64) | u128::from(self.dice.next())));
        let pins = self.partition.pins(workflow).unwrap();
        let version: Digest = pins[workflow].clone();
        let start = Start {
            run,
            workflow: workflow.into(),
            version,
            pins: Arc::new(pins),
            inputs: json!({}),
            parent: None,
            key: Some(format!("key-{run}").into()),
            labels: BTreeMap::new(),
            seed: self.dice.next(),
        };
        self.record(Event::RunStarted(Arc::new(start))).unwrap();
        run
    }

    /// Folds an event in and checks what must hold after every single record.
    pub fn record(&mut self, event: Event) -> Result<(), Refusal> {
        self.record_by("test", event)
    }

    /// Works the calendars out, from now on.
    pub fn plan(&mut self) {
        self.planned = self.now;
        for event in calendars(self.now) {
            self.record(event).unwrap();
        }
    }

    fn record_by(&mut self, by: &str, event: Event) -> Result<(), Refusal> {
        self.seq += 1;
        let entry = Entry { by: by.into(), event };
        self.log.push((self.seq, self.now, entry.clone()));
        let before = self.partition.clone();
        self.watch.before(&before, &entry);
        let result = self.partition.apply(self.seq, self.now, &entry);
        let after = self.partition.pending();
        match result {
            Err(refusal) => {
                assert_eq!(
                    before.rows().collect::<Vec<_>>(),
                    self.partition.rows().collect::<Vec<_>>(),
                    "a refusal changes nothing: {refusal}"
                );
                Err(refusal)
            }
            Ok(applied) => {
                check_facts(&entry.event, &applied.facts);
                let was = before.pending();
                let added: BTreeMap<EffectKey, Effect> = after
                    .iter()
                    .filter(|(key, effect)| was.get(*key) != Some(*effect))
                    .map(|(key, effect)| (key.clone(), effect.clone()))
                    .collect();
                let told: BTreeMap<EffectKey, Effect> = applied
                    .effects
                    .iter()
                    .filter(|effect| after.contains_key(&effect.key()))
                    .map(|effect| (effect.key(), effect.clone()))
                    .collect();
                let again = matches!(entry.event, Event::ReleaseRequested { .. });
                let told: BTreeMap<EffectKey, Effect> =
                    told.into_iter().filter(|(key, _)| !again || added.contains_key(key)).collect();
                assert_eq!(told, added, "effects == pending(after) - pending(before), at {entry:?}");
                assert!(again || told.len() == applied.effects.len(), "no effect is owed twice");
                self.open = after;
                self.watch.record(&self.partition, (self.now, &entry), &applied);
                // The onlooker looks at what was touched; here each run is looked at.
                self.partition.runs().for_each(|run| watch::check_run(&self.partition, run, self.now));
                Ok(())
            }
        }
    }

    /// Lets one owed effect, chosen by chance, come true.
    pub fn turn(&mut self) {
        let keys: Vec<EffectKey> = self.open.keys().cloned().collect();
        let key = self.dice.pick(&keys).clone();
        let effect = self.open[&key].clone();
        self.come_true(effect);
        if self.dice.percent(15) {
            let again = self.dice.pick(&self.log).2.event.clone();
            if !matches!(
                again,
                Event::RetryRequested { .. }
                    | Event::CancelRequested { .. }
                    | Event::UndoResolved { .. }
                    | Event::SignalReceived { .. }
            ) {
                let _ = self.record(again);
            }
        }
    }

    fn outcome(&mut self) -> Outcome {
        if self.dice.percent(self.luck) {
            let output = if self.dice.percent(50) { json!({"n": self.dice.below(9)}) } else { Value::Null };
            return Outcome::Succeeded { output };
        }
        match self.dice.below(10) {
            0 => Outcome::Cancelled,
            1..4 => Outcome::Failed(failure(FailureClass::Permanent)),
            4 => Outcome::Failed(failure(FailureClass::Ambiguous)),
            _ => Outcome::Failed(failure(FailureClass::Transient)),
        }
    }

    /// Not drawn from the seed: histories are the same with and without.
    fn tell(&self) -> Vec<Told> {
        let told = |nth| Told { kind: format!("a.told.{nth}"), subject: None, data: serde_json::Map::new() };
        (0..self.seq % 3).map(told).collect()
    }

    fn come_true(&mut self, effect: Effect) {
        match effect {
            Effect::Dispatch(task) => {
                let (outcome, tell) = (self.outcome(), self.tell());
                let _ = self.record(Event::AttemptFinished { task: task.key, outcome, tell });
            }
            Effect::Cancel(task) => {
                let outcome = if self.dice.percent(50) { Outcome::Cancelled } else { self.outcome() };
                let tell = self.tell();
                let _ = self.record(Event::AttemptFinished { task, outcome, tell });
            }
            Effect::Emit { task, .. } => {
                let _ = self.record(Event::EventEmitted { task });
            }
            Effect::Timer(timer, due) => {
                if self.dice.percent(20) {
                    let _ = self.record(Event::TimerFired { timer: timer.clone() });
                }
                self.now = self.now.max(due) + Millis(self.dice.below(3));
                let _ = self.record(Event::TimerFired { timer });
            }
            Effect::StartChild(start) => {
                let (child, link) = (start.run, start.parent.clone().unwrap());
                let _ = self.record(Event::RunStarted(start));
                if self.dice.percent(80) {
                    let _ = self.record(Event::ChildStarted { link, child });
                }
            }
            Effect::CancelChild { child, reason } => {
                let _ = self.record(Event::CancelRequested { run: child, compensate: true, reason });
            }
            Effect::UnwindChild { child, failure, .. } => {
                let _ = self.record(Event::UnwindRequested { run: child, failure });
            }
            Effect::InformParent { link, report } => {
                let (run, ending) = (report.child, report.ending);
                let heard = !matches!(self.record(Event::ChildEnded { link, report }), Err(Refusal::Illegal(_)));
                if heard && self.dice.percent(80) {
                    let _ = self.record(Event::ParentInformed { run, ending });
                }
            }
        }
    }

    /// What people do when nothing moves by itself.
    pub fn people(&mut self) {
        let calm = self.turns > 4_000;
        for (by, event) in wishes(&self.partition, &mut self.dice, calm) {
            let _ = self.record_by(by, event);
        }
    }

    /// Runs `root` to its end.
    pub fn finish(&mut self, root: RunId) -> End {
        for _ in 0..40_000 {
            self.turns += 1;
            if self.now.since(self.planned).0 > people::DAYS * 12 * people::HOUR {
                self.plan();
            }
            let over = self.partition.run(root).unwrap().end();
            if let (Some(end), true) = (over, self.open.is_empty()) {
                return end;
            }
            if self.open.is_empty() || self.dice.percent(2) {
                self.people();
            } else {
                self.turn();
            }
        }
        let tail =
            self.log.iter().rev().take(12).map(|(seq, _, entry)| format!("{seq} {} {:?}", entry.by, entry.event));
        let open: Vec<&Arc<Run>> = self.partition.runs().filter(|run| run.end().is_none()).collect();
        panic!("no end in sight: owed {:?}\n{}\n{open:#?}", self.open.keys(), tail.collect::<Vec<_>>().join("\n"));
    }

    /// Folds the whole log into a new partition and compares, row for row; then through the rows and back.
    pub fn check_replay(&self) {
        let mut again = Partition::default();
        for (seq, at, entry) in &self.log {
            let text = serde_json::to_string(entry).unwrap();
            let _ = again.apply(*seq, *at, &serde_json::from_str(&text).unwrap());
        }
        let rows: Vec<(String, Vec<u8>)> = self.partition.rows().collect();
        assert_eq!(rows, again.rows().collect::<Vec<_>>(), "a replay gives the same state");
        let mut silent = Partition::default();
        for (seq, at, entry) in &self.log {
            let mut entry = entry.clone();
            if let Event::AttemptFinished { tell, .. } = &mut entry.event {
                tell.clear();
            }
            let _ = silent.apply(*seq, *at, &entry);
        }
        assert_eq!(rows, silent.rows().collect::<Vec<_>>(), "what tasks tell is no state");
        let mut loaded = Partition::default();
        for (key, value) in &rows {
            loaded.load(key, value).unwrap();
        }
        assert_eq!(rows, loaded.rows().collect::<Vec<_>>(), "rows read back to the same state");
        assert_eq!(self.partition.pending(), loaded.pending());
    }
}

/// All that a record tells is of a known type, and what its task tells comes whole, in order, before the rest.
fn check_facts(event: &Event, facts: &[Fact]) {
    let own: &[Told] = if let Event::AttemptFinished { tell, .. } = event { tell } else { &[] };
    assert!(facts.len() >= own.len(), "{event:?} tells {facts:?}");
    for (told, fact) in own.iter().zip(facts) {
        assert!(matches!(&fact.kind, FactKind::Told { told: heard, .. } if **heard == *told), "{told:?}: {fact:?}");
    }
    for fact in &facts[own.len()..] {
        let kind = fact.kind.event_type();
        assert!(EVENT_TYPES.contains(&kind.as_str()), "{kind} is not in the list of types");
    }
}
