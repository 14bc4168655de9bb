//! The order of Alpine's versions: by pairs whose order apk documents, and by the laws of an order.

use std::cmp::Ordering;

use patchloom_domain::{ApkVersion, VersionFault, VersionScheme, compare_versions};
use proptest::prelude::*;

fn version(text: &str) -> ApkVersion {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn suffixes_letters_hashes_and_revisions_have_their_places() {
    let ascending = [
        "1.2_alpha",
        "1.2_alpha1",
        "1.2_alpha1-r3",
        "1.2_beta",
        "1.2_pre",
        "1.2_rc",
        "1.2_rc2",
        "1.2_rc10",
        "1.2",
        "1.2-r0",
        "1.2-r1",
        "1.2-r10",
        "1.2~0af",
        "1.2~1234",
        "1.2~1234-r0",
        "1.2_cvs",
        "1.2_svn",
        "1.2_git",
        "1.2_git20240101",
        "1.2_hg",
        "1.2_p",
        "1.2_p1_rc1",
        "1.2_p1",
        "1.2_p10",
        "1.2a",
        "1.2b",
        "1.2.0",
        "1.2.001",
        "1.2.0015",
        "1.2.002",
        "1.2.1",
        "1.2.9",
        "1.2.10",
        "1.3_alpha",
        "1.10",
        "2",
    ];
    for (at, low) in ascending.iter().enumerate() {
        for high in &ascending[at + 1..] {
            assert!(version(low) < version(high), "{low} < {high}");
            assert!(version(high) > version(low), "{high} > {low}");
        }
    }
    assert_eq!(version("01.2_p01-r00"), version("1.2_p1-r0"));
    assert!(version("99999999999999999999999") < version("100000000000000000000000"));
}

#[test]
fn what_is_no_version_is_refused_with_its_place_and_reason() {
    use VersionFault as F;
    for (given, at, fault) in [
        ("", 0, F::Empty),
        (".1", 0, F::NoNumber),
        ("a", 0, F::NoNumber),
        ("1.", 2, F::NoNumber),
        ("0.1bc", 4, F::Order('c')),
        ("0.1a1", 4, F::Order('1')),
        ("0.1a.1", 4, F::Order('.')),
        ("0.1_foobar1", 3, F::Suffix("foobar".to_owned())),
        ("0.1_", 3, F::Suffix(String::new())),
        ("0.1__alpha", 3, F::Suffix(String::new())),
        ("0.1_pre2~", 9, F::NoHash),
        ("0.1~12xb", 6, F::Order('x')),
        ("0.1~12_pre1", 6, F::Order('_')),
        ("0.1-r2~12", 6, F::Order('~')),
        ("0.1-pre1", 3, F::Order('-')),
        ("0.1-r", 5, F::NoNumber),
        ("0.1-r2-r3", 6, F::Order('-')),
        ("1.0+1", 3, F::Character('+')),
        ("1:1.0", 1, F::Character(':')),
    ] {
        let error = given.parse::<ApkVersion>().unwrap_err();
        assert_eq!((error.at, &error.fault), (at, &fault), "{given}: {error}");
    }
}

#[test]
fn the_part_that_decides_is_named() {
    for (left, right, why) in [
        ("1.2_rc1", "1.2", "suffix _rc against the end decides"),
        ("1.2-r1", "1.2-r2", "revision r1 against revision r2 decides"),
        ("1.2", "1.2", "no part differs"),
    ] {
        assert_eq!(compare_versions(VersionScheme::Apk, left, right).unwrap().why, why);
    }
}

fn any_version() -> impl Strategy<Value = ApkVersion> {
    ("[0-2]{1,2}(\\.0?[0-2]{1,2}){0,2}[ab]?(_(alpha|beta|rc|p|git)[01]?){0,2}(~[ab])?(-r[0-2])?")
        .prop_map(|text| version(&text))
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
        if let Ok(version) = text.parse::<ApkVersion>() {
            prop_assert_eq!(version.to_string().parse::<ApkVersion>().unwrap(), version);
        }
    }
}
