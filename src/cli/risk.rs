//! `patchloom risk explain`: how the score and the deadline of a vulnerability come about.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use patchloom_domain::Moment;
use patchloom_domain::correlate::SeverityClaim;
use patchloom_domain::risk::{Decision, Question, TableInputs, decide, timeline};
use serde_json::{Value, json};

use super::Context;
use super::correlate::{AssumeChoice, claims, feeds, now};
use crate::fault::{Exit, Fault};
use crate::output::{Column, Table, text};

/// Explains risks.
#[derive(Clone, Debug, Subcommand)]
#[command(subcommand_required = true)]
pub enum RiskCommand {
    /// Tell how the score and the deadline of a vulnerability come about, row of the table and all
    Explain(RiskExplainArgs),
}

/// Explains one vulnerability.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom risk explain CVE-2021-44228 --kev kev.json --epss epss.csv --ssvc cves.jsonl\n",
    "  patchloom risk explain CVE-2021-44228 --kev kev.json --exposed no --first-seen 2026-11-01\n",
    "  patchloom risk explain CVE-2021-44228 --findings trivy.json --json\n\n",
    "It takes the feeds that patchloom correlate takes, and decides as it does. docs/correlation.md has the rules.\n\n",
    include_str!("exit_codes.txt")
))]
pub struct RiskExplainArgs {
    /// Its id: a CVE, or what the scanner calls it
    #[arg(value_name = "ID")]
    pub id: String,
    /// CISA's catalogue of known exploited vulnerabilities
    #[arg(long, value_name = "FILE")]
    pub kev: Option<PathBuf>,
    /// EPSS scores as CSV
    #[arg(long, value_name = "FILE")]
    pub epss: Option<PathBuf>,
    /// CVE records with CISA's SSVC decisions
    #[arg(long, value_name = "FILE")]
    pub ssvc: Option<PathBuf>,
    /// What scanners found: their severities and other names of it count; may be given several times
    #[arg(long, value_name = "FILE")]
    pub findings: Vec<PathBuf>,
    /// A CVSS vector of it; may be given several times
    #[arg(long, value_name = "VECTOR")]
    pub vector: Vec<String>,
    /// Whether the host can be reached from public networks
    #[arg(long, value_name = "ANSWER")]
    pub exposed: Option<Answer>,
    /// What stands for an answer that nobody gives
    #[arg(long, value_name = "CASE", default_value = "worst")]
    pub assume: AssumeChoice,
    /// When it was first seen, where KEV does not have it [default: now]
    #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
    pub first_seen: Option<Moment>,
    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Answer {
    /// It is so.
    Yes,
    /// It is not.
    No,
}

pub(super) fn run(command: &RiskCommand, context: &Context) -> Result<Exit, Fault> {
    let RiskCommand::Explain(args) = command;
    let decision = decision(args)?;
    if args.json {
        let otherwise: Vec<Value> = otherwise(decision.inputs)
            .map(|(name, inputs)| json!({ "input": name, "inputs": inputs, "timeline": timeline(inputs) }))
            .collect();
        context.print_json(&json!({ "id": args.id, "decision": decision, "otherwise": otherwise }))?;
    } else {
        context.print(&shown(args, &decision, context))?;
    }
    Ok(Exit::Ok)
}

fn decision(args: &RiskExplainArgs) -> Result<Decision, Fault> {
    let feeds = feeds([&args.kev, &args.epss, &args.ssvc])?;
    let given = |vector: &String| SeverityClaim { by: "you".to_owned(), word: None, vector: Some(vector.clone()) };
    let mut severities: Vec<SeverityClaim> = args.vector.iter().map(given).collect();
    let mut aliases = Vec::new();
    for file in &args.findings {
        for claim in claims(file)?.claims {
            if claim.id == args.id || claim.aliases.contains(&args.id) {
                severities.extend(claim.severities);
                aliases.push(claim.id);
                aliases.extend(claim.aliases);
            }
        }
    }
    Ok(decide(
        &feeds,
        &Question {
            id: &args.id,
            aliases: &aliases,
            severities: &severities,
            exposed: args.exposed.map(|answer| answer == Answer::Yes),
            first_seen: args.first_seen.unwrap_or_else(now),
            assume: args.assume.into(),
        },
    ))
}

/// The four answers of the table by their names.
fn answers(inputs: TableInputs) -> [(&'static str, bool); 4] {
    let TableInputs { kev, exposed, automatable, total } = inputs;
    [("in KEV", kev), ("exposed", exposed), ("automatable", automatable), ("total impact", total)]
}

/// The rows beside, each with one answer turned round.
fn otherwise(inputs: TableInputs) -> impl Iterator<Item = (&'static str, TableInputs)> {
    let turned = [
        TableInputs { kev: !inputs.kev, ..inputs },
        TableInputs { exposed: !inputs.exposed, ..inputs },
        TableInputs { automatable: !inputs.automatable, ..inputs },
        TableInputs { total: !inputs.total, ..inputs },
    ];
    answers(inputs).into_iter().map(|(name, _)| name).zip(turned)
}

fn shown(args: &RiskExplainArgs, decision: &Decision, context: &Context) -> String {
    let due = decision.deadline.map_or_else(|| "no deadline".to_owned(), |until| format!("due {until}"));
    let mut out = format!("{}: {due}\n", text::plain(&args.id));
    if decision.rejected {
        out.push_str("Its id was taken back: nothing is to be done.\n");
    }
    let mut table = Table::new(vec![
        Column::new("ROW"),
        Column::new("IN KEV"),
        Column::new("EXPOSED"),
        Column::new("AUTOMATABLE"),
        Column::new("TOTAL IMPACT"),
        Column::flexible("BOD 26-04 SAYS", 20),
    ]);
    let mut row = |name: String, inputs: TableInputs| {
        let [kev, exposed, automatable, total] =
            answers(inputs).map(|(_, answer)| if answer { "yes" } else { "no" }.to_owned());
        table.row([name, kev, exposed, automatable, total, timeline(inputs).says().to_owned()]);
    };
    row("this one".to_owned(), decision.inputs);
    otherwise(decision.inputs).for_each(|(name, inputs)| row(format!("{name} turned round"), inputs));
    out.push_str(&table.render(context.out));
    for reason in &decision.reasons {
        let _ = writeln!(out, "because {}", text::plain(reason));
    }
    for (by, score) in &decision.scores {
        let _ = writeln!(out, "score {score} by {}, of {}", text::plain(by), text::plain(&score.vector));
    }
    if let Some(triage) = decision.forensic {
        let (scope, evidence, decided) = (triage.scope_until, triage.evidence_until, triage.decision_until);
        let _ =
            writeln!(out, "evidence first: scope until {scope}, evidence until {evidence}, decision until {decided}");
    }
    for said in &decision.assumed {
        let _ = writeln!(out, "assumed: {}", text::plain(said));
    }
    out
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::run_line;
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: RiskExplainArgs,
    }

    #[test]
    fn the_row_of_the_table_and_what_led_there_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let kev = dir.path().join("kev.json");
        let entry = json!({ "cveID": "CVE-2026-1", "dateAdded": "2026-11-01", "dueDate": "2026-11-20",
            "knownRansomwareCampaignUse": "Known" });
        std::fs::write(&kev, json!({ "vulnerabilities": [entry] }).to_string()).unwrap();
        let found = dir.path().join("found.json");
        let vector = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H";
        let claim = json!({ "id": "GHSA-1", "aliases": ["CVE-2026-1"], "package": "a",
            "severities": [{ "by": "nvd", "vector": vector }] });
        std::fs::write(&found, json!([claim]).to_string()).unwrap();
        let words = ["x", "CVE-2026-1", "--kev", kev.to_str().unwrap(), "--findings", found.to_str().unwrap()];
        let line = |more: &[&str]| Line::parse_from([&words[..], more].concat()).args;
        let exposed = decision(&line(&["--exposed", "yes"])).unwrap();
        assert_eq!(exposed.deadline, Moment::parse("2026-11-04").ok(), "{exposed:?}");
        assert!(exposed.inputs.kev && exposed.inputs.automatable && exposed.forensic.is_some() && exposed.ransomware);
        assert_eq!(exposed.scores.len(), 1, "the finding is known by its other name");
        let beside: Vec<&str> = otherwise(exposed.inputs).map(|(_, inputs)| timeline(inputs).says()).collect();
        assert_eq!(beside[1..3], ["3 days and forensic triage before patching"; 2]);
        assert_eq!((beside[0], beside[3]), ("3 days", "3 days"));
        let mut command = vec!["patchloom", "risk", "explain"];
        command.extend(&words[1..]);
        assert_eq!(run_line(command.iter().map(Into::into)), Exit::Ok);
        command.push("--json");
        assert_eq!(run_line(command.iter().map(Into::into)), Exit::Ok);
        assert_eq!(run_line(["patchloom", "risk", "explain", "X", "--kev", "/no"].map(Into::into)), Exit::BadInput);
    }
}
