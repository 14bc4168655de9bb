//! Causes on the host and in the plan that stop a call before it changes anything.

use super::super::FailureKind as Kind;
use super::super::cause::{Action as Do, Cause, Family as Of, Leaves as Left, Responsible as Who, cause};

/// There is no room left for it.
pub(in crate::failure) const DISK_FULL: Cause = cause("disk_full", Kind::Disk, 10, "There is no room left for it.")
    .of(Who::Host, Do::FreeSpace, "Make room on the file system named, then make the same call again.")
    .leaving(Left::Unknown)
    .with(&[
        (Of::Any, "df -h"),
        (Of::Apt, "apt-get clean"),
        (Of::Dnf, "dnf clean packages"),
        (Of::Zypper, "zypper clean"),
        (Of::Apt, "dpkg --configure -a"),
    ]);

/// The file system cannot be written to.
pub(in crate::failure) const READ_ONLY_FILESYSTEM: Cause =
    cause("read_only_filesystem", Kind::Host, 11, "The file system cannot be written to.")
        .of(
            Who::Host,
            Do::Inspect,
            "Find out why it is read-only: by design, or after a disk error. Do not retry before.",
        )
        .leaving(Left::Unknown)
        .with(&[(Of::Any, "findmnt -t ext4,xfs,btrfs"), (Of::Any, "dmesg --level=err")]);

/// The disk reported an error.
pub(in crate::failure) const IO_ERROR: Cause = cause("io_error", Kind::Host, 11, "The disk reported an error.")
    .of(Who::Host, Do::Inspect, "Take the host out of the campaign and check its disk.")
    .leaving(Left::Unknown)
    .with(&[(Of::Any, "dmesg --level=err")]);

/// There is not enough memory.
pub(in crate::failure) const OUT_OF_MEMORY: Cause =
    cause("out_of_memory", Kind::Host, 12, "There is not enough memory.")
        .of(Who::Host, Do::Inspect, "Free memory or add swap, then make the same call again.")
        .leaving(Left::Unknown)
        .with(&[(Of::Any, "free -m")]);

/// The package manager's database cannot be read.
pub(in crate::failure) const PACKAGE_DATABASE_BROKEN: Cause =
    cause("package_database_broken", Kind::Host, 14, "The package manager's database cannot be read.")
        .of(Who::Host, Do::Inspect, "Put the database back from its backup, or rebuild it; nothing else helps.")
        .leaving(Left::Unknown)
        .with(&[
            (Of::Apt, "ls -l /var/lib/dpkg/status /var/lib/dpkg/status-old /var/backups/dpkg.status.0"),
            (Of::Dnf, "rpm --rebuilddb"),
            (Of::Zypper, "rpm --rebuilddb"),
        ]);

/// It was called without the rights that it needs.
pub(in crate::failure) const NOT_ROOT: Cause =
    cause("not_root", Kind::Privilege, 20, "It was called without the rights that it needs.").of(
        Who::Agent,
        Do::Correct,
        "Call it as root.",
    );

/// Another package manager is at work.
pub(in crate::failure) const LOCKED: Cause = cause("locked", Kind::Locked, 21, "Another package manager is at work.")
    .of(Who::Host, Do::Wait, "Wait for the other process to end; never delete the lock file.")
    .transient()
    .with(&[
        (Of::Any, "ps -o pid,etime,args -p {pid}"),
        (Of::Apt, "apt-get -o DPkg::Lock::Timeout=600 ..."),
        (Of::Zypper, "ZYPP_LOCK_TIMEOUT=600 zypper ..."),
    ]);

/// A hold or a lock forbids to change the package.
pub(in crate::failure) const HELD: Cause =
    cause("held", Kind::Held, 30, "A hold or a lock forbids to change the package.")
        .of(Who::Policy, Do::Decide, "Ask whoever holds it; then release the hold, or leave the package out.")
        .with(&[
            (Of::Apt, "apt-mark showhold"),
            (Of::Apt, "apt-get --allow-change-held-packages ..."),
            (Of::Dnf, "dnf versionlock list"),
            (Of::Zypper, "zypper locks"),
        ]);

/// An exclude filter hides the package.
pub(in crate::failure) const EXCLUDED: Cause =
    cause("excluded", Kind::Held, 30, "An exclude filter hides the package.")
        .of(Who::Policy, Do::Decide, "Take the package out of excludepkgs, or leave it out of the plan.")
        .with(&[(Of::Dnf, "dnf --disableexcludes=all ..."), (Of::Dnf, "dnf versionlock list")]);

