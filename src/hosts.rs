//! The hosts of inventory files, for commands that take them: the same reader as that of `patchloom inventory`, and JSON lists of
//! hosts as it prints them. What is wrong in a file is told with its place, all at once.

use std::path::PathBuf;

use anyhow::anyhow;
use patchloom_domain::Host;
use patchloom_domain::inventory::{Level, Mistakes, Names, merge, read};
use patchloom_workers::inventory::gather;

use crate::fault::{Exit, Fault};

/// Reads and merges the hosts of some files; warnings and notes go to stderr.
///
/// # Errors
/// `E0894` where a file cannot be read or something in it is wrong.
pub fn load(files: &[PathBuf]) -> Result<Vec<Host>, Fault> {
    let mut mistakes = Mistakes::default();
    let (mut listed, mut sources) = (Vec::new(), Vec::new());
    for file in files {
        let unreadable = |error: anyhow::Error| Fault::new("E0894", Exit::BadInput, error);
        let json = || serde_json::from_str::<Vec<Host>>(&std::fs::read_to_string(file).ok()?).ok();
        if let Some(hosts) = json() {
            listed.extend(hosts);
            continue;
        }
        let texts = gather(file).map_err(|error| {
            unreadable(anyhow!(error).context(format!("cannot read the inventory {}", file.display())))
        })?;
        sources.extend(read(&texts, &Names::default(), &mut mistakes));
    }
    let merged = merge(&sources, &mut mistakes);
    mistakes.sort();
    let errors: Vec<String> =
        mistakes.list().iter().filter(|found| found.level == Level::Error).map(ToString::to_string).collect();
    for found in mistakes.list().iter().filter(|found| found.level != Level::Error) {
        eprintln!("{found}");
    }
    if !errors.is_empty() {
        let error = anyhow!("the inventory has mistakes:\n{}", errors.join("\n"));
        return Err(Fault::new("E0894", Exit::BadInput, error).hint("nothing was begun; mend them and try again"));
    }
    listed.extend(merged.hosts);
    Ok(listed)
}
