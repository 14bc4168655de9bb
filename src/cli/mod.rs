//! The command line: what can be said, and where it goes.
//!
//! One file per group of commands. [`Command`] holds the commands that need nothing but this machine;
//! [`EngineCommand`] those that need the engine.

mod aws;
mod backup;
mod baseline;
mod bench;
mod campaign;
mod carried;
mod change;
mod completions;
mod correlate;
mod dispatch;
mod doctor;
mod event;
mod evidence;
mod explain;
mod failure;
mod hold;
mod inventory;
mod journal;
mod nats;
mod nats_setup;
mod patch;
mod plan;
mod risk;
mod run;
mod serve;
mod snapshot;
mod ssh;
mod store;
mod task;
mod version;
mod window;
mod worker;
mod workflow;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

pub use aws::{AwsArgs, AwsCommand, AwsComplyArgs, AwsSnapshotArgs, AwsSnapshotsArgs, AwsStatesArgs};
pub use backup::{BackupCommand, BackupListArgs, BackupPruneArgs};
pub use baseline::{BaselineCommand, BaselineExportArgs, BaselineImportArgs, BaselineTestArgs};
pub use bench::{BenchCommand, BenchCorrelateArgs, BenchEngineArgs, BenchFanoutArgs};
pub use campaign::{CampaignCommand, CampaignRunArgs, CampaignShowArgs};
pub use carried::{HostAskArgs, HostCommand, HostRunArgs};
pub use change::{ChangeCommand, ChangeDecisionArgs, ChangeListArgs, ChangeShowArgs};
pub use completions::CompletionsArgs;
pub use correlate::{AssumeChoice, CorrelateArgs};
pub use doctor::DoctorArgs;
pub use event::{EventCommand, EventSendArgs, EventTailArgs};
pub use evidence::{EvidenceCommand, EvidenceExportArgs, EvidenceVerifyArgs};
pub use explain::ExplainArgs;
pub use failure::{FailureClassifyArgs, FailureClusterArgs, FailureCommand, ManagerChoice};
pub use hold::{EcosystemChoice, HeldArgs, HoldAddArgs, HoldCommand, HoldListArgs, HoldReleaseArgs};
pub use inventory::{
    InventoryCheckArgs, InventoryCommand, InventoryDiffArgs, InventoryImportArgs, InventoryShowArgs, InventorySources,
};
pub use journal::{JournalArgs, JournalCommand, JournalExportArgs, JournalMoveArgs, Whither};
pub use nats::NatsArgs;
pub use nats_setup::{NatsCommand, NatsSetupArgs};
pub use patch::PatchArgs;
pub use plan::{CutoffChoice, PlanArgs, PlanCommand, PlanDiffArgs, PlanShowArgs, RebootChoice, SimulateArgs, ViewArgs};
pub use risk::{Answer, RiskCommand, RiskExplainArgs};
pub use run::{
    Choice, Exceed, RunCancelArgs, RunCommand, RunDecideArgs, RunExportArgs, RunHistoryArgs, RunImportArgs,
    RunListArgs, RunMigrateArgs, RunPauseArgs, RunPruneArgs, RunQuarantineArgs, RunReleaseArgs, RunRerunArgs,
    RunResolveArgs, RunRetryArgs, RunSelector, RunShowArgs, RunSignalArgs, RunSkipArgs, RunStartArgs, RunState,
    RunTuneArgs, RunWatchArgs, RunWhyArgs, Signal,
};
pub use serve::ServeArgs;
pub use snapshot::{SnapshotCommand, SnapshotListArgs, SnapshotPruneArgs};
pub use ssh::SshArgs;
pub use task::{TaskCommand, TaskListArgs, TaskShowArgs};
pub use version::{Relation, SchemeChoice, VersionCommand, VersionCompareArgs};
pub use window::{
    CalendarSelector, WindowCheckArgs, WindowCommand, WindowExplainArgs, WindowListArgs, WindowNextArgs, WindowSetArgs,
};
pub use worker::WorkerArgs;
pub use workflow::{
    CheckFormat, WorkflowCheckArgs, WorkflowCommand, WorkflowDiffArgs, WorkflowGraphArgs, WorkflowImportArgs,
    WorkflowSchemaArgs, WorkflowTestArgs, WorkflowUnwindArgs,
};

