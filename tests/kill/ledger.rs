//! What the journal of a round says: read from outside, while nobody leads.

use std::collections::BTreeMap;
use std::path::Path;

use patchloom_core::record::{Batch, End, Event};
use patchloom_core::run::{Phase, Run};
use patchloom_core::{Effect, Leg, Outcome, Partition, TaskKey};

/// The journal, folded.
#[derive(Default)]
pub struct Ledger {
    /// The state after the last record.
    pub state: Partition,
    /// How often the outcome of each task stands in it.
    pub outcomes: BTreeMap<TaskKey, usize>,
    /// The runs of the lifecycle itself, as they were before they went to the archive.
    pub lifecycles: Vec<Lifecycle>,
    /// Failures that were recorded, for people.
    pub failures: Vec<String>,
}

/// A run of the lifecycle.
pub struct Lifecycle {
    pub run: Run,
    pub apply: bool,
}

impl Ledger {
    /// Reads the journal in `data`; empty where there is none yet.
    pub fn read(data: &Path) -> Result<Self, String> {
        let dir = data.join("journal");
        let mut ledger = Self::default();
        if !dir.exists() {
            return Ok(ledger);
        }
        let records = patchloom_engine::journal::records(&dir, 0).map_err(|error| format!("journal: {error}"))?;
        for record in records {
            let record = record.map_err(|error| format!("journal: {error}"))?;
            let batch: Batch = serde_json::from_slice(&record.payload).map_err(|error| format!("record: {error}"))?;
            for entry in &batch.entries {
                ledger.note(&entry.event);
                // A refused entry changes nothing.
                let _ = ledger.state.apply(record.seq, batch.at, entry);
            }
        }
        for run in ledger.state.runs().filter(|run| is_lifecycle(run)) {
            ledger.lifecycles.push(Lifecycle { apply: run.inputs["mode"] == "apply", run: run.as_ref().clone() });
        }
        Ok(ledger)
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::AttemptFinished { task, outcome, .. } => {
                *self.outcomes.entry(task.clone()).or_default() += 1;
                if let Outcome::Failed(failure) = outcome {
                    self.failures.push(format!("{task}: {} {:?} {}", failure.code, failure.class, failure.message));
                }
            }
            Event::RunRetired { run } => {
                if let Some(run) = self.state.run(*run).filter(|run| is_lifecycle(run)) {
                    let apply = run.inputs["mode"] == "apply";
                    self.lifecycles.push(Lifecycle { apply, run: run.as_ref().clone() });
                }
            }
            _ => {}
        }
    }

    /// How the one apply run ended; `None` while it is open, or was never begun.
    pub fn end(&self) -> Option<End> {
        self.applied().and_then(|lifecycle| lifecycle.run.end())
    }

    /// The apply run.
    pub fn applied(&self) -> Option<&Lifecycle> {
        self.lifecycles.iter().find(|lifecycle| lifecycle.apply)
    }

    /// Whether some run waits for an operator.
    pub fn stuck(&self) -> bool {
        let stuck = |run: &Run| matches!(run.phase, Phase::CompensationFailed | Phase::Quarantined { .. });
        self.state.runs().any(|run| stuck(run))
    }

    /// Whether a task of this type is owed, or is behind us.
    pub fn is_at_work(&self, uses: &str) -> bool {
        self.end().is_some()
            || self.state.pending().values().any(|effect| matches!(effect, Effect::Dispatch(task) if task.uses == uses))
    }

    /// What was at work when the process ended: the task that counts most.
    pub fn at_work(&self) -> String {
        let Some(applied) = self.applied() else { return "(before the run)".to_owned() };
        if applied.run.end().is_some() {
            return "(after the end)".to_owned();
        }
        let effects = self.state.pending();
        let task = effects.values().filter_map(|effect| match effect {
            Effect::Dispatch(task) => Some((task.key.leg == Leg::Undo, task.uses.clone())),
            _ => None,
        });
        task.max().map_or_else(|| "(between steps)".to_owned(), |(_, uses)| uses)
    }
}

fn is_lifecycle(run: &Run) -> bool {
    run.start.parent.is_none() && run.start.workflow.as_ref() == "patch-lifecycle"
}
