//! The rules of a plan on the command line: the same for `patchloom plan` and `patchloom campaign run`, so that both plan alike.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use patchloom_core::{Millis, UtcMs};
use patchloom_domain::{CutoffRule, Host, Instant, Limits, Occurrence, RebootRule, WaveRule, WaveSize};
use patchloom_workers::campaign::{CHANGE_WINDOW, Planning};

use super::groups::{self, Known};
use super::read;
use super::windows::{self, Windows};
use crate::cli::baseline;
use crate::fault::Fault;
use crate::output::time;

/// How many hosts are at work at once, unless told.
pub(in crate::cli) const PARALLEL: u32 = 50;

/// What the cutoff of a window asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CutoffChoice {
    /// Work starts before the cutoff and ends before the window does, as in AWS Systems Manager
    Start,
    /// Work ends before the cutoff too, as `expected` of a workflow's step has it
    End,
}

/// Whether hosts boot anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RebootChoice {
    /// Never; the report tells that it is due
    Never,
    /// Where the patch works only then: a kernel, the first process, what packages mark
    IfNeeded,
    /// After every patch
    Always,
}

impl RebootChoice {
    /// The word of the workflows' input.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::IfNeeded => "if_needed",
            Self::Always => "always",
        }
    }
}

/// Waves, windows, limits and baselines.
#[derive(Clone, Debug, Args)]
pub struct RuleArgs {
    /// A patch baseline; one per operating system and patch group
    #[arg(long, value_name = "FILE")]
    pub baseline: Vec<PathBuf>,
    /// What belongs to patch groups: windows, baselines, calendars [default: what the recorded inventory has]
    #[arg(long, value_name = "FILE")]
    pub policy: Vec<PathBuf>,
    /// What `patchloom correlate --json` said of the hosts: the most urgent go first, inside their deadlines
    #[arg(long, value_name = "FILE")]
    pub urgency: Vec<PathBuf>,
    /// Calendars; the one of that NAME is for hosts that neither a tag nor a patch group gives one
    #[arg(long, value_name = "FILE[/NAME]")]
    pub calendar: Option<PathBuf>,
    /// The tag that names the calendar of a host, before its Maintenance Window
    #[arg(long, value_name = "KEY", default_value = "Patch Window")]
    pub window_tag: String,
    /// Without calendars: when the only window of all opens, such as 2026-12-01T22:00:00Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = instant, conflicts_with = "calendar")]
    pub starts: Option<Instant>,
    /// How long it is open
    #[arg(long, value_name = "DURATION", default_value = "7d", conflicts_with = "calendar")]
    pub lasts: Millis,
    /// How far ahead windows are looked for
    #[arg(long, value_name = "DURATION", default_value = "45d")]
    pub horizon: Millis,
    /// The waves: a list as in a workflow, or a file with one [default: canary, pilot, broad]
    #[arg(long, value_name = "WAVES", conflicts_with_all = ["canary", "pilot", "soak"])]
    pub waves: Option<String>,
    /// Hosts of the first wave: a number, or a part of all such as 5%
    #[arg(long, value_name = "N|P%", default_value = "1%", value_parser = size)]
    pub canary: WaveSize,
    /// Hosts of the second wave
    #[arg(long, value_name = "N|P%", default_value = "10%", value_parser = size)]
    pub pilot: WaveSize,
    /// How long to wait and watch behind the canary and the pilot
    #[arg(long, value_name = "DURATION", default_value = "30m")]
    pub soak: Millis,
    /// How many hosts of the first wave may fail before the others are kept away
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub canary_failures: u32,
    /// How many hosts of each wave between the first and the last may
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub pilot_failures: u32,
    /// At most so many behind one relay at once
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub per_relay: u32,
    /// What the cutoff of a window asks
    #[arg(long, value_name = "RULE", default_value = "start")]
    pub cutoff: CutoffChoice,
    /// Which hosts boot anew behind their patch; time for that is kept free in their windows
    #[arg(long, value_enum, default_value_t = RebootChoice::Never)]
    pub reboot: RebootChoice,
    /// What is kept free for a reboot at the end
    #[arg(long, value_name = "DURATION", default_value = "15m")]
    pub reboot_reserve: Millis,
}

