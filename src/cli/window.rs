//! `patchloom window`: when calendars are open, in a file or as the engine knows them.

mod set;

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::{Args, Subcommand};
use patchloom_core::calendar::{Calendars, END, Span, Texts, ical_paths};
use patchloom_core::{Millis, UtcMs, nearest};
use serde_json::{Value, json};

use super::Context;
use super::workflow::{Source, bad};
use crate::fault::{Exit, Fault};
use crate::output::{Column, Screen, Table, text, time};

pub use set::{WindowListArgs, WindowSetArgs};

/// Asks calendars: maintenance windows, freezes, holidays.
#[derive(Clone, Debug, Subcommand)]
#[command(subcommand_required = true)]
pub enum WindowCommand {
    /// List when a calendar is open next
    Next(WindowNextArgs),
    /// Ask whether something may start at an instant
    Check(WindowCheckArgs),
    /// Tell why a calendar is open or closed at an instant
    Explain(WindowExplainArgs),
    /// Make the calendars of a file known to the engine, for all workflows
    Set(WindowSetArgs),
    /// List the calendars that the engine knows, and when each is open next
    List(WindowListArgs),
}

/// A calendar in a file.
#[derive(Clone, Debug, Args)]
pub struct CalendarSelector {
    /// Calendars in YAML, alone or under `calendars`; - is stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The name of the calendar
    #[arg(value_name = "NAME")]
    pub name: String,
}

/// Lists spans.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom window next calendars.yaml patch-night\n",
    "  patchloom window next calendars.yaml patch-night --from 2026-12-01T00:00 --count 3 --json\n\n",
    "A TIME is 2026-12-01T22:00, in the zone of the calendar, or an instant such as 2026-12-01T21:00:00Z.\n\n",
    include_str!("exit_codes.txt")
))]
pub struct WindowNextArgs {
    /// Which calendar.
    #[command(flatten)]
    pub calendar: CalendarSelector,
    /// From when on [default: now]
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// How many
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub count: u16,
    /// Print them as JSON
    #[arg(long)]
    pub json: bool,
}

