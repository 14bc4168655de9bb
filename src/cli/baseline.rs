//! `patchloom baseline`: patch baselines of AWS Systems Manager, read, written and asked.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use patchloom_domain::{Baseline, Judgement, Moment, PatchApproval, PatchCandidate, judge_patch};
use serde_json::{Value, json};

use super::Context;
use crate::fault::{Exit, Fault};
use crate::output::{Column, Table};

/// Works with patch baselines.
#[derive(Clone, Debug, Subcommand)]
#[command(subcommand_required = true)]
pub enum BaselineCommand {
    /// Ask a baseline which patches it approves, when, and why
    Test(BaselineTestArgs),
    /// Check a baseline of AWS Systems Manager and show its rules
    Import(BaselineImportArgs),
    /// Write a baseline as the input of create-patch-baseline
    Export(BaselineExportArgs),
}

/// Asks a baseline.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom baseline test baseline.json patches.json\n",
    "  patchloom baseline test baseline.json patches.json --at 2026-12-01T00:00:00Z --json\n\n",
    "The patches are a list of objects as SSM's Patch has them, or the answer of describe-available-patches or\n",
    "describe-effective-patches-for-patch-baseline; FirstSeen, NotBefore (the last look without it), Section,\n",
    "Priority and Security may be added. docs/planning.md says which date a delay counts from.\n",
    "Ends with 0 where every patch is approved, with 1 where one is not.\n\n",
    include_str!("exit_codes.txt")
))]
pub struct BaselineTestArgs {
    /// The baseline, as get-patch-baseline prints it
    #[arg(value_name = "BASELINE")]
    pub baseline: PathBuf,
    /// The patches; - is stdin
    #[arg(value_name = "PATCHES")]
    pub patches: PathBuf,
    /// As of when [default: now]
    #[arg(long, value_name = "TIME", value_parser = Moment::parse)]
    pub at: Option<Moment>,
    /// Print the answers as JSON
    #[arg(long)]
    pub json: bool,
}

/// Reads a baseline.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  aws ssm get-patch-baseline --baseline-id pb-0123 | patchloom baseline import -\n",
    "  patchloom baseline import baseline.json --json\n\n",
    include_str!("exit_codes.txt")
))]
pub struct BaselineImportArgs {
    /// The baseline; - is stdin
    #[arg(value_name = "BASELINE")]
    pub baseline: PathBuf,
    /// Print it as JSON, with what it leaves unsaid
    #[arg(long)]
    pub json: bool,
}

/// Writes a baseline.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom baseline export baseline.json > input.json\n\n",
    "What only SSM itself gives is left out: BaselineId, PatchGroups, CreatedDate, ModifiedDate.\n\n",
    include_str!("exit_codes.txt")
))]
pub struct BaselineExportArgs {
    /// The baseline; - is stdin
    #[arg(value_name = "BASELINE")]
    pub baseline: PathBuf,
}

/// What SSM gives and does not take.
const GIVEN: [&str; 4] = ["BaselineId", "PatchGroups", "CreatedDate", "ModifiedDate"];

pub(super) fn run(command: &BaselineCommand, context: &Context) -> Result<Exit, Fault> {
    match command {
        BaselineCommand::Test(args) => test(args, context),
        BaselineCommand::Import(args) => import(args, context),
        BaselineCommand::Export(args) => {
            let mut baseline = baseline(&args.baseline)?;
            GIVEN.iter().for_each(|name| {
                baseline.rest.remove(*name);
            });
            context.print_json(&baseline)?;
            Ok(Exit::Ok)
        }
    }
}

fn import(args: &BaselineImportArgs, context: &Context) -> Result<Exit, Fault> {
    let baseline = baseline(&args.baseline)?;
    if args.json {
        context.print_json(&baseline)?;
        return Ok(Exit::Ok);
    }
    let mut table =
        Table::new(vec![Column::new("RULE"), Column::flexible("SEES", 20), Column::new("WHEN"), Column::new("LEVEL")]);
    for (at, rule) in baseline.approval_rules.patch_rules.iter().enumerate() {
        let filters = rule.patch_filter_group.patch_filters.iter();
        let sees: Vec<String> =
            filters.map(|filter| format!("{} {}", word(&filter.key), filter.values.join(" or "))).collect();
        let when = match (rule.approve_after_days, &rule.approve_until_date) {
            (Some(days), _) => format!("{days} days after release"),
            (None, date) => format!("released until {}", date.as_deref().unwrap_or_default()),
        };
        table.row([(at + 1).to_string(), sees.join(", "), when, word(&rule.compliance_level)]);
    }
    let names = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    context.print(&format!(
        "{} ({})\n{}approved by name: {}\nrejected by name: {}\n",
        baseline.name,
        word(&baseline.operating_system),
        table.render(context.out),
        names(&baseline.approved_patches),
        names(&baseline.rejected_patches)
    ))?;
    Ok(Exit::Ok)
}

fn word(value: &impl serde::Serialize) -> String {
    json!(value).as_str().unwrap_or_default().to_owned()
}

