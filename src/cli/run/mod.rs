//! `patchloom run`: what may be said, and who does it.
//!
//! What only reads looks into the data directory without its lock; what acts leads the engine for as long as it takes.

pub(super) mod act;
mod history;
pub(super) mod instant;
mod list;
mod operate;
mod orders;
mod portable;
mod prune;
mod show;
mod story;
mod watching;
mod why;

use std::path::PathBuf;

use clap::{Args, Subcommand};

pub use orders::{
    Choice, Exceed, RunDecideArgs, RunMigrateArgs, RunPauseArgs, RunQuarantineArgs, RunReleaseArgs, RunRerunArgs,
    RunResolveArgs, RunSkipArgs, RunTuneArgs,
};
pub use portable::{RunExportArgs, RunImportArgs};
pub use prune::RunPruneArgs;

use super::Context;
use crate::fault::{Exit, Fault};

/// Works on runs.
#[derive(Clone, Debug, Subcommand)]
#[command(subcommand_required = true)]
pub enum RunCommand {
    /// Start a run of a workflow
    Start(RunStartArgs),
    /// List runs, the latest first
    List(RunListArgs),
    /// Show one run: state, steps, output
    Show(RunShowArgs),
    /// Follow a run until it ends
    Watch(RunWatchArgs),
    /// Everything a run did: each record with its time, cause and author
    History(RunHistoryArgs),
    /// Say in a sentence what a run waits for
    Why(RunWhyArgs),
    /// Send a named message to a run: an approval, a decision
    Signal(RunSignalArgs),
    /// Cancel a run; what it did is compensated
    Cancel(RunCancelArgs),
    /// Run a failed run again from its failed steps; what is complete keeps its output
    Retry(RunRetryArgs),
    /// Start nothing new of a run, and of the runs below it, until it is resumed
    Pause(RunPauseArgs),
    /// Have what was paused go on
    Resume(RunPauseArgs),
    /// Change the limits of a fan-out while it is under way
    Tune(RunTuneArgs),
    /// Decide on a step that failed and waits for that
    Decide(RunDecideArgs),
    /// Go on without a step that failed and waits: the same as decide skip
    Skip(RunSkipArgs),
    /// Say what was done by hand about a compensation that failed
    Resolve(RunResolveArgs),
    /// Have a run that ended go again from a step, for its failed items, or with other inputs
    Rerun(RunRerunArgs),
    /// Have a run go on as another version of its workflow
    Migrate(RunMigrateArgs),
    /// Set a run aside: nothing moves it until it is released
    Quarantine(RunQuarantineArgs),
    /// Have a run that was set aside go on
    Release(RunReleaseArgs),
    /// Take runs that are over from the archive for good
    Prune(RunPruneArgs),
    /// Write a whole run into one file: versions, entries, how it stands
    Export(RunExportArgs),
    /// Replay a run out of such a file, and compare
    Import(RunImportArgs),
}

/// Names one run.
#[derive(Clone, Debug, Args)]
pub struct RunSelector {
    /// The run: its id, the first characters of it that no other run has, or 'last'
    #[arg(value_name = "RUN")]
    pub run: String,
}

/// Starts a run.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom run start scan\n",
    "  patchloom run start workflows/scan.yaml --input offline=true --wait\n",
    "  patchloom run start patch-lifecycle --inputs inputs.json --key nightly-2026-11-21\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct RunStartArgs {
    /// The name of a shipped workflow, or a definition in YAML
    #[arg(value_name = "WORKFLOW")]
    pub workflow: String,
    /// One input; the value is JSON where it reads as such, else text
    #[arg(long = "input", value_name = "NAME=VALUE", value_parser = named_value)]
    pub inputs: Vec<(String, serde_json::Value)>,
    /// All inputs from a JSON file; - is stdin. Single inputs override it
    #[arg(long = "inputs", value_name = "FILE")]
    pub inputs_file: Option<PathBuf>,
    /// Start no second run for the same key: the first one is shown instead
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// A label, for searches
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = pair)]
    pub labels: Vec<(String, String)>,
    /// Wait until it ends, with progress
    #[arg(long)]
    pub wait: bool,
    /// Print the run as JSON
    #[arg(long)]
    pub json: bool,
}