/// Asks for one instant.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom window check calendars.yaml patch-night --at 2026-12-08T22:30 --expected 45m\n",
    "  patchloom window check calendars.yaml patch-night && patchloom run start nightly\n\n",
    "Ends with 0 where the calendar is open and there is time enough before its cutoff, with 1 where not.\n\n",
    include_str!("exit_codes.txt")
))]
pub struct WindowCheckArgs {
    /// Which calendar.
    #[command(flatten)]
    pub calendar: CalendarSelector,
    /// When [default: now]
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// How long the work will take, such as 45m
    #[arg(long, value_name = "DURATION")]
    pub expected: Option<Millis>,
    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// Explains one instant.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom window explain calendars.yaml patch-night\n",
    "  patchloom window explain calendars.yaml patch-night --at 2026-12-24T22:30\n\n",
    include_str!("exit_codes.txt")
))]
pub struct WindowExplainArgs {
    /// Which calendar.
    #[command(flatten)]
    pub calendar: CalendarSelector,
    /// When [default: now]
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(command: &WindowCommand, context: &Context) -> Result<Exit, Fault> {
    match command {
        WindowCommand::Next(args) => next(args, context),
        WindowCommand::Check(args) => check(args, context),
        WindowCommand::Explain(args) => explain(args, context),
        WindowCommand::Set(args) => set::set(args, context),
        WindowCommand::List(args) => set::list(args, context),
    }
}

fn next(args: &WindowNextArgs, context: &Context) -> Result<Exit, Fault> {
    let name = args.calendar.name.as_str();
    let calendars = read(&args.calendar)?;
    let from = instant(&calendars, name, args.from.as_deref())?;
    let spans = calendars.spans(name, from, END, usize::from(args.count));
    if args.json {
        let spans: Vec<Value> = spans.iter().map(|span| span_json(&calendars, name, *span)).collect();
        context.print_json(&json!({ "calendar": name, "time_zone": calendars.time_zone(name), "spans": spans }))?;
    } else if spans.is_empty() {
        eprintln!("{name} does not open any more.");
    } else {
        context.print(&render(&calendars, name, &spans, context.out))?;
    }
    Ok(Exit::Ok)
}

fn check(args: &WindowCheckArgs, context: &Context) -> Result<Exit, Fault> {
    let name = args.calendar.name.as_str();
    let calendars = read(&args.calendar)?;
    let at = instant(&calendars, name, args.at.as_deref())?;
    let verdict =
        calendars.check(name, at, args.expected.unwrap_or_default()).ok_or_else(|| unknown(&calendars, name))?;
    if args.json {
        context.print_json(&json!({
            "calendar": name, "at": time::rfc3339(at), "fits": verdict.fits, "why": verdict.why,
            "span": verdict.span.map(|span| span_json(&calendars, name, span)),
            "next": verdict.next.map(time::rfc3339),
        }))?;
    } else {
        let style = context.out.style;
        let word = if verdict.fits { style.green("yes") } else { style.red("no") };
        context.print(&format!("{word}: {}\n", text::plain(&verdict.why)))?;
    }
    Ok(if verdict.fits { Exit::Ok } else { Exit::Failed })
}

fn explain(args: &WindowExplainArgs, context: &Context) -> Result<Exit, Fault> {
    let name = args.calendar.name.as_str();
    let calendars = read(&args.calendar)?;
    let at = instant(&calendars, name, args.at.as_deref())?;
    let found = calendars.explain(name, at).ok_or_else(|| unknown(&calendars, name))?;
    if args.json {
        let span = |span: Option<Span>| span.map(|span| span_json(&calendars, name, span));
        context.print_json(&json!({
            "calendar": name, "at": time::rfc3339(at), "open": found.open, "span": span(found.span),
            "next": span(found.next), "lines": found.lines,
        }))?;
    } else {
        let head = format!("at {} ({})\n", calendars.show(name, at), time::utc(at));
        let lines = found.lines.iter().map(|line| format!("{}\n", text::plain(line)));
        context.print(&lines.fold(context.out.style.bold(&head), |all, line| all + &line))?;
    }
    Ok(Exit::Ok)
}

/// Reads a file of calendars with the iCalendar files that it names, and looks the wanted one up.
fn read(selector: &CalendarSelector) -> Result<Calendars, Fault> {
    let calendars = read_file(&selector.file)?;
    match calendars.get(&selector.name) {
        Some(_) => Ok(calendars),
        None => Err(unknown(&calendars, &selector.name)),
    }
}

/// Reads a file of calendars with the iCalendar files that it names.
pub(super) fn read_file(file: &Path) -> Result<Calendars, Fault> {
    let source = Source::read(file)?;
    let beside = file.parent().unwrap_or(Path::new(""));
    let text = |path: String| {
        let found = Source::read(&beside.join(&path)).map(|found| found.text).map_err(|fault| fault.to_string());
        (path, found)
    };
    let texts: Texts = ical_paths(&source.text).into_iter().map(text).collect();
    Calendars::parse_with(&source.file, &source.text, &texts).map_err(|found| bad(&found))
}

pub(super) fn unknown(calendars: &Calendars, name: &str) -> Fault {
    let names: Vec<&str> = calendars.names().collect();
    let near = nearest(name, names.iter().copied()).map(|near| format!("did you mean '{near}'? "));
    let hint = format!("{}the calendars there are {}", near.unwrap_or_default(), names.join(", "));
    Fault::new("E0525", Exit::Usage, anyhow!("there is no calendar called '{}'", text::plain(name))).hint(hint)
}

/// An instant as people give it: now, in the zone of the calendar, or with an offset of its own.
fn instant(calendars: &Calendars, name: &str, given: Option<&str>) -> Result<UtcMs, Fault> {
    let Some(given) = given else { return Ok(time::now()) };
    let found = calendars.instant(name, given).or_else(|| time::parse_rfc3339(given));
    found.ok_or_else(|| {
        let error = anyhow!("'{}' is no time", text::plain(given));
        let hint = "write 2026-12-01T22:00 in the zone of the calendar, or an instant such as 2026-12-01T21:00:00Z";
        Fault::new("E0526", Exit::Usage, error).hint(hint)
    })
}

fn span_json(calendars: &Calendars, name: &str, span: Span) -> Value {
    json!({
        "open": time::rfc3339(span.open), "close": time::rfc3339(span.close),
        "last_start": time::rfc3339(span.last_start),
        "local": {
            "open": calendars.show(name, span.open), "close": calendars.show(name, span.close),
            "last_start": calendars.show(name, span.last_start),
        },
    })
}

fn render(calendars: &Calendars, name: &str, spans: &[Span], screen: Screen) -> String {
    let mut table = Table::new(vec![
        Column::new("OPENS"),
        Column::new("CLOSES"),
        Column::new("STARTS BEFORE"),
        Column::new("OPENS UTC"),
        Column::number("FOR"),
    ]);
    for span in spans {
        table.row([
            calendars.show(name, span.open),
            calendars.show(name, span.close),
            calendars.show(name, span.last_start),
            time::utc(span.open),
            span.close.since(span.open).to_string(),
        ]);
    }
    table.render(screen)
}
