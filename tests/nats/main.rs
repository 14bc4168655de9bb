//! Engines and workers as processes of their own behind a real NATS server, and the same command line on them.

mod compose;
mod creds;
mod events;
mod security;
mod system;

use std::process::Command;

use patchloom_bed::Root;
use patchloom_bed::nats::{Options, Server, left_out};
use patchloom_engine::runtime::inspect;

use system::System;

const PATIENCE: &str = r#"
name: patience
steps:
  first: { wait: { for: 1s } }
  go: { needs: first, wait: { signal: go } }
  last: { needs: go, wait: { for: 1s } }
"#;

#[test]
fn engines_take_over_from_each_other_and_the_command_line_finds_the_one_that_leads() {
    if left_out() {
        return;
    }
    let server = Server::start(Options::default());
    let system = System::new(server.url());
    let file = system.dir.path().join("patience.yaml");
    std::fs::write(&file, PATIENCE).unwrap();
    let mut a = system.engine("a");
    a.says("Leads main.", 1);
    let mut b = system.engine("b");
    b.says("Follows main.", 1);

    let id = system.ask(&["run", "start", file.to_str().unwrap(), "--label", "why=test"]).trim().to_owned();
    let listed = system.ask(&["run", "list", "--label", "why=test"]);
    assert!(listed.contains(&id[..8]), "{listed}");
    a.kill9();
    let signalled = system.ask(&["run", "signal", &id, "go"]);
    assert!(signalled.contains("succeeded"), "{signalled}");
    b.says("Leads main.", 1);
    let why = system.ask(&["run", "show", &id, "--json"]);
    assert!(why.contains("\"succeeded\""), "{why}");

    // The one that was killed comes back and follows; then it is its turn again.
    let mut a = system.engine("a");
    a.says("Follows main.", 1);
    let second = system.ask(&["run", "start", file.to_str().unwrap()]).trim().to_owned();
    b.stop();
    a.says("Leads main.", 2);
    assert!(system.ask(&["run", "signal", &second, "go"]).contains("succeeded"));
    let mut b = system.engine("b");
    b.says("Follows main.", 2);
    a.stop();
    b.says("Leads main.", 2);
    b.stop();

    // a stopped before b opened its last term: a term changes nothing in the state.
    assert_eq!(system.rows("a"), system.rows("b"), "two engines, one state");
    for engine in ["a", "b"] {
        let dir = system.dir.path().join(engine);
        let verified = Command::new(env!("CARGO_BIN_EXE_patchloom"))
            .args(["journal", "verify", "--data-dir", dir.to_str().unwrap()])
            .output()
            .unwrap();
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
        let inspected = inspect(&dir).unwrap();
        for id in [&id, &second] {
            let run = inspected.run(id.parse().unwrap()).unwrap();
            assert!(run.is_some(), "{engine} has lost run {id}");
        }
    }
}

#[test]
fn a_worker_elsewhere_does_the_tasks_of_the_lifecycle() {
    if left_out() || patchloom_bed::left_out() {
        return;
    }
    let server = Server::start(Options::default());
    let system = System::new(server.url());
    let root = Root::mini();
    let mut engine = system.engine("a");
    engine.says("Leads main.", 1);
    let mut worker = system.stays("w", &["worker", "--nats", &system.url, "--name", "w", "--label", "site=here"]);
    worker.says("serves default", 1);
    let target = format!("target={{\"kind\":\"root\",\"path\":\"{}\"}}", root.path().display());
    let report = system.ask(&[
        "run",
        "start",
        "patch-lifecycle",
        "--input",
        &target,
        "--input",
        "mode=observe",
        "--input",
        "offline=false",
        "--wait",
    ]);
    assert!(report.contains("succeeded"), "{report}");
    worker.stop();
    engine.stop();
    let dir = system.dir.path().join("a");
    let exported = Command::new(env!("CARGO_BIN_EXE_patchloom"))
        .args(["journal", "export", "--data-dir", dir.to_str().unwrap()])
        .output()
        .unwrap();
    let exported = String::from_utf8(exported.stdout).unwrap();
    for kind in ["patchloom.host.scanned", "patchloom.host.simulated", "patchloom.change.closed"] {
        assert_eq!(exported.matches(&format!("\"type\":\"{kind}\"")).count(), 1, "{kind} came with its result");
    }
}

#[test]
fn engines_whose_server_is_gone_stop_when_they_are_asked_to() {
    if left_out() {
        return;
    }
    let mut server = Server::start(Options::default());
    let system = System::new(server.url());
    let mut a = system.engine("a");
    a.says("Leads main.", 1);
    let mut b = system.engine("b");
    b.says("Follows main.", 1);
    server.kill9();
    b.stop();
    a.stop();
}

