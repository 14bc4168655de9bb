//! `patchloom workflow`: what may be said, and who does it. Touches no data directory.

mod check;
mod diff;
mod graph;
mod import;
mod source;
mod test;
mod unwind;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Context;
use crate::fault::{Exit, Fault};

pub(super) use source::{Source, bad};

/// Works on workflow definitions. Touches no data directory.
#[derive(Clone, Debug, Subcommand)]
#[command(subcommand_required = true)]
pub enum WorkflowCommand {
    /// Check definitions: every mistake with file, line, column, reason and fix
    Check(WorkflowCheckArgs),
    /// Draw a definition as a graph
    Graph(WorkflowGraphArgs),
    /// Show the exact way back of each step before anything runs
    Unwind(WorkflowUnwindArgs),
    /// Run the tests of workflows on a simulated engine, under a virtual clock
    Test(WorkflowTestArgs),
    /// Tell what differs between two definitions, step by step and key by key
    Diff(WorkflowDiffArgs),
    /// Translate a workflow of another engine, and name what cannot be translated
    Import(WorkflowImportArgs),
    /// Print the JSON Schema of the format, for editors
    Schema(WorkflowSchemaArgs),
}

/// Prints a JSON Schema.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom workflow schema > workflow.schema.json\n",
    "  patchloom workflow schema --tests > workflow-tests.schema.json\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct WorkflowSchemaArgs {
    /// The schema of test files instead
    #[arg(long)]
    pub tests: bool,
}

/// Runs tests of workflows.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom workflow test workflows/change.yaml\n",
    "  patchloom workflow test workflows/*.test.yaml --filter cancel\n",
    "  patchloom workflow test workflows/patch.test.yaml --json\n\n",
    "The tests of NAME.yaml stand beside it in NAME.test.yaml.\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct WorkflowTestArgs {
    /// Test files, or workflows with a test file beside them
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Only cases with this in their name
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Hand tasks out in an order drawn from this; without it the oldest comes first
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// Show the trace of each run, also where all is as expected
    #[arg(long)]
    pub trace: bool,
    /// Tell what no case ran, skipped or undid
    #[arg(long)]
    pub coverage: bool,
    /// Print the verdicts as JSON
    #[arg(long)]
    pub json: bool,
}

/// Checks definitions.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom workflow check workflows/scan.yaml\n",
    "  patchloom workflow check workflows/patch-lifecycle.yaml workflows/verify.yaml --json\n",
    "  patchloom workflow check workflows/scan.yaml --format lsp\n\n",
    "Files that are checked together may name each other's workflows.\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct WorkflowCheckArgs {
    /// Definitions in YAML; - is stdin
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// How to print the findings
    #[arg(long, value_name = "FORMAT", default_value = "text", conflicts_with = "json")]
    pub format: CheckFormat,
    /// The same as --format json
    #[arg(long)]
    pub json: bool,
}

/// How findings are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum CheckFormat {
    /// With the source shown.
    #[default]
    Text,
    /// One object.
    Json,
    /// A list of PublishDiagnosticsParams of the Language Server Protocol, for editors.
    Lsp,
}

/// How a graph is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum GraphFormat {
    /// Indented text.
    #[default]
    Text,
    /// Graphviz.
    Dot,
    /// Mermaid.
    Mermaid,
    /// Nodes and edges as JSON.
    Json,
}

/// Compares definitions.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom workflow diff workflows/scan.yaml scan\n",
    "  patchloom workflow diff workflows/patch.yaml workflows/prepare.yaml --json\n\n",
    "Order, comments and ways of writing do not count. Exit code 0: nothing differs; 1: something does.\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct WorkflowDiffArgs {
    /// The former definition in YAML, or the name of a shipped one
    #[arg(value_name = "A")]
    pub before: PathBuf,
    /// The later one
    #[arg(value_name = "B")]
    pub after: PathBuf,
    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}

/// Translates a workflow of another engine.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom workflow import nightly.yaml > workflows/nightly.yaml\n",
    "  patchloom workflow import state-machine.json --from asl --out workflows/machine.yaml\n\n",
    "What cannot be translated is named on stderr with its place. Exit code 0: all of it was; 1: something was left\n",
    "out or means something else; 4: the file cannot be read.\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct WorkflowImportArgs {
    /// The file: Argo Workflows in YAML, or Amazon States Language in JSON; - is stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Its language; without it the file tells
    #[arg(long, value_name = "LANGUAGE")]
    pub from: Option<crate::import::Language>,
    /// Write the definition to this file instead of stdout; a file that is there already is kept
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Draws a definition.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom workflow graph workflows/patch-lifecycle.yaml\n",
    "  patchloom workflow graph workflows/patch.yaml --format dot | dot -Tsvg > patch.svg\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct WorkflowGraphArgs {
    /// The definition in YAML, or the name of a shipped one
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// How to draw it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: GraphFormat,
}

/// Shows ways back.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom workflow unwind workflows/patch-lifecycle.yaml\n",
    "  patchloom workflow unwind workflows/patch.yaml --step install\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct WorkflowUnwindArgs {
    /// The definition in YAML, or the name of a shipped one
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Only the way back from a failure in this step
    #[arg(long, value_name = "STEP")]
    pub step: Option<String>,
    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(command: &WorkflowCommand, context: &Context) -> Result<Exit, Fault> {
    match command {
        WorkflowCommand::Check(args) => check::run(args, context),
        WorkflowCommand::Diff(args) => diff::run(args, context),
        WorkflowCommand::Graph(args) => graph::run(args, context),
        WorkflowCommand::Unwind(args) => unwind::run(args, context),
        WorkflowCommand::Test(args) => test::run(args, context),
        WorkflowCommand::Import(args) => import::run(args, context),
        WorkflowCommand::Schema(args) => {
            let schema = if args.tests { crate::workflow_test::schema() } else { patchloom_core::schema() };
            context.print_json(&schema)?;
            Ok(Exit::Ok)
        }
    }
}
