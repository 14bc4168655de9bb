//! What a reported vulnerability means on a host: every trap of versions, sources, kernels and policies as a case.

use std::path::PathBuf;
use std::process::Command;

use patchloom_domain::correlate::{Claim, Correlated, HostFacts, NotOffered, State, correlate_host, read_facts};
use serde_json::{Value, json};

fn host(facts: Value) -> HostFacts {
    let mut whole = json!({ "host": "h", "scheme": "deb", "packages": [] });
    for (key, value) in facts.as_object().unwrap() {
        whole[key] = value.clone();
    }
    read_facts(&whole.to_string()).unwrap().remove(0)
}

fn claim(fields: Value) -> Claim {
    let mut whole = json!({ "id": "CVE-2026-1" });
    for (key, value) in fields.as_object().unwrap() {
        whole[key] = value.clone();
    }
    serde_json::from_value::<Claim>(whole).unwrap().cleaned(None)
}

/// What one claim means on one host, in short: the state with what it carries.
fn says(facts: &Value, fields: &Value) -> String {
    short(&judged(facts, fields))
}

fn judged(facts: &Value, fields: &Value) -> Correlated {
    correlate_host(&host(facts.clone()), &[claim(fields.clone())]).remove(0)
}

fn short(found: &Correlated) -> String {
    match &found.verdict.state {
        State::FixableNow { unit, reboot } => {
            let after = if *reboot { ", reboot" } else { "" };
            format!("fixable by {} {} [{}]{after}", unit.source, unit.version, unit.binaries.join(" "))
        }
        State::FixNotOffered { fixed, reason } => {
            format!("not offered: {} {reason:?}", fixed.as_deref().unwrap_or("?"))
        }
        State::RunningOld { restart, .. } => format!("running old: {}", restart.join(" ")),
        State::OldKernelLeft { remove } => format!("remove {remove}"),
        State::NoFix { vendor } => format!("no fix: {}", vendor.name()),
        other => other.name().to_owned(),
    }
}

#[track_caller]
fn check(facts: Value, rows: &[(Value, &str)]) {
    for (fields, expected) in rows {
        let found = judged(&facts, fields);
        assert_eq!(&short(&found), expected, "{fields}: {}", found.verdict.why);
    }
}

fn openssl() -> Value {
    json!({
        "releases": ["12", "bookworm"],
        "packages": [
            { "name": "openssl", "arch": "amd64", "version": "3.0.20-1~deb12u1" },
            { "name": "libssl3", "arch": "amd64", "version": "3.0.20-1~deb12u1", "source": "openssl",
              "source_version": "3.0.20-1~deb12u1" },
        ],
        "candidates": [
            { "name": "openssl", "arch": "amd64", "candidate": "3.0.20-1~deb12u2" },
            { "name": "libssl3", "arch": "amd64", "candidate": "3.0.20-1~deb12u2", "source": "openssl",
              "source_version": "3.0.20-1~deb12u2", "cves": ["CVE-2026-9"] },
            { "name": "libssl-dev", "arch": "amd64", "candidate": "3.0.20-1~deb12u2", "source": "openssl",
              "source_version": "3.0.20-1~deb12u2" },
        ],
    })
}

#[test]
fn a_fix_on_offer_is_one_unit_of_all_binaries_of_the_source() {
    let unit = "fixable by openssl 3.0.20-1~deb12u2 [libssl3 openssl]";
    check(
        openssl(),
        &[
            (json!({ "package": "libssl3", "fixed": ["3.0.20-1~deb12u2"] }), unit),
            (json!({ "package": "openssl", "fixed": "3.0.20-1~deb12u2".split(',').collect::<Vec<_>>() }), unit),
            // A tilde sorts before the end: what the release before the plain version fixed is not in it.
            (json!({ "package": "libssl3", "fixed": ["3.0.20-1"] }), "not offered: 3.0.20-1 NotInLists"),
            (json!({ "package": "libssl3", "fixed": ["3.0.20-1~deb12u1"] }), "already fixed"),
            (json!({ "package": "zlib1g", "fixed": ["1"] }), "not installed"),
            // Without a version the changelog of the candidate may name it.
            (json!({ "id": "CVE-2026-9", "package": "libssl3", "status": "fixed" }), unit),
            (json!({ "package": "libssl3", "status": "fixed" }), "not offered: ? VersionUnknown"),
            // A fixed version of nought: that release was never vulnerable.
            (json!({ "package": "libssl3", "fixed": ["0"] }), "not affected"),
            (json!({ "package": "libssl3", "fixed": ["what?"] }), "unclear"),
            (json!({ "package": "libssl3", "fixed": ["3.0.20-1~deb12u2\u{0} "] }), unit),
        ],
    );
}

