//! Causes that stop a call halfway, and those that no rule explains.

use super::super::FailureKind as Kind;
use super::super::cause::{Action as Do, Cause, Family as Of, Leaves as Left, Responsible as Who, cause};

/// It was ended from outside before it was done.
pub(in crate::failure) const INTERRUPTED: Cause =
    cause("interrupted", Kind::Host, 13, "It was ended from outside before it was done.")
        .of(Who::Host, Do::Repair, "Finish what was left halfway, then make the same call again.")
        .leaving(Left::Unknown)
        .transient()
        .with(&[(Of::Apt, "dpkg --configure -a"), (Of::Dnf, "dnf history info last"), (Of::Zypper, "zypper verify")]);

/// It waited for another package manager and did not come to an end.
pub(in crate::failure) const LOCK_WAITED: Cause =
    cause("lock_waited", Kind::Locked, 95, "It waited for another package manager and did not come to an end.")
        .of(Who::Host, Do::Wait, "Wait for the other process to end, then make the same call again.")
        .transient()
        .with(&[(Of::Any, "ps -o pid,etime,args -p {pid}")]);

/// A former run of dpkg was stopped halfway.
pub(in crate::failure) const DPKG_INTERRUPTED: Cause =
    cause("dpkg_interrupted", Kind::HalfState, 22, "A former run of dpkg was stopped halfway.")
        .of(Who::Host, Do::Repair, "Finish the former run, then make the same call again.")
        .leaving(Left::HalfDone)
        .with(&[(Of::Apt, "dpkg --configure -a"), (Of::Apt, "apt-get -f install")]);

/// Packages are installed by half.
pub(in crate::failure) const HALF_CONFIGURED: Cause =
    cause("half_configured", Kind::HalfState, 23, "Packages are installed by half.")
        .of(Who::Host, Do::Repair, "Finish them; where that fails, roll the host back.")
        .leaving(Left::HalfDone)
        .with(&[(Of::Apt, "dpkg --configure -a"), (Of::Apt, "apt-get -f install"), (Of::Apt, "dpkg --audit")]);

/// A changed configuration file needs a decision, and nobody was there to decide.
pub(in crate::failure) const CONFFILE_PROMPT_EOF: Cause = cause(
    "conffile_prompt_eof",
    Kind::Conffile,
    60,
    "A changed configuration file needs a decision, and nobody was there to decide.",
)
.of(Who::Package, Do::Decide, "Decide which file stays, and finish with that.")
.leaving(Left::HalfDone)
.with(&[(Of::Apt, "dpkg --force-confdef --force-confold --configure {package}")]);

/// The script that runs before the installation failed.
pub(in crate::failure) const PREINST_FAILED: Cause =
    cause("preinst_failed", Kind::Scriptlet, 61, "The script that runs before the installation failed.")
        .of(
            Who::Package,
            Do::RollBack,
            "The old version is still there. Read what the script said; one more try, then leave the package out.",
        )
        .leaving(Left::Others)
        .with(&[(Of::Apt, "dpkg --audit"), (Of::Dnf, "dnf history info last"), (Of::Zypper, "zypper verify")]);

/// The script that runs after the installation failed.
pub(in crate::failure) const POSTINST_FAILED: Cause =
    cause("postinst_failed", Kind::Scriptlet, 61, "The script that runs after the installation failed.")
        .of(
            Who::Package,
            Do::RollBack,
            "Read what the script said; one more try, then roll the package back and hold the version.",
        )
        .leaving(Left::HalfDone)
        .with(&[
            (Of::Apt, "dpkg --configure {package}"),
            (Of::Dnf, "rpm -q --scripts {name}"),
            (Of::Dnf, "dnf downgrade {name}"),
            (Of::Zypper, "rpm -q --scripts {name}"),
            (Of::Zypper, "zypper install --oldpackage {name}"),
        ]);

/// The script that runs before the removal failed.
pub(in crate::failure) const PRERM_FAILED: Cause =
    cause("prerm_failed", Kind::Scriptlet, 61, "The script that runs before the removal failed.")
        .of(Who::Package, Do::RollBack, "The old version is still there, perhaps in part. Read what the script said.")
        .leaving(Left::HalfDone)
        .with(&[
            (Of::Apt, "dpkg --audit"),
            (Of::Apt, "apt-get -f install"),
            (Of::Dnf, "rpm -q {name}"),
            (Of::Zypper, "rpm -q {name}"),
        ]);

