//! What a change says of its plan, so that whoever decides sees what is to happen without looking elsewhere.

use std::collections::BTreeMap;

use patchloom_domain::{Instant, Mode, Moment, Plan, Roster};

/// Lines of packages at most; what is over is counted, and stands in the plan.
const PACKAGES_MAX: usize = 300;

/// Hosts of one wave and window that are named at most.
const HOSTS_MAX: usize = 50;

/// What will be done: each package with its versions, and on how many hosts; for a campaign also who goes when.
pub(super) fn implementation(plan: &Plan, roster: Option<&Roster>) -> String {
    let verb = match plan.mode() {
        Mode::Observe => "Simulate",
        Mode::Apply => "Install",
    };
    let (count, hosts) = (plan.change_count(), plan.hosts().len());
    let mut told = format!("{verb} exactly the {count} planned versions, then read the package set back.");
    let mut packages: BTreeMap<_, (usize, bool)> = BTreeMap::new();
    for change in plan.hosts().iter().flat_map(|host| &host.changes) {
        let key = (&change.id, change.installed.as_deref(), change.candidate.as_str());
        let entry = packages.entry(key).or_default();
        entry.0 += 1;
        entry.1 |= change.security;
    }
    for ((package, installed, candidate), (on, security)) in packages.iter().take(PACKAGES_MAX) {
        let from = installed.map_or_else(|| "new".to_owned(), |version| format!("{version} ->"));
        let on = if hosts > 1 { format!(", on {on} of {hosts} hosts") } else { String::new() };
        let security = if *security { ", security" } else { "" };
        let (name, arch) = (&package.name, &package.arch);
        told.push_str(&format!("\n- {name}:{arch} {from} {candidate}{security}{on}"));
    }
    if let Some(over) = packages.len().checked_sub(PACKAGES_MAX).filter(|over| *over > 0) {
        told.push_str(&format!("\nand {over} more, which stand in the plan"));
    }
    roster.into_iter().for_each(|roster| told.push_str(&schedule(roster, plan.mode())));
    told
}

/// The waves one behind the other, each with its windows and who goes in them.
fn schedule(roster: &Roster, mode: Mode) -> String {
    let mut told = "\n\nIn this order:".to_owned();
    let mut rows: Vec<(u32, Instant, Instant, Vec<&str>)> = Vec::new();
    for slot in roster.plan.slots() {
        let (wave, open, close) = (slot.wave, slot.occurrence.open, slot.occurrence.close);
        match rows.iter_mut().find(|row| (row.0, row.1, row.2) == (wave, open, close)) {
            Some(row) => row.3.push(&slot.host),
            None => rows.push((wave, open, close, vec![&slot.host])),
        }
    }
    let at = |instant: Instant| Moment(i64::try_from(instant.0 / 1000).unwrap_or(i64::MAX));
    for (wave, open, close, hosts) in rows {
        let name = usize::try_from(wave).ok().and_then(|wave| roster.plan.waves().get(wave));
        let name = name.map_or("?", |wave| wave.name.as_str());
        // Whoever only looks waits for no window.
        let when = if mode == Mode::Apply { format!(", {} to {}", at(open), at(close)) } else { String::new() };
        let named = hosts.iter().take(HOSTS_MAX).copied().collect::<Vec<_>>().join(", ");
        let more = hosts.len().checked_sub(HOSTS_MAX).filter(|more| *more > 0);
        let more = more.map(|more| format!(" and {more} more")).unwrap_or_default();
        told.push_str(&format!("\n- {name}{when}: {named}{more}"));
    }
    told
}
