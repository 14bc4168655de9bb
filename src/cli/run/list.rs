//! `patchloom run list`: the latest first, in the state and in the archive. Runs that other runs started are shown with
//! those.

use std::sync::Arc;

use patchloom_core::RunId;
use patchloom_core::record::End;
use patchloom_core::run::{Phase, Run, Status};
use patchloom_engine::runtime::Inspected;
use serde_json::{Value, json};

use super::operate::state_name;
use super::{RunListArgs, RunState};
use crate::cli::Context;
use crate::cli::store::{is_root, look, open_fault};
use crate::fault::{Exit, Fault};
use crate::output::{Column, Screen, Style, Table, text, time};

pub(super) fn run(args: &RunListArgs, context: &Context) -> Result<Exit, Fault> {
    let inspected = look(context)?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let asked = Asked::of(args);
    let (by_people, derived): (Vec<RunId>, Vec<RunId>) = inspected.ids().into_iter().partition(|id| is_root(*id));
    // Of an id that was derived from another the time cannot be read: who wants the latest reads them all.
    let derived = derived.into_iter().filter(|_| args.children || has_triggers(&inspected));
    let mut runs = Vec::new();
    for id in derived {
        let wanted = |json: &str| (args.children || json.contains("\"trigger\":")) && asked.may_have(json);
        let found = inspected.brief_where(id, wanted).map_err(open_fault)?;
        runs.extend(found.filter(|run| (args.children || run.start.parent.is_none()) && asked.is_met(run)));
    }
    let mut rest = by_people.into_iter().rev().filter(|id| asked.may_be(*id));
    let mut count = 0;
    while count < limit
        && let Some(id) = rest.next()
    {
        let found = inspected.brief_where(id, |json| asked.may_have(json)).map_err(open_fault)?;
        if let Some(run) = found.filter(|run| asked.is_met(run)) {
            runs.push(run);
            count += 1;
        }
    }
    runs.sort_by_key(|run| std::cmp::Reverse((run.started, run.id())));
    // The rest is counted without being read: of how many is asked for, is not told where they would have to be.
    let more = rest.count() + runs.len().saturating_sub(limit);
    runs.truncate(limit);
    if args.json {
        context.print_json(&runs.iter().map(|run| as_json(run)).collect::<Vec<Value>>())?;
    } else if runs.is_empty() {
        eprintln!("No such run.");
    } else {
        context.print(&render(&runs, context.out))?;
    }
    if more > 0 && asked.reads() {
        let more = text::count(more, "older run was", "older runs were");
        eprintln!("{more} not looked at; see more with --limit, or ask for less with --until, --state, --text");
    } else if more > 0 {
        let more = text::count(more, "more run", "more runs");
        eprintln!("{more}; see them with --limit, or ask for less with --since, --state, --text");
    }
    Ok(Exit::Ok)
}

/// What runs are asked for.
struct Asked<'a> {
    args: &'a RunListArgs,
    text: Option<String>,
    /// Words of which the JSON of a run that is asked for has at least one of each list.
    words: Vec<Vec<String>>,
}

/// What the JSON of a run has that is in this state, where it can be in the archive then; else none.
fn word(state: RunState) -> Option<String> {
    let end = match state {
        RunState::Succeeded => "\"succeeded\"",
        RunState::Failed => "\"failed\"",
        RunState::Compensated => "\"compensated\"",
        RunState::Cancelled => "\"cancelled\"",
        RunState::Open
        | RunState::Ended
        | RunState::Queued
        | RunState::Running
        | RunState::Paused
        | RunState::Held
        | RunState::Halting
        | RunState::Compensating
        | RunState::CompensationFailed
        | RunState::Quarantined => return None,
    };
    Some(format!("\"phase\":{{\"ended\":{end}}}"))
}

/// Whether there is a workflow that events or schedules start.
fn has_triggers(inspected: &Inspected) -> bool {
    inspected.state.definitions().any(|definition| !definition.triggers.is_empty())
}

impl<'a> Asked<'a> {
    fn of(args: &'a RunListArgs) -> Self {
        let mut words = Vec::new();
        // One that has no such word may be any run: then this says nothing.
        let states: Option<Vec<String>> = args.state.iter().map(|state| word(*state)).collect();
        words.extend(states.filter(|states| !states.is_empty()));
        words.extend(args.workflow.iter().map(|name| vec![format!("\"workflow\":{}", json!(name))]));
        words.extend(args.key.iter().map(|key| vec![format!("\"key\":{}", json!(key))]));
        words.extend(args.labels.iter().map(|(name, value)| vec![format!("{}:{}", json!(name), json!(value))]));
        // A run without any failure has none with a text.
        words.extend(args.text.iter().map(|_| vec!["\"message\":".to_owned()]));
        Self { args, text: args.text.as_ref().map(|text| text.to_lowercase()), words }
    }

    /// Whether a run must be read to know whether it is asked for.
    fn reads(&self) -> bool {
        let RunListArgs { state, workflow, since, until, labels, inputs, key, text, children: _, limit: _, json: _ } =
            self.args;
        !(state.is_empty() && labels.is_empty() && inputs.is_empty())
            || workflow.is_some()
            || since.is_some()
            || until.is_some()
            || key.is_some()
            || text.is_some()
    }

