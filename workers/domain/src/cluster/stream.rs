//! The sequential test: result by result, whether failures come more often than they used to. Knows no explanations.
//!
//! For each thing that hosts have in common, and each side that may be at fault, the likelihood of the results under
//! higher failure rates is divided by that under the base rate. Under the base rate, or below it, such a ratio has the mean
//! 1 after every result, so the chance that it ever reaches `1/a` is at most `a`, however often one looks (Ville 1939). The
//! `a` of all these streams add up to the alpha of the campaign.

use std::collections::BTreeMap;

use super::exact::ln_sum;
use super::model::{CampaignHost, Dimension, HostResult, PastRate, Scope};
use crate::Responsible;

/// The chance of a false halt over a whole campaign, at most, and the level of Fisher's test.
pub const ALPHA: f64 = 0.01;
/// Fewer failures than this are never called systemic.
pub const FAILURES_MIN: u32 = 3;
/// What is taken as seen before any history: failures …
pub const PRIOR_FAILED: f64 = 1.0;
/// … of so many hosts.
pub const PRIOR_HOSTS: f64 = 50.0;
/// How many standard deviations above the mean of what was seen the base rate is set.
pub const BASE_DEVIATIONS: f64 = 2.0;
/// By how much the odds of a failure may have risen: the alternatives, equally weighted.
const ODDS: [f64; 6] = [3.0, 10.0, 30.0, 100.0, 300.0, 1000.0];

/// Whose fault a failure may be, in the order of the tests.
pub(super) const SIDES: [Responsible; 5] =
    [Responsible::Agent, Responsible::Relay, Responsible::Policy, Responsible::Package, Responsible::Host];

pub(super) type StreamKey = (Scope, Responsible);

/// One likelihood ratio, told result by result.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    /// Hosts with a result.
    pub hosts: u32,
    /// Failures among them.
    pub failed: u32,
    /// The bar for the logarithm of the ratio.
    pub ln_bar: f64,
    /// The sum of the base rates, for the mean.
    rates: f64,
    /// Logarithm of the ratio for each alternative.
    ln_ratios: [f64; ODDS.len()],
}

impl Stream {
    fn add(&mut self, rate: f64, failed: bool) {
        self.hosts += 1;
        self.failed += u32::from(failed);
        self.rates += rate;
        for (ln, ratio) in self.ln_ratios.iter_mut().zip(ODDS) {
            // odds p1 = ratio * p0 / (1 - p0): so (1-p1)/(1-p0) = 1 / (1 - p0 + ratio * p0).
            let ok = -((ratio - 1.0) * rate).ln_1p();
            *ln += if failed { ok + ratio.ln() } else { ok };
        }
    }

    /// Logarithm of the mixed ratio: the evidence against the base rate.
    pub(super) fn ln_evidence(&self) -> f64 {
        let weight = f64::from(u32::try_from(ODDS.len()).unwrap_or(1)).ln();
        ln_sum(self.ln_ratios.iter().copied()) - weight
    }

    /// Whether it says that failures are more frequent than they were.
    pub(super) fn has_crossed(&self) -> bool {
        self.failed >= FAILURES_MIN && self.ln_evidence() >= self.ln_bar
    }

    /// The mean base rate of its hosts.
    pub(super) fn base_rate(&self) -> f64 {
        if self.hosts == 0 { 0.0 } else { self.rates / f64::from(self.hosts) }
    }
}

/// The streams of a campaign, fed result by result.
///
/// # Example
/// A result is told once; the same host again changes nothing. What has crossed stays crossed, whatever comes later.
#[derive(Clone, Debug)]
pub struct Monitor<'a> {
    hosts: &'a [CampaignHost],
    scopes: Vec<Scope>,
    of_host: Vec<Vec<usize>>,
    rates: Rates<'a>,
    streams: Vec<Vec<Stream>>,
    told: Vec<bool>,
    crossed: Vec<(usize, usize)>,
}

