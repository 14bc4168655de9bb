//! `patchloom plan`: who is patched when, in which wave and window, what will not fit, and how it may end.

mod drift;
mod groups;
mod read;
mod rules;
mod show;
#[cfg(test)]
mod tests;
mod windows;

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use patchloom_domain::{
    CampaignPlan, Forecast, Instant, LeftOutReason, Limits, Mode, PlanInput, PlanSettings, SimulationSettings,
    WaveSize, plan_campaign, simulate,
};
use patchloom_workers::campaign::{History, HistoryStore};
use serde_json::json;

use super::Context;
use crate::fault::{Exit, Fault};
use crate::output::time;

pub use drift::PlanDiffArgs;
pub use rules::{CutoffChoice, RebootChoice, RuleArgs};
pub use show::PlanShowArgs;

/// Works with campaign plans.
#[derive(Clone, Debug, Subcommand)]
pub enum PlanCommand {
    /// Show a plan that was written with --output
    Show(PlanShowArgs),
    /// Tell what differs between two plans, and whether it needs a new approval
    Diff(PlanDiffArgs),
}

/// How a simulation goes.
#[derive(Clone, Debug, Args)]
pub struct SimulateArgs {
    /// Estimate the chance that everybody is through in time
    #[arg(long)]
    pub simulate: bool,
    /// Where the numbers of the simulation come from
    #[arg(long, value_name = "N", default_value = "1")]
    pub seed: u64,
    /// How many times the campaign goes through
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rounds: u32,
    /// How often a failed host is tried again in the simulation
    #[arg(long, value_name = "N", default_value = "1")]
    pub retries: u32,
    /// More failures than that halt the campaign in the simulation: a number, or a percentage
    #[arg(long, value_name = "SIZE", default_value = "10%", value_parser = rules::size)]
    pub tolerate: WaveSize,
}

/// Plans a campaign.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom plan --inventory hosts.yaml --missing missing.json --calendar calendars.yaml/night\n",
    "  patchloom plan --inventory h.json --missing m.json --calendar c.yaml --output plan.json\n",
    "  patchloom plan --inventory h.json --missing m.json --calendar c.yaml/night --simulate\n",
    "\nWaves are written --waves '[{name: canary, size: 1%, soak: 30m}, {name: broad, size: 100%}]'.\n",
    "Ends with 0 where everybody who lacks an approved patch is planned, with 1 where somebody does not fit in.\n",
    "docs/planning.md describes the files and the rules.\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct PlanArgs {
    /// What to do with plans that were made.
    #[command(subcommand)]
    pub command: Option<PlanCommand>,
    /// The inventory: hosts in YAML, CSV or JSON, an Ansible inventory, answers of AWS
    #[arg(long, value_name = "FILE")]
    pub inventory: Vec<PathBuf>,
    /// What the hosts lack, as JSON
    #[arg(long, value_name = "FILE")]
    pub missing: Vec<PathBuf>,
    /// Waves, windows, limits and baselines.
    #[command(flatten)]
    pub rules: RuleArgs,
    /// At most so many hosts at work at once
    #[arg(long, value_name = "N", default_value = "50", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_parallel: u32,
    /// At most so many in one site
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub per_site: Option<u32>,
    /// Plan as of this instant [default: now]
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// What patching took before: samples as JSON, or a model written with --model [default: what campaigns here took]
    #[arg(long, value_name = "FILE")]
    pub history: Option<PathBuf>,
    /// Write what was learned of the history to this file
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Versions that are held for the whole fleet, as JSON
    #[arg(long, value_name = "FILE")]
    pub holds: Option<PathBuf>,
    /// Plan a campaign that changes nothing on any host
    #[arg(long)]
    pub observe: bool,
    /// Write the plan to this file
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// How the simulation goes.
    #[command(flatten)]
    pub simulation: SimulateArgs,
    /// How much is shown.
    #[command(flatten)]
    pub view: ViewArgs,
}