/// States by which runs are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum RunState {
    /// Not ended yet, whatever it does.
    Open,
    /// Over, whatever came of it.
    Ended,
    /// Waits for a place in its concurrency group.
    Queued,
    /// Goes forward.
    Running,
    /// Paused as a whole.
    Paused,
    /// A step of it failed and waits for a decision.
    Held,
    /// Fails: what is out comes to rest.
    Halting,
    /// Is being undone.
    Compensating,
    /// A compensation failed: waits for a person.
    CompensationFailed,
    /// Set aside.
    Quarantined,
    /// Ended well.
    Succeeded,
    /// Ended in failure.
    Failed,
    /// Failed, and everything was put back.
    Compensated,
    /// Cancelled.
    Cancelled,
}

/// Lists runs.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom run list\n",
    "  patchloom run list --state open --limit 100\n",
    "  patchloom run list --state failed,compensated --since 24h --text E0512\n",
    "  patchloom run list --label site=berlin --input target.kind=root\n",
    "  patchloom run list --json | jq -r '.[].id'\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct RunListArgs {
    /// Only runs in one of these states; several with commas
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    pub state: Vec<RunState>,
    /// Only runs of this workflow
    #[arg(long, value_name = "NAME")]
    pub workflow: Option<String>,
    /// Only runs that began at this time or later: 2026-11-21, RFC 3339, or a span such as 24h before now
    #[arg(long, value_name = "TIME", value_parser = instant::parse)]
    pub since: Option<patchloom_core::UtcMs>,
    /// Only runs that began before this time
    #[arg(long, value_name = "TIME", value_parser = instant::parse)]
    pub until: Option<patchloom_core::UtcMs>,
    /// Only runs with this label
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = pair)]
    pub labels: Vec<(String, String)>,
    /// Only runs with this input; PATH is a name, or names with dots between them
    #[arg(long = "input", value_name = "PATH=VALUE", value_parser = named_value)]
    pub inputs: Vec<(String, serde_json::Value)>,
    /// Only the run that was started with this key
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// Only runs whose failure has this text, in capitals or not
    #[arg(long, value_name = "TEXT")]
    pub text: Option<String>,
    /// Runs that other runs started, too
    #[arg(long)]
    pub children: bool,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
    /// Print them as JSON
    #[arg(long)]
    pub json: bool,
}

/// Shows a run.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom run show last\n",
    "  patchloom run show 019f2a --json\n",
    "  patchloom run show last --at 2026-11-21T03:15:00Z\n",
    "  patchloom run show last --at 4711\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct RunShowArgs {
    /// Which.
    #[command(flatten)]
    pub run: RunSelector,
    /// As it was: at this time, or right behind this record of the journal
    #[arg(long, value_name = "TIME|RECORD", value_parser = instant::until)]
    pub at: Option<patchloom_engine::runtime::Until>,
    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}

/// Says what a run waits for.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom run why last\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct RunWhyArgs {
    /// Which.
    #[command(flatten)]
    pub run: RunSelector,
    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}

/// Follows a run.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom run watch last\n",
    "  patchloom run watch 019f2a && echo patched\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct RunWatchArgs {
    /// Which.
    #[command(flatten)]
    pub run: RunSelector,
    /// Print the ended run as JSON
    #[arg(long)]
    pub json: bool,
}

/// Reads a run's history.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom run history last\n",
    "  patchloom run history 019f2a --step install\n",
    "  patchloom run history last --json > evidence.json\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct RunHistoryArgs {
    /// Which.
    #[command(flatten)]
    pub run: RunSelector,
    /// Only records of this step
    #[arg(long, value_name = "STEP")]
    pub step: Option<String>,
    /// Print the records as JSON
    #[arg(long)]
    pub json: bool,
}

/// A named message.
#[derive(Clone, Debug, PartialEq)]
pub struct Signal {
    /// Its name, such as `change.approved`.
    pub name: String,
    /// What it carries.
    pub payload: serde_json::Value,
}

