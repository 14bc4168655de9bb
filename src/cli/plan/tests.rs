//! The command line of plans, from files to exit codes.

use std::ffi::OsString;
use std::path::Path;

use patchloom_domain::Moment;
use serde_json::{Value, json};

use crate::cli::correlate::{self, AssumeChoice, CorrelateArgs};
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

/// A fleet in patch groups: by policy, by tags of its own, in two groups at once, in one that nobody knows.
fn grouped(dir: &Path) {
    let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
    let host = |id: &str, tags: &str| {
        format!(
            "- {{ id: {id}, target: {{ kind: root, path: /srv/{id} }}, os: {{ id: debian, version: 12 }}, tags: {{ {tags} }} }}\n"
        )
    };
    let group = "Patch Group";
    let sound = [
        host("web-1", &format!("{group}: Web")),
        host("web-2", &format!("{group}: Web, Maintenance Window: noon")),
        host("db-1", &format!("{group}: DB")),
        host("free-1", "Role: none"),
    ];
    let torn = [host("torn-1", &format!("{group}: Web, PatchGroup: DB")), host("lost-1", &format!("{group}: Wbe"))];
    write("sound.yaml", &format!("inventory: 1\nhosts:\n{}", sound.concat()));
    write("all.yaml", &format!("inventory: 1\nhosts:\n{}{}", sound.concat(), torn.concat()));
    write(
        "groups.yaml",
        "groups:\n  Web: { window: night, baselines: { debian: standard } }\n  DB: { window: joined, baselines: { debian: standard } }\n\
         calendars:\n  night: { cron: 0 22 * * *, timezone: UTC, duration: 4h }\n  noon: { cron: 0 12 * * *, timezone: UTC, duration: 2h }\n  \
         joined: { any_of: [noon] }\n",
    );
    let missing: serde_json::Map<String, Value> = ["web-1", "web-2", "db-1", "free-1", "torn-1", "lost-1"]
        .iter()
        .map(|id| ((*id).to_owned(), json!([patch("3.0.15-1")])))
        .collect();
    write("missing.json", &Value::Object(missing).to_string());
    let rules = json!({ "PatchRules": [{ "PatchFilterGroup": { "PatchFilters": [] }, "ApproveAfterDays": 0 }] });
    let baseline = |name: &str| json!({ "Name": name, "OperatingSystem": "DEBIAN", "ApprovalRules": rules });
    write("standard.json", &baseline("standard").to_string());
}

fn read(dir: &Path, name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(dir.join(name)).unwrap()).unwrap()
}

fn told(plan: &Value) -> (Vec<String>, Vec<String>) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let rows = |name: &str| plan[name].as_array().unwrap().clone();
    let slots = rows("slots").iter().map(|slot| format!("{} {}", text(&slot["host"]), text(&slot["window"]))).collect();
    let left = rows("left_out")
        .into_iter()
        .map(|row| format!("{} {}: {}", text(&row["host"]), text(&row["reason"]), text(&row["why"])));
    (slots, left.collect())
}

