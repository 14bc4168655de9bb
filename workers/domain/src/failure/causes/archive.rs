//! Causes in archives, on the way to them and in the setup of the package manager.

use super::super::FailureKind as Kind;
use super::super::cause::{Action as Do, Cause, Family as Of, Leaves as Left, Responsible as Who, cause};

/// The archive is not signed.
pub(in crate::failure) const REPO_UNSIGNED: Cause =
    cause("repo_unsigned", Kind::Untrusted, 40, "The archive is not signed.").of(
        Who::Relay,
        Do::Decide,
        "Check that the mirror carries the signature; never switch the check off for a campaign.",
    );

/// The archive is signed with a key that the host does not have.
pub(in crate::failure) const REPO_KEY_MISSING: Cause =
    cause("repo_key_missing", Kind::Untrusted, 40, "The archive is signed with a key that the host does not have.")
        .of(Who::Policy, Do::Decide, "Put the key of the archive on the host, after checking whose it is.")
        .with(&[
            (Of::Apt, "ls /etc/apt/keyrings /usr/share/keyrings /etc/apt/trusted.gpg.d"),
            (Of::Dnf, "rpm -q gpg-pubkey"),
            (Of::Zypper, "zypper --gpg-auto-import-keys refresh"),
        ]);

/// A signature does not fit what it signs.
pub(in crate::failure) const SIGNATURE_INVALID: Cause =
    cause("signature_invalid", Kind::Untrusted, 39, "A signature does not fit what it signs.").of(
        Who::Relay,
        Do::Inspect,
        "Treat it as tampering until the mirror is proved sound; compare with another mirror.",
    );

/// The key of the archive has expired or was revoked.
pub(in crate::failure) const KEY_EXPIRED: Cause =
    cause("key_expired", Kind::Untrusted, 41, "The key of the archive has expired or was revoked.").of(
        Who::Policy,
        Do::Decide,
        "Put the new key of the archive on the host.",
    );

/// A package is not signed, or with a key that is not trusted.
pub(in crate::failure) const PACKAGE_UNSIGNED: Cause =
    cause("package_unsigned", Kind::Untrusted, 40, "A package is not signed, or with a key that is not trusted.")
        .of(
            Who::Policy,
            Do::Decide,
            "Check where the package comes from; put the key on the host, or leave the package out.",
        )
        .with(&[(Of::Dnf, "rpm --checksig {package}")]);

/// Packages come from an archive that is not proved to be the right one.
pub(in crate::failure) const UNAUTHENTICATED_REFUSED: Cause = cause(
    "unauthenticated_refused",
    Kind::Untrusted,
    41,
    "Packages come from an archive that is not proved to be the right one.",
)
.of(
    Who::Policy,
    Do::Refresh,
    "Refresh the indexes and see why the archive is not trusted; do not allow unauthenticated packages.",
)
.with(&[(Of::Apt, "apt-get update")]);

/// The archive changed its name or its suite.
pub(in crate::failure) const RELEASE_INFO_CHANGED: Cause =
    cause("release_info_changed", Kind::Untrusted, 42, "The archive changed its name or its suite.")
        .of(Who::Policy, Do::Decide, "Check that a new release of the distribution explains it, then accept it.")
        .with(&[(Of::Apt, "apt-get update --allow-releaseinfo-change")]);

/// The list of archives is wrong.
pub(in crate::failure) const SOURCES_INVALID: Cause =
    cause("sources_invalid", Kind::Setup, 44, "The list of archives is wrong.")
        .of(Who::Host, Do::Correct, "Mend the line named.")
        .with(&[
            (Of::Apt, "ls -l /etc/apt/sources.list /etc/apt/sources.list.d"),
            (Of::Dnf, "dnf repolist --all"),
            (Of::Zypper, "zypper lr -u"),
        ]);

/// No archive is enabled.
pub(in crate::failure) const NO_REPOSITORIES: Cause =
    cause("no_repositories", Kind::Setup, 45, "No archive is enabled.")
        .of(Who::Host, Do::Correct, "Enable the archives of the distribution; check the subscription.")
        .with(&[(Of::Dnf, "dnf repolist --all"), (Of::Zypper, "zypper lr -u")]);

/// A program that it needs is not there.
pub(in crate::failure) const TOOL_MISSING: Cause =
    cause("tool_missing", Kind::Setup, 46, "A program that it needs is not there.").of(
        Who::Host,
        Do::Correct,
        "Install what is missing.",
    );

/// The command belongs to a plugin that is not installed.
pub(in crate::failure) const PLUGIN_MISSING: Cause =
    cause("plugin_missing", Kind::Setup, 46, "The command belongs to a plugin that is not installed.")
        .of(Who::Host, Do::Correct, "Install the plugin, or do without the command.")
        .with(&[(Of::Dnf, "dnf install 'dnf-command({command})'")]);

/// The call is wrong.
pub(in crate::failure) const USAGE: Cause = cause("usage", Kind::Setup, 47, "The call is wrong.").of(
    Who::Agent,
    Do::Correct,
    "Mend the options: the same call fails on every host.",
);

/// The configuration of the package manager is wrong.
pub(in crate::failure) const CONFIG_INVALID: Cause =
    cause("config_invalid", Kind::Setup, 44, "The configuration of the package manager is wrong.")
        .of(Who::Host, Do::Correct, "Mend the file named.")
        .with(&[(Of::Apt, "apt-config dump"), (Of::Dnf, "dnf config-manager --dump")]);