/// Sends a signal.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom run signal last change.approved\n",
    "  patchloom run signal 019f2a decision --payload '{\"go\":true}'\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct RunSignalArgs {
    /// Which.
    #[command(flatten)]
    pub run: RunSelector,
    /// The name of the signal
    #[arg(value_name = "NAME")]
    pub name: String,
    /// What it carries, as JSON
    #[arg(long, value_name = "JSON", default_value = "null", value_parser = json)]
    pub payload: serde_json::Value,
    /// A role of the sender, where the wait asks for one; may be given several times
    #[arg(long = "role", value_name = "ROLE")]
    pub roles: Vec<String>,
}

impl RunSignalArgs {
    /// The signal they describe.
    #[must_use]
    pub fn signal(&self) -> Signal {
        Signal { name: self.name.clone(), payload: self.payload.clone() }
    }
}

/// Cancels a run.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom run cancel last\n",
    "  patchloom run cancel 019f2a --reason maintenance\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct RunCancelArgs {
    /// Which.
    #[command(flatten)]
    pub run: RunSelector,
    /// Why; kept in the run's history
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

/// Runs a failed run again.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom run retry last\n",
    "  patchloom run retry 019f2a --wait\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct RunRetryArgs {
    /// Which.
    #[command(flatten)]
    pub run: RunSelector,
    /// Wait until it ends, with progress
    #[arg(long)]
    pub wait: bool,
    /// Print the run as JSON
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(command: &RunCommand, context: &Context) -> Result<Exit, Fault> {
    match command {
        RunCommand::Start(args) => act::start(args, context),
        RunCommand::List(args) => list::run(args, context),
        RunCommand::Show(args) => show::run(args, context),
        RunCommand::Watch(args) => act::watch(args, context),
        RunCommand::History(args) => history::run(args, context),
        RunCommand::Why(args) => why::run(args, context),
        RunCommand::Signal(args) => act::signal(args, context),
        RunCommand::Cancel(args) => act::cancel(args, context),
        RunCommand::Retry(args) => act::retry(args, context),
        RunCommand::Pause(args) => operate::pause(args, context),
        RunCommand::Resume(args) => operate::resume(args, context),
        RunCommand::Tune(args) => operate::tune(args, context),
        RunCommand::Decide(args) => operate::decide(args, context),
        RunCommand::Skip(args) => operate::decide(&args.decision(), context),
        RunCommand::Resolve(args) => operate::resolve(args, context),
        RunCommand::Rerun(args) => operate::rerun(args, context),
        RunCommand::Migrate(args) => operate::migrate(args, context),
        RunCommand::Quarantine(args) => operate::quarantine(args, context),
        RunCommand::Release(args) => operate::release(args, context),
        RunCommand::Prune(args) => prune::run(args, context),
        RunCommand::Export(args) => portable::export(args, context),
        RunCommand::Import(args) => portable::import(args, context),
    }
}

/// `NAME=VALUE`, where the value is JSON if it reads as JSON and text if not.
fn named_value(text: &str) -> Result<(String, serde_json::Value), &'static str> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    if name.is_empty() {
        return Err("the name before '=' is empty");
    }
    Ok((name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
}

/// `NAME=VALUE`, both as they stand.
fn pair(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("write it as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn json(text: &str) -> Result<serde_json::Value, serde_json::Error> {
    serde_json::from_str(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::named_value;

    #[test]
    fn an_input_is_json_where_it_reads_as_json_and_text_elsewhere() {
        for (text, name, value) in [
            ("offline=true", "offline", json!(true)),
            ("n=3", "n", json!(3)),
            ("target={\"kind\":\"local\"}", "target", json!({"kind": "local"})),
            ("text=a=b", "text", json!("a=b")),
            ("empty=", "empty", json!("")),
        ] {
            assert_eq!(named_value(text), Ok((name.to_owned(), value)));
        }
        assert!(named_value("offline").is_err());
        assert!(named_value("=x").is_err());
    }
}