pub(super) fn size(text: &str) -> Result<WaveSize, String> {
    WaveSize::try_from(text.to_owned())
}

fn instant(text: &str) -> Result<Instant, String> {
    let found = time::parse_rfc3339(text).map(|at| Instant(at.0));
    found.ok_or_else(|| format!("'{text}' is not an instant: write it as 2026-12-01T22:00:00Z"))
}

impl RuleArgs {
    /// What is known of patch groups: by the files that are given, else by what is recorded below `data`.
    ///
    /// # Errors
    /// What is wrong in a policy.
    pub(in crate::cli) fn known(&self, data: &Path) -> Result<Known, Fault> {
        groups::known(&self.policy, data)
    }

    /// Whether hosts have windows by these rules.
    pub(in crate::cli) fn has_windows(&self, known: &Known) -> bool {
        self.calendar.is_some() || self.starts.is_some() || known.rules.have_windows()
    }

    /// The rules for these hosts, as of `now`.
    ///
    /// # Errors
    /// What is wrong in a baseline, a calendar or the waves.
    pub(in crate::cli) fn planning(&self, hosts: &[Host], known: &Known, now: UtcMs) -> Result<Planning, Fault> {
        let by_group = known.rules.have_windows();
        if by_group && self.starts.is_some() {
            eprintln!("Windows of patch groups and tags do not count: --starts gives all hosts the same.");
        }
        let Windows { spans, of_host, conflicts } = match self.calendar.is_some() || by_group {
            true if self.starts.is_none() => windows::read(hosts, self, known, now)?,
            _ => self.one_window(hosts, now),
        };
        let baseline = |file: &PathBuf| baseline::baseline(file);
        Ok(Planning {
            waves: self.rules()?,
            windows: spans,
            window_of: of_host,
            limits: Limits { max_parallel: PARALLEL, per_relay: Some(self.per_relay), per_site: None },
            cutoff: match self.cutoff {
                CutoffChoice::Start => CutoffRule::Start,
                CutoffChoice::End => CutoffRule::End,
            },
            reboot: match self.reboot {
                RebootChoice::IfNeeded => RebootRule::IfNeeded,
                RebootChoice::Always => RebootRule::Always,
                RebootChoice::Never => RebootRule::Never,
            },
            reboot_reserve_ms: self.reboot_reserve.0,
            baselines: self.baseline.iter().map(baseline).collect::<Result<_, _>>()?,
            groups: known.rules.clone(),
            conflicts,
            needs: read::needs(&self.urgency, hosts)?,
        })
    }

    /// Without calendars all hosts have the same window.
    fn one_window(&self, hosts: &[Host], now: UtcMs) -> Windows {
        let open = self.starts.unwrap_or(Instant(now.0));
        let close = open.plus(self.lasts.0);
        let name = CHANGE_WINDOW.to_owned();
        Windows {
            spans: [(name.clone(), vec![Occurrence { open, close, last_start: close }])].into(),
            of_host: hosts.iter().map(|host| (host.id.clone(), name.clone())).collect(),
            conflicts: BTreeMap::new(),
        }
    }

    fn rules(&self) -> Result<Vec<WaveRule>, Fault> {
        let rule = |name: &str, size, soak_ms| WaveRule { name: name.to_owned(), size, soak_ms, failures: None };
        let mut rules = match &self.waves {
            Some(waves) => {
                let (rules, gates) = windows::waves(waves)?;
                if gates {
                    eprintln!("Gates are not reckoned with: the plan goes on as soon as a wave has soaked.");
                }
                rules
            }
            None => vec![
                rule("canary", self.canary, self.soak.0),
                rule("pilot", self.pilot, self.soak.0),
                rule("broad", WaveSize::BasisPoints(10_000), 0),
            ],
        };
        let last = rules.len().saturating_sub(1);
        for (at, rule) in rules.iter_mut().enumerate().take(last) {
            rule.failures = Some(if at == 0 { self.canary_failures } else { self.pilot_failures });
        }
        Ok(rules)
    }
}
