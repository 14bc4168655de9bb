//! Patch baselines of SSM: the real ones read and go out as they came, and say of a patch what SSM's documentation says.

use std::path::PathBuf;

use patchloom_domain::{
    Baseline, BaselineError, ComplianceLevel, Moment, PatchApproval as A, PatchCandidate, RejectedAction, judge_patch,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn at(text: &str) -> Moment {
    Moment::parse(text).unwrap()
}

fn baseline(value: &Value) -> Baseline {
    Baseline::read(&value.to_string()).unwrap_or_else(|error| panic!("{error}: {value}"))
}

fn patch(value: &Value) -> PatchCandidate {
    serde_json::from_value(value.clone()).unwrap()
}

fn debian(rule: &Value) -> Baseline {
    baseline(&json!({ "Name": "b", "OperatingSystem": "DEBIAN", "ApprovalRules": { "PatchRules": [rule] } }))
}

fn of(key: &str, values: &[&str]) -> Value {
    json!({ "PatchFilters": [{ "Key": key, "Values": values }] })
}

#[track_caller]
fn check(baseline: &Baseline, patch_of: &Value, now: &str, expected: A, why: &str) {
    let found = judge_patch(baseline, &patch(patch_of), at(now));
    assert_eq!(found.approval, expected, "{found:?}");
    assert!(found.why.contains(why), "{}", found.why);
}

#[test]
fn real_baselines_go_out_as_they_came_in() {
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"));
    let aws = std::env::var_os("PATCHLOOM_DATA").map_or(beside, PathBuf::from).join("aws");
    for name in ["ssm-get-patch-baseline-1.json", "ssm-update-patch-baseline-1.json"] {
        let Ok(text) = std::fs::read_to_string(aws.join(name)) else {
            println!("skipped: no test data (set PATCHLOOM_DATA to the directory that has aws/{name})");
            return;
        };
        let before: Value = serde_json::from_str(&text).unwrap();
        let read = Baseline::read(&text).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), before, "{name}");
    }
    let text = std::fs::read_to_string(aws.join("ssm-describe-effective-patches-for-patch-baseline-1.json")).unwrap();
    let listed: Value = serde_json::from_str(&text).unwrap();
    // The baseline of which SSM says that these patches are approved, as its documentation has it.
    let rule = json!({ "PatchFilterGroup": of("PRODUCT", &["WindowsServer2019"]), "ComplianceLevel": "CRITICAL", "ApproveAfterDays": 0 });
    let windows =
        baseline(&json!({ "Name": "w", "OperatingSystem": "WINDOWS", "ApprovalRules": { "PatchRules": [rule] } }));
    let listed = listed["EffectivePatches"].as_array().unwrap();
    for row in listed {
        let found = judge_patch(&windows, &patch(&row["Patch"]), at("2019-03-01"));
        assert_eq!((found.approval, found.level), (A::Approved, ComplianceLevel::Critical));
        let dated: Moment = serde_json::from_value(row["PatchStatus"]["ApprovalDate"].clone()).unwrap();
        assert_eq!(patch(&row["Patch"]).release_date, Some(dated));
    }
    assert_eq!(listed.len(), 2);
}

#[test]
fn a_delay_counts_to_the_second_in_utc() {
    let linux = json!({ "Name": "b", "OperatingSystem": "REDHAT_ENTERPRISE_LINUX", "ApprovalRules": { "PatchRules": [
        { "PatchFilterGroup": of("CLASSIFICATION", &["Security"]), "ApproveAfterDays": 7 } ] } });
    let patch = json!({ "Name": "openssl", "Classification": "Security", "ReleaseDate": "2025-11-09T18:00:00Z" });
    let until = Some(at("2025-11-16T18:00:00Z"));
    check(&baseline(&linux), &patch, "2025-11-16T17:59:59Z", A::Pending { until }, "7 days make 2025-11-16T18:00:00Z");
    check(&baseline(&linux), &patch, "2025-11-16T18:00:00Z", A::Approved, "rule 1 sees it");
    check(&baseline(&linux), &patch, "2025-11-16T19:00:00+01:00", A::Approved, "rule 1 sees it");
    check(
        &baseline(&linux),
        &json!({ "Name": "x", "Classification": "Security" }),
        "2025-11-16",
        A::Pending { until: None },
        "not known",
    );
}

#[test]
fn a_last_day_is_in_to_its_end() {
    let rule = json!({ "PatchFilterGroup": of("PRODUCT", &["*"]), "ApproveUntilDate": "2026-02-28", "EnableNonSecurity": true });
    for (released, expected) in [("2026-02-28T23:59:59Z", A::Approved), ("2026-03-01T00:00:00Z", A::NotMatched)] {
        let patch = json!({ "Name": "p", "Product": "Debian12", "ReleaseDate": released });
        check(&debian(&rule), &patch, "2026-03-05", expected, "2026-02-28");
    }
}

