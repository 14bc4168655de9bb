//! `patchloom failure cluster`: which failures of a campaign belong together, and what the campaign does about it.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use patchloom_domain::{
    CampaignOutcomes, CampaignVerdict, ClusterDecision, Concentration, OneOff, Systemic, judge_campaign,
};
use serde_json::json;

use crate::cli::Context;
use crate::fault::{Exit, Fault};
use crate::output::{Column, Screen, Table, text};

/// At most so many tests are shown; --json has all.
const TESTS_SHOWN: usize = 10;
/// At most so many hosts are named in one line.
const HOSTS_SHOWN: usize = 12;

/// Judges the outcomes of a campaign.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom failure cluster outcomes.json\n",
    "  patchloom failure cluster - --json < outcomes.json\n\n",
    "A file is {\"hosts\": [{\"host\": \"web-1\", \"site\": \"bern\", \"relay\": \"r1\", \"group\": \"web\",\n",
    "\"patches\": [{\"package\": \"openssl\", \"version\": \"3.0.17-1\"}],\n",
    "\"outcome\": {\"state\": \"failed\", \"cause\": \"download_404\"}}]}; docs/failures.md has all of it.\n",
    "Ends with 0 where the campaign may go on, and with 1 where something is to be paused or halted.\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct FailureClusterArgs {
    /// The hosts of a campaign with what became of them, as JSON; - is stdin
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Print all that is known as JSON
    #[arg(long)]
    pub json: bool,
}

pub(super) fn cluster(args: &FailureClusterArgs, context: &Context) -> Result<Exit, Fault> {
    let bytes = super::read(&args.file)?;
    let refused = |error: anyhow::Error| {
        Fault::new("E0870", Exit::BadInput, error).hint("docs/failures.md says what such a file holds")
    };
    let outcomes: CampaignOutcomes = serde_json::from_slice(&bytes)
        .with_context(|| format!("{} tells no outcomes of a campaign", args.file.display()))
        .map_err(refused)?;
    let verdict = judge_campaign(&outcomes)
        .with_context(|| format!("{} cannot be judged", args.file.display()))
        .map_err(refused)?;
    if args.json {
        let mut value = json!(verdict);
        value["campaign"] = json!(outcomes.campaign);
        context.print_json(&value)?;
    } else {
        context.print(&render(&verdict, context.out))?;
    }
    Ok(if verdict.decision == ClusterDecision::GoOn { Exit::Ok } else { Exit::Failed })
}

fn render(verdict: &CampaignVerdict, screen: Screen) -> String {
    let counts = verdict.counts;
    let width = screen.width.unwrap_or(100).clamp(40, 100);
    let mut out = format!(
        "{}\n{} hosts: {} ok, {} failed, {} without a result\n",
        screen.style.bold(&verdict.decision.to_string()),
        counts.hosts,
        counts.ok,
        counts.failed,
        counts.waiting
    );
    let mut lines = |lead: &str, body: &str| {
        for (at, line) in text::wrap(body, width - lead.len()).iter().enumerate() {
            let lead = if at == 0 { lead.to_owned() } else { " ".repeat(lead.len()) };
            out.push_str(&format!("{lead}{line}\n"));
        }
    };
    verdict.reasons.iter().for_each(|reason| lines("  because  ", reason));
    for found in &verdict.systemic {
        told(found, &mut lines);
    }
    for one in &verdict.one_offs {
        lines("  one-off  ", &one_off(one));
    }
    out + &tests(&verdict.tests, screen)
}

fn told(found: &Systemic, lines: &mut impl FnMut(&str, &str)) {
    let mut hosts: Vec<&str> = found.hosts.iter().take(HOSTS_SHOWN).map(String::as_str).collect();
    let more = format!("and {} more", found.hosts.len().saturating_sub(HOSTS_SHOWN));
    if found.hosts.len() > HOSTS_SHOWN {
        hosts.push(&more);
    }
    lines("  systemic ", &format!("{} in {}: {}", found.class, found.scope, hosts.join(", ")));
    for rival in &found.rivals {
        let left = if rival.explained { "explained by it" } else { "NOT explained by it" };
        lines("    not    ", &format!("{}: {left}, p {:.2} within its strata", rival.scope, rival.p_within));
    }
    for remedy in found.remedies {
        lines("    do     ", remedy.says());
    }
    lines("    undo   ", found.compensation);
}

fn one_off(one: &OneOff) -> String {
    let remedies: Vec<&str> = one.remedies.iter().map(|remedy| remedy.says()).collect();
    format!("{} {}: {}", one.host, one.class, remedies.join("; "))
}

fn tests(tests: &[Concentration], screen: Screen) -> String {
    if tests.is_empty() {
        return String::new();
    }
    let mut table = Table::new(vec![
        Column::flexible("WHERE", 20),
        Column::new("WHOSE"),
        Column::new("INSIDE"),
        Column::new("OUTSIDE"),
        Column::new("ODDS"),
        Column::new("P"),
        Column::new("CORRECTED"),
        Column::new(""),
    ]);
    for test in tests.iter().take(TESTS_SHOWN) {
        table.row([
            test.scope.to_string(),
            json!(test.who).as_str().unwrap_or_default().to_owned(),
            format!("{}/{}", test.failed_in, test.hosts_in),
            format!("{}/{}", test.failed_out, test.hosts_out),
            format!("{:.1}", test.odds_ratio),
            format!("{:.1e}", test.p),
            format!("{:.1e}", test.p_corrected),
            if test.concentrates { "concentrates" } else { "" }.to_owned(),
        ]);
    }
    table.render(screen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_shown_with_its_reasons_its_remedies_and_what_it_is_not() {
        let host = |at: usize| {
            let cut_off = at.is_multiple_of(4);
            let outcome = if cut_off { json!({"state": "failed", "cause": "timeout"}) } else { json!({"state": "ok"}) };
            json!({ "host": format!("h{at}"), "site": format!("s{}", at % 2), "relay": format!("r{}", at % 4), "outcome": outcome })
        };
        let outcomes = json!({ "hosts": (0..40).map(host).collect::<Vec<_>>() });
        let outcomes: CampaignOutcomes = serde_json::from_value(outcomes).expect("outcomes");
        let shown = render(&judge_campaign(&outcomes).expect("is judged"), Screen::PLAIN);
        for part in [
            "pause relay r0\n40 hosts: 30 ok, 10 failed, 0 without a result\n",
            "RELAY: 10 of 10 hosts failed in relay r0, 0 of 30 elsewhere",
            "site s0: explained by it, p 1.00 within its strata",
            "probe the relay",
            "nothing: no host was changed",
            "concentrates",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }
}
