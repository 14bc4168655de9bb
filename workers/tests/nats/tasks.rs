//! Every task is done, each end is told once, whoever dies.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use patchloom_core::wire::{Claim, Claimed, DeadLetter, Names, Op, Reply, Worker};
use patchloom_core::{Millis, Outcome, Task, TaskTimeouts};
use patchloom_engine::nats::QueueOptions;
use patchloom_engine::queue::{Limits, Recall, TaskQueue as _};
use serde_json::json;

use crate::world::{Leader, Ledger, TestWorker, connect, options, queue_name, server, task, told};

#[tokio::test(flavor = "multi_thread")]
async fn tasks_reach_workers_and_each_end_is_recorded_once() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let server = server();
    let ledger = Ledger::new();
    let leader = Leader::start(&server.url(), &ledger, options(), Vec::new()).await;
    let (one, two) = (
        TestWorker::start(&server.url(), "one", &["default"], 8).await,
        TestWorker::start(&server.url(), "two", &["default"], 8).await,
    );
    leader.queue.publish((0..500).map(task).collect());
    let recorded = ledger.has(500).await;
    let keys: BTreeSet<_> = recorded.iter().map(|(key, ..)| key.clone()).collect();
    assert_eq!(keys.len(), 500);
    assert!(recorded.iter().all(|(_, outcome, _)| *outcome == Outcome::Succeeded { output: json!("done") }));
    // The book forgets a task behind its record.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while leader.queue.depth() != (0, 0) {
        assert!(std::time::Instant::now() < end, "the book keeps {:?} tasks", leader.queue.depth());
        tokio::task::yield_now().await;
    }
    let names: Vec<_> = leader.queue.workers().into_iter().map(|worker| worker.name).collect();
    assert_eq!(names, ["one".into(), "two".into()]);
    one.drain().await;
    two.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_task_of_a_killed_worker_is_handed_to_another_under_the_same_key() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let server = server();
    let ledger = Ledger::new();
    let leader = Leader::start(&server.url(), &ledger, options(), vec![told(0, "nap")]).await;
    let mut first = TestWorker::start(&server.url(), "first", &["default"], 1).await;
    assert_eq!(first.begins().await, (task(0).key, 0));
    first.kill();
    let mut second = TestWorker::start(&server.url(), "second", &["default"], 1).await;
    assert_eq!(second.begins().await, (task(0).key, 1), "the same key, handed out once before");
    let recorded = ledger.has(1).await;
    assert_eq!((&*recorded[0].2, &recorded[0].1), ("worker:second", &Outcome::Succeeded { output: json!("slept") }));
    drop(leader);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_adopts_what_a_worker_holds_and_records_it_once() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let server = server();
    let ledger = Ledger::new();
    let former = Leader::start(&server.url(), &ledger, options(), vec![told(0, "nap")]).await;
    let mut worker = TestWorker::start(&server.url(), "one", &["default"], 4).await;
    let mut other = TestWorker::start(&server.url(), "other", &["default"], 4).await;
    let begun = tokio::select! {
        begun = worker.begins() => begun,
        begun = other.begins() => begun,
    };
    assert_eq!(begun, (task(0).key, 0));
    former.kill();
    // The state owes the task still: nobody has told its end.
    let leader = Leader::start(&server.url(), &ledger, options(), vec![told(0, "nap"), task(1)]).await;
    let recorded = ledger.has(2).await;
    assert_eq!(recorded.iter().filter(|(key, ..)| *key == task(0).key).count(), 1);
    assert_eq!(leader.queue.depth(), (0, 0));
    let mut began = Vec::new();
    while let Ok((key, _)) = worker.begun.try_recv() {
        began.push(key);
    }
    while let Ok((key, _)) = other.begun.try_recv() {
        began.push(key);
    }
    assert_eq!(began, [task(1).key], "what was at work was not begun again");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_task_is_done_though_the_server_forgets_all_tickets() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let mut server = server();
    let ledger = Ledger::new();
    let leader = Leader::start(&server.url(), &ledger, options(), Vec::new()).await;
    leader.queue.publish((0..4).map(|item| told(item, "nap")).chain((4..200).map(task)).collect());
    let mut worker = TestWorker::start(&server.url(), "one", &["default"], 4).await;
    worker.begins().await;
    // The tickets lie in memory: they are gone.
    server.kill9();
    server.restart();
    let recorded = ledger.has(200).await;
    let keys: BTreeSet<_> = recorded.into_iter().map(|(key, ..)| key).collect();
    assert_eq!(keys.len(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recall_reaches_the_worker() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let server = server();
    let ledger = Ledger::new();
    let leader = Leader::start(&server.url(), &ledger, options(), vec![told(0, "wait")]).await;
    let mut worker = TestWorker::start(&server.url(), "one", &["default"], 1).await;
    worker.begins().await;
    assert_eq!(leader.queue.out()[0].worker, "one".into());
    assert_eq!(leader.queue.recall(&task(0).key), Recall::Asked);
    assert_eq!(ledger.has(1).await[0].1, Outcome::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_come_by_priority_and_then_by_age_also_when_they_come_late() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let server = server();
    let ledger = Ledger::new();
    let ranked = |item, priority| Task { priority, ..told(item, "wait") };
    let owed = vec![ranked(0, 0), ranked(1, 5), ranked(2, -1), ranked(3, 5), ranked(4, 0)];
    let leader = Leader::start(&server.url(), &ledger, options(), owed).await;
    let mut worker = TestWorker::start(&server.url(), "one", &["default"], 1).await;
    let mut order = Vec::new();
    for late in [Some(ranked(5, 9)), None, None, None, None, None] {
        let (key, _) = worker.begins().await;
        order.push(key.item);
        // While the only place is taken.
        leader.queue.publish(late.into_iter().collect());
        assert_eq!(leader.queue.recall(&key), Recall::Asked);
    }
    assert_eq!(order, [1, 5, 3, 0, 4, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_no_worker_survives_fails_and_is_told_as_a_dead_letter() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let server = server();
    let ledger = Ledger::new();
    let limits = Limits { heartbeat: Millis(700), deliveries: 2 };
    let options = QueueOptions { limits, ..options() };
    let _leader = Leader::start(&server.url(), &ledger, options, vec![told(0, "wait")]).await;
    for (name, redelivered) in [("first", 0), ("second", 1)] {
        let mut worker = TestWorker::start(&server.url(), name, &["default"], 1).await;
        assert_eq!(worker.begins().await, (task(0).key, redelivered));
        worker.kill();
    }
    let recorded = ledger.has(1).await;
    let Outcome::Failed(failure) = &recorded[0].1 else { panic!("{recorded:?}") };
    assert_eq!(failure.code, "E0322");
    let context = async_nats::jetstream::new(connect(&server.url()).await);
    let letter = loop {
        let stream = context.get_stream("PATCHLOOM_DEAD").await.unwrap();
        if let Ok(letter) = stream.get_last_raw_message_by_subject("patchloom.dead.default.main").await {
            break letter;
        }
        tokio::task::yield_now().await;
    };
    let letter: DeadLetter = serde_json::from_slice(&letter.payload).unwrap();
    assert_eq!((letter.task.key, letter.deliveries, &*letter.worker), (task(0).key, 2, "second"));
    assert_eq!(letter.failure, *failure);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_one_queue_gets_no_task_of_another() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let server = server();
    let ledger = Ledger::new();
    let of = |item, queue: &str| Task { queue: queue_name(queue), ..task(item) };
    let leader = Leader::start(&server.url(), &ledger, options(), vec![of(0, "b"), of(1, "a")]).await;
    let worker = TestWorker::start(&server.url(), "one", &["a"], 4).await;
    assert_eq!(ledger.has(1).await[0].0, task(1).key);
    // By hand, for one that says it is of queue `a`, and for one that holds a token of its own making.
    let client = connect(&server.url()).await;
    let who = Worker { worker: "thief".into(), labels: Default::default() };
    let claim = serde_json::to_vec(&Claim { who, keys: vec![of(0, "b").key] }).unwrap();
    let subject = Names::default().work("main", &queue_name("a"), Op::Claim);
    let answer = client.request(subject, claim.into()).await.unwrap();
    assert_eq!(serde_json::from_slice::<Reply<Claimed>>(&answer.payload).unwrap(), Reply::Answers(vec![Claimed::Gone]));
    let settle = json!({"worker": "thief", "results": [
        {"key": of(0, "b").key, "token": "00000000000000aa", "outcome": {"succeeded": {}}}]});
    let answer = client.request("patchloom.work.main.a.settle", settle.to_string().into()).await.unwrap();
    assert_eq!(answer.payload, "{\"answers\":[\"lost\"]}");
    assert_eq!(leader.queue.depth(), (1, 0), "the task of queue b waits");
    let _b = TestWorker::start(&server.url(), "two", &["b"], 4).await;
    assert_eq!(ledger.has(2).await[1].0, task(0).key);
    worker.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_may_not_speak_stays_silent_and_nothing_is_lost() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let server = server();
    let ledger = Ledger::new();
    let leader = Leader::start(&server.url(), &ledger, options(), vec![task(0)]).await;
    leader.may_answer.store(false, Ordering::SeqCst);
    let mut worker = TestWorker::start(&server.url(), "one", &["default"], 1).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(worker.begun.try_recv().is_err(), "no work begins without the leader's word");
    leader.may_answer.store(true, Ordering::SeqCst);
    ledger.has(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_outcome_waits_for_the_journal_is_handed_to_nobody_else() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let server = server();
    let ledger = Ledger::new();
    let _leader = Leader::start(&server.url(), &ledger, options(), vec![task(0)]).await;
    ledger.stalled.store(true, Ordering::SeqCst);
    let mut worker = TestWorker::start(&server.url(), "one", &["default"], 1).await;
    assert_eq!(worker.begins().await, (task(0).key, 0));
    // Longer than a worker may be silent, which says nothing while its result is under way.
    let mut other = TestWorker::start(&server.url(), "two", &["default"], 1).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(other.begun.try_recv().is_err(), "it is done already");
    ledger.stalled.store(false, Ordering::SeqCst);
    assert_eq!(ledger.has(1).await.len(), 1);
    assert!(worker.begun.try_recv().is_err() && other.begun.try_recv().is_err(), "it began once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_too_large_for_the_server_fails_with_the_reason() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let server = server();
    let ledger = Ledger::new();
    let large = Task { input: json!("x".repeat(2 << 20)), ..task(0) };
    let _leader = Leader::start(&server.url(), &ledger, options(), vec![large]).await;
    let _worker = TestWorker::start(&server.url(), "one", &["default"], 1).await;
    let recorded = ledger.has(1).await;
    let Outcome::Failed(failure) = &recorded[0].1 else { panic!("{recorded:?}") };
    assert_eq!(failure.code, "E0324");
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_gives_back_what_nobody_took_and_lets_the_rest_finish() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let server = server();
    let ledger = Ledger::new();
    let owed = vec![told(0, "nap"), task(1)];
    let leader = Leader::start(&server.url(), &ledger, options(), owed).await;
    let mut worker = TestWorker::start(&server.url(), "one", &["default"], 1).await;
    worker.begins().await;
    worker.drain().await;
    assert_eq!(ledger.has(1).await[0].1, Outcome::Succeeded { output: json!("slept") });
    assert_eq!(leader.queue.depth().1, 0, "nothing is with a worker that is gone");
    let mut next = TestWorker::start(&server.url(), "two", &["default"], 1).await;
    assert_eq!(next.begins().await, (task(1).key, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_timeout_counts_while_no_worker_comes() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let server = server();
    let ledger = Ledger::new();
    let timeouts = TaskTimeouts { queue: Some(Millis(500)), ..TaskTimeouts::default() };
    let _leader = Leader::start(&server.url(), &ledger, options(), vec![Task { timeouts, ..task(0) }]).await;
    let recorded = ledger.has(1).await;
    let Outcome::Failed(failure) = &recorded[0].1 else { panic!("{recorded:?}") };
    assert_eq!(failure.code, "E0321");
    let client = connect(&server.url()).await;
    let mut events = client.subscribe("patchloom.tasks.>").await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(300), events.next()).await.is_err(), "no ticket was written");
}