/// The script that runs after the removal failed.
pub(in crate::failure) const POSTRM_FAILED: Cause =
    cause("postrm_failed", Kind::Scriptlet, 61, "The script that runs after the removal failed.")
        .of(Who::Package, Do::RollBack, "Read what the script said; finish the removal by hand.")
        .leaving(Left::HalfDone)
        .with(&[
            (Of::Apt, "dpkg --audit"),
            (Of::Apt, "apt-get -f install"),
            (Of::Dnf, "rpm -q {name}"),
            (Of::Zypper, "rpm -q {name}"),
        ]);

/// A script of a package failed.
pub(in crate::failure) const SCRIPT_FAILED: Cause =
    cause("script_failed", Kind::Scriptlet, 62, "A script of a package failed.")
        .of(
            Who::Package,
            Do::RollBack,
            "Read what the script said; one more try, then roll the package back and hold the version.",
        )
        .leaving(Left::Unknown)
        .with(&[(Of::Apt, "dpkg --configure -a"), (Of::Dnf, "dnf history info last"), (Of::Zypper, "zypper verify")]);

/// A hook that the host runs around the package manager failed.
pub(in crate::failure) const HOOK_FAILED: Cause =
    cause("hook_failed", Kind::Scriptlet, 64, "A hook that the host runs around the package manager failed.")
        .of(Who::Host, Do::Correct, "Mend or remove the hook; the packages themselves may be well.")
        .leaving(Left::Unknown);

/// Two packages have the same file.
pub(in crate::failure) const FILE_CONFLICT: Cause =
    cause("file_conflict", Kind::Deps, 70, "Two packages have the same file.")
        .of(Who::Package, Do::Decide, "Remove or replace one of them; do not overwrite without knowing why.")
        .leaving(Left::Others)
        .with(&[(Of::Apt, "dpkg -S {file}"), (Of::Dnf, "rpm -qf {file}"), (Of::Zypper, "rpm -qf {file}")]);

/// The packages do not fit together.
pub(in crate::failure) const UNMET_DEPENDENCIES: Cause =
    cause("unmet_dependencies", Kind::Deps, 71, "The packages do not fit together.")
        .of(Who::Policy, Do::Decide, "Plan again with what the solver says; an archive may be missing or half in sync.")
        .with(&[
            (Of::Apt, "apt-get -s install {package}"),
            (Of::Dnf, "dnf --best --assumeno upgrade"),
            (Of::Zypper, "zypper --non-interactive --dry-run update"),
        ]);

/// The packages on the host did not fit together before this.
pub(in crate::failure) const BROKEN_DEPENDENCIES_BEFORE: Cause =
    cause("broken_dependencies_before", Kind::Deps, 69, "The packages on the host did not fit together before this.")
        .of(Who::Host, Do::Repair, "Mend the host first.")
        .leaving(Left::HalfDone)
        .with(&[(Of::Apt, "apt-get -f install"), (Of::Dnf, "dnf check"), (Of::Zypper, "zypper verify")]);

/// It left out packages that do not fit, and calls that a success.
pub(in crate::failure) const SKIPPED_BROKEN: Cause =
    cause("skipped_broken", Kind::Deps, 72, "It left out packages that do not fit, and calls that a success.")
        .of(
            Who::Policy,
            Do::Decide,
            "Nothing was done for the packages left out: plan again with what the solver says.",
        )
        .leaving(Left::Unknown)
        .with(&[(Of::Dnf, "dnf --best --assumeno upgrade")]);

/// The package is for another kind of machine.
pub(in crate::failure) const WRONG_ARCHITECTURE: Cause =
    cause("wrong_architecture", Kind::Deps, 73, "The package is for another kind of machine.")
        .of(Who::Policy, Do::Correct, "Take the package out of the plan of this host.")
        .leaving(Left::Others);

/// Other packages need what was to be removed.
pub(in crate::failure) const REMOVAL_DEPENDENTS: Cause =
    cause("removal_dependents", Kind::Deps, 74, "Other packages need what was to be removed.")
        .of(Who::Policy, Do::Decide, "Look at what needs it; change the plan.")
        .with(&[(Of::Dnf, "rpm -q --whatrequires {name}"), (Of::Zypper, "rpm -q --whatrequires {name}")]);