use crate::data_dir;
use crate::fault::{EXIT_CODES, Exit, Fault};
use crate::logging;
use crate::output::{ColorChoice, Screen};

/// Everything that may stand on the command line.
#[derive(Debug, Parser)]
#[command(
    name = "patchloom",
    version,
    about = "Weaves the whole life of a patch into one durable run",
    long_about = "Patchloom weaves the whole life of a patch into one durable run: scan, correlate, change request, \
                  backup, patch, verify and close.",
    after_help = EXIT_CODES,
    propagate_version = true,
    max_term_width = 100
)]
pub struct Cli {
    /// What stands before or after any command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// What stands before or after any command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Where the state lives [default: /var/lib/patchloom for root, else ~/.local/state/patchloom]
    #[arg(long, global = true, value_name = "DIR", env = "PATCHLOOM_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// When to colour; NO_COLOR is honoured
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: ColorChoice,
    /// Tell more on stderr; twice for debugging
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// The engines behind a NATS server.
    #[command(flatten)]
    pub nats: NatsArgs,
}

/// The commands.
#[derive(Debug, Subcommand)]
#[command(subcommand_required = true)]
pub enum Command {
    /// What needs the engine.
    #[command(flatten)]
    Engine(EngineCommand),
    /// Look at this machine: what is missing, and how to get it
    Doctor(DoctorArgs),
    /// Prepare NATS servers: accounts, keys, certificates
    #[command(subcommand)]
    Nats(NatsCommand),
    /// Explain an error code: meaning, likely causes, what to do
    Explain(ExplainArgs),
    /// Read, write and ask patch baselines of AWS Systems Manager
    #[command(subcommand)]
    Baseline(BaselineCommand),
    /// Read hosts from files and clouds, record them, tell what differs
    #[command(subcommand)]
    Inventory(InventoryCommand),
    /// Snapshot the volumes of instances of AWS, list and delete the snapshots, ask for patch states
    #[command(subcommand)]
    Aws(AwsCommand),
    /// Plan a campaign: who is patched when, in which wave and window, and what will not fit
    Plan(Box<PlanArgs>),
    /// Tell what scanners' findings mean on a host: fixable now, not offered, no fix, and by when
    Correlate(CorrelateArgs),
    /// Tell how the score and the deadline of a vulnerability come about
    #[command(subcommand)]
    Risk(RiskCommand),
    /// Tell why a package manager failed
    #[command(subcommand)]
    Failure(FailureCommand),
    /// Hold package versions back, and release them
    #[command(subcommand)]
    Hold(HoldCommand),
    /// Export and verify the evidence of a change
    #[command(subcommand)]
    Evidence(EvidenceCommand),
    /// Compare versions of packages
    #[command(subcommand)]
    Version(VersionCommand),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}

/// The commands that need the engine.
#[derive(Debug, Subcommand)]
pub enum EngineCommand {
    /// Run the whole life of a patch: on this machine, or on a Debian root directory
    #[command(long_about = patch::ABOUT)]
    Patch(PatchArgs),
    /// Patch many hosts under one change request: canary, pilot, broad
    #[command(subcommand)]
    Campaign(CampaignCommand),
    /// Run an engine: alone on a data directory, or one of several behind a NATS server
    #[command(long_about = serve::ABOUT)]
    Serve(ServeArgs),
    /// Run a worker: takes tasks from queues of a NATS server and does them on this machine
    Worker(WorkerArgs),
    /// Check and draw workflow definitions
    #[command(subcommand)]
    Workflow(WorkflowCommand),
    /// Ask calendars when they are open: maintenance windows, freezes, holidays
    #[command(subcommand)]
    Window(WindowCommand),
    /// List the task types that workers serve, and what they take and give
    #[command(subcommand)]
    Task(TaskCommand),
    /// Start runs, watch them and act on them
    #[command(subcommand)]
    Run(RunCommand),
    /// Read and decide change requests
    #[command(subcommand)]
    Change(ChangeCommand),
    /// List the ways back that are kept (former packages, saved files), and delete those whose time is over
    #[command(subcommand)]
    Backup(BackupCommand),
    /// List snapshots that runs took, and delete those whose time is over
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Tell events: they start runs, and complete steps that wait for them
    #[command(subcommand)]
    Event(EventCommand),
    /// Check and read the journal
    #[command(subcommand)]
    Journal(JournalCommand),
    /// Measure the engine on this machine
    #[command(subcommand)]
    Bench(BenchCommand),
    /// What workers run on hosts over SSH
    #[command(subcommand, hide = true)]
    Host(HostCommand),
}

