//! From the rules that a text meets, the exit code and the states to one answer.

use std::collections::BTreeMap;

use super::cause::{Cause, Family};
use super::effect::effect;
use super::rules::{Meaning, meaning};
use super::scan::{Found, Hit, alike, scan};
use super::{Diagnosis, Evidence, Failure, FailureKind, Leaves, Manager, Observed, Outcome, causes};

/// Finds out what came of a call of a package manager, and why it failed where it did.
///
/// Reads the text once; any bytes will do.
///
/// # Example
/// ```
/// use patchloom_domain::{FailureKind, Manager, Observed, diagnose};
/// let text = b"E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7451 (apt)";
/// let found = diagnose(&Observed { manager: Manager::Apt, code: Some(100), text, states: None });
/// let why = found.primary.as_ref().unwrap();
/// assert_eq!((why.cause.kind, why.cause.name, why.evidence.line), (FailureKind::Locked, "locked", Some(1)));
/// assert_eq!(found.holder(), Some((7451, "apt")));
/// ```
#[must_use]
pub fn diagnose(observed: &Observed<'_>) -> Diagnosis {
    let text = String::from_utf8_lossy(observed.text);
    let said = meaning(observed.manager, observed.code);
    let loud = matches!(said, Meaning::Failed | Meaning::Because(_));
    let mut found = scan(observed.manager, &text, loud || matches!(said, Meaning::DoneBut(_)));
    let mut failures = failures(observed.manager, std::mem::take(&mut found.hits), said);
    complete(observed, said, &found, &mut failures);
    let mut failures = without_echoes(failures);
    let primary_at = failures.iter().enumerate().min_by_key(|(_, failure)| failure.cause.rank).map(|(at, _)| at);
    let all: Vec<&Failure> = failures.iter().collect();
    let host = effect(&all, found.moved, observed.states);
    let primary = primary_at.map(|at| failures.remove(at));
    let nothing = found.remarks.iter().any(|remark| remark.name == "nothing_to_do");
    let outcome = match (&primary, said) {
        (Some(_), _) => Outcome::Failed,
        (None, Meaning::Updates) => Outcome::UpdatesAvailable,
        (None, _) if nothing && !found.moved => Outcome::NothingToDo,
        (None, _) => Outcome::Done,
    };
    Diagnosis {
        manager: observed.manager,
        exit_code: observed.code,
        outcome,
        exit_code_lies: primary.is_some() && matches!(said, Meaning::Done | Meaning::Updates),
        host,
        primary,
        others: failures,
        left_off: found.left_off,
        remarks: found.remarks,
    }
}

fn failures(manager: Manager, hits: Vec<Hit>, said: Meaning) -> Vec<Failure> {
    let translated = hits.iter().any(|hit| hit.rule.cause == &causes::LOCALISED_OUTPUT);
    let kept = hits.into_iter().filter(|hit| !translated || hit.rule.cause == &causes::LOCALISED_OUTPUT);
    // Where it is done but for something, only what can be wrong after it is done counts.
    let fits = |cause: &Cause| match said {
        Meaning::DoneBut(_) => matches!(
            cause.kind,
            FailureKind::Scriptlet
                | FailureKind::Fetch
                | FailureKind::Reboot
                | FailureKind::Unverified
                | FailureKind::Unknown
        ),
        Meaning::Done | Meaning::Updates | Meaning::Failed | Meaning::Because(_) => true,
    };
    let failure = |hit: Hit| {
        let evidence = Evidence { rule: hit.rule.name, line: Some(hit.line), text: hit.text };
        let leaves = hit.rule.leaves.unwrap_or(hit.rule.cause.leaves);
        Failure { leaves, ..failure(manager, hit.rule.cause, hit.subject, evidence) }
    };
    kept.filter(|hit| fits(hit.rule.cause)).map(failure).collect()
}