#[test]
fn a_journal_moves_into_nats_and_back_with_all_its_links() {
    if left_out() {
        return;
    }
    let server = Server::start(Options::default());
    let system = System::new(server.url());
    let file = system.dir.path().join("patience.yaml");
    std::fs::write(&file, PATIENCE).unwrap();
    let alone = |args: &[&str], dir: &str| {
        let dir = system.dir.path().join(dir);
        let output = Command::new(env!("CARGO_BIN_EXE_patchloom"))
            .args(args)
            .args(["--data-dir", dir.to_str().unwrap()])
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, id, error) = alone(&["run", "start", file.to_str().unwrap()], "a");
    assert_eq!(code, Some(0), "{error}");
    let id = id.trim();

    let (code, said, error) = alone(&["journal", "move", "--to", "nats", "--nats", &system.url], "a");
    assert_eq!(code, Some(0), "{error}");
    let before = alone(&["journal", "verify"], "a").1;
    let link = before.trim().rsplit(' ').next().unwrap();
    assert!(said.contains(link), "{said} does not end with the link of {before}");
    let mut engine = system.engine("a");
    engine.says("Leads main.", 1);
    assert!(system.ask(&["run", "signal", id, "go"]).contains("succeeded"));
    let back = ["journal", "move", "--to", "dir", "--nats", &system.url];
    let (code, _, error) = alone(&back, "c");
    assert_eq!(code, Some(3), "{error}");
    assert!(error.contains("E0650"), "{error}");
    engine.stop();
    let (code, _, error) = alone(&back, "c");
    assert_eq!(code, Some(0), "{error}");
    let verified = alone(&["journal", "verify"], "c");
    assert_eq!((verified.0, &verified.1), (Some(0), &alone(&["journal", "verify"], "a").1), "the same links");
    assert!(alone(&["run", "show", id], "c").1.contains("succeeded"));
}

#[tokio::test]
async fn who_looks_on_makes_no_journal_and_says_that_no_engine_is_there() {
    if left_out() {
        return;
    }
    let server = Server::start(Options::default());
    let system = System::new(server.url());
    let output = system.call(&["run", "list", "--partition", "nowhere"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(error.contains("E0473") && error.contains("no engine ever stood for the partition nowhere"), "{error}");
    let client = async_nats::connect(server.url()).await.unwrap();
    let mut names = async_nats::jetstream::new(client).stream_names();
    let made = futures_util::StreamExt::next(&mut names).await;
    assert!(made.is_none(), "it made {made:?}");
}

#[test]
fn a_server_without_streams_is_told_at_once() {
    if left_out() {
        return;
    }
    let server = Server::start(Options { jetstream: false, ..Options::default() });
    let output = System::new(server.url()).call(&["run", "list", "-v"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(error.contains("E0471"), "{error}");
    assert!(!error.contains("it is tried again"), "it waits for what does not come: {error}");
}

#[test]
fn a_server_that_is_not_there_is_told_in_a_sentence() {
    let system = System::new("nats://127.0.0.1:1".to_owned());
    let output = system.call(&["run", "list"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(error.contains("E0640") && error.contains("127.0.0.1:1"), "{error}");
}

#[tokio::test]
async fn a_measurement_tells_all_its_figures_and_leaves_nothing_on_the_server() {
    if left_out() {
        return;
    }
    let server = Server::start(Options::default());
    let system = System::new(server.url());
    let told = system.ask(&["bench", "engine", "--runs", "20", "--in-flight", "5", "--steps", "3", "--json"]);
    let figures: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&figures["runs"], &figures["steps"]), (&20.into(), &60.into()), "{told}");
    for figure in ["steps_per_second", "step_p50_us", "step_p99_us", "appends_per_second", "cores", "peak_rss_bytes"] {
        assert!(figures[figure].as_f64().is_some_and(|figure| figure > 0.0), "{figure}: {told}");
    }
    for raw in figures["raw"].as_array().unwrap() {
        assert!(
            raw["appends"][1][1]["per_second"].as_f64() > Some(0.0) && raw["tickets_per_second"].as_f64() > Some(0.0)
        );
    }
    let client = async_nats::connect(server.url()).await.unwrap();
    let mut names = async_nats::jetstream::new(client).stream_names();
    let mut left = Vec::new();
    while let Some(name) = futures_util::StreamExt::next(&mut names).await {
        left.push(name.unwrap());
    }
    // The bucket of the leases is for all partitions of a server.
    assert_eq!(left, ["KV_PATCHLOOM_LEASES"]);
}
