//! Why hosts of a campaign fail together, or by themselves, and what the campaign does about it. Knows no package manager.
//!
//! A sequential test says whether failures are more frequent than they used to be, with a stated chance of a false halt over
//! the whole campaign; the likelihood of the outcomes says what explains them; Fisher's exact test on each value is told
//! beside it. docs/failures.md has the figures.

mod class;
mod exact;
mod explain;
mod model;
#[cfg(test)]
mod simulations;
mod stream;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::Serialize;

pub use class::{ClusterClass, Remedy};
pub use explain::NATS_ALIKE;
pub use model::{
    CAMPAIGN_CAUSES, CAMPAIGN_HOSTS_MAX, CAMPAIGN_PAIRS_MAX, CAMPAIGN_PATCHES_MAX, CampaignHost, CampaignOutcomes,
    CampaignPatch, ClusterError, Dimension, HISTORY_MAX, HostResult, PastRate, Scope,
};
pub use stream::{ALPHA, BASE_DEVIATIONS, FAILURES_MIN, Monitor, PRIOR_FAILED, PRIOR_HOSTS};

use crate::Responsible;
use exact::{Table, corrected};
use explain::{Explained, Results};
use stream::SIDES;

/// Inside a cluster failures are at least so many times as frequent as outside …
pub const RATE_RATIO_MIN: f64 = 2.0;
/// … and by at least so much.
pub const RATE_MORE_MIN: f64 = 0.1;

/// All that can be said of a campaign so far.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CampaignVerdict {
    /// What to do now.
    pub decision: ClusterDecision,
    /// Why, one sentence each.
    pub reasons: Vec<String>,
    /// How far it is.
    pub counts: Counts,
    /// What fails together.
    pub systemic: Vec<Systemic>,
    /// Hosts that failed by themselves.
    pub one_offs: Vec<OneOff>,
    /// Fisher's test on each value with failures, the most telling first.
    pub tests: Vec<Concentration>,
    /// The chance of a false halt over the whole campaign, at most.
    pub alpha: f64,
    /// How many streams shared it.
    pub streams: usize,
}

/// What a campaign does after a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum ClusterDecision {
    /// Nothing speaks against going on.
    GoOn,
    /// These wait; the others go on.
    Pause {
        /// Which.
        scopes: Vec<Scope>,
    },
    /// Nobody starts any more.
    HaltCampaign,
}

impl fmt::Display for ClusterDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GoOn => f.write_str("go on"),
            Self::Pause { scopes } => {
                let scopes: Vec<String> = scopes.iter().map(ToString::to_string).collect();
                write!(f, "pause {}", scopes.join(", "))
            }
            Self::HaltCampaign => f.write_str("halt campaign"),
        }
    }
}

/// Hosts by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All.
    pub hosts: u32,
    /// Patched and verified.
    pub ok: u32,
    /// Failed, the unreachable among them.
    pub failed: u32,
    /// Without a result.
    pub waiting: u32,
}

/// Failures that belong together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Systemic {
    /// Its class.
    pub class: ClusterClass,
    /// What the hosts have in common.
    pub scope: Scope,
    /// Failures inside.
    pub failed_in: u32,
    /// Hosts with a result inside.
    pub hosts_in: u32,
    /// Failures of the same kind outside.
    pub failed_out: u32,
    /// Hosts with a result outside.
    pub hosts_out: u32,
    /// The rate that failures were held against.
    pub base_rate: f64,
    /// What crossed its bar first.
    pub detected_in: Scope,
    /// Logarithm of how much more likely the results are than at the base rate.
    pub ln_evidence: f64,
    /// The bar.
    pub ln_bar: f64,
    /// Fisher's exact test for this scope, by itself.
    pub p: f64,
    /// The hosts.
    pub hosts: Vec<String>,
    /// What else failures concentrate in, and what is left of that inside the strata of this scope.
    pub rivals: Vec<Rival>,
    /// What to do, in order.
    pub remedies: &'static [Remedy],
    /// What has to be taken back.
    pub compensation: &'static str,
}

/// Another explanation that lost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rival {
    /// Which.
    pub scope: Scope,
    /// Its test within the strata of the explanation that won.
    pub p_within: f64,
    /// Whether nothing of it is left there.
    pub explained: bool,
}

