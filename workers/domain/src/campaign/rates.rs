//! How often patching fails, learned from what failed: per look of hosts and per package.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::durations::{LOOKS_MAX, PACKAGES_MAX, Part, Work, oldest};

/// One in fifty before anything is known, as sure as fifty hosts would make it.
const PRIOR: f64 = 0.02;
const PRIOR_WEIGHT: f64 = 50.0;
/// So many hosts of a look weigh as much as all others.
const SHRINK: f64 = 10.0;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Tally {
    tries: u64,
    failures: u64,
    last: u64,
}

/// The model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureRates {
    all: Tally,
    looks: BTreeMap<String, Tally>,
    packages: BTreeMap<String, Tally>,
}

/// How patching a host ended, as far as rates go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// As it should.
    Good,
    /// It failed, and one package was the cause.
    FailedPackage(String),
    /// It failed for another reason.
    Failed,
}

impl FailureRates {
    /// Takes in how a piece of work ended.
    pub fn learn(&mut self, work: &Work, ending: &Ending) {
        self.all.tries += 1;
        let at = self.all.tries;
        let look = self.looks.entry(work.look.clone()).or_default();
        look.tries += 1;
        look.last = at;
        if *ending == Ending::Failed {
            look.failures += 1;
            self.all.failures += 1;
        }
        for part in &work.packages {
            let tally = self.packages.entry(part.name().to_owned()).or_default();
            tally.tries += 1;
            tally.last = at;
            tally.failures += u64::from(matches!(ending, Ending::FailedPackage(name) if name == part.name()));
        }
        oldest(&mut self.looks, LOOKS_MAX, |tally| tally.last);
        oldest(&mut self.packages, PACKAGES_MAX, |tally| tally.last);
    }

    /// How likely one attempt fails.
    #[must_use]
    pub fn chance(&self, look: &str, packages: &[Part]) -> f64 {
        let part = |count: u64, of: f64| count as f64 / of;
        let all = (self.all.failures as f64 + PRIOR * PRIOR_WEIGHT) / (self.all.tries as f64 + PRIOR_WEIGHT);
        let of_look = self
            .looks
            .get(look)
            .map_or(all, |tally| (tally.failures as f64 + SHRINK * all) / (tally.tries as f64 + SHRINK));
        let bad =
            |name: &str| self.packages.get(name).map_or(0.0, |tally| part(tally.failures, tally.tries as f64 + SHRINK));
        let good = packages.iter().fold(1.0 - of_look, |good, one| good * (1.0 - bad(one.name())));
        (1.0 - good).clamp(0.0, 1.0)
    }

    /// How unsure the rate of a look is: the deviation of what is believed of it.
    #[must_use]
    pub fn doubt(&self, look: &str) -> f64 {
        let tries = self.looks.get(look).map_or(0.0, |tally| tally.tries as f64);
        let rate = self.chance(look, &[]);
        (rate * (1.0 - rate) / (tries + SHRINK + 1.0)).sqrt()
    }
}
