//! `patchloom bench engine --nats`: workers that do nothing, on a connection of their own.

use std::sync::Arc;

use patchloom_core::{Outcome, QueueName};
use patchloom_engine::bench::nats::{Error, Figures, Gang};
use patchloom_engine::bench::{self, Load};
use patchloom_engine::nats::{Connection, Error as ServerError, NatsOptions};
use patchloom_engine::rate::RawRate;
use patchloom_workers::nats::{NatsSource, SourceOptions};
use patchloom_workers::runtime::TaskSource as _;
use serde_json::Value;

use super::{measure_in_own_dir, row};
use crate::cli::Context;
use crate::cli::nats::{connect, nats_fault};
use crate::cli::store::open_fault;
use crate::fault::{Exit, Fault};
use crate::host::engine_fault;
use crate::output::text;

/// Tasks that a worker has room for at a time.
const PLACES: usize = 2_048;

pub(super) fn measure(context: &Context, options: &NatsOptions, load: Load) -> Result<Figures, Fault> {
    measure_in_own_dir(context, async |place| {
        let connection = connect(options.clone()).await?;
        let crew = async |gang: Gang| crew(options.clone(), gang).await;
        bench::nats::run(&connection, place, load, crew).await.map_err(|error| match error {
            Error::Server(error) => nats_fault(error),
            Error::Open(error) => open_fault(error),
            Error::Engine(error) => engine_fault(error),
            error @ Error::Raw(_) => Fault::new("E0648", Exit::Unable, error),
        })
    })
}

/// Starts a worker that is done with each task at once.
async fn crew(options: NatsOptions, gang: Gang) -> Result<(), ServerError> {
    let connection = Connection::open(NatsOptions { name: "patchloom bench worker".to_owned(), ..options }).await?;
    let queue = QueueName::default();
    let source = SourceOptions { names: gang.names.clone(), ..SourceOptions::new("bench", vec![queue]) };
    let source = Arc::new(NatsSource::start(connection.client().clone(), source, gang.over.clone()));
    tokio::spawn(async move {
        loop {
            let taken = tokio::select! {
                () = gang.over.cancelled() => return,
                taken = source.take(PLACES) => taken,
            };
            let Ok(leases) = taken else { return };
            for lease in leases {
                let (source, gang) = (Arc::clone(&source), gang.clone());
                gang.begun(&lease.task.key);
                tokio::spawn(async move {
                    let outcome = Outcome::Succeeded { output: Value::Null };
                    // Unanswered, it is told again.
                    while !gang.over.is_cancelled() {
                        if source.settle(&lease, &outcome, &[]).await.is_ok() {
                            return gang.recorded(&lease.task.key).await;
                        }
                    }
                });
            }
        }
    });
    Ok(())
}

pub(super) fn render(figures: &Figures) -> String {
    let runs = format!(
        "{} in {:.2} s, {} runs, {} at a time",
        figures.steps, figures.seconds, figures.runs, figures.in_flight
    );
    let mut lines = [
        row("server", format!("{}, durability {}", figures.server, figures.durability)),
        row("durable steps", runs),
        row("steps per second", format!("{:.0}", figures.steps_per_second)),
        row("one step, p50 and p99", format!("{} µs, {} µs", figures.step_p50_us, figures.step_p99_us)),
        row(
            "appends per second",
            format!("{:.0}, {:.1} steps each", figures.appends_per_second, figures.steps_per_append),
        ),
        row("cores", format!("{:.2}, of the engine and the worker together", figures.cores)),
        row("peak memory", text::bytes(figures.peak_rss_bytes)),
    ]
    .concat();
    let rate = |rate: &RawRate| format!("{:.0}/s, p50 {} µs", rate.per_second, rate.p50_us);
    for (when, raw) in ["before", "after"].into_iter().zip(&figures.raw) {
        lines += &row("the server alone", format!("{when}:"));
        for (bytes, append) in &raw.appends {
            lines += &row("  fenced append", format!("{}, {bytes} bytes each", rate(append)));
        }
        if let Some(requests) = &raw.requests {
            lines += &row("  request and answer", rate(requests));
        }
        lines += &row("  message in memory", format!("{:.0}/s, 256 under way", raw.tickets_per_second));
    }
    lines
}
