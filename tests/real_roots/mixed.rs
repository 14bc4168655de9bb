//! One campaign over roots of several package managers: one plan, one change.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use patchloom_bed::{Root, left_out};
use serde_json::{Value, json};

use crate::rpm::exclude;
use crate::served::Relay;

/// More than it takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(600);

/// A campaign over roots, with its directory beside the first of them.
struct Campaign {
    dir: PathBuf,
    child: Child,
}

impl Drop for Campaign {
    fn drop(&mut self) {
        // Over already where it was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn patchloom(dir: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_patchloom"));
    command.arg("--data-dir").arg(dir.join("data")).stdin(Stdio::null()).env_remove("SUDO_USER");
    command
}

impl Campaign {
    fn start(roots: &[(&str, &Root)]) -> Self {
        let dir = roots[0].1.beside("campaign");
        fs::create_dir_all(&dir).unwrap();
        let host = |(id, root): &(&str, &Root)| {
            let path = root.path().display();
            format!(
                "- {{ id: {id}, relay: relay of {id}, environment: prod, target: {{ kind: root, path: {path} }} }}\n"
            )
        };
        let hosts: String = roots.iter().map(host).collect();
        fs::write(dir.join("hosts.yaml"), format!("inventory: 1\nhosts:\n{hosts}")).unwrap();
        let file = |name: &str| fs::File::create(dir.join(name)).unwrap();
        let mut command = patchloom(&dir);
        command.args(["campaign", "run", "--json", "--apply", "--undo", "packages"]);
        command.args(["--waves", "[{name: all}]"]).arg("--inventory").arg(dir.join("hosts.yaml"));
        let child = command.stdout(file("account")).stderr(file("talk")).spawn().expect("the binary starts");
        Self { dir, child }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(name)).unwrap_or_default()
    }

    /// Waits for a state of the world, while the campaign is at work.
    #[track_caller]
    fn until(&mut self, what: &str, is: impl Fn(&Self) -> bool) {
        let end = Instant::now() + LIMIT;
        while !is(self) {
            let left = self.child.try_wait().unwrap();
            assert!(
                left.is_none(),
                "it ended with {left:?} before {what}:\n{}{}",
                self.read("talk"),
                self.read("account")
            );
            assert!(Instant::now() < end, "never: {what}\n{}", self.read("talk"));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn approve(&mut self) {
        self.until("the change waits for approval", |all| all.read("talk").contains("waits for approval"));
        let output =
            patchloom(&self.dir).args(["change", "approve", "CHG0000001"]).env("SUDO_USER", "ann").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Its exit code and its account.
    fn finish(mut self) -> (Option<i32>, Value) {
        let end = Instant::now() + LIMIT;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None => std::thread::sleep(Duration::from_millis(100)),
            }
            assert!(Instant::now() < end, "it does not end:\n{}", self.read("talk"));
        };
        let account = self.read("account");
        let account = serde_json::from_str(&account).unwrap_or_else(|_| panic!("no account:\n{}", self.read("talk")));
        (status.code(), account)
    }
}

/// Lets a root fetch from a relay of its own repositories.
fn behind(root: &Root, repositories: &str, refresh: &[&str]) -> Relay {
    let relay = Relay::of(&root.path().join("srv/rpm"));
    for entry in fs::read_dir(root.path().join(repositories)).unwrap().flatten() {
        // zypper writes a path with one slash.
        let text = fs::read_to_string(entry.path()).unwrap().replace("file:///", "file:/");
        assert!(text.contains("file:/srv/rpm"), "{text}");
        fs::write(entry.path(), text.replace("file:/srv/rpm", &relay.url())).unwrap();
    }
    root.inside(refresh);
    relay
}

/// The package whose script fails is another test's matter, here and in the next one.
fn behind_dnf() -> (Root, Relay) {
    let root = Root::rpm();
    exclude(&root, "loom-post");
    let relay = behind(&root, "etc/yum.repos.d", &["dnf", "-q", "makecache"]);
    (root, relay)
}

fn behind_zypper() -> (Root, Relay) {
    let root = Root::zypper();
    root.inside(&["zypper", "--non-interactive", "addlock", "loom-post"]);
    let relay = behind(&root, "etc/zypp/repos.d", &["zypper", "--non-interactive", "refresh", "--force"]);
    (root, relay)
}

#[test]
fn one_campaign_patches_hosts_of_apt_and_of_dnf_under_one_change() {
    if left_out() {
        return;
    }
    let apt = Root::mini();
    let (dnf, relay) = behind_dnf();
    let rpms = dnf.rpms();
    let mut campaign = Campaign::start(&[("apt-1", &apt), ("dnf-1", &dnf)]);
    campaign.approve();
    let (code, account) = campaign.finish();

    let rows = account["hosts"].as_array().unwrap();
    for host in ["apt-1", "dnf-1"] {
        let row = rows.iter().find(|row| row["host"] == host).unwrap_or_else(|| panic!("{account:#}"));
        assert_eq!(row["outcome"], "installed", "{account:#}");
    }
    assert_eq!(apt.version_of("loom-lib").as_deref(), Some("1.1"));
    assert_ne!(dnf.rpms(), rpms);
    assert!(!relay.packages().is_empty(), "its packages came from the relay");
    assert_eq!((code, &account["close_code"]), (Some(0), &json!("successful")), "{account:#}");
}

#[test]
fn hosts_of_dnf_and_zypper_whose_relay_hands_out_nothing_are_left_as_they_are() {
    if left_out() {
        return;
    }
    let apt = Root::mini();
    let ((dnf, relay_of_dnf), (zypper, relay_of_zypper)) = (behind_dnf(), behind_zypper());
    let before = (dnf.rpms(), zypper.rpms());
    let mut campaign = Campaign::start(&[("apt-1", &apt), ("dnf-1", &dnf), ("zypper-1", &zypper)]);
    // The plan is made of their indexes, and they fail before anybody comes for packages.
    campaign.until("the change waits for approval", |all| all.read("talk").contains("waits for approval"));
    relay_of_dnf.close();
    relay_of_zypper.close();
    campaign.approve();
    let (code, account) = campaign.finish();

    let row = |host: &str| {
        let rows = account["hosts"].as_array().into_iter().flatten();
        rows.clone().find(|row| row["host"] == host).unwrap_or_else(|| panic!("{account:#}"))
    };
    assert_eq!(row("apt-1")["outcome"], "installed", "{account:#}");
    for (host, relay) in [("dnf-1", &relay_of_dnf), ("zypper-1", &relay_of_zypper)] {
        assert_eq!(row(host)["outcome"], "not_begun", "{account:#}");
        assert!(row(host).to_string().contains("the relay does not hand out loom-"), "{account:#}");
        assert!(!relay.packages().is_empty(), "{host}: it was asked");
    }
    // By itself zypper asks at least four times, half a minute apart, in each of the three tries of the campaign.
    let asked = relay_of_zypper.packages();
    assert!(asked.len() < 12, "it was not stopped at its first word: {asked:?}");
    assert_eq!((dnf.rpms(), zypper.rpms()), before, "nothing of them changed");
    assert_eq!((code, &account["close_code"]), (Some(1), &json!("successful_issues")), "{account:#}");
}
