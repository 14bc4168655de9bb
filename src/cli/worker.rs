//! `patchloom worker`: does tasks out of queues of a NATS server, on this machine.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use patchloom_core::QueueName;
use patchloom_engine::nats::{Connection, NatsOptions};
use patchloom_workers::nats::{NatsSource, SourceOptions};
use patchloom_workers::runtime::{DataDir, PoolConfig, WorkerPool};
use tokio_util::sync::CancellationToken;

use super::nats::connect;
use super::run::act::threads;
use super::serve::{machine, stopping};
use super::{Context, SshArgs};
use crate::fault::{Exit, Fault};
use crate::host::handlers_with;

/// Runs a worker.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom worker --nats nats://localhost:4222\n",
    "  patchloom worker --nats nats://localhost:4222 --queue berlin --queue default --label site=berlin\n\n",
    "While the server answers, the file worker.alive in the data directory is written anew every 5 seconds: for health checks.\n",
    "SIGTERM and Ctrl-C let it finish what it has begun; it takes nothing new meanwhile.\n\n",
    include_str!("exit_codes.txt")
))]
pub struct WorkerArgs {
    /// A queue to take tasks from; may be given several times
    #[arg(long = "queue", value_name = "NAME", default_value = "default")]
    pub queues: Vec<QueueName>,
    /// What this worker is called; no two may have one name [default: the name of the machine and of the process]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// What people know it by
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// Tasks at a time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    pub parallel: u16,
    /// How many seconds tasks may go on after it was asked to stop: what dpkg has begun is better finished
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub drain: u64,
    /// Hosts over SSH.
    #[command(flatten)]
    pub ssh: SshArgs,
}

/// The file in the data directory whose age says since when the server did not answer.
const ALIVE: &str = "worker.alive";
/// How often the server is asked.
const ALIVE_EVERY: Duration = Duration::from_secs(5);

/// Writes a file anew each time the server answers: health checks look at its age.
async fn tell_alive(connection: Connection, file: PathBuf) {
    loop {
        if connection.answers(ALIVE_EVERY).await
            && let Err(error) =
                file.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&file, b""))
        {
            tracing::warn!(%error, file = %file.display(), "cannot be written");
        }
        tokio::time::sleep(ALIVE_EVERY).await;
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(super) fn run(args: &WorkerArgs, context: &Context) -> Result<Exit, Fault> {
    let Some(options) = context.global.nats.options() else {
        let error = anyhow!("a worker needs the address of a NATS server");
        return Err(Fault::new("E0643", Exit::Usage, error).hint("give it with --nats URL or PATCHLOOM_NATS"));
    };
    let data = DataDir::new(context.own_dir()?);
    let handlers = handlers_with(&args.ssh.carrier()).map_err(|error| Fault::new("E0591", Exit::Internal, error))?;
    let name = args.name.clone().unwrap_or_else(|| format!("{}-{}", machine(), std::process::id()));
    threads()?.block_on(async {
        let stop = CancellationToken::new();
        let signals = stopping(stop.clone())?;
        let connection = connect(NatsOptions { name: format!("patchloom worker {name}"), ..options }).await?;
        let labels = args.labels.iter().map(|(name, value)| (Arc::from(name.as_str()), Arc::from(value.as_str())));
        let source = SourceOptions { labels: labels.collect(), ..SourceOptions::new(&name, args.queues.clone()) };
        let source = NatsSource::start(connection.client().clone(), source, stop.clone());
        let config = PoolConfig {
            parallel: usize::from(args.parallel),
            drain: Duration::from_secs(args.drain),
            ..PoolConfig::default()
        };
        data.sweep();
        let alive = tokio::spawn(tell_alive(connection.clone(), context.own_dir()?.join(ALIVE)));
        let queues: Vec<String> = args.queues.iter().map(ToString::to_string).collect();
        eprintln!("Worker {name} serves {}.", queues.join(", "));
        WorkerPool::new(Arc::new(source), handlers, data, config).run(stop).await;
        signals.abort();
        alive.abort();
        eprintln!("Done.");
        Ok(Exit::Ok)
    })
}
