//! The order of Debian versions: by apt's own test pairs, by dpkg itself, and by the laws of an order.

use std::cmp::Ordering;
use std::path::PathBuf;
use std::process::Command;

use patchloom_domain::{DebVersion, VersionFault};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

fn version(text: &str) -> DebVersion {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The shared test data: PATCHLOOM_DATA, or `../shared/data` beside the project; `None`, with a word, where it is not.
fn data(file: &str) -> Option<String> {
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"));
    let base = std::env::var_os("PATCHLOOM_DATA").map_or(beside, PathBuf::from);
    let text = std::fs::read_to_string(base.join(file)).ok();
    if text.is_none() {
        println!("skipped: no test data (set PATCHLOOM_DATA to the directory that has {file})");
    }
    text
}

#[test]
fn known_pairs_are_ordered_as_apt_orders_them() {
    let Some(text) = data("versions/deb-apt-compare.tsv") else { return };
    let mut pairs = 0;
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let fields: Vec<&str> = line.split('\t').collect();
        let expected = fields[1].parse::<i32>().unwrap().cmp(&0);
        assert_eq!(version(fields[0]).cmp(&version(fields[2])), expected, "{line}");
        assert_eq!(version(fields[2]).cmp(&version(fields[0])), expected.reverse(), "{line}, swapped");
        pairs += 1;
    }
    assert!(pairs >= 60, "{pairs}");
}

#[test]
fn a_tilde_sorts_before_the_end_and_letters_before_signs() {
    let ascending =
        ["1~~", "1~~a", "1~", "1", "1a", "1+", "1+b1", "1.0~rc1-1", "1.0", "1.0-1~deb12u1", "1.0-1", "1.0.1", "1:0"];
    for (at, low) in ascending.iter().enumerate() {
        for high in &ascending[at + 1..] {
            assert!(version(low) < version(high), "{low} < {high}");
        }
    }
}

#[test]
fn parts_are_split_at_the_first_colon_and_the_last_hyphen() {
    let full = version("1:2.3-4-5");
    assert_eq!((full.epoch(), full.upstream(), full.revision()), (1, "2.3-4", "5"));
    let native = version("20230311");
    assert_eq!((native.epoch(), native.upstream(), native.revision()), (0, "20230311", ""));
}

#[test]
fn a_rebuild_mark_is_taken_off_and_nothing_else() {
    for (given, expected) in [
        ("5.2.15-2+b13", "5.2.15-2"),
        ("1.0+b1", "1.0"),
        ("1.0-1+deb12u2", "1.0-1+deb12u2"),
        ("1.0-1+b", "1.0-1+b"),
        ("1.0-1+beta1", "1.0-1+beta1"),
    ] {
        assert_eq!(version(given).without_rebuild().as_str(), expected);
    }
}

#[test]
fn what_is_no_version_is_refused_with_its_reason() {
    use VersionFault as F;
    for (given, at, fault) in [
        ("  ", 0, F::Empty),
        ("1 0", 1, F::Character(' ')),
        ("a:1", 0, F::Epoch),
        (":1", 0, F::Epoch),
        ("2147483648:1", 0, F::Epoch),
        ("1:", 2, F::NoVersion),
        ("1:-1", 2, F::NoVersion),
        ("1.0-", 3, F::NoRevision),
        ("1.0(2)", 3, F::Character('(')),
        ("1:1.0-1_2", 7, F::Character('_')),
    ] {
        let error = given.parse::<DebVersion>().unwrap_err();
        assert_eq!((error.at, &error.fault), (at, &fault), "{given}: {error}");
    }
    let told = "1:1.0-1_2".parse::<DebVersion>().unwrap_err().to_string();
    assert_eq!(told, "'1:1.0-1_2' is no deb version: at character 8, '_' is not allowed");
    assert!("2147483647:1".parse::<DebVersion>().is_ok());
}

#[test]
fn dpkg_itself_agrees() {
    let texts = [
        "1.0",
        "1.0-0",
        "0:1.0",
        "1.0~rc1-1",
        "1.0-1~deb12u1",
        "1.0-1+deb12u1",
        "1.0-1+b1",
        "2a",
        "21",
        "1.10",
        "1.9",
        "1:0.1",
        "1.0+dfsg-1",
        "1.0.dfsg-1",
        "007",
        "7",
        "1.0~~",
        "1.0~",
        "99999999999999999999999",
        "1-1-1",
    ];
    if Command::new("dpkg").arg("--version").output().is_err() {
        println!("skipped: no dpkg on this machine");
        return;
    }
    for left in texts {
        for right in texts {
            let asked = ["--compare-versions", left, "lt", right];
            let less = Command::new("dpkg").args(asked).status().unwrap().success();
            assert_eq!(version(left) < version(right), less, "{left} < {right}");
        }
    }
}

#[test]
fn dpkg_itself_agrees_on_generated_pairs() {
    if Command::new("dpkg").arg("--version").output().is_err() {
        println!("skipped: no dpkg on this machine");
        return;
    }
    let mut runner = TestRunner::deterministic();
    let mut draw = || any_version().new_tree(&mut runner).unwrap().current();
    for _ in 0..400 {
        let (left, right) = (draw(), draw());
        let word = match left.cmp(&right) {
            Ordering::Less => "lt",
            Ordering::Equal => "eq",
            Ordering::Greater => "gt",
        };
        let asked = ["--compare-versions", left.as_str(), word, right.as_str()];
        assert!(Command::new("dpkg").args(asked).status().unwrap().success(), "{left} {word} {right}");
    }
}

fn any_version() -> impl Strategy<Value = DebVersion> {
    // A small alphabet, so that equal beginnings and equal versions come up often.
    ("([01]:)?[0-2][ab.+~0-2]{0,5}(-[ab.+~0-2]{1,3})?").prop_map(|text| version(&text))
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
        if let Ok(version) = text.parse::<DebVersion>() {
            prop_assert_eq!(version.to_string().parse::<DebVersion>().unwrap(), version);
        }
    }
}
