//! Causes of real failures, by captures of real package managers where they are at hand.

use std::path::PathBuf;

use patchloom_domain::{FailureKind, Manager, classify};
use serde_json::Value;

#[track_caller]
fn check(code: i32, text: &str, expected: Option<FailureKind>) {
    let found = classify(Manager::Apt, Some(code), text, &[]);
    assert_eq!(found.as_ref().map(|found| found.kind), expected, "{text}: {found:?}");
}

/// What an outcome of the captures' truth table means here.
fn kind_of(outcome: &str) -> Option<FailureKind> {
    match outcome {
        "not_root" => Some(FailureKind::Privilege),
        "locked" => Some(FailureKind::Locked),
        "disk_full" => Some(FailureKind::Disk),
        "download_404" | "download_hash_mismatch" | "repo_unreachable" => Some(FailureKind::Fetch),
        "repo_unsigned" => Some(FailureKind::Untrusted),
        "package_not_found" => Some(FailureKind::Gone),
        "held" => Some(FailureKind::Held),
        "unmet_dependencies" => Some(FailureKind::Deps),
        "conffile_prompt_eof" => Some(FailureKind::Conffile),
        "postinst_failed" => Some(FailureKind::Scriptlet),
        "half_configured" | "dpkg_interrupted" => Some(FailureKind::HalfState),
        "success"
        | "noop"
        | "query"
        | "log"
        | "version"
        | "refresh_ok"
        | "simulate_ok"
        | "updates_available"
        | "rollback_success"
        | "would_remove_packages"
        | "reboot_required" => None,
        other => panic!("the truth table has an outcome that this test does not know: {other}"),
    }
}

#[test]
fn every_capture_of_apt_is_classified_as_its_truth_table_says() {
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"));
    let consoles = std::env::var_os("PATCHLOOM_DATA").map_or(beside, PathBuf::from).join("consoles");
    let Ok(table) = std::fs::read_to_string(consoles.join("index-apt.json")) else {
        println!("skipped: no captures (set PATCHLOOM_DATA to the directory that has consoles/index-apt.json)");
        return;
    };
    let rows: Vec<Value> = serde_json::from_str(&table).unwrap();
    assert!(rows.len() >= 30, "{}", rows.len());
    for row in rows {
        let field = |name: &str| row[name].as_str().unwrap();
        let text = std::fs::read(consoles.join(field("file"))).unwrap();
        let text = String::from_utf8_lossy(&text);
        let manager = if field("command").starts_with("dpkg") { Manager::Dpkg } else { Manager::Apt };
        let code = row["exit_code"].as_i64().and_then(|code| i32::try_from(code).ok());
        let found = classify(manager, code, &text, &[]);
        let expected = kind_of(field("outcome"));
        assert_eq!(found.as_ref().map(|found| found.kind), expected, "{}: {found:?}", field("file"));
        assert!(found.is_none_or(|found| text.contains(&found.evidence)), "{}", field("file"));
    }
}

#[test]
fn the_words_of_apt_name_the_cause() {
    use FailureKind as K;
    for (code, text, expected) in [
        (100, "E: You don't have enough free space in /var/cache/apt/archives/.", Some(K::Disk)),
        (100, "E: Version '9.9' for 'p' was not found", Some(K::Gone)),
        (100, "E: Packages were downgraded and -y was used without --allow-downgrades.", Some(K::Held)),
        (100, "Waiting for cache lock: Could not get lock /var/lib/dpkg/lock-frontend.", Some(K::Locked)),
        (2, "dpkg: error: dpkg frontend lock was locked by another process with pid 12", Some(K::Locked)),
        (100, "E: something new", Some(K::Unknown)),
        (1, "", Some(K::Unknown)),
        (
            0,
            "W: Some index files failed to download. They have been ignored, or old ones used instead.",
            Some(K::Fetch),
        ),
        (0, "postinst of p says: installation script subprocess is a fine phrase", None),
    ] {
        check(code, text, expected);
    }
}

#[test]
fn a_full_disk_outweighs_the_script_that_it_broke() {
    let text = "installed p package post-installation script subprocess returned error exit status 1\n\
                cp: error writing '/x': No space left on device";
    check(100, text, Some(FailureKind::Disk));
}

#[test]
fn a_state_left_behind_is_a_failure_whatever_the_exit_code_says() {
    let broken = ["badapp (iF)".to_owned()];
    for code in [Some(0), Some(100), None] {
        let found = classify(Manager::Apt, code, "all is well", &broken).unwrap();
        assert_eq!((found.kind, found.evidence.as_str()), (FailureKind::HalfState, "badapp (iF)"));
    }
}

#[test]
fn the_holder_of_a_lock_is_named_where_the_text_tells() {
    let holder = |text: &str| classify(Manager::Apt, Some(100), text, &[]).unwrap().holder;
    let apt = "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 14847 (perl)";
    assert_eq!(holder(apt), Some((14_847, "perl".to_owned())));
    let dpkg = "dpkg: error: dpkg frontend lock was locked by another process with pid 99\nNote: removing the lock";
    assert_eq!(holder(dpkg), Some((99, String::new())));
}

#[test]
fn the_code_of_a_kind_is_its_name_on_the_wire() {
    for kind in [FailureKind::HalfState, FailureKind::Locked, FailureKind::Untrusted] {
        assert_eq!(serde_json::to_value(kind).unwrap(), Value::from(kind.code()));
    }
}