#[test]
fn without_a_fix_the_vendor_speaks() {
    let rows = ["affected", "will_not_fix", "fix_deferred", "end_of_life", "under_investigation", "unknown"];
    for status in rows {
        assert_eq!(says(&openssl(), &json!({ "package": "openssl", "status": status })), format!("no fix: {status}"));
    }
    assert_eq!(says(&openssl(), &json!({ "package": "openssl", "status": "not-affected" })), "not affected");
}

#[test]
fn a_fix_for_another_release_is_none() {
    let fix = |release: &str| json!({ "version": "3.0.20-1~deb12u2", "release": release });
    check(
        openssl(),
        &[
            (json!({ "package": "openssl", "fixed": [fix("13")] }), "not offered: ? OtherRelease"),
            (
                json!({ "package": "openssl", "fixed": [{ "version": "9", "release": "13" }, fix("bookworm")] }),
                "fixable by openssl 3.0.20-1~deb12u2 [libssl3 openssl]",
            ),
        ],
    );
}

#[test]
fn a_rebuild_has_the_fix_of_its_source() {
    let facts = json!({ "packages": [
        { "name": "bash", "version": "5.2.15-2+b13", "source": "bash", "source_version": "5.2.15-2" },
        { "name": "gcc", "version": "4:12.2.0-3", "source": "gcc-defaults", "source_version": "1.203" },
    ]});
    check(
        facts,
        &[
            (json!({ "package": "bash", "fixed": ["5.2.15-2"] }), "already fixed"),
            (json!({ "package": "bash", "fixed": ["5.2.15-2"], "fix_of": "binary" }), "already fixed"),
            (json!({ "package": "bash", "fixed": ["5.2.15-3"] }), "not offered: 5.2.15-3 NotInLists"),
            // The binary has an epoch that its source has not: what a scanner says of sources is held against the source.
            (json!({ "package": "gcc", "fixed": ["1.204"] }), "not offered: 1.204 NotInLists"),
            (json!({ "package": "gcc", "fixed": ["1.203"], "fix_of": "source" }), "already fixed"),
            (
                json!({ "package": "gcc", "fixed": ["4:12.2.0-4"], "fix_of": "binary" }),
                "not offered: 4:12.2.0-4 NotInLists",
            ),
        ],
    );
}

#[test]
fn a_backport_has_the_fix_whatever_upstream_counts() {
    let facts = json!({ "scheme": "rpm", "packages": [{ "name": "openssl-libs", "version": "1:1.1.1k-9.el8" }] });
    check(
        facts,
        &[
            (
                json!({ "package": "openssl-libs", "fixed": ["1:1.1.1k-7.el8"], "installed": "1:1.1.1k-6.el8" }),
                "already fixed",
            ),
            (json!({ "package": "openssl-libs", "fixed": ["1.1.1t"], "fix_of": "upstream" }), "unclear"),
            (
                json!({ "package": "openssl-libs", "fixed": ["1:1.1.1k-12.el8"] }),
                "not offered: 1:1.1.1k-12.el8 NotInLists",
            ),
        ],
    );
    let found = judged(
        &json!({ "packages": [{ "name": "a", "version": "2" }] }),
        &json!({ "package": "a", "installed": "1", "fixed": ["2"] }),
    );
    assert_eq!(found.verdict.why, "a is at 2 by now and has the fix of 2; the report saw 1");
}

