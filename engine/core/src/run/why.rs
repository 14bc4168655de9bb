//! What a run waits for, in one sentence each: the question operators ask most.

use super::{At, Limit, Live, Phase, Run, Status, Undo, WaveAt, Work};
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
        Phase::Quarantined { reason, .. } => {
            return vec![whole(format!("the run is quarantined and waits for an operator: {reason}"))];
        }
        Phase::Queued { group } => {
            return vec![whole(format!("the run waits for a place in the concurrency group `{group}`"))];
        }
        Phase::Running | Phase::Halting | Phase::Closing { .. } | Phase::Compensating | Phase::CompensationFailed => {}
    }
    let mut reasons = Vec::new();
    if let Some(hold) = &run.paused {
        let text =
            format!("the run is paused since {} and waits for run resume: {}", now.since(hold.since), hold.reason);
        reasons.push(whole(text));
    }
    for at in 0..run.steps.len() {
        forward(run, definition, at, now, &mut reasons);
        undo(run, definition, at, now, &mut reasons);
    }
    reasons
}

fn forward(run: &Run, definition: &Definition, at: usize, now: UtcMs, reasons: &mut Vec<Reason>) {
    let step = &definition.steps[at];
    let state = &run.steps[at];
    let of_step = |until: Option<UtcMs>, text: String| Reason {
        step: Some(step.name.clone()),
        item: None,
        child: None,
        until,
        text,
    };
    let needs_over = step.needs.iter().all(|need| run.steps[*need].status.is_settled());
    if !state.status.is_settled() && (needs_over || state.work.is_some()) {
        for hold in &state.holds {
            let which = hold.when.as_ref().map(|when| format!(": items where {when}")).unwrap_or_default();
            let text = format!("`{}`{which} is paused since {}: {}", step.name, now.since(hold.since), hold.reason);
            reasons.push(of_step(None, text));
        }
    }
    match &state.status {
        Status::Waiting { due } => {
            let rest = due.map(|due| format!(", for {} more", due.since(now))).unwrap_or_default();
            let text = match &step.action {
                Action::Wait(Wait::Signal(wait)) if wait.quorum > 1 => {
                    let got = state.votes.len();
                    format!(
                        "`{}` waits for the signal `{}` from {got} of {} senders{rest}",
                        step.name, wait.name, wait.quorum
                    )
                }
                Action::Wait(Wait::Signal(wait)) => {
                    format!("`{}` waits for the signal `{}`{rest}", step.name, wait.name)
                }
                Action::Wait(Wait::Event(wait)) => format!("`{}` waits for the event `{}`{rest}", step.name, wait.kind),
                Action::Wait(Wait::Window(_)) => match due {
                    Some(due) => format!("`{}` waits for its window, which opens in {}", step.name, due.since(now)),
                    None => format!("`{}` waits for its window, which never opens as far as is known", step.name),
                },
                _ => format!("`{}` waits for {} more", step.name, due.map_or(Millis(0), |due| due.since(now))),
            };
            reasons.push(of_step(*due, text));
        }
        Status::Held { failure } => {
            let text = format!(
                "`{}` failed ({}: {}) and waits for an operator: run decide retry, skip or fail",
                step.name, failure.code, failure.message
            );
            reasons.push(of_step(None, text));
        }
        Status::Active => {
            let Some(work) = &state.work else { return };
            for (item, live) in work.live.iter().filter(|(_, live)| live.at != At::Ready) {
                reasons.push(at_work(step, *item, live, "", now));
            }
            reasons.extend(in_line(step, work, now).into_iter().map(|(until, text)| of_step(until, text)));
        }
        Status::Pending | Status::Done { .. } | Status::Skipped(_) | Status::Failed(_) | Status::Halted => {}
    }
}

/// What the items of a step stand in line for.
fn in_line(step: &crate::Step, work: &Work, now: UtcMs) -> Vec<(Option<UtcMs>, String)> {
    let mut found = Vec::new();
    if let Some(wave) = &work.wave {
        let name = step.for_each.as_ref().and_then(|for_each| for_each.waves.get(usize::try_from(wave.index).ok()?));
        let name = name.map_or("the rest", |wave| wave.name.as_ref());
        match wave.at {
            WaveAt::Working => {}
            WaveAt::Soaking { until } => {
                found.push((
                    Some(until),
                    format!("`{}`: the wave {name} soaks for {} more", step.name, until.since(now)),
                ));
            }
            WaveAt::Gated { due } => {
                let signal = step.for_each.as_ref().and_then(|for_each| {
                    for_each.waves.get(usize::try_from(wave.index).ok()?)?.gate.as_ref()?.signal.clone()
                });
                let signal = signal.unwrap_or_default();
                let text = format!("`{}`: the gate behind the wave {name} waits for the signal `{signal}`", step.name);
                found.push((due, text));
            }
        }
    }
    if let Some(limit) = work.lanes.wide() {
        let opens = work.lanes.opens(limit);
        found.push((opens, format!("`{}` waits for {}", step.name, limit_words(step, limit, opens, now))));
    }
    for (limit, count) in work.lanes.lines() {
        let opens = work.lanes.opens(limit);
        let what = limit_words(step, limit, opens, now);
        found.push((opens, format!("`{}`: {count} items wait for {what}", step.name)));
    }
    let queued = work.bound().saturating_sub(work.next);
    if queued > 0 && !work.stopping && !work.draining && work.lanes.wide().is_none() {
        let limit = step.for_each.as_ref().and_then(|for_each| for_each.max_parallel);
        let limit = limit.map(|limit| format!(" of max_parallel {limit}")).unwrap_or_default();
        found.push((None, format!("`{}`: {queued} items wait for a place{limit}", step.name)));
    }
    found
}

fn limit_words(step: &crate::Step, limit: &Limit, opens: Option<UtcMs>, now: UtcMs) -> String {
    let (kind, key) = limit.parts();
    let when = opens.map(|opens| format!(", which opens in {}", opens.since(now)));
    match kind {
        "g" => format!("a place in the concurrency group `{key}`"),
        "r" => format!("the rate `{key}`{}", when.unwrap_or_default()),
        "w" => {
            let (expected, name) = key.split_once(':').unwrap_or(("0s", key));
            let name = name.split_once('/').map_or(name, |(_, name)| name);
            let fit = if expected == "0s" { String::new() } else { format!(" with {expected} left before the cutoff") };
            format!(
                "the window `{name}`{fit}{}",
                when.unwrap_or_else(|| ", which never opens as far as is known".into())
            )
        }
        "h" => format!("run resume (items where {key})"),
        _ => {
            let nth = kind.strip_prefix('p').and_then(|nth| nth.parse::<usize>().ok());
            let per = step.for_each.as_ref().and_then(|for_each| for_each.per.get(nth?));
            let limit = per.map(|per| format!(", at most {} at once", per.limit)).unwrap_or_default();
            format!("others with the key `{key}`{limit}")
        }
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
        At::Ready => (format!("{place} waits for a place (attempt {})", live.attempt), None, None),
        At::Out if matches!(step.action, Action::Emit(_)) => (format!("{place} is being published"), None, None),
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
