//! Cases of planning, one by one.

use patchloom_domain::inventory::{GroupRule, GroupRules};
use patchloom_domain::*;

use super::fleet::{Fleet, HOUR, MINUTE, empty, host, nights, patch};

fn wave_of<'a>(plan: &'a CampaignPlan, host: &str) -> &'a str {
    let slot = plan.slot(host).unwrap_or_else(|| panic!("{host} is not planned"));
    &plan.waves()[slot.wave as usize].name
}

#[test]
fn canary_pilot_and_broad_have_the_sizes_that_were_asked_for() {
    let plan = Fleet::grown(100, 200, 700).plan();
    let waves: Vec<(&str, u32)> = plan.waves().iter().map(|wave| (wave.name.as_str(), wave.hosts)).collect();
    assert_eq!(
        waves,
        [
            ("canary", 10),
            ("pilot-dev", 84),
            // Nodes whose cluster has one in the wave before: the last of dev, one after another.
            ("pilot-dev-2", 6),
            ("pilot-test", 10),
            ("broad-test", 190),
            ("broad-prod", 700),
        ]
    );
}

#[test]
fn each_look_that_several_hosts_have_sends_a_canary_even_beyond_the_size() {
    let mut fleet = Fleet::grown(10, 0, 0);
    for nth in 0..6 {
        let mut odd = host(&format!("odd-{nth}"), Some(Environment::Prod), Some(if nth == 3 { 4 } else { 5 }));
        odd.os = Some(HostOs { id: "rhel".to_owned(), version: Some("9.4".to_owned()), arch: None });
        fleet.add(odd);
    }
    fleet.add({
        let mut alone = host("alone", Some(Environment::Prod), Some(1));
        alone.device_class = Some("appliance".to_owned());
        alone
    });
    let plan = fleet.plan();
    assert_eq!(wave_of(&plan, "odd-3"), "canary", "the least critical of its look");
    assert_eq!(wave_of(&plan, "alone"), "broad-prod", "nobody learns from a canary that is like no other");
    assert_eq!(plan.waves()[0].hosts, 5, "four sites, and the odd ones");
    assert!(plan.notes().iter().any(|note| note.contains("5 hosts where 1 were asked for")), "{:?}", plan.notes());
    assert!(plan.slot("odd-3").unwrap().why.contains("the least critical of 6 hosts alike: rhel 9.4"));
}

#[test]
fn what_is_not_said_of_a_host_is_taken_for_production_of_middling_weight() {
    let mut fleet = empty();
    fleet.settings.waves.truncate(1);
    fleet.add(host("unknown", None, None));
    fleet.add(host("dev", Some(Environment::Dev), Some(5)));
    let plan = fleet.plan();
    let order: Vec<&str> = plan.slots().iter().map(|slot| slot.host.as_str()).collect();
    assert_eq!(order, ["dev", "unknown"]);
    assert!(plan.slots()[1].why.starts_with("prod, criticality 3"));
}

#[test]
fn a_window_that_is_full_sends_the_rest_to_the_next_one() {
    let mut fleet = Fleet::grown(0, 0, 200);
    fleet.settings.waves =
        vec![WaveRule { name: "all".to_owned(), size: WaveSize::BasisPoints(10_000), soak_ms: 0, failures: None }];
    fleet.settings.limits.max_parallel = 1;
    fleet.windows.insert("night".to_owned(), nights(30, 1, 0));
    let plan = fleet.plan();
    assert_eq!(plan.slots().len(), 200);
    let nights: Vec<u64> = plan.slots().iter().map(|slot| slot.occurrence.open.0 / (24 * HOUR)).collect();
    assert!(nights.is_sorted() && *nights.last().unwrap() > 0, "{nights:?}");
    let last = plan.slots().last().unwrap();
    assert!(last.why.ends_with("; the windows before had no room for it"), "{}", last.why);
    // The reserve stands at the end of each window, once.
    let first = plan.slots().iter().filter(|slot| slot.occurrence.open.0 < 24 * HOUR).count() as u64;
    let mean = plan.slots()[0].estimate.mean_ms;
    let need = plan.slots()[0].latest_end.since(plan.slots()[0].start);
    assert_eq!(first, (HOUR - need) / mean + 1, "as many as fit");
}

