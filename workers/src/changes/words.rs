//! What a change says of its plan, so that whoever decides sees what is to happen without looking elsewhere.

use std::collections::BTreeMap;

use patchloom_domain::{Mode, Plan};

/// Lines of packages at most; what is over is counted, and stands in the plan.
const PACKAGES_MAX: usize = 300;

/// What will be done: each package with its versions, and on how many hosts.
pub(super) fn implementation(plan: &Plan) -> String {
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
    told
}
