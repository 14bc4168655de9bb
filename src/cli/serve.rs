//! `patchloom serve`: an engine that stays.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use patchloom_core::Millis;
use patchloom_engine::events::InProcess;
use patchloom_engine::nats::{
    BusOptions, Durability, NatsEvents, NatsOptions, Preflight, Stand, StandEnd, StandOptions, stand,
};
use patchloom_engine::runtime::Status;
use patchloom_workers::runtime::DataDir;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::nats::{connect, nats_fault};
use super::run::act::threads;
use super::{Context, SshArgs};
use crate::fault::{Exit, Fault};
use crate::host::{self, Host, decisions, open_fault};
use crate::http::{self, Seat, Server, View};

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
    "  patchloom serve --nats nats://a:4222,nats://b:4222,nats://c:4222 --replicas 3\n",
    "  patchloom serve --listen 127.0.0.1:8080\n",
    "  patchloom serve --listen 0.0.0.0:8443 --token-file tokens --tls-cert cert.pem --tls-key key.pem\n\n",
    "With --listen it takes CloudEvents by POST /events, and answers GET /healthz, /readyz and /metrics.\n",
    "SIGTERM and Ctrl-C stop it at once and lose nothing; requests under way are answered first.\n\n",
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
    /// Tell the facts of single steps too, not only those of runs and waves: there may be thousands in a second
    #[arg(long)]
    pub publish_steps: bool,
    /// Tell events in the binary mode of CloudEvents: attributes as headers, data as the message
    #[arg(long)]
    pub publish_binary: bool,
    /// How many MiB of events of others may wait in NATS to be taken in; then publishers are refused until they are
    #[arg(long, value_name = "MIB", default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(1..))]
    pub events_waiting: u32,
    /// Refuse to lead unless the server writes each record to its disk before it acknowledges it
    #[arg(long)]
    pub strict: bool,
    /// Take events and answer for health over HTTP at this address, such as 127.0.0.1:8080
    #[arg(long, value_name = "ADDR", env = "PATCHLOOM_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// Let in only who shows a token of this file, one in each line; needed where others can reach the address
    #[arg(long, value_name = "FILE", env = "PATCHLOOM_TOKEN_FILE", requires = "listen")]
    pub token_file: Option<PathBuf>,
    /// The certificate chain for TLS, as PEM
    #[arg(long, value_name = "FILE", env = "PATCHLOOM_TLS_CERT", requires_all = ["listen", "tls_key"])]
    pub tls_cert: Option<PathBuf>,
    /// The key of the certificate, as PEM
    #[arg(long, value_name = "FILE", env = "PATCHLOOM_TLS_KEY", requires_all = ["listen", "tls_cert"])]
    pub tls_key: Option<PathBuf>,
    /// Hosts over SSH, where it works on tasks itself.
    #[command(flatten)]
    pub ssh: SshArgs,
}

impl ServeArgs {
    /// Listens, where that is wanted, and answers for whoever sits in `view`.
    async fn listen(&self, view: &View, durability: &'static str) -> Result<Option<Server>, Fault> {
        let Some(addr) = self.listen else { return Ok(None) };
        let tls = self.tls_cert.clone().zip(self.tls_key.clone());
        let options = http::Options { addr, tokens: self.token_file.clone(), tls, durability };
        let server = Server::start(options, view.clone()).await?;
        for note in server.notes() {
            eprintln!("{note}");
        }
        Ok(Some(server))
    }
}

/// Lets requests under way come to an end while the engine still answers them.
async fn drain(server: &mut Option<Server>) {
    if let Some(server) = server.take() {
        server.drain().await;
    }
}

pub(super) fn run(args: &ServeArgs, context: &Context) -> Result<Exit, Fault> {
    let data = context.own_dir()?;
    let stop = CancellationToken::new();
    threads()?.block_on(async {
        let signals = stopping(stop.clone())?;
        let end = match context.global.nats.options() {
            Some(options) => behind_nats(args, context, options, &data, &stop).await,
            None => alone(args, &data, &stop).await,
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

async fn alone(args: &ServeArgs, data: &Path, stop: &CancellationToken) -> Result<Exit, Fault> {
    let host = Host::open_carrying(data, &args.ssh.carrier()).await?;
    let view = View::default();
    view.set(host.seat());
    let mut server = match args.listen(&view, "strict").await {
        Ok(server) => server,
        Err(fault) => {
            host.close().await;
            return Err(fault);
        }
    };
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
    drain(&mut server).await;
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
        bus: BusOptions {
            in_bytes_max: u64::from(args.events_waiting) << 20,
            steps: args.publish_steps,
            binary: args.publish_binary,
            ..BusOptions::default()
        },
        ..context.global.nats.stand(&name)
    };
    let view = View::default();
    let mut server = args.listen(&view, fit.durability.word()).await?;
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
        view.set(Some(seat_of(&standing)));
        let end = serve(standing, data, &options, (stop, &mut server)).await?;
        view.set(None);
        match end {
            StandEnd::Stopped => return Ok(Exit::Ok),
            StandEnd::Deposed => eprintln!("Another engine leads the partition {} now.", options.partition),
            StandEnd::Failed { reason } => {
                return Err(Fault::new("E0413", Exit::Internal, anyhow!("the engine has stopped: {reason}")));
            }
        }
    }
}

fn seat_of(standing: &Stand) -> Seat {
    let queue = standing.queue.clone();
    Seat::new(standing.handle.clone(), move || queue.depth())
}

/// Until it is over: tells how it stands, and does what only the leader does.
async fn serve(
    mut standing: Stand,
    data: &Path,
    options: &StandOptions,
    (stop, server): (&CancellationToken, &mut Option<Server>),
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
                drain(server).await;
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
    if let Some(lost) = standing.told.as_ref().map(NatsEvents::lost).filter(|lost| *lost > 0) {
        eprintln!("{lost} events were not told: more happened than the server took. No run is touched by that.");
    }
    Ok(end)
}

/// What only the leader does beside leading.
async fn in_office(handle: patchloom_engine::runtime::Handle, changes: std::path::PathBuf, end: CancellationToken) {
    if let Err(fault) = host::register_shipped(&handle).await {
        tracing::warn!(fault = %fault.render(crate::output::Style::PLAIN), "the shipped workflows are not registered");
    }
    decisions::carry(handle, changes, end).await;
}
