//! The client: starts runs and tells events for as long as the storm lasts, and keeps its own ledger of what was acknowledged.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use patchloom_core::record::{Entry, Event, Start};
use patchloom_core::run::Refusal;
use patchloom_core::wire::Names;
use patchloom_core::{CloudEvent, RunId};
use patchloom_engine::nats::{Connection, RemoteLeader};
use patchloom_engine::runtime::{Forward, Published};
use patchloom_engine::sim::Random;
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::shapes::{SHAPES, Shape};

/// What the client knows to be recorded.
#[derive(Clone, Debug, Default)]
pub struct Acknowledged {
    pub starts: Vec<RunId>,
    pub events: Vec<String>,
    /// Answers that must not be given.
    pub wrong: Vec<String>,
}

#[derive(Clone)]
pub struct Client {
    leader: RemoteLeader,
    ledger: Arc<Mutex<Acknowledged>>,
}

/// An entry of the client.
pub fn entry(event: Event) -> Entry {
    Entry { by: "user:storm".into(), event }
}

impl Client {
    pub fn new(connection: &Connection) -> Self {
        let leader = RemoteLeader::new(connection.client().clone(), &Names::default(), "main");
        Self { leader, ledger: Arc::default() }
    }

    pub fn acknowledged(&self) -> Acknowledged {
        self.note(|ledger| ledger.clone())
    }

    fn note<T>(&self, note: impl FnOnce(&mut Acknowledged) -> T) -> T {
        note(&mut self.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes all workflows known.
    pub async fn register(&self) {
        for shape in SHAPES {
            let text = shape.definition().canonical;
            self.submit(Event::DefinitionRegistered { text }).await;
        }
    }

    /// Says it until it is answered: recorded, or recorded before.
    async fn submit(&self, event: Event) {
        loop {
            match self.leader.submit(vec![entry(event.clone())]).await {
                Ok(seen) => match seen.as_slice() {
                    [Ok(_) | Err(Refusal::Stale(_))] => return,
                    other => return self.note(|ledger| ledger.wrong.push(format!("answered {other:?}"))),
                },
                Err(error) => eprintln!("not answered yet: {error}"),
            }
        }
    }

    /// Starts runs, one each `every`, until `stop`; returns when all is acknowledged.
    pub async fn load(self, seed: u64, every: Duration, stop: CancellationToken) {
        let mut random = Random::new(seed);
        let shapes: Vec<&Shape> = SHAPES.iter().filter(|shape| shape.started).collect();
        let versions: BTreeMap<Arc<str>, _> =
            SHAPES.iter().map(Shape::definition).map(|definition| (definition.name, definition.digest)).collect();
        let pins = Arc::new(versions.clone());
        let mut under_way = JoinSet::new();
        let mut turn = 0;
        while !stop.is_cancelled() {
            let shape = shapes[turn % shapes.len()];
            turn += 1;
            let (id, late) = (Uuid::now_v7(), Duration::from_millis(random.below(3_000)));
            let start = Start {
                run: RunId(id),
                workflow: shape.name.into(),
                version: versions[shape.name].clone(),
                pins: Arc::clone(&pins),
                inputs: json!({ "token": id.to_string() }),
                parent: None,
                key: None,
                labels: BTreeMap::new(),
                seed: random.next_u64(),
            };
            let client = self.clone();
            under_way.spawn(async move { client.begin(start, shape.waits.then_some(late)).await });
            tokio::time::sleep(every).await;
        }
        while under_way.join_next().await.is_some() {}
    }

    async fn begin(&self, start: Start, tells: Option<Duration>) {
        let run = start.run;
        self.submit(Event::RunStarted(Arc::new(start))).await;
        self.note(|ledger| ledger.starts.push(run));
        if let Some(late) = tells {
            tokio::time::sleep(late).await;
            self.tell(run.to_string()).await;
        }
    }

    async fn tell(&self, token: String) {
        let event = Arc::new(CloudEvent {
            specversion: "1.0".to_owned(),
            id: token.clone(),
            source: "/storm".to_owned(),
            kind: "storm.told".to_owned(),
            subject: Some(token.clone()),
            ..CloudEvent::default()
        });
        loop {
            match self.leader.publish(Arc::clone(&event), "user:storm".into()).await {
                Ok(Published::Recorded | Published::Known) => return self.note(|ledger| ledger.events.push(token)),
                Ok(Published::Unwanted) => {
                    return self.note(|ledger| ledger.wrong.push(format!("nobody wants event {token}")));
                }
                Err(error) => eprintln!("not answered yet: {error}"),
            }
        }
    }
}
