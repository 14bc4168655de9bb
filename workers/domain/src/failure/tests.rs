//! The rules by themselves: each can be found, means something, and says what to do.

use std::collections::BTreeSet;

use super::pattern::{anchor, matches};
use super::rules::{Rule, meaning, remarks, tables};
use super::{Action, Manager, causes};

const MANAGERS: [Manager; 6] =
    [Manager::Apt, Manager::Dpkg, Manager::Dnf, Manager::Zypper, Manager::WindowsUpdate, Manager::Msi];

fn rules() -> Vec<(Manager, &'static Rule)> {
    let of = |manager: Manager| tables(manager).iter().flat_map(|table| table.iter()).map(move |rule| (manager, rule));
    MANAGERS.into_iter().flat_map(of).collect()
}

/// A pattern with something in each hole.
fn sample(pattern: &str) -> String {
    let bare = pattern.trim_start_matches('^').trim_end_matches('$');
    let mut parts = bare.split('{');
    let mut text = parts.next().unwrap().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('}').unwrap();
        text.push_str(if name == "name-version" { "jq-1" } else { "17" });
        text.push_str(rest);
    }
    if text.ends_with(' ') { format!("{text}17") } else { text }
}

#[test]
fn every_pattern_fits_the_message_it_was_made_from() {
    for (manager, rule) in rules() {
        let text = sample(rule.pattern);
        assert!(matches(rule.pattern, text.trim()).is_some(), "{manager:?} {}: {text}", rule.name);
        assert!(anchor(rule.pattern).len() >= 4, "{}: its fixed words are too short to be found by", rule.name);
        assert!(text.contains(anchor(rule.pattern)), "{}: {text}", rule.name);
        assert!(rule.unless.is_empty() || !rule.unless.split('|').any(|words| text.contains(words)), "{}", rule.name);
    }
    for remark in MANAGERS.into_iter().flat_map(remarks) {
        assert!(matches(remark.pattern, sample(remark.pattern).trim()).is_some(), "{}", remark.pattern);
    }
}

#[test]
fn no_two_rules_of_a_package_manager_have_the_same_words() {
    for manager in MANAGERS {
        let mut seen = BTreeSet::new();
        for rule in tables(manager).iter().flat_map(|table| table.iter()) {
            assert!(seen.insert(rule.pattern), "{manager:?}: {}", rule.pattern);
        }
    }
}

#[test]
fn every_cause_is_met_by_a_rule_or_an_exit_code_and_says_what_to_do() {
    let by_rule = rules().into_iter().map(|(_, rule)| rule.cause.name);
    let codes = (-3000..4000).chain([2_359_301, 2_359_302]).flat_map(|code| MANAGERS.map(|manager| (manager, code)));
    let by_code = codes.map(|(manager, code)| format!("{:?}", meaning(manager, Some(code))));
    let by_code: BTreeSet<String> = by_code.collect();
    let by_rule: BTreeSet<&str> = by_rule.collect();
    let mut names = BTreeSet::new();
    for cause in causes() {
        let coded = by_code.iter().any(|meaning| meaning.contains(&format!("name: \"{}\"", cause.name)));
        assert!(by_rule.contains(cause.name) || coded || cause.name == "unknown", "nothing means {}", cause.name);
        assert!(names.insert(cause.name), "{} twice", cause.name);
        assert!(cause.says.ends_with('.') && cause.advice.ends_with('.'), "{}", cause.name);
        assert!(cause.action != Action::None || !cause.transient, "{}", cause.name);
    }
}

#[test]
fn the_manual_lists_every_class_and_cause() {
    let manual = include_str!("../../../../docs/failures.md");
    for cause in causes() {
        let row = format!("| `{}` | {} |", cause.name, cause.kind);
        assert!(manual.contains(&row), "docs/failures.md lacks the row that begins with: {row}");
        assert!(
            manual.contains(cause.advice),
            "docs/failures.md says other things than the cause {}: {}",
            cause.name,
            cause.advice
        );
    }
}