#[test]
fn debian_counts_delays_by_changelog_and_by_the_day_it_was_first_seen() {
    let rule = json!({ "PatchFilterGroup": of("PRIORITY", &["Required", "Important"]), "ApproveAfterDays": 3,
        "EnableNonSecurity": true });
    let with = |more: Value| {
        let mut patch = json!({ "Name": "libc6", "Priority": "required", "Security": true });
        patch.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        patch
    };
    for (dates, why) in [
        (json!({ "ReleaseDate": "2026-11-01" }), "changelog of 2026-11-01"),
        (json!({ "FirstSeen": "2026-11-01" }), "first seen 2026-11-01"),
        (json!({ "ReleaseDate": "2026-11-01", "FirstSeen": "2026-11-20" }), "changelog of 2026-11-01"),
        (json!({ "ReleaseDate": "2027-01-01", "FirstSeen": "2026-11-01" }), "later) 2026-11-01"),
        // Somebody looked, and it was not there: written before, handed out after.
        (
            json!({ "ReleaseDate": "2026-06-01", "FirstSeen": "2026-11-05", "NotBefore": "2026-11-01" }),
            "not on offer on 2026-11-01",
        ),
        (
            json!({ "ReleaseDate": "2026-11-01", "FirstSeen": "2026-11-05", "NotBefore": "2026-10-20" }),
            "changelog of 2026-11-01",
        ),
        (
            json!({ "ReleaseDate": "1970-01-01", "FirstSeen": "2026-11-01", "NotBefore": "2026-11-02" }),
            "first seen 2026-11-01",
        ),
        // A point release hands out in a day what was written over months.
        (
            json!({ "ReleaseDate": "2026-06-01", "FirstSeen": "2026-11-01", "Security": false }),
            "nobody looked before) 2026-11-01",
        ),
    ] {
        check(&debian(&rule), &with(dates.clone()), "2026-11-03", A::Pending { until: Some(at("2026-11-04")) }, why);
        check(&debian(&rule), &with(dates), "2026-11-04", A::Approved, why);
    }
}

#[test]
fn only_security_updates_are_seen_on_linux_unless_told_otherwise() {
    let rule = |more: bool| json!({ "PatchFilterGroup": of("PRODUCT", &["*"]), "ApproveAfterDays": 0, "EnableNonSecurity": more });
    let bugfix = json!({ "Name": "p", "Product": "Debian12", "Repository": "debian" });
    let security = json!({ "Name": "p", "Product": "Debian12", "Repository": "debian-security" });
    check(&debian(&rule(false)), &bugfix, "2026-01-01", A::NotMatched, "EnableNonSecurity is false");
    check(&debian(&rule(true)), &bugfix, "2026-01-01", A::Approved, "at once");
    check(&debian(&rule(false)), &security, "2026-01-01", A::Approved, "at once");
}

#[test]
fn names_outweigh_rules_and_rejections_outweigh_names() {
    let red_hat = |approved: &[&str], rejected: &[&str]| {
        baseline(&json!({ "Name": "b", "OperatingSystem": "REDHAT_ENTERPRISE_LINUX", "ApprovedPatches": approved,
            "ApprovedPatchesComplianceLevel": "HIGH", "RejectedPatches": rejected, "RejectedPatchesAction": "BLOCK" }))
    };
    let patch_of = json!({ "Name": "openssl", "Epoch": 1, "Version": "3.0.7", "Release": "28.el9", "Arch": "x86_64", "Security": true });
    for name in [
        "openssl",
        "openssl-3.0.7-28.el9.x86_64",
        "openssl-1:3.0.7-28.el9.x86_64",
        "1:openssl-3.0.7-28.el9",
        "openssl-*.el9.x86_64",
        "open*",
    ] {
        check(&red_hat(&[name], &[]), &patch_of, "2026-01-01", A::ExplicitlyApproved, name);
        check(&red_hat(&[name], &[name]), &patch_of, "2026-01-01", A::Rejected, "never");
    }
    for name in ["openssl-3.0.7-27.el9.x86_64", "open", "*-27.el9*"] {
        check(&red_hat(&[name], &[]), &patch_of, "2026-01-01", A::NotMatched, "no rule");
    }
    let windows = baseline(&json!({ "Name": "w", "RejectedPatches": ["KB2032276", "MS10-048"] }));
    assert_eq!(windows.rejected_patches_action, RejectedAction::AllowAsDependency);
    check(&windows, &json!({ "KbNumber": "KB2032276" }), "2026-01-01", A::Rejected, "only where another one needs it");
    check(&windows, &json!({ "MsrcNumber": "ms10-048" }), "2026-01-01", A::Rejected, "MS10-048");
}

