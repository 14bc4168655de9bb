//! Policies, their conflicts, and recording that changes nothing the second time.

use proptest::prelude::*;

use super::super::{Names, Source, Text, Texts, check_policy, merge, read, read_policy};
use super::*;

#[track_caller]
fn hosts(text: &str) -> Vec<Host> {
    let mut mistakes = Mistakes::default();
    let texts = Texts { main: vec![Text { name: "hosts.yaml".into(), text: text.into() }], beside: Vec::new() };
    let sources: Vec<Source> = read(&texts, &Names::default(), &mut mistakes);
    let merged = merge(&sources, &mut mistakes);
    assert!(mistakes.passable(), "{:#?}", mistakes.list());
    merged.hosts
}

fn policy(text: &str) -> (Policy, Mistakes) {
    let mut mistakes = Mistakes::default();
    let policy = read_policy(&[Text { name: "policy.yaml".into(), text: text.into() }], &mut mistakes);
    (policy, mistakes)
}

/// The conflicts between a policy and hosts: place and message.
#[track_caller]
fn conflicts(rules: &str, list: &str, expected: &[(&str, &str)]) {
    let (policy, mut mistakes) = policy(rules);
    check_policy(&policy, &hosts(list), &["engine-night".to_owned()], &mut mistakes);
    mistakes.sort();
    let found: Vec<_> = mistakes.list().iter().map(|m| (m.at.as_str(), m.message.as_str())).collect();
    assert_eq!(found, expected, "{rules}\n{list}");
}

const POLICY: &str = "\
groups:
  web:
    baselines: {debian: deb-std, RHEL: rh-std}
    window: night
    owners: [team-web]
    notify: [web@example.com]
