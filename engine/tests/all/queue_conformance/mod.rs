//! What every task queue must do, run against the embedded and the simulated one, and the one over NATS: there by the clock on
//! the wall, with a real server.

mod wire;

use std::time::Duration;

use patchloom_core::{Failure, Leg, Millis, Outcome, QueueName, RunId, StepName, Task, TaskKey, TaskTimeouts, UtcMs};
use patchloom_engine::clock::Clock;
use patchloom_engine::nats::{NatsQueue, QueueOptions};
use patchloom_engine::queue::{Beat, EmbeddedQueue, Lease, Limits, Recall, TaskQueue};
use patchloom_engine::sim::{QueueFaults, SimQueue};
use serde_json::{Value, json};
use uuid::Uuid;

const LIMITS: Limits = Limits { heartbeat: Millis(10_000), deliveries: 2 };
const DONE: Outcome = Outcome::Succeeded { output: Value::Null };

fn task(item: u32, timeouts: TaskTimeouts) -> Task {
    let step = StepName("s".into());
    let key = TaskKey { run: RunId(Uuid::nil()), step, item, attempt: 1, leg: Leg::Forward };
    Task {
        key,
        uses: "t.work".into(),
        input: json!({"item": item}),
        timeouts,
        priority: 0,
        queue: QueueName::default(),
    }
}

fn plain(item: u32) -> Task {
    task(item, TaskTimeouts::default())
}

async fn one(queue: &impl TaskQueue) -> Lease {
    let mut leases = tokio::time::timeout(Duration::from_secs(30), queue.take(1)).await.expect("a task waits");
    assert_eq!(leases.len(), 1);
    leases.remove(0)
}

async fn is_empty(queue: &impl TaskQueue) -> bool {
    tokio::time::timeout(Duration::from_secs(1), queue.take(1)).await.is_err()
}

fn code(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Failed(Failure { code, .. }) => code,
        other => panic!("not a failure: {other:?}"),
    }
}

async fn wait(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

async fn publishes_once_by_key(queue: impl TaskQueue) {
    queue.publish(vec![plain(0), plain(0), plain(1)]);
    queue.publish(vec![plain(1)]);
    let (first, second) = (one(&queue).await, one(&queue).await);
    assert_ne!(first.task.key, second.task.key);
    queue.publish(vec![plain(0), plain(1)]);
    assert!(is_empty(&queue).await, "what is out is not offered again");
    assert_eq!((first.redelivered, second.redelivered), (0, 0));
}

async fn takers_wait_and_none_is_left_asleep(queue: impl TaskQueue) {
    let takers: Vec<_> = (0..3)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move { one(&queue).await.task.key.item })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    queue.publish((0..3).map(plain).collect());
    let mut taken = Vec::new();
    for taker in takers {
        taken.push(taker.await.unwrap());
    }
    taken.sort_unstable();
    assert_eq!(taken, [0, 1, 2]);
}

async fn recalls_reach_the_worker(queue: impl TaskQueue) {
    assert_eq!(queue.recall(&plain(0).key), Recall::NotOut, "what is not known is not out");
    queue.publish(vec![plain(0)]);
    assert_eq!(queue.recall(&plain(0).key), Recall::NotOut, "what waits is not out");
    let lease = one(&queue).await;
    assert_eq!(queue.beat(&lease), Beat::GoOn);
    assert_eq!(queue.recall(&lease.task.key), Recall::Asked);
    assert_eq!(queue.beat(&lease), Beat::Stop);
    assert_eq!(queue.settle(&lease, DONE), Some(DONE), "what came of it counts, though it was called back");
    assert_eq!(queue.settle(&lease, Outcome::Cancelled), Some(Outcome::Cancelled), "settled until it is forgotten");
}

