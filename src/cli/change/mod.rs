//! `patchloom change`: what may be said, and who does it.
//!
//! Works on the register alone, under its own lock: also while an engine leads, which then hears of the decision.

mod decide;
mod read;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use patchloom_domain::ChangeRequest;
use patchloom_engine::datadir::DataDir;
use patchloom_workers::register::{Error, Register};

use super::Context;
use super::store::dir_fault;
use crate::fault::{Exit, Fault};
use crate::output::text;

/// Works on change requests.
#[derive(Clone, Debug, Subcommand)]
#[command(subcommand_required = true)]
pub enum ChangeCommand {
    /// List change requests, the latest first
    List(ChangeListArgs),
    /// Show one: plan, approvals, work notes
    Show(ChangeShowArgs),
    /// Approve one: the approval holds for its plan as it is now, and for no other
    Approve(ChangeDecisionArgs),
    /// Reject one
    Reject(ChangeDecisionArgs),
}

/// Lists change requests.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom change list\n",
    "  patchloom change list --open --json\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct ChangeListArgs {
    /// Only those that are neither closed nor cancelled
    #[arg(long)]
    pub open: bool,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
    /// Print them as JSON
    #[arg(long)]
    pub json: bool,
}

/// Shows a change request.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom change show CHG0000042\n",
    "  patchloom change show last --json\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct ChangeShowArgs {
    /// Its number, or 'last'
    #[arg(value_name = "CHANGE")]
    pub change: String,
    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}

/// Decides a change request.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom change approve CHG0000042\n",
    "  patchloom change approve CHG0000042 --plan sha256:5e7b8bb4\n",
    "  patchloom change reject CHG0000042 --comment later\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct ChangeDecisionArgs {
    /// Its number, or 'last'
    #[arg(value_name = "CHANGE")]
    pub change: String,
    /// Decide only if its plan still has this digest (or a digest that begins so)
    #[arg(long, value_name = "DIGEST")]
    pub plan: Option<String>,
    /// Why; kept in its work notes
    #[arg(long, value_name = "TEXT")]
    pub comment: Option<String>,
}

pub(super) fn run(command: &ChangeCommand, context: &Context) -> Result<Exit, Fault> {
    match command {
        ChangeCommand::List(args) => read::list(args, context),
        ChangeCommand::Show(args) => read::show(args, context),
        ChangeCommand::Approve(args) => decide::approve(args, context),
        ChangeCommand::Reject(args) => decide::reject(args, context),
    }
}

/// The register of the data directory of this call.
pub(super) fn register(context: &Context) -> Result<Register, Fault> {
    let dir = DataDir::inspect(&context.own_dir()?).map_err(dir_fault)?;
    Register::open(&dir.changes()).map_err(fault)
}

/// What the register's refusal means to a person.
pub(super) fn fault(error: Error) -> Fault {
    let code = error.code().to_owned();
    let (exit, hint) = match &error {
        Error::NotFound { .. } => (Exit::BadInput, "see the changes with `patchloom change list`"),
        Error::Damaged { .. } => (Exit::Internal, "put the document back from a backup; the others stay usable"),
        Error::Busy { .. } => (Exit::Unable, "try again in a moment"),
        Error::Io { .. } => (Exit::Internal, "look at the rights and the space of the data directory"),
        Error::Refused(_) if error.code() == "E0602" => (Exit::Failed, "let another person decide"),
        Error::Refused(_) => (Exit::Failed, "see where it stands with `patchloom change show`"),
    };
    Fault::new(code, exit, error).hint(hint)
}

/// The change that a person means: its number in any case, its digits alone, or `last`.
pub(super) fn select(register: &Register, wanted: &str) -> Result<ChangeRequest, Fault> {
    if wanted == "last" {
        let listing = register.list().map_err(fault)?;
        return listing.changes.into_iter().next_back().ok_or_else(|| {
            Fault::new("E0604", Exit::BadInput, anyhow!("no change was ever opened here"))
                .hint("`patchloom patch` opens one when something is missing")
        });
    }
    let upper = wanted.trim().to_ascii_uppercase();
    let digits = upper.strip_prefix("CHG").unwrap_or(&upper);
    let number = digits.parse::<u64>().map_or_else(|_| text::plain(wanted), |number| format!("CHG{number:07}"));
    register.get(&number).map_err(fault)
}
