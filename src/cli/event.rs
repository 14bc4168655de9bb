//! `patchloom event`: tells events to the engine, and listens to its own.

mod tail;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use patchloom_core::{CloudEvent, EVENT_BYTES_MAX, EventMistake};
use patchloom_engine::runtime::Published;

use super::Context;
use super::run::act::lead;
use crate::fault::{Exit, Fault};
use crate::host::engine_fault;
use crate::lifecycle;

pub use tail::EventTailArgs;

/// Works with events.
#[derive(Clone, Debug, Subcommand)]
#[command(subcommand_required = true)]
pub enum EventCommand {
    /// Tell an event: it starts runs, and completes steps that wait for it
    Send(EventSendArgs),
    /// Print what the engines behind NATS tell, as it happens
    Tail(EventTailArgs),
}

/// Tells an event.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom event send scan-completed.json\n",
    "  patchloom event send - < scan-completed.json\n\n",
    "The file holds one event in the JSON format of CloudEvents 1.0. Telling it again does nothing.\n\n",
    include_str!("exit_codes.txt")
))]
pub struct EventSendArgs {
    /// The event; - is stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

pub(super) fn run(command: &EventCommand, context: &Context) -> Result<Exit, Fault> {
    match command {
        EventCommand::Send(args) => send(args, context),
        EventCommand::Tail(args) => tail::run(args, context),
    }
}

fn send(args: &EventSendArgs, context: &Context) -> Result<Exit, Fault> {
    let name = args.file.display().to_string();
    let text = read(&args.file)
        .with_context(|| format!("cannot read the event from {name}"))
        .map_err(|error| Fault::new("E0906", Exit::BadInput, error))?;
    let event = CloudEvent::read(&text).map_err(|mistakes| refused(&name, &mistakes))?;
    let id = event.id.clone();
    let published =
        lead(context, async |host| host.handle().publish(&lifecycle::by(), event).await.map_err(engine_fault))?;
    context.print(match published {
        Published::Recorded => "recorded\n",
        Published::Known => "known\n",
        Published::Unwanted => "unwanted\n",
    })?;
    match published {
        Published::Recorded => eprintln!("What it started: patchloom run list --label event.id={id}"),
        Published::Known => eprintln!("It came in the last 24 hours already; nothing was done."),
        Published::Unwanted => eprintln!("No workflow has a trigger for it and no run waits for it; nothing was done."),
    }
    Ok(Exit::Ok)
}

fn read(path: &Path) -> std::io::Result<String> {
    // One more than is taken: that it is too long is then seen.
    let most = u64::try_from(EVENT_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().lock().take(most).read_to_string(&mut text)?;
    } else {
        std::fs::File::open(path)?.take(most).read_to_string(&mut text)?;
    }
    Ok(text)
}

fn refused(name: &str, mistakes: &[EventMistake]) -> Fault {
    let list: Vec<String> = mistakes.iter().map(|mistake| format!("\n  {mistake}")).collect();
    let error = anyhow!("{name} is no event that CloudEvents 1.0 allows:{}", list.concat());
    Fault::new("E0330", Exit::BadInput, error).hint("mend it at the places named; docs/events.md shows a whole one")
}
