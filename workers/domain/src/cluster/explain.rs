//! Which of the things that failing hosts have in common explains their failures: the one that makes the outcomes most
//! likely, and of those that the data does not tell apart the one that is believed first. Decides nothing.

use super::class::preferred;
use super::exact::{LnFactorials, Table, p_within};
use super::model::{CampaignHost, Dimension, Scope};
use super::stream::{FAILURES_MIN, Monitor, StreamKey, fails_in};
use crate::Responsible;

/// Explanations whose logarithms of the likelihood differ by less are not told apart.
pub const NATS_ALIKE: f64 = 1.0;
/// At most so many explanations of one side's failures are looked for.
const ROUNDS_MAX: usize = 16;
/// Beyond so many failures a test within strata says nothing that the likelihood has not said.
const WITHIN_FAILED_MAX: u32 = 2_000;

/// The results so far, as the tests count them.
pub(super) struct Results<'a> {
    pub monitor: &'a Monitor<'a>,
    pub hosts: &'a [CampaignHost],
    /// The hosts with a result.
    pub known: Vec<usize>,
    pub ln: LnFactorials,
}

/// What explains failures of one side, and what else might have.
pub(super) struct Explained {
    pub scope: Scope,
    pub table: Table,
    /// The failures that it explains, by host.
    pub hosts: Vec<usize>,
    /// Other explanations that lost: how probable their failures are within the strata of this one.
    pub rivals: Vec<(Scope, f64)>,
}

struct Candidate {
    scope: usize,
    table: Table,
    gain: f64,
    /// Where it stands in the order of belief.
    rank: usize,
}

impl<'a> Results<'a> {
    pub(super) fn new(monitor: &'a Monitor<'a>, hosts: &'a [CampaignHost]) -> Self {
        let known: Vec<usize> = (0..hosts.len()).filter(|at| hosts[*at].outcome.is_known()).collect();
        let ln = LnFactorials::up_to(u32::try_from(known.len()).unwrap_or(u32::MAX));
        Self { monitor, hosts, known, ln }
    }

    /// Failures and hosts inside and outside of each scope, for one side; failures of `gone` hosts do not count.
    pub(super) fn tables(&self, side: Responsible, gone: &[bool]) -> Vec<Table> {
        let scopes = self.monitor.scopes();
        let mut inside = vec![(0_u32, 0_u32, 0_u32); scopes.len()];
        let (mut failed, mut hosts) = (0, 0);
        for &at in &self.known {
            let result = &self.hosts[at].outcome;
            let fails = result.who() == Some(side) && !gone[at];
            failed += u32::from(fails);
            hosts += 1;
            for &scope in self.monitor.scopes_of(at) {
                let here = fails && fails_in(result, side, &scopes[scope]);
                let count = &mut inside[scope];
                *count = (count.0 + u32::from(here), count.1 + 1, count.2 + u32::from(fails));
            }
        }
        let table = |(here, of, any): (u32, u32, u32)| Table {
            failed_in: here,
            hosts_in: of,
            failed_out: failed - any,
            hosts_out: hosts - of,
        };
        inside.into_iter().map(table).collect()
    }

    /// What explains the failures of a side, the strongest first, until what is left is no more than usual.
    pub(super) fn explain(&self, side: Responsible) -> Vec<Explained> {
        let mut gone = vec![false; self.hosts.len()];
        let mut all = Vec::new();
        while all.len() < ROUNDS_MAX {
            let tables = self.tables(side, &gone);
            let found = self.best(side, &tables);
            let scope = self.monitor.scopes()[found.scope].clone();
            let here = |at: &usize| {
                let result = &self.hosts[*at].outcome;
                !gone[*at] && self.monitor.scopes_of(*at).contains(&found.scope) && fails_in(result, side, &scope)
            };
            let hosts: Vec<usize> = self.known.iter().copied().filter(here).collect();
            if hosts.is_empty() {
                break;
            }
            let rivals = self.rivals(side, &tables, &found, &gone);
            let whole = scope.dimension == Dimension::Campaign;
            hosts.iter().for_each(|at| gone[*at] = true);
            all.push(Explained { scope, table: found.table, hosts, rivals });
            if whole || !self.still_crosses(side, &gone) {
                break;
            }
        }
        all
    }

