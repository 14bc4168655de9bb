//! Words as package managers have them in their sources, beyond the captures: each means its cause and names its subject.

use patchloom_domain::{
    CallOutcome, Diagnosis, FAILURES_MAX, FailureKind, HostEffect, Manager, Observed, States, diagnose,
};
use proptest::prelude::*;

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
fn dpkg_names_the_package_and_what_failed() {
    let row = |text: &str, cause: &str, subject: &[(&str, &str)]| check(Manager::Apt, 100, text, cause, subject);
    let package = [("package", "jq")];
    for (script, cause) in [
        ("new jq package pre-installation", "preinst_failed"),
        ("installed jq package post-installation", "postinst_failed"),
        ("installed jq package pre-removal", "prerm_failed"),
        ("old jq package post-removal", "postrm_failed"),
    ] {
        for how in
            ["returned error exit status 2", "was killed by signal (Terminated)", "failed with wait status code 3"]
        {
            row(
                &format!("dpkg: error processing package jq (--configure):\n {script} script subprocess {how}"),
                cause,
                &package,
            );
        }
    }
    let old = "dpkg: error processing package jq (--configure):\n subprocess installed post-installation script returned error exit status 1";
    row(old, "postinst_failed", &package);
    row(
        "dpkg: error processing archive /a/overw_1.0_all.deb (--unpack):\n trying to overwrite '/usr/bin/x', which is also in package other 1.0\nE: Sub-process /usr/bin/dpkg returned an error code (1)",
        "file_conflict",
        &[("file", "/usr/bin/x"), ("other", "other 1.0"), ("package", "/a/overw_1.0_all.deb")],
    );
    row("dpkg: error: dpkg frontend lock was locked by another process with pid 12", "locked", &[("pid", "12")]);
    row(
        "jq: installed jq package post-installation script subprocess returned error exit status 1",
        "postinst_failed",
        &package,
    );
    row("dpkg: error: requested operation requires superuser privilege", "not_root", &[]);
    row(
        "dpkg: error processing archive x.deb (--unpack):\n package architecture (arm64) does not match system (amd64)",
        "wrong_architecture",
        &[("arch", "arm64")],
    );
    row("dpkg-deb: error: 'x.deb' is not a Debian format archive", "package_corrupt", &[]);
    row("dpkg: error: parsing file '/var/lib/dpkg/status' near line 3:", "package_database_broken", &[("line", "3")]);
    row(
        "dpkg: error processing package a (--configure):\n something nobody has ever read",
        "package_failed",
        &[("package", "a")],
    );
}

#[test]
fn a_script_that_failed_and_was_helped_by_the_new_one_is_no_failure() {
    let text = "dpkg: warning: old badprerm package pre-removal script subprocess returned error exit status 1\n\
                dpkg: trying script from the new package instead ...\n\
                dpkg: ... it looks like that went OK\nSetting up badprerm (1.1) ...";
    let found = call(Manager::Apt, 0, text);
    assert!(found.primary.is_none(), "{found:#?}");
    assert_eq!((found.outcome, found.host), (CallOutcome::Done, HostEffect::Changed));
}

#[test]
fn what_dpkg_leaves_behind_follows_from_where_it_stopped() {
    let row = |text: &str, cause: &str, host: HostEffect| {
        let found = call(Manager::Dpkg, 1, text);
        assert_eq!((found.primary.as_ref().unwrap().cause.name, found.host), (cause, host), "{found:#?}");
    };
    let archive = "Unpacking b (1) ...\ndpkg: error processing archive b_1.deb (--install):\n";
    row(
        &format!("{archive} trying to overwrite '/x', which is also in package a 1"),
        "file_conflict",
        HostEffect::Unchanged,
    );
    row(
        &format!(
            "dpkg: warning: old b package pre-removal script subprocess returned error exit status 4\n{archive} there is no script in the new version of the package - giving up"
        ),
        "prerm_failed",
        HostEffect::HalfConfigured,
    );
    let package = "Setting up k (1) ...\ndpkg: error processing package k (--install):\n";
    row(
        &format!("{package} installed k package post-installation script subprocess was killed by signal (Killed)"),
        "postinst_failed",
        HostEffect::HalfConfigured,
    );
    row(
        "dpkg: dependency problems prevent configuration of d:\n d depends on nosuch; however:\n  Package nosuch is not installed.\n",
        "unmet_dependencies",
        HostEffect::HalfConfigured,
    );
}

