//! `patchloom plan diff`: what differs between two plans.

use std::path::PathBuf;

use clap::Args;
use patchloom_domain::plan_drift;
use serde_json::json;

use super::{read, show};
use crate::cli::Context;
use crate::fault::{Exit, Fault};
use crate::output::{Column, Table, text};

/// Compares two plans.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom plan diff approved.json now.json\n",
    "  patchloom plan diff approved.json now.json --json\n\n",
    "Ends with 0 where the approval of A still says what B does, with 1 where B needs an approval of its own.\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct PlanDiffArgs {
    /// The plan that was approved
    #[arg(value_name = "A")]
    pub before: PathBuf,
    /// The plan as it would be now
    #[arg(value_name = "B")]
    pub after: PathBuf,
    /// Show at most so many rows; 0 shows all
    #[arg(long, value_name = "N", default_value = "100")]
    pub rows: usize,
    /// Print the differences as JSON
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(args: &PlanDiffArgs, context: &Context) -> Result<Exit, Fault> {
    let (before, after) = (read::plan(&args.before)?, read::plan(&args.after)?);
    let drift = plan_drift(&before, &after);
    let material = drift.iter().filter(|one| one.material).count();
    if args.json {
        context.print_json(&json!({
            "before": before.digest(), "after": after.digest(), "material": material > 0, "drift": drift,
        }))?;
    } else {
        let mut table = Table::new(vec![Column::new("HOST"), Column::new("APPROVAL"), Column::flexible("WHAT", 30)]);
        for one in drift.iter().take(show::limit(args.rows)) {
            let host = one.host.as_deref().unwrap_or("all");
            let approval = if one.material { "new" } else { "holds" };
            table.row([text::plain(host).as_ref(), approval, text::plain(&one.what).as_ref()]);
        }
        let verdict = match (drift.len(), material) {
            (0, _) => "The plans are the same.\n".to_owned(),
            (count, 0) => format!("{count} differences, none of which needs a new approval.\n"),
            (count, material) => format!("{count} differences, {material} of which need a new approval.\n"),
        };
        let shown = if drift.is_empty() { String::new() } else { table.render(context.out) };
        context.print(&format!("{shown}{}{verdict}", show::hidden(drift.len(), args.rows)))?;
    }
    Ok(if material > 0 { Exit::Failed } else { Exit::Ok })
}
