//! What rpm itself prints, through dnf and through zypper.
//!
//! The words are those of rpm's `lib/rpmprob.cc`, `lib/rpmscript.cc`, `lib/psm.cc`, `lib/rpmts.cc` and `lib/rpmdb.cc`. A
//! script that runs before something fails as `error:` and stops its package; one that runs after it fails as
//! `warning:` and the package is installed all the same.

use super::super::cause::Leaves;
use super::super::causes as is;
use super::{Rule, rule};

pub(super) const RULES: &[Rule] = &[
    rule("rpm-pre", &is::PREINST_FAILED, "%pre({package}) scriptlet failed, {how}").always(),
    rule("rpm-prein", &is::PREINST_FAILED, "%prein({package}) scriptlet failed, {how}").always(),
    rule("rpm-pretrans", &is::PREINST_FAILED, "%pretrans({package}) scriptlet failed, {how}").always(),
    rule("rpm-post", &is::POSTINST_FAILED, "%post({package}) scriptlet failed, {how}")
        .leaving(Leaves::Installed)
        .always(),
    rule("rpm-postin", &is::POSTINST_FAILED, "%postin({package}) scriptlet failed, {how}")
        .leaving(Leaves::Installed)
        .always(),
    rule("rpm-posttrans", &is::POSTINST_FAILED, "%posttrans({package}) scriptlet failed, {how}")
        .leaving(Leaves::Installed)
        .always(),
    rule("rpm-preun", &is::PRERM_FAILED, "%preun({package}) scriptlet failed, {how}").always(),
    rule("rpm-preuntrans", &is::PRERM_FAILED, "%preuntrans({package}) scriptlet failed, {how}").always(),
    rule("rpm-postun", &is::POSTRM_FAILED, "%postun({package}) scriptlet failed, {how}")
        .leaving(Leaves::Installed)
        .always(),
    rule("rpm-postuntrans", &is::POSTRM_FAILED, "%postuntrans({package}) scriptlet failed, {how}")
        .leaving(Leaves::Installed)
        .always(),
    rule("rpm-script", &is::SCRIPT_FAILED, "%{script}({package}) scriptlet failed, {how}").always(),
    rule("rpm-lua-pre", &is::PREINST_FAILED, "lua script failed: [string \"%pre({package})\"]").always(),
    rule("rpm-lua-prein", &is::PREINST_FAILED, "lua script failed: [string \"%prein({package})\"]").always(),
    rule("rpm-lua-pretrans", &is::PREINST_FAILED, "lua script failed: [string \"%pretrans({package})\"]").always(),
    rule("rpm-lua-post", &is::POSTINST_FAILED, "lua script failed: [string \"%post({package})\"]")
        .leaving(Leaves::Installed)
        .always(),
    rule("rpm-lua-postin", &is::POSTINST_FAILED, "lua script failed: [string \"%postin({package})\"]")
        .leaving(Leaves::Installed)
        .always(),
    rule("rpm-lua-posttrans", &is::POSTINST_FAILED, "lua script failed: [string \"%posttrans({package})\"]")
        .leaving(Leaves::Installed)
        .always(),
    rule("rpm-lua-preun", &is::PRERM_FAILED, "lua script failed: [string \"%preun({package})\"]").always(),
    rule("rpm-lua-postun", &is::POSTRM_FAILED, "lua script failed: [string \"%postun({package})\"]")
        .leaving(Leaves::Installed)
        .always(),
    rule("rpm-lua", &is::SCRIPT_FAILED, "lua script failed: {how}").always(),
    rule("rpm-interpreter", &is::SCRIPT_FAILED, "failed to exec scriptlet interpreter {command}: {how}").always(),
    rule(
        "rpm-space",
        &is::DISK_FULL,
        "installing package {package} needs {space} more space on the {filesystem} filesystem",
    ),
    rule(
        "rpm-inodes",
        &is::DISK_FULL,
        "installing package {package} needs {space} more inodes on the {filesystem} filesystem",
    ),
    rule(
        "rpm-file-conflict",
        &is::FILE_CONFLICT,
        "file {file} from install of {package} conflicts with file from package {other}",
    ),
    rule(
        "rpm-file-conflict-attempt",
        &is::FILE_CONFLICT,
        "file {file} conflicts between attempted installs of {package} and {other}",
    ),
    rule("rpm-already", &is::ALREADY_INSTALLED, "package {package} is already installed$"),
    rule("rpm-newer", &is::NEWER_INSTALLED, "package {other} (which is newer than {package}) is already installed"),
    rule("rpm-not-installed", &is::NOT_INSTALLED, "^error: package {package} is not installed$"),
    rule("rpm-architecture", &is::WRONG_ARCHITECTURE, "package {package} is intended for a {arch} architecture"),
    rule("rpm-system", &is::WRONG_ARCHITECTURE, "package {package} is intended for a {arch} operating system"),
    rule("rpm-needed-installed", &is::REMOVAL_DEPENDENTS, "^{requirement} is needed by (installed) {package}$"),
    rule("rpm-needed", &is::UNMET_DEPENDENCIES, "^{requirement} is needed by {package}$")
        .unless("(installed)|nothing provides"),
    rule("rpm-conflicts", &is::UNMET_DEPENDENCIES, "^{requirement} conflicts with (installed) {package}$"),
    rule("rpm-dependencies", &is::UNMET_DEPENDENCIES, "Failed dependencies:"),
    rule("rpm-rpmlib", &is::UNMET_DEPENDENCIES, "Missing rpmlib features for {package}:"),
    rule("rpm-verify", &is::PACKAGE_UNSIGNED, "package {package} does not verify: {how}"),
    rule("rpm-digest", &is::PACKAGE_CORRUPT, "digest: BAD"),
    rule("rpm-signature", &is::SIGNATURE_INVALID, "ignature{_}: BAD").unless("hdr blob"),
    rule("rpm-no-key", &is::PACKAGE_UNSIGNED, "Signature, key ID {key}: NOKEY").unless("warning:"),
    rule("rpm-not-rpm", &is::PACKAGE_CORRUPT, "not an rpm package"),
    rule("rpm-header", &is::PACKAGE_CORRUPT, "hdr blob({_}): BAD"),
    rule("rpm-delta", &is::PACKAGE_CORRUPT, "{package} is a Delta RPM and cannot be directly installed"),
    rule("rpm-payload", &is::PACKAGE_CORRUPT, "Unsupported payload ({how}) in package {package}"),
    rule("rpm-unpack", &is::UNPACK_FAILED, "unpacking of archive failed on file {file};{_}: {how}"),
    rule("rpm-unpack-bare", &is::UNPACK_FAILED, "unpacking of archive failed{_}: {how}"),
    rule("rpm-cpio", &is::UNPACK_FAILED, "cpio: {how} failed - "),
    rule("rpm-lock", &is::LOCKED, "can't create transaction lock on {file} (Resource temporarily unavailable)"),
    rule("rpm-lock-denied", &is::NOT_ROOT, "can't create transaction lock on {file} (Permission denied)"),
    rule("rpm-lock-failed", &is::LOCKED, "can't create {_} lock on {file} ("),
    rule("rpm-lock-waited", &is::LOCK_WAITED, "waiting for transaction lock on {file}"),
    rule("rpmdb-open", &is::PACKAGE_DATABASE_BROKEN, "cannot open Packages database in {file}"),
    rule("rpmdb-index", &is::PACKAGE_DATABASE_BROKEN, "cannot open Packages index using {file}"),
    rule("rpmdb-bdb", &is::PACKAGE_DATABASE_BROKEN, "rpmdb: BDB"),
    rule("rpmdb-db5", &is::PACKAGE_DATABASE_BROKEN, "DB_RUNRECOVERY"),
    rule("rpmdb-thread", &is::PACKAGE_DATABASE_BROKEN, "Thread died in Berkeley DB library"),
    rule("rpmdb-damaged", &is::PACKAGE_DATABASE_BROKEN, "rpmdb: damaged header"),
    rule("rpmdb-sqlite", &is::PACKAGE_DATABASE_BROKEN, "Unable to open sqlite database {file}: {how}"),
    rule("rpmdb-header", &is::PACKAGE_DATABASE_BROKEN, "rpmdbNextIterator: skipping"),
    rule("rpm-cannot", &is::PACKAGE_FAILED, "^error: {package} cannot be installed$"),
    rule("rpm-no-file", &is::PACKAGE_NOT_FOUND, "^error: open of {file} failed: No such file or directory"),
    rule("rpm-install-failed", &is::PACKAGE_FAILED, "^error: {package}: install failed$"),
    rule("rpm-erase-failed", &is::PACKAGE_FAILED, "^error: {package}: erase failed$"),
];
