//! What a NATS server is fit for, as findings of the doctor.

use patchloom_engine::nats::{Connection, Durability, Error, NatsOptions, Preflight};

use super::Check;
use crate::cli::NatsArgs;

/// Findings about the server that was named; none where none was.
pub(super) async fn examine(args: &NatsArgs) -> Vec<Check> {
    let Some(options) = args.options() else { return Vec::new() };
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
