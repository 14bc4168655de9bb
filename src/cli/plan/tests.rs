//! The command line of plans, from files to exit codes.

use std::ffi::OsString;
use std::path::Path;

use serde_json::{Value, json};

use crate::cli::run_line;
use crate::fault::Exit;

fn patch(version: &str) -> Value {
    json!({
        "name": "openssl", "arch": "amd64", "installed": "3.0.14-1", "candidate": version, "source": "openssl",
        "source_version": version, "origin": "Debian-Security:12/oldstable-security", "security": true,
        "sha256": "ab".repeat(32), "size_bytes": 2_000_000,
    })
}

/// Writes a fleet of three hosts, of which one has no way back, with its calendars.
fn fleet(dir: &Path, version: &str) {
    let write = |name: &str, text: String| std::fs::write(dir.join(name), text).unwrap();
    let host = |id: &str, environment: &str| json!({ "id": id, "target": { "kind": "root", "path": format!("/srv/{id}") }, "environment": environment });
    write("hosts.json", json!([host("web-1", "dev"), host("web-2", "prod"), host("db-1", "prod")]).to_string());
    let none = json!({ "missing": [patch(version)], "no_undo": "no room for a snapshot" });
    let missing =
        json!({ "web-1": [patch(version)], "web-2": { "patches": [patch(version)], "removes": [] }, "db-1": none });
    write("missing.json", missing.to_string());
    let calendar = "calendars:\n  night: { cron: 0 22 * * *, timezone: UTC, duration: 4h, cutoff: 1h }\n";
    write("calendars.yaml", calendar.to_owned());
    let sample = json!({ "host": "web-1", "packages": ["openssl"], "bytes": 2_000_000, "seconds": 95.5 });
    write(
        "history.json",
        json!([sample, { "host": "web-2", "packages": ["openssl"], "seconds": 10, "failed": true }]).to_string(),
    );
}

fn run(dir: &Path, words: &[&str]) -> Exit {
    let word = |word: &&str| -> OsString {
        match word.strip_prefix('@') {
            Some(name) => dir.join(name).into_os_string(),
            None => word.into(),
        }
    };
    run_line(["patchloom", "plan"].map(OsString::from).into_iter().chain(words.iter().map(word)))
}

const FILES: [&str; 6] =
    ["--inventory", "@hosts.json", "--missing", "@missing.json", "--calendar", "@calendars.yaml/night"];

fn plan(dir: &Path, more: &[&str]) -> Exit {
    run(dir, &[&FILES[..], &["--from", "2026-12-01T00:00:00Z"], more].concat())
}

#[test]
fn a_plan_is_made_shown_simulated_and_compared_from_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fleet(dir, "3.0.15-1");
    assert_eq!(
        plan(dir, &["--output", "@a.json", "--model", "@model.json", "--history", "@history.json"]),
        Exit::Failed
    );
    let written: Value = serde_json::from_str(&std::fs::read_to_string(dir.join("a.json")).unwrap()).unwrap();
    assert_eq!(written["slots"].as_array().unwrap().len(), 2);
    assert_eq!(written["left_out"][0]["why"], "no room for a snapshot");
    assert_eq!(written["slots"][0]["occurrence"]["open"], 1_796_076_000_000_u64, "the night before is open still");
    assert_eq!(written["samples"], 1, "a failure teaches no duration");
    let model: Value = serde_json::from_str(&std::fs::read_to_string(dir.join("model.json")).unwrap()).unwrap();
    assert_eq!(model["rates"]["all"]["failures"], 1);
    assert_eq!(
        model["rates"]["looks"]["unknown system, unknown class, unknown site"]["tries"], 2,
        "looks are those of the hosts"
    );
    assert_eq!(run(dir, &["show", "@a.json", "--simulate", "--rounds", "50", "--rows", "1"]), Exit::Failed);
    assert_eq!(plan(dir, &["--history", "@model.json", "--output", "@b.json", "--json"]), Exit::Failed);
    let texts = ["a.json", "b.json"].map(|name| std::fs::read_to_string(dir.join(name)).unwrap());
    assert_eq!(texts[0], texts[1], "the model says what the samples said");
    assert_eq!(run(dir, &["diff", "@a.json", "@b.json"]), Exit::Ok);
    fleet(dir, "3.0.16-1");
    assert_eq!(plan(dir, &["--output", "@c.json", "--waves", "[{name: all}]", "--observe"]), Exit::Failed);
    assert_eq!(run(dir, &["diff", "@a.json", "@c.json"]), Exit::Failed);
    std::fs::write(dir.join("d.json"), texts[0].replacen("3.0.15-1", "3.0.15-2", 1)).unwrap();
    assert_eq!(run(dir, &["show", "@d.json"]), Exit::BadInput, "touched by hand");
}

#[test]
fn what_is_wrong_with_the_command_line_or_a_file_has_its_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fleet(dir, "3.0.15-1");
    std::fs::write(dir.join("bad.json"), "{\"web-1\": 7}").unwrap();
    assert_eq!(run(dir, &[]), Exit::Usage);
    assert_eq!(plan(dir, &["--waves", "[{name: a, size: 300%}]"]), Exit::BadInput);
    assert_eq!(plan(dir, &["--missing", "@missing.json"]), Exit::BadInput, "every host was found twice");
    assert_eq!(plan(dir, &["--holds", "@bad.json"]), Exit::BadInput);
    assert_eq!(plan(dir, &["--output", "@no/such/dir"]), Exit::Unable);
    let other = ["--inventory", "@hosts.json", "--missing", "@bad.json", "--calendar", "@calendars.yaml/day"];
    assert_eq!(run(dir, &other), Exit::BadInput);
    let day = ["--inventory", "@hosts.json", "--missing", "@missing.json", "--calendar", "@calendars.yaml/day"];
    assert_eq!(run(dir, &day), Exit::Usage, "there is no such calendar");
}