/// A host that failed by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OneOff {
    /// Which.
    pub host: String,
    /// Its class.
    pub class: ClusterClass,
    /// What to do, in order.
    pub remedies: &'static [Remedy],
}

/// Whether failures of a kind concentrate in one value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Concentration {
    /// Where.
    pub scope: Scope,
    /// Whose failures.
    pub who: Responsible,
    /// Failures inside.
    pub failed_in: u32,
    /// Hosts with a result inside.
    pub hosts_in: u32,
    /// Failures outside.
    pub failed_out: u32,
    /// Hosts with a result outside.
    pub hosts_out: u32,
    /// The ratio of the odds, with a half added to each count.
    pub odds_ratio: f64,
    /// Fisher's exact test, one-sided.
    pub p: f64,
    /// The same after Holm's correction over all tests that could decide.
    pub p_corrected: f64,
    /// Whether failures concentrate here: the corrected p, the counts and the effect all say so.
    pub concentrates: bool,
}

/// Judges a campaign as it stands.
///
/// # Errors
/// What [`CampaignOutcomes::check`] finds.
/// # Example
/// One host that failed of a hundred: go on. Four of four behind one relay that cannot fetch: that relay is paused.
pub fn judge_campaign(outcomes: &CampaignOutcomes) -> Result<CampaignVerdict, ClusterError> {
    outcomes.check()?;
    let mut monitor = Monitor::new(&outcomes.hosts, &outcomes.history, ALPHA);
    for (at, host) in outcomes.hosts.iter().enumerate() {
        monitor.tell(at, &host.outcome);
    }
    Ok(judge_monitored(&monitor, &outcomes.hosts))
}

/// Judges a campaign whose results were told one by one: what crossed once stays systemic, and is explained by all that is
/// known now.
#[must_use]
pub fn judge_monitored(monitor: &Monitor<'_>, hosts: &[CampaignHost]) -> CampaignVerdict {
    let results = Results::new(monitor, hosts);
    let mut systemic = Vec::new();
    let mut taken = vec![false; hosts.len()];
    for side in monitor.sides() {
        for explained in results.explain(side) {
            explained.hosts.iter().for_each(|at| taken[*at] = true);
            systemic.push(told(&results, side, &explained));
        }
    }
    let failing = hosts.iter().enumerate().filter(|(at, _)| !taken[*at]);
    let one_offs = failing.filter_map(|(_, host)| one_off(host)).collect();
    let decision = decide(&results, &systemic);
    CampaignVerdict {
        reasons: reasons(&systemic, &decision),
        decision,
        counts: counts(hosts),
        systemic,
        one_offs,
        tests: tests_of(&results),
        alpha: ALPHA,
        streams: monitor.streams(),
    }
}

fn told(results: &Results<'_>, side: Responsible, explained: &Explained) -> Systemic {
    let class = ClusterClass::of(side, Some(&explained.scope));
    let Table { failed_in, hosts_in, failed_out, hosts_out } = explained.table;
    let first = results.monitor.first(side);
    let own = results.stream_of(&explained.scope, side);
    let rival = |(scope, p): &(Scope, f64)| Rival { scope: scope.clone(), p_within: *p, explained: *p > ALPHA };
    Systemic {
        class,
        failed_in,
        hosts_in,
        failed_out,
        hosts_out,
        base_rate: own.map_or(0.0, stream::Stream::base_rate),
        detected_in: first.map_or_else(Scope::campaign, |(scope, _)| scope.clone()),
        ln_evidence: first.map_or(0.0, |(_, stream)| stream.ln_evidence()),
        ln_bar: first.map_or(0.0, |(_, stream)| stream.ln_bar),
        p: explained.table.p(&results.ln),
        hosts: explained.hosts.iter().map(|at| results.hosts[*at].host.clone()).collect(),
        rivals: explained.rivals.iter().map(rival).collect(),
        remedies: class.remedies(),
        compensation: class.compensation(),
        scope: explained.scope.clone(),
    }
}

fn one_off(host: &CampaignHost) -> Option<OneOff> {
    let class = ClusterClass::of(host.outcome.who()?, None);
    Some(OneOff { host: host.host.clone(), class, remedies: class.remedies_of_one() })
}

