//! `patchloom run export` and `run import --replay`: a whole run in one file, and whether it tells the truth.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;
use patchloom_core::record::SEMANTICS;
use patchloom_engine::runtime::{EXPORT_FORMAT, Exported, Replayed};
use serde_json::{Value, json};

use super::story::{Told, as_json};
use super::{RunSelector, history};
use crate::cli::Context;
use crate::cli::store::{look, open_fault, select};
use crate::fault::{Exit, Fault};
use crate::output::text;

/// The longest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// How much of a value is shown where two differ.
const SHOWN_MAX: usize = 120;

/// Writes a run into a file.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom run export last --out run.json\n",
    "  patchloom run export 019f2a | gzip > run.json.gz\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct RunExportArgs {
    /// Which.
    #[command(flatten)]
    pub run: RunSelector,
    /// Where to; else to stdout
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Reads a run out of a file.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom run import run.json --replay\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct RunImportArgs {
    /// What `run export` wrote; - is stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Fold its entries once more, and compare what comes of it with the file. Nothing is stored
    #[arg(long, required = true)]
    pub replay: bool,
    /// Print what came of it as JSON
    #[arg(long)]
    pub json: bool,
}

pub(super) fn export(args: &RunExportArgs, context: &Context) -> Result<Exit, Fault> {
    let inspected = look(context)?;
    let id = select(&inspected, &args.run.run)?;
    let exported = inspected.export(id).map_err(open_fault)?;
    let exported = exported.ok_or_else(|| Fault::new("E0304", Exit::BadInput, anyhow!("no run has the id {id}")))?;
    match &args.out {
        None => context.print_json(&exported)?,
        Some(path) => {
            write(path, &exported)?;
            let entries = text::count(exported.entries.len(), "entry", "entries");
            let runs = text::count(exported.states.len(), "run", "runs");
            eprintln!("{entries} of {runs} written to {}", text::plain(&path.display().to_string()));
        }
    }
    if !exported.points.is_empty() {
        let points = text::count(exported.points.len(), "point", "points");
        eprintln!("Others moved it at {points}: a replay takes those over from the file and computes the rest.");
    }
    Ok(Exit::Ok)
}

fn write(path: &Path, exported: &Exported) -> Result<(), Fault> {
    let name = path.display().to_string();
    let mut bytes = serde_json::to_vec_pretty(exported).expect("an export has only text keys and finite numbers");
    bytes.push(b'\n');
    let mut file = std::fs::File::create(path)
        .with_context(|| format!("cannot create {name}"))
        .map_err(|error| Fault::new("E0906", Exit::BadInput, error))?;
    // What is asked for as evidence shall be there after a power loss, too.
    file.write_all(&bytes)
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write to {name}"))
        .map_err(|error| Fault::new("E0904", Exit::Internal, error))
}

fn read(path: &Path) -> Result<Exported, Fault> {
    let name = path.display().to_string();
    let fault = |error: anyhow::Error| Fault::new("E0906", Exit::BadInput, error);
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(FILE_BYTES_MAX).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes))
    };
    read.with_context(|| format!("cannot read {name}")).map_err(fault)?;
    let value: Value = serde_json::from_slice(&bytes).with_context(|| format!("{name} is no JSON")).map_err(fault)?;
    for (what, supported) in [("format", EXPORT_FORMAT), ("semantics", SEMANTICS)] {
        let found = value.get(what).and_then(Value::as_u64);
        match found {
            Some(found) if found <= u64::from(supported) => {}
            Some(found) => {
                let error = anyhow!("{name} is of {what} {found}, and this program knows {supported} at most");
                return Err(fault(error).hint("read it with the program that wrote it, or a newer one"));
            }
            None => {
                let error = anyhow!("{name} is no exported run: it names no {what}");
                return Err(fault(error).hint("write one with `patchloom run export RUN --out FILE`"));
            }
        }
    }
    serde_json::from_value(value)
        .with_context(|| format!("{name} is damaged, or no exported run"))
        .map_err(|error| fault(error).hint("export the run once more"))
}

pub(super) fn import(args: &RunImportArgs, context: &Context) -> Result<Exit, Fault> {
    let exported = read(&args.file)?;
    let replayed = exported.replay();
    if args.json {
        context.print_json(&result(&exported, &replayed))?;
    } else {
        context.print(&render(&exported, &replayed, context))?;
    }
    Ok(if replayed.difference.is_none() { Exit::Ok } else { Exit::Failed })
}

fn told(replayed: &Replayed) -> Vec<Told> {
    let one = |(item, done): &(_, Result<Vec<_>, String>)| Told {
        item: Clone::clone(item),
        facts: done.clone().unwrap_or_default(),
        refused: done.clone().err(),
    };
    replayed.story.iter().map(one).collect()
}

fn render(exported: &Exported, replayed: &Replayed, context: &Context) -> String {
    let style = context.out.style;
    let mut out = history::render(&told(replayed), context.out);
    out.push('\n');
    match &replayed.difference {
        None => {
            let entries = text::count(exported.entries.len(), "entry", "entries");
            let runs = text::count(replayed.runs, "run", "runs");
            out.push_str(&format!(
                "{} {entries} replayed: {runs} in the same state, byte for byte\n",
                style.green("the same")
            ));
            if !exported.points.is_empty() {
                let points = text::count(exported.points.len(), "point", "points");
                out.push_str(&format!("  {points} taken over from the file: others moved the run there\n"));
            }
        }
        Some(difference) => {
            let run = difference.run.map_or_else(|| "the file".to_owned(), |run| format!("run {run}"));
            out.push_str(&format!("{} in {run} at {}\n", style.red("differs"), text::plain(&difference.place)));
            for (who, says) in [("the file", &difference.file), ("the replay", &difference.replay)] {
                out.push_str(&format!("  {who:<10} {}\n", text::fit(&text::plain(says), SHOWN_MAX)));
            }
        }
    }
    out
}

fn result(exported: &Exported, replayed: &Replayed) -> Value {
    let difference = replayed.difference.as_ref().map(|difference| {
        json!({
            "run": difference.run, "place": difference.place, "file": difference.file, "replay": difference.replay,
        })
    });
    let points =
        exported.points.iter().map(|point| json!({ "seq": point.seq, "cause": point.cause, "run": point.state.id() }));
    json!({
        "run": exported.run, "same": replayed.difference.is_none(), "entries": exported.entries.len(),
        "runs": replayed.runs, "points": points.collect::<Vec<Value>>(), "difference": difference,
        "story": told(replayed).iter().map(as_json).collect::<Vec<Value>>(),
    })
}