/// How much is shown.
#[derive(Clone, Copy, Debug, Args)]
pub struct ViewArgs {
    /// Show at most so many rows of each table; 0 shows all
    #[arg(long, value_name = "N", default_value = "25")]
    pub rows: usize,
    /// Print the plan as JSON
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(args: &PlanArgs, context: &Context) -> Result<Exit, Fault> {
    match &args.command {
        Some(PlanCommand::Show(args)) => show::run(args, context),
        Some(PlanCommand::Diff(args)) => drift::run(args, context),
        None => make(args, context),
    }
}

fn make(args: &PlanArgs, context: &Context) -> Result<Exit, Fault> {
    let known = args.rules.known(&context.own_dir()?)?;
    if args.inventory.is_empty() || args.missing.is_empty() || !args.rules.has_windows(&known) {
        let error = anyhow!(
            "a plan is made from --inventory, --missing, and --calendar or the windows of patch groups; one of them is not given"
        );
        return Err(Fault::new("E0850", Exit::Usage, error).hint("see the examples of patchloom plan --help"));
    }
    let hosts = crate::hosts::load(&args.inventory)?;
    let found = read::missing(&args.missing)?;
    let holds = args.holds.as_deref().map(read::holds).transpose()?.unwrap_or_default();
    let history = match &args.history {
        Some(file) => read::history(file, &hosts)?,
        None => recorded(context)?,
    };
    let now = windows::from(args.from.as_deref())?;
    let planning = args.rules.planning(&hosts, &known, now)?;
    let settings = PlanSettings {
        mode: if args.observe { Mode::Observe } else { Mode::Apply },
        now: Instant(now.0),
        waves: planning.waves.clone(),
        limits: Limits { max_parallel: args.max_parallel, per_site: args.per_site, ..planning.limits },
        cutoff: planning.cutoff,
        reboot: planning.reboot,
        reboot_reserve_ms: planning.reboot_reserve_ms,
    };
    let input = PlanInput { holds: &holds, ..planning.input(&hosts, &found, &history) };
    let plan = plan_campaign(input, &settings).map_err(|error| {
        Fault::new("E0853", Exit::BadInput, error).hint("mend the host or the setting that the message names")
    })?;
    if let Some(file) = &args.model {
        write(file, &history)?;
    }
    if let Some(file) = &args.output {
        write(file, &plan)?;
    }
    tell(&plan, &args.simulation, args.view, context)?;
    Ok(if fits(&plan) { Exit::Ok } else { Exit::Failed })
}

/// What campaigns of this data directory took.
fn recorded(context: &Context) -> Result<History, Fault> {
    HistoryStore::new(&context.own_dir()?).read().map_err(|error| {
        Fault::new(error.code(), Exit::Internal, error).hint("give --history, or put the file back from a backup")
    })
}

/// Whether everybody who lacks an approved patch is planned.
fn fits(plan: &CampaignPlan) -> bool {
    plan.left_out().iter().all(|left| match left.reason {
        LeftOutReason::NothingMissing | LeftOutReason::NothingApproved | LeftOutReason::NotInInventory => true,
        LeftOutReason::NotScanned
        | LeftOutReason::NotPatchable
        | LeftOutReason::NoUndo
        | LeftOutReason::Conflict
        | LeftOutReason::NoWindow
        | LeftOutReason::NoWindowBeforeDeadline => false,
    })
}

/// Prints a plan, with its forecast where one is asked for.
fn tell(plan: &CampaignPlan, simulation: &SimulateArgs, view: ViewArgs, context: &Context) -> Result<(), Fault> {
    let forecast: Option<Forecast> = simulation.simulate.then(|| {
        let settings = SimulationSettings {
            seed: simulation.seed,
            rounds: simulation.rounds,
            retries: simulation.retries,
            tolerate: simulation.tolerate,
            ..SimulationSettings::default()
        };
        simulate(plan, &settings)
    });
    match (view.json, &forecast) {
        (true, None) => context.print_json(plan),
        (true, Some(forecast)) => context.print_json(&json!({ "plan": plan, "forecast": forecast })),
        (false, forecast) => context.print(&show::render(plan, forecast.as_ref(), view.rows, context.out)),
    }
}

fn write(file: &std::path::Path, value: &impl serde::Serialize) -> Result<(), Fault> {
    let mut text = serde_json::to_string_pretty(value).expect("our own types have string keys and no fallible field");
    text.push('\n');
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display())).map_err(|error| {
        Fault::new("E0856", Exit::Unable, error).hint("name a file in a directory that can be written")
    })
}

/// An instant of the domain as one of the engine: both are milliseconds since 1970.
fn shown(at: Instant) -> String {
    time::utc(patchloom_core::UtcMs(at.0))
}
