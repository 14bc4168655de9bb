//! Durations and failures learned from histories whose truth is known, and campaigns simulated with them.

use patchloom_domain::*;

use super::fleet::{Fleet, HOUR, MINUTE, nights};

/// Numbers from a seed: xorshift, so that the tests do not measure the model with its own dice.
struct Seeded(u64);

impl Seeded {
    fn part(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / 9_007_199_254_740_992.0
    }

    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.part()).sum::<f64>() - 6.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.part() * bound as f64) as usize
    }
}

const HEAVY: &str = "linux-image-amd64";

/// The truth: 30 s, 3 s per package, 90 s for a kernel, 60 s for a reboot; one look is twice as slow, one host thrice.
fn truth(work: &Work) -> f64 {
    let heavy = work.packages.iter().filter(|part| part.name() == HEAVY).count() as f64;
    let base = 30.0 + 3.0 * work.packages.len() as f64 + 87.0 * heavy + if work.rebooted { 60.0 } else { 0.0 };
    let pace = if work.look == "slow" { 2.0 } else { 1.0 } * if work.host == "snail" { 3.0 } else { 1.0 };
    base * pace
}

fn draw(seeded: &mut Seeded) -> Work {
    let nth = seeded.below(60);
    let host = if nth == 0 { "snail".to_owned() } else { format!("h{nth}") };
    let look = if nth >= 40 { "slow" } else { "quick" };
    let mut packages: Vec<Part> =
        (0..1 + seeded.below(12)).map(|_| Part::Name(format!("p{}", seeded.below(40)))).collect();
    packages.sort_by(|a, b| a.name().cmp(b.name()));
    packages.dedup();
    let heavy = seeded.part() < 0.3;
    if heavy {
        packages.push(Part::Name(HEAVY.to_owned()));
    }
    Work { host, look: look.to_owned(), packages, bytes: 0, rebooted: heavy }
}

fn learned(samples: usize, seed: u64) -> (Durations, Seeded) {
    let mut seeded = Seeded(seed);
    let mut model = Durations::default();
    for _ in 0..samples {
        let work = draw(&mut seeded);
        let took = truth(&work) * (0.15 * seeded.normal()).exp();
        // One in fifty hangs.
        let took = if seeded.part() < 0.02 { took * 20.0 } else { took };
        model.learn(&work, (took * 1000.0) as u64);
    }
    (model, seeded)
}

#[test]
fn what_packages_looks_and_hosts_take_is_found_out_of_their_sums() {
    let (model, _) = learned(3_000, 7);
    let check = |host: &str, look: &str, packages: &[&str], rebooted: bool| {
        let packages = packages.iter().map(|name| Part::Name((*name).to_owned())).collect();
        let work = Work { host: host.to_owned(), look: look.to_owned(), packages, bytes: 0, rebooted };
        let (found, wanted) = (model.estimate(&work).p50_ms as f64 / 1000.0, truth(&work));
        assert!((found / wanted - 1.0).abs() < 0.25, "{work:?}: found {found:.1} s, true are {wanted:.1} s");
    };
    check("h5", "quick", &["p1", "p2", "p3"], false);
    check("h5", "quick", &["p1", "p2", "p3", HEAVY], true);
    check("h50", "slow", &["p1", "p2", "p3", "p4", "p5"], false);
    check("h50", "slow", &["p1", HEAVY], true);
    check("snail", "quick", &["p1", "p2", "p3", "p4"], false);
    check("never seen", "slow", &["p7", "p8", "p9"], false);
}

#[test]
fn nineteen_of_twenty_take_no_longer_than_the_95th_percentile() {
    for seed in [1, 2, 3] {
        let (model, mut seeded) = learned(3_000, seed);
        let (mut below_p50, mut below_p95) = (0, 0);
        for _ in 0..1_000 {
            let work = draw(&mut seeded);
            let took = truth(&work) * (0.15 * seeded.normal()).exp() * 1000.0;
            let estimate = model.estimate(&work);
            below_p50 += u32::from(took <= estimate.p50_ms as f64);
            below_p95 += u32::from(took <= estimate.p95_ms as f64);
        }
        assert!((350..=650).contains(&below_p50), "seed {seed}: {below_p50} of 1000 below the median");
        assert!((900..=995).contains(&below_p95), "seed {seed}: {below_p95} of 1000 below the 95th percentile");
    }
}

#[test]
fn a_model_is_bounded_and_reads_back_as_it_was() {
    let mut model = Durations::default();
    for nth in 0..(PACKAGES_MAX + 3_000) {
        let packages = vec![Part::Name(format!("p{nth}"))];
        let work = Work { host: "h".to_owned(), look: format!("l{nth}"), packages, bytes: 1, rebooted: false };
        model.learn(&work, 40_000);
    }
    let value = serde_json::to_value(&model).unwrap();
    let count = |name: &str| value[name].as_object().unwrap().len();
    assert!(
        count("packages") <= PACKAGES_MAX && count("looks") <= LOOKS_MAX,
        "{} {}",
        count("packages"),
        count("looks")
    );
    assert!(value["packages"].get(format!("p{}", PACKAGES_MAX + 2_999)).is_some(), "the newest stay");
    assert!(value["packages"].get("p0").is_none(), "the oldest go");
    let (model, _) = learned(500, 9);
    let text = serde_json::to_string(&model).unwrap();
    assert_eq!(serde_json::from_str::<Durations>(&text).unwrap(), model);
}

