//! The connection to NATS and what is found out about a server, on real servers.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use async_nats::jetstream::{consumer, stream};
use patchloom_bed::nats::{Cluster, Options, Proxy, Server, Sync, Version, left_out};
use patchloom_engine::nats::{
    Connection, Durability, Error, NatsOptions, Preflight, Replicas, differences, same_config,
};

const LONG: Duration = Duration::from_secs(60);

async fn open(url: &str) -> Connection {
    Connection::open(NatsOptions::to(url)).await.unwrap()
}

/// The error of opening or looking, whichever refuses.
async fn refusal(options: NatsOptions) -> Error {
    match Connection::open(options).await {
        Ok(connection) => Preflight::look(&connection).await.map(|fit| fit.to_string()).unwrap_err(),
        Err(error) => error,
    }
}

fn with(config: &str) -> Options {
    Options { config: config.to_owned(), ..Options::default() }
}

#[track_caller]
fn check(error: &Error, code: &str, said: &[&str]) {
    assert_eq!(error.code(), code, "{error:?}");
    for words in said {
        assert!(error.to_string().contains(words), "{error} does not say: {words}");
    }
    assert!(!error.remedy().is_empty());
}

#[tokio::test]
async fn a_current_server_is_fit_and_its_durability_is_what_its_monitor_says() {
    if left_out() {
        return;
    }
    let server = Server::start(Options::default());
    let silent = Preflight::look(&open(&server.url()).await).await.unwrap();
    assert_eq!(silent.durability.word(), "unknown", "{silent}");
    let options = NatsOptions { monitors: vec![server.monitor_url()], ..NatsOptions::to(&server.url()) };
    let fit = Preflight::look(&Connection::open(options).await.unwrap()).await.unwrap();
    assert_eq!(fit.durability, Durability::Strict);
    assert_eq!((fit.version.major, fit.version.minor), (2, 15));
    assert_eq!((fit.replicas, fit.streams.used, fit.cluster.clone()), (Replicas::UpTo(1), 0, None));
    let table = fit.to_string();
    for line in ["server      single 2.15.", "durability  strict: ", "replicas    1", "message     up to 1 MiB"] {
        assert!(table.contains(line), "{table}");
    }
    let lax = Server::start(Options { sync: Sync::Unset, ..Options::default() });
    let options = NatsOptions { monitors: vec![lax.monitor_url()], ..NatsOptions::to(&lax.url()) };
    let fit = Preflight::look(&Connection::open(options).await.unwrap()).await.unwrap();
    assert!(fit.to_string().contains("durability  relaxed: ") && fit.to_string().contains("every 120s"), "{fit}");
}

