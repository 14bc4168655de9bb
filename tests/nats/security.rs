//! What `patchloom nats setup` makes, on a real server: each party can do its own, and nothing else.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use async_nats::{Client, ConnectOptions};
use patchloom_bed::nats::{Options, Server, left_out};
use patchloom_bed::{Process, Root};

use crate::system::System;

/// How long it takes nobody to answer.
const SILENCE: Duration = Duration::from_millis(700);

struct Fort {
    made: tempfile::TempDir,
    server: Server,
}

impl Fort {
    fn build() -> Self {
        let made = tempfile::tempdir().unwrap();
        let done = Command::new(env!("CARGO_BIN_EXE_patchloom"))
            .args(["nats", "setup", made.path().to_str().unwrap()])
            .args([
                "--site",
                "berlin",
                "--site",
                "hamburg=linux,windows",
                "--scanner",
                "qualys",
                "--listener",
                "grafana",
            ])
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let config = std::fs::read_to_string(made.path().join("localhost.conf")).unwrap();
        // The bed has places and ports of its own; the rest is as it was made.
        let own = ["server_name", "listen", "http", "jetstream"];
        let lines = config.lines().filter(|line| !own.iter().any(|own| line.starts_with(own)));
        let accounts = std::fs::read_to_string(made.path().join("accounts.conf")).unwrap();
        let text: String = lines.map(|line| format!("{line}\n")).collect();
        assert!(config.contains("sync_interval: always"), "{config}");
        let text = text.replace("include accounts.conf", &accounts);
        let server = Server::start(Options { config: text, ..Options::default() });
        Self { made, server }
    }

    fn key(&self, who: &str) -> PathBuf {
        self.made.path().join(format!("keys/{who}.nk"))
    }

    fn url(&self) -> String {
        self.server.url().replace("nats://", "tls://")
    }

    /// The options of a command that speaks as this one.
    fn args(&self, who: &str) -> Vec<String> {
        let file = |path: PathBuf| path.to_str().unwrap().to_owned();
        let ca = file(self.made.path().join("tls/ca.pem"));
        vec!["--nats".into(), self.url(), "--nats-nkey".into(), file(self.key(who)), "--nats-ca".into(), ca]
    }

    /// An engine that leads.
    fn engine(&self, system: &System) -> Process {
        let args = self.args("engine");
        let words: Vec<&str> = ["serve", "--name", "a"].into_iter().chain(args.iter().map(String::as_str)).collect();
        let mut engine = system.stays("a", &words);
        engine.says("Leads main.", 1);
        engine
    }

    async fn client(&self, who: &str) -> Client {
        let seed = std::fs::read_to_string(self.key(who)).unwrap().trim().to_owned();
        let ca = self.made.path().join("tls/ca.pem");
        ConnectOptions::with_nkey(seed).add_root_certificates(ca).connect(self.url()).await.unwrap()
    }
}

const LOOK: &str = "
name: look
inputs: { path: { type: string } }
steps:
  look: { uses: scan.packages, queue: berlin, with: { target: { kind: root, path: '${{ inputs.path }}' } } }
";

#[test]
fn an_engine_a_worker_and_a_person_work_with_the_keys_that_setup_makes() {
    if left_out() || patchloom_bed::left_out() {
        return;
    }
    let fort = Fort::build();
    let system = System::new(fort.url());
    let root = Root::mini();
    let file = system.dir.path().join("look.yaml");
    std::fs::write(&file, LOOK).unwrap();
    let line = |words: &[&str], who: &str| -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).chain(fort.args(who)).collect()
    };
    let text = |line: &[String]| line.iter().map(String::as_str).collect::<Vec<_>>().join("\0");
    let stays = |name: &str, line: Vec<String>| {
        let joined = text(&line);
        system.stays(name, &joined.split('\0').collect::<Vec<_>>())
    };
    let mut engine = stays("a", line(&["serve", "--strict", "--name", "a"], "engine"));
    engine.says("Leads main.", 1);
    assert!(engine.said().contains("strict: every server flushes"), "{}", engine.said());
    let mut worker = stays("w", line(&["worker", "--queue", "berlin"], "site-berlin"));
    worker.says("serves berlin", 1);
    let path = format!("path={}", root.path().display());
    let mut person = Command::new(env!("CARGO_BIN_EXE_patchloom"));
    person.args(["run", "start", file.to_str().unwrap(), "--wait", "--input", &path]);
    let done = person.args(fort.args("operator")).arg("--data-dir").arg(system.dir.path().join("p")).output().unwrap();
    let (said, error) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && said.contains("succeeded"), "{said}\n{error}\n{}", worker.said());
    worker.stop();
    engine.stop();
}

