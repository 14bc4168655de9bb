//! Which finding and which host comes first, and why.

use std::cmp::Ordering;

use serde::Serialize;

use super::Decision;
use crate::{Criticality, Moment};

/// Something with a decision, in the order in which it is to be worked on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ranked<T> {
    /// It.
    #[serde(flatten)]
    pub what: T,
    /// How urgent it is.
    pub risk: Decision,
}

impl<T> Ranked<T> {
    /// The most urgent first: by deadline, then forensic triage, ransomware, EPSS and the highest base score.
    #[must_use]
    pub fn order(left: &Self, right: &Self) -> Ordering {
        let (a, b) = (&left.risk, &right.risk);
        let epss = |risk: &Decision| risk.epss.map_or(0.0, |score| score.probability);
        let score = |risk: &Decision| risk.scores.first().map_or(0, |(_, score)| score.tenths);
        a.rejected
            .cmp(&b.rejected)
            .then_with(|| a.deadline.is_none().cmp(&b.deadline.is_none()))
            .then_with(|| a.deadline.cmp(&b.deadline))
            .then_with(|| b.forensic.is_some().cmp(&a.forensic.is_some()))
            .then_with(|| b.ransomware.cmp(&a.ransomware))
            .then_with(|| epss(b).total_cmp(&epss(a)))
            .then_with(|| score(b).cmp(&score(a)))
    }
}

/// How urgent a host is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostRisk {
    /// Its name.
    pub host: String,
    /// The earliest deadline of what is open on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Moment>,
    /// How many of them are past it.
    pub overdue: usize,
    /// How many need forensic triage before patching.
    pub forensic: usize,
    /// How many are open.
    pub open: usize,
    /// Whether it is exposed.
    pub exposed: Option<bool>,
    /// How much depends on it.
    pub criticality: Option<Criticality>,
    /// Why it stands where it stands, in one sentence.
    pub why: String,
}

impl HostRisk {
    /// Sums up what is open on a host.
    #[must_use]
    pub fn of<'a>(
        host: &str,
        exposed: Option<bool>,
        criticality: Option<Criticality>,
        open: impl Iterator<Item = &'a Decision>,
        now: Moment,
    ) -> Self {
        let mut sum = Self {
            host: host.to_owned(),
            deadline: None,
            overdue: 0,
            forensic: 0,
            open: 0,
            exposed,
            criticality,
            why: String::new(),
        };
        for risk in open {
            sum.open += 1;
            sum.overdue += usize::from(risk.deadline.is_some_and(|until| until < now));
            sum.forensic += usize::from(risk.forensic.is_some());
            sum.deadline = [sum.deadline, risk.deadline].into_iter().flatten().min();
        }
        sum.why = sum.words();
        sum
    }

    fn words(&self) -> String {
        let mut parts = vec![match self.deadline {
            Some(until) => format!("{} open, the first due {until}", self.open),
            None => format!("{} open, none with a deadline", self.open),
        }];
        if self.overdue > 0 {
            parts.push(format!("{} overdue", self.overdue));
        }
        if self.forensic > 0 {
            parts.push(format!("{} to be examined before patching", self.forensic));
        }
        if self.exposed == Some(true) {
            parts.push("publicly exposed".to_owned());
        }
        if let Some(level) = self.criticality {
            parts.push(format!("criticality {}", level.level()));
        }
        parts.join(", ")
    }
}

/// Puts the most urgent host first: by earliest deadline, what needs forensic triage, exposure, criticality, and how much
/// is overdue and open.
pub fn rank_hosts(hosts: &mut [HostRisk]) {
    hosts.sort_by(|a, b| {
        let level = |host: &HostRisk| host.criticality.map_or(0, Criticality::level);
        a.deadline
            .is_none()
            .cmp(&b.deadline.is_none())
            .then_with(|| a.deadline.cmp(&b.deadline))
            .then_with(|| (b.forensic > 0).cmp(&(a.forensic > 0)))
            .then_with(|| (b.exposed == Some(true)).cmp(&(a.exposed == Some(true))))
            .then_with(|| level(b).cmp(&level(a)))
            .then_with(|| b.overdue.cmp(&a.overdue))
            .then_with(|| b.open.cmp(&a.open))
            .then_with(|| a.host.cmp(&b.host))
    });
}