#[test]
fn apt_names_what_it_did_not_find_or_was_not_allowed() {
    let row = |text: &str, cause: &str, subject: &[(&str, &str)]| check(Manager::Apt, 100, text, cause, subject);
    row("E: Unable to locate package nosuch", "package_not_found", &[("package", "nosuch")]);
    row("\u{1b}[1;31mError: \u{1b}[0mUnable to locate package nosuch", "package_not_found", &[("package", "nosuch")]);
    row("E: Version '9.9' for 'p' was not found", "version_not_found", &[("package", "p"), ("version", "9.9")]);
    row("E: Package 'p' has no installation candidate", "package_not_found", &[("package", "p")]);
    row("E: Packages were downgraded and -y was used without --allow-downgrades.", "downgrade_refused", &[]);
    row(
        "E: Essential packages were removed and -y was used without --allow-remove-essential.",
        "essential_removal_refused",
        &[],
    );
    row("E: Packages need to be removed but remove is disabled.", "removal_refused", &[]);
    row(
        "E: There were unauthenticated packages and -y was used without --allow-unauthenticated",
        "unauthenticated_refused",
        &[],
    );
    row(
        "E: Unmet dependencies. Try 'apt --fix-broken install' with no packages (or specify a solution).",
        "broken_dependencies_before",
        &[],
    );
    row("Do you want to continue? [Y/n] Abort.\nAbort.", "aborted_by_user", &[]);
    row("E: Problem executing scripts DPkg::Post-Invoke 'test -x /x'", "hook_failed", &[("command", "test -x /x")]);
    row(
        "E: Command line option --frob is not understood in combination with the other options",
        "usage",
        &[("option", "--frob")],
    );
    row(
        "E: You don't have enough free space in /var/cache/apt/archives/.",
        "disk_full",
        &[("filesystem", "/var/cache/apt/archives/")],
    );
    row(
        "E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct the problem.",
        "dpkg_interrupted",
        &[],
    );
    row(
        "Waiting for cache lock: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 9 (apt)...",
        "lock_waited",
        &[("pid", "9")],
    );
}

#[test]
fn apt_tells_what_is_wrong_with_an_archive() {
    let row = |text: &str, cause: &str, subject: &[(&str, &str)]| check(Manager::Apt, 100, text, cause, subject);
    let url = [("url", "http://m/x.deb")];
    for (why, cause) in [
        ("404  Not Found [IP: 10.0.0.1 80]", "download_404"),
        ("403  Forbidden [IP: 10.0.0.1 80]", "download_refused"),
        ("503  Service Unavailable", "download_server_error"),
        ("Hash Sum mismatch", "download_hash_mismatch"),
        ("File has unexpected size (1 != 2). Mirror sync in progress?", "download_hash_mismatch"),
        ("Temporary failure resolving 'm'", "repo_unreachable"),
        ("Could not resolve 'm'", "repo_unreachable"),
        ("Could not connect to m:80 (10.0.0.1), connection timed out", "repo_unreachable"),
        ("Cannot initiate the connection to m:80 (::1). - connect (101: Network is unreachable)", "repo_unreachable"),
        ("Connection failed [IP: 10.0.0.1 80]", "repo_unreachable"),
        ("Undetermined Error", "download_failed"),
    ] {
        row(
            &format!(
                "E: Failed to fetch http://m/x.deb  {why}\nE: Unable to fetch some archives, maybe run apt-get update or try with --fix-missing?"
            ),
            cause,
            &url,
        );
    }
    row(
        "E: The repository 'http://m stable Release' does not have a Release file.",
        "repo_missing",
        &[("repository", "http://m stable Release")],
    );
    row("E: The repository 'http://m stable InRelease' is no longer signed.", "repo_unsigned", &[]);
    let gpg = |rest: &str| {
        format!(
            "W: GPG error: http://m stable InRelease: {rest}\nE: The repository 'http://m stable InRelease' is not signed."
        )
    };
    let missing = "The following signatures couldn't be verified because the public key is not available: NO_PUBKEY 648ACFD622F3D138";
    let found = call(Manager::Apt, 100, &gpg(missing));
    assert_eq!(found.kind(), Some(FailureKind::Untrusted));
    assert_eq!(found.primary.unwrap().cause.name, "repo_key_missing");
    row(
        "W: GPG error: http://m s InRelease: The following signatures were invalid: EXPKEYSIG 0123 Somebody",
        "key_expired",
        &[],
    );
    row(
        "W: GPG error: http://m s InRelease: The following signatures were invalid: BADSIG 0123 Somebody",
        "signature_invalid",
        &[],
    );
    row(
        "E: Release file for http://m/InRelease is expired (invalid since 3d). Updates for this repository will not be applied.",
        "release_expired",
        &[],
    );
    row("E: Release file for http://m/InRelease is not valid yet (invalid for another 3h).", "clock_wrong", &[]);
    row(
        "E: Repository 'http://m stable InRelease' changed its 'Suite' value from 'stable' to 'oldstable'",
        "release_info_changed",
        &[("field", "Suite")],
    );
    row("E: Malformed entry 1 in list file /etc/apt/sources.list (Component)", "sources_invalid", &[("line", "1")]);
}