/// The files of a package could not be put in place.
pub(in crate::failure) const UNPACK_FAILED: Cause =
    cause("unpack_failed", Kind::HalfState, 75, "The files of a package could not be put in place.")
        .of(
            Who::Host,
            Do::Repair,
            "Look at the place named: another kind of file, an immutable flag, a full or read-only file system.",
        )
        .leaving(Left::HalfDone)
        .with(&[(Of::Apt, "dpkg --configure -a"), (Of::Dnf, "dnf check"), (Of::Zypper, "zypper verify")]);

/// It would remove packages, and was told not to go on.
pub(in crate::failure) const WOULD_REMOVE_PACKAGES: Cause =
    cause("would_remove_packages", Kind::Declined, 92, "It would remove packages, and was told not to go on.").of(
        Who::Policy,
        Do::Decide,
        "Look at what it would remove; change the plan, or agree.",
    );

/// A question was answered with no; nothing was done.
pub(in crate::failure) const ABORTED_BY_USER: Cause =
    cause("aborted_by_user", Kind::Declined, 93, "A question was answered with no; nothing was done.").of(
        Who::Policy,
        Do::None,
        "With --assumeno this is a dry run that went well. Else answer with -y.",
    );

/// A licence has to be agreed to first.
pub(in crate::failure) const LICENCE_DECLINED: Cause =
    cause("licence_declined", Kind::Declined, 78, "A licence has to be agreed to first.")
        .of(Who::Policy, Do::Decide, "Read the licence, then agree to it.")
        .with(&[(Of::Zypper, "zypper --auto-agree-with-licenses ...")]);

/// A package failed, and the text does not say why.
pub(in crate::failure) const PACKAGE_FAILED: Cause =
    cause("package_failed", Kind::HalfState, 90, "A package failed, and the text does not say why.")
        .of(Who::Package, Do::Repair, "Finish it; where that fails, roll the host back.")
        .leaving(Left::HalfDone)
        .with(&[(Of::Apt, "dpkg --configure -a"), (Of::Dnf, "dnf check"), (Of::Zypper, "zypper verify")]);

/// The transaction failed, and the text does not say why.
pub(in crate::failure) const TRANSACTION_FAILED: Cause =
    cause("transaction_failed", Kind::HalfState, 91, "The transaction failed, and the text does not say why.")
        .of(Who::Host, Do::Inspect, "Compare the packages before and after, then repair or roll back.")
        .leaving(Left::Unknown)
        .with(&[(Of::Dnf, "dnf history info last"), (Of::Dnf, "dnf check"), (Of::Zypper, "zypper verify")]);

/// The package manager updated itself and has to be called again.
pub(in crate::failure) const RESTART_MANAGER: Cause =
    cause("restart_manager", Kind::Reboot, 85, "The package manager updated itself and has to be called again.")
        .of(Who::Agent, Do::Retry, "Make the same call again: more is to come.")
        .leaving(Left::Installed)
        .transient();

/// It is done, and takes effect after a reboot.
pub(in crate::failure) const REBOOT_REQUIRED: Cause =
    cause("reboot_required", Kind::Reboot, 86, "It is done, and takes effect after a reboot.")
        .of(Who::Host, Do::Restart, "Reboot in the window, then check the boot id.")
        .leaving(Left::Installed);

/// Some of the updates failed.
pub(in crate::failure) const UPDATE_FAILED: Cause =
    cause("update_failed", Kind::Unverified, 88, "Some of the updates failed.")
        .of(Who::Host, Do::Inspect, "Ask which ones, then install those alone.")
        .leaving(Left::Unknown);

/// The text is not in English, and its words are not guessed at.
pub(in crate::failure) const LOCALISED_OUTPUT: Cause =
    cause("localised_output", Kind::Unknown, 5, "The text is not in English, and its words are not guessed at.")
        .of(Who::Agent, Do::Correct, "Make the call again with LC_ALL=C.")
        .leaving(Left::Unknown);

/// It failed in words that are not known.
pub(in crate::failure) const UNKNOWN: Cause =
    cause("unknown", Kind::Unknown, 99, "It failed in words that are not known.")
        .of(Who::Host, Do::Inspect, "Read the line; then compare the packages before and after.")
        .leaving(Left::Unknown);
