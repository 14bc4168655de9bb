//! Words of rpm, dnf and zypper as they have them in their sources: each means its cause and names its subject.

use patchloom_domain::{CallOutcome, Diagnosis, HostEffect, Manager, Observed, Responsible, diagnose};

fn call(manager: Manager, code: i32, text: &str) -> Diagnosis {
    diagnose(&Observed { manager, code: Some(code), text: text.as_bytes(), states: None })
}

#[track_caller]
fn check(manager: Manager, code: i32, text: &str, cause: &str, subject: &[(&str, &str)]) {
    let found = call(manager, code, text);
    let primary = found.primary.as_ref().unwrap_or_else(|| panic!("nothing found in: {text}"));
    assert_eq!(primary.cause.name, cause, "{text}\n{primary:#?}");
    for (key, value) in subject {
        assert_eq!(primary.subject.get(key).map(String::as_str), Some(*value), "{key} of {text}\n{primary:#?}");
    }
}

#[test]
fn rpm_tells_scripts_before_from_scripts_after() {
    for (text, cause, host) in [
        (
            "error: %pre(badpre-1.1-1.noarch) scriptlet failed, exit status 1\nError in PREIN scriptlet in rpm package badpre\nerror: badpre-1.1-1.noarch: install failed\nError: Transaction failed",
            "preinst_failed",
            HostEffect::Unchanged,
        ),
        (
            "error: %prein(badpre-0:1.1-1.noarch) scriptlet failed, exit status 127",
            "preinst_failed",
            HostEffect::Unchanged,
        ),
        ("error: %preun(p-1-1.noarch) scriptlet failed, exit status 1", "prerm_failed", HostEffect::HalfConfigured),
        ("warning: %postun(p-1-1.noarch) scriptlet failed, signal 15", "postrm_failed", HostEffect::ChangedWithFailure),
    ] {
        let found = call(Manager::Dnf, 1, text);
        let primary = found.primary.unwrap();
        assert_eq!((primary.cause.name, found.host), (cause, host), "{text}");
        assert_eq!(primary.cause.who, Responsible::Package);
        assert!(found.others.is_empty(), "{text}: {:#?}", found.others);
    }
    for text in [
        "warning: %post(p-1.1-1.noarch) scriptlet failed, exit status 1",
        "Error in POSTIN scriptlet in rpm package p",
        "Non-fatal POSTIN scriptlet failure in rpm package p",
        ">>> Non-critical error in %post scriptlet: p-0:1.1-1.noarch",
        ">>> Non-critical error in post-install scriptlet: p-0:1.1-1.noarch",
    ] {
        let found =
            call(Manager::Dnf, 0, &format!("  Upgrading        : p-1.1-1.noarch       1/2 \n{text}\nComplete!"));
        assert!(found.exit_code_lies, "{text}");
        assert_eq!(found.primary.as_ref().unwrap().cause.name, "postinst_failed");
        assert_eq!(found.host, HostEffect::ChangedWithFailure, "{text}");
    }
}

#[test]
fn rpm_tells_of_scripts_in_lua_and_of_damaged_files() {
    let lua = |script: &str| format!("error: lua script failed: [string \"%{script}(p-1-1.noarch)\"]:1: boom");
    for (code, script, cause, host) in [
        (1, "prein", "preinst_failed", HostEffect::Unchanged),
        (0, "post", "postinst_failed", HostEffect::ChangedWithFailure),
        (1, "preun", "prerm_failed", HostEffect::HalfConfigured),
        (0, "postun", "postrm_failed", HostEffect::ChangedWithFailure),
    ] {
        let found = call(Manager::Dnf, code, &lua(script));
        assert_eq!((found.primary.unwrap().cause.name, found.host), (cause, host), "{script}");
    }
    let damaged = "error: j.rpm: signature hdr blob(4388): BAD, read returned 0\nerror: j.rpm cannot be installed";
    check(Manager::Dnf, 1, damaged, "package_corrupt", &[]);
    check(
        Manager::Dnf,
        1,
        "error: open of junk failed: No such file or directory",
        "package_not_found",
        &[("file", "junk")],
    );
}