#[test]
fn an_update_that_ends_with_0_and_reached_nothing_is_a_failure() {
    for (why, cause) in [
        ("Temporary failure resolving 'm'", "repo_unreachable"),
        ("404  Not Found", "download_404"),
        ("Certificate verification failed: The certificate is NOT trusted.", "tls_failed"),
    ] {
        for begin in ["W: ", "Warning: "] {
            let text = format!(
                "{begin}Failed to fetch https://m/InRelease  {why}\n{begin}Some index files failed to download. They have been ignored, or old ones used instead."
            );
            let found = call(Manager::Apt, 0, &text);
            assert!(found.exit_code_lies && found.others.is_empty(), "{found:#?}");
            assert_eq!(found.primary.unwrap().cause.name, cause);
        }
    }
    assert!(call(Manager::Apt, 0, "a script says: Failed to fetch http://m/x  404 ").primary.is_none());
}

#[test]
fn windows_is_known_by_its_codes_in_every_language() {
    for (manager, code, text, cause) in [
        (Manager::Msi, 1603, "", "package_failed"),
        (Manager::Msi, 1618, "", "locked"),
        (Manager::Msi, 3010, "", "reboot_required"),
        (Manager::Msi, 1638, "", "already_installed"),
        (Manager::WindowsUpdate, -2_145_124_329, "", "not_applicable"),
        (Manager::WindowsUpdate, 2_359_302, "", "already_installed"),
        (Manager::WindowsUpdate, 3, "", "update_failed"),
        (Manager::WindowsUpdate, 1, "Fehler 0x80073712", "component_store_corrupt"),
        (Manager::WindowsUpdate, 1, "failed with hr=0x80072ee2", "repo_unreachable"),
        (Manager::WindowsUpdate, 1, "0x80070070", "disk_full"),
    ] {
        check(manager, code, text, cause, &[]);
    }
    assert!(call(Manager::Msi, 0, "").primary.is_none());
}

#[test]
fn of_several_failures_the_one_that_explains_the_others_comes_first() {
    let text = "dpkg: error processing package a (--configure):\n installed a package post-installation script subprocess returned error exit status 1\n\
                dpkg: dependency problems prevent configuration of b:\n b depends on a; however:\n  Package a is not configured yet.\n\n\
                dpkg: error processing package b (--configure):\n dependency problems - leaving unconfigured\n\
                dpkg: error processing package c (--configure):\n end of file on stdin at conffile prompt\n\
                Errors were encountered while processing:\n a\n b\n c\nE: Sub-process /usr/bin/dpkg returned an error code (1)";
    let found = call(Manager::Apt, 100, text);
    let told = |failure: &patchloom_domain::Failure| format!("{} {}", failure.cause.name, failure.subject["package"]);
    assert_eq!(told(found.primary.as_ref().unwrap()), "conffile_prompt_eof c");
    assert_eq!(found.others.iter().map(told).collect::<Vec<_>>(), ["postinst_failed a", "unmet_dependencies b"]);
    let full = "installed p package post-installation script subprocess returned error exit status 1\ncp: error writing '/x': No space left on device";
    check(Manager::Apt, 100, full, "disk_full", &[]);
}

#[test]
fn a_translated_text_is_not_guessed_at() {
    for (manager, code, text) in [
        (Manager::Apt, 100, "Paketlisten werden gelesen… Fertig\nE: Paket foo kann nicht gefunden werden."),
        (Manager::Apt, 100, "E: Не удалось получить доступ к файлу блокировки /var/lib/dpkg/lock-frontend"),
        (Manager::Apt, 100, "E: パッケージ foo が見つかりません"),
        (Manager::Dnf, 1, "Fehler: Keine Übereinstimmung gefunden: foo"),
        (
            Manager::Dnf,
            0,
            "Abhängigkeiten sind aufgelöst.\nwarning: %post(p-1-1.noarch) scriptlet failed, exit status 1\nFertig.",
        ),
        (Manager::Zypper, 4, "Repository-Daten werden geladen...\nProblem: 1: No space left on device"),
        (Manager::Zypper, 104, "正在加载软件源数据...\n正在读取已安装的软件包..."),
        (Manager::Apt, 100, "E: Γράμματα που κανείς δεν ξέρει"),
    ] {
        let found = call(manager, code, text);
        let primary = found.primary.unwrap_or_else(|| panic!("{text}"));
        assert_eq!((primary.cause.name, primary.cause.kind), ("localised_output", FailureKind::Unknown), "{text}");
        assert!(primary.cause.advice.contains("LC_ALL=C"));
        assert!(found.others.is_empty(), "{text}");
    }
    check(Manager::Apt, 100, "Setting up müller (1.0) ...\nE: something new", "unknown", &[]);
}

