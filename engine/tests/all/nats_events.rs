//! Events over NATS, on real servers: taken in once each however they come and however fast, told in order and in full.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::pull::OrderedConfig;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{PersistenceMode, StorageType};
use async_nats::jetstream::{self, Context};
use async_nats::{Client, HeaderMap};
use futures_util::{StreamExt as _, stream};
use patchloom_bed::nats::{Options, Server, Sync, left_out};
use patchloom_core::record::{Batch, Event};
use patchloom_core::run::{Fact, FactKind};
use patchloom_core::wire::{EventLetter, Names};
use patchloom_core::{CloudEvent, Definition, RunId, UtcMs};
use patchloom_engine::clock::Clock;
use patchloom_engine::datadir::DataDir;
use patchloom_engine::events::{Events, InProcess, Wanted, of_facts};
use patchloom_engine::journal;
use patchloom_engine::nats::{BusOptions, Connection, NatsEvents, NatsOptions, Stand, StandOptions, stand};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const LONG: Duration = Duration::from_secs(60);

/// Wanted by all events of the type, started by few.
const RARE: &str = r#"
name: rare
on:
  - event: { type: com.example.scan, if: "event.data.n % 10000 == 7", inputs: { n: "${{ event.data.n }}" } }
inputs: { n: { type: integer } }
steps:
  a: { set: { x: 1 } }
"#;

fn server(sync: Sync) -> Server {
    Server::start(Options { sync, file_bytes_max: 4 << 30, ..Options::default() })
}

async fn connection(server: &Server) -> Connection {
    Connection::open(NatsOptions::to(&server.url())).await.unwrap()
}

fn options(bus: BusOptions) -> StandOptions {
    StandOptions { ttl: Duration::from_secs(2), bus, ..StandOptions::new("test") }
}

async fn leads(server: &Server, dir: &Path, bus: BusOptions) -> Stand {
    let stand = stand(&connection(server).await, dir, InProcess::default(), options(bus)).await.unwrap();
    let (definition, end) = (Definition::parse("rare.yaml", RARE).unwrap(), Instant::now() + LONG);
    // Nobody answers before it leads.
    while stand.handle.register("test", &definition).await.is_err() {
        assert!(Instant::now() < end, "it does not lead");
    }
    stand
}

async fn stop(mut stand: Stand) {
    stand.handle.stop().await;
    stand.ended().await;
}

fn event(n: u64) -> Value {
    json!({"specversion": "1.0", "id": format!("e{n}"), "source": "/scanner/berlin", "type": "com.example.scan", "data": {"n": n}})
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    pairs.iter().for_each(|(name, value)| headers.insert(*name, *value));
    headers
}

/// All entries of a journal.
fn entries(dir: &Path) -> impl Iterator<Item = Event> {
    let dir = DataDir::inspect(dir).unwrap();
    let batch = |record: Result<journal::Record, _>| -> Batch {
        serde_json::from_slice(&record.map_err(|error: journal::Error| error).unwrap().payload).unwrap()
    };
    journal::records(&dir.journal(), 0).unwrap().map(batch).flat_map(|batch| batch.entries).map(|entry| entry.event)
}

/// How often each event stands in the journal.
fn recorded(dir: &Path) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for event in entries(dir) {
        if let Event::EventReceived { event } = event {
            *counts.entry(event.id.clone()).or_default() += 1;
        }
    }
    counts
}

fn starts(dir: &Path) -> usize {
    entries(dir).filter(|event| matches!(event, Event::RunStarted(_))).count()
}

async fn waiting(context: &Context) -> u64 {
    context.get_stream("PATCHLOOM_EVENTS_IN").await.unwrap().cached_info().state.messages
}