impl<'a> Monitor<'a> {
    /// For the hosts of a campaign, none of which has a result yet: outcomes that they carry are not looked at.
    #[must_use]
    pub fn new(hosts: &'a [CampaignHost], history: &'a [PastRate], alpha: f64) -> Self {
        let mut at: BTreeMap<Scope, usize> = BTreeMap::new();
        let of_each: Vec<Vec<Scope>> = hosts.iter().map(CampaignHost::scopes).collect();
        at.insert(Scope::campaign(), 0);
        at.extend(of_each.iter().flatten().map(|scope| (scope.clone(), 0)));
        let mut values: BTreeMap<Dimension, u32> = BTreeMap::new();
        for (number, (scope, index)) in at.iter_mut().enumerate() {
            *index = number;
            *values.entry(scope.dimension).or_default() += 1;
        }
        let sides = u32::try_from(SIDES.len()).unwrap_or(u32::MAX);
        let dimensions = u32::try_from(values.len()).unwrap_or(u32::MAX);
        let stream = |scope: &Scope| {
            let share = f64::from(sides) * f64::from(dimensions) * f64::from(values[&scope.dimension]);
            let ln_bar = (share / alpha).ln();
            Stream { hosts: 0, failed: 0, ln_bar, rates: 0.0, ln_ratios: [0.0; ODDS.len()] }
        };
        let streams = at.keys().map(|scope| vec![stream(scope); SIDES.len()]).collect();
        let of_host = of_each.iter().map(|scopes| scopes.iter().map(|scope| at[scope]).collect()).collect();
        Self {
            hosts,
            scopes: at.into_keys().collect(),
            of_host,
            rates: Rates::new(hosts, history),
            streams,
            told: vec![false; hosts.len()],
            crossed: Vec::new(),
        }
    }

    /// Tells what became of the host at `index`; `Waiting`, a host that is not there, and a second result change nothing.
    /// Says whether failures are now known to be more frequent than they were, somewhere.
    pub fn tell(&mut self, index: usize, result: &HostResult) -> bool {
        if !result.is_known() || self.told.get(index).is_none_or(|told| *told) {
            return self.has_crossed();
        }
        self.told[index] = true;
        for scope in self.of_host[index].clone() {
            for (at, side) in SIDES.into_iter().enumerate() {
                let failed = fails_in(result, side, &self.scopes[scope]);
                let rate = self.rates.of(index, &self.hosts[index], at, &self.scopes[scope]);
                let stream = &mut self.streams[scope][at];
                let before = stream.has_crossed();
                stream.add(rate, failed);
                if stream.has_crossed() && !before && !self.crossed.contains(&(scope, at)) {
                    self.crossed.push((scope, at));
                }
            }
        }
        self.has_crossed()
    }

    /// The same streams, with nothing told.
    pub(super) fn afresh(&self) -> Self {
        let mut fresh = self.clone();
        fresh.told.fill(false);
        fresh.crossed.clear();
        for stream in fresh.streams.iter_mut().flatten() {
            *stream = Stream { hosts: 0, failed: 0, ln_bar: stream.ln_bar, rates: 0.0, ln_ratios: [0.0; ODDS.len()] };
        }
        fresh
    }

    /// Whether any stream ever crossed its bar.
    #[must_use]
    pub fn has_crossed(&self) -> bool {
        !self.crossed.is_empty()
    }

    /// The sides whose failures became more frequent, anywhere.
    pub(super) fn sides(&self) -> Vec<Responsible> {
        SIDES
            .into_iter()
            .enumerate()
            .filter(|(at, _)| self.crossed.iter().any(|(_, of)| of == at))
            .map(|(_, s)| s)
            .collect()
    }

    /// What crossed first for a side, and the stream as it stands.
    pub(super) fn first(&self, side: Responsible) -> Option<(&Scope, &Stream)> {
        let at = SIDES.iter().position(|of| *of == side)?;
        let (scope, _) = self.crossed.iter().find(|(_, of)| *of == at)?;
        Some((&self.scopes[*scope], &self.streams[*scope][at]))
    }

    /// A stream by its scope and side.
    pub(super) fn stream(&self, (scope, side): &StreamKey) -> Option<&Stream> {
        let at = SIDES.iter().position(|of| of == side)?;
        let scope = self.scopes.binary_search(scope).ok()?;
        Some(&self.streams[scope][at])
    }

    /// All scopes, in order.
    pub(super) fn scopes(&self) -> &[Scope] {
        &self.scopes
    }