#[test]
fn states_outweigh_words() {
    let jq = ["jq".to_owned()];
    let states = |changed, broken| Some(States { changed, broken });
    let text = b"E: Failed to fetch http://m/x  404  Not Found".as_slice();
    for (states, host) in [
        (None, HostEffect::Unchanged),
        (states(&[], &[]), HostEffect::Unchanged),
        (states(&jq, &[]), HostEffect::PartlyChanged),
        (states(&jq, &jq), HostEffect::HalfConfigured),
    ] {
        let found = diagnose(&Observed { manager: Manager::Apt, code: Some(100), text, states });
        assert_eq!(found.host, host, "{states:?}");
    }
    let silent = Observed { manager: Manager::Apt, code: Some(0), text: b"all is well", states: states(&jq, &jq) };
    let found = diagnose(&silent);
    assert_eq!((found.kind(), found.exit_code_lies), (Some(FailureKind::HalfState), true));
}

#[test]
fn commands_are_filled_with_harmless_names_only() {
    let commands = |package: &str| {
        let text = format!("E: Package '{package}' has no installation candidate");
        call(Manager::Apt, 100, &text).primary.unwrap().commands
    };
    assert_eq!(commands("jq"), ["apt-get update", "apt-cache policy jq"]);
    assert_eq!(commands("$(reboot)"), ["apt-get update"]);
    assert_eq!(commands("--fix"), ["apt-get update"]);
    let script = "warning: %post(bad-post-1.1-1.noarch) scriptlet failed, exit status 1";
    let primary = call(Manager::Dnf, 0, script).primary.unwrap();
    assert_eq!(primary.commands, ["rpm -q --scripts bad-post", "dnf downgrade bad-post"]);
}

#[test]
fn more_failures_than_are_told_are_counted() {
    let text: String = (0..FAILURES_MAX + 7).map(|n| format!("E: Unable to locate package p{n}x\n")).collect();
    let found = call(Manager::Apt, 100, &text);
    assert_eq!((found.others.len() + 1, found.left_off), (FAILURES_MAX, 7));
}

#[test]
fn a_text_of_ten_megabytes_is_read_in_one_pass() {
    let pieces = [
        "E: Unable to locate package p\nFailed to fetch x Failed to fetch y\n \n",
        "Failed to fetch ",
        "Could not get lock x\r",
    ];
    for piece in pieces {
        let text = piece.repeat(10_000_000 / piece.len() + 1);
        assert!(text.len() >= 10_000_000);
        assert!(call(Manager::Apt, 100, &text).primary.is_some());
    }
}

proptest! {
    #[test]
    fn any_bytes_get_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..300), code in proptest::option::of(any::<i32>())) {
        for manager in [Manager::Apt, Manager::Dpkg, Manager::Dnf, Manager::Zypper, Manager::WindowsUpdate, Manager::Msi] {
            let found = diagnose(&Observed { manager, code, text: &bytes, states: None });
            prop_assert!(code == Some(0) || found.primary.is_some() || found.outcome != CallOutcome::Failed);
        }
    }

    #[test]
    fn pieces_of_messages_in_any_order_get_an_answer(pieces in proptest::collection::vec(
        prop_oneof!["E: ", "Failed to fetch ", " 404 ", "\\(", "\\)", "'", "\n", "\r", "\u{1b}\\[31m", "\u{1b}", "%post\\(", " scriptlet failed, ",
            "dpkg: error processing package ", "Problem: ", "ü", "lock ", "is held by process ", "[0-9]{1,20}"], 0..40)) {
        let text = pieces.concat();
        for manager in [Manager::Apt, Manager::Dnf, Manager::Zypper] {
            for code in [0, 1, 100, 107] {
                let found = call(manager, code, &text);
                let lines = text.split('\n').count();
                prop_assert!(found.primary.into_iter().chain(found.others).all(|failure| failure.evidence.line.is_none_or(|line| line >= 1 && line <= lines)));
            }
        }
    }
}
