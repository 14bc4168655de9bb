//! `patchloom bench`: what may be said, and who does it.

use std::path::Path;

use clap::{Args, Subcommand};
use patchloom_engine::bench::{self, Figures, Load};

use super::Context;
use super::store::open_fault;
use crate::fault::{Exit, Fault};
use crate::host::engine_fault;
use crate::output::text;

/// Measures the engine.
#[derive(Clone, Debug, Subcommand)]
#[command(subcommand_required = true)]
pub enum BenchCommand {
    /// Durable steps per second, beside what the disk itself can flush
    Engine(BenchEngineArgs),
}

/// Measures durable steps with tasks that do nothing, every flush real.
#[derive(Clone, Copy, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom bench engine --runs 2000 --in-flight 200\n",
    "  patchloom bench engine --runs 50 --in-flight 1 --json\n\n",
    "Works in a directory of its own beside the data directory, and removes it.\n\n",
    include_str!("exit_codes.txt")
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

pub(super) fn run(command: &BenchCommand, context: &Context) -> Result<Exit, Fault> {
    let BenchCommand::Engine(args) = command;
    // Beside the data directory, so that the same disk is measured; never inside, where the state lives.
    let data = context.data_dir()?;
    let beside = data.parent().unwrap_or(Path::new("/"));
    let beside = beside.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
    let place = beside.join(format!(".patchloom-bench-{}", std::process::id()));
    let measured = measure(&place, args);
    // Whatever came of it, the directory is not left behind.
    let removed = std::fs::remove_dir_all(&place);
    let figures = measured?;
    if let Err(error) = removed {
        eprintln!("cannot remove {}: {error}", place.display());
    }
    if args.json {
        context.print_json(&figures)?
    } else {
        context.print(&render(&figures))?
    }
    Ok(Exit::Ok)
}

fn measure(place: &Path, args: &BenchEngineArgs) -> Result<Figures, Fault> {
    let failed = |error: std::io::Error| {
        let error = anyhow::Error::new(error).context(format!("cannot measure in {}", place.display()));
        Fault::new("E0906", Exit::Unable, error).hint("name a directory on the disk to measure: --data-dir DIR")
    };
    std::fs::create_dir(place).map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build().map_err(failed)?;
    let load = Load { runs: args.runs, in_flight: args.in_flight, steps: args.steps };
    runtime.block_on(bench::run(place, load)).map_err(|error| match error {
        bench::Error::Open(error) => open_fault(error),
        bench::Error::Engine(error) => engine_fault(error),
        error @ bench::Error::Raw(_) => Fault::new("E0412", Exit::Internal, error),
    })
}

fn render(figures: &Figures) -> String {
    let [before, after] = figures.raw.map(|rate| format!("{:.0}/s, p50 {} µs", rate.per_second, rate.p50_us));
    let row = |name: &str, value: String| format!("{name:<22} {value}\n");
    [
        row("durable steps", format!("{} in {:.2} s, {} runs", figures.steps, figures.seconds, figures.runs)),
        row("steps per second", format!("{:.0}", figures.steps_per_second)),
        row("one step, p50 and p99", format!("{} µs, {} µs", figures.step_p50_us, figures.step_p99_us)),
        row(
            "fsyncs per second",
            format!("{:.0}, {:.1} steps each", figures.fsyncs_per_second, figures.steps_per_fsync),
        ),
        row("peak memory", text::bytes(figures.peak_rss_bytes)),
        row("raw fdatasync", format!("{before} before; {after} after; {} bytes each", figures.raw_bytes)),
    ]
    .concat()
}
