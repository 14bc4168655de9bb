//! `patchloom bench`: what may be said.

use clap::{Args, Subcommand};

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
