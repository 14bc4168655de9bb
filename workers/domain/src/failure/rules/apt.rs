//! What apt and dpkg print.
//!
//! The words are those of apt's `apt-pkg`, `apt-private` and `methods`, and of dpkg's `src` and `lib`; apt 3 writes
//! `Error:` where apt 2 writes `E:`, which is why few patterns begin with it.

use super::super::cause::Leaves;
use super::super::causes as is;
use super::{Remark, Rule, remark, rule};

const PROCESSING: &str = "dpkg: error processing {_} {package} (-";

pub(super) const DPKG: &[Rule] = &[
    rule("dpkg-frontend-locked", &is::LOCKED, "dpkg frontend lock was locked by another process with pid {pid}"),
    rule("dpkg-status-locked", &is::LOCKED, "dpkg: error: {_} was locked by another process with pid {pid}"),
    rule("dpkg-database-locked", &is::LOCKED, "dpkg status database is locked by another process"),
    rule("dpkg-area-locked", &is::LOCKED, "status database area is locked by another process"),
    rule("dpkg-frontend-busy", &is::LOCKED, "dpkg frontend is locked by another process"),
    rule("dpkg-superuser", &is::NOT_ROOT, "requested operation requires superuser privilege"),
    rule("dpkg-not-root", &is::NOT_ROOT, "dpkg: error: {_}: Permission denied"),
    rule("dpkg-half-audit", &is::HALF_CONFIGURED, "The following packages are only half configured").always(),
    rule("dpkg-half-installed-audit", &is::HALF_CONFIGURED, "The following packages are only half installed").always(),
    rule("dpkg-unpacked-audit", &is::HALF_CONFIGURED, "have been unpacked but not yet configured").always(),
    rule("dpkg-mess-audit", &is::HALF_CONFIGURED, "in a mess due to serious problems").always(),
    rule("dpkg-trigger-audit", &is::HALF_CONFIGURED, "packages are awaiting processing of triggers").always(),
    rule("dpkg-triggers-audit", &is::HALF_CONFIGURED, "packages have been triggered, but the trigger").always(),
    rule("dpkg-control-audit", &is::PACKAGE_DATABASE_BROKEN, "are missing the list control file").always(),
    rule("dpkg-md5sums-audit", &is::PACKAGE_DATABASE_BROKEN, "are missing the md5sums").always(),
    rule("dpkg-status-half", &is::HALF_CONFIGURED, "^Status: {_} half-{state}").above("^Package: {package}").always(),
    rule("dpkg-status-unpacked", &is::HALF_CONFIGURED, "^Status: {_} unpacked$").above("^Package: {package}").always(),
    rule("dpkg-inconsistent", &is::HALF_CONFIGURED, "package is in a very bad inconsistent state").above(PROCESSING),
    rule("dpkg-conffile-eof", &is::CONFFILE_PROMPT_EOF, "end of file on stdin at conffile prompt").above(PROCESSING),
    rule("dpkg-conffile-stdin", &is::CONFFILE_PROMPT_EOF, "read error on stdin at conffile prompt").above(PROCESSING),
    rule("dpkg-preinst-new", &is::PREINST_FAILED, "new {package} package pre-installation script subprocess {how}")
        .unless("dpkg: warning"),
    rule(
        "dpkg-postinst-installed",
        &is::POSTINST_FAILED,
        "installed {package} package post-installation script subprocess {how}",
    )
    .unless("dpkg: warning"),
    rule("dpkg-prerm-installed", &is::PRERM_FAILED, "installed {package} package pre-removal script subprocess {how}")
        .unless("dpkg: warning"),
    rule(
        "dpkg-postrm-installed",
        &is::POSTRM_FAILED,
        "installed {package} package post-removal script subprocess {how}",
    )
    .unless("dpkg: warning"),
    rule("dpkg-preinst", &is::PREINST_FAILED, "{_} {package} package pre-installation script subprocess {how}")
        .unless("dpkg: warning"),
    rule("dpkg-postinst", &is::POSTINST_FAILED, "{_} {package} package post-installation script subprocess {how}")
        .unless("dpkg: warning"),
    rule("dpkg-prerm", &is::PRERM_FAILED, "{_} {package} package pre-removal script subprocess {how}")
        .unless("dpkg: warning"),
    rule("dpkg-postrm", &is::POSTRM_FAILED, "{_} {package} package post-removal script subprocess {how}")
        .unless("dpkg: warning"),
    rule("dpkg-old-preinst", &is::PREINST_FAILED, "subprocess new pre-installation script {how}")
        .above(PROCESSING)
        .unless("warning"),
    rule("dpkg-old-postinst", &is::POSTINST_FAILED, "subprocess installed post-installation script {how}")
        .above(PROCESSING)
        .unless("warning"),
    rule("dpkg-old-prerm", &is::PRERM_FAILED, "subprocess installed pre-removal script {how}")
        .above(PROCESSING)
        .unless("warning"),
    rule("dpkg-old-postrm", &is::POSTRM_FAILED, "subprocess installed post-removal script {how}")
        .above(PROCESSING)
        .unless("warning"),
    rule("dpkg-no-new-script", &is::PRERM_FAILED, "there is no script in the new version of the package - giving up")
        .above(PROCESSING),
    rule("dpkg-config-script", &is::SCRIPT_FAILED, "{package} package configuration script subprocess {how}"),
    rule("dpkg-script-exec", &is::SCRIPT_FAILED, "unable to execute {_} package {script} script ({file}): {how}")
        .above(PROCESSING),
    rule("dpkg-preconfigure", &is::SCRIPT_FAILED, "^{package} failed to preconfigure, with exit status {how}"),
    rule("dpkg-overwrite", &is::FILE_CONFLICT, "trying to overwrite '{file}', which is also in package {other}")
        .above(PROCESSING),
    rule(
        "dpkg-overwrite-directory",
        &is::FILE_CONFLICT,
        "trying to overwrite directory '{file}' in package {other} with nondirectory",
    )
    .above(PROCESSING),
    rule("dpkg-overwrite-diverted", &is::FILE_CONFLICT, "trying to overwrite '{file}', which is the diverted version")
        .above(PROCESSING),
    rule(
        "dpkg-overwrite-shared",
        &is::FILE_CONFLICT,
        "trying to overwrite shared '{file}', which is different from other instances",
    )
    .above(PROCESSING),
    rule("dpkg-architecture", &is::WRONG_ARCHITECTURE, "package architecture ({arch}) does not match system ({_})")
        .above(PROCESSING),
    rule("dpkg-tarfile", &is::PACKAGE_CORRUPT, "corrupted filesystem tarfile").above(PROCESSING),
    rule("dpkg-archive-end", &is::PACKAGE_CORRUPT, "unexpected end of file in ").above(PROCESSING),
    rule(
        "dpkg-copy-end",
        &is::PACKAGE_CORRUPT,
        "cannot copy extracted data for '{file}' to '{_}': unexpected end of file",
    )
    .above(PROCESSING),
    rule("dpkg-lzma", &is::PACKAGE_CORRUPT, "lzma error: {how}"),
    rule("dpkg-decompress", &is::PACKAGE_CORRUPT, "<decompress> subprocess {how}"),
    rule("dpkg-control", &is::PACKAGE_CORRUPT, "dpkg-deb --control subprocess {how}").above(PROCESSING),
    rule("dpkg-not-archive", &is::PACKAGE_CORRUPT, "is not a Debian format archive"),
    rule("dpkg-fsys", &is::PACKAGE_CORRUPT, "dpkg-deb --fsys-tarfile subprocess {how}").above(PROCESSING),
    rule("dpkg-unpack-denied", &is::UNPACK_FAILED, "unable to {_} '{file}'{_}: Operation not permitted")
        .above(PROCESSING),
    rule("dpkg-unpack-directory", &is::UNPACK_FAILED, "unable to {_} '{file}'{_}: Is a directory").above(PROCESSING),
    rule(
        "dpkg-unpack-device",
        &is::UNPACK_FAILED,
        "unable to make backup link of '{file}' before installing new version",
    )
    .above(PROCESSING),
    rule("dpkg-unpack-install", &is::UNPACK_FAILED, "unable to install new version of '{file}'").above(PROCESSING),
    rule("dpkg-predepends", &is::UNMET_DEPENDENCIES, "pre-dependency problem - not installing {package}"),
    rule("dpkg-conflict", &is::UNMET_DEPENDENCIES, "conflicting packages - not installing {package}"),
    rule("dpkg-breaks", &is::UNMET_DEPENDENCIES, "dependency problems prevent configuration of {package}:")
        .leaving(Leaves::HalfDone),
    rule("dpkg-leaving", &is::UNMET_DEPENDENCIES, "dependency problems - leaving unconfigured")
        .leaving(Leaves::HalfDone)
        .above(PROCESSING),
    rule("dpkg-removal", &is::REMOVAL_DEPENDENTS, "dependency problems prevent removal of {package}:"),
    rule("dpkg-status-parse", &is::PACKAGE_DATABASE_BROKEN, "parsing file '/var/lib/dpkg/{file}' near line {line}"),
    rule("dpkg-list-newline", &is::PACKAGE_DATABASE_BROKEN, "files list file for package '{package}' {how}"),
    rule("dpkg-info-file", &is::PACKAGE_DATABASE_BROKEN, "error opening configuration database '{file}'"),
    rule(
        "dpkg-not-found",
        &is::PACKAGE_NOT_FOUND,
        "package '{package}' is not installed and no information is available",
    )
    .always(),
    rule("dpkg-trigger-loop", &is::PACKAGE_FAILED, "triggers looping, abandoned").above(PROCESSING),
    rule("dpkg-path", &is::TOOL_MISSING, "'{command}' not found in PATH or not executable"),
    rule("dpkg-error", &is::PACKAGE_FAILED, PROCESSING),
];

