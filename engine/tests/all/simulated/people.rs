//! Those who act on the world: workers, and operators when a run waits for a person.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use patchloom_core::record::{Entry, Event};
use patchloom_core::run::Refusal;
use patchloom_core::{Failure, FailureClass, Outcome};
use patchloom_engine::queue::{Beat, Lease, TaskQueue};
use patchloom_engine::runtime::{Handle, Intake};
use patchloom_engine::sim::{LossyIntake, SimQueue};
use serde_json::{Value, json};

use super::books::Books;
use super::core_world::Dice;

pub type Line = LossyIntake<Handle>;

/// What workers need of the world.
#[derive(Clone)]
pub struct Crew {
    pub books: Books,
    /// The way to the leader of the day. No watch channel: tokio wakes its receivers in an order drawn by chance.
    pub line: Arc<Mutex<(u32, Line)>>,
    /// How willing they are, in percent.
    pub luck: Arc<AtomicU64>,
}

impl Crew {
    /// Says something until somebody answers, over all restarts.
    pub async fn say(&self, by: &str, event: Event) -> Result<u64, Refusal> {
        let entry = Entry { by: by.into(), event };
        loop {
            let (day, now) = self.line();
            match now.submit(vec![entry.clone()]).await {
                Ok(seen) => {
                    let seen = seen.into_iter().next().expect("one entry has one answer");
                    if let Ok(seq) = seen {
                        self.books.acknowledge(seq, &entry);
                    }
                    return seen;
                }
                Err(_) => {
                    while self.line().0 == day {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        }
    }

    fn line(&self) -> (u32, Line) {
        self.line.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes tasks until it is stopped; what it holds then is worked on all the same.
    pub async fn take(self, queue: SimQueue, mut dice: Dice) {
        loop {
            let max = usize::try_from(1 + dice.below(8)).unwrap();
            for lease in queue.take(max).await {
                if self.books.lock().watch.accepted.contains(&lease.task.key) {
                    self.books.wrong(format!("{} is handed out after its outcome was recorded", lease.task.key));
                }
                tokio::spawn(self.clone().work(queue.clone(), lease, Dice(dice.next())));
            }
        }
    }

    async fn work(self, queue: SimQueue, lease: Lease, mut dice: Dice) {
        let spans = if dice.percent(10) { 1 + dice.below(12) } else { 0 };
        let silent = dice.percent(20);
        tokio::time::sleep(Duration::from_millis(dice.below(3_000))).await;
        let mut outcome = None;
        for _ in 0..spans {
            tokio::time::sleep(Duration::from_secs(5)).await;
            if silent {
                continue;
            }
            match queue.beat(&lease) {
                Beat::GoOn => {}
                Beat::Stop if dice.percent(70) => outcome = Some(Outcome::Cancelled),
                Beat::Lost if dice.percent(70) => return,
                Beat::Stop | Beat::Lost => {}
            }
        }
        let outcome = outcome.unwrap_or_else(|| self.outcome(&mut dice));
        let Some(outcome) = queue.settle(&lease, outcome) else { return };
        // It may be refused as known: then another worker was faster.
        let _ =
            self.say("worker:sim", Event::AttemptFinished { task: lease.task.key, outcome, tell: Vec::new() }).await;
    }

    fn outcome(&self, dice: &mut Dice) -> Outcome {
        if dice.percent(self.luck.load(Ordering::Relaxed)) {
            let output = if dice.percent(50) { json!({"n": dice.below(9)}) } else { Value::Null };
            return Outcome::Succeeded { output };
        }
        let class = match dice.below(10) {
            0 => return Outcome::Cancelled,
            1..4 => FailureClass::Permanent,
            4 => FailureClass::Ambiguous,
            _ => FailureClass::Transient,
        };
        let message = "did not work".into();
        Outcome::Failed(Failure { code: "X1".into(), class, message, details: Value::Null })
    }
}
