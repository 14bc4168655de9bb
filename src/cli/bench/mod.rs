//! `patchloom bench`: what may be said, and who does it.

mod correlate;
mod nats;

use std::path::Path;

use clap::{Args, Subcommand};
use patchloom_engine::bench::{self, Figures, Load, fanout};
use patchloom_engine::rate::RawRate;
use serde::Serialize;

use crate::cli::Context;
use crate::cli::store::open_fault;
use crate::fault::{Exit, Fault};
use crate::host::engine_fault;
use crate::output::text;

pub use correlate::BenchCorrelateArgs;

/// Measures the engine.
#[derive(Clone, Debug, Subcommand)]
#[command(subcommand_required = true)]
pub enum BenchCommand {
    /// Durable steps per second, beside what the disk itself can flush
    Engine(BenchEngineArgs),
    /// What an item of a large fan-out costs, and whether that grows with their number
    Fanout(BenchFanoutArgs),
    /// The correlation of a fleet's findings with its packages, and whether that grows with its size
    Correlate(BenchCorrelateArgs),
}

/// Measures durable steps with tasks that do nothing, every flush real.
#[derive(Clone, Copy, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom bench engine --runs 2000 --in-flight 200\n",
    "  patchloom bench engine --runs 50 --in-flight 1 --json\n",
    "  patchloom bench engine --nats nats://localhost:4222 --runs 10000 --in-flight 2000\n\n",
    "With --nats: engine, worker and server as three parties, beside what the server does alone. What it makes on the\n",
    "server it removes. Works in a directory of its own beside the data directory, and removes it.\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct BenchEngineArgs {
    /// How many runs
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub runs: u32,
    /// How many of them at a time
    #[arg(long, value_name = "M", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub in_flight: u32,
    /// Steps of each run
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub steps: u32,
    /// Print the figures as JSON
    #[arg(long)]
    pub json: bool,
}

/// Measures one run with one step over many items, with tasks that do nothing, every flush real.
#[derive(Clone, Copy, Debug, Args)]
#[command(after_long_help = concat!(
    "Walks 1,000, 10,000, ... items up to the number asked for, 200 at a time, and sets their cost side by side.\n\n",
    "Examples:\n",
    "  patchloom bench fanout --items 100000\n",
    "  patchloom bench fanout --items 10000 --children --json\n\n",
    "Works in a directory of its own beside the data directory, and removes it.\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct BenchFanoutArgs {
    /// How many items
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub items: u32,
    /// Have each item be a child run
    #[arg(long)]
    pub children: bool,
    /// Print the figures as JSON
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(command: &BenchCommand, context: &Context) -> Result<Exit, Fault> {
    match command {
        BenchCommand::Engine(args) => {
            let load = Load { runs: args.runs, in_flight: args.in_flight, steps: args.steps };
            if let Some(options) = context.global.nats.options() {
                return show(context, args.json, &nats::measure(context, &options, load)?, nats::render);
            }
            let figures = measure(context, async move |place: &Path| bench::run(place, load).await)?;
            show(context, args.json, &figures, render)
        }
        BenchCommand::Fanout(args) => {
            let load = fanout::Load { items: args.items, children: args.children };
            let figures = measure(context, async move |place: &Path| fanout::run(place, load).await)?;
            show(context, args.json, &figures, render_fanout)
        }
        BenchCommand::Correlate(args) => show(context, args.json, &correlate::figures(args), correlate::render),
    }
}

fn show<F: Serialize>(context: &Context, json: bool, figures: &F, render: fn(&F) -> String) -> Result<Exit, Fault> {
    if json {
        context.print_json(figures)?
    } else {
        context.print(&render(figures))?
    }
    Ok(Exit::Ok)
}