pub(super) const APT: &[Rule] = &[
    rule("apt-lock-held-by", &is::LOCKED, "Could not get lock {file}. It is held by process {pid} ({program})")
        .unless("Waiting for cache lock"),
    rule("apt-lock-pid", &is::LOCKED, "Could not get lock {file}. It is held by process {pid}")
        .unless("Waiting for cache lock"),
    rule("apt-lock", &is::LOCKED, "Could not get lock {file}").unless("Waiting for cache lock"),
    rule("apt-lock-other", &is::LOCKED, "lock ({file}), is another process using it?"),
    rule("apt-lock-administration", &is::LOCKED, "administration directory ({file}), is another process using it?"),
    rule(
        "apt-lock-waited",
        &is::LOCK_WAITED,
        "Waiting for cache lock: Could not get lock {file}. It is held by process {pid} ({program})",
    ),
    rule("apt-lock-waiting", &is::LOCK_WAITED, "Waiting for cache lock: "),
    rule("apt-lock-denied", &is::NOT_ROOT, "Could not open lock file {file} - open (13: Permission denied)"),
    rule("apt-are-you-root", &is::NOT_ROOT, ", are you root?"),
    rule("apt-denied", &is::NOT_ROOT, "(13: Permission denied)"),
    rule("apt-lock-read-only", &is::READ_ONLY_FILESYSTEM, "Could not open lock file {file} - open (30: {_})"),
    rule("apt-dpkg-interrupted", &is::DPKG_INTERRUPTED, "dpkg was interrupted, you must manually run"),
    rule(
        "apt-reinstall",
        &is::HALF_CONFIGURED,
        "The package {package} needs to be reinstalled, but I can't find an archive for it",
    ),
    rule("apt-free-space", &is::DISK_FULL, "You don't have enough free space in {filesystem}"),
    rule("apt-cant-get-space", &is::DISK_FULL, "Couldn't determine free space in {filesystem}"),
    rule("apt-write-28", &is::DISK_FULL, "(28: "),
    rule("apt-mmap", &is::OUT_OF_MEMORY, "Dynamic MMap ran out of room"),
    rule("apt-held-changed", &is::HELD, "Held packages were changed and -y was used"),
    rule("apt-downgraded", &is::DOWNGRADE_REFUSED, "Packages were downgraded and -y was used"),
    rule("apt-essential", &is::ESSENTIAL_REMOVAL_REFUSED, "Essential packages were removed and -y was used"),
    rule(
        "apt-essential-3",
        &is::ESSENTIAL_REMOVAL_REFUSED,
        "Removing essential system-critical packages is not permitted",
    ),
    rule("apt-remove-disabled", &is::REMOVAL_REFUSED, "Packages need to be removed but remove is disabled"),
    rule("apt-old-force", &is::HELD, "There are problems and -y was used without --force-yes"),
    rule("apt-unauthenticated", &is::UNAUTHENTICATED_REFUSED, "There were unauthenticated packages and -y was used"),
    rule("apt-not-authenticated", &is::UNAUTHENTICATED_REFUSED, "Some packages could not be authenticated"),
    rule("apt-trivial", &is::ABORTED_BY_USER, "Trivial Only specified but this is not a trivial operation"),
    rule("apt-abort", &is::ABORTED_BY_USER, "^Abort.$"),
    rule("apt-unknown-package", &is::PACKAGE_NOT_FOUND, "Unable to locate package {package}"),
    rule("apt-unknown-glob", &is::PACKAGE_NOT_FOUND, "Couldn't find any package by glob '{package}'"),
    rule("apt-unknown-regex", &is::PACKAGE_NOT_FOUND, "Couldn't find any package by regex '{package}'"),
    rule("apt-unknown-task", &is::PACKAGE_NOT_FOUND, "Couldn't find task '{package}'"),
    rule("apt-unknown-any", &is::PACKAGE_NOT_FOUND, "Couldn't find package {package}"),
    rule("apt-no-candidate", &is::PACKAGE_NOT_FOUND, "Package '{package}' has no installation candidate"),
    rule("apt-virtual", &is::PACKAGE_NOT_FOUND, "Package {package} is a virtual package with no good providers"),
    rule("apt-no-packages", &is::PACKAGE_NOT_FOUND, "^E: No packages found"),
    rule("apt-unknown-version", &is::VERSION_NOT_FOUND, "Version '{version}' for '{package}' was not found"),
    rule("apt-unknown-release", &is::VERSION_NOT_FOUND, "Release '{version}' for '{package}' was not found"),
    rule("apt-no-source", &is::VERSION_NOT_FOUND, "Can't find a source to download version '{version}' of '{package}'"),
    rule("apt-default-release", &is::CONFIG_INVALID, "The value '{value}' is invalid for APT::Default-Release"),
    rule("apt-unsupported-file", &is::PACKAGE_NOT_FOUND, "Unsupported file {package} given on commandline"),
    rule("apt-depends", &is::UNMET_DEPENDENCIES, "^{package} : {relation}: {requirement} but {why}"),
    rule("apt-depends-installable", &is::UNMET_DEPENDENCIES, "^{package} : Depends: {requirement} but"),
    rule("apt-broken-before", &is::BROKEN_DEPENDENCIES_BEFORE, "Unmet dependencies. Try '{command}'"),
    rule(
        "apt-broken-before-old",
        &is::BROKEN_DEPENDENCIES_BEFORE,
        "You might want to run '{command}' to correct these",
    ),
    rule("apt-unmet", &is::UNMET_DEPENDENCIES, "The following packages have unmet dependencies"),
    rule("apt-held-broken", &is::UNMET_DEPENDENCIES, "you have held broken packages"),
    rule("apt-solver-3", &is::UNMET_DEPENDENCIES, "Unable to satisfy dependencies"),
    rule("apt-solver-conflict", &is::UNMET_DEPENDENCIES, "Reached two conflicting"),
    rule("apt-resolver-breaks", &is::UNMET_DEPENDENCIES, "generated breaks, this may be caused by held packages"),
    rule("apt-broken-packages", &is::UNMET_DEPENDENCIES, "^E: Broken packages"),
    rule("apt-correct-dependencies", &is::UNMET_DEPENDENCIES, "Unable to correct dependencies"),
    rule("apt-configure-loop", &is::UNMET_DEPENDENCIES, "Couldn't configure {package}, probably a dependency cycle"),
    rule("apt-immediate", &is::UNMET_DEPENDENCIES, "Could not perform immediate configuration on '{package}'"),
    rule("apt-hook", &is::HOOK_FAILED, "Problem executing scripts {hook} '{command}'"),
    rule("apt-hook-returned", &is::HOOK_FAILED, "Failure running hook {command}"),
    rule("apt-hook-script", &is::HOOK_FAILED, "Failure running script {command}"),
    rule("apt-option", &is::USAGE, "Command line option {option} is not understood"),
    rule("apt-operation", &is::USAGE, "Invalid operation {command}"),
    rule("apt-config-syntax", &is::CONFIG_INVALID, "Syntax error {file}:{line}: "),
    rule("apt-preferences", &is::CONFIG_INVALID, "Invalid record in the preferences file {file}"),
    rule("apt-status-unreadable", &is::LISTS_CORRUPT, "The package lists or status file could not be parsed or opened"),
    rule("apt-cache-corrupt", &is::LISTS_CORRUPT, "The package cache file is corrupted"),
    rule("apt-merge-list", &is::LISTS_CORRUPT, "Problem with MergeList {file}"),
    rule("apt-package-header", &is::LISTS_CORRUPT, "Encountered a section with no Package: header"),
    rule("apt-unparsable", &is::LISTS_CORRUPT, "Unable to parse package file {file}"),
    rule("apt-dpkg-signal", &is::INTERRUPTED, "Sub-process {command} received signal {signal}"),
    rule("apt-dpkg-segfault", &is::INTERRUPTED, "Sub-process {command} received a segmentation fault"),
    rule("apt-dpkg-gone", &is::INTERRUPTED, "Sub-process {command} exited unexpectedly"),
    rule("apt-interrupted", &is::INTERRUPTED, "Operation was interrupted before it could finish"),
    rule("apt-dpkg-failed", &is::PACKAGE_FAILED, "Sub-process /usr/bin/dpkg returned an error code"),
    rule("apt-no-dpkg", &is::TOOL_MISSING, "Can't execute dpkg!"),
];

