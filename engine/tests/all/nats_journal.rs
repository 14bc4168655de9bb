//! The journal over real servers that are killed, and lines that are cut: nothing acknowledged is lost, nothing is
//! written twice, and a leader that was replaced writes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::jetstream::{self, Context};
use patchloom_bed::nats::{Cluster, Proxy, Server};
use patchloom_core::UtcMs;
use patchloom_core::record::Batch;
use patchloom_engine::journal::{AppendError, ChainHash, Error, Head, Journal, Record, RecordReader};
use patchloom_engine::nats::{JournalOptions, NatsJournal, StreamError};

async fn context(url: &str) -> Context {
    let url: Vec<&str> = url.split(',').collect();
    let options = async_nats::ConnectOptions::new()
        .retry_on_initial_connect()
        .reconnect_delay_callback(|_| Duration::from_millis(20));
    jetstream::new(options.connect(url).await.unwrap())
}

async fn open(context: &Context) -> NatsJournal {
    NatsJournal::open(context, "main", JournalOptions::new(1, 1)).await.unwrap()
}

/// One that does not wait long for an acknowledgement that does not come.
async fn open_hasty(context: &Context) -> NatsJournal {
    let options = JournalOptions { ack_timeout: Duration::from_millis(300), ..JournalOptions::new(1, 1) };
    NatsJournal::open(context, "main", options).await.unwrap()
}

async fn read(journal: &NatsJournal, seq: u64) -> Vec<Record> {
    let mut reader = journal.read_from(seq).await.unwrap();
    let mut records = Vec::new();
    while let Some(record) = reader.next().await.unwrap() {
        records.push(record);
    }
    records
}

fn payload(number: u64) -> Vec<u8> {
    format!("{{\"number\":{number}}}").into_bytes()
}