#[test]
fn a_deadline_before_the_window_names_the_cheapest_repair() {
    let mut fleet = empty();
    fleet.settings.waves.truncate(1);
    fleet.add(host("late", Some(Environment::Prod), Some(3)));
    fleet.add(host("soon", Some(Environment::Prod), Some(3)));
    fleet.found[0].deadline = Some(Moment(20 * 3600));
    fleet.found[1].deadline = Some(Moment(25 * 3600));
    let plan = fleet.plan();
    assert_eq!(plan.slots().len(), 1, "22:00 is before 01:00");
    assert_eq!(plan.left_out()[0].reason, LeftOutReason::NoWindowBeforeDeadline);
    let repair = &plan.repairs()[0];
    assert_eq!((repair.minutes, repair.opens_by), (Some(20), Some(Instant(20 * HOUR - 20 * MINUTE))));
    assert_eq!(repair.advice, "open 'night' for 20 more minutes, at 1970-01-01T19:40:00Z at the latest");

    fleet.found[0].deadline = Some(Moment(600));
    let plan = fleet.plan();
    assert!(plan.repairs()[0].advice.contains("raise an emergency change"), "{:?}", plan.repairs());
    assert_eq!(plan.repairs()[0].minutes, None);
}

#[test]
fn every_reason_to_leave_out_a_host_or_a_patch_is_told() {
    let mut fleet = empty();
    ["plain", "unscanned", "clean", "held", "broken", "no-way-back", "windowless", "torn", "astray"]
        .iter()
        .for_each(|name| fleet.add(host(name, Some(Environment::Dev), Some(1))));
    let mut of = |name: &str, change: fn(&mut Found)| {
        change(fleet.found.iter_mut().find(|found| found.host == name).unwrap());
    };
    of("clean", |found| found.patches.clear());
    of("held", |found| found.patches = vec![patch("nginx", "1.22-9")]);
    of("broken", |found| found.not_patchable = Some("dpkg is broken".to_owned()));
    of("no-way-back", |found| found.no_undo = Some("the old packages are gone".to_owned()));
    fleet.found.retain(|found| found.host != "unscanned");
    fleet.found.push(super::fleet::found("stranger", vec![patch("bash", "2")]));
    fleet.window_of.remove("windowless");
    fleet.window_of.insert("astray".to_owned(), "nowhere".to_owned());
    fleet.conflicts.insert("torn".to_owned(), "its patch groups give it 2 windows".to_owned());
    let hold = |version: &str| VersionHold {
        package: "nginx".to_owned(),
        version: Some(version.to_owned()),
        why: "rolled back on web-3".to_owned(),
    };
    fleet.holds = vec![hold("1.22-9")];
    let plan = fleet.plan();
    let left: Vec<(&str, LeftOutReason)> =
        plan.left_out().iter().map(|left| (left.host.as_str(), left.reason)).collect();
    assert_eq!(
        left,
        [
            ("astray", LeftOutReason::NoWindow),
            ("broken", LeftOutReason::NotPatchable),
            ("clean", LeftOutReason::NothingMissing),
            ("held", LeftOutReason::NothingApproved),
            ("no-way-back", LeftOutReason::NoUndo),
            ("stranger", LeftOutReason::NotInInventory),
            ("torn", LeftOutReason::Conflict),
            ("unscanned", LeftOutReason::NotScanned),
            ("windowless", LeftOutReason::NoWindow),
        ]
    );
    assert_eq!(plan.left_out()[0].why, "its window 'nowhere' is in no calendar that is known");
    let withheld = &plan.withheld()[0];
    assert_eq!((withheld.reason, withheld.why.as_str()), (WithheldReason::HeldVersion, "rolled back on web-3"));
    assert_eq!((withheld.hosts, withheld.first.as_str()), (1, "held"));
    fleet.holds = vec![hold("1.22-8")];
    assert!(fleet.plan().slot("held").is_some(), "another version is not held");
}