#[test]
fn dnf_4_names_what_it_could_not_fetch_or_find() {
    let row = |text: &str, cause: &str, subject: &[(&str, &str)]| check(Manager::Dnf, 1, text, cause, subject);
    row(
        "Package badpost available, but not installed.\nNo match for argument: badpost\nError: No packages marked for upgrade.",
        "not_installed",
        &[("package", "badpost")],
    );
    row(
        "Error: This command has to be run with superuser privileges (under the root user on most systems).",
        "not_root",
        &[],
    );
    row(
        "Error: Error downloading packages:\n  Status code: 404 for http://m/gone-1.1-1.noarch.rpm (IP: 10.0.0.1)",
        "download_404",
        &[("url", "http://m/gone-1.1-1.noarch.rpm")],
    );
    row(
        "[FAILED] gone-1.1-1.noarch.rpm: Status code: 503 for http://m/g.rpm (IP: 10.0.0.1)",
        "download_server_error",
        &[("status", "503")],
    );
    row(
        "[MIRROR] x.rpm: Downloading successful, but checksum doesn't match. Calculated: a(sha256) Expected: b(sha256)",
        "download_hash_mismatch",
        &[],
    );
    row(
        "  - Curl error (6): Couldn't resolve host name for http://m/repodata/repomd.xml [Could not resolve host: m]",
        "repo_unreachable",
        &[("url", "http://m/repodata/repomd.xml")],
    );
    row(
        "  - Curl error (60): SSL peer certificate or SSH remote key was not OK for https://m/repomd.xml [self signed]",
        "tls_failed",
        &[],
    );
    row(
        "Public key for p-1-1.noarch.rpm is not installed. Failing package is: p-1-1.noarch\nError: GPG check FAILED",
        "repo_key_missing",
        &[("package", "p-1-1.noarch.rpm")],
    );
    row("Package p-1-1.noarch.rpm is not signed\nError: GPG check FAILED", "package_unsigned", &[]);
    row(
        "Error: Failed to download metadata for repo 'b': repomd.xml GPG signature verification error: Bad GPG signature",
        "signature_invalid",
        &[],
    );
}

#[test]
fn dnf_4_names_what_does_not_fit_and_what_it_left_out() {
    let row = |text: &str, cause: &str, subject: &[(&str, &str)]| check(Manager::Dnf, 1, text, cause, subject);
    row(
        "Error: Transaction test error:\n  file /usr/bin/x from install of overw-1.0-1.noarch conflicts with file from package libx-1.0-1.noarch",
        "file_conflict",
        &[("file", "/usr/bin/x"), ("package", "overw-1.0-1.noarch"), ("other", "libx-1.0-1.noarch")],
    );
    row(
        "Error: \n Problem: package a-1-1.noarch requires b >= 2, but none of the providers can be installed\n  - conflicting requests",
        "unmet_dependencies",
        &[("package", "a-1-1.noarch"), ("requirement", "b >= 2")],
    );
    row(
        "Error: \n Problem: The operation would result in removing the following protected packages: dnf",
        "essential_removal_refused",
        &[("package", "dnf")],
    );
    row(
        "Error: All matches were filtered out by exclude filtering for argument: kernel",
        "excluded",
        &[("package", "kernel")],
    );
    row("Cannot find rpm nevra \"alpha-1.0-1.noarch\".", "version_not_found", &[("package", "alpha-1.0-1.noarch")]);
    row("Error: There are no enabled repositories in \"/etc/yum.repos.d\".", "no_repositories", &[]);
    row(
        "error: rpmdb: BDB0113 Thread/process 1/2 failed\nError: Error: rpmdb open failed",
        "package_database_broken",
        &[],
    );
    row(
        "error: unpacking of archive failed on file /etc/x;5f: cpio: rename failed - Is a directory\nerror: p-1-1.noarch: install failed",
        "unpack_failed",
        &[("file", "/etc/x")],
    );
    check(Manager::Dnf, 200, "Waiting for process with pid 77 to finish.", "lock_waited", &[("pid", "77")]);
    check(Manager::Dnf, 200, "", "locked", &[]);
    let skipped = "Skip  1 Package\n\nNothing to do.\nComplete!";
    let found = call(Manager::Dnf, 0, skipped);
    assert!(found.exit_code_lies, "{found:#?}");
    check(
        Manager::Dnf,
        0,
        "Skipping packages with broken dependencies:\n p  noarch 1.1-1 r 6 k\n\nNothing to do.",
        "skipped_broken",
        &[],
    );
    check(Manager::Dnf, 100, "Ignoring repositories: acme\n\nx.noarch 1 r", "repos_skipped", &[("repository", "acme")]);
}

