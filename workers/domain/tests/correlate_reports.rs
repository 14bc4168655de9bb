//! Claims out of real reports, and when versions were first seen.

use std::path::PathBuf;

use patchloom_domain::correlate::{FirstSeen, Seen, VendorStatus, read_claims};
use patchloom_domain::{Baseline, Moment, PatchApproval, PatchCandidate, judge_patch};
use proptest::prelude::*;
use serde_json::json;

fn reports(kind: &str) -> Vec<(String, String)> {
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"));
    let base = std::env::var_os("PATCHLOOM_DATA").map_or(beside, PathBuf::from);
    let Ok(files) = std::fs::read_dir(base.join(kind)) else {
        println!("skipped: no test data (set PATCHLOOM_DATA)");
        return Vec::new();
    };
    let read = |file: std::fs::DirEntry| {
        let name = file.file_name().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(file.path()).ok()?;
        name.ends_with(".json").then_some((name, text))
    };
    files.filter_map(Result::ok).filter_map(read).collect()
}

/// How many entries of that name a report has in its lists.
fn entries(value: &serde_json::Value, name: &str) -> usize {
    match value {
        serde_json::Value::Array(rows) => rows.iter().map(|row| entries(row, name)).sum(),
        serde_json::Value::Object(fields) => {
            let here = fields.get(name).and_then(|rows| rows.as_array()).map_or(0, Vec::len);
            here + fields.get("Results").map_or(0, |rows| entries(rows, name))
        }
        _ => 0,
    }
}

#[test]
fn every_finding_of_a_report_is_read_counted_or_kept_apart() {
    for (kind, name) in [("trivy", "Vulnerabilities"), ("grype", "matches")] {
        let (mut claims, mut foreign, mut refused) = (0, 0, 0);
        for (file, text) in reports(kind) {
            let Ok(found) = read_claims(&text) else {
                refused += 1;
                continue;
            };
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            let read = found.claims.len() + found.foreign + found.apart.count;
            assert_eq!(read, entries(&value, name), "{file}: {:?}", found.apart.first);
            claims += found.claims.len();
            foreign += found.foreign;
        }
        println!("{kind}: {claims} claims, {foreign} foreign, {refused} files are no such report");
        assert!(claims + foreign == 0 || claims >= 40, "{kind}: {claims} claims, {foreign} foreign");
    }
}

#[test]
fn the_words_of_a_report_become_ours() {
    let trivy = json!({ "SchemaVersion": 2, "Results": [
        { "Class": "os-pkgs", "Type": "debian", "Vulnerabilities": [
            { "VulnerabilityID": "CVE-1-1", "PkgName": "a", "InstalledVersion": "1", "FixedVersion": "3, 2",
              "Severity": "HIGH", "CVSS": { "nvd": { "V3Vector": "CVSS:3.1/AV:N", "V3Score": 1 } } },
            { "VulnerabilityID": "CVE-1-2", "PkgName": "a", "Status": "will_not_fix" },
            { "PkgName": "a" },
        ]},
        { "Class": "lang-pkgs", "Vulnerabilities": [{ "VulnerabilityID": "CVE-1-3" }] },
        { "Class": "os-pkgs", "Vulnerabilities": null },
    ]});
    let found = read_claims(&trivy.to_string()).unwrap();
    assert_eq!((found.claims.len(), found.foreign, found.apart.count), (2, 1, 1));
    assert_eq!((found.claims[0].status, found.claims[0].fixed.len()), (VendorStatus::Fixed, 2));
    assert_eq!(found.claims[0].severities.len(), 2);
    assert_eq!(found.claims[1].status, VendorStatus::WillNotFix);
    let lines = "{\"id\":\"CVE-1-1\",\"purl\":\"pkg:deb/debian/a@1?arch=amd64\"}\nbroken\n{\"id\":\"CVE-1-2\"}\n";
    let found = read_claims(lines).unwrap();
    assert_eq!((found.claims.len(), found.apart.count), (1, 2));
    assert_eq!(found.claims[0].package, "a");
    assert!(read_claims("{}").unwrap_err().to_string().starts_with("the report: it is neither"));
    assert!(read_claims("null").is_err() && read_claims("").is_err());
}

fn moment(text: &str) -> Moment {
    Moment::parse(text).unwrap()
}

#[test]
fn a_delay_on_debian_counts_from_the_changelog_or_from_when_it_was_first_seen() {
    let rule = r#"{"PatchFilterGroup":{"PatchFilters":[]},"ApproveAfterDays":7,"EnableNonSecurity":true}"#;
    let text = format!(r#"{{"Name":"b","OperatingSystem":"DEBIAN","ApprovalRules":{{"PatchRules":[{rule}]}}}}"#);
    let baseline = Baseline::read(&text).unwrap();
    let mut store = FirstSeen::default();
    let seen = |first: &str, changelog: Option<&str>| Seen {
        first_seen: moment(first),
        changelog: changelog.map(moment),
        not_before: None,
    };
    store.observe("debian", "a", "1:2", seen("2026-11-10", Some("2026-11-01"))).unwrap();
    store.observe("debian", "a", "1:2", seen("2026-11-12", None)).unwrap();
    store.observe("debian", "b", "3", seen("2026-11-10", None)).unwrap();
    // A changelog dated after the day it was seen is not believed.
    store.observe("debian", "c", "3", seen("2026-11-10", Some("2030-01-01"))).unwrap();
    let at = |name: &str, version: &str, now: &str| {
        let (name, version) = (name.into(), version.into());
        let mut patch = PatchCandidate { name, version, security: Some(true), ..PatchCandidate::default() };
        store.tell("debian", &mut patch);
        judge_patch(&baseline, &patch, moment(now)).approval
    };
    assert_eq!(at("a", "1:2", "2026-11-08"), PatchApproval::Approved);
    assert_eq!(at("b", "3", "2026-11-16T23:59:59Z"), PatchApproval::Pending { until: Some(moment("2026-11-17")) });
    assert_eq!(at("b", "3", "2026-11-17"), PatchApproval::Approved);
    assert_eq!(at("c", "3", "2026-11-17"), PatchApproval::Approved);
    assert_eq!(at("d", "1", "2026-11-17"), PatchApproval::Pending { until: None });
    let text = serde_json::to_string(&store).unwrap();
    assert_eq!(serde_json::from_str::<FirstSeen>(&text).unwrap(), store);
    store.forget(moment("2026-11-11"), |_, package, _| package == "a");
    assert_eq!((store.len(), store.get("debian", "b", "3")), (1, None));
}

fn any_store() -> impl Strategy<Value = FirstSeen> {
    let maybe = || proptest::option::of(0..50_i64);
    let row = ("[ab]", "[12]", 0..50_i64, maybe(), maybe());
    proptest::collection::vec(row, 0..8).prop_map(|rows| {
        let mut store = FirstSeen::default();
        for (package, version, first, changelog, looked) in rows {
            let seen =
                Seen { first_seen: Moment(first), changelog: changelog.map(Moment), not_before: looked.map(Moment) };
            store.observe("debian", &package, &version, seen).unwrap();
        }
        store
    })
}

proptest! {
    #[test]
    fn stores_merge_in_any_order_and_any_number_of_times(a in any_store(), b in any_store()) {
        let merged = |left: &FirstSeen, right: &FirstSeen| {
            let mut whole = left.clone();
            whole.merge(right).unwrap();
            whole
        };
        prop_assert_eq!(merged(&a, &b), merged(&b, &a));
        prop_assert_eq!(merged(&merged(&a, &b), &b), merged(&a, &b));
    }
}