/// What a command gets besides its own arguments.
#[derive(Clone, Debug)]
pub struct Context {
    /// What stood before or after the command.
    pub global: Global,
    /// Where data goes: stdout.
    pub out: Screen,
    /// Where talk goes: stderr.
    pub talk: Screen,
}

impl Context {
    /// Looks at the streams and the environment.
    #[must_use]
    pub fn new(global: Global) -> Self {
        let out = Screen::of(&io::stdout(), global.color);
        let talk = Screen::of(&io::stderr(), global.color);
        Self { global, out, talk }
    }

    /// The data directory that this call works on: the copy of a partition's journal where its engines are behind NATS. It
    /// need not exist yet.
    ///
    /// # Errors
    /// `E0902` where there is no place for one.
    pub fn data_dir(&self) -> Result<PathBuf, Fault> {
        let own = self.own_dir()?;
        Ok(if self.global.nats.options().is_some() { self.global.nats.copy(&own) } else { own })
    }

    /// The data directory of a process that stays: an engine's copy of the journal, a worker's files.
    ///
    /// # Errors
    /// `E0902` where there is no place for one.
    pub fn own_dir(&self) -> Result<PathBuf, Fault> {
        data_dir::resolve(self.global.data_dir.clone())
    }

    /// Writes data to stdout. A reader that has seen enough and closed the pipe (`| head`) is no error.
    ///
    /// # Errors
    /// `E0904` where stdout cannot be written, such as a full disk.
    pub fn print(&self, text: &str) -> Result<(), Fault> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Fault::new("E0904", Exit::Internal, anyhow::Error::new(error).context("cannot write to stdout")))
            }
            _ => Ok(()),
        }
    }

    /// Writes a value as indented JSON to stdout.
    ///
    /// # Errors
    /// As [`print`](Self::print).
    pub fn print_json(&self, value: &impl serde::Serialize) -> Result<(), Fault> {
        let mut text =
            serde_json::to_string_pretty(value).expect("our own types have string keys and no fallible field");
        text.push('\n');
        self.print(&text)
    }
}

/// Reads the command line of this process, runs it and tells how it went.
#[must_use]
pub fn main() -> ExitCode {
    ExitCode::from(run_line(std::env::args_os()).code())
}

/// Runs one command line.
pub fn run_line(line: impl IntoIterator<Item = OsString>) -> Exit {
    let cli = match Cli::try_parse_from(line) {
        Ok(cli) => cli,
        Err(error) => {
            // clap knows whether this is help, for stdout, or a complaint; a closed pipe does not matter for either.
            drop(error.print());
            return if error.use_stderr() { Exit::Usage } else { Exit::Ok };
        }
    };
    let context = Context::new(cli.global);
    logging::start(context.global.verbose, context.talk.style != crate::output::Style::PLAIN);
    match run(cli.command, &context) {
        Ok(exit) => exit,
        Err(fault) => {
            eprint!("{}", fault.render(context.talk.style));
            fault.exit()
        }
    }
}

fn run(command: Command, context: &Context) -> Result<Exit, Fault> {
    match command {
        Command::Engine(command) => dispatch::run(command, context),
        Command::Doctor(args) => doctor::run(&args, context),
        Command::Nats(command) => nats_setup::run(&command, context),
        Command::Explain(args) => explain::run(&args, context),
        Command::Baseline(command) => baseline::run(&command, context),
        Command::Inventory(command) => inventory::run(&command, context),
        Command::Plan(args) => plan::run(&args, context),
        Command::Correlate(args) => correlate::run(&args, context),
        Command::Risk(command) => risk::run(&command, context),
        Command::Failure(command) => failure::run(&command, context),
        Command::Hold(command) => hold::run(&command, context),
        Command::Aws(command) => aws::run(&command, context),
        Command::Evidence(command) => evidence::run(&command, context),
        Command::Version(command) => version::run(&command, context),
        Command::Completions(args) => completions::run(&args, context),
    }
}