async fn forgets(queue: impl TaskQueue) {
    queue.publish(vec![plain(0), plain(1)]);
    let lease = one(&queue).await;
    queue.forget(&[plain(0).key, plain(1).key]);
    assert_eq!(queue.beat(&lease), Beat::Lost);
    assert_eq!(queue.settle(&lease, DONE), None);
    assert!(is_empty(&queue).await);
    queue.publish(vec![plain(0)]);
    let again = one(&queue).await;
    assert_ne!(lease.token, again.token, "a hand-out is never taken for another one");
}

async fn silence_hands_out_again_and_then_gives_up(queue: impl TaskQueue) {
    queue.publish(vec![plain(0)]);
    let lease = one(&queue).await;
    wait(9).await;
    assert_eq!(queue.beat(&lease), Beat::GoOn);
    wait(9).await;
    assert!(queue.sweep().is_empty() && is_empty(&queue).await, "a worker that beats keeps its task");
    wait(10).await;
    assert!(queue.sweep().is_empty());
    let again = one(&queue).await;
    assert_eq!((&again.task, again.redelivered), (&lease.task, 1));
    assert_eq!((queue.beat(&lease), queue.settle(&lease, DONE)), (Beat::Lost, None), "the first lease is over");
    assert_eq!(queue.settle(&again, DONE), Some(DONE));
    wait(11).await;
    let over = queue.sweep();
    assert_eq!((over.len(), &over[0].0, code(&over[0].1)), (1, &lease.task.key, "E0322"));
    assert!(is_empty(&queue).await);
}

async fn a_recalled_task_whose_worker_is_silent_is_over(queue: impl TaskQueue) {
    queue.publish(vec![plain(0)]);
    let lease = one(&queue).await;
    assert_eq!(queue.recall(&lease.task.key), Recall::Asked);
    wait(11).await;
    assert_eq!(code(&queue.sweep()[0].1), "E0322");
}

async fn limits_of_time_hold(queue: impl TaskQueue) {
    let queued = TaskTimeouts { queue: Some(Millis(5_000)), ..TaskTimeouts::default() };
    queue.publish(vec![task(0, queued)]);
    wait(6).await;
    let over = queue.sweep();
    assert_eq!((over.len(), code(&over[0].1)), (1, "E0321"));
    queue.forget(&[over[0].0.clone()]);

    let attempt = TaskTimeouts { attempt: Some(Millis(5_000)), ..TaskTimeouts::default() };
    queue.publish(vec![task(1, attempt)]);
    let lease = one(&queue).await;
    wait(6).await;
    assert!(queue.sweep().is_empty(), "its worker is asked to stop first");
    assert_eq!(queue.beat(&lease), Beat::Stop);
    assert_eq!(code(&queue.settle(&lease, Outcome::Cancelled).unwrap()), "E0320");
    assert_eq!(queue.settle(&lease, DONE), Some(DONE), "who was done all the same was in time");
    queue.forget(&[lease.task.key]);

    let heartbeat = TaskTimeouts { heartbeat: Some(Millis(2_000)), ..TaskTimeouts::default() };
    queue.publish(vec![task(2, heartbeat)]);
    let lease = one(&queue).await;
    wait(3).await;
    assert!(queue.sweep().is_empty());
    assert_eq!(one(&queue).await.task.key, lease.task.key, "the task's own limit of silence counts");
}

fn ranked(item: u32, priority: i32) -> Task {
    Task { priority, ..plain(item) }
}

async fn higher_priority_goes_first(queue: impl TaskQueue) {
    queue.publish(vec![plain(0), ranked(1, 5), ranked(2, -1), ranked(3, 5), plain(4)]);
    let taken = |leases: Vec<Lease>| {
        let mut items: Vec<u32> = leases.iter().map(|lease| lease.task.key.item).collect();
        items.sort_unstable();
        items
    };
    assert_eq!(taken(queue.take(2).await), [1, 3]);
    queue.publish(vec![ranked(5, 9)]);
    assert_eq!(taken(queue.take(1).await), [5], "what comes later goes before all of a lower priority");
    assert_eq!(taken(queue.take(2).await), [0, 4]);
    assert_eq!(taken(queue.take(1).await), [2]);
}

