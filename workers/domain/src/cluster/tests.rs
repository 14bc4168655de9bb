//! Small campaigns whose verdict a person would agree with.

use super::*;

fn host(name: usize, site: &str, relay: &str) -> CampaignHost {
    CampaignHost {
        host: format!("h{name:03}"),
        site: Some(site.to_owned()),
        relay: Some(relay.to_owned()),
        group: Some(format!("g{}", name / 6 % 2)),
        policy: None,
        baseline: None,
        os: Some(["debian 12", "debian 13"][name / 12 % 2].to_owned()),
        kernel: None,
        device_class: None,
        wave: Some("broad".to_owned()),
        patches: vec![patch("base", "1")],
        outcome: HostResult::Ok,
    }
}

fn patch(package: &str, version: &str) -> CampaignPatch {
    CampaignPatch { package: package.to_owned(), version: version.to_owned() }
}

/// Sixty hosts, ten behind each of six relays, two relays a site.
fn fleet() -> Vec<CampaignHost> {
    (0..60).map(|at| host(at, &format!("s{}", at % 6 / 2), &format!("r{}", at % 6))).collect()
}

fn failed(cause: &str) -> HostResult {
    HostResult::Failed { cause: cause.to_owned(), package: None }
}

fn judged(hosts: Vec<CampaignHost>) -> CampaignVerdict {
    judge_campaign(&CampaignOutcomes { campaign: String::new(), history: Vec::new(), hosts }).unwrap()
}

#[track_caller]
fn check(hosts: Vec<CampaignHost>, decision: &str, classes: &[ClusterClass]) -> CampaignVerdict {
    let verdict = judged(hosts);
    let found: Vec<ClusterClass> = verdict.systemic.iter().map(|systemic| systemic.class).collect();
    assert_eq!((verdict.decision.to_string().as_str(), found.as_slice()), (decision, classes), "{verdict:#?}");
    verdict
}

#[test]
fn hosts_that_fail_each_for_itself_do_not_halt_anything() {
    let mut hosts = fleet();
    for (at, cause) in [(3, "disk_full"), (17, "SCRIPTLET"), (40, "download_404"), (55, "locked")] {
        hosts[at].outcome = failed(cause);
    }
    hosts[22].outcome = HostResult::Unreachable;
    let verdict = check(hosts, "go on", &[]);
    let classes: Vec<ClusterClass> = verdict.one_offs.iter().map(|one| one.class).collect();
    use ClusterClass::{Agent, Host, Patch, Relay};
    assert_eq!(classes, [Host, Patch, Agent, Relay, Host]);
    assert!(verdict.tests.iter().all(|test| !test.concentrates));
}

#[test]
fn a_relay_that_gives_nothing_is_paused_and_its_site_and_the_rest_go_on() {
    let mut hosts = fleet();
    for (at, host) in hosts.iter_mut().enumerate() {
        match at % 6 {
            2 => host.outcome = failed(["download_404", "timeout", "FETCH"][at % 3]),
            _ if at >= 40 => host.outcome = HostResult::Waiting,
            _ => {}
        }
    }
    let verdict = check(hosts, "pause relay r2", &[ClusterClass::Relay]);
    let found = &verdict.systemic[0];
    assert_eq!((found.failed_in, found.hosts_in, found.failed_out), (10, 10, 0));
    assert_eq!(found.remedies[0], Remedy::ProbeRelay);
    // The site looks guilty too, until its other relay is looked at.
    let site = found.rivals.iter().find(|rival| rival.scope.dimension == Dimension::Site).expect("the site stands out");
    assert!(site.explained, "{site:?}");
    let concentrated: Vec<String> =
        verdict.tests.iter().filter(|test| test.concentrates).map(|test| test.scope.to_string()).collect();
    assert_eq!(concentrated, ["relay r2", "site s1"]);
}

#[test]
fn a_site_whose_two_relays_fail_is_paused_as_a_site() {
    let mut hosts = fleet();
    for host in hosts.iter_mut().filter(|host| host.site.as_deref() == Some("s1")) {
        host.outcome = HostResult::Unreachable;
    }
    check(hosts, "pause site s1", &[ClusterClass::Relay]);
}

#[test]
fn agents_that_fall_silent_everywhere_are_no_relay_and_halt_the_campaign() {
    let mut hosts = fleet();
    for (at, host) in hosts.iter_mut().enumerate().filter(|(at, _)| at * 7 % 5 < 3) {
        host.outcome = if at % 2 == 0 { failed("lease_expired") } else { HostResult::Unreachable };
    }
    check(hosts, "halt campaign", &[ClusterClass::Agent]);
}

#[test]
fn a_whole_ring_without_a_patch_is_a_matter_of_policy() {
    let mut hosts = fleet();
    for host in hosts.iter_mut().filter(|host| host.group.as_deref() == Some("g1")) {
        host.outcome = failed("nothing_matched");
    }
    let verdict = check(hosts.clone(), "pause group g1", &[ClusterClass::Policy]);
    assert_eq!(verdict.systemic[0].remedies[0], Remedy::LintPolicy);
    hosts.iter_mut().for_each(|host| host.outcome = failed("empty_plan"));
    check(hosts, "halt campaign", &[ClusterClass::Policy]);
}

