//! `patchloom journal`: what may be said, and who does it. Reads without the lock, also while an engine writes.

mod export;
mod figures;
mod moving;

use std::path::PathBuf;

use clap::{Args, Subcommand};

pub use moving::{JournalMoveArgs, Whither};

use super::Context;
use crate::fault::{Exit, Fault};

/// Works on the journal of the data directory.
#[derive(Clone, Debug, Subcommand)]
#[command(subcommand_required = true)]
pub enum JournalCommand {
    /// Read all of it: checksums, hash chain, order; nothing is changed
    Verify(JournalArgs),
    /// Write its records as JSON, one per line
    Export(JournalExportArgs),
    /// Figures: records, bytes, segments, snapshots
    Stats(JournalArgs),
    /// Take it from a data directory into NATS, or back
    Move(JournalMoveArgs),
}

/// Checks or counts.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom journal verify\n",
    "  patchloom journal stats --json\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct JournalArgs {
    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// Exports.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom journal export > journal.jsonl\n",
    "  patchloom journal export --run 019f2a --output evidence.jsonl\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct JournalExportArgs {
    /// Only the records of this run
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// From this sequence number on
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    pub from: u64,
    /// Into this file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

pub(super) fn run(command: &JournalCommand, context: &Context) -> Result<Exit, Fault> {
    match command {
        JournalCommand::Verify(args) => figures::verify(args, context),
        JournalCommand::Export(args) => export::run(args, context),
        JournalCommand::Stats(args) => figures::stats(args, context),
        JournalCommand::Move(args) => moving::run(args, context),
    }
}