/// The clock of the host and the archive do not agree.
pub(in crate::failure) const CLOCK_WRONG: Cause =
    cause("clock_wrong", Kind::Host, 48, "The clock of the host and the archive do not agree.")
        .of(Who::Host, Do::Correct, "Set the clock, then make the same call again.")
        .with(&[(Of::Any, "timedatectl")]);

/// The index of the archive is out of date.
pub(in crate::failure) const RELEASE_EXPIRED: Cause =
    cause("release_expired", Kind::Fetch, 49, "The index of the archive is out of date.")
        .of(Who::Relay, Do::Retry, "The mirror has stopped updating: use another one.")
        .transient();

/// The archive no longer has what its index names.
pub(in crate::failure) const DOWNLOAD_404: Cause =
    cause("download_404", Kind::Fetch, 50, "The archive no longer has what its index names.")
        .of(
            Who::Relay,
            Do::Refresh,
            "Refresh the indexes once, then make the same call again; where it stays, the mirror is broken.",
        )
        .transient()
        .with(&[(Of::Apt, "apt-get update"), (Of::Dnf, "dnf clean expire-cache"), (Of::Zypper, "zypper refresh")]);

/// What came is not what the index promises.
pub(in crate::failure) const DOWNLOAD_HASH_MISMATCH: Cause = cause("download_hash_mismatch", Kind::Fetch, 50, "What came is not what the index promises.")
    .of(Who::Relay, Do::Refresh, "Refresh the indexes once, then make the same call again; where it stays, use another mirror and find out who changes the files on the way.")
    .transient()
    .with(&[(Of::Apt, "apt-get clean && apt-get update"), (Of::Dnf, "dnf clean all"), (Of::Zypper, "zypper clean --all && zypper refresh")]);

/// The server or a proxy refuses the download.
pub(in crate::failure) const DOWNLOAD_REFUSED: Cause =
    cause("download_refused", Kind::Fetch, 51, "The server or a proxy refuses the download.").of(
        Who::Relay,
        Do::Correct,
        "Check credentials, subscription and proxy.",
    );

/// The server failed.
pub(in crate::failure) const DOWNLOAD_SERVER_ERROR: Cause =
    cause("download_server_error", Kind::Fetch, 52, "The server failed.")
        .of(Who::Relay, Do::Retry, "Make the same call again later; where it stays, use another mirror.")
        .transient();

/// No trusted connection to the archive could be made.
pub(in crate::failure) const TLS_FAILED: Cause =
    cause("tls_failed", Kind::Fetch, 52, "No trusted connection to the archive could be made.")
        .of(Who::Relay, Do::Correct, "Check certificate, clock and the authorities that the host trusts.")
        .with(&[(Of::Any, "timedatectl")]);

/// The archive cannot be reached.
pub(in crate::failure) const REPO_UNREACHABLE: Cause =
    cause("repo_unreachable", Kind::Fetch, 53, "The archive cannot be reached.")
        .of(Who::Relay, Do::Retry, "Check name, network and proxy from this host; make the same call again later.")
        .transient();

/// There is no archive at that address.
pub(in crate::failure) const REPO_MISSING: Cause =
    cause("repo_missing", Kind::Fetch, 53, "There is no archive at that address.").of(
        Who::Relay,
        Do::Correct,
        "Check the address; the release may have moved to an archive of old releases.",
    );

/// The indexes that were downloaded cannot be read.
pub(in crate::failure) const LISTS_CORRUPT: Cause =
    cause("lists_corrupt", Kind::Fetch, 54, "The indexes that were downloaded cannot be read.")
        .of(Who::Relay, Do::Refresh, "Throw the indexes away and fetch them again.")
        .transient()
        .with(&[
            (Of::Apt, "rm -rf /var/lib/apt/lists/* && apt-get update"),
            (Of::Dnf, "dnf clean all"),
            (Of::Zypper, "zypper clean --all && zypper refresh --force"),
        ]);

/// The package file is damaged.
pub(in crate::failure) const PACKAGE_CORRUPT: Cause =
    cause("package_corrupt", Kind::Fetch, 55, "The package file is damaged.")
        .of(
            Who::Relay,
            Do::Refresh,
            "Throw the file away and fetch it again; where it stays, the package was built broken.",
        )
        .leaving(Left::Others)
        .transient()
        .with(&[(Of::Apt, "apt-get clean"), (Of::Dnf, "dnf clean packages"), (Of::Zypper, "zypper clean")]);

/// A download failed.
pub(in crate::failure) const DOWNLOAD_FAILED: Cause = cause("download_failed", Kind::Fetch, 57, "A download failed.")
    .of(Who::Relay, Do::Refresh, "Refresh the indexes once, then make the same call again.")
    .transient()
    .with(&[(Of::Apt, "apt-get update"), (Of::Dnf, "dnf makecache --refresh"), (Of::Zypper, "zypper refresh")]);

/// It went on without an archive that it could not read.
pub(in crate::failure) const REPOS_SKIPPED: Cause =
    cause("repos_skipped", Kind::Fetch, 56, "It went on without an archive that it could not read.")
        .of(
            Who::Relay,
            Do::Retry,
            "Updates of that archive may be missing: check the archive, then make the same call again.",
        )
        .leaving(Left::Unknown)
        .transient();

/// The update service is not running.
pub(in crate::failure) const SERVICE_DISABLED: Cause =
    cause("service_disabled", Kind::Setup, 46, "The update service is not running.")
        .of(Who::Host, Do::Correct, "Start the service.")
        .with(&[(Of::Windows, "sc.exe config wuauserv start= demand"), (Of::Windows, "net start wuauserv")]);
