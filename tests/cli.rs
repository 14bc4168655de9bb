//! The binary as a person or a script meets it: streams, exit codes, files.

use std::path::Path;
use std::process::{Command, Output};

fn patchloom(args: &[&str], data_dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_patchloom"))
        .args(args)
        .env_remove("NO_COLOR")
        .env("PATCHLOOM_DATA_DIR", data_dir)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn help_goes_to_stdout_and_a_mistake_to_stderr_with_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let help = patchloom(&["--help"], dir.path());
    assert_eq!(help.status.code(), Some(0));
    assert!(text(&help.stdout).contains("Exit codes:") && help.stderr.is_empty());
    let typo = patchloom(&["explian"], dir.path());
    assert_eq!(typo.status.code(), Some(2));
    assert!(typo.stdout.is_empty());
    assert!(text(&typo.stderr).contains("'explain'"));
}

#[test]
fn explain_knows_its_codes_and_says_so_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let page = patchloom(&["explain", "e0902"], dir.path());
    assert_eq!(page.status.code(), Some(0));
    assert!(text(&page.stdout).starts_with("E0902: No place for the data directory\n"));
    assert!(!text(&page.stdout).contains('\x1b'), "no colour off a terminal");
    let list = text(&patchloom(&["explain", "--list"], dir.path()).stdout);
    assert!(list.lines().any(|line| line.starts_with("E0711 ")));
    assert!(list.lines().any(|line| line == "SCRIPTLET   A script of a package failed"), "{list}");
    let cause = text(&patchloom(&["explain", "scriptlet"], dir.path()).stdout);
    assert!(cause.starts_with("SCRIPTLET: A script of a package failed\n"), "{cause}");
    let unknown = patchloom(&["explain", "E9999"], dir.path());
    assert_eq!(unknown.status.code(), Some(2));
    assert!(unknown.stdout.is_empty());
    assert!(text(&unknown.stderr).contains("error[E0901]"));
}

#[test]
fn the_doctor_speaks_json_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let output = patchloom(&["doctor", "--json"], &data);
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = findings["checks"].as_array().unwrap();
    assert!(checks.len() >= 8);
    let missing = checks.iter().any(|check| check["state"] == "missing");
    assert_eq!(output.status.code(), Some(if missing { 3 } else { 0 }));
    assert!(!data.exists(), "the doctor only looks");
}

#[test]
fn without_apt_the_doctor_says_what_to_do_and_ends_with_3() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_patchloom"))
        .arg("doctor")
        .env("PATH", dir.path())
        .env("PATCHLOOM_DATA_DIR", dir.path().join("data"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stdout).contains("apt-get, dpkg, dpkg-query not found"));
}

#[test]
fn every_shell_gets_a_completion_script() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = patchloom(&["completions", shell], dir.path());
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains("doctor"), "{shell}");
    }
}

#[test]
fn a_full_disk_behind_stdout_is_told_and_is_no_success() {
    let dir = tempfile::tempdir().unwrap();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_patchloom"))
        .args(["explain", "--list"])
        .env("PATCHLOOM_DATA_DIR", dir.path())
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(5));
    assert!(text(&output.stderr).contains("error[E0904]"));
}
