//! Each reason by a host that has it, and no reason where nothing is left.

use super::*;
use crate::Knowledge;

fn id(name: &str) -> PackageId {
    PackageId { name: name.to_owned(), arch: "amd64".to_owned() }
}

fn package(name: &str, version: &str) -> InstalledPackage {
    InstalledPackage {
        id: id(name),
        version: version.to_owned(),
        source: name.to_owned(),
        source_version: version.to_owned(),
        status: "ii".to_owned(),
        held: false,
        essential: false,
    }
}

fn finding(name: &str, fixed: Option<&str>) -> Finding {
    Finding {
        cve: "CVE-2026-1".to_owned(),
        package: id(name),
        source: name.to_owned(),
        installed: "1".to_owned(),
        fixed: fixed.map(str::to_owned),
        severity: None,
        knowledge: Knowledge::Advisory,
        security: true,
        note: None,
    }
}

fn host(packages: &[InstalledPackage]) -> HostNow<'_> {
    HostNow {
        scheme: VersionScheme::Deb,
        mode: Mode::Apply,
        packages: packages.iter().map(|package| (&package.id, package)).collect(),
        broken: BTreeSet::new(),
        planned: BTreeSet::new(),
        kernel: None,
        stale: Vec::new(),
        offers: BTreeMap::new(),
        unasked: None,
        holds: BTreeMap::new(),
        lists_age_ms: Some(3_600_000),
    }
}

fn offer(candidate: &str, versions: &[&str]) -> OfferNow {
    let versions = versions.iter().map(|&version| version.to_owned()).collect();
    OfferNow { candidate: Some(candidate.to_owned()), versions, ..OfferNow::default() }
}

fn why(finding: &Finding, host: &HostNow<'_>) -> Option<ResidualReason> {
    residual(finding, host).map(|found| found.why)
}

#[test]
fn a_fixed_finding_and_one_whose_package_is_gone_leave_nothing() {
    let packages = [package("jq", "2")];
    assert_eq!(why(&finding("jq", Some("2")), &host(&packages)), None);
    assert_eq!(why(&finding("zip", Some("2")), &host(&packages)), None);
}

#[test]
fn a_library_that_is_still_mapped_needs_a_restart_and_its_users_are_named_once() {
    let packages = [package("libssl3", "2"), package("zlib1g", "2")];
    let mut host = host(&packages);
    let user = |pid, unit: Option<&str>| StaleProcess {
        pid,
        command: "nginx".to_owned(),
        package: "libssl3".to_owned(),
        unit: unit.map(str::to_owned),
    };
    host.stale = vec![user(7, Some("nginx.service")), user(8, Some("nginx.service")), user(9, None)];
    let found = residual(&finding("libssl3", Some("2")), &host).unwrap();
    let processes = vec!["nginx (9)".to_owned(), "nginx.service".to_owned()];
    assert_eq!(found.why, ResidualReason::NotRestarted { processes });
    assert!(found.text.contains("nginx (9), nginx.service") && found.remedy.contains("restart"), "{found:?}");
    assert_eq!(why(&finding("zlib1g", Some("2")), &host), None);
}

#[test]
fn a_kernel_that_is_installed_and_not_booted_is_told_by_its_version_or_by_its_release() {
    let packages = [
        package("linux-image-6.1.0-25-amd64", "6.1.106-3"),
        package("linux-image-6.1.0-28-amd64", "6.1.119-1"),
        package("linux-image-amd64", "6.1.119-1"),
        package("linux-libc-dev", "6.1.119-1"),
    ];
    let running = |release: &str, version: Option<&str>| {
        let kernel = match version {
            Some(version) => KernelNow::read(release, &format!("#1 SMP PREEMPT_DYNAMIC Debian {version} (2026-01-01)")),
            None => KernelNow::read(&format!("{release}\n"), "#31-Ubuntu SMP"),
        };
        HostNow { kernel: Some(kernel), ..host(&packages) }
    };
    let meta = finding("linux-image-amd64", Some("6.1.119-1"));
    let old = running("6.1.0-25-amd64", Some("6.1.106-3"));
    let reason = why(&meta, &old).unwrap();
    assert_eq!(reason.name(), "kernel_not_booted");
    assert_eq!(
        reason.text(),
        "linux-image-amd64 6.1.119-1 is installed, but the kernel that runs is 6.1.0-25-amd64 (6.1.106-3)"
    );
    assert_eq!(why(&meta, &running("6.1.0-25-amd64", None)).map(|why| why.name()), Some("kernel_not_booted"));
    assert_eq!(why(&meta, &running("6.1.0-28-amd64", Some("6.1.119-1"))), None);
    assert_eq!(why(&meta, &running("6.1.0-28-amd64", None)), None);
    // Rebuilt under the same release: only its version tells.
    assert!(why(&meta, &running("6.1.0-28-amd64", Some("6.1.118-1"))).is_some());
    // Headers are in no kernel, and a host whose kernel is another's (a container) boots none.
    assert_eq!(why(&finding("linux-libc-dev", Some("6.1.119-1")), &old), None);
    assert_eq!(why(&meta, &host(&packages)), None);
}