/// Asks, and says whether anybody answered but the account's own JetStream, which is off.
async fn answered(client: &Client, subject: &str, payload: &str) -> bool {
    let request = client.request(subject.to_owned(), payload.to_owned().into());
    let Ok(Ok(answer)) = tokio::time::timeout(SILENCE, request).await else { return false };
    !String::from_utf8_lossy(&answer.payload).contains("JetStream not enabled for account")
}

#[tokio::test]
async fn a_worker_of_one_site_can_neither_read_nor_write_anything_else() {
    if left_out() {
        return;
    }
    let fort = Fort::build();
    let system = System::new(fort.url());
    let mut engine = fort.engine(&system);
    let inside = fort.client("engine").await;
    let jetstream = async_nats::jetstream::new(inside.clone());
    // Somebody wants tasks of the queue, so its consumer is there, and a ticket is put on it.
    let site = fort.client("site-berlin").await;
    site.publish("patchloom.want.berlin", r#"{"worker":"w","free":1}"#.into()).await.unwrap();
    site.flush().await.unwrap();
    let tasks = loop {
        if let Ok(stream) = jetstream.get_stream("PATCHLOOM_TASKS").await
            && stream.consumer_info("q-berlin").await.is_ok()
        {
            break stream;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    jetstream.publish("patchloom.tasks.berlin.main.x", "{}".into()).await.unwrap().await.unwrap();

    // It may not write the journal, neither itself nor by having the server or the leader answer there.
    let journal = "patchloom.journal.main";
    let pull = "$JS.API.CONSUMER.MSG.NEXT.PATCHLOOM_TASKS.q-berlin";
    site.publish(journal, "mine".into()).await.unwrap();
    site.publish_with_reply(pull, journal, r#"{"batch":1,"expires":500000000}"#.into()).await.unwrap();
    let claim = r#"{"worker":"w","keys":[]}"#;
    site.publish_with_reply("patchloom.work.main.berlin.claim", journal, claim.into()).await.unwrap();
    site.flush().await.unwrap();
    assert!(answered(&site, "patchloom.work.main.berlin.claim", claim).await, "its own queue is open to it");
    for closed in [
        "patchloom.work.main.linux.claim",
        "patchloom.engine.main.order",
        "$JS.API.INFO",
        "$JS.API.STREAM.INFO.PATCHLOOM_JOURNAL_main",
        "$JS.API.STREAM.DELETE.PATCHLOOM_JOURNAL_main",
        "$JS.API.CONSUMER.MSG.NEXT.PATCHLOOM_TASKS.q-linux",
        "$JS.API.DIRECT.GET.PATCHLOOM_JOURNAL_main",
        "$SYS.REQ.SERVER.PING.JSZ",
    ] {
        assert!(!answered(&site, closed, "{}").await, "{closed} is open to a worker of berlin");
    }
    let journal = jetstream.get_stream("PATCHLOOM_JOURNAL_main").await.unwrap();
    for seq in 1..=journal.cached_info().state.last_sequence {
        let record = journal.get_raw_message(seq).await.unwrap();
        assert!(record.headers.get("Patchloom-Writer").is_some(), "record {seq} is no engine's: {record:?}");
    }

    // What others say it does not hear.
    let mut all = site.subscribe("patchloom.>").await.unwrap();
    site.flush().await.unwrap();
    inside.publish("patchloom.work.main.linux.settle", "secret".into()).await.unwrap();
    inside.publish("patchloom.want.berlin", "secret".into()).await.unwrap();
    inside.flush().await.unwrap();
    let heard = tokio::time::timeout(SILENCE, futures_util::StreamExt::next(&mut all)).await;
    assert!(heard.is_err(), "{heard:?}");

    assert!(tasks.consumer_info("q-berlin").await.is_ok());
    engine.stop();
}

#[tokio::test]
async fn a_scanner_does_nothing_but_tell_events_and_a_strange_key_opens_nothing() {
    if left_out() {
        return;
    }
    let fort = Fort::build();
    let system = System::new(fort.url());
    let mut engine = fort.engine(&system);
    let pull = "$JS.API.CONSUMER.MSG.NEXT.PATCHLOOM_TASKS.q-berlin";
    let scanner = fort.client("scanner-qualys").await;
    for closed in
        [pull, "patchloom.work.main.berlin.claim", "patchloom.events.in.main.nessus", "patchloom.engine.main.order"]
    {
        assert!(!answered(&scanner, closed, "{}").await, "{closed} is open to a scanner");
    }
    let stranger = nkeys::KeyPair::new_user().seed().unwrap();
    let ca = fort.made.path().join("tls/ca.pem");
    let refused = ConnectOptions::with_nkey(stranger).add_root_certificates(ca).connect(fort.url()).await;
    assert!(refused.is_err(), "a key that nobody knows got in");
    engine.stop();
}

#[tokio::test]
async fn a_scanner_tells_events_and_a_listener_hears_them() {
    if left_out() {
        return;
    }
    let fort = Fort::build();
    let system = System::new(fort.url());
    let mut engine = fort.engine(&system);
    let listener = fort.client("listener-grafana").await;
    let mut heard = listener.subscribe("patchloom.events.out.>").await.unwrap();
    listener.flush().await.unwrap();
    let file = system.dir.path().join("once.yaml");
    std::fs::write(
        &file,
        "name: once\non: [ { event: { type: com.example.seen } } ]\nsteps: { go: { wait: { for: 1s } } }\n",
    )
    .unwrap();
    let mut person = Command::new(env!("CARGO_BIN_EXE_patchloom"));
    person.args(["run", "start", file.to_str().unwrap()]).args(fort.args("operator"));
    let done = person.arg("--data-dir").arg(system.dir.path().join("p")).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));

    let scanner = fort.client("scanner-qualys").await;
    let event = r#"{"specversion":"1.0","id":"1","source":"/qualys","type":"com.example.seen"}"#;
    let told = async {
        loop {
            // The stream is made a moment after the engine leads.
            let answer = scanner.request("patchloom.events.in.main.qualys", event.into()).await;
            if let Ok(answer) = answer {
                return String::from_utf8_lossy(&answer.payload).into_owned();
            }
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(30), told).await.unwrap();
    assert!(told.contains("PATCHLOOM_EVENTS_IN") && !told.contains("error"), "{told}");
    // The run that the person began, and the one that the event began.
    let ends = async {
        let mut runs = std::collections::BTreeSet::new();
        while runs.len() < 2 {
            let message = futures_util::StreamExt::next(&mut heard).await.unwrap();
            let event: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
            if event["type"] == "patchloom.run.succeeded" {
                runs.insert(event["subject"].to_string());
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), ends).await.unwrap();
    engine.stop();
}

/// The leader does not lend its voice: a request may name any subject for its answer.
#[tokio::test]
async fn a_leader_answers_into_inboxes_only() {
    if left_out() {
        return;
    }
    let server = Server::start(Options::default());
    let system = System::new(server.url());
    let mut engine = system.engine("a");
    engine.says("Leads main.", 1);
    let client = async_nats::connect(server.url()).await.unwrap();
    let mut elsewhere = client.subscribe("patchloom.elsewhere").await.unwrap();
    let claim = r#"{"worker":"w","keys":[]}"#;
    for subject in
        ["patchloom.work.main.berlin.claim", "patchloom.work.main.berlin.nonsense", "patchloom.engine.main.order"]
    {
        client.publish_with_reply(subject, "patchloom.elsewhere", claim.into()).await.unwrap();
        assert!(answered(&client, subject, claim).await, "{subject} answers into an inbox");
    }
    let heard = tokio::time::timeout(SILENCE, futures_util::StreamExt::next(&mut elsewhere)).await;
    assert!(heard.is_err(), "{heard:?}");
    engine.stop();
}

#[test]
fn setup_keeps_what_is_there_and_refuses_what_is_given_twice() {
    let dir = tempfile::tempdir().unwrap();
    let setup = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_patchloom"));
        let done = command.args(["nats", "setup"]).arg(dir.path()).args(args).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (done.status.code(), text(done.stdout), text(done.stderr))
    };
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    let (code, said, error) = setup(&["--site", "berlin"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(said.contains("wrote") && !said.contains("kept"), "{said}");
    let seed = dir.path().join("keys/site-berlin.nk");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&seed).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "nobody else reads a key");
    let (key, certificate) = (read("keys/site-berlin.nk"), read("tls/localhost.pem"));

    let cluster =
        ["--site", "berlin", "--site", "paris=web", "--server", "localhost", "--server", "b", "--server", "c"];
    let (code, said, error) = setup(&cluster);
    assert_eq!(code, Some(0), "{error}");
    assert!(said.contains("kept"), "{said}");
    assert_eq!((key, certificate), (read("keys/site-berlin.nk"), read("tls/localhost.pem")));
    assert!(read("accounts.conf").contains("SITE_PARIS") && read("b.conf").contains("nats-route://c:6222"));

    for (args, told) in [
        (["--site", "berlin", "--site", "berlin=x"], "given twice"),
        (["--site", "Berlin", "--site", "x"], "a-z"),
        (["--server", "a/b", "--site", "x"], "host name"),
        (["--site", "a=", "--site", "x"], "queue"),
    ] {
        let (code, _, error) = setup(&args);
        assert_eq!(code, Some(2), "{args:?}: {error}");
        assert!(error.contains(told), "{args:?}: {error}");
    }
    std::fs::write(&seed, "nonsense").unwrap();
    let (code, _, error) = setup(&["--site", "berlin"]);
    assert_eq!(code, Some(3), "{error}");
    assert!(error.contains("E0906") && error.contains("site-berlin.nk"), "{error}");
}
