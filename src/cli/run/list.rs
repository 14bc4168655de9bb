//! `patchloom run list`: the latest first. Runs that other runs started are shown with those.

use std::sync::Arc;

use patchloom_core::record::End;
use patchloom_core::run::{Phase, Run};
use serde_json::{Value, json};

use super::{RunListArgs, RunState};
use crate::cli::Context;
use crate::cli::store::{is_root, look, open_fault};
use crate::fault::{Exit, Fault};
use crate::output::{Column, Screen, Style, Table, time};

pub(super) fn run(args: &RunListArgs, context: &Context) -> Result<Exit, Fault> {
    let inspected = look(context)?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut runs = Vec::new();
    for id in inspected.ids().into_iter().rev().filter(|id| is_root(*id)) {
        if runs.len() == limit {
            break;
        }
        if let Some((run, _)) = inspected.run(id).map_err(open_fault)?
            && wanted(&run, args)
        {
            runs.push(run);
        }
    }
    if args.json {
        context.print_json(&runs.iter().map(|run| as_json(run)).collect::<Vec<Value>>())?;
    } else if runs.is_empty() {
        eprintln!("No such run.");
    } else {
        context.print(&render(&runs, context.out))?;
    }
    Ok(Exit::Ok)
}

fn wanted(run: &Run, args: &RunListArgs) -> bool {
    let state = match args.state {
        None => true,
        Some(RunState::Open) => run.end().is_none(),
        Some(RunState::Succeeded) => run.end() == Some(End::Succeeded),
        Some(RunState::Failed) => run.end() == Some(End::Failed),
        Some(RunState::Compensated) => run.end() == Some(End::Compensated),
        Some(RunState::Cancelled) => run.end() == Some(End::Cancelled),
    };
    state && args.workflow.as_ref().is_none_or(|name| run.start.workflow.as_ref() == name)
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
            run.phase.name().to_owned(),
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
        "open": run.end().is_none(), "started": time::rfc3339(run.started), "ended": run.ended.map(time::rfc3339),
        "key": run.start.key, "labels": run.start.labels, "cause": run.cause,
    })
}
