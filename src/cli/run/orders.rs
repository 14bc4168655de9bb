//! What may be said to a run under way, or to one that ended: the arguments of each order.

use std::path::PathBuf;

use clap::Args;
use patchloom_core::{OnExceed, Portion};

use super::RunSelector;

/// Pauses or resumes.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom run pause last --reason 'change freeze'\n",
    "  patchloom run pause last --step patch --items 'item.site == \"berlin\"'\n",
    "  patchloom run resume last\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct RunPauseArgs {
    /// Which.
    #[command(flatten)]
    pub run: RunSelector,
    /// Only this step of it
    #[arg(long, value_name = "STEP")]
    pub step: Option<String>,
    /// Only the items of the step that meet this condition over `item` and `index`
    #[arg(long, value_name = "CONDITION", requires = "step")]
    pub items: Option<String>,
    /// Why; kept in the run's history
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Leave the runs below it as they are
    #[arg(long, conflicts_with = "step")]
    pub only: bool,
}

/// What is done when more items fail than are borne.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Exceed {
    /// What is at work comes to its end, then the step fails.
    Drain,
    /// What is at work is called back, then the step fails.
    Cancel,
    /// The step is paused.
    Pause,
}

impl From<Exceed> for OnExceed {
    fn from(exceed: Exceed) -> Self {
        match exceed {
            Exceed::Drain => Self::Drain,
            Exceed::Cancel => Self::Cancel,
            Exceed::Pause => Self::Pause,
        }
    }
}

/// Changes limits.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom run tune last patch --max-parallel 50\n",
    "  patchloom run tune last patch --per 2=1 --tolerate 5% --min-samples 20 --on-exceed pause\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct RunTuneArgs {
    /// Which.
    #[command(flatten)]
    pub run: RunSelector,
    /// The step, which has a for_each
    #[arg(value_name = "STEP")]
    pub step: String,
    /// How many items at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_parallel: Option<u32>,
    /// How many items with an equal key at once: of the N-th limit under `per`, counted from 1; of the first without N
    #[arg(long, value_name = "N=LIMIT|LIMIT", value_parser = per)]
    pub per: Vec<(u32, u32)>,
    /// How many failed items are borne
    #[arg(long, value_name = "NUMBER|PERCENT", value_parser = portion)]
    pub tolerate: Option<Portion>,
    /// A percentage is not looked at before so many items have come to rest
    #[arg(long, value_name = "N", requires = "tolerate")]
    pub min_samples: Option<u32>,
    /// What happens when more fail
    #[arg(long, value_name = "WHAT", requires = "tolerate")]
    pub on_exceed: Option<Exceed>,
}

/// What is decided on a step that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Choice {
    /// Try it again.
    Retry,
    /// Go on without it.
    Skip,
    /// Let it fail.
    Fail,
}

/// Decides on a step.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom run decide last install retry --wait\n",
    "  patchloom run decide last install skip --note 'done by hand'\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct RunDecideArgs {
    /// Which.
    #[command(flatten)]
    pub run: RunSelector,
    /// The step, which is held
    #[arg(value_name = "STEP")]
    pub step: String,
    /// What to do
    #[arg(value_name = "DECISION")]
    pub choice: Choice,
    /// Why, where it is skipped; kept in the run's history
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    /// Wait until the run ends, with progress
    #[arg(long)]
    pub wait: bool,
}

/// Goes on without a step.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom run skip last notify --note \"the owner knows\"\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct RunSkipArgs {
    /// Which.
    #[command(flatten)]
    pub run: RunSelector,
    /// The step, which is held
    #[arg(value_name = "STEP")]
    pub step: String,
    /// Why; kept in the run's history
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    /// Wait until the run ends, with progress
    #[arg(long)]
    pub wait: bool,
}

impl RunSkipArgs {
    /// The decision they stand for.
    pub(super) fn decision(&self) -> RunDecideArgs {
        RunDecideArgs {
            run: self.run.clone(),
            step: self.step.clone(),
            choice: Choice::Skip,
            note: self.note.clone(),
            wait: self.wait,
        }
    }
}

