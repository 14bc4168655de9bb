//! `patchloom failure`: what a package manager's output and exit code tell.

mod cluster;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand, ValueEnum};
use patchloom_domain::{Action, CallOutcome, Diagnosis, Failure, Manager, Observed, Responsible, diagnose};
use serde_json::{Value, json};

pub use cluster::FailureClusterArgs;

use super::Context;
use crate::fault::{Exit, Fault};
use crate::output::{Screen, text};

/// A longer text is refused: no call of a package manager says so much.
const TEXT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Works with failures of package managers.
#[derive(Clone, Debug, Subcommand)]
#[command(subcommand_required = true)]
pub enum FailureCommand {
    /// Tell why a package manager failed, by what it printed and by its exit code
    Classify(FailureClassifyArgs),
    /// Tell which failures of a campaign belong together, and whether it goes on
    Cluster(FailureClusterArgs),
}

/// Whose output it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ManagerChoice {
    /// apt-get or apt, with dpkg below it
    Apt,
    /// dpkg alone
    Dpkg,
    /// dnf 4 or 5, with rpm below it
    Dnf,
    /// zypper, with rpm below it
    Zypper,
    /// Windows Update, by its codes
    WindowsUpdate,
    /// The Windows Installer, by its codes
    Msi,
}

impl ManagerChoice {
    fn manager(self) -> Manager {
        match self {
            Self::Apt => Manager::Apt,
            Self::Dpkg => Manager::Dpkg,
            Self::Dnf => Manager::Dnf,
            Self::Zypper => Manager::Zypper,
            Self::WindowsUpdate => Manager::WindowsUpdate,
            Self::Msi => Manager::Msi,
        }
    }
}