#[test]
fn failures_are_charged_to_the_package_or_to_the_look() {
    let mut rates = FailureRates::default();
    let work = |look: &str, package: &str| Work {
        host: "h".to_owned(),
        look: look.to_owned(),
        packages: vec![Part::Name(package.to_owned())],
        bytes: 0,
        rebooted: false,
    };
    let prior = rates.chance("any", &[]);
    assert!((prior - 0.02).abs() < 1e-9);
    for nth in 0..400 {
        let bad = Ending::FailedPackage("bad".to_owned());
        rates.learn(&work("good look", "bad"), if nth % 4 == 0 { &bad } else { &Ending::Good });
        rates.learn(&work("bad look", "fine"), if nth % 10 == 0 { &Ending::Failed } else { &Ending::Good });
    }
    let chance = |look: &str, package: &str| rates.chance(look, &[Part::Name(package.to_owned())]);
    assert!((0.22..0.28).contains(&chance("good look", "bad")), "{}", chance("good look", "bad"));
    assert!(chance("good look", "fine") < 0.01);
    assert!((0.08..0.11).contains(&chance("bad look", "fine")));
    assert!(rates.doubt("bad look") < rates.doubt("never seen"));
}

fn rounds(rounds: u32) -> SimulationSettings {
    SimulationSettings { rounds, ..SimulationSettings::default() }
}

#[test]
fn the_same_seed_gives_the_same_forecast_and_another_one_nearly() {
    let plan = Fleet::grown(20, 20, 60).plan();
    let first = simulate(&plan, &rounds(400));
    assert_eq!(first, simulate(&plan, &rounds(400)));
    let other = simulate(&plan, &SimulationSettings { seed: 2, ..rounds(400) });
    assert_ne!(first, other);
    assert!((first.failed_mean - other.failed_mean).abs() < 1.0);
}

#[test]
fn expected_failures_are_those_of_the_rates() {
    let plan = Fleet::grown(0, 0, 500).plan();
    let never_halts = SimulationSettings { tolerate: WaveSize::BasisPoints(10_000), retries: 0, ..rounds(500) };
    let found = simulate(&plan, &never_halts);
    assert!((found.failed_mean - 10.0).abs() < 1.5, "2 % of 500 are 10, found {}", found.failed_mean);
    assert_eq!(found.halted.of, 0.0);
    let retried = simulate(&plan, &SimulationSettings { retries: 1, ..never_halts });
    // Half of the failures are for now, and of those tried again one in fifty fails again.
    assert!((retried.failed_mean - 5.1).abs() < 1.0, "{}", retried.failed_mean);
    let strict = simulate(&plan, &SimulationSettings { tolerate: WaveSize::Count(0), ..never_halts });
    assert!(strict.halted.of > 0.95 && strict.left_mean > 100.0, "{strict:?}");
    assert!(strict.in_window.high < 0.06);
}

#[test]
fn a_tight_window_leaves_hosts_behind_and_a_wide_one_none() {
    let mut fleet = Fleet::grown(0, 0, 120);
    fleet.settings.waves =
        vec![WaveRule { name: "all".to_owned(), size: WaveSize::BasisPoints(10_000), soak_ms: 0, failures: None }];
    fleet.settings.limits.max_parallel = 1;
    fleet.settings.reboot = RebootRule::Never;
    let calm = SimulationSettings { tolerate: WaveSize::BasisPoints(10_000), ..rounds(300) };
    fleet.windows.insert("night".to_owned(), nights(1, 6, 0));
    let wide = simulate(&fleet.plan(), &calm);
    assert!(wide.in_window.low > 0.95, "{:?}", wide.in_window);
    assert_eq!(wide.left_p90, 0);
    let start = wide.parts[0].open;
    let needed = wide.end_p50.since(start);
    // A window that is as long as the queue takes in the middle of all rounds: about one in two.
    let close = Instant(start.0 + needed + MINUTE);
    fleet.windows.insert("night".to_owned(), vec![Occurrence { open: start, close, last_start: close }]);
    let plan = fleet.plan();
    let tight = simulate(&plan, &calm);
    assert!((0.02..0.85).contains(&tight.in_window.of), "{} of {}: {:?}", plan.slots().len(), 120, tight.in_window);
    assert!(
        tight.left_mean > 0.1 && tight.in_window.low < tight.in_window.of && tight.in_window.of < tight.in_window.high
    );
    assert!(tight.end_p50 <= tight.end_p90 && needed < 6 * HOUR);
}

#[test]
fn ten_thousand_hosts_go_through_hundreds_of_rounds_at_once() {
    let fleet = Fleet::grown(1_000, 2_000, 7_000);
    let mut large = fleet;
    large.settings.limits = Limits { max_parallel: 200, per_relay: Some(150), per_site: Some(80) };
    let begun = std::time::Instant::now();
    let plan = large.plan();
    let planned = begun.elapsed();
    assert_eq!(plan.slots().len(), 10_000);
    let found = simulate(&plan, &rounds(100));
    let total = begun.elapsed();
    println!("10,000 hosts: planned in {planned:?}, 100 rounds in {:?}", total - planned);
    assert_eq!(found.parts.iter().map(|part| part.hosts).sum::<u32>(), 10_000);
}
