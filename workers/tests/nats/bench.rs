//! How many tasks a second go through the queue: few in a test, as many as `PATCHLOOM_BENCH_TASKS` says in a measurement.

use std::time::Instant;

use patchloom_engine::queue::TaskQueue as _;

use crate::world::{Leader, Ledger, TestWorker, options, server, task};

const TASKS: u32 = 5_000;

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_tasks_go_through_the_queue_each_once() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let tasks = std::env::var("PATCHLOOM_BENCH_TASKS").ok().and_then(|tasks| tasks.parse().ok()).unwrap_or(TASKS);
    let server = server();
    let ledger = Ledger::new();
    let leader = Leader::start(&server.url(), &ledger, options(), Vec::new()).await;
    let mut worker = TestWorker::start(&server.url(), "one", &["default"], 1_024).await;
    leader.queue.publish(vec![task(0)]);
    ledger.has(1).await;
    let start = Instant::now();
    leader.queue.publish((1..=tasks).map(task).collect());
    let recorded = ledger.has(usize::try_from(tasks).unwrap() + 1).await.len();
    let seconds = start.elapsed().as_secs_f64();
    println!("{tasks} tasks in {seconds:.2} s: {:.0} tasks/s", f64::from(tasks) / seconds);
    let mut begun = 0;
    while worker.begun.try_recv().is_ok() {
        begun += 1;
    }
    assert_eq!(begun, recorded, "a task was done twice");
}