#[test]
fn of_several_rules_the_worst_level_of_those_that_approve_counts() {
    let rule = |level: &str, days: u32| json!({ "PatchFilterGroup": of("SEVERITY", &["Critical"]), "ComplianceLevel": level, "ApproveAfterDays": days });
    let two = |a: Value, b: Value| {
        baseline(&json!({ "Name": "b", "OperatingSystem": "SUSE", "ApprovalRules": { "PatchRules": [a, b] } }))
    };
    let patch_of =
        patch(&json!({ "Name": "p", "Severity": "critical", "Security": true, "ReleaseDate": "2026-01-01" }));
    let level = |baseline: Baseline, now| judge_patch(&baseline, &patch_of, at(now)).level;
    assert_eq!(level(two(rule("LOW", 0), rule("HIGH", 0)), "2026-01-02"), ComplianceLevel::High);
    assert_eq!(level(two(rule("LOW", 0), rule("CRITICAL", 9)), "2026-01-02"), ComplianceLevel::Low);
    let pending = judge_patch(&two(rule("LOW", 9), rule("HIGH", 5)), &patch_of, at("2026-01-02"));
    assert_eq!(pending.approval, A::Pending { until: Some(at("2026-01-06")) });
}

#[test]
fn what_ssm_would_not_take_is_refused_with_its_place() {
    let rule = |more: Value| {
        let mut rule = json!({ "PatchFilterGroup": of("PRODUCT", &["*"]) });
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "Name": "b", "ApprovalRules": { "PatchRules": [rule] } })
    };
    let many = |count: usize| vec!["x"; count];
    for (value, message) in [
        (rule(json!({})), "ApprovalRules.PatchRules[0] needs either"),
        (
            rule(json!({ "ApproveAfterDays": 1, "ApproveUntilDate": "2026-01-01" })),
            "ApprovalRules.PatchRules[0] needs either",
        ),
        (rule(json!({ "ApproveAfterDays": 361 })), "ApproveAfterDays is 361"),
        (rule(json!({ "ApproveUntilDate": "2026-02-30" })), "'2026-02-30'"),
        (rule(json!({ "ApproveAfterDays": 1, "Aprove": 1 })), "unknown field `Aprove`"),
        (json!({ "Name": "b", "ApprovedPatches": many(51) }), "ApprovedPatches has 51 entries"),
        (
            json!({ "Name": "b", "GlobalFilters": of("PRODUCT", &many(21)) }),
            "GlobalFilters.PatchFilters[0].Values has 21",
        ),
        (json!({ "Name": "b", "GlobalFilters": of("COLOUR", &["x"]) }), "unknown variant `COLOUR`"),
        (json!({ "Name": "b", "OperatingSystem": "PLAN9" }), "unknown variant `PLAN9`"),
        (json!({}), "missing field `Name`"),
    ] {
        let error: BaselineError = Baseline::read(&value.to_string()).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }
    assert!(Baseline::read(&json!({ "Name": "b", "ApprovedPatches": many(50) }).to_string()).is_ok());
}

#[test]
fn instants_are_read_as_ssm_writes_them() {
    let read = |value: Value| serde_json::from_value::<Moment>(value).map(|moment| moment.to_string()).ok();
    assert_eq!(read(json!(1_544_047_205.0)).as_deref(), Some("2018-12-05T22:00:05Z"));
    assert_eq!(read(json!("2024-02-29")).as_deref(), Some("2024-02-29T00:00:00Z"));
    assert_eq!(read(json!("2026-11-21T19:00:00.5+01:00")).as_deref(), Some("2026-11-21T18:00:00Z"));
    for wrong in [
        json!("2023-02-29"),
        json!("2026-13-01"),
        json!("2026-1-1"),
        json!("2026-01-01T25:00:00Z"),
        json!("now"),
        json!(1e300),
    ] {
        assert_eq!(read(wrong.clone()), None, "{wrong}");
    }
}

proptest! {
    #[test]
    fn an_instant_reads_back_as_it_was_written(seconds in -62_000_000_000_i64..200_000_000_000) {
        let moment = Moment(seconds);
        prop_assert_eq!(Moment::parse(&moment.to_string()).unwrap(), moment);
    }

    #[test]
    fn any_text_is_an_instant_or_a_typed_error(text in "\\PC{0,30}|[0-9TZ:+.-]{0,30}") {
        let _ = Moment::parse(&text);
        let _ = Baseline::read(&text);
    }

    #[test]
    fn time_only_ever_approves(days in 0u32..=360, released in 0i64..4_000_000_000, first in 0i64..4_000_000_000, later in 0i64..100_000_000) {
        let rule = json!({ "PatchFilterGroup": of("PRODUCT", &["*"]), "ApproveAfterDays": days });
        let patch = PatchCandidate { product: "p".into(), security: Some(true), release_date: Some(Moment(released)), ..PatchCandidate::default() };
        let says = |now| judge_patch(&debian(&rule), &patch, Moment(now)).approval;
        if says(first) == A::Approved {
            prop_assert_eq!(says(first + later), A::Approved);
        }
    }
}