#[test]
fn what_is_withheld_says_why() {
    for (withheld, reason) in [
        ("held", NotOffered::Held),
        ("phased", NotOffered::Phased),
        ("pinned", NotOffered::Pinned),
        ("subscription", NotOffered::NeedsSubscription),
        ("other_release", NotOffered::OtherRelease),
        ("removed", NotOffered::Removed),
    ] {
        let facts = json!({
            "packages": [{ "name": "a", "version": "1" }],
            "candidates": [{ "name": "a", "candidate": "2", "withheld": withheld }],
        });
        assert_eq!(says(&facts, &json!({ "package": "a", "fixed": ["2"] })), format!("not offered: 2 {reason:?}"));
    }
    let held = json!({
        "packages": [{ "name": "a", "version": "1", "held": true }], "candidates": [{ "name": "a", "candidate": "2" }],
    });
    assert_eq!(says(&held, &json!({ "package": "a", "fixed": ["2"] })), "not offered: 2 Held");
    // The lists have a newer one than the withheld one: that is taken.
    let two = json!({ "packages": [{ "name": "a", "version": "1" }], "candidates": [
        { "name": "a", "candidate": "3", "withheld": "phased" }, { "name": "a", "candidate": "2" },
    ]});
    assert_eq!(says(&two, &json!({ "package": "a", "fixed": ["2"] })), "fixable by a 2 [a]");
}

#[test]
fn extended_support_needs_a_subscription() {
    let facts = |subscriptions: Value| json!({ "subscriptions": subscriptions, "packages": [{ "name": "a", "version": "1.0-1ubuntu1" }] });
    let esm = json!({ "package": "a", "fixed": ["1.0-1ubuntu1+esm2"] });
    assert_eq!(says(&facts(json!([])), &esm), "not offered: 1.0-1ubuntu1+esm2 NeedsSubscription");
    assert_eq!(says(&facts(json!(["esm-infra"])), &esm), "not offered: 1.0-1ubuntu1+esm2 NotInLists");
}

#[test]
fn of_several_fixes_that_of_the_branch_on_offer_counts() {
    let facts = |installed: &str, candidate: &str| {
        json!({
            "packages": [{ "name": "tomcat", "version": installed }],
            "candidates": [{ "name": "tomcat", "candidate": candidate }],
        })
    };
    let list = json!({ "package": "tomcat", "fixed": ["11.0.14, 10.1.49, 9.0.112"] });
    assert_eq!(says(&facts("10.1.30", "10.1.49"), &list), "fixable by tomcat 10.1.49 [tomcat]");
    assert_eq!(says(&facts("10.1.30", "10.1.48"), &list), "not offered: 10.1.49 NotInLists");
    // The candidate is on another branch, and has that one's fix.
    assert_eq!(says(&facts("10.1.30", "11.0.14"), &list), "fixable by tomcat 11.0.14 [tomcat]");
    assert_eq!(says(&facts("10.1.49", "10.1.50"), &list), "already fixed");
}

#[test]
fn modules_and_carets_of_rpm_are_heeded() {
    let facts = json!({ "scheme": "rpm", "packages": [
        { "name": "nodejs", "version": "1:18.1.0-1.module_el8", "module": "nodejs:18:820:abc" },
        { "name": "git", "version": "2.40^20230101-1" },
    ]});
    let fix = |version: &str, module: &str| json!({ "version": version, "module": module });
    check(
        facts,
        &[
            (json!({ "package": "nodejs", "module": "nodejs:16", "fixed": ["1:16.9-1"] }), "unclear"),
            (json!({ "package": "nodejs", "fixed": [fix("1:16.9-1", "nodejs:16")] }), "not offered: ? OtherRelease"),
            (
                json!({ "package": "nodejs", "fixed": [fix("1:16.9-1", "nodejs:16"), fix("1:18.2-1", "nodejs:18")] }),
                "not offered: 1:18.2-1 NotInLists",
            ),
            (json!({ "package": "git", "fixed": ["2.40-1"] }), "already fixed"),
            (json!({ "package": "git", "fixed": ["2.40.1-1"] }), "not offered: 2.40.1-1 NotInLists"),
        ],
    );
}

#[test]
fn apk_versions_go_by_their_own_order() {
    let facts = json!({ "scheme": "apk", "packages": [{ "name": "musl", "version": "1.1.20-r4" }],
        "candidates": [{ "name": "musl", "candidate": "1.1.20-r5" }] });
    check(
        facts,
        &[
            (json!({ "package": "musl", "fixed": ["1.1.20-r5"] }), "fixable by musl 1.1.20-r5 [musl]"),
            (json!({ "package": "musl", "fixed": ["1.1.20_rc1-r9"] }), "already fixed"),
        ],
    );
}

