//! A worker as a process of its own: the product's pool and its source over NATS, and an action that writes a ledger.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use patchloom_bed::Process;
use patchloom_core::{Failure, FailureClass};
use patchloom_engine::nats::{Connection, NatsOptions};
use patchloom_engine::sim::Random;
use patchloom_workers::nats::{NatsSource, SourceOptions};
use patchloom_workers::runtime::{BoxFuture, DataDir, Handler, Handlers, PoolConfig, TaskContext, WorkerPool};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::ledger::{Ledger, What, now};

/// Where the worker finds what it is to be.
const ORDERS: &str = "PATCHLOOM_STORM_WORKER";

/// What a worker is told.
#[derive(Serialize, Deserialize)]
pub struct Orders {
    pub name: String,
    pub url: String,
    pub ledger: PathBuf,
    /// The longest that a task takes.
    pub task_ms_max: u64,
}

impl Orders {
    /// Runs this program again, as a worker.
    pub fn start(&self) -> Process {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command
            .args(["--exact", "this_process_is_a_worker_where_it_is_told_to", "--nocapture"])
            .env(ORDERS, serde_json::to_string(self).expect("orders are plain"));
        Process::start(&mut command, &self.ledger.join(format!("{}.log", self.name)))
    }
}

/// Works until it is killed, where this process was told to.
pub fn work() {
    let Ok(orders) = std::env::var(ORDERS) else { return };
    let orders: Orders = serde_json::from_str(&orders).expect("orders of the storm");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let connection = loop {
            match Connection::open(NatsOptions::to(&orders.url)).await {
                Ok(connection) => break connection,
                Err(error) => eprintln!("{error}"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        let shutdown = CancellationToken::new();
        let ledger = Ledger::begin(&orders.ledger, &orders.name);
        // Another name for each process, as the protocol has it.
        let worker = format!("{}-{}", orders.name, std::process::id());
        let source = SourceOptions {
            ask_every: Duration::from_millis(500),
            ..SourceOptions::new(&worker, vec![patchloom_core::QueueName::default()])
        };
        let source = NatsSource::start(connection.client().clone(), source, shutdown.clone());
        let mut handlers = Handlers::default();
        handlers.add(Act { ledger, task_ms_max: orders.task_ms_max }).unwrap();
        let config = PoolConfig { parallel: 8, heartbeat: Duration::from_millis(500), ..PoolConfig::default() };
        let pool = WorkerPool::new(Arc::new(source), handlers, DataDir::new(&orders.ledger), config);
        pool.run(shutdown).await;
    });
}

/// Does what its input says, and writes down that it did.
struct Act {
    ledger: Ledger,
    task_ms_max: u64,
}

impl Handler for Act {
    fn uses(&self) -> &'static str {
        "storm.act"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, input: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let (key, nonce) = (context.key(), self.ledger.nonce());
            self.ledger.write(key, &nonce, What::Began);
            let takes = Duration::from_millis(Random::new(now()).below(self.task_ms_max));
            tokio::select! {
                () = tokio::time::sleep(takes) => {}
                () = context.cancel().cancelled() => {
                    self.ledger.write(key, &nonce, What::Stopped);
                    return Err(failure(FailureClass::Transient, &nonce));
                }
            }
            let failed = match input["do"].as_str() {
                Some("fail") => Some(FailureClass::Permanent),
                Some("flaky") if key.attempt < 3 => Some(FailureClass::Transient),
                _ => None,
            };
            self.ledger.write(key, &nonce, if failed.is_some() { What::Failed } else { What::Succeeded });
            match failed {
                Some(class) => Err(failure(class, &nonce)),
                None => Ok(json!({ "nonce": nonce })),
            }
        })
    }
}

fn failure(class: FailureClass, nonce: &str) -> Failure {
    Failure { code: "STORM".to_owned(), class, message: nonce.to_owned(), details: Value::Null }
}
