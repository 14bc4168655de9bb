//! Why a package manager failed, out of its words and of what it left behind. Never out of its exit code.

use patchloom_core::FailureClass;
use patchloom_domain::{Cause, Verdict};

/// A text that gives a cause away.
struct Sign {
    code: &'static str,
    class: FailureClass,
    texts: &'static [&'static str],
}

use FailureClass::{Permanent, Transient};

/// In order of weight: a full disk makes scripts fail and downloads break, so it is looked for first.
const SIGNS: [Sign; 8] = [
    Sign {
        code: "DISK",
        class: Permanent,
        texts: &["No space left on device", "enough free space", "Disk quota exceeded", "write error: No space"],
    },
    Sign {
        code: "LOCKED",
        class: Transient,
        texts: &[
            "Could not get lock",
            "Unable to acquire the dpkg frontend lock",
            "lock was locked by another process",
            "Unable to lock",
        ],
    },
    Sign { code: "HELD", class: Permanent, texts: &["Held packages were changed"] },
    Sign { code: "CONFFILE", class: Permanent, texts: &["end of file on stdin at conffile prompt"] },
    Sign {
        code: "SCRIPTLET",
        class: Permanent,
        texts: &["installation script subprocess", "removal script subprocess", "script subprocess returned error"],
    },
    Sign { code: "GONE", class: Permanent, texts: &["was not found", "Unable to locate package"] },
    Sign {
        code: "FETCH",
        class: Transient,
        texts: &[
            "Failed to fetch",
            "Hash Sum mismatch",
            "Temporary failure resolving",
            "Could not connect",
            "Unable to fetch some archives",
            "Connection timed out",
            "Certificate verification failed",
            "File has unexpected size",
        ],
    },
    Sign {
        code: "DEPS",
        class: Permanent,
        texts: &[
            "unmet dependencies",
            "held broken packages",
            "Unable to correct problems",
            "dependency problems",
            "but it is not going to be installed",
            "need to be removed but remove is disabled",
            "Packages need to be removed",
        ],
    },
];

/// The cause, whether another attempt may help, and the line that gave it away.
pub(super) fn find(said: &str, errors: &[String], verdict: &Verdict) -> (Cause, FailureClass) {
    let text = || errors.iter().map(String::as_str).chain(said.lines());
    for sign in &SIGNS {
        if let Some(line) = text().find(|line| sign.texts.iter().any(|part| line.contains(part))) {
            // After something moved, the same call is not the same call any more: first the way back.
            let class = if verdict.is_untouched() { sign.class } else { Permanent };
            return (Cause { code: sign.code.to_owned(), message: line.trim().to_owned() }, class);
        }
    }
    if !verdict.is_untouched() || !verdict.audit.is_empty() {
        return (Cause { code: "HALF_STATE".to_owned(), message: verdict.summary() }, Permanent);
    }
    let last = text().map(str::trim).rfind(|line| line.starts_with("E:"));
    let message = last.map_or_else(|| verdict.summary(), str::to_owned);
    (Cause { code: "UNVERIFIED".to_owned(), message }, Permanent)
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
        let (cause, found) = find(said, &[], &untouched());
        assert_eq!((cause.code.as_str(), found), (code, class), "{cause}");
    }

    #[test]
    fn the_words_of_apt_name_the_cause() {
        check("E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 1 (perl)", "LOCKED", Transient);
        check("E: You don't have enough free space in /var/cache/apt/archives/.", "DISK", Permanent);
        check("E: Version '9.9' for 'p' was not found", "GONE", Permanent);
        check("E: Held packages were changed and -y was used without --allow-change-held-packages.", "HELD", Permanent);
        check("end of file on stdin at conffile prompt", "CONFFILE", Permanent);
        check(
            "installed p package post-installation script subprocess returned error exit status 7",
            "SCRIPTLET",
            Permanent,
        );
        check("E: Failed to fetch http://x  Hash Sum mismatch", "FETCH", Transient);
        check("E: Unable to correct problems, you have held broken packages.", "DEPS", Permanent);
        check("E: something new", "UNVERIFIED", Permanent);
        check("", "UNVERIFIED", Permanent);
    }

    #[test]
    fn a_full_disk_outweighs_the_script_that_it_broke() {
        check("post-installation script subprocess returned error\nwrite: No space left on device", "DISK", Permanent);
    }

    #[test]
    fn a_host_that_moved_is_not_tried_again_but_taken_back() {
        let mut moved = untouched();
        let id = PackageId { name: "jq".to_owned(), arch: "amd64".to_owned() };
        moved.unplanned = vec![Drift { id, before: None, after: None }];
        assert_eq!(find("E: Failed to fetch x", &[], &moved).1, Permanent);
        assert_eq!(find("", &[], &moved).0.code, "HALF_STATE");
    }
}
