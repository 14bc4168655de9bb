//! Following a run until it comes to rest: led by this process, or by another one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use patchloom_core::run::{At, Live, Phase, Run, Status, StepRun, Undo, WaveAt, Work};
use patchloom_core::{Action, Definition, Partition, RunId, SignalWait, Step, Wait};
use patchloom_engine::runtime::inspect;

use super::show::counts;
use crate::cli::Context;
use crate::cli::store::open_fault;
use crate::fault::{Exit, Fault};
use crate::host::{Host, TaskProgress, engine_fault};
use crate::output::time;
use crate::progress::{Progress, StepLine, StepState};

/// How often the picture is drawn while something moves.
const FRAME: Duration = Duration::from_millis(100);
/// How often a run that another process leads is looked at: each look reads the journal.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Of how many child runs it is told what they do.
const CHILDREN_TOLD: usize = 3;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// Work only: where nothing but a person can help, it is over.
    Work,
    /// People too: they may decide in another process.
    People,
}

/// How a run came to rest.
#[derive(Debug)]
pub(super) enum Rest {
    /// It ended, or waits for an operator.
    Over(Arc<Run>),
    /// Nothing but signals can move it.
    Waits,
    /// Somebody interrupted this process.
    Interrupted,
}

fn unknown(id: RunId) -> Fault {
    Fault::new("E0304", Exit::BadInput, anyhow!("no run has the id {id}"))
}

/// Drives a run that this process leads.
pub(super) async fn drive(host: &Host, id: RunId, patience: Patience, context: &Context) -> Result<Rest, Fault> {
    let mut notices = host.handle().watch();
    let tasks = host.progress();
    let mut progress = Progress::new(std::io::stderr(), context.talk);
    let mut interrupts = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let now = tasks.borrow().clone();
        let seen = host
            .handle()
            .read(move |state| {
                let run = Arc::clone(state.run(id)?);
                let definition = Arc::clone(state.definition(&run.start.version)?);
                Some((picture(state, &run, &definition, &now), only_people(state, id), run))
            })
            .await
            .map_err(engine_fault)?;
        let (lines, stuck, run) = match seen {
            Some(seen) => seen,
            None => {
                let (run, _) = host.find(id).await?.ok_or_else(|| unknown(id))?;
                return Ok(Rest::Over(run));
            }
        };
        // What cannot be shown is no reason to stop.
        drop(progress.show(&lines));
        let rest = match &run.phase {
            Phase::Ended(_) | Phase::CompensationFailed | Phase::Quarantined { .. } => Some(Rest::Over(run)),
            Phase::Queued { .. } | Phase::Running | Phase::Halting | Phase::Closing { .. } | Phase::Compensating => {
                (stuck && patience == Patience::Work).then_some(Rest::Waits)
            }
        };
        if let Some(rest) = rest {
            drop(progress.finish(&lines));
            return Ok(rest);
        }
        // Cancel-safe: each of them only wakes the loop, which looks at the state again.
        tokio::select! {
            biased;
            _ = interrupts.as_mut() => {
                drop(progress.finish(&lines));
                return Ok(Rest::Interrupted);
            }
            _ = notices.recv() => {}
            () = tokio::time::sleep(FRAME) => {}
        }
    }
}

