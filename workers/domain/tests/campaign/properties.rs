//! What holds for every plan, whatever the fleet.

use std::collections::{BTreeMap, BTreeSet};

use patchloom_domain::*;
use proptest::prelude::*;

use super::fleet::{Fleet, HOUR, MINUTE, empty, found, host, nights, patch};

type Row = (u8, Option<u8>, u8, u8, u8, u8, u8, u8);

fn fleet() -> impl Strategy<Value = Fleet> {
    let row = (0..4_u8, proptest::option::of(1..=5_u8), 0..3_u8, 0..3_u8, 0..6_u8, 0..10_u8, 0..12_u8, 0..8_u8);
    let limits = (1..8_u32, proptest::option::of(1..4_u32), proptest::option::of(1..4_u32));
    let waves = (1..4_usize, 1..5_000_u32, 0..120_u64);
    (proptest::collection::vec(row, 0..80), limits, waves, (1..6_u64, 0..2_u64), any::<bool>()).prop_map(
        |(rows, limits, waves, (hours, cutoff), strict)| {
            let mut fleet = empty();
            fleet.windows.insert("night".to_owned(), nights(6, hours, cutoff.min(hours - 1)));
            fleet.windows.insert("weekend".to_owned(), nights(2, 2, 0));
            fleet.settings.limits = Limits { max_parallel: limits.0, per_relay: limits.1, per_site: limits.2 };
            fleet.settings.cutoff = if strict { CutoffRule::End } else { CutoffRule::Start };
            fleet.settings.waves = (0..waves.0)
                .map(|nth| WaveRule {
                    name: format!("w{nth}"),
                    size: WaveSize::BasisPoints(waves.1),
                    soak_ms: waves.2 * MINUTE,
                    failures: None,
                })
                .collect();
            rows.into_iter().enumerate().for_each(|(nth, row)| add(&mut fleet, nth, row));
            fleet
        },
    )
}

fn add(fleet: &mut Fleet, nth: usize, row: Row) {
    let (environment, level, site, relay, cluster, count, special, deadline) = row;
    let environment =
        [Some(Environment::Dev), Some(Environment::Test), Some(Environment::Prod), None][usize::from(environment)];
    let mut one = host(&format!("h{nth}"), environment, level);
    one.site = (site > 0).then(|| format!("s{site}"));
    one.relay = (relay > 0).then(|| format!("r{relay}"));
    one.cluster = (cluster > 2).then(|| format!("c{cluster}"));
    let names = ["openssl", "linux-image-6.1.0-40-amd64", "curl", "bash", "tzdata"];
    let patches = (0..count).map(|at| patch(&format!("{}{}", names[usize::from(at) % 5], at / 5), "2.0-1")).collect();
    let mut seen = found(&one.id, patches);
    match special {
        0 => seen.no_undo = Some("no room for a snapshot".to_owned()),
        1 => seen.not_patchable = Some("out of support".to_owned()),
        2 => seen.deadline = Some(Moment(i64::from(deadline) * 43_200)),
        _ => {}
    }
    if special != 3 {
        fleet.window_of.insert(one.id.clone(), if special == 4 { "weekend" } else { "night" }.to_owned());
    }
    if special != 5 {
        fleet.found.push(seen);
    }
    fleet.hosts.push(one);
}

