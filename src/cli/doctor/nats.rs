//! What a NATS server is fit for, as findings of the doctor.

use std::path::PathBuf;

use clap::Args;
use patchloom_engine::nats::{Connection, Durability, Error, NatsOptions, Preflight};

use super::Check;

/// Which NATS server to look at.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct NatsArgs {
    /// Look at this NATS server too; several of one cluster are separated by commas
    #[arg(long = "nats", value_name = "URL")]
    servers: Option<String>,
    /// The credentials file for it
    #[arg(long = "nats-creds", value_name = "FILE", requires = "servers")]
    creds: Option<PathBuf>,
    /// Where a server of it answers over HTTP; once for each server
    #[arg(long = "nats-monitor", value_name = "URL", requires = "servers")]
    monitors: Vec<String>,
}

/// Findings about the server that was named; none where none was.
pub(super) async fn examine(args: &NatsArgs) -> Vec<Check> {
    let Some(servers) = &args.servers else { return Vec::new() };
    let options =
        NatsOptions { creds: args.creds.clone(), monitors: args.monitors.clone(), ..NatsOptions::to(servers) };
    match look(options).await {
        Ok(fit) => findings(&fit),
        Err(error) => {
            let finding = format!("{}: {error}", error.code());
            vec![Check::missing("nats", finding, error.remedy())]
        }
    }
}

async fn look(options: NatsOptions) -> Result<Preflight, Error> {
    Preflight::look(&Connection::open(options).await?).await
}

fn findings(fit: &Preflight) -> Vec<Check> {
    let table = fit.to_string();
    // What an acknowledgement is worth gets a finding of its own, with what to do about it.
    let facts = table.lines().filter(|line| !line.starts_with("durability"));
    let facts: Vec<String> = facts.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let durability = fit.durability.to_string();
    vec![
        Check::ok("nats", facts.join("; ")),
        match fit.durability {
            Durability::Strict => Check::ok("nats durability", durability),
            Durability::Relaxed { .. } => {
                Check::warn("nats durability", durability, "set 'sync_interval: always' in its jetstream section")
            }
            Durability::Unknown { .. } => {
                Check::warn("nats durability", durability, "name the monitor of every server with --nats-monitor URL")
            }
        },
    ]
}
