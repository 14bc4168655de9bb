//! What a run waits for, in one sentence each: the question operators ask most.

use super::{At, Live, Phase, Run, Status, Undo};
use crate::definition::{Action, Wait};
use crate::{Definition, Millis, RunId, StepName, UtcMs};

/// One thing that a run waits for.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Reason {
    /// The step, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<StepName>,
    /// The item, where the step fans out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item: Option<u32>,
    /// The child run that it hangs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub child: Option<RunId>,
    /// When it ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<UtcMs>,
    /// The sentence.
    pub text: String,
}

/// Everything that `run` waits for at `now`; never empty for a run that is not over.
#[must_use]
pub fn why(run: &Run, definition: &Definition, now: UtcMs) -> Vec<Reason> {
    let whole = |text: String| Reason { step: None, item: None, child: None, until: None, text };
    match &run.phase {
        Phase::Ended(end) => return vec![whole(format!("the run is over: {}", end.name()))],
        Phase::Quarantined { reason } => {
            return vec![whole(format!("the run is quarantined and waits for an operator: {reason}"))];
        }
        Phase::Running | Phase::Halting | Phase::Compensating | Phase::CompensationFailed => {}
    }
    let mut reasons = Vec::new();
    for at in 0..run.steps.len() {
        forward(run, definition, at, now, &mut reasons);
        undo(run, definition, at, now, &mut reasons);
    }
    reasons
}

fn forward(run: &Run, definition: &Definition, at: usize, now: UtcMs, reasons: &mut Vec<Reason>) {
    let step = &definition.steps[at];
    let state = &run.steps[at];
    match &state.status {
        Status::Waiting { due } => {
            let text = match &step.action {
                Action::Wait(Wait::Signal(wait)) => {
                    let name = &wait.name;
                    let rest = due.map(|due| format!(", for {} more", due.since(now))).unwrap_or_default();
                    format!("`{}` waits for the signal `{name}`{rest}", step.name)
                }
                _ => format!("`{}` waits for {} more", step.name, due.map_or(Millis(0), |due| due.since(now))),
            };
            reasons.push(Reason { step: Some(step.name.clone()), item: None, child: None, until: *due, text });
        }
        Status::Active => {
            let Some(work) = &state.work else { return };
            for (item, live) in &work.live {
                reasons.push(at_work(step, *item, live, "", now));
            }
            let queued = work.count - work.next;
            if queued > 0 && !work.stopping {
                let limit = step.for_each.as_ref().and_then(|for_each| for_each.max_parallel);
                let limit = limit.map(|limit| format!(" of max_parallel {limit}")).unwrap_or_default();
                let text = format!("`{}`: {queued} items wait for a place{limit}", step.name);
                reasons.push(Reason { step: Some(step.name.clone()), item: None, child: None, until: None, text });
            }
        }
        Status::Pending | Status::Done { .. } | Status::Skipped(_) | Status::Failed(_) | Status::Halted => {}
    }
}

fn undo(run: &Run, definition: &Definition, at: usize, now: UtcMs, reasons: &mut Vec<Reason>) {
    let step = &definition.steps[at];
    match &run.steps[at].undo {
        Undo::Active(undo) => {
            reasons
                .extend(undo.live.iter().map(|(item, live)| at_work(step, *item, live, "the compensation of ", now)));
        }
        Undo::Failed(undo) => {
            for (item, failure) in &undo.failed {
                let text = format!(
                    "the compensation of `{}` item {item} failed ({}: {}) and waits for an operator: run retry, or run resolve",
                    step.name, failure.code, failure.message
                );
                reasons.push(Reason {
                    step: Some(step.name.clone()),
                    item: Some(*item),
                    child: None,
                    until: None,
                    text,
                });
            }
        }
        Undo::NotNeeded | Undo::Owed | Undo::Done { .. } => {}
    }
}

fn at_work(step: &crate::Step, item: u32, live: &Live, what: &str, now: UtcMs) -> Reason {
    let place = if step.for_each.is_some() {
        format!("{what}`{}` item {item}", step.name)
    } else {
        format!("{what}`{}`", step.name)
    };
    let uses = match &step.action {
        Action::Task { uses, .. } => uses.as_ref(),
        Action::Workflow { name, .. } => name.as_ref(),
        Action::Steps(inner) => inner.name.as_ref(),
        Action::Wait(_) | Action::Set(_) | Action::Fail(_) | Action::Emit(_) => "",
    };
    let (text, until, child) = match &live.at {
        At::Out => (format!("{place} is with a worker for `{uses}` (attempt {})", live.attempt), None, None),
        At::Stopping => (format!("{place} was asked to stop; its worker has not answered yet"), None, None),
        At::Backoff { until } => {
            (format!("{place} is tried again in {} (attempt {})", until.since(now), live.attempt), Some(*until), None)
        }
        At::Child { child, stopping: true, .. } => {
            (format!("{place}: the child run {child} is on its way back"), None, Some(*child))
        }
        At::Child { child, .. } => (format!("{place} waits for the child run {child} of `{uses}`"), None, Some(*child)),
    };
    let item = step.for_each.as_ref().map(|_| item);
    Reason { step: Some(step.name.clone()), item, child, until, text }
}
