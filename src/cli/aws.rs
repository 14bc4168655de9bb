//! `patchloom aws`: snapshots of the volumes of instances, and how Patch Manager sees them. And who we are for AWS, for all commands.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use patchloom_workers::aws::{Aws, AwsOptions, Error, Purpose, VolumeSnapshot};
use serde_json::{Value, json};

use super::{Context, explain};
use crate::fault::{Exit, Fault};

/// Who we are for AWS, and where: what is not told comes from the environment and the shared files of the aws command line.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "AWS")]
pub struct AwsArgs {
    /// The profile of ~/.aws [default: AWS_PROFILE, or the keys of the environment]
    #[arg(long, value_name = "NAME", hide_short_help = true)]
    pub aws_profile: Option<String>,
    /// The region [default: AWS_REGION, or that of the profile]
    #[arg(long, value_name = "REGION", hide_short_help = true)]
    pub aws_region: Option<String>,
    /// A bucket that what is too large for a command of Systems Manager is carried in: BUCKET[/PREFIX]
    #[arg(long, value_name = "BUCKET", env = "PATCHLOOM_AWS_BUCKET", hide_short_help = true)]
    pub aws_bucket: Option<String>,
}

impl AwsArgs {
    /// As the workers take them.
    #[must_use]
    pub fn options(&self) -> AwsOptions {
        AwsOptions {
            profile: self.aws_profile.clone(),
            region: self.aws_region.clone(),
            bucket: self.aws_bucket.clone(),
        }
    }
}

/// Works with AWS.
#[derive(Clone, Debug, Subcommand)]
#[command(subcommand_required = true)]
pub enum AwsCommand {
    /// Snapshot all volumes of an instance, and wait until they are whole
    Snapshot(AwsSnapshotArgs),
    /// List the snapshots that we made, and delete those whose time is over
    Snapshots(AwsSnapshotsArgs),
    /// Tell how Patch Manager sees instances: installed, missing and failed patches
    States(AwsStatesArgs),
    /// Tell Systems Manager how an instance complies, by a report of ours
    Comply(AwsComplyArgs),
}

/// Snapshots an instance.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom aws snapshot i-0f00f008a2dcbefe2 --run patch-night-47\n",
    "  patchloom aws snapshot i-0f00f008a2dcbefe2 --run r1 --change CHG0000007 --keep-days 3 --json\n\n",
    "The same run of the same instance has the same snapshots, however often this is said. They are\n",
    "tagged with owner, run, change and the end of their time.\n\n",
    include_str!("exit_codes.txt")
))]
pub struct AwsSnapshotArgs {
    /// Its id, i-…
    #[arg(value_name = "INSTANCE")]
    pub instance: String,
    /// What they are made for: a run, a night
    #[arg(long, value_name = "NAME")]
    pub run: String,
    /// The number of the change
    #[arg(long, value_name = "CHANGE")]
    pub change: Option<String>,
    /// How many days they are kept at most
    #[arg(long, value_name = "DAYS", default_value_t = 7, value_parser = clap::value_parser!(u64).range(1..=365))]
    pub keep_days: u64,
    /// Whose they are
    #[arg(long, value_name = "NAME", default_value = "patchloom")]
    pub owner: String,
    /// How many minutes to wait until they are whole
    #[arg(long, value_name = "MINUTES", default_value_t = 60)]
    pub wait_minutes: u64,
    /// Print them as JSON
    #[arg(long)]
    pub json: bool,
    /// Who we are.
    #[command(flatten)]
    pub aws: AwsArgs,
}

/// Lists snapshots.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom aws snapshots\n",
    "  patchloom aws snapshots --expired --delete\n",
    "  patchloom aws snapshots --run patch-night-47 --delete --json\n\n",
    "Only snapshots with the tag of the owner are listed, and no other is ever deleted.\n\n",
    include_str!("exit_codes.txt")
))]
pub struct AwsSnapshotsArgs {
    /// Only those of this run
    #[arg(long, value_name = "NAME")]
    pub run: Option<String>,
    /// Only those whose time is over
    #[arg(long)]
    pub expired: bool,
    /// Delete what is listed; needs --run or --expired
    #[arg(long)]
    pub delete: bool,
    /// Whose
    #[arg(long, value_name = "NAME", default_value = "patchloom")]
    pub owner: String,
    /// Print them as JSON
    #[arg(long)]
    pub json: bool,
    /// Who we are.
    #[command(flatten)]
    pub aws: AwsArgs,
}

