//! How long patching takes, learned from what it took: per package and size class, per look of hosts, per host.
//!
//! A call costs a base, something per package, per megabyte and for a reboot: weights that each sample moves, by a Kalman
//! filter without covariances whose error is bounded, so that one hung host teaches little. On top of that a host is
//! faster or slower than its look, and a look than all: medians of few samples are drawn towards the wider group. The
//! 95th percentile comes from the errors of the model's own forecasts, each made before its sample was known.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::estimate::{Estimate, Z95, float, whole};
use super::ring::Ring;

/// The most packages that are remembered.
pub const PACKAGES_MAX: usize = 20_000;
/// The most hosts that are remembered.
pub const HOSTS_REMEMBERED_MAX: usize = 100_000;
/// The most looks that are remembered.
pub const LOOKS_MAX: usize = 5_000;

const OF_HOST: usize = 12;
const OF_LOOK: usize = 64;
const ERRORS: usize = 128;
/// So many samples weigh as much as the wider group.
const SHRINK: f64 = 4.0;
/// So many forecasts weigh as much as the spread taken before there were any.
const SHRINK_SPREAD: f64 = 10.0;
/// The spread of the logarithm before anything is known: one in twenty takes twice as long.
const SIGMA: f64 = 0.42;

/// One package of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Part {
    /// Its name alone.
    Name(String),
    /// With its size.
    Sized {
        /// Its name.
        name: String,
        /// Bytes to fetch.
        bytes: Option<u64>,
    },
}

impl Part {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Name(name) | Self::Sized { name, .. } => name,
        }
    }

    fn class(&self) -> usize {
        let bytes = match self {
            Self::Name(_) | Self::Sized { bytes: None, .. } => return 1,
            Self::Sized { bytes: Some(bytes), .. } => *bytes,
        };
        match bytes {
            0..1_000_000 => 0,
            1_000_000..20_000_000 => 1,
            _ => 2,
        }
    }
}

/// What patching a host is going to be, or was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// The host's id.
    pub host: String,
    /// What it looks like: [`look`](super::look).
    #[serde(default)]
    pub look: String,
    /// What is installed.
    pub packages: Vec<Part>,
    /// Bytes to fetch, over all.
    #[serde(default)]
    pub bytes: u64,
    /// Whether the host boots anew.
    #[serde(default)]
    pub rebooted: bool,
}

/// A weight in milliseconds and how sure it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Weight {
    ms: i64,
    sd: u32,
    #[serde(default)]
    last: u64,
}

impl Weight {
    fn new(ms: i64, sd: u32) -> Self {
        Self { ms, sd, last: 0 }
    }

    fn mean(&self) -> f64 {
        self.ms as f64
    }

    fn variance(&self) -> f64 {
        f64::from(self.sd).powi(2)
    }

    fn correct(&mut self, share: f64, gain_x: f64) {
        self.ms = (self.mean() + share).round().max(0.0) as i64;
        // Never quite sure: what a package takes changes with its versions.
        let least = f64::from(self.sd).min(200.0);
        self.sd = (self.variance() * (1.0 - gain_x).max(0.0)).sqrt().max(least) as u32;
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Pace {
    ratios: Ring,
    #[serde(default)]
    errors: Ring,
    last: u64,
}

/// The model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durations {
    samples: u64,
    base: Weight,
    megabyte: Weight,
    reboot: Weight,
    classes: [Weight; 3],
    packages: BTreeMap<String, Weight>,
    looks: BTreeMap<String, Pace>,
    hosts: BTreeMap<String, Pace>,
    errors: Ring,
}

impl Default for Durations {
    fn default() -> Self {
        Self {
            samples: 0,
            base: Weight::new(20_000, 15_000),
            megabyte: Weight::new(250, 300),
            reboot: Weight::new(120_000, 60_000),
            classes: [Weight::new(2_000, 3_000), Weight::new(3_000, 5_000), Weight::new(10_000, 15_000)],
            packages: BTreeMap::new(),
            looks: BTreeMap::new(),
            hosts: BTreeMap::new(),
            errors: Ring::default(),
        }
    }
}

impl Durations {
    /// How many samples it has seen.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// How long a piece of work may take.
    ///
    /// # Example
    /// ```
    /// use patchloom_domain::{Durations, Work};
    /// let work = Work { host: "a".into(), look: "debian 12".into(), packages: vec![], bytes: 0, rebooted: true };
    /// let mut model = Durations::default();
    /// let before = model.estimate(&work);
    /// (0..50).for_each(|_| model.learn(&work, 600_000));
    /// let after = model.estimate(&work);
    /// assert!(before.p50_ms < 300_000 && (500_000..700_000).contains(&after.p50_ms));
    /// assert!(after.sigma() < before.sigma());
    /// ```
    #[must_use]
    pub fn estimate(&self, work: &Work) -> Estimate {
        let p50 = self.linear(work) * self.pace(work).exp();
        let upper = self.upper(&work.look);
        let sigma = upper / Z95;
        let seen = |pace: Option<&Pace>| pace.map_or(0, |pace| u32::try_from(pace.ratios.len()).unwrap_or(u32::MAX));
        Estimate {
            p50_ms: whole(p50),
            p95_ms: whole(p50 * upper.exp()),
            // The mean of a logarithmic normal distribution.
            mean_ms: whole(p50 * (sigma * sigma / 2.0).exp()),
            of_host: seen(self.hosts.get(&work.host)),
            of_look: seen(self.looks.get(&work.look)),
        }
    }