#[test]
fn dnf_5_names_what_it_could_not_do() {
    let row = |text: &str, cause: &str, subject: &[(&str, &str)]| check(Manager::Dnf, 1, text, cause, subject);
    row(
        "The requested operation requires superuser privileges. Please log in as a user with elevated rights, or use the \"--assumeno\" or \"--downloadonly\" options to run the command without modifying the system state.",
        "not_root",
        &[],
    );
    row(
        "Failed to resolve the transaction:\nNo match for argument: nosuch\nYou can try to add to command line:\n  --skip-unavailable to skip unavailable packages",
        "package_not_found",
        &[("package", "nosuch")],
    );
    row(
        "Failed to resolve the transaction:\nProblem: conflicting requests\n  - nothing provides lib >= 2.0 needed by needdep-1.0-1.noarch from acme",
        "unmet_dependencies",
        &[],
    );
    row(
        "Transaction failed: Failed to obtain rpm transaction lock. Another transaction is in progress.",
        "locked",
        &[],
    );
    row(
        "OpenPGP check for package \"p-1-1.noarch\" (/var/cache/p.rpm) from repo \"acme\" has failed: The package is not signed.\nSignature verification failed.",
        "package_unsigned",
        &[("package", "p-1-1.noarch"), ("repository", "acme")],
    );
    row("Operation aborted by the user.", "aborted_by_user", &[]);
    row("Transaction failed: Rpm transaction failed.", "transaction_failed", &[]);
    row(
        "Failed to resolve the transaction:\nPackages for argument 'p' available, but not installed.",
        "not_installed",
        &[("package", "p")],
    );
    let scripts = "[1/2] Upgrading p-0:1-1.x86_64 100% |  1 MiB/s | 6 MiB | 00m45s\n>>> Running %post scriptlet: p-0:1-1.x86_64\n>>> Non-critical error in %post scriptlet: p-0:1-1.x86_64\n>>> [RPM] %post(p-1-1.x86_64) scriptlet failed, exit status 2\nComplete!";
    let found = call(Manager::Dnf, 0, scripts);
    assert!(found.exit_code_lies && found.host == HostEffect::ChangedWithFailure, "{found:#?}");
}