/// Tells patch states.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom aws states i-0f00f008a2dcbefe2\n",
    "  patchloom aws states i-0f00f008a2dcbefe2 mi-0123456789abcdef0 --json\n\n",
    include_str!("exit_codes.txt")
))]
pub struct AwsStatesArgs {
    /// Their ids
    #[arg(value_name = "INSTANCE", required = true)]
    pub instances: Vec<String>,
    /// Print them as AWS does
    #[arg(long)]
    pub json: bool,
    /// Who we are.
    #[command(flatten)]
    pub aws: AwsArgs,
}

/// Tells compliance.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom aws comply i-0f00f008a2dcbefe2 report.json\n\n",
    "Each patch of the report becomes an item of Custom:Patchloom, compliant where it was installed.\n",
    "What was told before is replaced.\n\n",
    include_str!("exit_codes.txt")
))]
pub struct AwsComplyArgs {
    /// Its id
    #[arg(value_name = "INSTANCE")]
    pub instance: String,
    /// The report.json of a run
    #[arg(value_name = "FILE")]
    pub report: PathBuf,
    /// Who we are.
    #[command(flatten)]
    pub aws: AwsArgs,
}

/// Runs what asks AWS to its end.
pub(super) fn asked<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Fault::new("E0450", Exit::Internal, anyhow::Error::new(error).context("cannot start threads"))
    })?;
    runtime.block_on(work).map_err(fault)
}

/// What an error of AWS means to a person.
pub(super) fn fault(error: Error) -> Fault {
    let exit = match &error {
        Error::Word { .. } => Exit::Usage,
        Error::Credentials { .. } | Error::Region | Error::Config { .. } | Error::Bucket { .. } => Exit::Unable,
        _ => Exit::Failed,
    };
    let code = error.code();
    let fault = Fault::new(code, exit, anyhow::Error::new(error));
    match explain::remedy(code) {
        Some(remedy) => fault.hint(remedy),
        None => fault,
    }
}

pub(super) fn run(command: &AwsCommand, context: &Context) -> Result<Exit, Fault> {
    match command {
        AwsCommand::Snapshot(args) => snapshot(args, context),
        AwsCommand::Snapshots(args) => snapshots(args, context),
        AwsCommand::States(args) => states(args, context),
        AwsCommand::Comply(args) => comply(args, context),
    }
}

fn snapshot(args: &AwsSnapshotArgs, context: &Context) -> Result<Exit, Fault> {
    let purpose = Purpose {
        owner: args.owner.clone(),
        run: args.run.clone(),
        change: args.change.clone(),
        keep: Duration::from_secs(args.keep_days.saturating_mul(86_400)),
    };
    let whole = asked(async {
        let aws = Aws::new(&args.aws.options())?;
        let begun = aws.snapshot_instance(&args.instance, &purpose).await?;
        let ids: Vec<String> = begun.into_iter().map(|one| one.id).collect();
        eprintln!("Waiting until {} is whole.", ids.join(", "));
        aws.await_snapshots(&ids, Duration::from_secs(args.wait_minutes.saturating_mul(60))).await
    })?;
    told(&whole, args.json, context)
}