    /// Whether a run with this JSON may be asked for.
    fn may_have(&self, json: &str) -> bool {
        self.words.iter().all(|any| any.iter().any(|word| json.contains(word)))
    }

    /// Whether a run of this id may be asked for: it did not begin before its id was drawn.
    fn may_be(&self, id: RunId) -> bool {
        let Some(until) = self.args.until else { return true };
        let drawn = id.0.get_timestamp().map(|at| at.to_unix());
        drawn.is_none_or(|(seconds, nanos)| seconds * 1_000 + u64::from(nanos / 1_000_000) < until.0)
    }

    fn is_met(&self, run: &Run) -> bool {
        let args = self.args;
        let labelled = |(name, value): &(String, String)| {
            run.start.labels.get(name.as_str()).is_some_and(|found| found.as_ref() == value)
        };
        let given = |(path, value): &(String, Value)| {
            path.split('.').try_fold(&*run.inputs, |at, name| at.get(name)).is_some_and(|found| found == value)
        };
        args.workflow.as_ref().is_none_or(|name| run.start.workflow.as_ref() == name)
            && (args.state.is_empty() || args.state.iter().any(|state| is_in(run, *state)))
            && args.since.is_none_or(|since| run.started >= since)
            && args.until.is_none_or(|until| run.started < until)
            && args.key.as_ref().is_none_or(|key| run.start.key.as_deref() == Some(key))
            && args.labels.iter().all(labelled)
            && args.inputs.iter().all(given)
            && self.text.as_ref().is_none_or(|text| fails_with(run, text))
    }
}

/// Whether a failure of the run, or of one of its steps, has this text.
fn fails_with(run: &Run, text: &str) -> bool {
    let of_steps = run.steps.iter().filter_map(|step| match &step.status {
        Status::Failed(failure) | Status::Held { failure } => Some(failure),
        _ => None,
    });
    let mut failures = run.cause.iter().map(|cause| &cause.failure).chain(of_steps);
    failures.any(|failure| format!("{}: {}", failure.code, failure.message).to_lowercase().contains(text))
}

pub(super) fn is_in(run: &Run, state: RunState) -> bool {
    match state {
        RunState::Open => run.end().is_none(),
        RunState::Ended => run.end().is_some(),
        RunState::Queued => matches!(run.phase, Phase::Queued { .. }),
        RunState::Running => matches!(run.phase, Phase::Running | Phase::Closing { .. }) && run.paused.is_none(),
        RunState::Paused => run.paused.is_some() && run.end().is_none(),
        RunState::Held => run.steps.iter().any(|step| matches!(step.status, Status::Held { .. })),
        RunState::Halting => run.phase == Phase::Halting,
        RunState::Compensating => run.phase == Phase::Compensating,
        RunState::CompensationFailed => run.phase == Phase::CompensationFailed,
        RunState::Quarantined => matches!(run.phase, Phase::Quarantined { .. }),
        RunState::Succeeded => run.end() == Some(End::Succeeded),
        RunState::Failed => run.end() == Some(End::Failed),
        RunState::Compensated => run.end() == Some(End::Compensated),
        RunState::Cancelled => run.end() == Some(End::Cancelled),
    }
}

/// How the name of a phase is painted.
pub(super) fn paint(phase: &Phase) -> fn(Style, &str) -> String {
    match phase {
        Phase::Ended(End::Succeeded) => Style::green,
        Phase::Ended(End::Failed) | Phase::CompensationFailed | Phase::Quarantined { .. } => Style::red,
        Phase::Ended(End::Compensated | End::Cancelled) | Phase::Halting | Phase::Compensating => Style::yellow,
        Phase::Queued { .. } | Phase::Running | Phase::Closing { .. } => Style::cyan,
    }
}

fn render(runs: &[Arc<Run>], screen: Screen) -> String {
    let mut table = Table::new(vec![
        Column::new("RUN"),
        Column::flexible("WORKFLOW", 12),
        Column::new("STATE"),
        Column::new("STARTED"),
        Column::number("TOOK"),
        Column::flexible("WHY", 16),
    ]);
    for run in runs {
        let why = run.cause.as_ref().map(|cause| format!("{}: {}", cause.failure.code, cause.failure.message));
        table.row([
            run.id().to_string(),
            run.start.workflow.to_string(),
            state_name(run).to_owned(),
            time::local(run.started),
            run.ended.map(|ended| time::duration(ended.since(run.started))).unwrap_or_default(),
            why.unwrap_or_default(),
        ]);
        table.paint(2, paint(&run.phase));
    }
    table.render(screen)
}

fn as_json(run: &Run) -> Value {
    json!({
        "id": run.id(), "workflow": run.start.workflow, "version": run.start.version, "state": run.phase.name(),
        "open": run.end().is_none(), "paused": run.paused.is_some(), "started": time::rfc3339(run.started), "ended": run.ended.map(time::rfc3339),
        "key": run.start.key, "labels": run.start.labels, "cause": run.cause,
    })
}
