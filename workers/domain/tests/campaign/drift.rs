//! What differs between two plans, and what of it needs a new approval.

use patchloom_domain::*;
use proptest::prelude::*;

use super::fleet::{Fleet, HOUR, MINUTE, host, patch};

fn kinds(before: &CampaignPlan, after: &CampaignPlan) -> Vec<DriftKind> {
    let drift = plan_drift(before, after);
    let material = drift.iter().any(|one| one.material);
    assert_eq!(material, before.digest() != after.digest(), "material is what the digest covers: {drift:?}");
    let mut kinds: Vec<DriftKind> = drift.iter().map(|one| one.kind).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

#[test]
fn each_kind_of_change_is_found_and_classed() {
    let before = Fleet::grown(6, 6, 12).plan();
    let after = |change: fn(&mut Fleet)| {
        let mut fleet = Fleet::grown(6, 6, 12);
        change(&mut fleet);
        kinds(&before, &fleet.plan())
    };
    assert_eq!(after(|_| {}), []);
    assert_eq!(
        after(|fleet| fleet.found[0].patches[0].patch.cves.push("CVE-2026-2".to_owned())),
        [DriftKind::Knowledge]
    );
    let version = |fleet: &mut Fleet| fleet.found[0].patches[0].patch.candidate = "3.0.16-1".to_owned();
    assert_eq!(after(version), [DriftKind::Package]);
    let hash = |fleet: &mut Fleet| fleet.found[0].patches[0].patch.sha256 = Some("cd".repeat(32));
    assert_eq!(after(hash), [DriftKind::Package]);
    assert_eq!(after(|fleet| fleet.found[0].undo = UndoIntent::Snapshot), [DriftKind::Undo]);
    assert_eq!(after(|fleet| fleet.settings.limits.max_parallel = 21), [DriftKind::Limits]);
    assert_eq!(after(|fleet| fleet.settings.mode = Mode::Observe), [DriftKind::Mode]);
    let moved = |fleet: &mut Fleet| fleet.hosts[0].target = Target::Local;
    assert_eq!(after(moved), [DriftKind::Target]);
    let added = after(|fleet| fleet.add(host("prod-new", Some(Environment::Prod), Some(5))));
    assert!(added.contains(&DriftKind::HostAdded), "{added:?}");
    let gone = after(|fleet| fleet.found[20].no_undo = Some("no room".to_owned()));
    assert!(gone.contains(&DriftKind::HostGone), "{gone:?}");
    let soak = after(|fleet| fleet.settings.waves[0].soak_ms = 5 * MINUTE);
    assert!(soak.contains(&DriftKind::Waves) && soak.contains(&DriftKind::Estimate), "{soak:?}");
    let critical = after(|fleet| fleet.hosts[5].environment = Some(Environment::Prod));
    assert!(critical.contains(&DriftKind::Wave), "{critical:?}");
    let freeze = after(|fleet| fleet.windows.get_mut("night").unwrap().retain(|night| night.open.0 > 24 * HOUR));
    assert_eq!(freeze, [DriftKind::Window, DriftKind::Estimate]);
}

#[test]
fn estimates_that_were_learned_meanwhile_need_no_new_approval() {
    let mut fleet = Fleet::grown(6, 6, 12);
    let before = fleet.plan();
    let packages = vec![Part::Name("openssl".to_owned())];
    let work = Work { host: "dev-00000".to_owned(), look: String::new(), packages, bytes: 2_000_000, rebooted: false };
    (0..20).for_each(|_| fleet.durations.learn(&work, 90_000));
    let after = fleet.plan();
    assert_eq!(kinds(&before, &after), [DriftKind::Estimate]);
    assert_eq!(before.digest(), after.digest());
}

#[test]
fn a_host_that_left_says_why() {
    let mut fleet = Fleet::grown(3, 0, 0);
    let before = fleet.plan();
    fleet.holds.push(VersionHold { package: "openssl".to_owned(), version: None, why: "rolled back".to_owned() });
    fleet.found[0].patches.push(patch("curl", "8.0-1"));
    let drift = plan_drift(&before, &fleet.plan());
    let gone: Vec<&str> =
        drift.iter().filter(|one| one.kind == DriftKind::HostGone).map(|one| one.what.as_str()).collect();
    assert_eq!(gone.len(), 2);
    assert_eq!(gone[0], "it is not in the plan any more: nothing of what it lacks is approved and free");
    assert!(drift.iter().any(|one| one.what == "openssl:amd64 3.0.15-1~deb12u1 is not planned any more"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_plan_does_not_differ_from_itself_and_digests_tell_material_drift(
        sizes in (0..6_usize, 0..6_usize, 0..20_usize), flips in proptest::collection::vec((0..30_usize, 0..6_u8), 0..4),
    ) {
        let before = Fleet::grown(sizes.0, sizes.1, sizes.2);
        let mut after = Fleet::grown(sizes.0, sizes.1, sizes.2);
        for (at, how) in flips {
            let Some(found) = after.found.get_mut(at) else { continue };
            match how {
                0 => found.patches[0].patch.cves.clear(),
                1 => found.patches[0].patch.candidate.push('1'),
                // Twice on one host is a mistake, and refused.
                2 if found.patches.iter().all(|one| one.patch.id.name != "curl") => found.patches.push(patch("curl", "2")),
                2 => {}
                3 => found.deadline = Some(Moment(100_000)),
                4 => after.hosts[at].relay = None,
                _ => after.hosts[at].cluster = Some("one".to_owned()),
            }
        }
        let (before, after) = (before.plan(), after.plan());
        prop_assert_eq!(plan_drift(&before, &before), []);
        let material = plan_drift(&before, &after).iter().any(|one| one.material);
        prop_assert_eq!(material, before.digest() != after.digest());
    }
}
