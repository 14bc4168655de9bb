//! `patchloom change`: what may be said.

use clap::{Args, Subcommand};

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
    include_str!("exit_codes.txt")
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
    include_str!("exit_codes.txt")
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
    include_str!("exit_codes.txt")
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
