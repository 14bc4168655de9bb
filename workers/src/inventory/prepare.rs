//! What sources and policies ask for, against what is recorded: all that a person or a task decides on. Writes nothing.

use std::path::Path;

use patchloom_core::calendar::Calendars;
use patchloom_domain::inventory::{
    Inventory, InventoryDiff, Level, Mistake, Mistakes, Policy, Source, TagPatch, check_policy, diff_inventories,
    keep_ids, merge, read, read_policy,
};

use super::{Document, Error, Sources, gather, read_text};

/// What came out of the sources.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The inventory as it should be.
    pub desired: Inventory,
    /// How it differs from the recorded one.
    pub diff: InventoryDiff,
    /// The tags that sources should have otherwise.
    pub tag_patches: Vec<TagPatch>,
    /// What is wrong, or was not taken over.
    pub mistakes: Mistakes,
}

impl Prepared {
    /// How many mistakes there are of a level.
    #[must_use]
    pub fn count(&self, level: Level) -> usize {
        self.mistakes.list().iter().filter(|mistake| mistake.level == level).count()
    }
}

/// Reads all sources and compares. `windows` are the calendars that are known beside those of the policies.
///
/// # Errors
/// Where a file cannot be read; what is wrong inside of files is among the mistakes.
pub fn prepare(sources: &Sources, recorded: Option<&Document>, windows: &[String]) -> Result<Prepared, Error> {
    let mut mistakes = Mistakes::default();
    let mut all: Vec<Source> = Vec::new();
    for path in &sources.files {
        all.extend(read(&gather(path)?, &sources.names, &mut mistakes));
    }
    let mut merged = merge(&all, &mut mistakes);
    let policy = read_policies(&sources.policies, &mut mistakes)?;
    let nothing = Inventory::default();
    let before = recorded.map_or(&nothing, |document| &document.inventory);
    keep_ids(&before.hosts, &mut merged.hosts, &mut mistakes);
    if !sources.policies.is_empty() {
        check_policy(&policy, &merged.hosts, windows, &mut mistakes);
    }
    mistakes.sort();
    let desired = Inventory::desired(merged.hosts, &policy);
    let diff = diff_inventories(before, &desired);
    Ok(Prepared { desired, diff, tag_patches: merged.tag_patches, mistakes })
}

/// Reads policy files; calendars in them are checked.
///
/// # Errors
/// Where a file cannot be read; what is wrong inside of files is among the mistakes.
pub fn read_policies(paths: &[impl AsRef<Path>], mistakes: &mut Mistakes) -> Result<Policy, Error> {
    let texts: Result<Vec<_>, Error> = paths.iter().map(|path| read_text(path.as_ref())).collect();
    let policy = read_policy(&texts?, mistakes);
    if !policy.calendars().is_empty() {
        // JSON is YAML: the calendars are read as their own file would be.
        let text = serde_json::to_string(policy.calendars()).unwrap_or_default();
        for found in Calendars::parse("calendars", &text).err().into_iter().flat_map(|found| found.list) {
            mistakes.push(Mistake {
                level: Level::Error,
                code: "E0814",
                at: format!(
                    "{}: calendars",
                    paths.iter().map(|path| path.as_ref().display().to_string()).collect::<Vec<_>>().join(", ")
                ),
                message: found.message,
                reason: found.reason,
                fix: found.fix.unwrap_or_else(|| "see docs/calendars.md".to_owned()),
            });
        }
    }
    Ok(policy)
}