pub(super) const ARCHIVES: &[Rule] = &[
    rule("apt-404", &is::DOWNLOAD_404, "Failed to fetch {url} 404 ").warned(),
    rule("apt-410", &is::DOWNLOAD_404, "Failed to fetch {url} 410 ").warned(),
    rule("apt-file-missing", &is::DOWNLOAD_404, "Failed to fetch {url} File not found").warned(),
    rule("apt-401", &is::DOWNLOAD_REFUSED, "Failed to fetch {url} 401 ").warned(),
    rule("apt-403", &is::DOWNLOAD_REFUSED, "Failed to fetch {url} 403 ").warned(),
    rule("apt-407", &is::DOWNLOAD_REFUSED, "Failed to fetch {url} 407 ").warned(),
    rule("apt-proxy-407", &is::DOWNLOAD_REFUSED, "Invalid response from proxy: {_} 407").warned(),
    rule("apt-429", &is::DOWNLOAD_SERVER_ERROR, "Failed to fetch {url} 429 ").warned(),
    rule("apt-500", &is::DOWNLOAD_SERVER_ERROR, "Failed to fetch {url} 500 ").warned(),
    rule("apt-502", &is::DOWNLOAD_SERVER_ERROR, "Failed to fetch {url} 502 ").warned(),
    rule("apt-503", &is::DOWNLOAD_SERVER_ERROR, "Failed to fetch {url} 503 ").warned(),
    rule("apt-504", &is::DOWNLOAD_SERVER_ERROR, "Failed to fetch {url} 504 ").warned(),
    rule("apt-hash", &is::DOWNLOAD_HASH_MISMATCH, "Failed to fetch {url} Hash Sum mismatch").warned(),
    rule("apt-size", &is::DOWNLOAD_HASH_MISMATCH, "Failed to fetch {url} File has unexpected size").warned(),
    rule("apt-hash-bare", &is::DOWNLOAD_HASH_MISMATCH, "Hash Sum mismatch"),
    rule("apt-size-bare", &is::DOWNLOAD_HASH_MISMATCH, "File has unexpected size"),
    rule("apt-size-mismatch", &is::DOWNLOAD_HASH_MISMATCH, "Size mismatch"),
    rule("apt-hash-expected", &is::DOWNLOAD_HASH_MISMATCH, "The input file hadn't the expected hash"),
    rule("apt-hash-index", &is::DOWNLOAD_HASH_MISMATCH, "does not match with the hashes in the"),
    rule("apt-portal", &is::DOWNLOAD_REFUSED, "does the network require authentication?").warned(),
    rule("apt-dns-temporary", &is::REPO_UNREACHABLE, "Failed to fetch {url} Temporary failure resolving '{server}'")
        .warned(),
    rule("apt-dns", &is::REPO_UNREACHABLE, "Failed to fetch {url} Could not resolve '{server}'").warned(),
    rule(
        "apt-dns-wicked",
        &is::REPO_UNREACHABLE,
        "Failed to fetch {url} Something wicked happened resolving '{server}'",
    )
    .warned(),
    rule("apt-connect", &is::REPO_UNREACHABLE, "Failed to fetch {url} Could not connect to {server}").warned(),
    rule("apt-initiate", &is::REPO_UNREACHABLE, "Failed to fetch {url} Cannot initiate the connection to {server}")
        .warned(),
    rule("apt-unable-connect", &is::REPO_UNREACHABLE, "Failed to fetch {url} Unable to connect to {server}").warned(),
    rule("apt-connection-failed", &is::REPO_UNREACHABLE, "Failed to fetch {url} Connection failed").warned(),
    rule("apt-timeout", &is::REPO_UNREACHABLE, "Failed to fetch {url} Connection timed out").warned(),
    rule("apt-remote-closed", &is::REPO_UNREACHABLE, "Failed to fetch {url} Error reading from server").warned(),
    rule("apt-dns-bare", &is::REPO_UNREACHABLE, "Temporary failure resolving '{server}'"),
    rule("apt-dns-resolve-bare", &is::REPO_UNREACHABLE, "Could not resolve '{server}'"),
    rule("apt-connect-bare", &is::REPO_UNREACHABLE, "Could not connect to {server}"),
    rule("apt-timeout-bare", &is::REPO_UNREACHABLE, "Connection timed out"),
    rule("apt-proxy", &is::REPO_UNREACHABLE, "Reading from proxy failed").warned(),
    rule("apt-proxy-answer", &is::REPO_UNREACHABLE, "Invalid response from proxy: {how}").warned(),
    rule("apt-certificate", &is::TLS_FAILED, "Certificate verification failed: {how}").warned(),
    rule("apt-handshake", &is::TLS_FAILED, "Could not handshake: {how}").warned(),
    rule("apt-ssl", &is::TLS_FAILED, "SSL connection failed: {how}").warned(),
    rule("apt-no-authorities", &is::TLS_FAILED, "No system certificates available").warned(),
    rule("apt-expired", &is::RELEASE_EXPIRED, "Release file for {url} is expired").warned(),
    rule("apt-not-yet", &is::CLOCK_WRONG, "Release file for {url} is not valid yet").warned(),
    rule("apt-no-release", &is::REPO_MISSING, "The repository '{repository}' does not have a Release file"),
    rule("apt-no-longer-release", &is::REPO_MISSING, "The repository '{repository}' no longer has a Release file"),
    rule("apt-entry", &is::SOURCES_INVALID, "Unable to find expected entry '{entry}' in Release file").warned(),
    rule("apt-unsigned", &is::REPO_UNSIGNED, "The repository '{repository}' is not signed").warned(),
    rule("apt-no-longer-signed", &is::REPO_UNSIGNED, "The repository '{repository}' is no longer signed").warned(),
    rule(
        "apt-not-authenticatable",
        &is::REPO_UNSIGNED,
        "The repository '{repository}' provides only weak security information",
    )
    .warned(),
    rule("apt-no-key", &is::REPO_KEY_MISSING, "NO_PUBKEY {key}").warned(),
    rule("apt-no-keyring", &is::REPO_KEY_MISSING, "couldn't be verified because no keyring is specified").warned(),
    rule("apt-sqv-no-key", &is::REPO_KEY_MISSING, "Missing key {key}, which is needed to verify signature").warned(),
    rule("apt-unverified", &is::REPO_KEY_MISSING, "signatures couldn't be verified").warned(),
    rule("apt-key-expired", &is::KEY_EXPIRED, "EXPKEYSIG {key}").warned(),
    rule("apt-key-expired-also", &is::KEY_EXPIRED, "KEYEXPIRED {key}").warned(),
    rule("apt-key-revoked", &is::KEY_EXPIRED, "REVKEYSIG {key}").warned(),
    rule("apt-signature-expired", &is::KEY_EXPIRED, "EXPSIG {key}").warned(),
    rule("apt-bad-signature", &is::SIGNATURE_INVALID, "BADSIG {key}").warned(),
    rule("apt-invalid-signature", &is::SIGNATURE_INVALID, "signatures were invalid: {key}")
        .unless("KEYSIG|EXPSIG|KEYEXPIRED")
        .warned(),
    rule("apt-no-good-signature", &is::SIGNATURE_INVALID, "No good signature").warned(),
    rule("apt-weak-algorithm", &is::SIGNATURE_INVALID, "were rejected as they use weak").warned(),
    rule("apt-gpg", &is::SIGNATURE_INVALID, "GPG error: {repository}: ")
        .unless("NO_PUBKEY|KEYSIG|KEYEXPIRED|EXPSIG|Missing key|no keyring")
        .warned(),
    rule("apt-key-ignored", &is::REPO_KEY_MISSING, "The key(s) in the keyring {file} are ignored").warned(),
    rule("apt-info-changed", &is::RELEASE_INFO_CHANGED, "Repository '{repository}' changed its '{field}' value from"),
    rule("apt-sources-entry", &is::SOURCES_INVALID, "Malformed entry {line} in {_} file {file}"),
    rule("apt-sources-line", &is::SOURCES_INVALID, "Malformed line {line} in source list {file}"),
    rule("apt-sources-stanza", &is::SOURCES_INVALID, "Malformed stanza {line} in source list {file}"),
    rule("apt-sources-type", &is::SOURCES_INVALID, "is not known on line {line} in source list {file}"),
    rule(
        "apt-sources-conflict",
        &is::SOURCES_INVALID,
        "Conflicting values set for option {option} regarding source {repository}",
    ),
    rule("apt-sources", &is::SOURCES_INVALID, "The list of sources could not be read"),
    rule("apt-method", &is::TOOL_MISSING, "The method driver {file} could not be found"),
    rule("apt-method-start", &is::TOOL_MISSING, "Method {file} did not start correctly"),
    rule("apt-method-died", &is::DOWNLOAD_FAILED, "Method {command} has died unexpectedly"),
    rule("apt-fetch", &is::DOWNLOAD_FAILED, "Failed to fetch {url} ").warned(),
    rule("apt-archives", &is::DOWNLOAD_FAILED, "Unable to fetch some archives"),
    rule("apt-index-files", &is::DOWNLOAD_FAILED, "Some index files failed to download").warned(),
    rule("apt-not-updated", &is::SIGNATURE_INVALID, "An error occurred during the signature verification")
        .unless("GPG error")
        .warned(),
];

pub(super) const REMARKS: &[Remark] = &[
    remark("changed", "^Setting up {package} ("),
    remark("changed", "^Removing {package} ("),
    remark("changed", "^Purging configuration files for {package} ("),
    remark("nothing_to_do", "^0 upgraded, 0 newly installed, 0 to remove"),
    remark("kept_back", "The following packages have been kept back"),
    remark("phased", "The following upgrades have been deferred due to phasing"),
    remark("not_fully_installed", "^{number} not fully installed or removed"),
    remark("not_installed", "Skipping {package}, it is not installed and only upgrades are requested"),
    remark("would_remove_packages", "The following packages will be REMOVED"),
    remark("downgrade", "The following packages will be DOWNGRADED"),
    remark("conffile_kept", "^Installing new version of config file {file}"),
    remark("reboot_required", "System restart required"),
    remark("reboot_required", "Pending kernel upgrade"),
    remark("old_package_file", "but download was forced"),
];
