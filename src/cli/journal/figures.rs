//! `patchloom journal verify` and `stats`: whether it is sound, and how large.

use std::path::Path;

use patchloom_engine::datadir::DataDir;
use patchloom_engine::journal::{self, Report};
use serde_json::{Value, json};

use super::JournalArgs;
use crate::cli::Context;
use crate::cli::store::{dir_fault, journal_fault};
use crate::fault::{Exit, Fault};
use crate::output::{Column, Screen, Table, text};

fn open(context: &Context) -> Result<(DataDir, Report), Fault> {
    let dir = DataDir::inspect(&context.data_dir()?).map_err(dir_fault)?;
    // A directory that no engine has led yet has nothing in its journal.
    let report = if dir.journal().is_dir() {
        journal::verify(&dir.journal()).map_err(journal_fault)?
    } else {
        Report::default()
    };
    Ok((dir, report))
}

pub(super) fn verify(args: &JournalArgs, context: &Context) -> Result<Exit, Fault> {
    let (dir, report) = open(context)?;
    let sound = report.is_sound();
    if args.json {
        let mut value = as_json(&dir, &report);
        value["sound"] = sound.into();
        value["unfinished"] = json!(report.unfinished);
        value["problems"] = json!(report.problems);
        context.print_json(&value)?;
    } else {
        context.print(&verdict(&report, context.out))?;
    }
    Ok(if sound { Exit::Ok } else { Exit::Failed })
}

fn verdict(report: &Report, screen: Screen) -> String {
    let style = screen.style;
    let mut out = String::new();
    for problem in &report.problems {
        out.push_str(&format!("{} {}\n", style.red("damaged"), text::plain(problem)));
    }
    if let Some(unfinished) = &report.unfinished {
        let what = text::plain(unfinished);
        out.push_str(&format!("{} at the end, no problem: {what}\n", style.yellow("unfinished record")));
    }
    let range = match (report.seq_first, report.seq_last) {
        (Some(first), Some(last)) => format!("records {first} to {last}"),
        _ => "no records".to_owned(),
    };
    let segments = text::count(report.segments.len(), "segment", "segments");
    if report.is_sound() {
        out.push_str(&format!("{} {range} in {segments}, chain {}\n", style.green("sound"), report.head_hash));
    } else {
        let problems = text::count(report.problems.len(), "problem", "problems");
        out.push_str(&format!("{problems}; read so far: {range} in {segments}\n"));
    }
    out
}

pub(super) fn stats(args: &JournalArgs, context: &Context) -> Result<Exit, Fault> {
    let (dir, report) = open(context)?;
    let (snapshots, archive) = (files(&dir.snapshots()), files(&dir.archive()));
    if args.json {
        let mut value = as_json(&dir, &report);
        let place = |(files, bytes): (usize, u64)| json!({ "files": files, "bytes": bytes });
        value["snapshots"] = place(snapshots);
        value["archive"] = place(archive);
        context.print_json(&value)?;
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(vec![
        Column::flexible("SEGMENT", 12),
        Column::number("FIRST"),
        Column::number("RECORDS"),
        Column::number("BYTES"),
    ]);
    for segment in &report.segments {
        let name = segment.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        table.row([name, segment.seq_first.to_string(), segment.records.to_string(), text::bytes(segment.bytes)]);
    }
    let mut out = String::new();
    if !table.is_empty() {
        out = table.render(context.out) + "\n";
    }
    let more = |name: &str, (files, bytes): (usize, u64)| {
        format!("{name:<10} {}, {}\n", text::count(files, "file", "files"), text::bytes(bytes))
    };
    out.push_str(&format!(
        "{:<10} {}, {}\n",
        "journal",
        text::count(usize::try_from(report.records).unwrap_or(usize::MAX), "record", "records"),
        text::bytes(report.bytes)
    ));
    out.push_str(&more("snapshots", snapshots));
    out.push_str(&more("archive", archive));
    context.print(&out)?;
    Ok(Exit::Ok)
}

/// How many files a place holds and how long they are together; what goes away meanwhile does not count.
fn files(dir: &Path) -> (usize, u64) {
    let sizes = std::fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|entry| {
        let data = entry.metadata().ok()?;
        data.is_file().then_some(data.len())
    });
    sizes.fold((0, 0), |(files, bytes), size| (files + 1, bytes + size))
}

fn as_json(dir: &DataDir, report: &Report) -> Value {
    let segments = report.segments.iter().map(|segment| {
        json!({
            "path": segment.path, "first": segment.seq_first, "records": segment.records, "bytes": segment.bytes,
            "semantics": segment.semantics,
        })
    });
    let id = report.id.map(|id| uuid::Uuid::from_bytes(id).to_string());
    json!({
        "data_dir": dir.path(), "journal": id, "records": report.records, "bytes": report.bytes,
        "first": report.seq_first, "last": report.seq_last, "chain": report.head_hash.to_string(),
        "segments": segments.collect::<Vec<Value>>(),
    })
}