fn kernels(running: &str) -> Value {
    let image = |release: &str, version: &str| {
        json!({ "name": format!("linux-image-{release}-amd64"), "arch": "amd64", "version": version,
            "source": "linux-signed-amd64", "source_version": version.replace('-', "+") })
    };
    json!({
        "running_kernel": running,
        "packages": [
            image("6.1.0-23", "6.1.99-1"),
            image("6.1.0-25", "6.1.106-3"),
            image("6.1.0-26", "6.1.112-1"),
            { "name": "linux-image-amd64", "version": "6.1.112-1", "source": "linux-signed-amd64", "source_version": "6.1.112+1" },
            { "name": "linux-headers-6.1.0-23-common", "version": "6.1.99-1", "source": "linux" },
        ],
        "candidates": [
            { "name": "linux-image-amd64", "candidate": "6.1.115-1", "source": "linux-signed-amd64", "source_version": "6.1.115+1" },
            { "name": "linux-image-6.1.0-27-amd64", "candidate": "6.1.115-1", "source": "linux-signed-amd64",
              "source_version": "6.1.115+1" },
        ],
    })
}

#[test]
fn kernels_are_fixed_only_where_they_run() {
    let on = |release: &str, fixed: &str| json!({ "package": format!("linux-image-6.1.0-{release}-amd64"), "fixed": [fixed] });
    check(
        kernels("6.1.0-25-amd64"),
        &[
            (on("25", "6.1.112-1"), "running old: the host"),
            (on("25", "6.1.106-3"), "already fixed"),
            (on("23", "6.1.112-1"), "remove linux-image-6.1.0-23-amd64"),
            (on("26", "6.1.112-1"), "already fixed"),
            (
                on("25", "6.1.115-1"),
                "fixable by linux-signed-amd64 6.1.115+1 [linux-image-6.1.0-27-amd64 linux-image-amd64], reboot",
            ),
            (
                json!({ "package": "linux-headers-6.1.0-23-common", "fixed": ["6.1.112-1"] }),
                "remove linux-headers-6.1.0-23-common",
            ),
            (on("25", "6.1.200-1"), "not offered: 6.1.200-1 NotInLists"),
        ],
    );
    // The signed source has a version of its own, with a plus: it is not held against that of the code.
    let signed = json!({ "package": "linux-image-amd64", "fixed": ["6.1.112-5"] });
    assert!(says(&kernels("6.1.0-26-amd64"), &signed).starts_with("fixable by linux-signed-amd64"));
}

#[test]
fn a_kernel_that_was_replaced_in_place_still_runs_old() {
    let mut facts = kernels("6.1.0-26-amd64");
    facts["running_kernel_version"] = json!("#1 SMP PREEMPT_DYNAMIC Debian 6.1.109-1 (2024-09-30)");
    let on = json!({ "package": "linux-image-6.1.0-26-amd64", "fixed": ["6.1.112-1"] });
    assert_eq!(says(&facts, &on), "running old: the host");
}

#[test]
fn an_rpm_host_keeps_several_kernels_of_one_name() {
    let facts = json!({ "scheme": "rpm", "running_kernel": "5.14.0-427.13.1.el9_4.x86_64", "packages": [
        { "name": "kernel-core", "arch": "x86_64", "version": "5.14.0-362.8.1.el9_3" },
        { "name": "kernel-core", "arch": "x86_64", "version": "5.14.0-427.13.1.el9_4" },
        { "name": "kernel-core", "arch": "x86_64", "version": "5.14.0-427.20.1.el9_4" },
    ]});
    let on = |seen: &str| json!({ "package": "kernel-core", "installed": seen, "fixed": ["5.14.0-427.16.1.el9_4"] });
    check(
        facts,
        &[
            (on("0:5.14.0-362.8.1.el9_3"), "remove kernel-core-5.14.0-362.8.1.el9_3"),
            (on("5.14.0-427.13.1.el9_4"), "running old: the host"),
            (on("5.14.0-427.20.1.el9_4"), "already fixed"),
            // Where the report does not say which one it saw, the one for which most is to be done speaks.
            (json!({ "package": "kernel-core", "fixed": ["5.14.0-427.16.1.el9_4"] }), "running old: the host"),
        ],
    );
}