/// The most that are at work at once, of those that a key groups.
fn most<'a>(slots: &'a [Slot], key: impl Fn(&'a Slot) -> Option<&'a str>) -> usize {
    let mut groups: BTreeMap<&str, Vec<(u64, i32)>> = BTreeMap::new();
    for slot in slots {
        if let Some(name) = key(slot) {
            let edges = groups.entry(name).or_default();
            // What ends frees its place for what starts at the same instant.
            edges.push((slot.start.0, 1));
            edges.push((slot.end.0, -1));
        }
    }
    let peak = |mut edges: Vec<(u64, i32)>| {
        edges.sort_unstable();
        edges
            .into_iter()
            .scan(0, |at, (_, by)| {
                *at += by;
                Some(*at)
            })
            .max()
            .unwrap_or(0)
    };
    usize::try_from(groups.into_values().map(peak).max().unwrap_or(0)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_host_is_planned_once_or_left_out_once_with_a_reason(fleet in fleet()) {
        let plan = fleet.plan();
        let mut all: Vec<&str> = plan.slots().iter().map(|slot| slot.host.as_str()).collect();
        all.extend(plan.left_out().iter().map(|left| left.host.as_str()));
        all.sort_unstable();
        let mut hosts: Vec<&str> = fleet.hosts.iter().map(|host| host.id.as_str()).collect();
        hosts.sort_unstable();
        prop_assert_eq!(all, hosts);
        prop_assert!(plan.left_out().iter().all(|left| !left.why.is_empty()));
        prop_assert!(plan.slots().iter().all(|slot| !slot.why.is_empty()));
        let counted: u32 = plan.waves().iter().map(|wave| wave.hosts).sum();
        prop_assert_eq!(counted as usize, plan.slots().len());
    }

    #[test]
    fn no_host_starts_behind_its_cutoff_or_ends_behind_its_window_or_deadline(fleet in fleet()) {
        for slot in fleet.plan().slots() {
            let Occurrence { open, close, last_start } = slot.occurrence;
            prop_assert!(open <= slot.start && slot.start < last_start, "{slot:?}");
            prop_assert!(slot.end <= slot.latest_end && slot.latest_end <= close, "{slot:?}");
            prop_assert!(fleet.settings.cutoff == CutoffRule::Start || slot.latest_end <= last_start, "{slot:?}");
            prop_assert!(slot.deadline.is_none_or(|deadline| slot.latest_end <= deadline), "{slot:?}");
            prop_assert!(fleet.windows[&slot.window].contains(&slot.occurrence));
            prop_assert!(slot.latest_end.since(slot.start) >= slot.estimate.p95_ms.max(slot.reboot_reserve_ms));
        }
    }

    #[test]
    fn behind_the_canary_dev_goes_before_test_before_prod_and_the_critical_last(fleet in fleet()) {
        let plan = fleet.plan();
        let hosts: BTreeMap<&str, &Host> = fleet.hosts.iter().map(|host| (host.id.as_str(), host)).collect();
        let canary = u32::from(fleet.settings.waves.len() > 1 && plan.waves().first().is_some_and(|one| one.environment.is_none()));
        let mut reached: Vec<(u32, Environment)> = plan.slots().iter().filter(|slot| slot.wave >= canary)
            .map(|slot| (slot.wave, hosts[slot.host.as_str()].environment.unwrap_or(Environment::Prod))).collect();
        reached.sort_unstable();
        prop_assert!(reached.windows(2).all(|two| two[0].1 <= two[1].1), "{reached:?}");
        for wave in plan.waves().windows(2) {
            let soaked = wave[0].end.plus(wave[0].soak_ms);
            prop_assert!(wave[1].start >= soaked, "the soak time holds");
        }
    }

    #[test]
    fn limits_hold_over_all_per_relay_per_site_and_per_cluster(fleet in fleet()) {
        let plan = fleet.plan();
        let Limits { max_parallel, per_relay, per_site } = fleet.settings.limits;
        prop_assert!(most(plan.slots(), |_| Some("all")) <= max_parallel as usize);
        prop_assert!(most(plan.slots(), |slot| slot.relay.as_deref()) <= per_relay.unwrap_or(u32::MAX) as usize);
        prop_assert!(most(plan.slots(), |slot| slot.site.as_deref()) <= per_site.unwrap_or(u32::MAX) as usize);
        prop_assert!(most(plan.slots(), |slot| slot.cluster.as_deref()) <= 1);
        for (nth, wave) in plan.waves().iter().enumerate().filter(|(_, wave)| !wave.cluster_nodes_together) {
            let nodes = plan.slots().iter().filter(|slot| slot.wave as usize == nth).filter_map(|slot| slot.cluster.as_deref());
            let nodes: Vec<&str> = nodes.collect();
            prop_assert_eq!(nodes.iter().collect::<BTreeSet<_>>().len(), nodes.len(), "two nodes in {}", wave.name);
        }
    }

    #[test]
    fn the_order_of_what_is_given_changes_nothing(fleet in fleet(), turn in 0..80_usize) {
        let plan = fleet.plan();
        let mut turned = fleet;
        let by = turn % turned.hosts.len().max(1);
        turned.hosts.rotate_left(by);
        turned.found.reverse();
        turned.found.iter_mut().for_each(|one| one.patches.reverse());
        let again = turned.plan();
        prop_assert_eq!(plan.digest(), again.digest());
        prop_assert_eq!(serde_json::to_string(&plan).unwrap(), serde_json::to_string(&again).unwrap());
    }

    #[test]
    fn a_document_reads_back_to_the_same_plan(fleet in fleet()) {
        let plan = fleet.plan();
        let text = serde_json::to_string(&plan).unwrap();
        prop_assert_eq!(serde_json::from_str::<CampaignPlan>(&text).unwrap(), plan);
    }

    #[test]
    fn who_finds_no_window_before_a_deadline_and_nobody_else_gets_a_repair(fleet in fleet()) {
        let plan = fleet.plan();
        let repaired: BTreeSet<&String> = plan.repairs().iter().flat_map(|repair| &repair.hosts).collect();
        for left in plan.left_out() {
            let late = left.reason == LeftOutReason::NoWindowBeforeDeadline;
            prop_assert_eq!(late, repaired.contains(&left.host), "{:?}", left);
        }
        for repair in plan.repairs() {
            let Some((minutes, opens)) = repair.minutes.zip(repair.opens_by) else { continue };
            prop_assert!(opens.plus(minutes * MINUTE) <= repair.before && minutes < 24 * HOUR);
        }
    }
}