#[test]
fn a_package_version_that_fails_is_told_from_the_system_that_most_of_its_hosts_run() {
    let mut hosts = fleet();
    // Most of those that get it run debian 13; it fails on the others too, and debian 13 without it is well.
    for (at, host) in hosts.iter_mut().enumerate() {
        let runs_13 = host.os.as_deref() == Some("debian 13");
        if (runs_13 && at % 5 != 0) || (!runs_13 && at % 5 == 0) {
            host.patches.push(patch("openssl", "3.0.17"));
            host.outcome = failed("SCRIPTLET");
        }
    }
    let verdict = check(hosts, "pause patch openssl 3.0.17", &[ClusterClass::Patch]);
    let os = verdict.systemic[0].rivals.iter().find(|rival| rival.scope.dimension == Dimension::Os);
    assert!(os.is_some_and(|rival| rival.explained), "{verdict:#?}");
    assert!(verdict.systemic[0].remedies.contains(&Remedy::HoldVersion));
}

#[test]
fn a_failure_that_names_its_package_is_not_held_against_the_others() {
    let mut hosts = fleet();
    for host in hosts.iter_mut().take(20) {
        host.patches = vec![patch("a", "1"), patch("b", "1")];
    }
    for host in hosts.iter_mut().take(12) {
        host.outcome = HostResult::Failed { cause: "SCRIPTLET".to_owned(), package: Some("b".to_owned()) };
    }
    check(hosts, "pause patch b 1", &[ClusterClass::Patch]);
}

#[test]
fn two_troubles_at_once_are_both_found() {
    let mut hosts = fleet();
    for (at, host) in hosts.iter_mut().enumerate() {
        if at % 6 == 1 {
            host.outcome = failed("download_hash_mismatch");
        } else if at % 4 == 0 {
            host.patches.push(patch("glibc", "2"));
            host.outcome = failed("SCRIPTLET");
        }
    }
    check(hosts, "pause relay r1, patch glibc 2", &[ClusterClass::Relay, ClusterClass::Patch]);
    let mut hosts = fleet();
    for host in hosts.iter_mut().filter(|host| matches!(host.relay.as_deref(), Some("r0" | "r5"))) {
        host.outcome = failed("timeout");
    }
    check(hosts, "pause relay r0, relay r5", &[ClusterClass::Relay, ClusterClass::Relay]);
}

#[test]
fn a_canary_with_nothing_to_compare_with_still_says_who_it_was() {
    let mut hosts = fleet();
    for (at, host) in hosts.iter_mut().enumerate() {
        host.outcome = HostResult::Waiting;
        if at % 6 == 0 && at < 36 {
            host.outcome = failed("timeout");
        }
    }
    check(hosts.clone(), "pause relay r0", &[ClusterClass::Relay]);
    for host in hosts.iter_mut().filter(|host| host.outcome.is_known()) {
        host.outcome = failed("SCRIPTLET");
    }
    // All hosts get the one patch: nobody is left to go on.
    check(hosts, "halt campaign", &[ClusterClass::Patch]);
}

#[test]
fn what_often_failed_before_is_not_new() {
    let mut hosts = fleet();
    for host in hosts.iter_mut().step_by(4) {
        host.outcome = failed("SCRIPTLET");
    }
    let judged = |hosts: &[CampaignHost], history: Vec<PastRate>| {
        let outcomes = CampaignOutcomes { campaign: String::new(), history, hosts: hosts.to_vec() };
        judge_campaign(&outcomes).unwrap().decision
    };
    let past = |failed, package: Option<&str>| PastRate {
        who: Responsible::Package,
        package: package.map(str::to_owned),
        cohort: std::collections::BTreeMap::new(),
        failed,
        hosts: 1_000,
    };
    assert_ne!(judged(&hosts, vec![past(5, None)]), ClusterDecision::GoOn);
    assert_eq!(judged(&hosts, vec![past(250, None)]), ClusterDecision::GoOn);
    // Another package's history is no excuse.
    assert_ne!(judged(&hosts, vec![past(5, None), past(250, Some("other"))]), ClusterDecision::GoOn);
}

#[test]
fn what_crossed_once_stays_systemic_whatever_comes_later() {
    let mut hosts = fleet();
    let template = hosts.clone();
    let mut monitor = Monitor::new(&template, &[], ALPHA);
    for (at, host) in hosts.iter_mut().enumerate().take(8) {
        host.outcome = failed("disk_full");
        monitor.tell(at, &host.outcome);
    }
    assert!(monitor.has_crossed());
    for (at, host) in hosts.iter().enumerate().skip(8) {
        monitor.tell(at, &host.outcome);
        // Told twice counts once.
        monitor.tell(at, &failed("disk_full"));
    }
    assert!(monitor.has_crossed());
    assert_ne!(judge_monitored(&monitor, &hosts).decision, ClusterDecision::GoOn);
}

#[test]
fn what_cannot_be_judged_is_refused_with_its_place() {
    let outcomes = |hosts| CampaignOutcomes { campaign: String::new(), history: Vec::new(), hosts };
    let refused = |hosts| outcomes(hosts).check().expect_err("is refused").to_string();
    assert!(refused(vec![host(1, "s", "r"), host(1, "s", "r")]).contains("'h001' is there more than once"));
    let mut odd = host(1, "s", "r");
    odd.outcome = failed("gremlins");
    assert!(refused(vec![odd.clone()]).contains("'gremlins'"));
    odd.outcome = HostResult::Failed { cause: "SCRIPTLET".to_owned(), package: Some("zip".to_owned()) };
    assert!(refused(vec![odd]).contains("'zip', which is none of its patches"));
    assert_eq!(judged(Vec::new()).decision, ClusterDecision::GoOn);
}

#[test]
fn each_class_of_failures_has_somebody_who_acts() {
    for kind in crate::FailureKind::ALL {
        assert!(failed(kind.code()).who().is_some(), "{kind}");
    }
    for cause in crate::failure_causes() {
        assert!(failed(cause.name).who().is_some(), "{}", cause.name);
    }
}
