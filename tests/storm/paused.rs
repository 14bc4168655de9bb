//! A leader that sleeps while another one takes over, and wakes up with things to do: it is refused or hears of the
//! other one first, and does nothing.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::history::History;
use crate::ledger::{self, now};
use crate::place::Size;
use crate::play::{Outcome, Storm};

/// Between the starts of two runs: the leader has timers of many runs in its head when it is put to sleep.
const EVERY: Duration = Duration::from_millis(40);

pub async fn wake(size: Size) -> Outcome {
    let mut storm = Storm::gather(size, 100).await;
    let client = Client::new(&storm.connection);
    client.register().await;
    let stop = CancellationToken::new();
    let load = tokio::spawn(client.clone().load(1, EVERY, stop.clone()));
    let enough = || client.acknowledged().starts.len() >= 40;
    while !enough() {
        tokio::time::sleep(EVERY).await;
    }
    let old = storm.leader().await;
    let name = storm.place.engines[old].name.clone();
    let blow = std::time::Instant::now();
    storm.place.engines[old].process.pause();
    let slept = now();
    assert!(storm.answered(blow).await, "nobody leads while {name} sleeps");
    println!("{name} sleeps; the next answer came after {} ms", blow.elapsed().as_millis());
    stop.cancel();
    load.await.unwrap();

    // All that the sleeper had in its head is done by another one before it wakes.
    let mut history = History::default();
    let end = std::time::Instant::now() + Duration::from_secs(60);
    while !(history.advance(&storm.connection.jetstream()).await && history.open().is_empty()) {
        assert!(std::time::Instant::now() < end, "runs are open still: {:?}", history.open());
        tokio::time::sleep(EVERY).await;
    }
    let (terms, woken) = (history.told.terms.len(), now());
    let sleeper = &mut storm.place.engines[old].process;
    let followed = sleeper.said().matches("Follows main.").count();
    sleeper.resume();
    sleeper.says("Another engine leads the partition main now.", 1);
    sleeper.says("Follows main.", followed + 1);
    let said = sleeper.said();
    let refused = said.lines().find(|line| line.contains("another engine leads: it has written record"));
    // Which of the two it meets first is a race of its own; that such a record is always refused, `engine/tests/nats_journal.rs` shows.
    println!("{name} woke up: {}", refused.unwrap_or("it heard of the other one before it could write a record"));

    let quiet = storm.calm_down(&mut history, tokio::spawn(async {})).await;
    let reign = history.told.terms.last().expect("somebody leads");
    assert_ne!(*reign.term.leader, *name, "it leads again");
    assert_eq!(history.told.terms.len(), terms, "nobody began a term");
    let after: Vec<_> = ledger::read(&storm.place.ledger()).into_iter().filter(|line| line.at > woken).collect();
    assert_eq!(after, [], "it had a worker do something");
    storm.suffered(slept);
    // Among other things: no record behind the first one of a term is another writer's.
    storm.judge(&history, &client, quiet);
    storm.outcome
}