/// Says what a person did about a compensation that failed.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom run resolve last snapshot --note 'snapshot removed by hand'\n",
    "  patchloom run retry last   # tries all failed compensations again\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct RunResolveArgs {
    /// Which.
    #[command(flatten)]
    pub run: RunSelector,
    /// The step that could not be undone
    #[arg(value_name = "STEP")]
    pub step: String,
    /// Which of its items, counted from 0; needed where several failed
    #[arg(long, value_name = "N")]
    pub item: Option<u32>,
    /// What was done about it; kept in the run's history
    #[arg(long, value_name = "TEXT")]
    pub note: String,
    /// Wait until the run ends, with progress
    #[arg(long)]
    pub wait: bool,
}

/// Has a run that ended go again, in part.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom run rerun last --from-step verify --wait\n",
    "  patchloom run rerun last --failed-items patch\n",
    "  patchloom run rerun last --input offline=true\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct RunRerunArgs {
    /// Which.
    #[command(flatten)]
    pub run: RunSelector,
    /// From this step on, and all behind it; else from what failed or was undone
    #[arg(long, value_name = "STEP", conflicts_with = "failed_items")]
    pub from_step: Option<String>,
    /// The failed items of this step, and all behind it
    #[arg(long, value_name = "STEP")]
    pub failed_items: Option<String>,
    /// One input that takes the place of the former; the steps that read it go again
    #[arg(long = "input", value_name = "NAME=VALUE", value_parser = super::named_value)]
    pub inputs: Vec<(String, serde_json::Value)>,
    /// Inputs from a JSON file; - is stdin. Single inputs override it
    #[arg(long = "inputs", value_name = "FILE")]
    pub inputs_file: Option<PathBuf>,
    /// Wait until it ends, with progress
    #[arg(long)]
    pub wait: bool,
}

/// Has a run go on as another version.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom run migrate last\n",
    "  patchloom run migrate last --to 3f9a\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct RunMigrateArgs {
    /// Which.
    #[command(flatten)]
    pub run: RunSelector,
    /// The version, or the first characters of its digest; else the one registered last
    #[arg(long, value_name = "DIGEST")]
    pub to: Option<String>,
    /// Register this definition first, and go on as it
    #[arg(long, value_name = "FILE", conflicts_with = "to")]
    pub file: Option<PathBuf>,
}

/// Sets a run aside.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom run quarantine last --reason \"the register shows another plan\"\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct RunQuarantineArgs {
    /// Which.
    #[command(flatten)]
    pub run: RunSelector,
    /// Why; kept in the run's history
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// Has a run that was set aside go on.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom run release last\n\n",
    include_str!("../exit_codes.txt")
))]
pub struct RunReleaseArgs {
    /// Which.
    #[command(flatten)]
    pub run: RunSelector,
    /// Wait until it ends, with progress
    #[arg(long)]
    pub wait: bool,
}

/// `N=LIMIT`, or `LIMIT` of the first; gives the position counted from 0.
fn per(text: &str) -> Result<(u32, u32), String> {
    let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number > 0);
    let (nth, limit) = text.split_once('=').unwrap_or(("1", text));
    match (number(nth), number(limit)) {
        (Some(nth), Some(limit)) => Ok((nth - 1, limit)),
        _ => Err("write it as LIMIT or N=LIMIT, both from 1 on".to_owned()),
    }
}

fn portion(text: &str) -> Result<Portion, String> {
    text.parse()
}

#[cfg(test)]
mod tests {
    use super::per;

    #[test]
    fn a_limit_of_per_is_named_by_its_place() {
        assert_eq!(per("3"), Ok((0, 3)));
        assert_eq!(per("2=5"), Ok((1, 5)));
        for wrong in ["0", "0=3", "2=", "=2", "a=1", "2=0", "-1"] {
            assert!(per(wrong).is_err(), "{wrong}");
        }
    }
}
