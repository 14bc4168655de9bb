//! Beats and results, many in one request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Subject;
use patchloom_core::wire::{self, Alive, Beaten, Done, Op, Settled, Token};
use patchloom_core::{QueueName, TaskKey};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::{ACK, Held, IN_PROGRESS, NAK, Shared};
use crate::runtime::{Beat, SourceError};

/// The most in one request.
const BEATS_MAX: usize = 512;
const RESULTS_MAX: usize = 256;
/// How long a request waits for company.
const BEATS_GATHER: Duration = Duration::from_millis(5);
const RESULTS_GATHER: Duration = Duration::from_millis(1);
/// Requests under way at a time.
const REQUESTS_MAX: usize = 32;

/// One that waits for the answer to a beat.
pub(super) struct Beating {
    pub key: TaskKey,
    pub token: Token,
    pub answer: oneshot::Sender<Result<Beat, SourceError>>,
}

/// One that waits until a result is recorded.
pub(super) struct Settling {
    pub done: Done,
    pub answer: oneshot::Sender<Result<(), SourceError>>,
}

type Leader = (Arc<str>, QueueName);

/// Receives up to `max`: what is there after a moment's wait for company.
async fn gather<T>(inbox: &mut mpsc::Receiver<T>, max: usize, moment: Duration) -> Vec<T> {
    let mut gathered = Vec::new();
    if inbox.recv_many(&mut gathered, max).await > 0 && gathered.len() < max {
        tokio::time::sleep(moment).await;
        while gathered.len() < max
            && let Ok(more) = inbox.try_recv()
        {
            gathered.push(more);
        }
    }
    gathered
}

/// Sends beats until the source is dropped.
pub(super) async fn beat(shared: Arc<Shared>, mut inbox: mpsc::Receiver<Beating>) {
    let mut requests = JoinSet::new();
    loop {
        let beats = gather(&mut inbox, BEATS_MAX, BEATS_GATHER).await;
        if beats.is_empty() {
            return;
        }
        let mut by_leader: BTreeMap<Leader, Vec<(Beating, Alive, Subject)>> = BTreeMap::new();
        for beating in beats {
            match shared.alive(&beating) {
                Some((leader, alive, ticket)) => by_leader.entry(leader).or_default().push((beating, alive, ticket)),
                None => drop(beating.answer.send(Err(SourceError::UnknownLease))),
            }
        }
        for (leader, beats) in by_leader {
            let shared = Arc::clone(&shared);
            requests.spawn(async move { shared.send_beats(leader, beats).await });
        }
        rest(&mut requests).await;
    }
}

/// Sends results until the source is dropped.
pub(super) async fn settle(shared: Arc<Shared>, mut inbox: mpsc::Receiver<Settling>) {
    let mut requests = JoinSet::new();
    loop {
        let results = gather(&mut inbox, RESULTS_MAX, RESULTS_GATHER).await;
        if results.is_empty() {
            return;
        }
        let mut by_leader: BTreeMap<Leader, Vec<Settling>> = BTreeMap::new();
        for settling in results {
            let leader = shared.places().held.get(&settling.done.key).map(Held::leader);
            match leader {
                Some(leader) => by_leader.entry(leader).or_default().push(settling),
                None => drop(settling.answer.send(Err(SourceError::UnknownLease))),
            }
        }
        for (leader, results) in by_leader {
            let shared = Arc::clone(&shared);
            requests.spawn(async move { shared.send_results(leader, results).await });
        }
        rest(&mut requests).await;
    }
}

/// Takes in requests that are over; waits for one where there are too many.
async fn rest(requests: &mut JoinSet<()>) {
    while requests.try_join_next().is_some() {}
    while requests.len() >= REQUESTS_MAX {
        requests.join_next().await;
    }
}

impl Held {
    fn leader(&self) -> Leader {
        (Arc::clone(&self.partition), self.queue.clone())
    }
}

impl Shared {
    fn alive(&self, beating: &Beating) -> Option<(Leader, Alive, Subject)> {
        let mut places = self.places();
        let held = places.held.get_mut(&beating.key).filter(|held| held.token == beating.token)?;
        let progress = held.progress.take();
        let alive = Alive { key: beating.key.clone(), token: beating.token, progress };
        Some((held.leader(), alive, held.ticket.clone()))
    }

    async fn send_beats(&self, (partition, queue): Leader, beats: Vec<(Beating, Alive, Subject)>) {
        let (mut waiting, mut tasks) = (Vec::new(), Vec::new());
        for (beating, alive, ticket) in beats {
            self.mark(ticket, IN_PROGRESS).await;
            waiting.push(beating);
            tasks.push(alive);
        }
        let beat = wire::Beat { who: self.who(), tasks };
        let answers = self.ask::<_, Beaten>((&partition, &queue), Op::Beat, &beat, waiting.len()).await;
        let answers = match answers {
            Ok(answers) => answers,
            Err(reason) => {
                for beating in waiting {
                    // Whoever does not wait any more has its result.
                    let _ = beating.answer.send(Err(SourceError::Unavailable(reason.clone())));
                }
                return;
            }
        };
        for (beating, answer) in waiting.into_iter().zip(answers) {
            let told = match answer {
                Beaten::GoOn => Beat::Continue,
                Beaten::Stop => Beat::Cancel,
                Beaten::Lost => {
                    let held = self.places().held.remove(&beating.key);
                    if let Some(held) = held {
                        self.mark(held.ticket, NAK).await;
                    }
                    Beat::Lost
                }
            };
            let _ = beating.answer.send(Ok(told));
        }
    }

    async fn send_results(&self, (partition, queue): Leader, results: Vec<Settling>) {
        let (waiting, results): (Vec<_>, Vec<Done>) =
            results.into_iter().map(|settling| ((settling.done.key.clone(), settling.answer), settling.done)).unzip();
        let settle = wire::Settle { who: self.who(), results };
        match self.ask::<_, Settled>((&partition, &queue), Op::Settle, &settle, waiting.len()).await {
            Ok(answers) => {
                for ((key, answer), settled) in waiting.into_iter().zip(answers) {
                    let held = self.places().held.remove(&key);
                    let (word, told) = match settled {
                        Settled::Recorded | Settled::Known => (ACK, Ok(())),
                        Settled::Lost => (NAK, Err(SourceError::UnknownLease)),
                    };
                    if let Some(held) = held {
                        self.mark(held.ticket, word).await;
                    }
                    let _ = answer.send(told);
                }
            }
            Err(reason) => {
                for (_, answer) in waiting {
                    let _ = answer.send(Err(SourceError::Unavailable(reason.clone())));
                }
            }
        }
    }
}
