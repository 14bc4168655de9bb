//! `patchloom backup`: the ways back that runs recorded on this machine, and the deletion of those whose time is over.

use std::collections::BTreeSet;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use patchloom_core::{RunId, UtcMs};
use patchloom_domain::Instant;
use patchloom_engine::runtime::Inspected;
use patchloom_workers::patching::{KeptBackup, KeptBackups, KeptError, Swept, TTL_MS};
use patchloom_workers::runtime::DataDir;
use patchloom_workers::snapshot::Fate;

use super::snapshot::{DEPTH_MAX, is_open, word};
use super::store::{look, open_fault};
use super::{Context, change};
use crate::fault::{Exit, Fault};
use crate::output::{Column, Table, time};

/// Works on the backups in the data directory.
#[derive(Clone, Debug, Subcommand)]
#[command(subcommand_required = true)]
pub enum BackupCommand {
    /// List backups: whose they are, until when they live, whether somebody may need them
    List(BackupListArgs),
    /// Delete those whose time is over, and the former packages that no other one needs
    Prune(BackupPruneArgs),
}

/// Lists backups.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom backup list\n",
    "  patchloom backup list --json\n\n",
    include_str!("exit_codes.txt")
))]
pub struct BackupListArgs {
    /// Print all that is known as JSON
    #[arg(long)]
    pub json: bool,
}

/// Prunes backups.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom backup prune --dry-run\n",
    "  patchloom backup prune\n\n",
    "A backup lives for 30 days, and longer while its run, a run beside or above it, or their change is open.\n",
    "One whose install never came to its end is never deleted.\n\n",
    include_str!("exit_codes.txt")
))]
pub struct BackupPruneArgs {
    /// Say what would be deleted, and delete nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print what became of each as JSON
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(command: &BackupCommand, context: &Context) -> Result<Exit, Fault> {
    let backups = KeptBackups::new(DataDir::new(context.own_dir()?).backups());
    let (dry_run, json) = match command {
        BackupCommand::List(args) => (true, args.json),
        BackupCommand::Prune(args) => (args.dry_run, args.json),
    };
    let users = Users::of(&backups.list().map_err(|error| fault(&error))?, context)?;
    let now = Instant(time::now().0);
    let swept = backups.prune(now, TTL_MS, |run| users.in_use(run), dry_run).map_err(|error| fault(&error))?;
    match command {
        _ if json => context.print_json(&swept)?,
        BackupCommand::List(_) => list(&swept, context)?,
        BackupCommand::Prune(_) => context.print(&summary(&swept, dry_run))?,
    }
    Ok(Exit::Ok)
}

fn fault(error: &KeptError) -> Fault {
    let why = std::error::Error::source(error).map_or_else(String::new, |source| format!(": {source}"));
    Fault::new(error.code().to_owned(), Exit::Internal, anyhow!("{error}{why}"))
        .hint("look at the rights of the data directory, or wait until no backup is recorded")
}

/// Who may still need a backup.
struct Users {
    /// Runs that are open, or below one that is.
    open: BTreeSet<String>,
}

impl Users {
    /// Looks once, before anything is deleted.
    fn of(backups: &[KeptBackup], context: &Context) -> Result<Self, Fault> {
        let mut open = BTreeSet::new();
        let runs: BTreeSet<&str> = backups.iter().map(|backup| backup.run.as_str()).collect();
        if runs.is_empty() {
            return Ok(Self { open });
        }
        let inspected = look(context)?;
        let listing = change::register(context)?.list().map_err(change::fault)?;
        if !listing.damaged.is_empty() {
            // Whose those are nobody can tell: all stays.
            return Ok(Self { open: runs.into_iter().map(str::to_owned).collect() });
        }
        let mut changing = BTreeSet::new();
        for change in listing.changes.iter().filter(|change| !change.state.is_final()) {
            // Whoever opens a change tells its run first.
            changing.extend(top(&inspected, change.correlation_id.split('/').next().unwrap_or_default())?);
        }
        for run in runs {
            let above = top(&inspected, run)?;
            if is_open(&inspected, run)? || above.is_some_and(|above| changing.contains(&above)) {
                open.insert(run.to_owned());
            }
        }
        Ok(Self { open })
    }

    fn in_use(&self, run: &str) -> bool {
        self.open.contains(run)
    }
}

/// The run above all others, as far as they are known.
fn top(inspected: &Inspected, run: &str) -> Result<Option<RunId>, Fault> {
    let mut last = run.parse().ok().map(RunId);
    for _ in 0..DEPTH_MAX {
        let Some(id) = last else { break };
        let Some(found) = inspected.brief(id).map_err(open_fault)? else { break };
        match found.start.parent.as_ref() {
            Some(parent) => last = Some(parent.run),
            None => break,
        }
    }
    Ok(last)
}

fn list(swept: &Swept, context: &Context) -> Result<(), Fault> {
    if swept.backups.is_empty() {
        eprintln!("There are no backups.");
        return Ok(());
    }
    let mut table = Table::new(vec![
        Column::flexible("BACKUP", 10),
        Column::new("PACKAGES"),
        Column::new("EXPIRES"),
        Column::new("STATE"),
    ]);
    for (backup, fate) in &swept.backups {
        let packages = backup.packages.as_ref().map_or_else(|| "unknown".to_owned(), |all| all.len().to_string());
        let expires = time::utc(UtcMs(backup.at.plus(TTL_MS).0));
        table.row(vec![backup.name.clone(), packages, expires, word(fate).to_owned()]);
    }
    context.print(&table.render(context.out))?;
    Ok(())
}

fn summary(swept: &Swept, dry_run: bool) -> String {
    let deleted = swept.backups.iter().filter(|(_, fate)| *fate == Fate::Deleted).count();
    let what = if dry_run { "would be deleted" } else { "deleted" };
    format!(
        "{deleted} of {} backups, {} of {} former packages ({} MiB) and {} markers of installs {what}\n",
        swept.backups.len(),
        swept.packages,
        swept.packages + swept.packages_left,
        swept.bytes >> 20,
        swept.markers,
    )
}
