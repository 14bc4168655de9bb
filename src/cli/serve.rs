//! `patchloom serve`: an engine that stays.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use patchloom_core::Millis;
use patchloom_engine::events::InProcess;
use patchloom_engine::nats::{Durability, NatsOptions, Preflight, Stand, StandEnd, StandOptions, stand};
use patchloom_engine::runtime::Status;
use patchloom_workers::runtime::DataDir;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::Context;
use super::nats::{connect, nats_fault};
use super::run::act::threads;
use crate::fault::{Exit, Fault};
use crate::host::{self, Host, decisions, open_fault};

/// What `patchloom serve --help` begins with.
pub const ABOUT: &str = "Run an engine until it is asked to stop.

Without --nats it leads its data directory and works on the tasks itself: one process, no server. With --nats it is one of \
as many engines as you like: one leads, the others follow its journal and take over when it is gone; tasks go to \
`patchloom worker` processes.";

/// Before an engine that stood already tries again to stand.
const AGAIN: Duration = Duration::from_millis(500);

/// Runs an engine.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom serve\n",
    "  patchloom serve --nats nats://localhost:4222 --data-dir /var/lib/patchloom\n",
    "  patchloom serve --nats nats://a:4222,nats://b:4222,nats://c:4222 --replicas 3\n\n",
    "SIGTERM and Ctrl-C stop it at once and lose nothing.\n\n",
    include_str!("exit_codes.txt")
))]
pub struct ServeArgs {
    /// What this engine is called [default: the name of the machine]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// How many servers of the cluster keep each record: 1 or 3
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=5))]
    pub replicas: u8,
    /// For how long nobody leads after a leader died without a word; the same for all engines of a partition
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub lease: Millis,
    /// Refuse to lead unless the server writes each record to its disk before it acknowledges it
    #[arg(long)]
    pub strict: bool,
}

pub(super) fn run(args: &ServeArgs, context: &Context) -> Result<Exit, Fault> {
    let data = context.own_dir()?;
    let stop = CancellationToken::new();
    threads()?.block_on(async {
        let signals = stopping(stop.clone())?;
        let end = match context.global.nats.options() {
            Some(options) => behind_nats(args, context, options, &data, &stop).await,
            None => alone(&data, &stop).await,
        };
        signals.abort();
        end
    })
}

/// Fires `stop` on SIGTERM and SIGINT.
pub(super) fn stopping(stop: CancellationToken) -> Result<tokio::task::JoinHandle<()>, Fault> {
    let listen = |kind| {
        let listened = signal(kind).context("cannot listen to signals");
        listened.map_err(|error| Fault::new("E0450", Exit::Internal, error))
    };
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    }))
}

/// What a process is called that was not given a name.
pub(super) fn machine() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "patchloom".to_owned() } else { name }
}

async fn alone(data: &Path, stop: &CancellationToken) -> Result<Exit, Fault> {
    let host = Host::open(data).await?;
    eprintln!("Leads {}.", data.display());
    let mut status = host.handle().status();
    let end = loop {
        tokio::select! {
            () = stop.cancelled() => break Ok(Exit::Ok),
            changed = status.changed() => match (changed, &*status.borrow_and_update()) {
                (Ok(()), Status::Stopped { reason: None }) | (Err(_), _) => break Ok(Exit::Ok),
                (Ok(()), Status::Stopped { reason: Some(reason) }) => {
                    break Err(Fault::new("E0413", Exit::Internal, anyhow!("the engine has stopped: {reason}")));
                }
                (Ok(()), Status::Stalled { reason }) => eprintln!("Stalled, nothing is lost: {reason}"),
                (Ok(()), Status::Leading | Status::Following) => {}
            },
        }
    };
    host.close().await;
    end
}

async fn behind_nats(
    args: &ServeArgs,
    context: &Context,
    nats: NatsOptions,
    data: &Path,
    stop: &CancellationToken,
) -> Result<Exit, Fault> {
    let name = args.name.clone().unwrap_or_else(machine);
    let connection = connect(NatsOptions { name: format!("patchloom engine {name}"), ..nats }).await?;
    let fit = Preflight::look(&connection).await.map_err(nats_fault)?;
    eprintln!("{fit}");
    if args.strict && !matches!(fit.durability, Durability::Strict) {
        let error = anyhow!("--strict is given, and the durability of this server is {}", fit.durability.word());
        return Err(Fault::new("E0649", Exit::Unable, error)
            .hint("set 'sync_interval: always' in its jetstream section, and name its monitors with --nats-monitor"));
    }
    let options = StandOptions {
        replicas: usize::from(args.replicas),
        ttl: Duration::from_millis(args.lease.0),
        ..context.global.nats.stand(&name)
    };
    let mut stood = false;
    loop {
        let standing = match stand(&connection, data, InProcess::default(), options.clone()).await {
            Ok(standing) => standing,
            // It was there before: whoever was deposed by a storm among the servers waits until that is over.
            Err(error) if stood && host::is_away(&error) => {
                tracing::warn!(error = %error, "the journal cannot be reached");
                tokio::select! {
                    () = stop.cancelled() => return Ok(Exit::Ok),
                    () = tokio::time::sleep(AGAIN) => continue,
                }
            }
            Err(error) => return Err(open_fault(error)),
        };
        stood = true;
        match serve(standing, data, &options, stop).await? {
            StandEnd::Stopped => return Ok(Exit::Ok),
            StandEnd::Deposed => eprintln!("Another engine leads the partition {} now.", options.partition),
            StandEnd::Failed { reason } => {
                return Err(Fault::new("E0413", Exit::Internal, anyhow!("the engine has stopped: {reason}")));
            }
        }
    }
}

/// Until it is over: tells how it stands, and does what only the leader does.
async fn serve(
    mut standing: Stand,
    data: &Path,
    options: &StandOptions,
    stop: &CancellationToken,
) -> Result<StandEnd, Fault> {
    for note in &standing.notes {
        eprintln!("note: {note}");
    }
    let (handle, mut status) = (standing.handle.clone(), standing.handle.status());
    let (mut told, office) = (None, CancellationToken::new());
    let end = loop {
        tokio::select! {
            end = standing.ended() => break end,
            () = stop.cancelled() => {
                handle.stop().await;
                break standing.ended().await;
            }
            changed = status.changed() => {
                let now = status.borrow_and_update().clone();
                if changed.is_err() {
                    break standing.ended().await;
                }
                match &now {
                    Status::Following if told != Some(now.clone()) => eprintln!("Follows {}.", options.partition),
                    Status::Leading if !matches!(told, Some(Status::Leading | Status::Stalled { .. })) => {
                        eprintln!("Leads {}.", options.partition);
                        tokio::spawn(in_office(handle.clone(), DataDir::new(data).changes(), office.clone()));
                    }
                    Status::Stalled { reason } => eprintln!("Stalled, nothing is lost: {reason}"),
                    Status::Following | Status::Leading | Status::Stopped { .. } => {}
                }
                told = Some(now);
            }
        }
    };
    office.cancel();
    Ok(end)
}

/// What only the leader does beside leading.
async fn in_office(handle: patchloom_engine::runtime::Handle, changes: std::path::PathBuf, end: CancellationToken) {
    if let Err(fault) = host::register_shipped(&handle).await {
        tracing::warn!(fault = %fault.render(crate::output::Style::PLAIN), "the shipped workflows are not registered");
    }
    decisions::carry(handle, changes, end).await;
}