    /// Takes in what a piece of work took.
    pub fn learn(&mut self, work: &Work, took_ms: u64) {
        let took = float(took_ms.clamp(1_000, 7 * 86_400_000));
        let (linear, pace) = (self.linear(work), self.pace(work));
        let error = (took / (linear * pace.exp())).ln();
        self.samples += 1;
        let at = self.samples;
        self.errors.push(error, ERRORS);
        let ratio = (took / linear).ln();
        let look = self.looks.entry(work.look.clone()).or_default();
        look.ratios.push(ratio, OF_LOOK);
        look.errors.push(error, ERRORS);
        look.last = at;
        let host = self.hosts.entry(work.host.clone()).or_default();
        host.ratios.push(ratio, OF_HOST);
        host.last = at;
        self.correct(work, took / pace.exp(), linear);
        self.forget();
    }

    /// What the weights say, before anybody is faster or slower.
    fn linear(&self, work: &Work) -> f64 {
        let megabytes = float(work.bytes) / 1e6;
        let reboot = if work.rebooted { self.reboot.mean() } else { 0.0 };
        let parts: f64 = work.packages.iter().map(|part| self.weight(part).mean()).sum();
        (self.base.mean() + megabytes * self.megabyte.mean() + reboot + parts).max(1_000.0)
    }

    fn weight(&self, part: &Part) -> &Weight {
        self.packages.get(part.name()).unwrap_or(&self.classes[part.class()])
    }

    /// How much slower a host is than the weights say, as a logarithm.
    fn pace(&self, work: &Work) -> f64 {
        let drawn = |pace: Option<&Pace>, towards: f64| match pace {
            Some(pace) => {
                let count = pace.ratios.len() as f64;
                (count * pace.ratios.quantile(0.5) + SHRINK * towards) / (count + SHRINK)
            }
            None => towards,
        };
        drawn(self.hosts.get(&work.host), drawn(self.looks.get(&work.look), 0.0))
    }

    /// How far the 95th percentile lies above the median, as a logarithm.
    fn upper(&self, look: &str) -> f64 {
        let drawn = |errors: &Ring, towards: f64| {
            let count = errors.len() as f64;
            let found = errors.quantile(0.95).max(0.05);
            (count * found + SHRINK_SPREAD * towards) / (count + SHRINK_SPREAD)
        };
        let all = drawn(&self.errors, SIGMA * Z95);
        self.looks.get(look).map_or(all, |pace| drawn(&pace.errors, all))
    }

    /// Moves the weights so that they explain more of what a sample took.
    fn correct(&mut self, work: &Work, took: f64, linear: f64) {
        let megabytes = float(work.bytes) / 1e6;
        for part in &work.packages {
            let (class, at) = (part.class(), self.samples);
            let sd = self.classes[class].sd.max(3_000);
            let fresh = || Weight::new(self.classes[class].ms, sd);
            self.packages.entry(part.name().to_owned()).or_insert_with(fresh).last = at;
        }
        let spread: f64 = work.packages.iter().map(|part| self.weight(part).variance()).sum();
        let fixed = self.base.variance() + megabytes.powi(2) * self.megabyte.variance();
        let booted = if work.rebooted { self.reboot.variance() } else { 0.0 };
        let noise = (0.2 * linear).powi(2) + 2_000_f64.powi(2);
        let whole = spread + fixed + booted + noise;
        // Three deviations are the most that one sample teaches.
        let bound = 3.0 * whole.sqrt();
        let error = (took - linear).clamp(-bound, bound);
        let base = self.base.variance() / whole;
        self.base.correct(base * error, base);
        let rate = self.megabyte.variance() * megabytes / whole;
        self.megabyte.correct(rate * error, rate * megabytes);
        if work.rebooted {
            let gain = self.reboot.variance() / whole;
            self.reboot.correct(gain * error, gain);
        }
        for part in &work.packages {
            let class = part.class();
            let Some(weight) = self.packages.get_mut(part.name()) else { continue };
            let gain = weight.variance() / whole;
            weight.correct(gain * error, gain);
            let class = &mut self.classes[class];
            // What is not known yet is taken for like what was seen; slowly, for the common packages come again and again.
            class.ms += (weight.ms - class.ms) / 50;
        }
    }

    /// Lets go of what was not seen for the longest, a tenth at a time.
    fn forget(&mut self) {
        oldest(&mut self.packages, PACKAGES_MAX, |weight| weight.last);
        oldest(&mut self.looks, LOOKS_MAX, |pace| pace.last);
        oldest(&mut self.hosts, HOSTS_REMEMBERED_MAX, |pace| pace.last);
    }
}

/// Keeps a map within its bound.
pub(super) fn oldest<T>(map: &mut BTreeMap<String, T>, most: usize, last: impl Fn(&T) -> u64) {
    if map.len() > most {
        let mut ages: Vec<u64> = map.values().map(&last).collect();
        ages.sort_unstable();
        let bound = ages[ages.len() - (most - most / 10)];
        map.retain(|_, value| last(value) >= bound);
    }
}
