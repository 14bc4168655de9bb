//! What each settled step of a lifecycle run came to, in a line.

use patchloom_core::run::{Skip, Status, Undo};
use serde_json::Value;

use super::tree::Tree;
use crate::output::text;

fn number(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or_default()
}

fn count(value: &Value, path: &str, one: &str, many: &str) -> String {
    text::count(usize::try_from(number(value, path)).unwrap_or(usize::MAX), one, many)
}

/// The line of a step of the root.
pub(super) fn line(tree: &Tree, step: &str) -> String {
    let status = tree.step(step).and_then(|at| tree.root.run.steps.get(at)).map(|step| &step.status);
    let undone = tree.step(step).is_some_and(|at| matches!(tree.root.run.steps[at].undo, Undo::Done { .. }));
    match status {
        Some(Status::Done { .. }) if undone => "taken back".to_owned(),
        Some(Status::Done { output, .. }) => done(step, output),
        Some(Status::Skipped(Skip::Condition)) => "nothing to do".to_owned(),
        Some(Status::Skipped(Skip::Upstream | Skip::Halted | Skip::Operator)) => "not reached".to_owned(),
        Some(Status::Failed(failure) | Status::Held { failure }) => format!("{}: {}", failure.code, failure.message),
        Some(Status::Halted) => "stopped".to_owned(),
        Some(Status::Pending | Status::Active | Status::Waiting { .. }) | None => String::new(),
    }
}

fn done(step: &str, output: &Value) -> String {
    match step {
        "scan" => {
            let odd = number(output, "/condition_count");
            let odd = if odd == 0 {
                String::new()
            } else {
                format!(
                    ", {} to look at",
                    text::count(usize::try_from(odd).unwrap_or(usize::MAX), "condition", "conditions")
                )
            };
            format!("{} installed{odd}", count(output, "/count", "package", "packages"))
        }
        "correlate" => {
            let rest = if output["complete"] == Value::Bool(false) { " (list incomplete)" } else { "" };
            format!(
                "{} missing, {} from security, {}{rest}",
                count(output, "/count", "patch", "patches"),
                number(output, "/security"),
                count(output, "/cves", "CVE", "CVEs"),
            )
        }
        "change" => {
            let number = output["change"].as_str().unwrap_or("no change");
            let state = output["state"].as_str().unwrap_or("opened");
            format!("{number} is {state}")
        }
        "prepare" => format!("{} of {} can be undone", number(output, "/undoable"), number(output, "/total")),
        "patch" => {
            let word = output["outcome"].as_str().unwrap_or("done");
            format!("{} {word}", count(output, "/count", "package", "packages"))
        }
        "verify" => output["summary"].as_str().unwrap_or("verified").to_owned(),
        _ => String::new(),
    }
}