#[test]
fn baselines_decide_by_system_and_patch_group() {
    let baseline = |name: &str, groups: &str, days: u32| {
        let text = format!(
            r#"{{"Name":"{name}","OperatingSystem":"DEBIAN","PatchGroups":[{groups}],"RejectedPatches":["bash"],
            "ApprovalRules":{{"PatchRules":[{{"PatchFilterGroup":{{"PatchFilters":[]}},"ApproveAfterDays":{days}}}]}}}}"#
        );
        Baseline::read(&text).unwrap()
    };
    let mut fleet = empty();
    fleet.baselines = vec![baseline("late", r#""slow""#, 7), baseline("now", "", 0)];
    let mut slow = host("slow", Some(Environment::Dev), Some(1));
    slow.tags.insert("Patch Group".to_owned(), "slow".to_owned());
    fleet.add(slow);
    fleet.add(host("quick", Some(Environment::Dev), Some(1)));
    let mut other = host("other", Some(Environment::Dev), Some(1));
    other.os = Some(HostOs { id: "plan9".to_owned(), version: None, arch: None });
    fleet.add(other);
    for found in &mut fleet.found {
        found.patches[0].first_seen = Some(Moment(0));
        found.patches.push(patch("bash", "5.2-9"));
    }
    fleet.settings.now = Instant(6 * 24 * HOUR);
    let plan = fleet.plan();
    let planned: Vec<&str> = plan.slots().iter().map(|slot| slot.host.as_str()).collect();
    assert_eq!(planned, ["quick"]);
    assert_eq!(plan.plan().host("quick").unwrap().changes.len(), 1, "bash is rejected");
    let reasons: Vec<WithheldReason> = plan.withheld().iter().map(|one| one.reason).collect();
    for reason in [WithheldReason::Pending, WithheldReason::Rejected, WithheldReason::NoBaseline] {
        assert!(reasons.contains(&reason), "{reasons:?}");
    }
    fleet.settings.now = Instant(7 * 24 * HOUR);
    assert!(fleet.plan().slot("slow").is_some(), "seven days are over");
}

#[test]
fn a_host_whose_baseline_two_could_be_is_left_out_and_the_policy_of_its_group_decides() {
    let baseline = |name: &str, groups: &str| {
        let text = format!(
            r#"{{"Name":"{name}","BaselineId":"pb-{name}","OperatingSystem":"DEBIAN","PatchGroups":[{groups}],
            "ApprovalRules":{{"PatchRules":[{{"PatchFilterGroup":{{"PatchFilters":[]}},"ApproveAfterDays":0}}]}}}}"#
        );
        Baseline::read(&text).unwrap()
    };
    let mut fleet = empty();
    let mut web = host("web", Some(Environment::Dev), Some(1));
    web.tags.insert("Patch Group".to_owned(), "Web".to_owned());
    fleet.add(web.clone());
    let rule = |name: &str| GroupRule {
        baselines: [("DEBIAN".to_owned(), [name.to_owned()].into())].into(),
        ..GroupRule::default()
    };
    let rules = |name: &str| GroupRules::from_iter([("Web".to_owned(), rule(name))]);
    let rows = [
        (vec![baseline("a", r#""Web""#), baseline("b", "")], GroupRules::default(), Ok("a")),
        (vec![baseline("a", ""), baseline("b", "")], GroupRules::default(), Err("2 baselines are for")),
        (vec![baseline("a", r#""Web""#), baseline("b", r#""Web""#)], GroupRules::default(), Err("a, b; leave one")),
        (vec![baseline("a", ""), baseline("b", "")], rules("b"), Ok("b")),
        (vec![baseline("a", ""), baseline("b", "")], rules("pb-a"), Ok("a")),
        (vec![baseline("a", r#""Web""#), baseline("b", "")], rules("b"), Err("b, a; leave one")),
        (vec![baseline("a", "")], rules("c"), Err("the baseline 'c', which was not given")),
        (Vec::new(), rules("c"), Err("the baseline 'c', which was not given")),
    ];
    for (baselines, groups, expected) in rows {
        (fleet.baselines, fleet.groups) = (baselines, groups);
        let plan = fleet.plan();
        let told = plan.left_out().first().map(|left| (left.reason, left.why.as_str()));
        match expected {
            Ok(name) => {
                let chosen = baseline_of(&web, &fleet.baselines, &fleet.groups).unwrap().unwrap();
                assert_eq!((chosen.name.as_str(), told), (name, None));
            }
            Err(part) => {
                let (reason, why) = told.unwrap();
                assert!(reason == LeftOutReason::Conflict && why.contains(part), "{why}");
            }
        }
    }
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let mut fleet = Fleet::grown(2, 0, 0);
    let refused = |fleet: &Fleet, part: &str| {
        let input = PlanInput {
            hosts: &fleet.hosts,
            found: &fleet.found,
            baselines: &[],
            groups: &fleet.groups,
            conflicts: &fleet.conflicts,
            holds: &[],
            windows: &fleet.windows,
            window_of: &fleet.window_of,
            needs: &fleet.needs,
            durations: &fleet.durations,
            rates: &fleet.rates,
        };
        let error = plan_campaign(input, &fleet.settings).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    fleet.settings.limits.max_parallel = 0;
    refused(&fleet, "max_parallel is 0");
    fleet.settings.limits.max_parallel = 1;
    fleet.settings.waves[1].name = "canary".to_owned();
    refused(&fleet, "two waves have the same name");
    fleet.settings.waves.clear();
    refused(&fleet, "1 to 100");
    fleet.settings.waves = WaveRule::usual();
    fleet.found.push(fleet.found[0].clone());
    refused(&fleet, "'dev-00000' was found twice");
}

#[test]
fn a_document_that_was_touched_is_refused() {
    let plan = Fleet::grown(3, 0, 0).plan();
    let text = serde_json::to_string(&plan).unwrap();
    let touched = text.replacen("\"wave\":0", "\"wave\":1", 1);
    assert_ne!(text, touched);
    assert!(serde_json::from_str::<CampaignPlan>(&touched).unwrap_err().to_string().contains("its content is sha256:"));
    let other = text.replacen("campaign-plan/1", "campaign-plan/9", 1);
    assert!(serde_json::from_str::<CampaignPlan>(&other).unwrap_err().to_string().contains("campaign-plan/9"));
}
