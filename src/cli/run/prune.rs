//! `patchloom run prune`: takes runs that are over from the archive for good, each with the runs below it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::anyhow;
use clap::Args;
use patchloom_core::run::Run;
use patchloom_core::{Millis, RunId};
use patchloom_engine::runtime::Inspected;
use serde_json::json;

use super::RunState;
use super::list::is_in;
use crate::cli::Context;
use crate::cli::run::act;
use crate::cli::store::{look, open_fault};
use crate::confirm;
use crate::fault::{Exit, Fault};
use crate::host::engine_fault;
use crate::output::{Column, Table, text, time};

/// How many runs are shown at most.
const SHOWN_MAX: usize = 20;

/// Takes runs from the archive.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom run prune --older-than 90d --dry-run\n",
    "  patchloom run prune --older-than 30d --state succeeded --workflow scan --yes\n\n",
    "Only runs in the archive go: those that are open, or failed in the last 7 days, are not there yet. What goes is\n",
    "gone, with its history. A workflow may say itself how long its runs are kept: retention: 90d.\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct RunPruneArgs {
    /// Only runs that ended so long ago, such as 90d
    #[arg(long, value_name = "DURATION")]
    pub older_than: Millis,
    /// Only runs in one of these states; several with commas
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    pub state: Vec<RunState>,
    /// Only runs of this workflow
    #[arg(long, value_name = "NAME")]
    pub workflow: Option<String>,
    /// Show what would go, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Print what goes as JSON
    #[arg(long)]
    pub json: bool,
}

/// What is to go.
struct Plan {
    /// Runs that nobody's run started, oldest first.
    roots: Vec<Arc<Run>>,
    /// They and all below them.
    all: BTreeSet<RunId>,
}

pub(super) fn run(args: &RunPruneArgs, context: &Context) -> Result<Exit, Fault> {
    let plan = plan(args, &look(context)?)?;
    if args.json {
        let roots = plan.roots.iter().map(|run| {
            json!({
                "id": run.id(), "workflow": run.start.workflow, "state": run.phase.name(),
                "ended": run.ended.map(time::rfc3339),
            })
        });
        let roots: Vec<serde_json::Value> = roots.collect();
        context.print_json(&json!({ "dry_run": args.dry_run, "runs": plan.all.len(), "roots": roots }))?;
    } else {
        context.print(&render(&plan, context))?;
    }
    let many = counted(&plan);
    if args.dry_run || plan.all.is_empty() {
        eprintln!("{many} would go; nothing was changed");
        return Ok(Exit::Ok);
    }
    if !args.yes && !confirm::ask(&format!("take {many} from the archive for good?"))? {
        eprintln!("Nothing was changed.");
        return Ok(Exit::Ok);
    }
    let runs = plan.all.clone();
    let gone = act::reach(context, async |handle, _| handle.forget(runs).await.map_err(engine_fault))?;
    eprintln!("{} went from the archive", text::count(gone, "run", "runs"));
    // One that came back meanwhile, to go again, stays.
    match gone == plan.all.len() {
        true => Ok(Exit::Ok),
        false => {
            let error = anyhow!("{} stayed", text::count(plan.all.len() - gone, "run", "runs"));
            Err(Fault::new("E0303", Exit::Failed, error).hint("they are in use again: see `patchloom run list`"))
        }
    }
}

fn plan(args: &RunPruneArgs, inspected: &Inspected) -> Result<Plan, Fault> {
    let now = time::now();
    let mut below: BTreeMap<RunId, Vec<RunId>> = BTreeMap::new();
    let mut roots: Vec<Arc<Run>> = Vec::new();
    for id in inspected.ids().into_iter().filter(|id| inspected.is_archived(*id)) {
        let Some(run) = inspected.brief(id).map_err(open_fault)? else { continue };
        match &run.start.parent {
            Some(link) => below.entry(link.run).or_default().push(id),
            None if is_meant(args, &run, now) => roots.push(run),
            None => {}
        }
    }
    roots.sort_by_key(|run| (run.ended, run.id()));
    let mut all = BTreeSet::new();
    let mut open: Vec<RunId> = roots.iter().map(|run| run.id()).collect();
    while let Some(id) = open.pop() {
        all.insert(id);
        open.extend(below.remove(&id).unwrap_or_default());
    }
    Ok(Plan { roots, all })
}

fn is_meant(args: &RunPruneArgs, run: &Run, now: patchloom_core::UtcMs) -> bool {
    let ended = run.ended.unwrap_or(run.started);
    now.since(ended) >= args.older_than
        && args.workflow.as_ref().is_none_or(|name| run.start.workflow.as_ref() == name)
        && (args.state.is_empty() || args.state.iter().any(|state| is_in(run, *state)))
}

fn counted(plan: &Plan) -> String {
    let below = plan.all.len() - plan.roots.len();
    let roots = text::count(plan.roots.len(), "run", "runs");
    if below == 0 { roots } else { format!("{roots} and {below} below") }
}

fn render(plan: &Plan, context: &Context) -> String {
    if plan.roots.is_empty() {
        return String::new();
    }
    let mut table = Table::new(vec![
        Column::new("RUN"),
        Column::flexible("WORKFLOW", 12),
        Column::new("STATE"),
        Column::new("ENDED"),
    ]);
    for run in plan.roots.iter().take(SHOWN_MAX) {
        table.row([
            run.id().to_string(),
            run.start.workflow.to_string(),
            run.phase.name().to_owned(),
            run.ended.map(time::local).unwrap_or_default(),
        ]);
    }
    let more = plan.roots.len().saturating_sub(SHOWN_MAX);
    let more = if more == 0 { String::new() } else { format!("and {}\n", text::count(more, "more run", "more runs")) };
    table.render(context.out) + &more
}