#[tokio::test(start_paused = true)]
async fn of_one_priority_the_oldest_goes_first_also_when_it_is_handed_out_again() {
    let queue = EmbeddedQueue::new(Clock::of_runtime(UtcMs(1_000_000)), LIMITS);
    queue.publish(vec![plain(0), ranked(1, 1), plain(2), plain(3), ranked(4, 1)]);
    let order = |leases: Vec<Lease>| leases.iter().map(|lease| lease.task.key.item).collect::<Vec<_>>();
    assert_eq!(order(queue.take(3).await), [1, 4, 0]);
    wait(11).await;
    assert!(queue.sweep().is_empty());
    queue.forget(&[plain(2).key]);
    queue.publish(vec![plain(2)]);
    assert_eq!(order(queue.take(9).await), [1, 4, 0, 3, 2]);
    assert_eq!(queue.depth(), (0, 5));
}

#[tokio::test(start_paused = true)]
async fn workers_that_serve_some_queues_take_the_tasks_of_no_other() {
    let queue = EmbeddedQueue::new(Clock::of_runtime(UtcMs(1_000_000)), LIMITS);
    let serving = |name: &str| queue.serving([name.parse().unwrap()].into());
    let (a, b) = (serving("a"), serving("b"));
    let of = |item, priority, name: &str| Task { queue: name.parse().unwrap(), ..ranked(item, priority) };
    queue.publish(vec![of(0, 9, "a")]);
    assert!(is_empty(&b).await);
    let waits = tokio::spawn(async move { one(&b).await.task.key.item });
    tokio::time::sleep(Duration::from_millis(100)).await;
    queue.publish(vec![of(1, 0, "b"), of(2, 1, "b"), of(3, 5, "c")]);
    assert_eq!(waits.await.unwrap(), 2);
    assert_eq!(one(&a).await.task.key.item, 0);
    assert!(is_empty(&a).await);
    let rest: Vec<u32> = queue.take(9).await.iter().map(|lease| lease.task.key.item).collect();
    assert_eq!(rest, [3, 1], "who serves all queues takes the first of all lines");
}

/// Makes one test per rule and queue.
macro_rules! conform {
    ($($rule:ident),+ $(,)?) => {
        mod embedded {
            use super::*;
            $(#[tokio::test(start_paused = true)]
            async fn $rule() {
                super::$rule(EmbeddedQueue::new(Clock::of_runtime(UtcMs(1_000_000)), LIMITS)).await;
            })+
        }
        mod on_the_leader_over_nats {
            use super::*;
            $(#[tokio::test(start_paused = true)]
            async fn $rule() {
                let options = QueueOptions { limits: LIMITS, ..QueueOptions::default() };
                super::$rule(NatsQueue::new(options, Clock::of_runtime(UtcMs(1_000_000)))).await;
            })+
        }
        mod over_nats {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $rule() {
                if patchloom_bed::nats::left_out() {
                    return;
                }
                super::$rule(wire::OverNats::start(LIMITS).await).await;
            })+
        }
        mod simulated {
            use super::*;
            $(#[tokio::test(start_paused = true)]
            async fn $rule() {
                for seed in 0..20 {
                    let clock = Clock::of_runtime(UtcMs(1_000_000));
                    super::$rule(SimQueue::new(clock, LIMITS, QueueFaults::default(), seed)).await;
                }
            })+
        }
    };
}

conform!(
    publishes_once_by_key,
    takers_wait_and_none_is_left_asleep,
    recalls_reach_the_worker,
    forgets,
    silence_hands_out_again_and_then_gives_up,
    a_recalled_task_whose_worker_is_silent_is_over,
    limits_of_time_hold,
    higher_priority_goes_first,
);