/// Appends until it is taken, as a leader does.
async fn append(journal: &mut NatsJournal, record: Vec<u8>) -> u64 {
    // A cluster that lost its leader needs seconds to agree on another.
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        match journal.append(record.clone()).await {
            Ok(appended) => return appended.seq,
            Err(error) => assert!(error.is_transient() && Instant::now() < end, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_writers_the_stale_one_is_deposed() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let server = Server::start(Default::default());
    let context = context(&server.url()).await;
    let (mut one, mut two) = (open(&context).await, open(&context).await);
    assert_eq!(one.id(), two.id(), "both found the same journal");
    assert_eq!(one.append(payload(1)).await.unwrap().seq, 1);
    // The first record of a stream is fenced too.
    let error = two.append(payload(1)).await.unwrap_err();
    assert!(matches!(&error, AppendError::Deposed { seq: 1, .. }), "the same bytes of another writer: {error}");
    assert!(!error.is_transient());
    assert_eq!((error.code(), two.head().seq), ("E0470", 0));

    assert_eq!(two.refresh().await.unwrap().seq, 1);
    let opening = two.begin_term(UtcMs(5), "two").await.unwrap();
    assert_eq!((opening.term.number, opening.appended.seq), (1, 2));
    assert!(matches!(one.append(payload(2)).await, Err(AppendError::Deposed { seq: 2, .. })));
    one.refresh().await.unwrap();
    assert_eq!(one.begin_term(UtcMs(6), "one").await.unwrap().term.number, 2);
    assert!(matches!(two.append(payload(3)).await, Err(AppendError::Deposed { seq: 3, .. })));
    assert_eq!(open(&context).await.term(), 2);

    let records = read(&one, 1).await;
    let opening: Batch = serde_json::from_slice(&records[2].payload).unwrap();
    assert_eq!((opening.at, opening.term.map(|term| term.leader.to_string())), (UtcMs(6), Some("one".to_owned())));
    assert_eq!(records.len(), 3, "nothing of a deposed writer is in the journal");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_slept_writes_nothing_though_the_stream_was_trimmed_meanwhile() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let server = Server::start(Default::default());
    let context = context(&server.url()).await;
    let mut old = open(&context).await;
    append(&mut old, payload(1)).await;
    let mut new = open(&context).await;
    new.begin_term(UtcMs(1), "new").await.unwrap();
    for number in 3..=10 {
        append(&mut new, payload(number)).await;
    }
    // The record that the old leader would look at is gone.
    context.get_stream(new.stream()).await.unwrap().purge().sequence(8).await.unwrap();
    assert!(matches!(old.append(payload(2)).await, Err(AppendError::Deposed { seq: 2, .. })));
    assert_eq!(open(&context).await.first(), 9);
    assert_eq!(read(&new, 9).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_whose_acknowledgement_is_lost_is_in_the_journal_once() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let server = Server::start(Default::default());
    let line = Proxy::start(&server.url());
    let direct = context(&server.url()).await;
    let mut journal = open_hasty(&context(&line.url()).await).await;
    append(&mut journal, payload(1)).await;
    for number in 2..=6 {
        line.mute();
        let error = journal.append(payload(number)).await.unwrap_err();
        assert!(matches!(error, AppendError::Unavailable { .. }) && error.is_transient(), "{error}");
        // The server has it, though nobody heard of it.
        while open(&direct).await.head().seq < number {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if number % 2 == 0 {
            line.cut();
        }
        line.heal();
        assert_eq!(append(&mut journal, payload(number)).await, number);
    }
    let records = read(&open(&direct).await, 1).await;
    assert_eq!(
        records.iter().map(|record| record.payload.clone()).collect::<Vec<_>>(),
        (1..=6).map(payload).collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_was_given_up_in_doubt_stays_before_the_next() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let server = Server::start(Default::default());
    let line = Proxy::start(&server.url());
    let mut journal = open_hasty(&context(&line.url()).await).await;
    append(&mut journal, payload(1)).await;
    line.mute();
    journal.append(payload(2)).await.unwrap_err();
    // Its caller does not try it again: it appends another one.
    line.heal();
    assert_eq!(append(&mut journal, payload(3)).await, 3);
    let payloads: Vec<Vec<u8>> = read(&journal, 1).await.into_iter().map(|record| record.payload).collect();
    assert_eq!(payloads, [payload(1), payload(2), payload(3)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_term_whose_opening_is_in_doubt_is_opened_once() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let server = Server::start(Default::default());
    let line = Proxy::start(&server.url());
    let mut journal = open_hasty(&context(&line.url()).await).await;
    line.mute();
    journal.begin_term(UtcMs(1), "one").await.unwrap_err();
    line.heal();
    let opened = loop {
        match journal.begin_term(UtcMs(2), "one").await {
            Ok(opened) => break opened,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    };
    assert_eq!((opened.at, opened.term.number, opened.appended.seq), (UtcMs(1), 1, 1));
    assert_eq!((journal.head().seq, journal.term()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_in_mid_append_loses_nothing_that_it_acknowledged() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let mut server = Server::start(Default::default());
    let context = context(&server.url()).await;
    let mut journal = open_hasty(&context).await;
    let (acknowledged, mut heard) = tokio::sync::watch::channel(0);
    let writer = tokio::spawn(async move {
        for number in 1..=400 {
            assert_eq!(append(&mut journal, payload(number)).await, number);
            acknowledged.send_replace(number);
        }
        journal
    });
    for round in 1..=5 {
        heard.wait_for(|seen| *seen >= round * 60).await.unwrap();
        server.kill9();
        let seen = *heard.borrow();
        server.restart();
        let there = loop {
            match NatsJournal::open(&context, "main", JournalOptions::new(1, 1)).await {
                Ok(journal) => break journal.head().seq,
                Err(StreamError::Unavailable { .. }) => tokio::time::sleep(Duration::from_millis(10)).await,
                Err(error) => panic!("{error}"),
            }
        };
        assert!(there >= seen, "the server acknowledged {seen} records and has {there}");
    }
    let journal = writer.await.unwrap();
    let payloads: Vec<Vec<u8>> = read(&journal, 1).await.into_iter().map(|record| record.payload).collect();
    assert_eq!(payloads, (1..=400).map(payload).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_which_one_server_after_the_other_is_killed_loses_nothing_that_it_acknowledged() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let mut cluster = Cluster::start(3);
    let context = context(&cluster.url()).await;
    let options = JournalOptions { ack_timeout: Duration::from_secs(1), ..JournalOptions::new(1, 3) };
    let mut journal = NatsJournal::open(&context, "main", options.clone()).await.unwrap();
    let (acknowledged, mut heard) = tokio::sync::watch::channel(0);
    let stop = Arc::new(AtomicBool::new(false));
    let enough = Arc::clone(&stop);
    let writer = tokio::spawn(async move {
        let mut number = 0;
        while !enough.load(Ordering::SeqCst) {
            number += 1;
            assert_eq!(append(&mut journal, payload(number)).await, number);
            acknowledged.send_replace(number);
        }
        (journal, number)
    });
    for member in 0..3 {
        let so_far = *heard.borrow();
        heard.wait_for(|seen| *seen >= so_far + 20).await.unwrap();
        cluster.member(member).kill9();
        let so_far = *heard.borrow();
        // The two that are left go on without it.
        heard.wait_for(|seen| *seen >= so_far + 10).await.unwrap();
        cluster.member(member).restart();
        cluster.await_ready();
    }
    stop.store(true, Ordering::SeqCst);
    let (mut journal, last) = writer.await.unwrap();
    assert_eq!(journal.refresh().await.unwrap().seq, last);
    let payloads: Vec<Vec<u8>> = read(&journal, 1).await.into_iter().map(|record| record.payload).collect();
    assert_eq!(payloads, (1..=last).map(payload).collect::<Vec<_>>());
}

/// What somebody else puts into the stream.
async fn forge(context: &Context, stamp: &[(&str, &str)], payload: Vec<u8>) {
    let mut headers = HeaderMap::new();
    for (name, value) in stamp {
        headers.insert(*name, *value);
    }
    context.publish_with_headers("patchloom.journal.main", headers, payload.into()).await.unwrap().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_chain_is_refused_with_the_number_of_the_record() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let server = Server::start(Default::default());
    let context = context(&server.url()).await;
    let mut journal = open(&context).await;
    append(&mut journal, payload(1)).await;
    append(&mut journal, payload(2)).await;
    let writer = "0199f7a2-0000-7000-8000-000000000000";
    let wrong = ChainHash([7; 32]).to_string();
    let semantics = ("Patchloom-Semantics", "1");
    let stamp = [("Patchloom-Chain", wrong.as_str()), semantics, ("Patchloom-Term", "0"), ("Patchloom-Writer", writer)];
    forge(&context, &stamp, payload(3)).await;
    let error = NatsJournal::open(&context, "main", JournalOptions::new(1, 1)).await.unwrap_err();
    assert_eq!(error.to_string(), "record 3 of PATCHLOOM_JOURNAL_main is damaged: the hash chain is broken");
    assert_eq!(error.code(), "E0410");

    // Behind a record that follows the wrong one, the end is sound, and reading finds the place.
    let follows = ChainHash([7; 32]).next(4, &payload(4)).to_string();
    let stamp =
        [("Patchloom-Chain", follows.as_str()), semantics, ("Patchloom-Term", "0"), ("Patchloom-Writer", writer)];
    forge(&context, &stamp, payload(4)).await;
    let reopened = open(&context).await;
    let mut reader = reopened.read_from(1).await.unwrap();
    assert_eq!(reader.next().await.unwrap().unwrap().seq, 1);
    assert_eq!(reader.next().await.unwrap().unwrap().seq, 2);
    let error = reader.next().await.unwrap_err();
    assert!(matches!(&error, Error::Stream(StreamError::Damaged { seq: 3, .. })), "{error}");
    assert!(reader.next().await.unwrap().is_none(), "nothing behind damage is read");

    forge(&context, &[], b"no header".to_vec()).await;
    let error = NatsJournal::open(&context, "main", JournalOptions::new(1, 1)).await.unwrap_err();
    assert!(matches!(error, StreamError::Damaged { seq: 5, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_not_as_asked_is_refused_with_the_setting() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let server = Server::start(Default::default());
    let context = context(&server.url()).await;
    let journal = open(&context).await;
    drop(journal);
    let mut config = context.get_stream("PATCHLOOM_JOURNAL_main").await.unwrap().cached_info().config.clone();
    config.max_age = Duration::from_secs(3600);
    context.update_stream(&config).await.unwrap();
    let refused = NatsJournal::open(&context, "main", JournalOptions::new(1, 1)).await.unwrap_err();
    assert!(refused.to_string().contains("its max_age is 3600s, and must be 0ns"), "{refused}");

    context.create_stream(jetstream::stream::Config::from("PATCHLOOM_JOURNAL_theirs")).await.unwrap();
    let refused = NatsJournal::open(&context, "theirs", JournalOptions::new(1, 1)).await.unwrap_err();
    assert!(refused.to_string().contains("it was not made for a journal"), "{refused}");
    let refused = NatsJournal::open(&context, "Main", JournalOptions::new(1, 1)).await.unwrap_err();
    assert_eq!(refused.code(), "E0473");
    // Older semantics are read, newer ones are not led.
    let mut newer = NatsJournal::open(&context, "two", JournalOptions::new(2, 1)).await.unwrap();
    append(&mut newer, payload(1)).await;
    let refused = NatsJournal::open(&context, "two", JournalOptions::new(1, 1)).await.unwrap_err();
    assert_eq!(refused.code(), "E0415");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_beyond_what_the_server_takes_is_refused_with_the_limit() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let server = Server::start(Default::default());
    let mut journal = open(&context(&server.url()).await).await;
    let limit = journal.record_bytes_max();
    assert_eq!(limit, 1024 * 1024 - 1024);
    assert_eq!(journal.append(vec![b'x'; limit]).await.unwrap().seq, 1);
    let refused = journal.append(vec![b'x'; limit + 1]).await.unwrap_err();
    assert!(matches!(refused, AppendError::TooLong { bytes, limit: told } if told == limit && bytes == limit + 1));
    assert_eq!(journal.append(payload(2)).await.unwrap().seq, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_gives_each_record_as_it_comes_over_a_restart_of_the_server() {
    if patchloom_bed::nats::left_out() {
        return;
    }
    let mut server = Server::start(Default::default());
    let context = context(&server.url()).await;
    let mut journal = open_hasty(&context).await;
    let follower = open(&context).await;
    let mut tail = follower.tail(Head::default()).await.unwrap();
    let reading = tokio::spawn(async move {
        let mut seen = Vec::new();
        while seen.len() < 60 {
            match tail.next().await {
                Ok(Some(record)) => seen.push(record.payload),
                Ok(None) => panic!("a tail does not end"),
                Err(error) => panic!("{error}"),
            }
        }
        seen
    });
    for number in 1..=60 {
        append(&mut journal, payload(number)).await;
        if number == 30 {
            server.kill9();
            server.restart();
        }
    }
    let seen = tokio::time::timeout(Duration::from_secs(60), reading).await.unwrap().unwrap();
    assert_eq!(seen, (1..=60).map(payload).collect::<Vec<_>>());
}