#[tokio::test]
async fn an_account_that_may_ask_knows_the_durability_and_its_own_limits() {
    if left_out() {
        return;
    }
    let server = Server::start(with(
        "accounts {
           SYS { users: [{user: s, password: s}], exports: [{service: \"$SYS.REQ.SERVER.PING.JSZ\", accounts: [A], response: stream}] }
           A { users: [{user: a, password: a}], jetstream: { max_store: 64MB, max_mem: 8MB, max_streams: 7, max_consumers: 9 },
               imports: [{service: {account: SYS, subject: \"$SYS.REQ.SERVER.PING.JSZ\"}}] }
           B { users: [{user: b, password: b}] }
         }
         system_account: SYS",
    ));
    let of = |user: &str| NatsOptions::to(&server.url().replace("//", &format!("//{user}:{user}@")));
    let fit = Preflight::look(&Connection::open(of("a")).await.unwrap()).await.unwrap();
    assert_eq!(fit.durability, Durability::Strict);
    assert_eq!((fit.streams.max, fit.consumers.max), (Some(7), Some(9)));
    assert_eq!((fit.storage_bytes.max, fit.memory_bytes.max), (Some(64 << 20), Some(8 << 20)));
    check(&refusal(of("b")).await, "E0645", &["off for our account"]);
}

#[tokio::test]
async fn servers_that_are_not_fit_are_refused_with_the_reason() {
    if left_out() {
        return;
    }
    let old = Server::start(Options { version: Version::Old, ..Options::default() });
    check(
        &refusal(NatsOptions::to(&old.url())).await,
        "E0644",
        &["version 2.10.", "2.11.0 is the oldest", "say nothing"],
    );
    let plain = Server::start(Options { jetstream: false, ..Options::default() });
    check(&refusal(NatsOptions::to(&plain.url())).await, "E0645", &["off for the whole server"]);
    let small = Server::start(with("max_payload: 65536"));
    check(&refusal(NatsOptions::to(&small.url())).await, "E0646", &["messages of 65536 bytes", "1048576 are needed"]);
}

#[tokio::test]
async fn what_keeps_us_out_is_told_apart() {
    if left_out() {
        return;
    }
    let mut server = Server::start(with("authorization { user: me, password: right }"));
    let wrong = server.url().replace("//", "//me:wrong@");
    let error = refusal(NatsOptions::to(&wrong)).await;
    check(&error, "E0641", &["does not accept our user and password", &server.url()]);
    assert!(!format!("{error:?}{error}").contains("wrong"), "a password is shown: {error:?}");
    check(&refusal(NatsOptions::to(&server.url())).await, "E0641", &["connection without credentials"]);
    open(&server.url().replace("//", "//me:right@")).await;
    server.kill9();
    check(&refusal(NatsOptions::to(&wrong)).await, "E0640", &["cannot reach", &server.url()]);
    let nowhere = NatsOptions { creds: Some(PathBuf::from("/nowhere/creds")), ..NatsOptions::to(&server.url()) };
    check(&refusal(nowhere).await, "E0643", &["/nowhere/creds", "creds"]);
    check(&refusal(NatsOptions::to(" , ")).await, "E0643", &["no address"]);
}

/// A certificate for this machine that vouches for itself, and its key.
fn certificate(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (cert, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    (cert, key)
}

#[tokio::test]
async fn tls_needs_the_right_authority_and_where_asked_a_certificate() {
    if left_out() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = certificate(dir.path(), "server");
    let (our_cert, our_key) = certificate(dir.path(), "ours");
    let server = Server::start(with(&format!(
        "tls {{ cert_file: {cert:?}, key_file: {key:?}, ca_file: {our_cert:?}, verify: true }}"
    )));
    let bare = NatsOptions::to(&server.url());
    check(&refusal(bare.clone()).await, "E0642", &["TLS", &server.url()]);
    let other = NatsOptions { tls_ca: Some(our_cert.clone()), ..bare.clone() };
    check(&refusal(other).await, "E0642", &[]);
    let trusting = NatsOptions { tls_ca: Some(cert), ..bare };
    check(&refusal(trusting.clone()).await, "E0642", &[]);
    let half = NatsOptions { tls_cert: Some(our_cert.clone()), ..trusting.clone() };
    check(&refusal(half).await, "E0643", &["tls_key"]);
    let whole = NatsOptions { tls_cert: Some(our_cert), tls_key: Some(our_key), ..trusting };
    Preflight::look(&Connection::open(whole).await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_cluster_is_strict_only_where_every_member_says_so() {
    if left_out() {
        return;
    }
    let mut cluster = Cluster::start(3);
    let monitors: Vec<String> = (0..3).map(|at| cluster.member(at).monitor_url()).collect();
    let all = NatsOptions { monitors: monitors.clone(), ..NatsOptions::to(&cluster.url()) };
    let fit = Preflight::look(&Connection::open(all).await.unwrap()).await.unwrap();
    assert_eq!((fit.durability.clone(), fit.replicas), (Durability::Strict, Replicas::UpTo(3)), "{fit}");
    let two = NatsOptions { monitors: monitors[..2].to_vec(), ..NatsOptions::to(&cluster.url()) };
    let fit = Preflight::look(&Connection::open(two).await.unwrap()).await.unwrap();
    assert!(fit.to_string().contains("durability  unknown: only 2 of 3 servers"), "{fit}");
}

#[tokio::test]
async fn a_connection_comes_back_after_the_line_was_cut_and_the_server_killed() {
    if left_out() {
        return;
    }
    let mut server = Server::start(Options::default());
    let line = Proxy::start(&server.url());
    let connection = open(&line.url()).await;
    assert!(connection.is_connected());
    line.cut();
    let end = Instant::now() + LONG;
    while connection.is_connected() {
        assert!(Instant::now() < end, "the cut is not noticed");
        tokio::task::yield_now().await;
    }
    server.kill9();
    server.restart();
    line.heal();
    while connection.jetstream().query_account().await.is_err() {
        assert!(Instant::now() < end, "the connection does not come back");
    }
    assert!(connection.is_connected());
}

#[tokio::test]
async fn streams_and_consumers_that_servers_made_otherwise_are_told_field_by_field() {
    if left_out() {
        return;
    }
    let asked = stream::Config {
        name: "W".to_owned(),
        subjects: vec!["w.>".to_owned()],
        retention: stream::RetentionPolicy::WorkQueue,
        max_bytes: 1 << 20,
        deny_purge: true,
        allow_message_ttl: true,
        metadata: [("site".to_owned(), "berlin".to_owned())].into(),
        ..stream::Config::default()
    };
    let pull = consumer::Config {
        durable_name: Some("c".to_owned()),
        filter_subjects: vec!["w.a".to_owned(), "w.b".to_owned()],
        ack_policy: consumer::AckPolicy::Explicit,
        backoff: vec![Duration::from_secs(1), Duration::from_secs(5)],
        max_deliver: 9,
        ..consumer::Config::default()
    };
    for version in [Version::Current, Version::Old] {
        let server = Server::start(Options { version, ..Options::default() });
        let jetstream = open(&server.url()).await.jetstream();
        let stream = jetstream.create_stream(asked.clone()).await.unwrap();
        let got = &stream.cached_info().config;
        let dropped: Vec<String> = differences(&asked, got).into_iter().map(|found| found.field).collect();
        match version {
            Version::Current => assert!(dropped.is_empty(), "{dropped:?}"),
            Version::Old => assert_eq!(dropped, ["allow_msg_ttl"]),
        }
        let other = stream::Config { max_bytes: 2 << 20, deny_purge: false, metadata: [].into(), ..asked.clone() };
        let error = same_config("stream W", &other, got).unwrap_err();
        check(
            &error,
            "E0647",
            &["stream W", "max_bytes is 1048576, asked was 2097152", "deny_purge is true", "metadata.site"],
        );
        let made = stream.create_consumer(pull.clone()).await.unwrap();
        same_config("consumer c", &pull, &made.cached_info().config).unwrap();
    }
}
