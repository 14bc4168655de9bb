//! Causes of real failures, by captures of real package managers where they are at hand.

use std::path::PathBuf;

use patchloom_domain::{CallOutcome, Manager, Observed, diagnose};
use serde_json::Value;

fn consoles() -> PathBuf {
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"));
    std::env::var_os("PATCHLOOM_DATA").map_or(beside, PathBuf::from).join("consoles")
}

/// What an outcome of the captures' truth table is here: the name of a cause, or what came of the call.
fn expected(outcome: &str) -> Result<&str, &[CallOutcome]> {
    use CallOutcome as O;
    match outcome {
        "success" | "query" | "log" | "version" | "refresh_ok" | "rollback_success" | "reboot_required" => {
            Err(&[O::Done])
        }
        "simulate_ok" | "file_conflict_not_detected" => Err(&[O::Done]),
        // Lists of updates end with 0 too.
        "updates_available" => Err(&[O::UpdatesAvailable, O::Done]),
        "noop" => Err(&[O::NothingToDo]),
        cause => Ok(cause),
    }
}

fn every_capture(table: &str, least: usize) {
    let consoles = consoles();
    let Ok(table) = std::fs::read_to_string(consoles.join(table)) else {
        println!("skipped: no captures (set PATCHLOOM_DATA to the directory that has consoles/{table})");
        return;
    };
    let rows: Vec<Value> = serde_json::from_str(&table).unwrap();
    assert!(rows.len() >= least, "{}", rows.len());
    let mut wrong = Vec::new();
    for row in rows {
        let field = |name: &str| row[name].as_str().unwrap();
        let text = std::fs::read(consoles.join(field("file"))).unwrap();
        let manager = match field("command").split(' ').next().unwrap() {
            "dpkg" => Manager::Dpkg,
            "dnf" | "rpm" => Manager::Dnf,
            "zypper" => Manager::Zypper,
            "setpriv" if field("file").starts_with("dnf") => Manager::Dnf,
            _ => Manager::Apt,
        };
        let code = row["exit_code"].as_i64().and_then(|code| i32::try_from(code).ok());
        let found = diagnose(&Observed { manager, code, text: &text, states: None });
        let cause = found.primary.as_ref().map(|failure| failure.cause.name);
        let right = match expected(field("outcome")) {
            // The plan shows the removal; that it was a simulation is for the caller to know.
            Ok("would_remove_packages") if code == Some(0) => {
                found.remarks.iter().any(|remark| remark.name == "would_remove_packages")
            }
            Ok(name) => cause == Some(name),
            Err(outcomes) => cause.is_none() && outcomes.contains(&found.outcome),
        };
        let text = String::from_utf8_lossy(&text);
        let evidence = found.primary.as_ref().map(|failure| failure.evidence.clone());
        let stands = evidence.as_ref().is_none_or(|evidence| {
            evidence.line.is_none_or(|line| text.lines().nth(line - 1).unwrap().contains(&evidence.text))
        });
        if !right || !stands {
            wrong.push(format!(
                "{}: {} but {:?} {cause:?} {evidence:?}",
                field("file"),
                field("outcome"),
                found.outcome
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_capture_of_apt_is_diagnosed_as_its_truth_table_says() {
    every_capture("index-apt.json", 38);
}

#[test]
fn every_capture_of_dnf_is_diagnosed_as_its_truth_table_says() {
    every_capture("index-dnf.json", 28);
}

#[test]
fn every_capture_of_zypper_is_diagnosed_as_its_truth_table_says() {
    every_capture("index-zypper.json", 19);
}
