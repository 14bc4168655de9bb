//! Why findings are left, on a real root with real pending updates, a real pin, a real hold and a real process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use patchloom_bed::{Root, left_out};
use serde_json::{Value, json};

use super::tests::{ask, context};
use super::*;

/// A process inside a root; gone when it is dropped.
struct Sleeper(Child);

impl Sleeper {
    /// Starts one, and returns with it the C library that it maps.
    fn start(root: &Path) -> (Self, PathBuf) {
        let mut command = Command::new("chroot");
        command.arg(root).args(["sleep", "600"]).stdin(Stdio::null());
        let sleeper = Self(command.spawn().unwrap());
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let maps = std::fs::read_to_string(format!("/proc/{}/maps", sleeper.0.id())).unwrap_or_default();
            let library = maps.lines().filter_map(|line| line.find('/').map(|at| &line[at..]));
            let mut inside = library.filter(|path| Path::new(path).starts_with(root) && path.ends_with("/libc.so.6"));
            if let Some(library) = inside.next() {
                return (sleeper, PathBuf::from(library));
            }
            assert!(Instant::now() < end, "it maps no C library of its root:\n{maps}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        // Over already is fine.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// As dpkg replaces a file: a new one beside it takes its name.
fn replace(file: &Path) {
    let new = file.with_extension("dpkg-new");
    std::fs::copy(file, &new).unwrap();
    std::fs::rename(&new, file).unwrap();
}

fn finding(name: &str, installed: &str, fixed: &str) -> Value {
    json!({
        "cve": format!("CVE-2026-{}", name.len()), "package": { "name": name, "arch": "amd64" }, "source": name,
        "installed": installed, "fixed": fixed, "knowledge": { "by": "advisory" }, "security": true,
    })
}

#[tokio::test]
async fn each_finding_that_is_left_has_the_reason_that_the_root_has_for_it() {
    if left_out() {
        return;
    }
    let root = Root::golden();
    let version = |name: &str| root.version_of(name).unwrap();
    let pair = |name: &str| root.pairs().into_iter().find(|pair| pair.name == name).unwrap();
    let (held, pinned, open, later) = (pair("jq"), pair("rsync"), pair("unzip"), pair("openssl"));
    root.hold("jq");
    let pin = format!("Package: rsync\nPin: version {}\nPin-Priority: 1001\n", pinned.old);
    std::fs::write(root.path().join("etc/apt/preferences.d/pin"), pin).unwrap();
    let (_sleeper, library) = Sleeper::start(root.path());
    replace(&library);

    let dir = tempfile::tempdir().unwrap();
    let context = context(&dir);
    let libc = version("libc6");
    let findings = json!([
        finding("jq", &held.old, &held.new),
        finding("rsync", &pinned.old, &pinned.new),
        finding("unzip", &open.old, &open.new),
        finding("openssl", &later.old, "999:1"),
        finding("libc6", &libc, &libc),
        finding("tar", &version("tar"), &version("tar")),
    ]);
    let findings = context.put_json(&findings).await.unwrap();
    let target = json!({ "kind": "root", "path": root.path() });
    let input = json!({ "target": target, "mode": "apply", "findings": findings });
    let answer = ask(&VerifyRescan, &context, input).await;
    let left: BTreeMap<&str, &Value> =
        answer["left"].as_array().unwrap().iter().map(|one| (one["package"].as_str().unwrap(), one)).collect();
    let reasons: BTreeMap<&str, &str> =
        left.iter().map(|(name, one)| (*name, one["reason"].as_str().unwrap())).collect();
    let wanted = [
        ("jq", "held"),
        ("libc6", "not_restarted"),
        ("openssl", "not_on_offer"),
        ("rsync", "pinned"),
        ("unzip", "not_planned"),
    ];
    assert_eq!(reasons, BTreeMap::from(wanted), "{answer:#}");
    assert_eq!((&left["rsync"]["wanted"], &left["rsync"]["preferred"]), (&json!(pinned.new), &json!(pinned.old)));
    assert_eq!(left["openssl"]["offered"], json!(later.new));
    assert!(left["libc6"]["text"].as_str().unwrap().contains("sleep ("), "{}", left["libc6"]);
    assert_eq!((&answer["residual"], &answer["fixed"]), (&json!(5), &json!(1)));
    assert!(answer["summary"].as_str().unwrap().contains("5 findings remain (1 held, 1 not_on_offer"), "{answer:#}");
}