#[test]
fn windows_and_baselines_of_patch_groups_make_the_plan_and_contradictions_leave_a_host_out() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    grouped(dir);
    let from = [
        "--missing",
        "@missing.json",
        "--from",
        "2026-12-01T00:00:00Z",
        "--waves",
        "[{name: all}]",
        "--data-dir",
        "@data",
    ];
    let plan = |more: &[&str]| run(dir, &[&from[..], more].concat());
    let base = ["--baseline", "@standard.json"];
    let sound = ["--inventory", "@sound.yaml", "--output", "@a.json"];
    assert_eq!(plan(&[&sound[..], &base].concat()), Exit::Usage, "nothing is recorded, and nobody has a window");
    let import =
        ["patchloom", "inventory", "import"].map(OsString::from).into_iter().chain([dir.join("sound.yaml").into()]);
    let policy = [
        "--policy".into(),
        dir.join("groups.yaml").into(),
        "--apply".into(),
        "--data-dir".into(),
        dir.join("data").into(),
    ];
    assert_eq!(run_line(import.chain(policy)), Exit::Ok);
    assert_eq!(plan(&[&sound[..], &base].concat()), Exit::Failed, "one has no window");
    let windows = ["web-2 noon", "web-1 night", "db-1 joined"].map(str::to_owned);
    let (mut slots, mut left) = told(&read(dir, "a.json"));
    left.retain(|row| !row.contains("not_in_inventory"));
    slots.sort();
    let mut expected = windows.to_vec();
    expected.sort();
    assert_eq!(
        (slots, left),
        (expected.clone(), vec!["free-1 no_window: it has no window, and no window means never".to_owned()])
    );

    // Files say the same; who is in two groups, or in one that nobody knows, is left out.
    let all = ["--inventory", "@all.yaml", "--policy", "@groups.yaml", "--output", "@b.json"];
    assert_eq!(plan(&[&all[..], &base].concat()), Exit::Failed);
    let (mut slots, left) = told(&read(dir, "b.json"));
    slots.sort();
    assert_eq!(slots, expected);
    let found = |part: &str| assert!(left.iter().any(|row| row.starts_with(part)), "{left:?}");
    found("torn-1 conflict: its patch groups give it 2 windows: joined (group DB), night (group Web)");
    found("lost-1 conflict: no policy knows its patch group 'Wbe'");

    // What the policy names has to be given: without, no patch counts as approved by nobody.
    assert_eq!(plan(&[&all[..4], &["--output", "@c.json"]].concat()), Exit::Failed);
    let (slots, left) = told(&read(dir, "c.json"));
    assert_eq!(slots, Vec::<String>::new());
    assert!(
        left.iter().filter(|row| row.contains("the baseline 'standard', which was not given")).count() == 3,
        "{left:?}"
    );
    // The operator's one window goes before all.
    let starts = ["--starts", "2026-12-01T08:00:00Z", "--lasts", "4h", "--output", "@d.json"];
    assert_eq!(plan(&[&all[..4], &base, &starts].concat()), Exit::Ok);
    std::fs::write(dir.join("bad.yaml"), "groups: { Web: { windows: night } }\n").unwrap();
    assert_eq!(plan(&["--inventory", "@all.yaml", "--policy", "@bad.yaml"]), Exit::BadInput);
}

#[test]
fn what_correlate_says_gives_hosts_their_deadline_and_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fleet(dir, "3.0.15-1");
    let write = |name: &str, value: Value| std::fs::write(dir.join(name), value.to_string()).unwrap();
    let facts = json!({ "host": "WEB-2", "scheme": "deb", "exposed": true,
        "packages": [{ "name": "openssl", "version": "3.0.14-1" }], "candidates": [{ "name": "openssl", "candidate": "3.0.15-1" }] });
    let findings = json!([{ "id": "CVE-2026-1", "package": "openssl", "fixed": ["3.0.15-1"] }]);
    let kev =
        json!({ "vulnerabilities": [{ "cveID": "CVE-2026-1", "dateAdded": "2026-11-30", "dueDate": "2026-12-21" }] });
    for (name, value) in [("facts.json", facts), ("findings.json", findings), ("kev.json", kev)] {
        write(name, value);
    }
    let args = CorrelateArgs {
        host_facts: dir.join("facts.json"),
        findings: vec![dir.join("findings.json")],
        kev: Some(dir.join("kev.json")),
        epss: None,
        ssvc: None,
        assume: AssumeChoice::Worst,
        first_seen: None,
        at: None,
        all: false,
        json: true,
    };
    let at = Moment::parse("2026-12-01").unwrap();
    write("urgent.json", correlate::document(&correlate::answers(&args, at).unwrap(), at));
    let urgent = ["--urgency", "@urgent.json", "--waves", "[{name: all}]", "--output", "@a.json"];
    assert_eq!(plan(dir, &urgent), Exit::Failed, "one has no way back");
    let made = read(dir, "a.json");
    let slot = |host: &str| made["slots"].as_array().unwrap().iter().find(|slot| slot["host"] == host).unwrap().clone();
    assert_eq!(slot("web-2")["deadline"], 1_796_256_000_000_u64, "2026-12-03, by the table");
    assert_eq!(slot("web-1")["deadline"], Value::Null);
    assert_eq!(plan(dir, &["--urgency", "@hosts.json"]), Exit::BadInput);
}
