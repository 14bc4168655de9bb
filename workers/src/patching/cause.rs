//! Why an install is not what was planned: the package manager's words, weighed by what it left behind.

use patchloom_core::FailureClass;
use patchloom_domain::{Cause, FailureKind, Manager, Observed, PackageOutcome, States, Verdict, diagnose};

/// The cause, and whether another attempt may help. Takes no exit code: it says nothing.
pub(super) fn find(manager: Manager, said: &str, errors: &[String], verdict: &Verdict) -> (Cause, FailureClass) {
    let text = format!("{}\n{said}", errors.join("\n"));
    let broken = verdict.packages.iter().filter(|package| package.outcome == PackageOutcome::Broken);
    let broken: Vec<_> = broken.map(|package| package.id.name.clone()).collect();
    let states = States { changed: &[], broken: &broken };
    let found = diagnose(&Observed { manager, code: None, text: text.as_bytes(), states: Some(states) });
    if let Some(found) = found.primary.filter(|failure| failure.cause.kind != FailureKind::Unknown) {
        // After something moved, the same call is not the same call any more: first the way back.
        let again = found.cause.transient && verdict.is_untouched();
        let class = if again { FailureClass::Transient } else { FailureClass::Permanent };
        return (Cause { code: found.cause.kind.code().to_owned(), message: found.evidence.text }, class);
    }
    if !verdict.is_untouched() || !verdict.audit.is_empty() {
        return (Cause { code: "HALF_STATE".to_owned(), message: verdict.summary() }, FailureClass::Permanent);
    }
    let last = said.lines().map(str::trim).rfind(|line| ["E:", "Error:"].iter().any(|word| line.starts_with(word)));
    let message = last.map_or_else(|| verdict.summary(), str::to_owned);
    (Cause { code: "UNVERIFIED".to_owned(), message }, FailureClass::Permanent)
}

#[cfg(test)]
mod tests {
    use patchloom_domain::{Drift, PackageId, PackageSet, judge_install};

    use super::*;

    fn untouched() -> Verdict {
        judge_install(&PackageSet::default(), &PackageSet::default(), &[], "")
    }

    #[track_caller]
    fn check(said: &str, code: &str, class: FailureClass) {
        let (cause, found) = find(Manager::Apt, said, &[], &untouched());
        assert_eq!((cause.code.as_str(), found), (code, class), "{cause}");
    }

    #[test]
    fn the_words_of_apt_name_the_cause() {
        let lock = "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 1 (perl)";
        check(lock, "LOCKED", FailureClass::Transient);
        let held = "E: Held packages were changed and -y was used without --allow-change-held-packages.";
        check(held, "HELD", FailureClass::Permanent);
        check("E: something new", "UNVERIFIED", FailureClass::Permanent);
        check("", "UNVERIFIED", FailureClass::Permanent);
    }

    #[test]
    fn a_host_that_moved_is_not_tried_again_but_taken_back() {
        let mut moved = untouched();
        let id = PackageId { name: "jq".to_owned(), arch: "amd64".to_owned() };
        moved.unplanned = vec![Drift { id, before: None, after: None }];
        assert_eq!(find(Manager::Apt, "E: Could not get lock /x", &[], &moved).1, FailureClass::Permanent);
        assert_eq!(find(Manager::Apt, "", &[], &moved).0.code, "HALF_STATE");
    }
}
