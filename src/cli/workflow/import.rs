//! `patchloom workflow import`: a workflow of another engine in, a definition out, and what was lost on the way.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use patchloom_core::{Diagnostics, place};

use super::{Source, WorkflowImportArgs, bad};
use crate::cli::Context;
use crate::fault::{Exit, Fault};
use crate::import::import;
use crate::output::text;

pub(super) fn run(args: &WorkflowImportArgs, context: &Context) -> Result<Exit, Fault> {
    let Source { file, text: source } = Source::read(&args.file)?;
    let made = import(&file, &source, args.from).map_err(|found| bad(&found))?;
    match &args.out {
        Some(path) => write(path, &made.yaml)?,
        None => context.print(&made.yaml)?,
    }
    let exit = if made.findings.lossy() { Exit::Failed } else { Exit::Ok };
    let found = Diagnostics { file, source, list: made.findings.into_list() };
    eprint!("{}", text::lines(&told(&found)));
    Ok(exit)
}

/// Each finding in three lines: where and what, why, what to do.
fn told(found: &Diagnostics) -> String {
    let mut out = String::new();
    for one in &found.list {
        let at = place(&found.source, one.span.start);
        out.push_str(&format!("{}:{}:{}: {}: {}\n", found.file, at.line, at.column, one.code, one.message));
        out.push_str(&format!("  because: {}\n", one.reason));
        out.push_str(&one.fix.as_ref().map(|fix| format!("  try: {fix}\n")).unwrap_or_default());
    }
    out
}

fn write(path: &Path, yaml: &str) -> Result<(), Fault> {
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    file.and_then(|mut file| file.write_all(yaml.as_bytes()))
        .with_context(|| format!("cannot write the definition to {}", path.display()))
        .map_err(|error| {
            Fault::new("E0568", Exit::Unable, error)
                .hint("name a file in a directory you may write, that is not there yet")
        })
}