    /// The scopes of a host, by their place in [`Self::scopes`].
    pub(super) fn scopes_of(&self, index: usize) -> &[usize] {
        &self.of_host[index]
    }

    /// How many streams there are.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.scopes.len() * SIDES.len()
    }
}

/// Whether a result is a failure of this side, in this scope: a failure that names its package is one of that patch alone.
pub(super) fn fails_in(result: &HostResult, side: Responsible, scope: &Scope) -> bool {
    let of_patch = || match (scope.dimension, result.package()) {
        (Dimension::Patch, Some(package)) => {
            scope.value.strip_prefix(package).is_some_and(|rest| rest.starts_with(' '))
        }
        _ => true,
    };
    result.who() == Some(side) && of_patch()
}

/// The base rates of hosts and patches.
#[derive(Clone, Debug)]
struct Rates<'a> {
    /// Per host and side.
    hosts: Vec<[f64; SIDES.len()]>,
    /// Rows about one package.
    packages: BTreeMap<&'a str, Vec<&'a PastRate>>,
}

impl<'a> Rates<'a> {
    fn new(hosts: &[CampaignHost], history: &'a [PastRate]) -> Self {
        let general: Vec<&PastRate> = history.iter().filter(|past| past.package.is_none()).collect();
        let mut packages: BTreeMap<&str, Vec<&PastRate>> = BTreeMap::new();
        for past in history {
            if let Some(package) = &past.package {
                packages.entry(package).or_default().push(past);
            }
        }
        let rates = |host: &CampaignHost| SIDES.map(|side| base_rate(&general, host, side));
        Self { hosts: hosts.iter().map(rates).collect(), packages }
    }

    fn of(&self, index: usize, host: &CampaignHost, side: usize, scope: &Scope) -> f64 {
        let package = scope.value.split(' ').next().filter(|_| scope.dimension == Dimension::Patch);
        match package.and_then(|package| self.packages.get(package)) {
            Some(rows) if rows.iter().any(|past| past.who == SIDES[side] && fits(past, host)) => {
                base_rate(rows, host, SIDES[side])
            }
            _ => self.hosts[index][side],
        }
    }
}

fn fits(past: &PastRate, host: &CampaignHost) -> bool {
    past.cohort.iter().all(|(dimension, value)| host.values().any(|(of, is)| of == *dimension && is == value))
}

/// The rate that failures of a side are held against: from the rows that say the most about the host, together with
/// what is taken as seen before; the mean and some deviations, so that a short history does not promise too much.
///
/// # Source
/// The posterior of a Beta prior.
fn base_rate(rows: &[&PastRate], host: &CampaignHost, side: Responsible) -> f64 {
    let fitting = || rows.iter().filter(|past| past.who == side && fits(past, host));
    let most = fitting().map(|past| past.cohort.len()).max().unwrap_or(0);
    let (mut failed, mut hosts) = (PRIOR_FAILED, PRIOR_HOSTS);
    for past in fitting().filter(|past| past.cohort.len() == most) {
        failed += f64::from(past.failed);
        hosts += f64::from(past.hosts);
    }
    let mean = failed / hosts;
    let deviation = (mean * (1.0 - mean) / (hosts + 1.0)).sqrt();
    (mean + BASE_DEVIATIONS * deviation).min(0.95)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_has_mean_one_under_the_base_rate_and_less_below_it() {
        for (rate, truth) in [(0.05, 0.05), (0.3, 0.3), (0.05, 0.01), (0.001, 0.001)] {
            let told = |failed| {
                let mut stream = Stream { hosts: 0, failed: 0, ln_bar: 1.0, rates: 0.0, ln_ratios: [0.0; ODDS.len()] };
                stream.add(rate, failed);
                stream.ln_evidence().exp()
            };
            let mean: f64 = truth * told(true) + (1.0 - truth) * told(false);
            let expected_at_most = if truth < rate { 1.0 - 1e-9 } else { 1.0 + 1e-9 };
            assert!(mean <= expected_at_most, "{rate} {truth}: {mean}");
            assert!(truth < rate || mean > 1.0 - 1e-9, "{mean}");
        }
    }
}