/// The whole grammar of the command line, for completions and the manual.
#[must_use]
pub fn grammar() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The commands that need the engine, parsed as they will be.
    #[derive(Debug, Parser)]
    struct EngineCli {
        #[command(flatten)]
        global: Global,
        #[command(subcommand)]
        command: EngineCommand,
    }

    fn each(command: &clap::Command, visit: &mut impl FnMut(&clap::Command)) {
        visit(command);
        // clap's own 'help' repeats every command without its texts.
        command.get_subcommands().filter(|sub| sub.get_name() != "help").for_each(|sub| each(sub, visit));
    }

    #[test]
    fn the_grammar_contradicts_itself_nowhere() {
        Cli::command().debug_assert();
        EngineCli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_examples_and_exit_codes() {
        for mut grammar in [Cli::command(), EngineCli::command()] {
            grammar.build();
            each(&grammar, &mut |command| {
                if command.has_subcommands() {
                    return;
                }
                let help = command.clone().render_long_help().to_string();
                assert!(help.contains("Examples:\n"), "{} has no examples:\n{help}", command.get_name());
                assert!(help.contains("Exit codes:\n"), "{} has no exit codes", command.get_name());
            });
        }
    }

    /// The words of an example as a shell takes them, up to what the shell itself does.
    fn words(example: &str) -> Vec<String> {
        let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
        for c in example.chars().chain([' ']) {
            match quote {
                Some(end) if c == end => quote = None,
                None if matches!(c, '\'' | '"') => quote = Some(c),
                None if c == ' ' => words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty())),
                _ => word.push(c),
            }
        }
        words.into_iter().take_while(|word| !["|", "<", ">", "#", "&&"].contains(&word.as_str())).collect()
    }

    #[test]
    fn every_example_parses() {
        for mut grammar in [Cli::command(), EngineCli::command()] {
            grammar.build();
            let mut examples = Vec::new();
            each(&grammar, &mut |command| {
                let help = command.clone().render_long_help().to_string();
                let lines = help.lines().map(str::trim);
                let lines = lines.filter(|line| !line.ends_with("<COMMAND>"));
                examples.extend(lines.filter_map(|line| line.strip_prefix("patchloom ")).map(str::to_owned));
            });
            let names: Vec<String> = grammar.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
            for example in examples {
                let words = words(&example);
                if names.contains(&words[0]) {
                    let words = ["patchloom".to_owned()].into_iter().chain(words);
                    let parsed = grammar.clone().try_get_matches_from(words);
                    assert!(parsed.is_ok(), "{example}: {}", parsed.unwrap_err());
                }
            }
        }
    }

    #[test]
    fn a_typo_gets_a_suggestion_and_exit_code_2() {
        let error = Cli::try_parse_from(["patchloom", "docter"]).unwrap_err();
        assert!(error.to_string().contains("'doctor'"), "{error}");
        assert_eq!(run_line(["patchloom", "--no-such-flag"].map(OsString::from)), Exit::Usage);
    }

    #[test]
    fn options_of_every_command_may_stand_behind_it() {
        let cli = EngineCli::try_parse_from(["patchloom", "patch", "--apply", "--data-dir", "/d", "-vv"]).unwrap();
        assert_eq!(cli.global.data_dir, Some(PathBuf::from("/d")));
        assert_eq!(cli.global.verbose, 2);
        assert!(matches!(cli.command, EngineCommand::Patch(PatchArgs { apply: true, .. })));
    }

    #[test]
    fn the_manual_names_every_command() {
        fn walk(command: &clap::Command, path: &str, manual: &str) {
            for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
                let path = format!("{path} {}", sub.get_name());
                let path = path.trim();
                let named = sub.has_subcommands() || manual.contains(&format!("`{path}"));
                assert!(named, "docs/cli.md says nothing of '{path}': add it to the table of commands");
                walk(sub, path, manual);
            }
        }
        let manual = include_str!("../../docs/cli.md");
        walk(&Cli::command(), "", manual);
        walk(&EngineCli::command(), "", manual);
    }
}
