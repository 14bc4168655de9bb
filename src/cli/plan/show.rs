//! `patchloom plan show`, and how a plan looks on a terminal.

use std::path::PathBuf;

use clap::Args;
use patchloom_core::Millis;
use patchloom_domain::{CampaignPlan, Chance, Forecast, UndoIntent};

use super::{SimulateArgs, ViewArgs, fits, read, shown, tell};
use crate::cli::Context;
use crate::fault::{Exit, Fault};
use crate::output::{Column, Screen, Table, text, time};

/// Shows a plan.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom plan show plan.json\n",
    "  patchloom plan show plan.json --simulate --seed 7 --rounds 5000\n\n",
    "A file whose content does not match its digest is refused.\n",
    "Ends with 0 where everybody who lacks an approved patch is planned, with 1 where somebody does not fit in.\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct PlanShowArgs {
    /// The plan, as --output wrote it
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// How the simulation goes.
    #[command(flatten)]
    pub simulation: SimulateArgs,
    /// How much is shown.
    #[command(flatten)]
    pub view: ViewArgs,
}

pub(super) fn run(args: &PlanShowArgs, context: &Context) -> Result<Exit, Fault> {
    let plan = read::plan(&args.file)?;
    tell(&plan, &args.simulation, args.view, context)?;
    Ok(if fits(&plan) { Exit::Ok } else { Exit::Failed })
}

/// How many rows are shown.
pub(super) fn limit(rows: usize) -> usize {
    if rows == 0 { usize::MAX } else { rows }
}

/// The line that says how many are not shown.
pub(super) fn hidden(count: usize, rows: usize) -> String {
    match count.saturating_sub(limit(rows)) {
        0 => String::new(),
        more => format!("... and {more} more; --rows 0 shows all\n"),
    }
}

/// The plan for a person.
pub(super) fn render(plan: &CampaignPlan, forecast: Option<&Forecast>, rows: usize, screen: Screen) -> String {
    let style = screen.style;
    let mut out = format!(
        "{}\n{} hosts, {} package changes, {} at once; {} left out\n\n",
        style.bold(&format!("plan {}", plan.digest())),
        plan.slots().len(),
        plan.plan().change_count(),
        plan.limits().max_parallel,
        plan.left_out().len()
    );
    out.push_str(&waves(plan, screen));
    out.push_str(&hosts(plan, rows, screen));
    out.push_str(&outside(plan, rows, screen));
    for repair in plan.repairs() {
        let count = repair.hosts.len();
        out.push_str(&format!(
            "\n{} {count} hosts are too late: {}\n",
            style.red("repair:"),
            text::plain(&repair.advice)
        ));
    }
    for note in plan.notes() {
        out.push_str(&format!("note: {}\n", text::plain(note)));
    }
    if let Some(forecast) = forecast {
        out.push_str(&foretold(forecast, screen));
    }
    out
}

fn waves(plan: &CampaignPlan, screen: Screen) -> String {
    let mut table = Table::new(vec![
        Column::flexible("WAVE", 8),
        Column::number("HOSTS"),
        Column::new("STARTS"),
        Column::new("ENDS"),
        Column::number("SOAK"),
    ]);
    for wave in plan.waves() {
        let soak = if wave.soak_ms == 0 { "-".to_owned() } else { Millis(wave.soak_ms).to_string() };
        let name = text::plain(&wave.name).to_string();
        table.row([name, wave.hosts.to_string(), shown(wave.start), shown(wave.end), soak]);
    }
    if plan.waves().is_empty() { "no host is planned\n".to_owned() } else { table.render(screen) }
}

