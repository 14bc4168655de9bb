//! The picture of a lifecycle run: a line per step.

use patchloom_core::record::End;
use patchloom_core::run::{At, Run, Skip, Status, Undo};
use patchloom_core::{Action, Definition, StepName, UtcMs};

use super::facts;
use super::tree::{Node, Tree};
use crate::host::TaskProgress;
use crate::progress::{StepLine, StepState};

/// What a step of the lifecycle is called.
#[must_use]
pub(super) fn title(step: &str) -> &str {
    match step {
        "scan" => "Scan",
        "correlate" => "Correlate",
        "change" => "Change request",
        "prepare" => "Backup and check",
        "patch" => "Patch",
        "verify" => "Verify and close",
        "cleanup" => "Clean up",
        "discover" => "Look at hosts",
        "plan" => "Plan",
        "open" => "Change request",
        "approved" => "Approval",
        "authorize" => "Authorize",
        "opens" => "Window",
        "look_again" => "Look again",
        "replan" => "Compare with the approval",
        "tell_drift" => "Tell what differs",
        "reopen" => "Void the approval",
        "approved_again" => "Approval of the new plan",
        "authorize_again" => "Authorize the new plan",
        "implement" => "Begin",
        "waves" => "Waves",
        "paused" => "Look for what was paused",
        "probe" => "Ask what was paused",
        "resumed" => "Go on with what was paused",
        "close" => "Close",
        other => other,
    }
}

/// Steps for what does not happen as a rule: nobody needs a line of theirs that says so.
fn is_exceptional(step: &str) -> bool {
    matches!(step, "tell_drift" | "reopen" | "approved_again" | "authorize_again" | "paused" | "probe" | "resumed")
}

/// The lines, in the order of the lifecycle.
pub(super) fn of(tree: &Tree, tasks: &TaskProgress, now: UtcMs) -> Vec<StepLine> {
    let steps = tree.root.definition.steps.iter().zip(&tree.root.run.steps).zip(&tree.children);
    steps
        .filter(|((step, state), _)| {
            let begun = !matches!(state.status, Status::Pending | Status::Skipped(_));
            begun || !is_exceptional(step.name.as_str())
        })
        .map(|((step, state), child)| {
            let at_work = state.work.as_ref().is_some_and(|work| !work.live.is_empty());
            let undoing = matches!(state.undo, Undo::Active(_) | Undo::Owed);
            let shown = shown(&state.status, &state.undo, child.as_ref());
            let settled = shown.is_settled();
            let (fraction, activity) = match child {
                Some(child) if (at_work || undoing) && !settled => activity(child, tasks),
                _ => (share(state), own_activity(&tree.root.run, &step.name, tasks)),
            };
            let text = if settled { facts::line(tree, step.name.as_str()) } else { activity };
            let elapsed = child.as_ref().map(|child| child.run.ended.unwrap_or(now).since(child.run.started));
            StepLine { name: title(step.name.as_str()).to_owned(), state: shown, fraction, text, elapsed }
        })
        .collect()
}

pub(super) fn shown(status: &Status, undo: &Undo, child: Option<&Node>) -> StepState {
    match undo {
        Undo::Owed | Undo::Active(_) => return StepState::Undoing,
        Undo::Done { .. } => return StepState::Undone,
        Undo::Failed(_) => return StepState::UndoFailed,
        Undo::NotNeeded => {}
    }
    let child_end = child.and_then(|child| child.run.end());
    let waits =
        child.is_some_and(|child| child.run.steps.iter().any(|step| matches!(step.status, Status::Waiting { .. })));
    let retries = child.is_some_and(|child| {
        child
            .run
            .steps
            .iter()
            .filter_map(|step| step.work.as_ref())
            .any(|work| work.live.values().any(|live| matches!(live.at, At::Backoff { .. })))
    });
    match status {
        Status::Pending => StepState::Pending,
        Status::Active if waits => StepState::Waiting,
        Status::Active if retries => StepState::Retrying,
        Status::Active if child.is_some_and(|child| child.run.cause.is_some()) => StepState::Undoing,
        Status::Active => StepState::Running,
        Status::Waiting { .. } | Status::Held { .. } => StepState::Waiting,
        Status::Done { .. } => StepState::Succeeded,
        Status::Skipped(Skip::Condition | Skip::Upstream | Skip::Halted | Skip::Operator) => StepState::Skipped,
        Status::Failed(_) if child_end == Some(End::Compensated) => StepState::Undone,
        Status::Failed(_) => StepState::Failed,
        Status::Halted => StepState::Cancelled,
    }
}

/// Which part of a fan-out's items is over.
fn share(state: &patchloom_core::run::StepRun) -> Option<f32> {
    let work = state.work.as_ref().filter(|work| work.count > 1)?;
    let over = f64::from(work.done) + f64::from(u32::try_from(work.failed.len()).unwrap_or(u32::MAX));
    #[expect(clippy::cast_possible_truncation, reason = "a share between 0 and 1")]
    let share = (over / f64::from(work.count)).clamp(0.0, 1.0) as f32;
    Some(share)
}

/// How far a child run is, and what it does right now.
fn activity(child: &Node, tasks: &TaskProgress) -> (Option<f32>, String) {
    let count = child.run.steps.len().max(1);
    let mut done = child.run.steps.iter().filter(|step| step.status.is_settled()).map(|_| 1.0_f64).sum::<f64>();
    let mut words = Vec::new();
    for (task, progress) in tasks.iter().filter(|(task, _)| task.run == child.run.id()) {
        done += progress.fraction.clamp(0.0, 1.0);
        words.push(if progress.text.is_empty() { task.step.to_string() } else { progress.text.clone() });
    }
    if words.is_empty() {
        words = busy(&child.run, &child.definition);
    }
    let total = u32::try_from(count).unwrap_or(u32::MAX);
    #[expect(clippy::cast_possible_truncation, reason = "a share between 0 and 1")]
    let share = (done / f64::from(total)).clamp(0.0, 1.0) as f32;
    (Some(share), words.join(", "))
}

fn own_activity(run: &Run, step: &StepName, tasks: &TaskProgress) -> String {
    let own = tasks.iter().find(|(task, _)| task.run == run.id() && task.step == *step);
    own.map(|(_, progress)| progress.text.clone()).unwrap_or_default()
}

/// The steps that something is done for.
fn busy(run: &Run, definition: &Definition) -> Vec<String> {
    let steps = definition.steps.iter().zip(&run.steps);
    steps
        .filter_map(|(step, state)| match (&state.status, &state.undo) {
            (_, Undo::Active(_)) => Some(format!("undoing {}", step.name)),
            (Status::Waiting { .. }, _) => Some(match &step.action {
                Action::Wait(_) => "waiting for a decision: patchloom change approve".to_owned(),
                _ => format!("waiting: {}", step.name),
            }),
            (Status::Active, _) => Some(step.name.to_string()),
            _ => None,
        })
        .collect()
}
