//! The running machine as the target: the binary inside a root that takes itself for the machine it runs on, with
//! processes, mounts and a network of its own.

use std::fs;
use std::process::{Command, Output};

use patchloom_bed::{Repository, Root, left_out};
use serde_json::Value;

const ENTER: &str = r#"
mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" || exit 99
root=$1; shift
exec chroot "$root" /srv/patchloom "$@"
"#;

/// Runs the binary on the machine that the root is; gives what it said and its report.
#[track_caller]
fn patch(root: &Root, options: &[&str]) -> (Output, Value) {
    let here = root.path().join("srv/patchloom");
    if !here.exists() {
        fs::copy(patchloom_bed::lean(env!("CARGO_BIN_EXE_patchloom")), &here).unwrap();
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--net"]);
    command.args(["sh", "-c", ENTER, "enter"]).arg(root.path()).arg("patch").args(options);
    command.args(["--data-dir", "/srv/data", "--report-dir", "/srv/report"]);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/root");
    let output = command.stdin(std::process::Stdio::null()).output().unwrap();
    let report = fs::read(root.path().join("srv/report/report.json")).unwrap_or_default();
    (output, serde_json::from_slice(&report).unwrap_or_default())
}

#[track_caller]
fn ended(said: &(Output, Value), code: i32, end: &str) {
    let (output, report) = said;
    let text = format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    assert_eq!((output.status.code(), report["end"].as_str()), (Some(code), Some(end)), "{text}");
}

#[test]
fn the_running_machine_is_patched_and_asked_about_first() {
    if left_out() {
        return;
    }
    let root = Root::mini();
    let before = root.packages();
    let (unasked, _) = patch(&root, &["--apply"]);
    assert_eq!(unasked.status.code(), Some(2), "{unasked:?}");
    assert!(String::from_utf8_lossy(&unasked.stderr).contains("--yes"));
    assert_eq!(root.packages(), before);

    let said = patch(&root, &["--apply", "--yes"]);
    ended(&said, 0, "succeeded");
    assert_eq!(said.1["target"]["kind"], "local");
    assert_eq!(said.1["change"]["close_code"], "successful");
    for pair in root.pairs() {
        assert_eq!(root.version_of(&pair.name), Some(pair.new));
    }
    assert_eq!(root.audit(), "");
}

#[test]
fn the_running_machine_comes_back_by_its_packages_and_keeps_what_others_wrote() {
    if left_out() {
        return;
    }
    let root = Root::mini();
    root.enable(Repository::Broken);
    let edited = root.modify_conffile("/etc/loom.conf");
    // Somebody else is at work in /etc meanwhile, as on any machine.
    root.before_dpkg("echo other >/etc/written-meanwhile");
    let (packages, usr) = (root.packages(), root.content("/usr"));
    let said = patch(&root, &["--apply", "--yes"]);
    ended(&said, 1, "compensated");
    assert_eq!(said.1["failure"]["code"], "SCRIPTLET");
    assert_eq!(said.1["failure"]["as_before"], true);
    assert_eq!(root.packages(), packages);
    assert_eq!(usr.changes_to(&root.content("/usr")), Vec::<String>::new());
    assert_eq!(fs::read_to_string(root.path().join("etc/loom.conf")).unwrap(), edited);
    assert!(root.path().join("etc/written-meanwhile").exists(), "what is not the package's is not ours to delete");
    let notes = said.1["change"]["notes"].to_string();
    assert!(notes.contains("different from before and left alone"), "{notes}");
    assert!(notes.contains("/etc/written-meanwhile") && !notes.contains("/etc/loom.conf"), "{notes}");
}
