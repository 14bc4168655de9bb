//! What is known of patch groups when a plan is made: policy files, or those that the recorded inventory was made with.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use patchloom_core::calendar::Calendars;
use patchloom_domain::inventory::{GroupRules, Inventory, Level, Mistakes};
use patchloom_workers::inventory::{InventoryStore, read_policies};
use serde_json::Value;

use crate::cli::workflow::bad;
use crate::fault::{Exit, Fault};

/// What patch groups decide, with the calendars of their policies.
#[derive(Debug, Default)]
pub(in crate::cli) struct Known {
    pub rules: GroupRules,
    pub calendars: Option<Calendars>,
}

/// Reads policy files; where none is given, what is recorded in the data directory at `data`.
pub(super) fn known(policies: &[PathBuf], data: &Path) -> Result<Known, Fault> {
    if !policies.is_empty() {
        return of_files(policies);
    }
    let recorded = InventoryStore::new(data).load().map_err(|error| {
        let hint = "patchloom inventory show reads it too; give --policy to plan without it";
        Fault::new(error.code(), Exit::Internal, error).hint(hint)
    })?;
    let Some(document) = recorded else { return Ok(Known::default()) };
    let Inventory { calendars, schedules, .. } = &document.inventory;
    // Records that are older than the list of calendars have those of their schedules.
    let of_schedules = schedules.iter().filter_map(|row| Some((&row.window, row.calendar.as_ref()?)));
    let all = of_schedules.chain(calendars).map(|(name, calendar)| (name.clone(), calendar.clone())).collect();
    let rules = GroupRules::of_inventory(&document.inventory);
    if rules.have_windows() {
        eprintln!("Windows of patch groups are those of the recorded inventory, version {}.", document.version);
    }
    Ok(Known { rules, calendars: parse("the recorded inventory", all)? })
}

fn of_files(policies: &[PathBuf]) -> Result<Known, Fault> {
    let mut mistakes = Mistakes::default();
    let policy = read_policies(policies, &mut mistakes).map_err(|error| {
        Fault::new("E0937", Exit::BadInput, error).hint("name policy files as patchloom inventory import takes them")
    })?;
    mistakes.sort();
    // A group that contradicts itself concerns its own hosts only: they are left out.
    let (torn, wrong): (Vec<_>, Vec<_>) = mistakes.list().iter().partition(|one| one.code == "E0821");
    torn.iter().for_each(|one| eprintln!("{one}"));
    let wrong: Vec<String> = wrong.iter().filter(|one| one.level == Level::Error).map(ToString::to_string).collect();
    if !wrong.is_empty() {
        let error = anyhow!("the policy has mistakes:\n{}", wrong.join("\n"));
        return Err(Fault::new("E0937", Exit::BadInput, error).hint("nothing was planned; mend them and try again"));
    }
    let all = policy.calendars().iter().map(|(name, calendar)| (name.clone(), calendar.clone())).collect();
    Ok(Known { rules: GroupRules::of_policy(&policy), calendars: parse("the policy", all)? })
}

fn parse(whose: &str, calendars: serde_json::Map<String, Value>) -> Result<Option<Calendars>, Fault> {
    if calendars.is_empty() {
        return Ok(None);
    }
    // JSON is YAML: the calendars are read as their own file would be.
    let text = Value::Object(calendars).to_string();
    Calendars::parse(&format!("calendars of {whose}"), &text).map(Some).map_err(|found| bad(&found))
}
