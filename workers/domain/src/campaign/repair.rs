//! Who finds no window, and the cheapest way to get those in who have a deadline. Knows neither waves nor patches.

use std::collections::BTreeMap;

use super::model::{LeftOut, LeftOutReason, Repair};
use super::planner::PlanSettings;
use crate::{Instant, Moment};

/// Windows are opened for a multiple of so long.
const STEP_MS: u64 = 5 * 60_000;

/// A host that no occurrence took.
#[derive(Clone, Debug)]
pub(super) struct Missed {
    pub host: String,
    pub window: String,
    pub need_ms: u64,
    pub mean_ms: u64,
    pub deadline: Option<Instant>,
    /// When its wave could begin.
    pub ready: Instant,
}

impl Missed {
    pub fn left_out(&self) -> LeftOut {
        let minutes = self.need_ms.div_ceil(60_000);
        let need = format!("'{}' has no window with room for {minutes} min", self.window);
        let from = shown(self.ready);
        let (reason, why) = match self.deadline {
            Some(deadline) => {
                let before =
                    format!("{need} between {from}, when its wave may begin, and its deadline {}", shown(deadline));
                (LeftOutReason::NoWindowBeforeDeadline, before)
            }
            None => (LeftOutReason::NoWindow, format!("{need} after {from} in the time that was looked at")),
        };
        LeftOut { host: self.host.clone(), reason, why }
    }
}

/// One repair per calendar, for all hosts of it that have a deadline and no window before it.
pub(super) fn repairs(missed: &[Missed], settings: &PlanSettings) -> Vec<Repair> {
    let mut groups: BTreeMap<(&str, bool), Vec<(&Missed, Instant)>> = BTreeMap::new();
    for one in missed {
        if let Some(deadline) = one.deadline {
            // What is overdue already says nothing of what the others need.
            let key = (one.window.as_str(), deadline < settings.now);
            groups.entry(key).or_default().push((one, deadline));
        }
    }
    groups.into_iter().filter_map(|((window, _), group)| repair(window, &group, settings)).collect()
}

fn repair(window: &str, group: &[(&Missed, Instant)], settings: &PlanSettings) -> Option<Repair> {
    let before = group.iter().map(|(_, deadline)| *deadline).min()?;
    let longest = group.iter().map(|(one, _)| one.need_ms).max()?;
    let places = u64::from(settings.limits.max_parallel.max(1));
    let all: u64 = group.iter().map(|(one, _)| one.mean_ms).sum();
    // What stands in line before the last one, and the last one at its worst.
    let queue = if group.len() > usize::try_from(places).unwrap_or(usize::MAX) { all / places } else { 0 };
    let length = (queue + longest).div_ceil(STEP_MS) * STEP_MS;
    let ready = group.iter().map(|(one, _)| one.ready).max()?;
    let opens_by = before.0.checked_sub(length).map(Instant).filter(|opens| *opens >= settings.now);
    let minutes = length / 60_000;
    let advice = match opens_by {
        Some(opens) if opens >= ready => {
            format!("open '{window}' for {minutes} more minutes, at {} at the latest", shown(opens))
        }
        Some(opens) => format!(
            "their waves begin only at {}: move them to an earlier wave, or raise an emergency change with a window of \
             {minutes} minutes that opens at {} at the latest",
            shown(ready),
            shown(opens)
        ),
        None => format!(
            "no window that opens from now on is over by {}: raise an emergency change, or have the deadline moved",
            shown(before)
        ),
    };
    let mut hosts: Vec<String> = group.iter().map(|(one, _)| one.host.clone()).collect();
    hosts.sort();
    let minutes = opens_by.map(|_| minutes);
    Some(Repair { window: window.to_owned(), hosts, minutes, opens_by, before, advice })
}

fn shown(at: Instant) -> String {
    Moment(i64::try_from(at.0 / 1000).unwrap_or(i64::MAX)).to_string()
}