/// Follows a run that another process leads. The journal is files: nothing tells of a change in them.
pub(super) fn look_on(data: &Path, id: RunId, context: &Context) -> Result<Rest, Fault> {
    let mut progress = Progress::new(std::io::stderr(), context.talk);
    loop {
        let inspected = inspect(data).map_err(open_fault)?;
        let (run, definition) = inspected.run(id).map_err(open_fault)?.ok_or_else(|| unknown(id))?;
        let lines = picture(&inspected.state, &run, &definition, &TaskProgress::new());
        drop(progress.show(&lines));
        if matches!(run.phase, Phase::Ended(_) | Phase::CompensationFailed | Phase::Quarantined { .. }) {
            drop(progress.finish(&lines));
            return Ok(Rest::Over(run));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// How deep it is followed who holds up whom.
const DEPTH_MAX: usize = 16;

/// Whether nothing but signals and orders can move the run or the runs under it.
fn only_people(state: &Partition, id: RunId) -> bool {
    held_by_people(state, id, 0)
}

fn held_by_people(state: &Partition, id: RunId, depth: usize) -> bool {
    let Some(run) = state.run(id) else { return false };
    let Some(definition) = state.definition(&run.start.version) else { return true };
    match &run.phase {
        Phase::Quarantined { .. } | Phase::CompensationFailed => return true,
        _ if depth >= DEPTH_MAX => return true,
        _ if run.paused.is_some() => return true,
        Phase::Ended(_) => return false,
        Phase::Queued { group } => {
            let mut holders = state.runs().filter(|holder| holder.place.as_ref() == Some(group)).peekable();
            return holders.peek().is_some() && holders.all(|holder| held_by_people(state, holder.id(), depth + 1));
        }
        Phase::Running | Phase::Halting | Phase::Closing { .. } | Phase::Compensating => {}
    }
    let mut waits = false;
    for (step, at) in definition.steps.iter().zip(&run.steps) {
        let live: Vec<&Live> = match (&at.status, &at.undo, &at.work) {
            (_, Undo::Active(undo), _) => undo.live.values().collect(),
            (Status::Active, _, Some(work)) => {
                if work.live.is_empty() {
                    match stands_still(at, work) {
                        true => waits = true,
                        false => return false,
                    }
                }
                work.live.values().collect()
            }
            (Status::Waiting { .. }, ..) => match &step.action {
                Action::Wait(Wait::Signal(_) | Wait::Event(_)) => {
                    waits = true;
                    continue;
                }
                _ => return false,
            },
            (Status::Held { .. }, ..) => {
                waits = true;
                continue;
            }
            _ => continue,
        };
        for one in live {
            match &one.at {
                At::Child { child, started: true, .. } if held_by_people(state, *child, depth + 1) => waits = true,
                At::Ready => {}
                At::Child { .. } | At::Out | At::Stopping | At::Backoff { .. } => return false,
            }
        }
    }
    waits
}

/// Whether a fan-out with nothing at work waits for a person: at a gate, or because it is paused.
fn stands_still(at: &StepRun, work: &Work) -> bool {
    let gated = work.wave.as_ref().is_some_and(|wave| matches!(wave.at, WaveAt::Gated { .. }));
    let whole = at.holds.iter().any(|hold| hold.when.is_none());
    let only_held = work.lanes.lines().count() > 0 && work.lanes.lines().all(|(limit, _)| limit.parts().0 == "h");
    gated || whole || only_held
}

fn picture(state: &Partition, run: &Run, definition: &Definition, tasks: &TaskProgress) -> Vec<StepLine> {
    let steps = definition.steps.iter().zip(&run.steps);
    steps
        .map(|(step, at)| {
            let shown = shown(at);
            let moving = !shown.is_settled() && shown != StepState::Pending;
            StepLine {
                name: step.name.to_string(),
                state: shown,
                fraction: fan_out(at).filter(|_| moving).map(fraction),
                text: if moving { activity(state, run, step, at, tasks) } else { failure(at) },
                elapsed: moving.then(|| time::now().since(at.since)),
            }
        })
        .collect()
}

fn fan_out(at: &StepRun) -> Option<&Work> {
    at.work.as_deref().filter(|work| !work.items.is_empty())
}

/// How much of a fan-out has come to its end, in steps of a thousandth.
fn fraction(work: &Work) -> f32 {
    let ended = u64::from(work.done) + u64::try_from(work.failed.len()).unwrap_or(0);
    let share = ended.saturating_mul(1_000) / u64::from(work.count.max(1));
    f32::from(u16::try_from(share.min(1_000)).unwrap_or(1_000)) / 1_000.0
}

fn shown(at: &StepRun) -> StepState {
    let backs_off = at.work.as_ref().is_some_and(|work| {
        !work.live.is_empty() && work.live.values().all(|live| matches!(live.at, At::Backoff { .. }))
    });
    match (&at.undo, &at.status) {
        (Undo::Owed | Undo::Active(_), _) => StepState::Undoing,
        (Undo::Done { .. }, _) => StepState::Undone,
        (Undo::Failed(_), _) => StepState::UndoFailed,
        (Undo::NotNeeded, Status::Pending) => StepState::Pending,
        (Undo::NotNeeded, Status::Active) if backs_off => StepState::Retrying,
        (Undo::NotNeeded, Status::Active) => StepState::Running,
        (Undo::NotNeeded, Status::Waiting { .. } | Status::Held { .. }) => StepState::Waiting,
        (Undo::NotNeeded, Status::Done { .. }) => StepState::Succeeded,
        (Undo::NotNeeded, Status::Skipped(_)) => StepState::Skipped,
        (Undo::NotNeeded, Status::Failed(_)) => StepState::Failed,
        (Undo::NotNeeded, Status::Halted) => StepState::Cancelled,
    }
}

fn failure(at: &StepRun) -> String {
    match &at.status {
        Status::Failed(failure) | Status::Held { failure } => format!("{}: {}", failure.code, failure.message),
        Status::Pending
        | Status::Active
        | Status::Waiting { .. }
        | Status::Done { .. }
        | Status::Skipped(_)
        | Status::Halted => String::new(),
    }
}

/// What a step does right now: what its workers say, or which steps of its child runs are at work.
fn activity(state: &Partition, run: &Run, step: &Step, at: &StepRun, tasks: &TaskProgress) -> String {
    let mut words: Vec<String> = tasks
        .iter()
        .filter(|(task, progress)| task.run == run.id() && task.step == step.name && !progress.text.is_empty())
        .map(|(_, progress)| progress.text.clone())
        .collect();
    if let (Status::Waiting { .. }, Action::Wait(Wait::Signal(SignalWait { name, .. }))) = (&at.status, &step.action) {
        words.push(format!("the signal {name}"));
    }
    if let Status::Held { failure } = &at.status {
        words.push(format!("waits for a decision: {}: {}", failure.code, failure.message));
    }
    if let Some(hold) = &run.paused {
        words.push(format!("paused: {}", hold.reason));
    }
    words.extend(at.holds.iter().map(|hold| format!("paused: {}", hold.reason)));
    if let Some(work) = fan_out(at) {
        words.insert(0, counts(step, work));
    }
    for live in at.work.iter().flat_map(|work| work.live.values()).take(CHILDREN_TOLD) {
        let At::Child { child, .. } = &live.at else { continue };
        let Some(run) = state.run(*child) else { continue };
        if let Phase::Queued { group } = &run.phase {
            words.push(format!("queued for a place in {group}"));
            continue;
        }
        let Some(definition) = state.definition(&run.start.version) else { continue };
        for (step, at) in definition.steps.iter().zip(&run.steps) {
            if matches!(at.status, Status::Active | Status::Waiting { .. }) || matches!(at.undo, Undo::Active(_)) {
                let inner = activity(state, run, step, at, tasks);
                words.push(if inner.is_empty() { step.name.to_string() } else { format!("{}: {inner}", step.name) });
            }
        }
    }
    words.join(", ")
}
