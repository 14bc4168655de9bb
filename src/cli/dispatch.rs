//! Where the commands go that need the engine.

use super::{Context, EngineCommand, patch, workflow};
use crate::fault::{Exit, Fault};

/// Runs one of them.
pub(super) fn run(command: EngineCommand, context: &Context) -> Result<Exit, Fault> {
    match command {
        EngineCommand::Patch(args) => patch::run(&args, context),
        EngineCommand::Workflow(command) => workflow::run(&command, context),
        EngineCommand::Run(_) | EngineCommand::Change(_) | EngineCommand::Journal(_) | EngineCommand::Bench(_) => {
            Err(Fault::new("E0909", Exit::Unable, anyhow::anyhow!("this build has no such command")))
        }
    }
}
