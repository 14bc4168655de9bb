//! `patchloom journal export`: records as JSON, one per line, with their place in the hash chain.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use anyhow::{Context as _, anyhow};
use patchloom_core::record::Batch;
use patchloom_engine::datadir::DataDir;
use patchloom_engine::journal;
use serde_json::json;

use super::JournalExportArgs;
use crate::cli::Context;
use crate::cli::store::{dir_fault, journal_fault};
use crate::fault::{Exit, Fault};
use crate::output::{text, time};

pub(super) fn run(args: &JournalExportArgs, context: &Context) -> Result<Exit, Fault> {
    let dir = DataDir::inspect(&context.data_dir()?).map_err(dir_fault)?;
    let written = match &args.output {
        None => {
            let mut out = BufWriter::new(io::stdout().lock());
            let written = write(&dir, args, &mut out);
            written.and_then(|count| told("stdout", out.flush()).map(|()| count))
        }
        Some(path) => {
            let name = path.display().to_string();
            let file = File::create(path)
                .with_context(|| format!("cannot create {name}"))
                .map_err(|error| Fault::new("E0906", Exit::BadInput, error))?;
            let mut out = BufWriter::new(file);
            let count = write(&dir, args, &mut out)?;
            // What is asked for as evidence shall be there after a power loss, too.
            told(&name, out.flush().and_then(|()| out.get_ref().sync_all()))?;
            eprintln!("{} written to {}", text::count(count, "record", "records"), text::plain(&name));
            Ok(count)
        }
    };
    match written {
        Ok(0) if args.run.is_some() => {
            let error = anyhow!(
                "no record in the journal is about a run {}",
                text::plain(args.run.as_deref().unwrap_or_default())
            );
            Err(Fault::new("E0304", Exit::BadInput, error)
                .hint("older runs are in the archive: patchloom run history RUN --json"))
        }
        Ok(_) => Ok(Exit::Ok),
        Err(fault) => Err(fault),
    }
}

/// Whoever reads may have seen enough: a closed pipe is no fault.
fn told(name: &str, result: io::Result<()>) -> Result<(), Fault> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let error = anyhow::Error::new(error).context(format!("cannot write to {name}"));
            Err(Fault::new("E0904", Exit::Internal, error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes what is asked for; gives how many records that is.
fn write(dir: &DataDir, args: &JournalExportArgs, out: &mut impl Write) -> Result<usize, Fault> {
    if !dir.journal().is_dir() {
        return Ok(0);
    }
    let prefix = args.run.as_deref().map(str::to_ascii_lowercase);
    let mut count = 0;
    for record in journal::records(&dir.journal(), args.from).map_err(journal_fault)? {
        let record = record.map_err(journal_fault)?;
        let seq = record.seq;
        let mut batch: Batch = serde_json::from_slice(&record.payload)
            .with_context(|| format!("record {seq} of the journal cannot be understood"))
            .map_err(|error| Fault::new("E0419", Exit::Internal, error))?;
        if let Some(prefix) = &prefix {
            batch.entries.retain(|entry| entry.event.run().is_some_and(|run| run.to_string().starts_with(prefix)));
            if batch.entries.is_empty() {
                continue;
            }
        }
        let line = json!({
            "seq": seq, "hash": record.hash.to_string(), "at": time::rfc3339(batch.at), "entries": batch.entries,
        });
        if let Err(error) = writeln!(out, "{line}") {
            told("the output", Err(error))?;
            return Ok(count.max(1));
        }
        count += 1;
    }
    Ok(count)
}