/// It would downgrade packages, and was not allowed to.
pub(in crate::failure) const DOWNGRADE_REFUSED: Cause =
    cause("downgrade_refused", Kind::Held, 30, "It would downgrade packages, and was not allowed to.")
        .of(Who::Policy, Do::Decide, "Allow it where this is a rollback; else the plan is wrong.")
        .with(&[(Of::Apt, "apt-get --allow-downgrades ..."), (Of::Zypper, "zypper install --oldpackage ...")]);

/// It would remove packages, and was not allowed to.
pub(in crate::failure) const REMOVAL_REFUSED: Cause =
    cause("removal_refused", Kind::Held, 30, "It would remove packages, and was not allowed to.")
        .of(Who::Policy, Do::Decide, "Look at what it would remove; change the plan rather than allow it.")
        .with(&[(Of::Apt, "apt-get -s ..."), (Of::Dnf, "dnf --assumeno ...")]);

/// It would remove packages without which the system does not work.
pub(in crate::failure) const ESSENTIAL_REMOVAL_REFUSED: Cause = cause(
    "essential_removal_refused",
    Kind::Held,
    29,
    "It would remove packages without which the system does not work.",
)
.of(Who::Policy, Do::Decide, "Never allow it: change the plan.")
.with(&[(Of::Apt, "apt-get -s ...")]);

/// The update comes from another vendor, and was not allowed to.
pub(in crate::failure) const VENDOR_CHANGE_REFUSED: Cause =
    cause("vendor_change_refused", Kind::Held, 31, "The update comes from another vendor, and was not allowed to.")
        .of(Who::Policy, Do::Decide, "Allow the change of vendor, or leave the package where it is.")
        .with(&[(Of::Zypper, "zypper --allow-vendor-change ...")]);

/// A newer version is installed already.
pub(in crate::failure) const NEWER_INSTALLED: Cause =
    cause("newer_installed", Kind::Held, 32, "A newer version is installed already.").of(
        Who::Policy,
        Do::None,
        "Nothing is missing; take the package out of the plan, or ask for a downgrade.",
    );

/// What was asked for is installed already.
pub(in crate::failure) const ALREADY_INSTALLED: Cause =
    cause("already_installed", Kind::Held, 33, "What was asked for is installed already.").of(
        Who::Policy,
        Do::None,
        "Nothing is missing; take the package out of the plan.",
    );

/// The package is not installed, so it cannot be updated.
pub(in crate::failure) const NOT_INSTALLED: Cause =
    cause("not_installed", Kind::Gone, 31, "The package is not installed, so it cannot be updated.").of(
        Who::Policy,
        Do::Correct,
        "Take the package out of the plan of this host.",
    );

/// No archive offers the package.
pub(in crate::failure) const PACKAGE_NOT_FOUND: Cause =
    cause("package_not_found", Kind::Gone, 34, "No archive offers the package.")
        .of(
            Who::Policy,
            Do::Refresh,
            "Refresh the indexes; then check the name, and whether the right archives are enabled.",
        )
        .with(&[
            (Of::Apt, "apt-get update"),
            (Of::Apt, "apt-cache policy {package}"),
            (Of::Dnf, "dnf --refresh repoquery {name}"),
            (Of::Zypper, "zypper refresh"),
            (Of::Zypper, "zypper search -s {name}"),
        ]);

/// No archive offers this version any more.
pub(in crate::failure) const VERSION_NOT_FOUND: Cause =
    cause("version_not_found", Kind::Gone, 33, "No archive offers this version any more.")
        .of(Who::Policy, Do::Refresh, "Refresh the indexes; then plan the version that is on offer now.")
        .with(&[
            (Of::Apt, "apt-get update"),
            (Of::Apt, "apt-cache policy {package}"),
            (Of::Dnf, "dnf --refresh --showduplicates list {name}"),
            (Of::Zypper, "zypper search -s {name}"),
        ]);

/// The component store of Windows is damaged.
pub(in crate::failure) const COMPONENT_STORE_CORRUPT: Cause =
    cause("component_store_corrupt", Kind::Host, 14, "The component store of Windows is damaged.")
        .of(Who::Host, Do::Repair, "Repair the component store, then make the same call again.")
        .leaving(Left::Unknown)
        .with(&[(Of::Windows, "DISM /Online /Cleanup-Image /RestoreHealth"), (Of::Windows, "sfc /scannow")]);

/// The update is not for this host.
pub(in crate::failure) const NOT_APPLICABLE: Cause =
    cause("not_applicable", Kind::Gone, 34, "The update is not for this host.").of(
        Who::Policy,
        Do::Correct,
        "Take the update out of the plan of this host; a newer one may have replaced it.",
    );