fn counts(hosts: &[CampaignHost]) -> Counts {
    let mut counts = Counts::default();
    for host in hosts {
        counts.hosts += 1;
        match host.outcome {
            HostResult::Waiting => counts.waiting += 1,
            HostResult::Ok => counts.ok += 1,
            HostResult::Unreachable | HostResult::Failed { .. } => counts.failed += 1,
        }
    }
    counts
}

/// A scope is paused, unless nothing would be left that can go on.
fn decide(results: &Results<'_>, systemic: &[Systemic]) -> ClusterDecision {
    if systemic.is_empty() {
        return ClusterDecision::GoOn;
    }
    let mut scopes: Vec<Scope> = systemic.iter().map(|found| found.scope.clone()).collect();
    scopes.sort();
    scopes.dedup();
    let all = results.monitor.scopes();
    let places: Vec<usize> = scopes.iter().filter_map(|scope| all.binary_search(scope).ok()).collect();
    let paused = |at: usize| results.monitor.scopes_of(at).iter().any(|scope| places.contains(scope));
    if (0..results.hosts.len()).all(paused) {
        return ClusterDecision::HaltCampaign;
    }
    ClusterDecision::Pause { scopes }
}

fn reasons(systemic: &[Systemic], decision: &ClusterDecision) -> Vec<String> {
    if systemic.is_empty() {
        return vec!["no failures beyond what is usual: what failed, failed by itself".to_owned()];
    }
    let mut all: Vec<String> = systemic.iter().map(reason).collect();
    if *decision == ClusterDecision::HaltCampaign {
        all.push("no host is left that none of this concerns".to_owned());
    }
    all
}

fn reason(found: &Systemic) -> String {
    let outside = match found.hosts_out {
        0 => "no other host has a result yet".to_owned(),
        hosts => format!("{} of {hosts} elsewhere", found.failed_out),
    };
    format!(
        "{}: {} of {} hosts failed in {}, {outside}; usual are {:.1} %; the results are e^{:.1} times as likely as that \
         (bar e^{:.1}, crossed in {}); Fisher p {:.1e}",
        found.class,
        found.failed_in,
        found.hosts_in,
        found.scope,
        found.base_rate * 100.0,
        found.ln_evidence,
        found.ln_bar,
        found.detected_in,
        found.p,
    )
}

/// Fisher's test on every value that splits the hosts, corrected over all of them.
fn tests_of(results: &Results<'_>) -> Vec<Concentration> {
    let gone = vec![false; results.hosts.len()];
    let mut all: Vec<(Responsible, usize, Table)> = Vec::new();
    for side in SIDES {
        let tables = results.tables(side, &gone).into_iter().enumerate();
        let splits = |table: &Table| {
            table.hosts_in > 0 && table.hosts_out > 0 && table.failed_in + table.failed_out >= FAILURES_MIN
        };
        all.extend(tables.filter(|(_, table)| splits(table)).map(|(scope, table)| (side, scope, table)));
    }
    let of = |(_, _, table): &(Responsible, usize, Table)| (table.p(&results.ln), table.p_least(&results.ln));
    let p: Vec<(f64, f64)> = all.iter().map(of).collect();
    let corrected = corrected(&p, ALPHA);
    let mut tests: Vec<Concentration> = Vec::new();
    for (((who, scope, table), (p, _)), p_corrected) in all.into_iter().zip(p).zip(corrected) {
        if table.failed_in == 0 {
            continue;
        }
        let (inside, outside) = table.rates();
        let effect = inside >= RATE_RATIO_MIN * outside && inside - outside >= RATE_MORE_MIN;
        tests.push(Concentration {
            scope: results.monitor.scopes()[scope].clone(),
            who,
            failed_in: table.failed_in,
            hosts_in: table.hosts_in,
            failed_out: table.failed_out,
            hosts_out: table.hosts_out,
            odds_ratio: table.odds_ratio(),
            p,
            p_corrected,
            concentrates: p_corrected <= ALPHA && effect && table.failed_in >= FAILURES_MIN,
        });
    }
    tests.sort_by(|a, b| a.p.total_cmp(&b.p).then_with(|| a.scope.cmp(&b.scope)));
    tests
}