/// Measures in a directory of its own.
fn measure<F>(context: &Context, what: impl AsyncFnOnce(&Path) -> Result<F, bench::Error>) -> Result<F, Fault> {
    measure_in_own_dir(context, async |place| {
        what(place).await.map_err(|error| match error {
            bench::Error::Open(error) => open_fault(error),
            bench::Error::Engine(error) => engine_fault(error),
            error @ bench::Error::Raw(_) => Fault::new("E0412", Exit::Internal, error),
        })
    })
}

fn measure_in_own_dir<F>(context: &Context, what: impl AsyncFnOnce(&Path) -> Result<F, Fault>) -> Result<F, Fault> {
    // Beside the data directory, so that the same disk is measured; never inside, where the state lives.
    let data = context.own_dir()?;
    let beside = data.parent().unwrap_or(Path::new("/"));
    let beside = beside.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
    let place = beside.join(format!(".patchloom-bench-{}", std::process::id()));
    let measured = measure_in(&place, what);
    // Whatever came of it, the directory is not left behind.
    let removed = std::fs::remove_dir_all(&place);
    let figures = measured?;
    if let Err(error) = removed {
        eprintln!("cannot remove {}: {error}", place.display());
    }
    Ok(figures)
}

fn measure_in<F>(place: &Path, what: impl AsyncFnOnce(&Path) -> Result<F, Fault>) -> Result<F, Fault> {
    let failed = |error: std::io::Error| {
        let error = anyhow::Error::new(error).context(format!("cannot measure in {}", place.display()));
        Fault::new("E0906", Exit::Unable, error).hint("name a directory on the disk to measure: --data-dir DIR")
    };
    std::fs::create_dir(place).map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build().map_err(failed)?;
    runtime.block_on(what(place))
}

fn row(name: &str, value: String) -> String {
    format!("{name:<22} {value}\n")
}

fn raw_row(raw: [RawRate; 2], bytes: usize) -> String {
    let [before, after] = raw.map(|rate| format!("{:.0}/s, p50 {} µs", rate.per_second, rate.p50_us));
    row("raw fdatasync", format!("{before} before; {after} after; {bytes} bytes each"))
}

fn render_fanout(figures: &fanout::Figures) -> String {
    let what = if figures.children { "items, each a child run" } else { "items" };
    let mut lines = String::new();
    for point in &figures.points {
        lines += &row(what, format!("{}, {} at a time", point.items, figures.in_flight));
        lines += &row("  took", format!("{:.2} s, {:.0} items per second", point.seconds, point.items_per_second));
        lines += &row("  one item", format!("{:.1} µs", point.item_us));
        lines += &row("  records", format!("{}, each one flush", point.records));
        let delay = format!("p50 {} µs, p99 {} µs", point.delay_p50_us, point.delay_p99_us);
        lines += &row("  scheduling delay", delay);
        let [grown, peak] = [point.rss_growth_bytes, point.peak_rss_bytes].map(text::bytes);
        lines += &row("  memory", format!("grew by {grown}, peak {peak}"));
    }
    let ends = figures.points.first().zip(figures.points.last());
    if let Some((least, most)) = ends.filter(|_| figures.points.len() > 1) {
        let compared = format!("{:.2} times from {} to {} items", figures.growth, least.items, most.items);
        lines += &row("growth per item", compared);
    }
    lines + &raw_row(figures.raw, figures.raw_bytes)
}

fn render(figures: &Figures) -> String {
    [
        row("durable steps", format!("{} in {:.2} s, {} runs", figures.steps, figures.seconds, figures.runs)),
        row("steps per second", format!("{:.0}", figures.steps_per_second)),
        row("one step, p50 and p99", format!("{} µs, {} µs", figures.step_p50_us, figures.step_p99_us)),
        row(
            "fsyncs per second",
            format!("{:.0}, {:.1} steps each", figures.fsyncs_per_second, figures.steps_per_fsync),
        ),
        row("peak memory", text::bytes(figures.peak_rss_bytes)),
        raw_row(figures.raw, figures.raw_bytes),
    ]
    .concat()
}
