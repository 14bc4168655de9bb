//! What a plan's digest depends on, and what is no plan.

use proptest::prelude::*;

use super::*;

fn change(name: &str, installed: Option<&str>, candidate: &str) -> PlannedChange {
    PlannedChange {
        id: PackageId { name: name.to_owned(), arch: "amd64".to_owned() },
        installed: installed.map(str::to_owned),
        candidate: candidate.to_owned(),
        sha256: None,
        cves: Vec::new(),
        security: true,
    }
}

fn host(name: &str, changes: Vec<PlannedChange>) -> HostPlan {
    HostPlan { host: name.to_owned(), target: Target::Local, changes, undo: UndoIntent::default(), outside: None }
}

fn plan(hosts: Vec<HostPlan>) -> Plan {
    Plan::new(Mode::Apply, Instant(1), hosts, Vec::new()).expect("a valid plan")
}

#[track_caller]
fn refused(changes: Vec<PlannedChange>, part: &str) {
    let error = Plan::new(Mode::Apply, Instant(1), vec![host("web1", changes)], Vec::new()).expect_err("no plan");
    assert!(error.to_string().contains(part), "{error}");
}

#[test]
fn what_dpkg_would_not_take_is_no_plan() {
    refused(vec![change("-o=Dir::Bin::dpkg", None, "1")], "not a valid package name");
    refused(vec![change("jq", None, "1 2")], "not a valid version");
    refused(vec![change("jq", Some("--force"), "1")], "not a valid version");
    refused(vec![change("jq", Some("1"), "1")], "no change");
    refused(vec![change("jq", Some("1"), "2"), change("jq", Some("1"), "3")], "twice");
    let mut bad = change("jq", Some("1"), "2");
    bad.sha256 = Some("ABC".to_owned());
    refused(vec![bad], "SHA-256");
    let mut bad = change("jq", Some("1"), "2");
    bad.id.arch = "amd64=1".to_owned();
    refused(vec![bad], "architecture");
}

#[test]
fn the_same_host_twice_is_no_plan() {
    let hosts = vec![host("web1", vec![]), host("web1", vec![])];
    assert!(matches!(Plan::new(Mode::Apply, Instant(1), hosts, vec![]), Err(PlanError::HostTwice { .. })));
}

#[test]
fn time_notes_and_cves_leave_the_digest_alone() {
    let mut known = change("jq", Some("1"), "2");
    known.cves = vec!["CVE-2026-1".to_owned()];
    let a = plan(vec![host("web1", vec![change("jq", Some("1"), "2")])]);
    let b = Plan::new(Mode::Apply, Instant(99), vec![host("web1", vec![known])], vec!["late".into()]).expect("valid");
    assert_eq!(a.digest(), b.digest());
}

#[test]
fn the_digest_of_a_known_plan_never_changes() {
    let mut ssl = change("libssl3", Some("3.0.20-1~deb12u2"), "3.0.22-1~deb12u2");
    ssl.sha256 = Some("ab".repeat(32));
    let known = plan(vec![host("web1", vec![ssl, change("new-dep", None, "1.0")])]);
    assert_eq!(
        known.digest().as_str(),
        "sha256:6c4d1113cc13ee169ed36fc75eb4fddc3eb9f62dc54ae558ac8c155964a07056",
        "an approval given yesterday must still hold after an update of this program"
    );
}

#[test]
fn a_plan_reads_back_and_a_forged_one_does_not() {
    let given = plan(vec![host("web1", vec![change("jq", Some("1"), "2")])]);
    let text = serde_json::to_string(&given).expect("has a JSON form");
    assert_eq!(serde_json::from_str::<Plan>(&text).expect("reads back"), given);
    let forged = text.replace("\"candidate\":\"2\"", "\"candidate\":\"3\"");
    assert_ne!(forged, text);
    let error = serde_json::from_str::<Plan>(&forged).expect_err("forged");
    assert!(error.to_string().contains("its content is"), "{error}");
}

fn changes() -> impl Strategy<Value = Vec<PlannedChange>> {
    proptest::collection::btree_map("[a-z][a-z0-9+.-]{1,6}", ("[0-9]\\.[0-9]~?[a-z]", "[1-9]:[0-9]{1,3}"), 1..6)
        .prop_map(|rows| rows.into_iter().map(|(name, (old, new))| change(&name, Some(&old), &new)).collect())
}

fn hosts() -> impl Strategy<Value = Vec<HostPlan>> {
    proptest::collection::btree_map("[a-z]{1,5}", changes(), 1..5)
        .prop_map(|rows| rows.into_iter().map(|(name, changes)| host(&name, changes)).collect())
}

proptest! {
    #[test]
    fn the_order_of_discovery_leaves_the_digest_alone(given in hosts(), rotate in 0usize..7) {
        let mut other = given.clone();
        other.reverse();
        for host in &mut other {
            let by = rotate % host.changes.len();
            host.changes.rotate_left(by);
        }
        prop_assert_eq!(plan(given).digest(), plan(other).digest());
    }

    #[test]
    fn any_other_version_hash_host_or_mode_is_another_digest(given in hosts(), at in any::<proptest::sample::Index>(), what in 0..7) {
        let mut other = given.clone();
        let host_at = at.index(other.len());
        let last = other[host_at].changes.len() - 1;
        let mut mode = Mode::Apply;
        match what {
            0 => other[host_at].changes[last].candidate.push('1'),
            1 => other[host_at].changes[last].installed = Some("9.9".to_owned()),
            2 => other[host_at].changes[last].sha256 = Some("0".repeat(64)),
            3 => other[host_at].host.push_str("-b"),
            4 => other[host_at].target = Target::Root { path: "/mnt".to_owned() },
            5 => mode = Mode::Observe,
            _ => { other[host_at].changes.pop(); }
        }
        let other = Plan::new(mode, Instant(1), other, Vec::new()).expect("still a plan");
        prop_assert_ne!(plan(given).digest(), other.digest());
    }
}
