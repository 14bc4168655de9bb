//! How many tasks a second go through the queue. Run by hand, in release.

use std::time::Instant;

use patchloom_engine::queue::TaskQueue as _;

use crate::world::{Leader, Ledger, TestWorker, options, server, task};

const TASKS: u32 = 100_000;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: run it in release"]
async fn tasks_per_second_through_the_queue() {
    let server = server();
    let ledger = Ledger::new();
    let leader = Leader::start(&server.url(), &ledger, options(), Vec::new()).await;
    let _worker = TestWorker::start(&server.url(), "one", &["default"], 1_024).await;
    leader.queue.publish((0..1_000).map(task).collect());
    ledger.has(1_000).await;
    let start = Instant::now();
    leader.queue.publish((1_000..TASKS + 1_000).map(task).collect());
    ledger.has(TASKS as usize + 1_000).await;
    let seconds = start.elapsed().as_secs_f64();
    println!("{TASKS} tasks in {seconds:.2} s: {:.0} tasks/s", f64::from(TASKS) / seconds);
}