fn hosts(plan: &CampaignPlan, rows: usize, screen: Screen) -> String {
    let mut table = Table::new(vec![
        Column::flexible("HOST", 12),
        Column::new("WAVE"),
        Column::new("WINDOW"),
        Column::new("STARTS"),
        Column::number("TAKES"),
        Column::number("AT MOST"),
        Column::number("PATCHES"),
        Column::new("WAY BACK"),
        Column::flexible("WHY", 20),
    ]);
    for (slot, host) in plan.items().take(limit(rows)) {
        let at = usize::try_from(slot.wave).unwrap_or(usize::MAX);
        let wave = plan.waves().get(at).map_or("", |wave| wave.name.as_str());
        let undo = match host.undo {
            UndoIntent::Packages => "packages",
            UndoIntent::PackagesThenSnapshot => "packages, snapshot",
            UndoIntent::Snapshot => "snapshot",
            UndoIntent::Attempt => "attempt, unproven",
        };
        let reboot = if slot.reboot { " + reboot" } else { "" };
        table.row([
            text::plain(&slot.host).to_string(),
            text::plain(wave).to_string(),
            text::plain(&slot.window).to_string(),
            shown(slot.start),
            time::coarse(Millis(slot.estimate.p50_ms)),
            time::coarse(Millis(slot.latest_end.since(slot.start))),
            format!("{}{reboot}", host.changes.len()),
            undo.to_owned(),
            text::plain(&slot.why).to_string(),
        ]);
    }
    if plan.slots().is_empty() {
        return String::new();
    }
    format!("\n{}{}", table.render(screen), hidden(plan.slots().len(), rows))
}

/// Hosts and patches that are not in the plan.
fn outside(plan: &CampaignPlan, rows: usize, screen: Screen) -> String {
    let mut out = String::new();
    if !plan.left_out().is_empty() {
        let mut table = Table::new(vec![Column::flexible("LEFT OUT", 12), Column::flexible("WHY", 30)]);
        for left in plan.left_out().iter().take(limit(rows)) {
            table.row([text::plain(&left.host), text::plain(&left.why)]);
        }
        out.push_str(&format!("\n{}{}", table.render(screen), hidden(plan.left_out().len(), rows)));
    }
    if !plan.withheld().is_empty() {
        let mut table = Table::new(vec![
            Column::flexible("WITHHELD", 12),
            Column::new("VERSION"),
            Column::number("HOSTS"),
            Column::flexible("WHY", 30),
        ]);
        for one in plan.withheld().iter().take(limit(rows)) {
            let (package, version, why) =
                (text::plain(&one.package), text::plain(&one.candidate), text::plain(&one.why));
            table.row([package.as_ref(), version.as_ref(), one.hosts.to_string().as_str(), why.as_ref()]);
        }
        out.push_str(&format!("\n{}{}", table.render(screen), hidden(plan.withheld().len(), rows)));
    }
    out
}

fn percent(chance: Chance) -> String {
    let shown = |part: f64| format!("{:.1}", part * 100.0);
    format!("{} % ({} to {})", shown(chance.of), shown(chance.low), shown(chance.high))
}

fn foretold(forecast: &Forecast, screen: Screen) -> String {
    let mut table = Table::new(vec![
        Column::flexible("WAVE", 8),
        Column::new("WINDOW"),
        Column::new("CLOSES"),
        Column::number("HOSTS"),
        Column::new("IN TIME"),
        Column::number("LEFT"),
    ]);
    for part in &forecast.parts {
        table.row([
            text::plain(&part.wave).to_string(),
            text::plain(&part.window).to_string(),
            shown(part.close),
            part.hosts.to_string(),
            percent(part.in_window),
            format!("{:.1}", part.left_mean),
        ]);
    }
    let settings = &forecast.settings;
    let basis = format!(
        "the estimates rest on {} samples; {:.0} % of the hosts have a history, or hosts like them have",
        forecast.samples,
        forecast.known * 100.0
    );
    format!(
        "\n{} {} rounds, seed {}, halting beyond {} failures\n\
         all through in their windows: {}\nhalted: {}\n\
         hosts that fail: {:.1} on average, at most {} in nine of ten rounds\n\
         left for the next window: {:.1} on average, at most {} in nine of ten rounds\n\
         ends: {} in the middle, by {} in nine of ten rounds\n{basis}\n{}",
        screen.style.bold("simulation:"),
        settings.rounds,
        settings.seed,
        settings.tolerate,
        percent(forecast.in_window),
        percent(forecast.halted),
        forecast.failed_mean,
        forecast.failed_p90,
        forecast.left_mean,
        forecast.left_p90,
        shown(forecast.end_p50),
        shown(forecast.end_p90),
        table.render(screen)
    )
}
