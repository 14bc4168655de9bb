//! `patchloom event tail`: what the engines behind NATS tell, line by line.

use std::io::{self, Write as _};

use anyhow::anyhow;
use clap::Args;
use patchloom_core::{CloudEvent, UtcMs};
use patchloom_engine::nats::Listener;
use tokio_util::sync::CancellationToken;

use crate::cli::Context;
use crate::cli::nats::connect;
use crate::cli::run::act::threads;
use crate::cli::run::instant;
use crate::cli::serve::stopping;
use crate::fault::{Exit, Fault};
use crate::output::text;

/// Prints what the engines tell.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom event tail --nats nats://localhost:4222\n",
    "  patchloom event tail --type patchloom.run. --since 1h\n",
    "  patchloom event tail --type patchloom.run.failed --json | jq .data.run\n\n",
    "It goes on until Ctrl-C, or until --count events were printed. Facts of single steps are told where an engine runs \
     with --publish-steps.\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct EventTailArgs {
    /// Only events whose type begins with this
    #[arg(long = "type", value_name = "PREFIX", default_value = "")]
    pub kind: String,
    /// Begin with what was told at this time: 2026-11-21, RFC 3339, or a span such as 24h before now [default: now]
    #[arg(long, value_name = "TIME", value_parser = instant::parse)]
    pub since: Option<UtcMs>,
    /// End after so many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Print each event as JSON, on a line of its own
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(args: &EventTailArgs, context: &Context) -> Result<Exit, Fault> {
    let nats = &context.global.nats;
    let Some(options) = nats.options() else {
        let error = anyhow!("events are told over NATS, and no NATS server was named");
        return Err(Fault::new("E0643", Exit::Usage, error).hint(
            "give it with --nats URL or PATCHLOOM_NATS; what happens to one run without NATS shows `patchloom run watch`",
        ));
    };
    threads()?.block_on(async {
        let stop = CancellationToken::new();
        let signals = stopping(stop.clone())?;
        let connection = connect(options).await?;
        let stand = nats.stand("tail");
        let mut listener = Listener::new(&connection, &stand.names, &stand.partition, args.since);
        match listener.begin().await {
            true => eprintln!("Listens to {}.", stand.partition),
            false => eprintln!("Listens to {}; no engine has told anything yet.", stand.partition),
        }
        let mut left = args.count;
        while left != Some(0) {
            let event = tokio::select! {
                () = stop.cancelled() => break,
                event = listener.next() => event,
            };
            if !event.kind.starts_with(&args.kind) {
                continue;
            }
            if !print(&line(&event, args.json))? {
                break;
            }
            left = left.map(|left| left - 1);
        }
        signals.abort();
        Ok(Exit::Ok)
    })
}

fn line(event: &CloudEvent, json: bool) -> String {
    if json {
        return String::from_utf8_lossy(&event.structured()).into_owned();
    }
    let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let mut line = format!("{}  {}  {}", or(&event.time), event.kind, or(&event.subject));
    // Of our own facts the type says it all.
    if !event.data.is_null() && !event.kind.starts_with("patchloom.") {
        line.push_str("  ");
        line.push_str(&event.data.to_string());
    }
    text::plain(&line)
}

/// Prints a line; false where the reader has seen enough.
fn print(line: &str) -> Result<bool, Fault> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => {
            Err(Fault::new("E0904", Exit::Internal, anyhow::Error::new(error).context("cannot write to stdout")))
        }
    }
}
