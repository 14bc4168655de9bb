//! Why an install is not what was planned: the package manager's words, weighed by what it left behind.

use patchloom_core::FailureClass;
use patchloom_domain::{
    Adjustment, Cause, FailureKind, Manager, Observed, PackageOutcome, States, Verdict, diagnose, windows,
};

/// Why a call failed.
pub(super) struct Found {
    pub(super) cause: Cause,
    /// Whether the same call may succeed later.
    pub(super) class: FailureClass,
    /// What may be changed before it is made again, and the name of the cause that it is for.
    pub(super) adjustment: Option<(Adjustment, &'static str)>,
}

/// The cause, and whether another attempt may help. Takes no exit code: it says nothing.
pub(super) fn find(manager: Manager, said: &str, errors: &[String], verdict: &Verdict) -> Found {
    let text = format!("{}\n{said}", errors.join("\n"));
    let broken = verdict.packages.iter().filter(|package| package.outcome == PackageOutcome::Broken);
    let broken: Vec<_> = broken.map(|package| package.id.name.clone()).collect();
    let states = States { changed: &[], broken: &broken };
    // Windows tells its reasons in codes alone, and in its answer, not in how the script ended.
    let code = (manager == Manager::WindowsUpdate).then(|| windows::code_of(&text)).flatten();
    let found = diagnose(&Observed { manager, code, text: text.as_bytes(), states: Some(states) });
    let known = found.primary.filter(|failure| failure.cause.kind != FailureKind::Unknown);
    if let Some(found) = failed_script(manager, &text).or(known) {
        // After something moved, the same call is not the same call any more: first the way back.
        let again = found.cause.transient && verdict.is_untouched();
        let class = if again { FailureClass::Transient } else { FailureClass::Permanent };
        let adjustment = Adjustment::of(found.cause).filter(|_| verdict.is_untouched());
        return Found {
            cause: Cause { code: found.cause.kind.code().to_owned(), message: found.evidence.text },
            class,
            adjustment: adjustment.map(|what| (what, found.cause.name)),
        };
    }
    let permanent = |code: &str, message| Found {
        cause: Cause { code: code.to_owned(), message },
        class: FailureClass::Permanent,
        adjustment: None,
    };
    if !verdict.is_untouched() || !verdict.audit.is_empty() {
        return permanent("HALF_STATE", verdict.summary());
    }
    let last = said.lines().map(str::trim).rfind(|line| ["E:", "Error:"].iter().any(|word| line.starts_with(word)));
    permanent("UNVERIFIED", last.map_or_else(|| verdict.summary(), str::to_owned))
}

/// The script of a package that failed over rpm, which calls the package installed: the state that it gets for that is our
/// own and explains nothing, and neither does anything else that was said beside it.
fn failed_script(manager: Manager, text: &str) -> Option<patchloom_domain::Failure> {
    let over_rpm = matches!(manager, Manager::Dnf | Manager::Zypper);
    // As if it had ended well: only what is always a failure counts.
    let quiet = Observed { manager, code: Some(0), text: text.as_bytes(), states: None };
    let found = over_rpm.then(|| diagnose(&quiet)).and_then(|found| found.primary);
    found.filter(|failure| failure.cause.kind == FailureKind::Scriptlet)
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
        let found = find(Manager::Apt, said, &[], &untouched());
        assert_eq!((found.cause.code.as_str(), found.class), (code, class), "{}", found.cause);
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
    fn a_script_that_failed_over_rpm_explains_the_rest() {
        let mut moved = untouched();
        let id = PackageId { name: "loom-epoch".to_owned(), arch: "noarch".to_owned() };
        moved.unplanned = vec![Drift { id, before: None, after: None }];
        let said = "Unable to detect release version (use '--releasever' to specify release version)\n\
                    error: %prein(loom-epoch-1:3-1.noarch) scriptlet failed, exit status 1\nError: Transaction failed\n";
        let found = find(Manager::Dnf, said, &[], &moved);
        assert_eq!((found.cause.code.as_str(), found.class), ("SCRIPTLET", FailureClass::Permanent));
        assert!(found.cause.message.contains("loom-epoch"), "{}", found.cause);
    }

    #[test]
    fn a_host_that_moved_is_not_tried_again_but_taken_back() {
        let mut moved = untouched();
        let id = PackageId { name: "jq".to_owned(), arch: "amd64".to_owned() };
        moved.unplanned = vec![Drift { id, before: None, after: None }];
        assert_eq!(find(Manager::Apt, "E: Could not get lock /x", &[], &moved).class, FailureClass::Permanent);
        assert_eq!(find(Manager::Apt, "", &[], &moved).cause.code, "HALF_STATE");
        let missing = "E: Failed to fetch http://mirror/jq_1.7_amd64.deb  404  Not Found";
        assert_eq!(find(Manager::Apt, missing, &[], &moved).adjustment, None);
        let adjustment = find(Manager::Apt, missing, &[], &untouched()).adjustment;
        assert_eq!(adjustment, Some((Adjustment::RefreshIndexes, "download_404")));
    }
}
