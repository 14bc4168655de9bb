//! `patchloom window set|list`: the calendars that the engine knows, for all workflows.

use std::path::PathBuf;

use clap::Args;
use patchloom_core::UtcMs;
use patchloom_core::calendar::Calendars;
use patchloom_engine::runtime::{EngineError, Inspected};
use serde_json::{Map, Value, json};

use super::{read_file, span_json};
use crate::cli::Context;
use crate::cli::run::act;
use crate::cli::store::look;
use crate::cli::workflow::bad;
use crate::fault::{Exit, Fault};
use crate::host::engine_fault;
use crate::lifecycle;
use crate::output::{Column, Table, text, time};

/// Sets calendars.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom window set calendars.yaml --dry-run\n",
    "  patchloom window set calendars.yaml\n\n",
    "Calendars of the same name are replaced; others that are known stay. Steps that wait for a window which changes\n",
    "look at it anew.\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct WindowSetArgs {
    /// Calendars in YAML, alone or under `calendars`; - is stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Show what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print what changes as JSON
    #[arg(long)]
    pub json: bool,
}

/// Lists calendars.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom window list\n",
    "  patchloom window list --json\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct WindowListArgs {
    /// Print them as JSON
    #[arg(long)]
    pub json: bool,
}

/// What becomes of one calendar.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Becomes {
    New,
    Changed,
    Same,
}

impl Becomes {
    fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Changed => "changed",
            Self::Same => "unchanged",
        }
    }
}

pub(super) fn set(args: &WindowSetArgs, context: &Context) -> Result<Exit, Fault> {
    let calendars = read_file(&args.file)?;
    let rules = rules_of(&calendars);
    let data = context.data_dir()?;
    // Before the first run there is no data directory yet, and nothing is known.
    let known = if data.exists() { known(&look(context)?) } else { Map::new() };
    let changes: Vec<(&str, Becomes)> = rules
        .iter()
        .map(|(name, rule)| match known.get(name) {
            None => (name.as_str(), Becomes::New),
            Some(before) if before == rule => (name.as_str(), Becomes::Same),
            Some(_) => (name.as_str(), Becomes::Changed),
        })
        .collect();
    let changing = changes.iter().any(|(_, becomes)| *becomes != Becomes::Same);
    if changing && !args.dry_run {
        let (file, source) = (args.file.display().to_string(), Value::Object(rules.clone()).to_string());
        act::reach(context, async |handle, _| {
            handle.set_calendars(&lifecycle::by(), &file, &source).await.map_err(refused)
        })?;
    }
    show(args, context, &calendars, &changes)?;
    match (changing, args.dry_run) {
        (false, _) => eprintln!("Nothing changes."),
        (true, true) => eprintln!("Nothing was changed: this is what would."),
        (true, false) => eprintln!("Recorded. See them with: patchloom window list"),
    }
    Ok(Exit::Ok)
}

/// What does not hold together with the calendars that are known already is told like any other mistake.
fn refused(error: EngineError) -> Fault {
    match error {
        EngineError::Calendars(found) => bad(&found),
        error => engine_fault(error),
    }
}

fn rules_of(calendars: &Calendars) -> Map<String, Value> {
    match serde_json::to_value(calendars) {
        Ok(Value::Object(rules)) => rules,
        Ok(_) | Err(_) => Map::new(),
    }
}

/// The rules of the calendars that belong to no workflow.
fn known(inspected: &Inspected) -> Map<String, Value> {
    let calendars = inspected.state.shared().calendars().iter();
    calendars.filter_map(|(name, known)| Some((name.to_string(), known.rules.clone()?))).collect()
}

fn show(
    args: &WindowSetArgs,
    context: &Context,
    calendars: &Calendars,
    changes: &[(&str, Becomes)],
) -> Result<(), Fault> {
    let now = time::now();
    if args.json {
        let rows = changes.iter().map(|(name, becomes)| {
            let next = next(calendars, name, now).map(|span| span_json(calendars, name, span));
            json!({ "calendar": name, "becomes": becomes.name(), "next": next })
        });
        return context.print_json(&json!({ "dry_run": args.dry_run, "calendars": rows.collect::<Vec<Value>>() }));
    }
    let mut table =
        Table::new(vec![Column::flexible("CALENDAR", 12), Column::new("BECOMES"), Column::new("OPENS NEXT")]);
    for (name, becomes) in changes {
        let opens =
            next(calendars, name, now).map_or_else(|| "never".to_owned(), |span| calendars.show(name, span.open));
        table.row([(*name).to_owned(), becomes.name().to_owned(), opens]);
    }
    context.print(&table.render(context.out))
}

fn next(calendars: &Calendars, name: &str, now: UtcMs) -> Option<patchloom_core::calendar::Span> {
    calendars.spans(name, now, patchloom_core::calendar::END, 1).first().copied()
}

pub(super) fn list(args: &WindowListArgs, context: &Context) -> Result<Exit, Fault> {
    let inspected = look(context)?;
    let now = time::now();
    let all: Calendars = serde_json::from_value(Value::Object(known(&inspected))).unwrap_or_default();
    let mut table = Table::new(vec![
        Column::flexible("CALENDAR", 12),
        Column::new("OF"),
        Column::new("NOW"),
        Column::new("OPENS NEXT"),
        Column::new("KNOWN UNTIL"),
    ]);
    let mut rows = Vec::new();
    for (full, found) in inspected.state.shared().calendars().iter().filter(|(_, found)| found.known) {
        let (of, name) = owner(&inspected, full);
        let open = found.spans.iter().find(|span| span.open <= now && now < span.close);
        let next = found.spans.iter().find(|span| span.open > now);
        let is_global = of.is_none();
        let shown = |at: UtcMs| if is_global { all.show(&name, at) } else { time::utc(at) };
        rows.push(json!({
            "calendar": name, "workflow": of, "open": open.is_some(),
            "closes": open.map(|span| time::rfc3339(span.close)),
            "next": next.map(|span| time::rfc3339(span.open)), "known_until": time::rfc3339(found.until),
            "rules": found.rules,
        }));
        table.row([
            name.clone(),
            of.unwrap_or_else(|| "all workflows".to_owned()),
            open.map_or_else(|| "closed".to_owned(), |span| format!("open until {}", shown(span.close))),
            next.map_or_else(|| "not in that time".to_owned(), |span| shown(span.open)),
            time::utc(found.until),
        ]);
    }
    if args.json {
        context.print_json(&rows)?;
    } else if rows.is_empty() {
        eprintln!("No calendar is known. Set some with: patchloom window set FILE");
    } else {
        context.print(&table.render(context.out))?;
    }
    Ok(Exit::Ok)
}

/// Whose a calendar is, and what it is called there: of a workflow's own the name begins with its version.
fn owner(inspected: &Inspected, full: &str) -> (Option<String>, String) {
    let Some((version, name)) = full.split_once('/') else { return (None, full.to_owned()) };
    let definition = inspected.state.definitions().find(|known| known.digest.0.as_ref() == version);
    let of = definition.map_or_else(|| version.to_owned(), |known| known.name.to_string());
    (Some(text::plain(&of).to_string()), name.to_owned())
}