    fn best(&self, side: Responsible, tables: &[Table]) -> Candidate {
        let scopes = self.monitor.scopes();
        let (natural, others) = preferred(side);
        let rank = |dimension: Dimension| natural.iter().chain(others).position(|of| *of == dimension);
        let total = tables.first().map_or(0, |table| table.failed_in);
        let mut candidates = Vec::new();
        for (scope, table) in tables.iter().enumerate().filter(|(_, table)| table.failed_in >= FAILURES_MIN) {
            let dimension = scopes[scope].dimension;
            let Some(rank) = rank(dimension) else { continue };
            let (inside, outside) = table.rates();
            let values = scopes.iter().filter(|other| other.dimension == dimension).count();
            let cost = (f64::from(table.hosts_in + table.hosts_out)).ln() / 2.0
                + f64::from(u32::try_from(values).unwrap_or(u32::MAX)).ln();
            let gain = table.ln_gain() - cost;
            // Nobody outside has a result: there is nothing to compare with, and the usual suspect is believed where
            // it is the only one of its kind.
            let alone = || {
                let same = |other: &(usize, &Table)| {
                    scopes[other.0].dimension == dimension && other.1.failed_in == total && other.1.hosts_out == 0
                };
                natural.contains(&dimension)
                    && table.failed_in == total
                    && table.hosts_out == 0
                    && tables.iter().enumerate().filter(same).count() == 1
            };
            if inside > outside && gain > 0.0 {
                candidates.push(Candidate { scope, table: *table, gain, rank });
            } else if alone() {
                candidates.push(Candidate { scope, table: *table, gain: 0.0, rank });
            }
        }
        let most = candidates.iter().map(|candidate| candidate.gain).fold(0.0, f64::max);
        let near = candidates.into_iter().filter(|candidate| candidate.gain > most - NATS_ALIKE);
        let whole = Candidate { scope: 0, table: tables[0], gain: 0.0, rank: usize::MAX };
        near.min_by(|a, b| a.rank.cmp(&b.rank).then(b.gain.total_cmp(&a.gain)).then(a.scope.cmp(&b.scope)))
            .unwrap_or(whole)
    }

    /// The other scopes in which failures concentrate, and their chance within the strata of what was found.
    fn rivals(&self, side: Responsible, tables: &[Table], found: &Candidate, gone: &[bool]) -> Vec<(Scope, f64)> {
        let scopes = self.monitor.scopes();
        if found.table.failed_in + found.table.failed_out > WITHIN_FAILED_MAX || found.table.hosts_out == 0 {
            return Vec::new();
        }
        let strong = |(scope, table): &(usize, &Table)| {
            *scope != found.scope && table.failed_in >= FAILURES_MIN && table.p(&self.ln) <= super::stream::ALPHA
        };
        let mut rivals: Vec<(usize, f64)> =
            tables.iter().enumerate().filter(strong).map(|(scope, table)| (scope, table.ln_gain())).collect();
        rivals.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let within = |scope: usize| p_within(&self.ln, &self.strata(side, scope, found.scope, gone));
        rivals.into_iter().take(5).map(|(scope, _)| (scopes[scope].clone(), within(scope))).collect()
    }

    /// The table of one scope, inside and outside of another.
    fn strata(&self, side: Responsible, scope: usize, given: usize, gone: &[bool]) -> [Table; 2] {
        let none = Table { failed_in: 0, hosts_in: 0, failed_out: 0, hosts_out: 0 };
        let mut strata = [none; 2];
        for &at in &self.known {
            let of = self.monitor.scopes_of(at);
            let failed = u32::from(self.hosts[at].outcome.who() == Some(side) && !gone[at]);
            let table = &mut strata[usize::from(!of.contains(&given))];
            if of.contains(&scope) {
                table.hosts_in += 1;
                table.failed_in += failed;
            } else {
                table.hosts_out += 1;
                table.failed_out += failed;
            }
        }
        strata
    }

    /// Whether the failures that are not yet explained are still more than usual.
    fn still_crosses(&self, side: Responsible, gone: &[bool]) -> bool {
        let mut fresh = self.monitor.afresh();
        for &host in &self.known {
            fresh.tell(host, if gone[host] { &crate::HostResult::Ok } else { &self.hosts[host].outcome });
        }
        fresh.sides().contains(&side)
    }

    /// The stream of what was found.
    pub(super) fn stream_of(&self, scope: &Scope, side: Responsible) -> Option<&super::stream::Stream> {
        let key: StreamKey = (scope.clone(), side);
        self.monitor.stream(&key)
    }
}