#[test]
fn zypper_names_what_it_could_not_install() {
    let row = |code: i32, text: &str, cause: &str, subject: &[(&str, &str)]| {
        check(Manager::Zypper, code, text, cause, subject)
    };
    row(5, "Root privileges are required to run this command.", "not_root", &[]);
    row(
        7,
        "System management is locked by the application with pid 22 (zypper).\nClose this application before trying again.",
        "locked",
        &[("pid", "22"), ("program", "zypper")],
    );
    row(
        4,
        "Problem: 1: the to be installed needdep-1.0-1.noarch requires 'lib >= 2.0', but this requirement cannot be provided",
        "unmet_dependencies",
        &[("package", "needdep-1.0-1.noarch"), ("requirement", "lib >= 2.0")],
    );
    row(
        8,
        "File './gone-1.1-1.noarch.rpm' not found on medium 'http://m/'",
        "download_404",
        &[("file", "./gone-1.1-1.noarch.rpm"), ("repository", "http://m/")],
    );
    row(
        8,
        "(1/1) Installing: badpre-1.1-1.noarch [.error]\nInstallation of badpre-1.1-1.noarch failed:\nError: Subprocess failed. Error: RPM failed: badpre says no\nerror: %prein(badpre-1.1-1.noarch) scriptlet failed, exit status 1\nerror: badpre-1.1-1.noarch: install failed\n\nAbort, retry, ignore? [a/r/i] (a): a\nProblem occurred during or after installation or removal of packages:\nInstallation has been aborted as directed.\nPlease see the above error message for a hint.",
        "preinst_failed",
        &[("package", "badpre-1.1-1.noarch")],
    );
    row(
        4,
        "Timeout exceeded when accessing 'http://m/repodata/repomd.xml'.",
        "repo_unreachable",
        &[("url", "http://m/repodata/repomd.xml")],
    );
    row(
        4,
        "Download (curl) error for 'http://m/repodata/repomd.xml':\nError code: Connection failed\nError message: Failed to connect to m port 80: Connection refused\n\nAbort, retry, ignore? [a/r/i/...? shows all options] (a): a",
        "repo_unreachable",
        &[("url", "http://m/repodata/repomd.xml")],
    );
}

#[test]
fn zypper_names_what_it_does_not_trust_or_find() {
    let row = |code: i32, text: &str, cause: &str, subject: &[(&str, &str)]| {
        check(Manager::Zypper, code, text, cause, subject)
    };
    row(
        4,
        "Signature verification failed for file 'repomd.xml' from repository 'Acme'.",
        "signature_invalid",
        &[("file", "repomd.xml"), ("repository", "Acme")],
    );
    row(
        4,
        "File 'repomd.xml' from repository 'Acme' is unsigned, continue? [yes/no] (no): no",
        "repo_unsigned",
        &[("repository", "Acme")],
    );
    row(8, "Digest verification failed for file 'p.rpm'", "download_hash_mismatch", &[("file", "p.rpm")]);
    row(
        104,
        "'p=9.9' not found in package names. Trying capabilities.\nNo provider of 'p=9.9' found.",
        "version_not_found",
        &[("package", "p"), ("version", "9.9")],
    );
    row(104, "Package 'nosuch' not found.", "package_not_found", &[("package", "nosuch")]);
    row(
        106,
        "Skipping repository 'Acme' because of the above error.\nSome of the repositories have not been refreshed because of an error.",
        "repos_skipped",
        &[("repository", "Acme")],
    );
    row(6, "Warning: No repositories defined.", "no_repositories", &[]);
    row(
        4,
        "The following item is locked and will not be changed by any action:\n Solution 1: remove lock to allow installation of p-1-1.noarch",
        "held",
        &[],
    );
    row(4, "Continue? [y/n/v/...? shows all options] (y): n", "aborted_by_user", &[]);
    row(
        107,
        "(1/1) Installing: p-1-1.noarch [done]\nwarning: %post(p-1-1.noarch) scriptlet failed, exit status 1",
        "postinst_failed",
        &[("package", "p-1-1.noarch")],
    );
    let found = call(
        Manager::Zypper,
        107,
        "(1/1) Installing: p-1-1.noarch [.......done]\nwarning: %post(p-1-1.noarch) scriptlet failed, exit status 1",
    );
    assert_eq!(found.host, HostEffect::ChangedWithFailure);
    for (code, outcome) in [(100, CallOutcome::UpdatesAvailable), (101, CallOutcome::UpdatesAvailable)] {
        assert_eq!(call(Manager::Zypper, code, "3 patches needed").outcome, outcome);
    }
    for (code, cause) in [(102, "reboot_required"), (103, "restart_manager"), (105, "interrupted")] {
        row(code, "", cause, &[]);
    }
}
