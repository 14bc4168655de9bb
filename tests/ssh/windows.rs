//! A Windows machine over SSH: looked at, patched, restarted and taken back. The machine is a contract simulator on a real host with a
//! real sshd (tests/lab/windows.py): no Windows was at hand.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use patchloom_bed::fleet::left_out;
use serde_json::{Value, json};

use crate::bench::{Bench, Said};

const SIMULATOR: &str = include_str!("../lab/windows.py");
const CUMULATIVE: &str = "7a3c9a9e-0d3b-4f4e-8d5f-0123456789ab.200";
const DOTNET: &str = "11111111-2222-3333-4444-555555555555.1";

/// A host that says it is Windows.
struct Machine {
    bench: Bench,
}

impl Machine {
    fn new() -> Self {
        let bench = Bench::of("root", 1);
        let root = bench.fleet.host("host-1").root();
        let program = root.join("usr/local/bin/powershell.exe");
        fs::write(&program, SIMULATOR).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all(root.join("var/lib/winsim/tasks")).unwrap();
        let machine = Self { bench };
        let update = |id: &str, article: &str, restart: bool| {
            json!({
                "id": id, "articles": [article], "title": format!("Update KB{article}"), "severity": "Critical",
                "cves": ["CVE-2099-0001"], "categories": ["Security Updates"], "size_bytes": 1_048_576,
                "uninstallable": true, "restart": restart,
            })
        };
        machine.write(&json!({
            "offered": [update(CUMULATIVE, "5034441", true), update(DOTNET, "5034119", false)],
            "installed": [update("99999999-8888-7777-6666-555555555555.7", "5033914", false)],
            "waiting": [], "boot_ms": 1_000_000_000_000_u64, "services": { "W3SVC": "Running" },
            "processes": ["MsMpEng"], "files": ["C:\\app\\ok.txt"],
        }));
        machine
    }

    fn place(&self, name: &str) -> std::path::PathBuf {
        self.bench.fleet.host("host-1").root().join("var/lib/winsim").join(name)
    }

    fn write(&self, state: &Value) {
        fs::write(self.place("state.json"), state.to_string()).unwrap();
    }

    fn state(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(self.place("state.json")).unwrap()).unwrap()
    }

    fn set(&self, key: &str, value: Value) {
        let mut state = self.state();
        state[key] = value;
        self.write(&state);
    }

    fn ids(&self, key: &str) -> Vec<String> {
        let state = self.state();
        let mut ids: Vec<String> =
            state[key].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    }

    fn log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.place("log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn patch(&self, options: &[&str]) -> Said {
        self.bench.patch(&[&["--windows"], options].concat())
    }
}

#[test]
fn a_windows_machine_is_looked_at_and_its_gate_says_plainly_that_no_way_back_is_proven() {
    if left_out() {
        return;
    }
    let machine = Machine::new();
    let before = machine.state();
    let said = machine.patch(&[]);
    assert_eq!(said.ended(), (Some(0), "succeeded".to_owned()), "{said:#}");
    let missing = said.report["missing"].as_array().expect("a list");
    let mut names: Vec<&str> = missing.iter().filter_map(|row| row["name"].as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["KB5034119", "KB5034441"], "{:#}", said.report["missing"]);
    assert!(said.report.to_string().contains("DISM or wusa"), "{:#}", said.report["missing"]);
    // Applied as everywhere else it stops at the proof: a Windows machine has none.
    let said = machine.patch(&["--apply", "--yes"]);
    assert_eq!((said.code, &said.report["failure"]["code"]), (Some(1), &json!("E0629")), "{said:#}");
    assert_eq!(machine.state(), before, "nothing changed");
    // An update that cannot begin before a restart is told by the checks.
    machine.set("reboot_first", json!(true));
    let said = machine.patch(&["--apply", "--yes", "--undo", "attempt"]);
    assert_eq!((said.code, &said.report["failure"]["code"]), (Some(1), &json!("E0532")), "{said:#}");
    assert!(machine.log().is_empty(), "{:?}", machine.log());
    let carried = machine.bench.fleet.host("host-1").root().join("var/lib/patchloom");
    assert!(!carried.exists(), "nothing of ours is carried to a Windows machine");
}

#[test]
fn updates_are_installed_once_whatever_becomes_of_the_line_and_the_machine_is_restarted_and_verified() {
    if left_out() {
        return;
    }
    let machine = Machine::new();
    fs::write(machine.place("shut"), "").unwrap();
    let running = machine.bench.start(&[
        "--windows",
        "--apply",
        "--yes",
        "--undo",
        "attempt",
        "--reboot",
        "if-needed",
        "--probe",
        "unit:W3SVC",
        "--agent",
        "process:MsMpEng",
        "--check",
        "Get-Item 'C:\\app\\ok.txt'",
    ]);
    machine.bench.await_on_host("the task is begun", "grep -q started /var/lib/winsim/log");
    machine.bench.fleet.cut_link("host-1");
    fs::remove_file(machine.place("shut")).unwrap();
    machine.bench.await_on_host("the task has its outcome", "ls /var/lib/winsim/tasks/*/outcome.json");
    machine.bench.fleet.heal_link("host-1");
    let said = running.finish();
    assert_eq!(said.ended(), (Some(0), "succeeded".to_owned()), "{said:#}");
    assert_eq!(machine.ids("offered"), Vec::<String>::new());
    assert!(machine.ids("installed").contains(&CUMULATIVE.to_owned()) && machine.ids("waiting").is_empty());
    let log = machine.log();
    let count = |word: &str| log.iter().filter(|line| line.starts_with(word)).count();
    assert_eq!((count("started"), count("installed"), count("restarted")), (1, 2, 1), "{log:?}");
    let again = machine.patch(&[]);
    assert_eq!(again.report["missing"].as_array().map(Vec::len), Some(0), "{again:#}");
}

#[test]
fn a_task_that_was_killed_on_the_machine_is_started_again_and_an_update_that_fails_takes_the_others_back() {
    if left_out() {
        return;
    }
    let machine = Machine::new();
    // ERROR_DISK_FULL, as the agent tells it.
    machine.set("fails", json!({ "5034441": -2_147_024_784_i64 }));
    fs::write(machine.place("shut"), "").unwrap();
    let running = machine.bench.start(&["--windows", "--apply", "--yes", "--undo", "attempt"]);
    machine.bench.await_on_host("the task is begun", "grep -q started /var/lib/winsim/log");
    machine.bench.on_host("kill -9 $(cat /var/lib/winsim/tasks/*/pid)");
    machine.bench.await_on_host("it is started again", "test $(grep -c started /var/lib/winsim/log) = 2");
    fs::remove_file(machine.place("shut")).unwrap();
    let said = running.finish();
    assert_eq!(said.ended(), (Some(1), "compensated".to_owned()), "{said:#}");
    assert_eq!(said.report["failure"]["code"], "DISK", "{said:#}");
    assert_eq!(machine.ids("offered"), [DOTNET.to_owned(), CUMULATIVE.to_owned()], "{:?}", machine.log());
    assert!(machine.log().contains(&format!("removed {DOTNET}")), "{:?}", machine.log());
}
