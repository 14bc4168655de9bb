//! The order of rpm versions: by rpm's own test pairs, by rpm itself where it is at hand, and by the laws of an order.

use std::cmp::Ordering;
use std::path::PathBuf;
use std::process::Command;

use patchloom_domain::{RpmVersion, VersionFault, VersionScheme, compare_versions, rpm_segments_cmp};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

fn version(text: &str) -> RpmVersion {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn data(file: &str) -> Option<String> {
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"));
    let base = std::env::var_os("PATCHLOOM_DATA").map_or(beside, PathBuf::from);
    let text = std::fs::read_to_string(base.join(file)).ok();
    if text.is_none() {
        println!("skipped: no test data (set PATCHLOOM_DATA to the directory that has {file})");
    }
    text
}

#[track_caller]
fn check(left: &str, expected: Ordering, right: &str) {
    assert_eq!(rpm_segments_cmp(left, right), expected, "{left} with {right}");
    assert_eq!(rpm_segments_cmp(right, left), expected.reverse(), "{right} with {left}");
}

#[test]
fn known_pairs_are_ordered_as_rpm_orders_them() {
    let Some(text) = data("versions/rpm-rpmvercmp.tsv") else { return };
    let mut pairs = 0;
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let fields: Vec<&str> = line.split('\t').collect();
        check(fields[0], fields[1].parse::<i32>().unwrap().cmp(&0), fields[2]);
        pairs += 1;
    }
    assert!(pairs >= 50, "{pairs}");
    let Some(text) = data("versions/claircore-rpmvercmp.txt") else { return };
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let fields: Vec<&str> = line.split(' ').collect();
        let expected = match fields[1] {
            "<" => Ordering::Less,
            ">" => Ordering::Greater,
            "==" => Ordering::Equal,
            other => panic!("{other}"),
        };
        check(fields[0], expected, fields[2]);
        pairs += 1;
    }
    assert!(pairs >= 160, "{pairs}");
}

#[test]
fn epoch_comes_first_then_version_then_release() {
    let ascending = [
        "1.0~rc1-1",
        "1.0",
        "1.0-0~1",
        "1.0-0",
        "1.0-1.el9",
        "1.0-1.el9_4",
        "1.0-1.el9_4.2",
        "1.0-2",
        "1.0^git1-1",
        "1.0a-1",
        "1.0.1-1",
        "1.10-1",
        "1:0.1-1",
        "2:0",
    ];
    for (at, low) in ascending.iter().enumerate() {
        for high in &ascending[at + 1..] {
            assert!(version(low) < version(high), "{low} < {high}");
        }
    }
    assert_eq!(version("0:1_0-01"), version("1.0-1"));
    assert_eq!(version(":1.0-1"), version("1.0-1"));
}

#[test]
fn a_requirement_without_a_release_matches_every_release() {
    assert_eq!(version("1.0").loosely(&version("1.0-7")), Ordering::Equal);
    assert_eq!(version("1.0-7").loosely(&version("1.0")), Ordering::Equal);
    assert_eq!(version("1.0-7").loosely(&version("1.0-8")), Ordering::Less);
    assert_eq!(version("1:1.0").loosely(&version("1.0-8")), Ordering::Greater);
}

#[test]
fn parts_are_split_at_the_colon_and_the_last_hyphen() {
    let full = version("2:1.2.0-3.el9_4.1");
    assert_eq!((full.epoch(), full.version(), full.release()), (2, "1.2.0", Some("3.el9_4.1")));
    assert_eq!((version("1.0").version(), version("1.0").release()), ("1.0", None));
}

#[test]
fn what_is_no_version_is_refused_with_its_place_and_reason() {
    use VersionFault as F;
    for (given, at, fault) in [
        (" ", 0, F::Empty),
        ("1 0-1", 1, F::Character(' ')),
        ("a:1-1", 0, F::Epoch),
        ("4294967296:1-1", 0, F::Epoch),
        ("1:", 2, F::NoVersion),
        ("1:-1", 2, F::NoVersion),
        ("1.0-", 3, F::NoRevision),
        ("1-2-3", 1, F::Character('-')),
        ("1.0-1:2", 5, F::Character(':')),
        ("1.α-1", 2, F::Character('α')),
    ] {
        let error = given.parse::<RpmVersion>().unwrap_err();
        assert_eq!((error.at, &error.fault), (at, &fault), "{given}: {error}");
    }
    assert!("4294967295:1-1".parse::<RpmVersion>().is_ok());
}

#[test]
fn the_part_that_decides_is_named() {
    for (left, right, why) in [
        ("1.0-1", "1:0.1-1", "the epoch decides: 0 against 1"),
        ("1.0.rc1-1", "1.0.1-1", "the version decides: 'rc' against 1"),
        ("1.0^a-1", "1.0-1", "the version decides: '^' against its end"),
        ("1.0-3", "1.0-12", "the release decides: 3 against 12"),
        ("1.0", "1.0-12", "one has no release, which sorts first; as a requirement it would match both"),
        ("1.0", "1_00", "no part differs"),
    ] {
        assert_eq!(compare_versions(VersionScheme::Rpm, left, right).unwrap().why, why);
    }
}

/// A small alphabet, so that equal beginnings come up often; the characters mean something or separate.
const SEGMENTS: &str = "[0-1ab.~^_+]{1,7}";

#[test]
fn rpm_itself_agrees_on_generated_pairs() {
    let asked = Command::new("rpm").args(["--eval", "%{lua: print(rpm.vercmp(\"1\", \"2\"))}"]).output();
    if !asked.is_ok_and(|output| output.stdout.starts_with(b"-1")) {
        println!("skipped: no rpm with Lua on this machine");
        return;
    }
    let mut runner = TestRunner::deterministic();
    let mut draw = || SEGMENTS.new_tree(&mut runner).unwrap().current();
    for _ in 0..20 {
        let pairs: Vec<(String, String)> = (0..200).map(|_| (draw(), draw())).collect();
        let list: String = pairs.iter().map(|(a, b)| format!("{{\"{a}\",\"{b}\"}},")).collect();
        let lua = format!("%{{lua: for _, p in ipairs({{{list}}}) do print(rpm.vercmp(p[1], p[2]), \"\") end}}");
        let output = Command::new("rpm").args(["--eval", &lua]).output().unwrap();
        let answers: Vec<i32> =
            String::from_utf8(output.stdout).unwrap().split_whitespace().map(|n| n.parse().unwrap()).collect();
        assert_eq!(answers.len(), pairs.len());
        for ((left, right), answer) in pairs.iter().zip(answers) {
            assert_eq!(rpm_segments_cmp(left, right), answer.cmp(&0), "{left} with {right}");
        }
    }
}

fn any_version() -> impl Strategy<Value = RpmVersion> {
    ("([01]:)?[0-1ab.~^]{1,5}(-[0-1a.~^]{1,3})?").prop_map(|text| version(&text))
}

proptest! {
    #[test]
    fn the_order_is_total(a in any_version(), b in any_version(), c in any_version()) {
        prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
        prop_assert_eq!(a.cmp(&a), Ordering::Equal);
        if a <= b && b <= c {
            prop_assert!(a <= c);
        }
        if a == b {
            prop_assert_eq!(a.cmp(&c), b.cmp(&c));
        }
    }

    #[test]
    fn any_text_is_a_version_or_a_typed_error(text in "\\PC{0,20}") {
        if let Ok(version) = text.parse::<RpmVersion>() {
            prop_assert_eq!(version.to_string().parse::<RpmVersion>().unwrap(), version);
        }
        let _ = rpm_segments_cmp(&text, "1.0");
    }
}
