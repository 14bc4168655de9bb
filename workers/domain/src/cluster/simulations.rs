//! Whole campaigns with drawn results: how often the rule halts for nothing, and how soon it finds what is there.
//! Every draw has a seed, so each figure is the same on every machine.

use super::*;

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(most).unwrap()).unwrap()
    }

    fn unit(&mut self) -> f64 {
        f64::from(u32::try_from(self.next() >> 32).unwrap()) / f64::from(u32::MAX)
    }
}

fn fleet(draw: &mut Draw, hosts: usize) -> Vec<CampaignHost> {
    let one = |at: usize, draw: &mut Draw| {
        let site = draw.below(4);
        let patch = |name: usize| CampaignPatch { package: format!("p{name}"), version: "2".to_owned() };
        CampaignHost {
            host: format!("h{at}"),
            site: Some(format!("s{site}")),
            relay: Some(format!("r{}", site * 2 + draw.below(2))),
            group: Some(format!("g{}", draw.below(3))),
            policy: Some("monthly".to_owned()),
            baseline: Some(format!("b{}", draw.below(2))),
            os: Some(["debian 12", "debian 13", "ubuntu 24.04"][draw.below(3)].to_owned()),
            kernel: Some(format!("6.{}", draw.below(3))),
            device_class: Some(["server", "kiosk"][draw.below(2)].to_owned()),
            wave: Some(
                if at < 10 {
                    "canary"
                } else if at < 40 {
                    "pilot"
                } else {
                    "broad"
                }
                .to_owned(),
            ),
            patches: (0..6).filter(|_| draw.below(2) == 0).map(patch).collect(),
            outcome: HostResult::Waiting,
        }
    };
    (0..hosts).map(|at| one(at, draw)).collect()
}

fn failed(cause: &str) -> HostResult {
    HostResult::Failed { cause: cause.to_owned(), package: None }
}

/// The base rate of a side without any history: what the streams take as usual.
fn usual() -> f64 {
    let mean = PRIOR_FAILED / PRIOR_HOSTS;
    mean + BASE_DEVIATIONS * (mean * (1.0 - mean) / (PRIOR_HOSTS + 1.0)).sqrt()
}

/// A result at the base rate: each side fails as often as is usual, no more.
fn usual_result(draw: &mut Draw, rate: f64) -> HostResult {
    let unit = draw.unit();
    let causes = ["lease_expired", "download_404", "not_approved", "regression", "disk_full"];
    let mut bar = 0.0;
    for cause in causes {
        bar += rate;
        if unit < bar {
            return failed(cause);
        }
    }
    HostResult::Ok
}

#[test]
fn a_whole_campaign_at_the_base_rate_is_halted_for_nothing_less_often_than_alpha() {
    const CAMPAIGNS: u32 = 1_000;
    let mut halted = 0_u32;
    for seed in 0..u64::from(CAMPAIGNS) {
        let mut draw = Draw(seed);
        let hosts = fleet(&mut draw, 200);
        let mut monitor = Monitor::new(&hosts, &[], ALPHA);
        for at in 0..hosts.len() {
            monitor.tell(at, &usual_result(&mut draw, usual()));
        }
        halted += u32::from(monitor.has_crossed());
    }
    assert!(f64::from(halted) < ALPHA * f64::from(CAMPAIGNS), "{halted}");
}

/// How many hosts that the trouble concerns had a result when it was found, per seed; and how often it got its name.
fn found_after(strikes: impl Fn(&CampaignHost) -> bool, share: f64, cause: &str, scope: &Scope) -> (Vec<u32>, u32) {
    let (mut after, mut named) = (Vec::new(), 0);
    for seed in 0..200 {
        let mut draw = Draw(10_000 + seed);
        let mut hosts = fleet(&mut draw, 200);
        let template = hosts.clone();
        let mut monitor = Monitor::new(&template, &[], ALPHA);
        let mut concerned = 0;
        for at in 0..hosts.len() {
            let struck = strikes(&template[at]) && draw.unit() < share;
            concerned += u32::from(strikes(&template[at]));
            hosts[at].outcome = if struck { failed(cause) } else { usual_result(&mut draw, 0.005) };
            if monitor.tell(at, &hosts[at].outcome) {
                let verdict = judge_monitored(&monitor, &hosts);
                named += u32::from(verdict.systemic.iter().any(|found| found.scope == *scope));
                break;
            }
        }
        assert!(monitor.has_crossed(), "seed {seed} was never found");
        after.push(concerned);
    }
    after.sort_unstable();
    (after, named)
}

#[test]
fn a_relay_that_is_cut_off_is_found_within_six_of_its_hosts() {
    let scope = Scope { dimension: Dimension::Relay, value: "r2".to_owned() };
    let (after, named) = found_after(|host| host.relay.as_deref() == Some("r2"), 1.0, "timeout", &scope);
    assert!(after[199] <= 6, "{after:?}");
    assert!(named >= 190, "{named}");
}

#[test]
fn a_patch_that_fails_four_times_in_five_is_found_within_twenty_of_its_hosts() {
    let scope = Scope { dimension: Dimension::Patch, value: "p3 2".to_owned() };
    let gets = |host: &CampaignHost| host.patches.iter().any(|patch| patch.package == "p3");
    let (after, named) = found_after(gets, 0.8, "SCRIPTLET", &scope);
    assert!(after[100] <= 8 && after[199] <= 20, "{after:?}");
    assert!(named >= 160, "{named}");
}