#[test]
fn a_kernel_of_which_none_is_known_to_run_is_judged_by_its_version() {
    let mut facts = kernels("");
    facts.as_object_mut().unwrap().remove("running_kernel");
    let on = json!({ "package": "linux-image-6.1.0-23-amd64", "fixed": ["6.1.112-1"] });
    assert!(says(&facts, &on).starts_with("fixable by"), "a container's host kernel is not its own");
}

#[test]
fn a_library_that_is_replaced_is_fixed_once_its_users_are_started_anew() {
    let facts = json!({
        "packages": [{ "name": "libssl3", "version": "3.0.20-1~deb12u2", "source": "openssl" }],
        "stale": [
            { "pid": 7, "command": "nginx", "package": "libssl3", "unit": "nginx.service" },
            { "pid": 8, "command": "nginx", "package": "libssl3", "unit": "nginx.service" },
            { "pid": 9, "command": "agent", "package": "libssl3" },
            { "pid": 1, "command": "init", "package": "libc6" },
        ],
    });
    let on = json!({ "package": "libssl3", "fixed": ["3.0.20-1~deb12u2"] });
    assert_eq!(says(&facts, &on), "running old: agent (9) nginx.service");
}

#[test]
fn removed_packages_and_foreign_architectures_are_passed_over() {
    let facts = json!({
        "packages": [
            { "name": "a", "arch": "amd64", "version": "1", "status": "rc" },
            { "name": "b", "arch": "amd64", "version": "2", "status": "ii" },
            { "name": "b", "arch": "i386", "version": "1", "status": "ii" },
        ],
    });
    assert_eq!(says(&facts, &json!({ "package": "a", "fixed": ["2"] })), "not installed");
    assert_eq!(says(&facts, &json!({ "package": "b", "arch": "amd64", "fixed": ["2"] })), "already fixed");
    assert_eq!(says(&facts, &json!({ "package": "b", "fixed": ["2"] })), "not offered: 2 NotInLists");
}

#[test]
fn facts_that_are_none_say_where() {
    let error = read_facts(r#"{"host":"h","scheme":"msi","packages":[]}"#).unwrap_err().to_string();
    assert!(error.contains("'msi' is no scheme: write deb, rpm or apk at line 1 column"), "{error}");
}

/// For one package, installed and fixed version: dpkg decides, and the correlation says the same.
#[test]
fn dpkg_itself_agrees_on_who_is_fixed() {
    if Command::new("dpkg").arg("--version").output().is_err() {
        println!("skipped: no dpkg on this machine");
        return;
    }
    let versions =
        ["1.0", "0:1.0-0", "1.0~rc1-1", "1.0-1~deb12u1", "1.0-1", "1.0-1+deb12u1", "1:0.1", "1.10-1", "1.9-1"];
    for installed in versions {
        let facts = host(json!({ "packages": [{ "name": "p", "version": installed }] }));
        for fixed in versions {
            let asked = ["--compare-versions", installed, "ge", fixed];
            let has = Command::new("dpkg").args(asked).status().unwrap().success();
            let found = correlate_host(&facts, &[claim(json!({ "package": "p", "fixed": [fixed] }))]).remove(0);
            assert_eq!(!found.verdict.state.is_open(), has, "{installed} with a fix of {fixed}: {}", found.verdict.why);
        }
    }
}

#[test]
fn known_pairs_of_apt_are_judged_as_apt_orders_them() {
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"));
    let base = std::env::var_os("PATCHLOOM_DATA").map_or(beside, PathBuf::from);
    let Ok(text) = std::fs::read_to_string(base.join("versions/deb-apt-compare.tsv")) else {
        println!("skipped: no test data (set PATCHLOOM_DATA)");
        return;
    };
    let mut judged = 0;
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let fields: Vec<&str> = line.split('\t').map(str::trim).collect();
        // A rebuild is no difference here, though it is one in the order of apt.
        if fields.iter().any(|field| field.contains("+b") || *field == "0") {
            continue;
        }
        let facts = host(json!({ "packages": [{ "name": "p", "version": fields[0] }] }));
        let found = correlate_host(&facts, &[claim(json!({ "package": "p", "fixed": [{ "version": fields[2] }] }))]);
        let open = fields[1].starts_with('-');
        assert_eq!(found[0].verdict.state.is_open(), open, "{line}: {}", found[0].verdict.why);
        judged += 1;
    }
    assert!(judged > 40, "{judged}");
}
