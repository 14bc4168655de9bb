//! Events over NATS with engines as processes: taken in once each and told in full, whichever of them is killed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use patchloom_bed::nats::{Options, Server, Sync, left_out, python_path};
use patchloom_core::CloudEvent;
use patchloom_core::record::{Batch, Event};
use patchloom_engine::datadir::DataDir;
use patchloom_engine::events::Wanted;
use patchloom_engine::journal;
use patchloom_engine::runtime::told;
use serde_json::json;

use crate::system::System;

const SCANNED: &str = r#"
name: scanned
on:
  - event: { type: com.example.scan, inputs: { n: "${{ event.data.n }}" } }
inputs: { n: { type: integer } }
steps:
  tell: { emit: { type: com.example.noted, subject: "${{ 'n' + string(inputs.n) }}", data: { n: "${{ inputs.n }}" } } }
"#;

/// Events of a scanner, one on each line.
fn events(dir: &Path, numbers: std::ops::Range<u32>) -> PathBuf {
    let path = dir.join(format!("events-{}.ndjson", numbers.start));
    let mut text = String::new();
    for n in numbers {
        let event = json!({"specversion": "1.0", "id": format!("e{n}"), "source": "/scanner/berlin",
            "type": "com.example.scan", "data": {"n": n}});
        writeln!(text, "{event}").unwrap();
    }
    std::fs::write(&path, text).unwrap();
    path
}

/// `examples/publish.py` on a file.
fn publish(url: &str, file: &Path) -> Child {
    Command::new("python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/publish.py"))
        .args([url, "berlin"])
        .env("PYTHONPATH", python_path())
        .stdin(std::fs::File::open(file).unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 is there")
}

/// What it said at its end.
fn said(publisher: Child) -> String {
    let output = publisher.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

/// How often each event stands in the journal of an engine, and how many records that has.
fn recorded(dir: &Path) -> (BTreeMap<String, usize>, u64) {
    let (mut counts, mut last) = (BTreeMap::new(), 0);
    for record in journal::records(&DataDir::inspect(dir).unwrap().journal(), 0).unwrap() {
        let record = record.unwrap();
        let batch: Batch = serde_json::from_slice(&record.payload).unwrap();
        for entry in batch.entries {
            if let Event::EventReceived { event } = entry.event
                && event.kind == "com.example.scan"
            {
                *counts.entry(event.id.clone()).or_default() += 1;
            }
        }
        last = record.seq;
    }
    (counts, last)
}

fn server() -> Server {
    Server::start(Options { sync: Sync::Unset, file_bytes_max: 4 << 30, ..Options::default() })
}

#[test]
fn events_count_once_and_facts_are_told_once_whichever_engine_is_killed_in_the_midst() {
    if left_out() {
        return;
    }
    let server = server();
    let system = System::new(server.url());
    let (mut a, file) = (system.engine("a"), system.dir.path().join("scanned.yaml"));
    a.says("Leads main.", 1);
    let mut b = system.engine("b");
    b.says("Follows main.", 1);
    std::fs::write(&file, SCANNED).unwrap();
    let mut tail = system.stays("tail", &["event", "tail", "--json", "--nats", &system.url, "--since", "1h"]);
    tail.says("Listens to main", 1);
    system.ask(&["run", "start", file.to_str().unwrap(), "--input", "n=0"]);

    let succeeded = "\"type\":\"patchloom.run.succeeded\"";
    let first = publish(&system.url, &events(system.dir.path(), 1..2_001));
    tail.says(succeeded, 200);
    a.kill9();
    b.says("Leads main.", 1);
    assert!(said(first).contains("published 2000"));
    tail.says(succeeded, 2_001);

    // Now nobody is left who heard what was told.
    let second = publish(&system.url, &events(system.dir.path(), 2_001..3_001));
    tail.says(succeeded, 2_201);
    b.kill9();
    let mut b = system.engine("b");
    b.says("Leads main.", 2);
    assert!(said(second).contains("published 1000"));
    tail.says(succeeded, 3_001);
    tail.stop();
    b.stop();

    let (counts, last) = recorded(&system.dir.path().join("b"));
    let expected: BTreeMap<String, usize> = (1..=3_000).map(|n| (format!("e{n}"), 1)).collect();
    assert_eq!(counts, expected, "each event is in the journal, once");
    let owed = told(&system.dir.path().join("b"), "/x", 1..=last, Wanted::AllButSteps).unwrap();
    let owed: Vec<String> = owed.into_iter().map(|(_, event)| event.id).collect();
    let log = std::fs::read_to_string(system.dir.path().join("tail.log")).unwrap();
    let heard: Vec<String> = log
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str::<CloudEvent>(line).unwrap().id)
        .collect();
    println!("{} records, {} events told", last, heard.len());
    let missing: Vec<&String> = owed.iter().filter(|id| !heard.contains(id)).take(5).collect();
    assert!(missing.is_empty(), "not told: {missing:?}");
    assert_eq!(heard, owed, "all of them, once, in the order of the journal");
}

#[test]
fn listening_needs_a_server_and_says_so() {
    let system = System::new(String::new());
    let output = system.call(&["event", "tail"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("E0643") && error.contains("--nats URL"), "{error}");
}

#[test]
fn the_tail_prints_what_was_told_since_a_time_by_type_and_ends_after_a_count() {
    if left_out() {
        return;
    }
    let server = server();
    let system = System::new(server.url());
    let file = system.dir.path().join("scanned.yaml");
    std::fs::write(&file, SCANNED).unwrap();
    let mut engine = system.stays("a", &["serve", "--nats", &system.url, "--publish-steps", "--publish-binary"]);
    engine.says("Leads main.", 1);
    system.ask(&["run", "start", file.to_str().unwrap(), "--input", "n=7", "--wait"]);
    let lines = system.ask(&["event", "tail", "--since", "1h", "--count", "1", "--type", "com.example."]);
    assert!(lines.contains("com.example.noted  n7  {\"n\":7}"), "{lines}");
    let done = ["event", "tail", "--since", "1h", "--count", "1", "--type", "patchloom.step.done", "--json"];
    let step = system.ask(&done);
    let step: CloudEvent = serde_json::from_str(&step).unwrap();
    assert_eq!((step.kind.as_str(), step.lookup("data.step")), ("patchloom.step.done", json!("tell")));
    engine.stop();
}
