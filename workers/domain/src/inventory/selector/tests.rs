//! The language of selectors on one host.

use proptest::prelude::*;

use super::*;
use crate::{Criticality, HostOs, SshTarget};

fn host() -> Host {
    let ssh = SshTarget { host: "web-1".into(), port: None, user: None, jump: Vec::new() };
    Host {
        id: "web-1".into(),
        target: Target::Ssh(ssh),
        names: vec!["web-1.example.org".into(), "i-0123".into()],
        addresses: vec!["10.1.2.3".into(), "2001:db8::7".into()],
        os: Some(HostOs { id: "debian".into(), version: Some("12".into()), arch: Some("amd64".into()) }),
        environment: Some(Environment::Prod),
        criticality: Criticality::new(4),
        exposed: Some(false),
        owner: Some("Team Web".into()),
        business_unit: None,
        site: Some("hamburg".into()),
        relay: None,
        device_class: None,
        cluster: None,
        snapshot: None,
        tags: [("Patch Group", "Web Prod"), ("Role", "db"), ("group:web", ""), ("Note", "")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
    }
}

#[track_caller]
fn check(selector: &str, expected: bool) {
    let parsed: Selector = selector.parse().unwrap_or_else(|error| panic!("{selector}: {error}"));
    assert_eq!(parsed.matches(&host()), expected, "{selector}");
    assert_eq!(parsed.to_string().parse::<Selector>().unwrap(), parsed, "{selector}");
}

#[test]
fn a_host_is_selected_by_what_it_has() {
    check("", true);
    check("group=web environment=prod site!=berlin tag:Role=db os=debian", true);
    check("group=web environment=prod site!=hamburg", false);
    check("environment=dev,test", false);
    check("environment=dev,prod", true);
    check("patch_group=\"web prod\"", true);
    check("patch_group=web", false);
    check("owner='Team Web'", true);
    check("owner=Team", false);
    check("web-*", true);
    check("web-1.example.org", true);
    check("id=web-1.example.org", false);
    check("name=i-0*", true);
    check("db-1,web-1", true);
    check("criticality>=4", true);
    check("criticality<=3", false);
    check("address=10.0.0.0/8", true);
    check("address=10.1.2.0/30", true);
    check("address=10.1.2.4/30", false);
    check("address=2001:db8::/32", true);
    check("exposed=false via=ssh", true);
    check("tag:Note=", true);
    check("tag:Note=*", true);
    check("tag:Missing=*", false);
    check("tag:Missing!=*", true);
    check("\"tag:Patch Group\"=Web*Prod", true);
    check("has=relay", false);
    check("has=site has=tag:Role", true);
    check("relay!=r1", true);
    check("relay=r1", false);
}

#[test]
fn what_is_wrong_is_told_with_its_column_and_remedy() {
    for (selector, column, fix) in [
        ("os=debian enviroment=prod", 11, "write `environment`"),
        ("os=debian environment=production", 23, "write `prod`"),
        ("environment=prdo", 13, "write `prod`"),
        ("site=", 6, "write a value, or * for any"),
        ("Role=db", 1, "for a tag write `tag:Role`"),
        ("site>=a", 7, "write = with the values that are meant"),
        ("site<a", 5, "write = or !="),
        ("owner=\"a b", 7, "close it"),
        ("site=a,,b", 6, "add it, or remove the comma"),
        ("tag:=x", 1, "write the key behind tag:"),
        ("address=10.0.0.0/64", 9, "mend it"),
    ] {
        let error = selector.parse::<Selector>().unwrap_err();
        assert_eq!((error.column, error.fix.as_str()), (column, fix), "{selector}: {error}");
    }
    assert!("x".repeat(SELECTOR_BYTES_MAX).parse::<Selector>().is_ok());
    assert!("x".repeat(SELECTOR_BYTES_MAX + 1).parse::<Selector>().is_err());
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused_and_what_is_parsed_prints_as_itself(text in "\\PC{0,60}") {
        if let Ok(selector) = text.parse::<Selector>() {
            prop_assert_eq!(selector.to_string().parse::<Selector>().unwrap(), selector);
        }
    }

    #[test]
    fn a_value_with_any_characters_can_be_asked_for(value in "[a-zA-Z \"',=!*]{1,20}") {
        let selector = Selector { terms: vec![Term { key: Key::Tag("Any".into()), operator: Operator::Is, values: vec![value.clone()] }] };
        let mut host = host();
        host.tags.insert("Any".into(), value);
        prop_assert!(selector.to_string().parse::<Selector>().unwrap().matches(&host), "{}", selector);
    }
}