fn snapshots(args: &AwsSnapshotsArgs, context: &Context) -> Result<Exit, Fault> {
    if args.delete && args.run.is_none() && !args.expired {
        let error = anyhow::anyhow!("--delete without --run or --expired would delete every way back");
        return Err(Fault::new("E0965", Exit::Usage, error).hint("name the run, or say --expired"));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let found = asked(async {
        let aws = Aws::new(&args.aws.options())?;
        let mut found = aws.snapshots_of(&args.owner, args.run.as_deref()).await?;
        found.retain(|one| !args.expired || one.is_expired(now));
        if args.delete {
            for one in &found {
                aws.delete_snapshot(&one.id, &args.owner).await?;
                eprintln!("Deleted {}.", one.id);
            }
        }
        Ok(found)
    })?;
    told(&found, args.json, context)
}

fn states(args: &AwsStatesArgs, context: &Context) -> Result<Exit, Fault> {
    let found = asked(async { Aws::new(&args.aws.options())?.patch_states(&args.instances).await })?;
    if args.json {
        context.print_json(&json!({ "InstancePatchStates": found }))?;
        return Ok(Exit::Ok);
    }
    let mut text = String::new();
    let by_id: BTreeMap<&str, _> = found.iter().filter_map(|row| Some((row["InstanceId"].as_str()?, row))).collect();
    for id in &args.instances {
        match by_id.get(id.as_str()) {
            None => text.push_str(&format!("{id}  never scanned by Patch Manager\n")),
            Some(row) => {
                let count = |key: &str| row[key].as_u64().unwrap_or_default();
                text.push_str(&format!(
                    "{id}  installed {}  missing {}  failed {}  pending reboot {}\n",
                    count("InstalledCount"),
                    count("MissingCount"),
                    count("FailedCount"),
                    count("InstalledPendingRebootCount"),
                ));
            }
        }
    }
    context.print(&text)?;
    Ok(Exit::Ok)
}

fn comply(args: &AwsComplyArgs, context: &Context) -> Result<Exit, Fault> {
    let read = || -> anyhow::Result<Value> { Ok(serde_json::from_slice(&std::fs::read(&args.report)?)?) };
    let bad = |error: anyhow::Error| {
        let error = error.context(format!("cannot read {} as a report", args.report.display()));
        Fault::new("E0906", Exit::BadInput, error).hint("name the report.json of `patchloom patch`")
    };
    let report = read().map_err(bad)?;
    let missing = report["missing"].as_array().ok_or_else(|| bad(anyhow::anyhow!("it lists no patches")))?;
    let items = items(missing);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    asked(async { Aws::new(&args.aws.options())?.put_compliance(&args.instance, "Patchloom", now, &items).await })?;
    context.print(&format!(
        "told {} of {}\n",
        crate::output::text::count(items.len(), "item", "items"),
        args.instance
    ))?;
    Ok(Exit::Ok)
}

/// The patches of a report as Systems Manager keeps compliance. None at all is told too: nobody looks as if never asked.
fn items(missing: &[Value]) -> Vec<Value> {
    let item = |row: &Value| {
        let text = |key: &str| row[key].as_str().unwrap_or_default();
        let severity = if row["security"] == true { "HIGH" } else { "UNSPECIFIED" };
        let status = if row["outcome"] == "installed" { "COMPLIANT" } else { "NON_COMPLIANT" };
        let title = format!("{} {}", text("name"), text("candidate"));
        json!({ "Id": text("name"), "Title": title, "Severity": severity, "Status": status })
    };
    match missing {
        [] => vec![json!({
            "Id": "patches", "Title": "nothing is missing", "Severity": "UNSPECIFIED", "Status": "COMPLIANT",
        })],
        rows => rows.iter().map(item).collect(),
    }
}

fn told(found: &[VolumeSnapshot], as_json: bool, context: &Context) -> Result<Exit, Fault> {
    if as_json {
        context.print_json(&found)?;
        return Ok(Exit::Ok);
    }
    let mut text = String::new();
    for one in found {
        let tag = |name: &str| one.tags.get(&format!("patchloom:{name}")).map_or("-", String::as_str);
        let (instance, run, expires) = (tag("instance"), tag("run"), tag("expires"));
        text.push_str(&format!("{}  {}  {}  {instance}  run {run}  until {expires}\n", one.id, one.volume, one.state));
    }
    context.print(if found.is_empty() { "no snapshots\n" } else { &text })?;
    Ok(Exit::Ok)
}
