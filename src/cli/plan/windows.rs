//! Windows and waves of a plan out of calendars and of the workflow language, so that both mean what the engine does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use patchloom_core::calendar::Calendars;
use patchloom_core::{Definition, Portion, UtcMs};
use patchloom_domain::inventory::WINDOW_TAGS;
use patchloom_domain::{Host, Instant, Occurrence, WaveRule, WaveSize};

use super::RuleArgs;
use super::groups::Known;
use crate::cli::window;
use crate::cli::workflow::Source;
use crate::fault::{Exit, Fault};
use crate::output::{text, time};

/// The most occurrences of one window that a plan looks at.
const OCCURRENCES_MAX: usize = 500;

/// The windows of the fleet.
#[derive(Debug, Default)]
pub(super) struct Windows {
    /// The occurrences of each calendar that some host has.
    pub spans: BTreeMap<String, Vec<Occurrence>>,
    /// The calendar of each host.
    pub of_host: BTreeMap<String, String>,
    /// Hosts whose window nobody can tell, with the reason.
    pub conflicts: BTreeMap<String, String>,
}

/// When the plan begins.
pub(super) fn from(given: Option<&str>) -> Result<UtcMs, Fault> {
    let Some(given) = given else { return Ok(time::now()) };
    time::parse_rfc3339(given).ok_or_else(|| {
        let error = anyhow!("'{}' is no instant", text::plain(given));
        Fault::new("E0850", Exit::Usage, error).hint("write one such as 2026-12-01T21:00:00Z")
    })
}

/// Reads calendars and gives each host its windows: that of its tags, else that of its patch group, else the one that was named.
pub(super) fn read(hosts: &[Host], args: &RuleArgs, known: &Known, now: UtcMs) -> Result<Windows, Fault> {
    let (given, name) = match &args.calendar {
        Some(calendar) => {
            let (file, name) = split(calendar);
            let calendars = window::read_file(&file)?;
            if let Some(name) = name.as_deref().filter(|name| calendars.get(name).is_none()) {
                return Err(window::unknown(&calendars, name));
            }
            (Some(calendars), name)
        }
        None => (None, None),
    };
    // A calendar of the command line goes before one of the same name in a policy.
    let calendars: Vec<&Calendars> = given.iter().chain(&known.calendars).collect();
    let mut windows = Windows::default();
    let keys = || [args.window_tag.as_str()].into_iter().chain(WINDOW_TAGS);
    let tagged = |host: &Host| {
        let tags = keys().filter_map(|key| host.tags.get(key)).map(|tag| tag.trim().to_owned());
        tags.into_iter().find(|tag| !tag.is_empty())
    };
    for host in hosts {
        let window = match tagged(host) {
            Some(window) => Ok(Some(window)),
            None => known.rules.window(host).map(|window| window.map(str::to_owned).or_else(|| name.clone())),
        };
        match window {
            Ok(Some(window)) => drop(windows.of_host.insert(host.id.clone(), window)),
            Ok(None) => {}
            Err(why) => drop(windows.conflicts.insert(host.id.clone(), why)),
        }
    }
    let until = now + args.horizon;
    let names: BTreeSet<&String> = windows.of_host.values().collect();
    for name in names {
        let Some(calendars) = calendars.iter().find(|calendars| calendars.get(name).is_some()) else { continue };
        let spans = calendars.spans(name, now, until, OCCURRENCES_MAX);
        let one = |span: &patchloom_core::OpenSpan| Occurrence {
            open: Instant(span.open.0),
            close: Instant(span.close.0),
            last_start: Instant(span.last_start.0),
        };
        windows.spans.insert(name.clone(), spans.iter().map(one).collect());
    }
    Ok(windows)
}

/// `calendars.yaml/night` is the calendar `night` of that file.
fn split(given: &Path) -> (PathBuf, Option<String>) {
    match (given.parent(), given.file_name()) {
        (Some(parent), Some(name)) if !given.exists() && parent.is_file() => {
            (parent.to_owned(), Some(name.to_string_lossy().into_owned()))
        }
        _ => (given.to_owned(), None),
    }
}

/// Reads waves as they stand in a workflow, with its own reader; tells whether one has a gate.
pub(super) fn waves(given: &str) -> Result<(Vec<WaveRule>, bool), Fault> {
    let list = if given.trim_start().starts_with(['[', '-']) {
        given.to_owned()
    } else {
        Source::read(Path::new(given))?.text
    };
    let list: String = list.lines().map(|line| format!("        {line}\n")).collect();
    let around =
        "name: waves\nsteps:\n  hosts:\n    uses: host.install\n    for_each:\n      items: [1]\n      waves:\n";
    let wrong = |error: anyhow::Error| {
        Fault::new("E0855", Exit::BadInput, error).hint("write [{name: canary, size: 1%, soak: 30m}, {name: broad}]")
    };
    // Of the places only those in a file of one's own would help; the messages name the key.
    let definition = Definition::parse("waves", &format!("{around}{list}"))
        .map_err(|mistakes| wrong(anyhow!("these are no waves: {mistakes}")))?;
    let found = definition.steps.first().and_then(|step| step.for_each.as_ref()).map(|each| each.waves.as_slice());
    let found = found.filter(|waves| !waves.is_empty()).ok_or_else(|| wrong(anyhow!("there are no waves in it")))?;
    let rule = |wave: &patchloom_core::Wave| WaveRule {
        name: wave.name.to_string(),
        size: match wave.size {
            Portion::Count(count) => WaveSize::Count(count),
            Portion::BasisPoints(points) => WaveSize::BasisPoints(points),
        },
        soak_ms: wave.soak.map_or(0, |soak| soak.0),
        failures: None,
    };
    Ok((found.iter().map(rule).collect(), found.iter().any(|wave| wave.gate.is_some())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_are_those_of_a_workflow_and_count_alike() {
        let (found, gates) =
            waves("[{name: canary, size: 1%, soak: 30m}, {name: five, size: 5}, {name: broad}]").unwrap();
        let told: Vec<(&str, String, u64)> =
            found.iter().map(|wave| (wave.name.as_str(), wave.size.to_string(), wave.soak_ms)).collect();
        assert_eq!(
            told,
            [("canary", "1%".to_owned(), 1_800_000), ("five", "5".to_owned(), 0), ("broad", "100%".to_owned(), 0)]
        );
        assert!(!gates);
        for whole in [0, 1, 99, 100, 101, 12_345] {
            for points in [1, 33, 100, 3_333, 10_000] {
                let engine = Portion::BasisPoints(points).up(whole);
                let ours = WaveSize::BasisPoints(points).of(usize::try_from(whole).unwrap());
                assert_eq!(usize::try_from(engine).unwrap(), ours, "{points} of {whole}");
            }
        }
        assert_eq!(waves("[{name: a, size: 200%}]").unwrap_err().code(), "E0855");
        assert_eq!(waves("[]").unwrap_err().code(), "E0855");
    }
}