/// Classifies captured output.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  patchloom failure classify --manager apt --exit-code 100 apt.log\n",
    "  patchloom failure classify --manager zypper --exit-code 107 - < zypper.log\n",
    "  patchloom failure classify --manager dnf --exit-code 1 --json host-a.log host-b.log\n\n",
    "Ends with 0 where the call did what it was to do, and with 1 where it failed, whatever its own exit code says.\n",
    "With --json one file gives one object, several give a list. The output has to be in English: LC_ALL=C.\n",
    "docs/failures.md lists the classes and causes.\n\n",
    include_str!("exit_codes.txt")
))]
pub struct FailureClassifyArgs {
    /// Whose output it is
    #[arg(long, value_name = "MANAGER")]
    pub manager: ManagerChoice,
    /// The exit code; without one it was ended by a signal
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub exit_code: Option<i32>,
    /// What it printed, stdout and stderr in their own order; - is stdin
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Print all that is known as JSON
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(command: &FailureCommand, context: &Context) -> Result<Exit, Fault> {
    match command {
        FailureCommand::Classify(args) => classify(args, context),
        FailureCommand::Cluster(args) => cluster::cluster(args, context),
    }
}

fn classify(args: &FailureClassifyArgs, context: &Context) -> Result<Exit, Fault> {
    let mut all = Vec::new();
    for file in &args.files {
        let text = read(file)?;
        let observed = Observed { manager: args.manager.manager(), code: args.exit_code, text: &text, states: None };
        all.push((file.display().to_string(), diagnose(&observed)));
    }
    if args.json {
        let mut values: Vec<Value> = all.iter().map(|(file, found)| whole(file, found)).collect();
        match values.len() {
            1 => context.print_json(&values.swap_remove(0))?,
            _ => context.print_json(&values)?,
        }
    } else {
        let shown: Vec<String> = all.iter().map(|(file, found)| render(file, found, context.out)).collect();
        context.print(&shown.join("\n"))?;
    }
    let failed = all.iter().any(|(_, found)| found.outcome == CallOutcome::Failed);
    Ok(if failed { Exit::Failed } else { Exit::Ok })
}

fn read(file: &Path) -> Result<Vec<u8>, Fault> {
    let unusable = |error: anyhow::Error| Fault::new("E0906", Exit::BadInput, error);
    let mut text = Vec::new();
    // One byte more than is taken: that it is too long is then seen.
    let most = TEXT_BYTES_MAX + 1;
    let taken = if file == Path::new("-") {
        std::io::stdin().lock().take(most).read_to_end(&mut text)
    } else {
        std::fs::File::open(file).and_then(|open| open.take(most).read_to_end(&mut text))
    };
    taken.with_context(|| format!("cannot read {}", file.display())).map_err(unusable)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > TEXT_BYTES_MAX {
        let error = anyhow!("{} is longer than {TEXT_BYTES_MAX} bytes", file.display());
        return Err(unusable(error).hint("give the output of one call of the package manager"));
    }
    Ok(text)
}

/// A diagnosis with the name of its file.
fn whole(file: &str, found: &Diagnosis) -> Value {
    let mut value = json!(found);
    value["file"] = json!(file);
    value["host_says"] = json!(found.host.says());
    value
}

fn render(file: &str, found: &Diagnosis, screen: Screen) -> String {
    let style = screen.style;
    let name = style.bold(file);
    let Some(primary) = &found.primary else {
        let says = match found.outcome {
            CallOutcome::Done => "done, no failure found",
            CallOutcome::NothingToDo => "nothing to do",
            CallOutcome::UpdatesAvailable => "updates are on offer",
            CallOutcome::Failed => "failed",
        };
        return format!("{name}: {says}\n{}", remarks(found));
    };
    let mut out = format!("{name}: {} {}\n", style.bold(primary.cause.kind.code()), primary.cause.name);
    let mut row = |label: &str, value: &str| {
        let width = screen.width.unwrap_or(100).clamp(40, 100) - 13;
        for (at, line) in text::wrap(value, width).iter().enumerate() {
            out.push_str(&format!("  {:<11}{line}\n", if at == 0 { label } else { "" }));
        }
    };
    row("what", primary.cause.says);
    row("because", &evidence(primary));
    for (key, value) in &primary.subject {
        row(key, value);
    }
    row("host", found.host.says());
    if found.exit_code_lies {
        row("exit code", "says that all is well, and it is not");
    }
    row("who", who(primary.cause.who));
    row("again", if primary.cause.transient { "the same call may pass later" } else { "the same call fails again" });
    row("remedy", &format!("{}: {}", action(primary.cause.action), primary.cause.advice));
    for command in &primary.commands {
        row("", command);
    }
    for other in &found.others {
        row("also", &format!("{} {}: {}", other.cause.kind, other.cause.name, evidence(other)));
    }
    if found.left_off > 0 {
        row("also", &format!("{} more failures", found.left_off));
    }
    out.push_str(&remarks(found));
    out
}

fn remarks(found: &Diagnosis) -> String {
    found
        .remarks
        .iter()
        .map(|remark| format!("  {:<11}{}, line {}: {}\n", "note", remark.name, remark.line, remark.text))
        .collect()
}

fn evidence(failure: &Failure) -> String {
    match failure.evidence.line {
        Some(line) => format!("line {line}: {}", failure.evidence.text),
        None => failure.evidence.text.clone(),
    }
}

fn who(who: Responsible) -> &'static str {
    match who {
        Responsible::Agent => "agent: whoever calls the package manager",
        Responsible::Relay => "relay: the mirror, or the way to it",
        Responsible::Policy => "policy: whoever decided what is to be installed",
        Responsible::Package => "package: whoever made it",
        Responsible::Host => "host: whoever looks after it",
    }
}

fn action(action: Action) -> &'static str {
    match action {
        Action::Retry => "retry",
        Action::Refresh => "refresh, then retry",
        Action::Wait => "wait, then retry",
        Action::FreeSpace => "make room, then retry",
        Action::Repair => "repair",
        Action::RollBack => "roll back and hold",
        Action::Decide => "decide",
        Action::Correct => "correct, then retry",
        Action::Restart => "restart",
        Action::Inspect => "stop and look",
        Action::None => "nothing",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(manager: Manager, code: i32, text: &str) -> String {
        let found = diagnose(&Observed { manager, code: Some(code), text: text.as_bytes(), states: None });
        render("x.log", &found, Screen::PLAIN)
    }

    #[test]
    fn class_cause_line_and_remedy_are_shown() {
        let text = "Reading package lists...\nE: Could not get lock /l. It is held by process 7 (apt)";
        let shown = shown(Manager::Apt, 100, text);
        for part in [
            "x.log: LOCKED locked\n",
            "line 2: E: Could not get lock /l.",
            "pid        7\n",
            "nothing was changed on the host",
            "wait, then retry: ",
            "ps -o pid,etime,args -p 7\n",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }

    #[test]
    fn a_lie_is_called_one_and_a_success_is_one_line() {
        let lie = shown(Manager::Dnf, 0, "Error in POSTIN scriptlet in rpm package p\nComplete!");
        assert!(lie.contains("says that all is well, and it is not"), "{lie}");
        assert_eq!(shown(Manager::Zypper, 101, "2 patches needed"), "x.log: updates are on offer\n");
    }
}
