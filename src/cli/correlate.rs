//! `patchloom correlate`: what scanners' findings mean on a host, by when each is to be fixed, and by what.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};
use clap::{Args, ValueEnum};
use patchloom_domain::Moment;
use patchloom_domain::correlate::{Correlated, HostFacts, ReadClaims, State, correlate_host, read_claims, read_facts};
use patchloom_domain::risk::{
    Assume, Feeds, HostRisk, Question, Ranked, Unread, decide, read_epss, read_kev, read_vulnrichment,
};
use serde_json::json;

use super::Context;
use crate::fault::{Exit, Fault};
use crate::output::{Column, Table};

/// Correlates the findings of a host.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom correlate --host-facts host.json --findings trivy.json\n",
    "  patchloom correlate --host-facts h.json --findings trivy.json --findings grype.json --kev k.json\n",
    "  patchloom correlate --host-facts h.json --findings f.jsonl --ssvc cves.jsonl --assume best\n\n",
    "Findings are Trivy's or Grype's JSON, or a list of objects with id, package, fixed and status. See\n",
    "docs/correlation.md for the facts of a host, the states, and what stands for answers that nobody gives.\n",
    "Ends with 0 where nothing that is open is past its deadline, with 1 where something is.\n\n",
    include_str!("exit_codes.txt")
))]
pub struct CorrelateArgs {
    /// What is known of the host: packages, candidates, kernel
    #[arg(long, value_name = "FILE")]
    pub host_facts: PathBuf,
    /// What was found; may be given several times
    #[arg(long, value_name = "FILE", required = true)]
    pub findings: Vec<PathBuf>,
    /// CISA's catalogue of known exploited vulnerabilities
    #[arg(long, value_name = "FILE")]
    pub kev: Option<PathBuf>,
    /// EPSS scores as CSV
    #[arg(long, value_name = "FILE")]
    pub epss: Option<PathBuf>,
    /// CVE records with CISA's SSVC decisions
    #[arg(long, value_name = "FILE")]
    pub ssvc: Option<PathBuf>,
    /// What stands for an answer that nobody gives
    #[arg(long, value_name = "CASE", default_value = "worst")]
    pub assume: AssumeChoice,
    /// When the findings were first seen [default: the instant of --at]
    #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
    pub first_seen: Option<Moment>,
    /// As of when [default: now]
    #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
    pub at: Option<Moment>,
    /// Show what is fixed and what does not concern the host too
    #[arg(long)]
    pub all: bool,
    /// Print the answers as JSON
    #[arg(long)]
    pub json: bool,
}

/// A case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AssumeChoice {
    /// Exposed, automatable, total impact
    Worst,
    /// None of these
    Best,
}

impl From<AssumeChoice> for Assume {
    fn from(choice: AssumeChoice) -> Self {
        match choice {
            AssumeChoice::Worst => Self::Worst,
            AssumeChoice::Best => Self::Best,
        }
    }
}

/// The answers.
pub(super) struct Told {
    facts: HostFacts,
    findings: Vec<Ranked<Correlated>>,
    risk: HostRisk,
    foreign: usize,
    apart: Vec<String>,
}

pub(super) fn run(args: &CorrelateArgs, context: &Context) -> Result<Exit, Fault> {
    let now = args.at.unwrap_or_else(now);
    let told = answers(args, now)?;
    if args.json {
        context.print_json(&document(&told, now))?;
    } else {
        context.print(&shown(&told, args, now, context))?;
    }
    Ok(if told.risk.overdue > 0 { Exit::Failed } else { Exit::Ok })
}

/// The answers as JSON, which `--urgency` of plans and campaigns takes.
pub(super) fn document(told: &Told, now: Moment) -> serde_json::Value {
    json!({
        "host": told.facts.host, "at": now, "risk": told.risk, "findings": told.findings, "patches": patches(told),
        "foreign": told.foreign, "apart": told.apart,
    })
}

