//! Where the commands go that need the engine.

use super::{
    Context, EngineCommand, backup, bench, campaign, carried, change, event, journal, patch, run as runs, serve,
    snapshot, task, window, worker, workflow,
};
use crate::fault::{Exit, Fault};

/// Runs one of them.
pub(super) fn run(command: EngineCommand, context: &Context) -> Result<Exit, Fault> {
    match command {
        EngineCommand::Patch(args) => patch::run(&args, context),
        EngineCommand::Campaign(command) => campaign::run(&command, context),
        EngineCommand::Serve(args) => serve::run(&args, context),
        EngineCommand::Worker(args) => worker::run(&args, context),
        EngineCommand::Workflow(command) => workflow::run(&command, context),
        EngineCommand::Window(command) => window::run(&command, context),
        EngineCommand::Task(command) => task::run(&command, context),
        EngineCommand::Run(command) => runs::run(&command, context),
        EngineCommand::Change(command) => change::run(&command, context),
        EngineCommand::Backup(command) => backup::run(&command, context),
        EngineCommand::Snapshot(command) => snapshot::run(&command, context),
        EngineCommand::Event(command) => event::run(&command, context),
        EngineCommand::Journal(command) => journal::run(&command, context),
        EngineCommand::Bench(command) => bench::run(&command, context),
        EngineCommand::Host(command) => carried::run(&command, context),
    }
}