fn test(args: &BaselineTestArgs, context: &Context) -> Result<Exit, Fault> {
    let baseline = baseline(&args.baseline)?;
    let patches = patches(&args.patches)?;
    let now = args.at.unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Moment(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    });
    let judged: Vec<(String, Judgement)> =
        patches.iter().map(|patch| (name(patch), judge_patch(&baseline, patch, now))).collect();
    if args.json {
        let rows: Vec<Value> = judged
            .iter()
            .map(|(name, judgement)| {
                let mut row = json!(judgement);
                row["patch"] = json!(name);
                row
            })
            .collect();
        context.print_json(&json!({ "baseline": baseline.name, "at": now, "patches": rows }))?;
    } else {
        let mut table = Table::new(vec![Column::new("PATCH"), Column::new("APPROVAL"), Column::flexible("WHY", 30)]);
        for (name, judgement) in &judged {
            table.row([name.as_str(), says(judgement).as_str(), judgement.why.as_str()]);
        }
        context.print(&table.render(context.out))?;
    }
    let approved = |judgement: &Judgement| {
        matches!(judgement.approval, PatchApproval::Approved | PatchApproval::ExplicitlyApproved)
    };
    Ok(if judged.iter().all(|(_, judgement)| approved(judgement)) { Exit::Ok } else { Exit::Failed })
}

fn says(judgement: &Judgement) -> String {
    match judgement.approval {
        PatchApproval::Approved => "approved".to_owned(),
        PatchApproval::ExplicitlyApproved => "approved by name".to_owned(),
        PatchApproval::Pending { until: Some(until) } => format!("not before {until}"),
        PatchApproval::Pending { until: None } => "not yet".to_owned(),
        PatchApproval::Rejected => "rejected".to_owned(),
        PatchApproval::NotMatched => "no rule".to_owned(),
    }
}

fn name(patch: &PatchCandidate) -> String {
    let version = if patch.version.is_empty() { String::new() } else { format!(" {}", patch.version) };
    [format!("{}{version}", patch.name), patch.kb_number.clone(), patch.id.clone(), patch.title.clone()]
        .into_iter()
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| "a patch without a name".to_owned())
}

pub(super) fn baseline(file: &Path) -> Result<Baseline, Fault> {
    let wrong = |error| Fault::new("E0922", Exit::BadInput, anyhow!("{}: {error}", file.display()));
    Baseline::read(&read(file)?).map_err(|error| wrong(error).hint("mend it at the place named"))
}

/// A list of patches, whether alone, under `Patches`, or each under `Patch` in `EffectivePatches`.
fn patches(file: &Path) -> Result<Vec<PatchCandidate>, Fault> {
    let wrong =
        |error: String| Fault::new("E0922", Exit::BadInput, anyhow!("{} holds no patches: {error}", file.display()));
    let value: Value = serde_json::from_str(&read(file)?).map_err(|error| wrong(error.to_string()))?;
    let list = ["Patches", "EffectivePatches"].iter().find_map(|name| value.get(name)).unwrap_or(&value);
    let rows = list.as_array().ok_or_else(|| wrong("it is no list, and has no Patches".to_owned()))?;
    let read = |(at, row): (usize, &Value)| {
        let row = row.get("Patch").unwrap_or(row).clone();
        serde_json::from_value(row).map_err(|error| wrong(format!("entry {at}: {error}")))
    };
    rows.iter().enumerate().map(read).collect()
}

fn read(file: &Path) -> Result<String, Fault> {
    let mut text = String::new();
    let taken = if file == Path::new("-") {
        std::io::stdin().lock().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    taken
        .with_context(|| format!("cannot read {}", file.display()))
        .map_err(|error| Fault::new("E0906", Exit::BadInput, error))
}

#[cfg(test)]
mod tests {
    use super::super::run_line;
    use super::*;

    fn run(words: &[&std::ffi::OsStr]) -> Exit {
        run_line(["patchloom".as_ref(), "baseline".as_ref()].into_iter().chain(words.iter().copied()).map(Into::into))
    }

    #[test]
    fn a_baseline_is_asked_read_and_written_from_the_command_line() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, value: Value| {
            let path = dir.path().join(name);
            std::fs::write(&path, value.to_string()).unwrap();
            path.into_os_string()
        };
        let rule = json!({
            "PatchFilterGroup": { "PatchFilters": [{ "Key": "PRIORITY", "Values": ["Required"] }] }, "ApproveAfterDays": 7
        });
        let good = write(
            "b.json",
            json!({
                "Name": "b", "OperatingSystem": "DEBIAN", "ApprovalRules": { "PatchRules": [rule] }
            }),
        );
        let bad =
            write("bad.json", json!({ "Name": "b", "ApprovalRules": { "PatchRules": [{ "PatchFilterGroup": {} }] } }));
        let patch = json!({ "Name": "libc6", "Priority": "required", "Security": true, "FirstSeen": "2026-11-01" });
        let patches = write("p.json", json!({ "Patches": [patch] }));
        let at = |time: &str| {
            let time = std::ffi::OsString::from(time);
            run(&["test".as_ref(), &good, &patches, "--at".as_ref(), &time])
        };
        assert_eq!(at("2026-11-07T23:59:59Z"), Exit::Failed);
        assert_eq!(at("2026-11-08"), Exit::Ok);
        assert_eq!(at("soon"), Exit::Usage);
        assert_eq!(run(&["import".as_ref(), &good]), Exit::Ok);
        assert_eq!(run(&["export".as_ref(), &good]), Exit::Ok);
        assert_eq!(run(&["import".as_ref(), &bad]), Exit::BadInput);
        assert_eq!(run(&["test".as_ref(), &good, &good]), Exit::BadInput);
    }
}