/// This very second.
pub(super) fn now() -> Moment {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Moment(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

pub(super) fn answers(args: &CorrelateArgs, now: Moment) -> Result<Told, Fault> {
    let facts = facts(&args.host_facts)?;
    let feeds = feeds([&args.kev, &args.epss, &args.ssvc])?;
    let mut read = ReadClaims::default();
    let mut apart = Vec::new();
    for file in &args.findings {
        let found = claims(file)?;
        note(&mut apart, file, &found.apart);
        read.foreign += found.foreign;
        read.claims.extend(found.claims);
    }
    for (file, unread) in [
        (&args.kev, feeds.kev.as_ref().map(|feed| &feed.apart)),
        (&args.epss, feeds.epss.as_ref().map(|feed| &feed.apart)),
        (&args.ssvc, feeds.ssvc.as_ref().map(|feed| &feed.apart)),
    ] {
        if let (Some(file), Some(unread)) = (file, unread) {
            note(&mut apart, file, unread);
        }
    }
    let assume = args.assume.into();
    let first_seen = args.first_seen.unwrap_or(now);
    let rank = |what: Correlated| {
        let (id, aliases, severities) = (&what.claim.id, &what.claim.aliases, &what.claim.severities);
        let exposed = facts.place.exposed;
        let risk = decide(&feeds, &Question { id, aliases, severities, exposed, first_seen, assume });
        Ranked { what, risk }
    };
    let mut findings: Vec<Ranked<Correlated>> = correlate_host(&facts, &read.claims).into_iter().map(rank).collect();
    findings.sort_by(Ranked::order);
    let open = findings.iter().filter(|one| one.what.verdict.state.is_open() && !one.risk.rejected);
    let open = open.map(|one| &one.risk);
    let risk = HostRisk::of(&facts.host, facts.place.exposed, facts.place.criticality, open, now);
    Ok(Told { findings, risk, foreign: read.foreign, apart, facts })
}

/// Reads findings.
pub(super) fn claims(file: &Path) -> Result<ReadClaims, Fault> {
    read_claims(&text(file)?).map_err(|error| {
        Fault::new("E0831", Exit::BadInput, anyhow!("{}: {error}", file.display()))
            .hint("give the scanner's JSON, or a list of findings")
    })
}

fn note(apart: &mut Vec<String>, file: &Path, unread: &Unread) {
    let shown = unread.first.iter().map(|line| format!("{}: {line}", file.display()));
    apart.extend(shown);
    if let Some(more) = unread.count.checked_sub(unread.first.len()).filter(|more| *more > 0) {
        apart.push(format!("{}: {more} more", file.display()));
    }
}

fn facts(file: &Path) -> Result<HostFacts, Fault> {
    let wrong = |why: String| {
        Fault::new("E0830", Exit::BadInput, anyhow!("{}: {why}", file.display()))
            .hint("docs/correlation.md shows the facts of a host")
    };
    let mut hosts = read_facts(&text(file)?).map_err(|error| wrong(error.to_string()))?;
    match hosts.len() {
        1 => Ok(hosts.swap_remove(0)),
        count => Err(wrong(format!("it has the facts of {count} hosts; findings are those of one"))),
    }
}

/// Reads what was given of KEV, EPSS and SSVC.
pub(super) fn feeds([kev, epss, ssvc]: [&Option<PathBuf>; 3]) -> Result<Feeds, Fault> {
    Ok(Feeds {
        kev: feed(kev.as_deref(), read_kev)?,
        epss: feed(epss.as_deref(), read_epss)?,
        ssvc: feed(ssvc.as_deref(), read_vulnrichment)?,
    })
}

fn feed<T>(
    file: Option<&Path>,
    read: fn(&str) -> Result<T, patchloom_domain::risk::FeedError>,
) -> Result<Option<T>, Fault> {
    let Some(file) = file else { return Ok(None) };
    let wrong = |error| {
        Fault::new("E0832", Exit::BadInput, anyhow!("{}: {error}", file.display()))
            .hint("give the feed as its publisher has it, unpacked")
    };
    read(&text(file)?).map(Some).map_err(wrong)
}

fn text(file: &Path) -> Result<String, Fault> {
    std::fs::read_to_string(file)
        .with_context(|| format!("cannot read {}", file.display()))
        .map_err(|error| Fault::new("E0906", Exit::BadInput, error))
}

/// A patch unit with what it fixes.
#[derive(serde::Serialize)]
struct Patch {
    source: String,
    version: String,
    packages: Vec<String>,
    fixes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<Moment>,
    reboot: bool,
}

/// What can be installed, the most urgent first: findings are in that order.
fn patches(told: &Told) -> Vec<Patch> {
    let mut order = Vec::new();
    let mut found: BTreeMap<(String, String), Patch> = BTreeMap::new();
    for one in &told.findings {
        let State::FixableNow { unit, reboot } = &one.what.verdict.state else { continue };
        let key = (unit.source.clone(), unit.version.clone());
        let patch = found.entry(key.clone()).or_insert_with(|| {
            order.push(key);
            let (source, version, packages) = (unit.source.clone(), unit.version.clone(), unit.binaries.clone());
            Patch { source, version, packages, fixes: 0, deadline: one.risk.deadline, reboot: false }
        });
        patch.fixes += 1;
        patch.reboot |= reboot;
    }
    order.iter().filter_map(|key| found.remove(key)).collect()
}

fn day(moment: Option<Moment>) -> String {
    moment.map_or_else(|| "-".to_owned(), |moment| moment.to_string().chars().take(10).collect())
}

fn shown(told: &Told, args: &CorrelateArgs, now: Moment, context: &Context) -> String {
    let mut out = format!("{}: {}\n", told.facts.host, told.risk.why);
    let mut table = Table::new(vec![
        Column::new("DUE"),
        Column::new("FINDING"),
        Column::new("PACKAGE"),
        Column::new("STATE"),
        Column::flexible("WHY", 30),
    ]);
    for one in told.findings.iter().filter(|one| args.all || one.what.verdict.state.is_open()) {
        let late = one.risk.deadline.is_some_and(|until| until < now) && one.what.verdict.state.is_open();
        let due = format!("{}{}", day(one.risk.deadline), if late { " late" } else { "" });
        let package = one.what.package.as_deref().unwrap_or(&one.what.claim.package);
        let forensic = if one.risk.forensic.is_some() { "; evidence first" } else { "" };
        let why = format!("{}; {}{forensic}", one.what.verdict.why, one.risk.timeline.says());
        table.row([due.as_str(), one.what.claim.canonical(), package, one.what.verdict.state.name(), why.as_str()]);
    }
    out += &table.render(context.out);
    let units = patches(told);
    if !units.is_empty() {
        let mut table = Table::new(vec![
            Column::new("DUE"),
            Column::new("PATCH"),
            Column::new("VERSION"),
            Column::number("FIXES"),
            Column::flexible("PACKAGES", 20),
        ]);
        for unit in &units {
            let reboot = if unit.reboot { " (reboot)" } else { "" };
            let packages = format!("{}{reboot}", unit.packages.join(" "));
            table.row([
                day(unit.deadline),
                unit.source.clone(),
                unit.version.clone(),
                unit.fixes.to_string(),
                packages,
            ]);
        }
        let _ = write!(out, "\n{}", table.render(context.out));
    }
    let mut assumed: BTreeMap<&str, usize> = BTreeMap::new();
    let open = told.findings.iter().filter(|one| one.what.verdict.state.is_open());
    open.flat_map(|one| &one.risk.assumed).for_each(|said| *assumed.entry(said).or_insert(0) += 1);
    for (said, count) in assumed {
        let _ = writeln!(out, "assumed for {count}: {said}");
    }
    if told.foreign > 0 {
        let _ = writeln!(out, "{} findings are in no package of the operating system", told.foreign);
    }
    for line in &told.apart {
        let _ = writeln!(out, "not read: {line}");
    }
    out
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::run_line;
    use super::*;

    #[test]
    fn findings_are_correlated_from_the_command_line() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.into_os_string()
        };
        let facts = json!({ "host": "h", "scheme": "deb", "exposed": true,
            "packages": [{ "name": "a", "version": "1" }], "candidates": [{ "name": "a", "candidate": "2" }] });
        let host = write("host.json", facts.to_string());
        let found = write("found.json", json!([{ "id": "CVE-2026-1", "package": "a", "fixed": ["2"] }]).to_string());
        let fixed = write("fixed.json", json!([{ "id": "CVE-2026-1", "package": "a", "fixed": ["1"] }]).to_string());
        let broken = write("broken.json", "{}".to_owned());
        let run = |host: &OsString, found: &OsString, more: &[&str]| {
            let mut words: Vec<OsString> = vec!["patchloom".into(), "correlate".into()];
            words.extend(["--host-facts".into(), host.clone(), "--findings".into(), found.clone()]);
            words.extend(more.iter().map(Into::into));
            run_line(words)
        };
        let late = ["--first-seen", "2026-01-01", "--at", "2026-03-01"];
        assert_eq!(run(&host, &found, &late), Exit::Failed);
        assert_eq!(run(&host, &found, &[]), Exit::Ok, "not yet past its deadline");
        assert_eq!(run(&host, &fixed, &late), Exit::Ok);
        assert_eq!(run(&host, &found, &["--json", "--all"]), Exit::Ok);
        assert_eq!(run(&broken, &found, &[]), Exit::BadInput);
        assert_eq!(run(&host, &broken, &[]), Exit::BadInput);
        let kev = broken.to_str().unwrap();
        assert_eq!(run(&host, &found, &["--kev", kev]), Exit::BadInput);
    }
}
