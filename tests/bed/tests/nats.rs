//! The bed tests its servers and its bad line: what other tests conclude from them must not come from here.

use std::time::{Duration, Instant};

use async_nats::jetstream::{self, stream};
use patchloom_bed::nats::{Cluster, Options, Proxy, Server, Sync, Version, left_out};

/// Longer than anything here takes; a test that waits as long has failed.
const LONG: Duration = Duration::from_secs(60);

async fn connect(url: &str) -> async_nats::Client {
    let options = async_nats::ConnectOptions::new().request_timeout(Some(Duration::from_secs(1)));
    let servers: Vec<async_nats::ServerAddr> = url.split(',').map(|url| url.parse().unwrap()).collect();
    options.connect(servers).await.unwrap()
}

async fn stream_of(client: &async_nats::Client, replicas: usize) -> (jetstream::Context, stream::Stream) {
    let context = jetstream::new(client.clone());
    let config = stream::Config {
        name: "kept".to_owned(),
        subjects: vec!["kept.>".to_owned()],
        num_replicas: replicas,
        ..stream::Config::default()
    };
    let stream = context.get_or_create_stream(config).await.unwrap();
    (context, stream)
}

/// Publishes until the server acknowledges it; a duplicate is no second message.
async fn publish(context: &jetstream::Context, id: &str) {
    let end = Instant::now() + LONG;
    loop {
        let message = jetstream::message::PublishMessage::build().message_id(id).payload(id.to_owned().into());
        let acknowledged = match context.send_publish("kept.a", message).await {
            Ok(acknowledged) => acknowledged.await.map(|_| ()),
            Err(error) => Err(error),
        };
        let Err(error) = acknowledged else { return };
        assert!(Instant::now() < end, "{id} was never acknowledged: {error}");
    }
}

async fn messages(stream: &stream::Stream) -> u64 {
    let end = Instant::now() + LONG;
    loop {
        match stream.get_info().await {
            Ok(info) => return info.state.messages,
            Err(error) => assert!(Instant::now() < end, "the stream does not answer: {error}"),
        }
    }
}

#[tokio::test]
async fn a_killed_server_restarts_on_the_same_address_with_its_data() {
    if left_out() {
        return;
    }
    let mut server = Server::start(Options::default());
    let (url, pid) = (server.url(), server.pid());
    let client = connect(&url).await;
    let (context, stream) = stream_of(&client, 1).await;
    publish(&context, "one").await;
    server.kill9();
    assert!(!server.is_running());
    assert_eq!(server.ask("/healthz"), None);
    server.restart();
    assert_eq!(server.url(), url);
    assert_ne!(server.pid(), pid);
    assert_eq!(messages(&stream).await, 1);
    assert!(server.store_dir().join("jetstream").is_dir());
}

#[tokio::test]
async fn a_paused_server_answers_nothing_until_it_goes_on() {
    if left_out() {
        return;
    }
    let server = Server::start(Options::default());
    let client = connect(&server.url()).await;
    let (_, stream) = stream_of(&client, 1).await;
    server.stop();
    let answered = tokio::time::timeout(Duration::from_millis(300), stream.get_info()).await;
    assert!(answered.is_err(), "{answered:?}");
    server.cont();
    assert_eq!(messages(&stream).await, 0);
}

#[test]
fn servers_are_what_was_asked_for_and_gone_when_dropped() {
    if left_out() {
        return;
    }
    let strict = Server::start(Options::default());
    let old = Server::start(Options { version: Version::Old, sync: Sync::Unset, ..Options::default() });
    let plain = Server::start(Options { jetstream: false, ..Options::default() });
    let varz = |server: &Server| server.ask("/varz").unwrap();
    assert!(varz(&strict).contains("\"version\": \"2.15."), "{}", varz(&strict));
    assert!(varz(&strict).contains("\"sync_always\": true"), "{}", varz(&strict));
    assert!(varz(&old).contains("\"version\": \"2.10."));
    assert!(!varz(&old).contains("\"sync_always\": true"));
    assert!(!varz(&plain).contains("sync_interval"));
    let (pid, home) = (strict.pid(), strict.store_dir().parent().unwrap().to_owned());
    drop(strict);
    assert!(!home.exists());
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert!(old.ask("/healthz").is_some() && plain.ask("/healthz").is_some(), "only the dropped one is gone");
}

#[tokio::test]
async fn a_cluster_keeps_its_data_when_a_member_dies_and_takes_it_back() {
    if left_out() {
        return;
    }
    let mut cluster = Cluster::start(3);
    let client = connect(&cluster.url()).await;
    let (context, stream) = stream_of(&client, 3).await;
    publish(&context, "one").await;
    let dead = cluster.leader();
    cluster.member(dead).kill9();
    publish(&context, "two").await;
    assert_eq!(messages(&stream).await, 2);
    assert_ne!(cluster.leader(), dead);
    cluster.member(dead).restart();
    cluster.await_ready();
    publish(&context, "two").await;
    assert_eq!(messages(&stream).await, 2, "a repeat is no second message, after the change of leader too");
}

#[tokio::test]
async fn a_cut_line_is_refused_and_a_healed_one_is_used_again() {
    if left_out() {
        return;
    }
    let server = Server::start(Options::default());
    let line = Proxy::start(&server.url());
    let client = connect(&line.url()).await;
    let (context, stream) = stream_of(&client, 1).await;
    publish(&context, "one").await;
    line.cut();
    let refused = async_nats::connect(&line.url()).await;
    assert!(refused.is_err());
    line.heal();
    publish(&context, "two").await;
    assert_eq!(messages(&stream).await, 2);
    assert!(line.accepted() >= 2, "{}", line.accepted());
}

#[tokio::test]
async fn a_mute_line_lets_a_message_arrive_and_loses_its_acknowledgement() {
    if left_out() {
        return;
    }
    let server = Server::start(Options::default());
    let line = Proxy::start(&server.url());
    let (context, _) = stream_of(&connect(&line.url()).await, 1).await;
    let (_, stream) = stream_of(&connect(&server.url()).await, 1).await;
    line.mute();
    let message = jetstream::message::PublishMessage::build().message_id("one").payload("one".into());
    let acknowledgement = context.send_publish("kept.a", message).await.unwrap();
    let end = Instant::now() + LONG;
    while messages(&stream).await == 0 {
        assert!(Instant::now() < end, "the message never arrived");
    }
    let heard = tokio::time::timeout(Duration::from_millis(200), acknowledgement.into_future()).await;
    assert!(heard.is_err(), "{heard:?}");
    line.heal();
    publish(&context, "one").await;
    assert_eq!(messages(&stream).await, 1);
}

#[tokio::test]
async fn a_slow_line_takes_its_time_and_a_stalled_one_all_of_it() {
    if left_out() {
        return;
    }
    let server = Server::start(Options::default());
    let line = Proxy::start(&server.url());
    let client = connect(&line.url()).await;
    let (_, stream) = stream_of(&client, 1).await;
    line.delay(100);
    let began = Instant::now();
    assert_eq!(messages(&stream).await, 0);
    assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
    line.delay(0);
    line.stall();
    let answered = tokio::time::timeout(Duration::from_millis(300), stream.get_info()).await;
    assert!(answered.is_err(), "{answered:?}");
    line.heal();
    assert_eq!(messages(&stream).await, 0);
}