/// Waits until all that was published is taken in.
async fn drained(context: &Context) {
    let end = Instant::now() + LONG;
    while waiting(context).await > 0 {
        assert!(Instant::now() < end, "{} events are not taken in", waiting(context).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn publish(context: &Context, subject: &str, headers: HeaderMap, body: Vec<u8>) {
    let message = PublishMessage::build().payload(body.into()).headers(headers);
    context.send_publish(subject.to_owned(), message).await.unwrap().await.unwrap();
}

/// Until an engine has made the stream.
async fn made(context: &Context, name: &str) {
    let end = Instant::now() + LONG;
    while context.get_stream(name).await.is_err() {
        assert!(Instant::now() < end, "nobody makes {name}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// All messages of a stream there are.
async fn all(client: &Client, name: &str) -> Vec<jetstream::Message> {
    let context = jetstream::new(client.clone());
    let stream = context.get_stream(name).await.unwrap();
    let mut messages = Vec::new();
    if stream.cached_info().state.messages == 0 {
        return messages;
    }
    let last = stream.cached_info().state.last_sequence;
    let consumer = stream.create_consumer(OrderedConfig::default()).await.unwrap();
    let mut all = consumer.messages().await.unwrap();
    loop {
        let message = tokio::time::timeout(LONG, all.next()).await.unwrap().unwrap().unwrap();
        let at = message.info().unwrap().stream_sequence;
        messages.push(message);
        if at >= last {
            return messages;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_come_in_in_every_mode_count_once_and_what_is_none_lies_with_the_dead_letters() {
    if left_out() {
        return;
    }
    let (server, dir) = (server(Sync::Always), tempfile::tempdir().unwrap());
    let stand = leads(&server, dir.path(), BusOptions::default()).await;
    let client = async_nats::connect(server.url()).await.unwrap();
    let context = jetstream::new(client.clone());
    made(&context, "PATCHLOOM_EVENTS_IN").await;
    let subject = "patchloom.events.in.main.berlin";
    let kind = |kind: &str| headers(&[("Content-Type", kind)]);
    publish(&context, subject, kind("application/cloudevents+json"), event(1).to_string().into()).await;
    publish(&context, subject, HeaderMap::new(), event(2).to_string().into()).await;
    // The repeat of an event that is only on its way to the journal is recorded as well, and passed over there.
    drained(&context).await;
    let batch = json!([event(3), event(4), event(1)]).to_string();
    publish(&context, &format!("{subject}.nightly"), kind("application/cloudevents-batch+json"), batch.into()).await;
    let binary = headers(&[
        ("ce-specversion", "1.0"),
        ("ce-id", "e5"),
        ("ce-source", "/scanner/berlin"),
        ("ce-type", "com.example.scan"),
        ("Content-Type", "application/json"),
    ]);
    publish(&context, subject, binary, b"{\"n\": 5}".to_vec()).await;
    publish(&context, subject, kind("text/plain"), b"hello".to_vec()).await;
    publish(&context, subject, HeaderMap::new(), vec![0xFF, 0xFE]).await;
    publish(
        &context,
        subject,
        kind("application/cloudevents-batch+json"),
        json!([event(6), {"id": "x"}]).to_string().into(),
    )
    .await;
    // Told again it counts once.
    publish(&context, subject, HeaderMap::new(), event(2).to_string().into()).await;
    drained(&context).await;

    let letters = all(&client, "PATCHLOOM_DEAD").await;
    let letters: Vec<EventLetter> =
        letters.iter().map(|letter| serde_json::from_slice(&letter.payload).unwrap()).collect();
    let mut reasons: Vec<(&str, Option<&str>, u64)> =
        letters.iter().map(|letter| (letter.reason.as_str(), letter.text.as_deref(), letter.bytes)).collect();
    reasons.sort_unstable_by_key(|(_, _, bytes)| *bytes);
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    assert!(reasons[0].0.contains("UTF-8") && letters.iter().any(|letter| letter.base64.as_deref() == Some("//4=")));
    assert!(reasons[1].0.contains("content type") && reasons[1].1 == Some("hello"), "{reasons:?}");
    assert!(reasons[2].0.contains("event 2: source"), "{reasons:?}");
    assert!(letters.iter().all(|letter| letter.subject == subject));

    stop(stand).await;
    let recorded = recorded(dir.path());
    let expected = (1..=5).map(|n| (format!("e{n}"), 1)).collect();
    assert_eq!(recorded, expected, "of a batch with a mistake nothing is taken");
}

/// What the kernel counts of this process, in KiB.
fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_events_as_fast_as_can_be_are_all_taken_in_in_bounded_memory() {
    if left_out() {
        return;
    }
    flood(Sync::Unset, 100_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_flushes_each_message_loses_none_of_a_flood_either() {
    if left_out() {
        return;
    }
    flood(Sync::Always, 5_000).await;
}

async fn flood(sync: Sync, count: u64) {
    let (server, dir) = (server(sync), tempfile::tempdir().unwrap());
    let stand = leads(&server, dir.path(), BusOptions::default()).await;
    let context = jetstream::new(async_nats::connect(server.url()).await.unwrap());
    made(&context, "PATCHLOOM_EVENTS_IN").await;
    let before = memory("VmRSS");
    let begun = Instant::now();
    stream::iter(0..count)
        .map(|n| {
            let context = context.clone();
            async move {
                let message = PublishMessage::build().payload(event(n).to_string().into());
                context.send_publish("patchloom.events.in.main.flood", message).await.unwrap().await.unwrap();
            }
        })
        .buffer_unordered(1_000)
        .collect::<Vec<()>>()
        .await;
    let published = begun.elapsed();
    let backlog = waiting(&context).await;
    drained(&context).await;
    let taken = begun.elapsed();
    let peak = memory("VmHWM").saturating_sub(before);
    let rate = |time: Duration| f64::from(u32::try_from(count).unwrap()) / time.as_secs_f64();
    println!(
        "{count} events: published {:.0}/s, {backlog} waiting then, taken in {:.0}/s; peak memory {} MiB more",
        rate(published),
        rate(taken),
        peak / 1024
    );
    stop(stand).await;
    let recorded = recorded(dir.path());
    assert_eq!(u64::try_from(recorded.len()).unwrap(), count, "each of them is in the journal");
    assert!(recorded.values().all(|times| *times == 1), "once");
    assert_eq!(u64::try_from(starts(dir.path())).unwrap(), count.div_ceil(10_000), "those that start something did");
    assert!(peak < 700 << 10, "{peak} KiB more than before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_full_refuses_and_loses_nothing_and_goes_on_once_events_are_taken_in() {
    if left_out() {
        return;
    }
    let (server, dir) = (server(Sync::Unset), tempfile::tempdir().unwrap());
    let small = BusOptions { in_bytes_max: 1 << 20, ..BusOptions::default() };
    // Made, then nobody takes anything.
    let stand = leads(&server, dir.path(), small.clone()).await;
    let context = jetstream::new(async_nats::connect(server.url()).await.unwrap());
    made(&context, "PATCHLOOM_EVENTS_IN").await;
    stop(stand).await;
    let count = 8_000;
    let (told, mut full) = tokio::sync::mpsc::channel(1);
    let publisher = tokio::spawn({
        let context = context.clone();
        async move {
            let refused = std::sync::atomic::AtomicU64::new(0);
            let (refused, context, told) = (&refused, &context, &told);
            stream::iter(0..count)
                .map(|n| async move {
                    loop {
                        let message = PublishMessage::build().payload(event(n).to_string().into());
                        let sent = context.send_publish("patchloom.events.in.main.flood", message).await.unwrap();
                        let Err(error) = sent.await else { return };
                        assert!(error.to_string().contains("maximum bytes exceeded"), "{error}");
                        refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        let _ = told.try_send(());
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                })
                .buffer_unordered(200)
                .collect::<Vec<()>>()
                .await;
            refused.load(std::sync::atomic::Ordering::Relaxed)
        }
    });
    tokio::time::timeout(LONG, full.recv()).await.expect("it is never full").unwrap();
    let held = waiting(&context).await;
    assert!(held < count, "{held}");
    let stand = leads(&server, dir.path(), small).await;
    let refused = tokio::time::timeout(LONG, publisher).await.expect("it stays full").unwrap();
    drained(&context).await;
    stop(stand).await;
    let recorded = recorded(dir.path());
    println!("refused {refused} times, {held} messages when it was full");
    assert_eq!(u64::try_from(recorded.len()).unwrap(), count);
    assert!(recorded.values().all(|times| *times == 1));
}

fn facts(steps: usize) -> Vec<Fact> {
    let run = RunId(uuid::Uuid::from_u128(1));
    let mut facts = vec![Fact { run, kind: FactKind::Phase("running") }];
    facts.extend((0..steps).map(|_| Fact { run, kind: FactKind::Step("a".into(), "succeeded") }));
    facts.push(Fact { run, kind: FactKind::Phase("succeeded") });
    facts
}

fn port(bus: BusOptions) -> NatsEvents {
    NatsEvents::new(Names::default(), "main".into(), 1, bus)
}

fn of(seq: u64) -> Vec<CloudEvent> {
    of_facts("/s", seq, Clock::system().now(), &facts(1), Wanted::All)
}

/// Tells all that is in line.
async fn told(events: &NatsEvents, server: &Server) {
    let context = connection(server).await.jetstream();
    let stop = CancellationToken::new();
    let telling = tokio::spawn({
        let (events, stop) = (events.clone(), stop.clone());
        async move { events.tell(context, || true, stop).await }
    });
    made(&jetstream::new(async_nats::connect(server.url()).await.unwrap()), "PATCHLOOM_EVENTS_OUT").await;
    stop.cancel();
    telling.await.unwrap();
}

async fn ids(server: &Server) -> Vec<String> {
    let messages = all(&async_nats::connect(server.url()).await.unwrap(), "PATCHLOOM_EVENTS_OUT").await;
    let read = |message: &jetstream::Message| {
        let headers = message.headers.iter().flat_map(HeaderMap::iter);
        let headers = headers
            .flat_map(|(name, values)| values.iter().map(move |value| (name.as_ref(), value.as_str().as_bytes())));
        CloudEvent::read_message(headers, &message.payload).unwrap().remove(0).id
    };
    messages.iter().map(read).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_port_tells_all_in_order_without_steps_unless_they_are_asked_for_and_in_both_modes() {
    if left_out() {
        return;
    }
    for (steps, binary) in [(false, false), (true, true)] {
        let server = server(Sync::Always);
        let events = port(BusOptions { steps, binary, ..BusOptions::default() });
        assert_eq!(events.wanted(), if steps { Wanted::All } else { Wanted::AllButSteps });
        // What would have left the stream by now is not told.
        events.overheard(1, of_facts("/s", 0, UtcMs(1_700_000_000_000), &facts(0), Wanted::All));
        events.publish(1, of(1));
        events.publish(2, of(2));
        told(&events, &server).await;
        let expected: &[&str] =
            if steps { &["1-0", "1-1", "1-2", "2-0", "2-1", "2-2"] } else { &["1-0", "1-2", "2-0", "2-2"] };
        assert_eq!(ids(&server).await, expected);
        assert_eq!(events.lost(), 0);
        let messages = all(&async_nats::connect(server.url()).await.unwrap(), "PATCHLOOM_EVENTS_OUT").await;
        let first = &messages[0];
        assert_eq!(first.subject.as_str(), "patchloom.events.out.main.run.running");
        let header = |name: &str| first.headers.as_ref().unwrap().get(name).map(ToString::to_string);
        assert_eq!(header("Nats-Msg-Id").as_deref(), Some("/s#1-0"));
        assert_eq!(header("Patchloom-Seq").as_deref(), Some("1"));
        assert_eq!(header("ce-id").is_some(), binary);
        let context = jetstream::new(async_nats::connect(server.url()).await.unwrap());
        let config = context.get_stream("PATCHLOOM_EVENTS_OUT").await.unwrap().cached_info().config.clone();
        assert_eq!((config.storage, config.persist_mode), (StorageType::File, Some(PersistenceMode::Async)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_leads_next_tells_what_the_former_leader_had_not_come_to_and_nothing_twice() {
    if left_out() {
        return;
    }
    let server = server(Sync::Unset);
    let (former, next) = (port(BusOptions::default()), port(BusOptions::default()));
    for seq in 1..=300 {
        next.overheard(seq, of(seq));
        if seq <= 200 {
            former.publish(seq, of(seq));
        }
    }
    told(&former, &server).await;
    // Its own first event came in before it looked where the former one had ended.
    next.publish(301, of(301));
    told(&next, &server).await;
    // As after hours: the server's own memory of names is gone, the headers are not.
    let again = port(BusOptions::default());
    (150..=301).for_each(|seq| again.overheard(seq, of(seq)));
    again.publish(302, of(302));
    told(&again, &server).await;
    let ids = ids(&server).await;
    let expected: Vec<String> = (1..=302).flat_map(|seq| [format!("{seq}-0"), format!("{seq}-2")]).collect();
    assert_eq!(ids, expected);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 604);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_for_long_costs_the_oldest_events_and_it_is_said_how_many() {
    if left_out() {
        return;
    }
    let mut server = server(Sync::Unset);
    let events = port(BusOptions { out_line_max: 10, ..BusOptions::default() });
    server.kill9();
    (1..=8).for_each(|seq| events.publish(seq, of(seq)));
    assert_eq!(events.lost(), 6);
    server.restart();
    told(&events, &server).await;
    assert_eq!(ids(&server).await, ["4-0", "4-2", "5-0", "5-2", "6-0", "6-2", "7-0", "7-2", "8-0", "8-2"]);
}
