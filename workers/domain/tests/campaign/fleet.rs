//! A fleet out of a few numbers, with what it lacks and its windows.

use std::collections::BTreeMap;

use patchloom_domain::inventory::GroupRules;
use patchloom_domain::*;

pub const MINUTE: u64 = 60_000;
pub const HOUR: u64 = 60 * MINUTE;

/// What a plan is made from, owned.
#[derive(Debug)]
pub struct Fleet {
    pub hosts: Vec<Host>,
    pub found: Vec<Found>,
    pub baselines: Vec<Baseline>,
    pub groups: GroupRules,
    pub conflicts: BTreeMap<String, String>,
    pub needs: BTreeMap<String, Need>,
    pub holds: Vec<VersionHold>,
    pub windows: BTreeMap<String, Vec<Occurrence>>,
    pub window_of: BTreeMap<String, String>,
    pub durations: Durations,
    pub rates: FailureRates,
    pub settings: PlanSettings,
}

impl Fleet {
    pub fn plan(&self) -> CampaignPlan {
        let input = PlanInput {
            hosts: &self.hosts,
            found: &self.found,
            baselines: &self.baselines,
            groups: &self.groups,
            conflicts: &self.conflicts,
            holds: &self.holds,
            windows: &self.windows,
            window_of: &self.window_of,
            needs: &self.needs,
            durations: &self.durations,
            rates: &self.rates,
        };
        plan_campaign(input, &self.settings).unwrap()
    }
}

pub fn host(id: &str, environment: Option<Environment>, level: Option<u8>) -> Host {
    Host {
        id: id.to_owned(),
        target: Target::Root { path: format!("/srv/{id}") },
        names: vec![],
        addresses: vec![],
        os: Some(HostOs { id: "debian".to_owned(), version: Some("12".to_owned()), arch: None }),
        environment,
        criticality: level.and_then(Criticality::new),
        exposed: None,
        owner: None,
        business_unit: None,
        site: None,
        relay: None,
        device_class: None,
        cluster: None,
        snapshot: None,
        tags: BTreeMap::new(),
    }
}

pub fn patch(name: &str, candidate: &str) -> Offer {
    let patch = MissingPatch {
        id: PackageId { name: name.to_owned(), arch: "amd64".to_owned() },
        installed: Some("1.0-1".to_owned()),
        candidate: candidate.to_owned(),
        source: name.to_owned(),
        source_version: candidate.to_owned(),
        origin: "Debian-Security:12/oldstable-security".to_owned(),
        security: true,
        sha256: Some("ab".repeat(32)),
        size_bytes: Some(2_000_000),
        cves: vec!["CVE-2026-1".to_owned()],
        urgency: None,
        note: None,
        held: None,
    };
    Offer {
        patch,
        release_date: None,
        first_seen: None,
        not_before: None,
        section: String::new(),
        priority: String::new(),
        severity: String::new(),
        classification: String::new(),
    }
}

pub fn found(host: &str, patches: Vec<Offer>) -> Found {
    Found {
        host: host.to_owned(),
        patches,
        withheld: vec![],
        undo: UndoIntent::default(),
        no_undo: None,
        not_patchable: None,
        deadline: None,
    }
}

/// A window of so many hours every day at 22:00, the first one on the day that begins at 0.
pub fn nights(days: u64, hours: u64, cutoff_hours: u64) -> Vec<Occurrence> {
    let night = |day: u64| {
        let open = (day * 24 + 22) * HOUR;
        let close = open + hours * HOUR;
        Occurrence { open: Instant(open), close: Instant(close), last_start: Instant(close - cutoff_hours * HOUR) }
    };
    (0..days).map(night).collect()
}

/// An empty fleet with one calendar `night` and the usual waves.
pub fn empty() -> Fleet {
    Fleet {
        hosts: vec![],
        found: vec![],
        baselines: vec![],
        groups: GroupRules::default(),
        conflicts: BTreeMap::new(),
        needs: BTreeMap::new(),
        holds: vec![],
        windows: BTreeMap::from([("night".to_owned(), nights(30, 4, 1))]),
        window_of: BTreeMap::new(),
        durations: Durations::default(),
        rates: FailureRates::default(),
        settings: PlanSettings {
            mode: Mode::Apply,
            now: Instant(0),
            waves: WaveRule::usual(),
            limits: Limits { max_parallel: 20, per_relay: None, per_site: None },
            cutoff: CutoffRule::Start,
            reboot: RebootRule::IfNeeded,
            reboot_reserve_ms: 15 * MINUTE,
        },
    }
}

impl Fleet {
    /// Adds a host that lacks openssl and may be patched at night.
    pub fn add(&mut self, host: Host) {
        self.window_of.insert(host.id.clone(), "night".to_owned());
        self.found.push(found(&host.id, vec![patch("openssl", "3.0.15-1~deb12u1")]));
        self.hosts.push(host);
    }

    /// So many in dev, test and prod, of five levels, in four sites behind two relays, every fifth in a cluster of three.
    pub fn grown(dev: usize, test: usize, prod: usize) -> Self {
        let mut fleet = empty();
        let each = [(Environment::Dev, dev), (Environment::Test, test), (Environment::Prod, prod)];
        for (environment, count) in each {
            for nth in 0..count {
                let level = u8::try_from(nth % 5 + 1).unwrap();
                let name = format!("{environment:?}-{nth:05}").to_lowercase();
                let mut host = host(&name, Some(environment), Some(level));
                host.site = Some(format!("site-{}", nth % 4));
                host.relay = Some(format!("relay-{}", nth % 2));
                host.device_class = Some("server".to_owned());
                if nth % 5 == 0 {
                    host.cluster = Some(format!("{environment:?}-cluster-{}", nth / 15));
                }
                fleet.add(host);
            }
        }
        fleet
    }
}
