//! Storms over engines, workers and NATS servers as real processes: they are killed, paused, cut off and choked under load,
//! and what came of it is held against ledgers that lie outside of the system.
//!
//! `tests/chaos --minutes N [--seed S]` plays storm after storm; each tells its seed, and the same seed is the same script.

mod client;
mod history;
mod judge;
mod ledger;
mod paused;
mod place;
mod play;
mod script;
mod shapes;
mod worker;

use std::time::{Duration, Instant};

use patchloom_bed::nats::left_out;
use place::Size;
use play::{Outcome, Plan, play};
use script::{ALL, Act, Hardship, script};

const CLUSTER: Size = Size { nodes: 3, engines: 2, workers: 2 };
const SERVER: Size = Size { nodes: 1, engines: 2, workers: 2 };
const SEED: u64 = 20_261_121;
/// Percent of the time that a script takes at length.
const BRISK: u64 = 50;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn threads() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn storm(seed: u64, size: Size, script: Vec<Act>) -> Outcome {
    let runtime = threads();
    let plan = Plan { seed, size, script, every: Duration::from_millis(200), task_ms_max: 250 };
    let outcome = runtime.block_on(play(plan));
    runtime.shutdown_background();
    println!("seed {seed}: {}", outcome.summary());
    outcome.ended.iter().for_each(|(who, why)| println!("    {who} ended: {why}"));
    outcome
}

#[track_caller]
fn sound(outcome: &Outcome) {
    let complaints = &outcome.verdict.complaints;
    assert!(complaints.is_empty(), "{} things are wrong:\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn this_process_is_a_worker_where_it_is_told_to() {
    worker::work();
}

#[test]
fn a_cluster_in_a_storm_loses_nothing_and_does_nothing_twice_that_is_recorded() {
    if left_out() {
        return;
    }
    let Some(minutes) = number("PATCHLOOM_CHAOS_MINUTES") else {
        return sound(&storm(SEED, CLUSTER, script(SEED, ALL.len(), &ALL, BRISK)));
    };
    let end = Instant::now() + Duration::from_secs(minutes * 60);
    let first = number("PATCHLOOM_CHAOS_SEED").unwrap_or_else(ledger::now);
    let mut total = Outcome::default();
    let mut storms = 0;
    while Instant::now() < end {
        let size = if storms % 3 == 2 { Size { engines: 3, workers: 3, ..CLUSTER } } else { CLUSTER };
        let seed = first + storms;
        let outcome = storm(seed, size, script(seed, ALL.len() * 2, &ALL, 100));
        storms += 1;
        let wrong = !outcome.verdict.complaints.is_empty();
        total.add(outcome);
        if wrong {
            break;
        }
    }
    println!("{storms} storms from seed {first}: {}", total.summary());
    sound(&total);
}

#[test]
fn one_server_in_a_storm_loses_nothing_either() {
    if left_out() {
        return;
    }
    use Hardship::{KillAllNodes, KillLeader, KillWorker, MuteLeader, PauseLeader, SlowNode};
    let kinds = [KillLeader, KillWorker, KillAllNodes, PauseLeader, MuteLeader, SlowNode];
    sound(&storm(SEED, SERVER, script(SEED, kinds.len(), &kinds, BRISK)));
}

#[test]
fn a_leader_that_wakes_up_behind_another_one_does_nothing() {
    if left_out() {
        return;
    }
    let outcome = threads().block_on(paused::wake(Size { workers: 1, ..SERVER }));
    sound(&outcome);
}
