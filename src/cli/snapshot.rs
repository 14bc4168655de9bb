//! `patchloom snapshot`: the snapshots that runs took of root directories and had taken of machines, and the deletion of those whose time is over.

use std::collections::BTreeSet;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use patchloom_core::run::Phase;
use patchloom_core::{RunId, UtcMs};
use patchloom_domain::Instant;
use patchloom_engine::runtime::Inspected;
use patchloom_workers::register::Register;
use patchloom_workers::runtime::DataDir;
use patchloom_workers::snapshot::{Error, Fate, Held, Means, Pruned, Snapshots};
use serde_json::json;

use super::store::{look, open_fault};
use super::{AwsArgs, Context, change};
use crate::fault::{Exit, Fault};
use crate::output::{Column, Table, time};

/// So many runs lie above one at most; more would be a circle.
pub(super) const DEPTH_MAX: usize = 64;

/// Works on the snapshots in the data directory.
#[derive(Clone, Debug, Subcommand)]
#[command(subcommand_required = true)]
pub enum SnapshotCommand {
    /// List snapshots: whose they are, until when they live, whether somebody may need them
    List(SnapshotListArgs),
    /// Delete those whose time is over, unless their run or change is open
    Prune(SnapshotPruneArgs),
}

/// Lists snapshots.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom snapshot list\n",
    "  patchloom snapshot list --json\n\n",
    include_str!("exit_codes.txt")
))]
pub struct SnapshotListArgs {
    /// Print all that is known as JSON
    #[arg(long)]
    pub json: bool,
}

/// Prunes snapshots.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom snapshot prune --dry-run\n",
    "  patchloom snapshot prune\n\n",
    "A run that went well deletes its snapshot itself. What is left here is of runs that failed or were cut off.\n",
    "One whose run, a run above it, or whose change is open is never deleted, nor one whose host did not come back.\n\n",
    include_str!("exit_codes.txt")
))]
pub struct SnapshotPruneArgs {
    /// Say what would be deleted, and delete nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Who we are at AWS, for snapshots of instances.
    #[command(flatten)]
    pub aws: AwsArgs,
    /// Print what became of each as JSON
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(command: &SnapshotCommand, context: &Context) -> Result<Exit, Fault> {
    let snapshots = Snapshots::new(DataDir::new(context.own_dir()?).backups().join("snapshots"));
    match command {
        SnapshotCommand::List(args) => list(args, &snapshots, context),
        SnapshotCommand::Prune(args) => {
            let means = Means { aws: args.aws.options(), ..Means::default() };
            prune(args, &snapshots.by(means), context)
        }
    }
}

fn fault(error: &Error) -> Fault {
    Fault::new(error.code().to_owned(), Exit::Internal, anyhow!("{error}"))
        .hint(format!("`patchloom explain {}` says what to do about it", error.code()))
}

/// Who may still need a snapshot.
struct Users {
    open: BTreeSet<String>,
    register: Option<Register>,
}

impl Users {
    /// Looks once, before anything is deleted.
    fn of(held: &[Held], context: &Context) -> Result<Self, Fault> {
        if held.is_empty() {
            return Ok(Self { open: BTreeSet::new(), register: None });
        }
        let inspected = look(context)?;
        let mut open = BTreeSet::new();
        for one in held {
            if is_open(&inspected, &one.run)? {
                open.insert(one.run.clone());
            }
        }
        Ok(Self { open, register: Some(change::register(context)?) })
    }

    fn in_use(&self, held: &Held) -> bool {
        let change = held.change.as_deref().and_then(|number| self.register.as_ref()?.get(number).ok());
        self.open.contains(&held.run) || change.is_some_and(|change| !change.state.is_final())
    }
}

/// Whether a run, or one above it, is open: a child run that is over is taken back while its parent is open.
pub(super) fn is_open(inspected: &Inspected, run: &str) -> Result<bool, Fault> {
    let mut next = run.parse().ok().map(RunId);
    for _ in 0..DEPTH_MAX {
        let Some(id) = next else { return Ok(false) };
        // A run that was forgotten is long over.
        let Some(found) = inspected.brief(id).map_err(open_fault)? else { return Ok(false) };
        if !matches!(found.phase, Phase::Ended(_)) {
            return Ok(true);
        }
        next = found.start.parent.as_ref().map(|parent| parent.run);
    }
    Ok(true)
}

pub(super) fn word(fate: &Fate) -> &'static str {
    match fate {
        Fate::Deleted => "expired",
        Fate::Young => "young",
        Fate::InUse => "in use",
        Fate::Kept => "kept",
    }
}

/// What it is of.
fn of(held: &Held) -> String {
    match (&held.root, &held.outside) {
        (Some(root), _) => root.display().to_string(),
        (None, Some(outside)) => outside.to_string(),
        (None, None) => String::new(),
    }
}

fn row(held: &Held) -> [String; 5] {
    let kind = held.kind.map_or_else(|| "half made".to_owned(), |kind| format!("{kind:?}").to_lowercase());
    [held.id.clone(), kind, of(held), held.change.clone().unwrap_or_default(), time::utc(UtcMs(held.expires.0))]
}

fn list(args: &SnapshotListArgs, snapshots: &Snapshots, context: &Context) -> Result<Exit, Fault> {
    let held = snapshots.list().map_err(|error| fault(&error))?;
    let users = Users::of(&held, context)?;
    let now = Instant(time::now().0);
    if args.json {
        let one = |held: &Held| json!({ "snapshot": held, "fate": held.fate(now, users.in_use(held)) });
        let rows: Vec<_> = held.iter().map(one).collect();
        context.print_json(&rows)?;
        return Ok(Exit::Ok);
    }
    if held.is_empty() {
        eprintln!("There are no snapshots.");
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(vec![
        Column::new("SNAPSHOT"),
        Column::new("KIND"),
        Column::flexible("OF", 10),
        Column::new("CHANGE"),
        Column::new("EXPIRES"),
        Column::new("STATE"),
    ]);
    for held in &held {
        let state = word(&held.fate(now, users.in_use(held))).to_owned();
        table.row(row(held).into_iter().chain([state]).collect::<Vec<_>>());
    }
    context.print(&table.render(context.out))?;
    Ok(Exit::Ok)
}

fn prune(args: &SnapshotPruneArgs, snapshots: &Snapshots, context: &Context) -> Result<Exit, Fault> {
    let held = snapshots.list().map_err(|error| fault(&error))?;
    let users = Users::of(&held, context)?;
    let now = Instant(time::now().0);
    let told = snapshots.prune(now, |held| users.in_use(held), args.dry_run).map_err(|error| fault(&error))?;
    let failed = told.iter().find_map(|(_, done)| done.as_ref().err());
    let deleted = told.iter().filter(|(_, done)| matches!(done, Ok(Fate::Deleted))).count();
    if args.json {
        let one = |(held, done): &Pruned| match done {
            Ok(fate) => json!({ "snapshot": held, "fate": fate }),
            Err(error) => json!({ "snapshot": held, "error": error.code(), "text": error.to_string() }),
        };
        let rows: Vec<_> = told.iter().map(one).collect();
        context.print_json(&rows)?;
    } else {
        let what = if args.dry_run { "would be deleted" } else { "deleted" };
        context.print(&format!("{deleted} of {} snapshots {what}\n", told.len()))?;
    }
    match failed {
        Some(error) => Err(fault(error)),
        None => Ok(Exit::Ok),
    }
}