calendars:
  night: {cron: 0 22 ? * TUE#2, timezone: Europe/Berlin, duration: 4h}
";

#[test]
fn a_policy_without_contradictions_has_none() {
    conflicts(POLICY, "hosts: [{id: a, os: debian, tags: {Patch Group: web, Maintenance Window: engine-night}}]", &[]);
    conflicts(POLICY, "hosts: [{id: a, os: rhel, tags: {PatchGroup: web}}]", &[]);
}

#[test]
fn contradictions_between_groups_and_hosts_are_found() {
    let web = "hosts: [{id: a, os: debian, tags: {Patch Group: web}}, ";
    conflicts(
        &POLICY.replace("deb-std", "[deb-std, deb-new]"),
        &format!("{web}]"),
        &[(
            "policy.yaml:2",
            "the group web has 2 baselines for DEBIAN: deb-std (policy.yaml:3), deb-new (policy.yaml:3)",
        )],
    );
    conflicts(
        POLICY,
        &format!("{web}{{id: u, os: ubuntu, tags: {{Patch Group: web}}}}]"),
        &[("policy.yaml:2", "the group web has no baseline for UBUNTU, which u run")],
    );
    conflicts(POLICY, "hosts: [{id: a, os: debian}]", &[("policy.yaml:2", "no host is in the group web")]);
    conflicts(
        POLICY,
        &format!("{web}{{id: b, os: debian, tags: {{Patch Group: web, PatchGroup: db}}}}]"),
        &[("host b", "b has the tags Patch Group=web and PatchGroup=db")],
    );
    conflicts(
        POLICY,
        &format!("{web}{{id: b, os: debian, tags: {{Patch Group: 'We b'}}}}]"),
        &[
            ("group We b", "no policy knows the group We b, in which b are"),
            ("policy.yaml:2", "the groups `We b` and `web` differ by case or spaces only"),
        ],
    );
    conflicts(
        &POLICY.replace("window: night", "window: nihgt"),
        &format!("{web}]"),
        &[("policy.yaml:4", "the window `nihgt` of the group web is not there")],
    );
    conflicts(
        POLICY,
        &format!("{web}{{id: b, tags: {{MaintenanceWindow: moon}}}}]"),
        &[("host b", "the window `moon` that b are tagged with is not there")],
    );
    conflicts(
        POLICY,
        &format!("{web}{{id: b, tags: {{Patch Group: web}}}}]"),
        &[("policy.yaml:2", "nobody knows which baseline of the group web is for b")],
    );
}

#[test]
fn mistakes_in_policies_are_told_with_their_lines() {
    let (_, mistakes) = policy("groups:\n  web:\n    baseline: x\n    baselines: {debain: y}\n  web: {}\n");
    let found: Vec<_> = mistakes.list().iter().map(|m| (m.code, m.at.as_str(), m.fix.as_str())).collect();
    assert_eq!(
        found,
        [
            ("E0811", "policy.yaml:5", "remove or rename one"),
            ("E0812", "policy.yaml:3", "write `baselines`"),
            ("E0814", "policy.yaml:4", "write `debian`"),
        ]
    );
}

#[test]
fn genuine_patch_groups_of_systems_manager_are_a_policy() {
    let root = std::env::var("PATCHLOOM_DATA")
        .unwrap_or_else(|_| format!("{}/../../../shared/data", env!("CARGO_MANIFEST_DIR")));
    let Ok(text) = std::fs::read_to_string(format!("{root}/aws/ssm-describe-patch-groups-1.json")) else {
        println!("skipped: PATCHLOOM_DATA has no aws/ssm-describe-patch-groups-1.json");
        return;
    };
    let (policy, mistakes) = policy(&text);
    assert!(mistakes.list().is_empty(), "{mistakes:#?}");
    let groups = Inventory::desired(Vec::new(), &policy).groups;
    let told: Vec<_> = groups.iter().map(|group| (group.name.as_str(), group.baselines["WINDOWS"].as_str())).collect();
    assert_eq!(told, [("Development", "pb-0713accee01234567"), ("Production", "pb-0123456789abcdef0")]);
}

#[test]
fn differences_are_told_field_by_field() {
    let (policy, _) = policy(POLICY);
    let before =
        Inventory::desired(hosts("hosts: [{id: a, site: x, tags: {Patch Group: web, Role: db}}, {id: gone}]"), &policy);
    let now = Inventory::desired(
        hosts("hosts: [{id: a, site: y, criticality: 3, tags: {Patch Group: dmz}}, {id: new}]"),
        &policy,
    );
    let diff = diff_inventories(&before, &now);
    let line = |row: &Difference| {
        let fields: Vec<String> = row.fields.iter().map(|f| format!("{}: {} -> {}", f.field, f.was, f.now)).collect();
        format!("{} {:?} {}", row.name, row.what, fields.join("; "))
    };
    let told: Vec<String> = [&diff.hosts, &diff.groups, &diff.schedules].into_iter().flatten().map(line).collect();
    assert_eq!(
        told,
        [
            r#"a Updated criticality: null -> 3; site: "x" -> "y"; tags.Patch Group: "web" -> "dmz"; tags.Role: "db" -> null"#,
            "gone Gone ",
            "new Created ",
            "dmz Created ",
            r#"web Emptied hosts: ["a"] -> []"#,
            "night Gone ",
        ]
    );
    assert_eq!(diff.hosts_gone(), 1);
}

#[test]
fn a_host_that_gets_another_name_keeps_its_id() {
    let recorded = hosts("hosts: [{id: i-1, names: web-1, addresses: 10.0.0.1}, {id: b}]");
    let mut now = hosts("hosts: [{id: web-1, addresses: 10.0.0.1, names: i-1}, {id: b}]");
    let mut mistakes = Mistakes::default();
    keep_ids(&recorded, &mut now, &mut mistakes);
    assert_eq!(now.iter().map(|host| host.id.as_str()).collect::<Vec<_>>(), ["b", "i-1"]);
    assert_eq!(now[1].names, ["web-1"]);
    assert_eq!(mistakes.list().len(), 1);
}

proptest! {
    #[test]
    fn recording_the_same_again_changes_nothing(numbers in proptest::collection::btree_map(0u16..200, (0u8..4, 0u8..3), 0..40)) {
        let text: String = numbers.iter().map(|(n, (group, window))| format!("- {{id: h{n}, os: debian, tags: {{Patch Group: g{group}, Maintenance Window: w{window}}}}}\n")).collect();
        let text = if text.is_empty() { "hosts: []\n".to_owned() } else { format!("hosts:\n{text}") };
        let (policy, _) = policy("groups: {g0: {window: w0}, g9: {}}\ncalendars: {w0: {}}\n");
        let desired = |recorded: &Inventory| {
            let mut hosts = hosts(&text);
            keep_ids(&recorded.hosts, &mut hosts, &mut Mistakes::default());
            Inventory::desired(hosts, &policy)
        };
        let first = desired(&Inventory::default());
        let second = desired(&first);
        prop_assert!(diff_inventories(&first, &second).is_empty());
        prop_assert_eq!(first.digest(), second.digest());
        let read: Inventory = serde_json::from_str(&serde_json::to_string(&first).unwrap()).unwrap();
        prop_assert_eq!(read, first);
    }
}
