//! `patchloom host`: the host's side of tasks that are carried there. People have no need of it.

use std::io;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use patchloom_workers::carry;
use patchloom_workers::runtime::DataDir;

use super::Context;
use crate::fault::{Exit, Fault};

/// What a worker runs on a host over SSH.
#[derive(Clone, Debug, Subcommand)]
#[command(subcommand_required = true)]
pub enum HostCommand {
    /// Answer one question of a worker, from stdin to stdout
    Ask(HostAskArgs),
    /// Do one carried task, whose files lie in a directory
    Run(HostRunArgs),
}

/// Answers one question.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  echo '{\"ask\":\"hello\"}' | patchloom host ask\n\n",
    "Workers run it over SSH: one line of JSON comes in, one goes out; see docs/ssh.md.\n\n",
    include_str!("exit_codes.txt")
))]
pub struct HostAskArgs {}

/// Does one carried task.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom host run /var/lib/patchloom/tasks/NAME\n\n",
    "Where another process does the task or it has its outcome, it ends at once.\n\n",
    include_str!("exit_codes.txt")
))]
pub struct HostRunArgs {
    /// The directory of the task
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

pub(super) fn run(command: &HostCommand, context: &Context) -> Result<Exit, Fault> {
    let data = DataDir::new(context.own_dir()?);
    match command {
        HostCommand::Ask(HostAskArgs {}) => {
            let program = std::env::current_exe().context("cannot find the program that runs");
            let program = program.map_err(|error| Fault::new("E0579", Exit::Internal, error))?;
            let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
            carry::answer(&data, &program, &mut input, &mut output)
                .context("cannot answer a worker")
                .map_err(|error| Fault::new("E0579", Exit::Internal, error))?;
        }
        HostCommand::Run(args) => {
            let done = super::run::act::threads()?.block_on(carry::run(&data, &args.dir));
            done.map_err(|error| {
                Fault::new(error.code(), Exit::Internal, anyhow::Error::new(error).context("no outcome is left"))
            })?;
        }
    }
    Ok(Exit::Ok)
}