/// Leaves out what only repeats that something failed, where another line tells what; its subject is not lost.
fn without_echoes(failures: Vec<Failure>) -> Vec<Failure> {
    let is = |failure: &Failure, cause: &Cause| failure.cause.name == cause.name;
    let echo = |failure: &Failure| {
        [&causes::TRANSACTION_FAILED, &causes::DOWNLOAD_FAILED, &causes::PACKAGE_FAILED]
            .iter()
            .any(|cause| is(failure, cause))
    };
    let (echoes, mut told): (Vec<_>, Vec<_>) = failures.into_iter().partition(echo);
    let mut kept = Vec::new();
    for failure in echoes {
        let repeated = told.iter_mut().find(|known| {
            let package = failure.subject.get("package").map(String::as_str);
            let known_package = known.subject.get("package").map(String::as_str);
            let same = package.is_none_or(|package| known_package.is_none_or(|known| alike("package", known, package)));
            match failure.cause.kind {
                FailureKind::Fetch => known.cause.kind == FailureKind::Fetch && same,
                FailureKind::HalfState if is(&failure, &causes::PACKAGE_FAILED) => same,
                _ => true,
            }
        });
        match repeated {
            Some(known) => failure.subject.into_iter().for_each(|(key, value)| {
                known.subject.entry(key).or_insert(value);
            }),
            None => kept.push(failure),
        }
    }
    // One failed transaction is told once, whatever its packages.
    if kept.iter().any(|failure| !is(failure, &causes::TRANSACTION_FAILED)) {
        kept.retain(|failure| !is(failure, &causes::TRANSACTION_FAILED));
    }
    told.extend(kept);
    told.sort_by_key(|failure| failure.evidence.line.unwrap_or(usize::MAX));
    told
}

/// Adds what the exit code and the states say beyond the text.
fn complete(observed: &Observed<'_>, said: Meaning, found: &Found, failures: &mut Vec<Failure>) {
    let manager = observed.manager;
    let from_code = |cause: &'static Cause| {
        let text = observed.code.map_or_else(|| "ended by a signal".to_owned(), |code| format!("exit code {code}"));
        failure(manager, cause, BTreeMap::new(), Evidence { rule: "exit-code", line: None, text })
    };
    match said {
        Meaning::Because(cause) if failures.is_empty() => failures.push(from_code(cause)),
        Meaning::DoneBut(cause) if failures.iter().all(|known| known.cause.kind != cause.kind) => {
            failures.push(from_code(cause));
        }
        Meaning::Done | Meaning::Updates | Meaning::Failed | Meaning::Because(_) | Meaning::DoneBut(_) => {}
    }
    let half_done = failures.iter().any(|known| known.leaves == Leaves::HalfDone);
    if let Some(first) = observed.states.and_then(|states| states.broken.first()).filter(|_| !half_done) {
        let evidence = Evidence { rule: "state", line: None, text: first.clone() };
        let subject = BTreeMap::from([("package", first.clone())]);
        failures.push(failure(manager, &causes::HALF_CONFIGURED, subject, evidence));
    }
    if failures.is_empty() && matches!(said, Meaning::Failed) {
        let told = found.error.clone().or_else(|| found.last.clone());
        let foreign = told.as_ref().is_some_and(|(_, line)| line.chars().any(|c| !c.is_ascii() && c.is_alphabetic()));
        let cause = if foreign { &causes::LOCALISED_OUTPUT } else { &causes::UNKNOWN };
        failures.push(match told {
            Some((line, text)) => {
                failure(manager, cause, BTreeMap::new(), Evidence { rule: "none", line: Some(line), text })
            }
            None => from_code(cause),
        });
    }
}

fn failure(
    manager: Manager,
    cause: &'static Cause,
    subject: BTreeMap<&'static str, String>,
    evidence: Evidence,
) -> Failure {
    let family = match manager {
        Manager::Apt | Manager::Dpkg => Family::Apt,
        Manager::Dnf => Family::Dnf,
        Manager::Zypper => Family::Zypper,
        Manager::WindowsUpdate | Manager::Msi => Family::Windows,
    };
    let windows = family == Family::Windows;
    let fitting = cause.commands.iter().filter(|(of, _)| *of == family || (*of == Family::Any && !windows));
    let commands = fitting.filter_map(|(_, command)| filled(command, &subject)).collect();
    Failure { cause, leaves: cause.leaves, subject, evidence, commands }
}

/// A command with its holes filled; none where the text does not tell with what, or with something that no name is.
fn filled(command: &str, subject: &BTreeMap<&'static str, String>) -> Option<String> {
    let Some((before, rest)) = command.split_once('{') else { return Some(command.to_owned()) };
    let Some((name, after)) = rest.split_once('}') else { return Some(command.to_owned()) };
    let value = match name {
        "name" => bare_name(subject.get("package")?),
        name => subject.get(name)?,
    };
    // What a package manager printed goes into a line that a person may paste into a shell.
    let harmless = |c: char| c.is_ascii_alphanumeric() || "._+-:~/=@%".contains(c);
    (!value.is_empty() && !value.starts_with('-') && value.chars().all(harmless))
        .then(|| format!("{before}{value}{after}"))
}

/// The name in `jq-1.6-14.el9.x86_64`; what has no version behind it is the name.
fn bare_name(package: &str) -> &str {
    let mut parts = package.rsplitn(3, '-');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(_), Some(version), Some(name)) if version.starts_with(|c: char| c.is_ascii_digit()) => name,
        _ => package,
    }
}