#[test]
fn holds_of_the_host_and_ours_are_told_apart() {
    let mut held = package("jq", "1");
    held.held = true;
    let packages = [held, package("zip", "1")];
    let mut host = host(&packages);
    host.offers.insert("zip".to_owned(), offer("2", &["1", "2"]));
    host.holds.insert("zip".to_owned(), vec![("2".to_owned(), "it broke web-1".to_owned())]);
    assert_eq!(why(&finding("jq", Some("2")), &host), Some(ResidualReason::Held));
    let ours = ResidualReason::VersionHeld { version: "2".to_owned(), why: "it broke web-1".to_owned() };
    assert_eq!(why(&finding("zip", Some("2")), &host), Some(ours.clone()));
    assert_eq!(why(&finding("zip", Some("1.5")), &host), Some(ours), "the version on offer is held");
}

#[test]
fn phases_pins_solver_and_mirror_are_told_apart() {
    let packages = [package("jq", "1")];
    let finding = finding("jq", Some("2"));
    let with = |offer: OfferNow| {
        let host = HostNow { offers: [("jq".to_owned(), offer)].into(), ..host(&packages) };
        why(&finding, &host).unwrap().name()
    };
    assert_eq!(with(OfferNow { phased: true, ..offer("2", &["2"]) }), "phased");
    assert_eq!(with(OfferNow { kept_back: true, ..offer("2", &["2"]) }), "kept_back");
    assert_eq!(with(offer("1", &["2", "1"])), "pinned");
    assert_eq!(with(OfferNow { candidate: None, ..offer("1", &["2", "1"]) }), "pinned");
    assert_eq!(with(offer("1.9", &["1.9", "1"])), "not_on_offer");
    assert_eq!(with(offer("2", &["2", "1"])), "not_planned");
    let old = HostNow {
        offers: [("jq".to_owned(), offer("1", &["1"]))].into(),
        lists_age_ms: Some(50 * 3_600_000),
        ..host(&packages)
    };
    let reason = why(&finding, &old).unwrap();
    assert_eq!(reason, ResidualReason::NotOnOffer { offered: None, lists_age_ms: Some(50 * 3_600_000) });
    assert_eq!(reason.text(), "the lists offer nothing newer and are 50 hours old");
    assert_eq!(reason.remedy(), "refresh the lists of the host");
}

#[test]
fn what_was_planned_and_is_not_there_and_what_is_half_there_did_not_take() {
    let mut half = package("zip", "2");
    half.status = "iF".to_owned();
    let (jq, zip) = (id("jq"), id("zip"));
    let packages = [package("jq", "1"), half];
    let mut host = host(&packages);
    host.planned = [&jq, &zip].into();
    host.broken = [&zip].into();
    assert_eq!(why(&finding("jq", Some("2")), &host), Some(ResidualReason::DidNotTake));
    let half = ResidualReason::HalfInstalled { status: "iF".to_owned() };
    assert_eq!(why(&finding("zip", Some("2")), &host), Some(half));
    host.mode = Mode::Observe;
    assert_eq!(why(&finding("jq", Some("2")), &host).unwrap().name(), "not_on_offer");
    host.offers.insert("jq".to_owned(), offer("2", &["2", "1"]));
    assert_eq!(why(&finding("jq", Some("2")), &host), Some(ResidualReason::OnlyObserved));
    host.unasked = Some("apt is broken".to_owned());
    assert_eq!(why(&finding("jq", Some("2")), &host).unwrap().name(), "unexplained");
    assert_eq!(why(&finding("jq", None), &host), Some(ResidualReason::NoFix));
}

#[test]
fn rpm_versions_follow_the_rules_of_rpm() {
    let packages = [package("jq", "0:1.6-10.el9")];
    let host = HostNow { scheme: VersionScheme::Rpm, ..host(&packages) };
    assert_eq!(why(&finding("jq", Some("0:1.6-9.el9")), &host), None);
    assert!(why(&finding("jq", Some("1:1.0-1")), &host).is_some());
}

#[test]
fn only_what_is_open_by_its_version_is_asked_of_the_lists_and_reasons_are_counted() {
    let packages = [package("jq", "1"), package("zip", "2")];
    let mut host = host(&packages);
    host.offers.insert("jq".to_owned(), offer("3", &["3", "1"]));
    let findings = [finding("jq", Some("2")), finding("zip", Some("2")), finding("jq", Some("3")), finding("jq", None)];
    assert_eq!(unfixed_packages(&findings, &host), ["jq".to_owned()].into());
    let found: Vec<Residual> = findings.iter().filter_map(|finding| residual(finding, &host)).collect();
    assert_eq!(residual_counts(&found), [("not_planned", 2), ("no_fix", 1)]);
    let value = serde_json::to_value(&found[0]).unwrap();
    assert_eq!((&value["reason"], &value["offered"]), (&"not_planned".into(), &"3".into()), "{value}");
}
