//! A fleet of real hosts, its inventory as a user writes it, and the campaigns that a user runs on it from a command line.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use patchloom_bed::fleet::{Fleet, FleetOptions};
use serde_json::Value;

/// More than anything takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(540);

type Packages = BTreeMap<String, String>;

/// The fleet, and whoever patches it.
pub struct Staff {
    pub fleet: Fleet,
}

/// A `patchloom campaign run` at work; killed with -9 when it is dropped.
pub struct Campaign<'a> {
    staff: &'a Staff,
    child: Child,
}

/// What it came to.
pub struct Said {
    pub code: Option<i32>,
    pub account: Value,
    pub talk: String,
}

impl Said {
    /// One word for what became of a host.
    pub fn outcome(&self, host: &str) -> &str {
        self.row(host)["outcome"].as_str().unwrap_or_default()
    }

    /// What a person is told of it.
    pub fn text(&self, host: &str) -> &str {
        self.row(host)["text"].as_str().unwrap_or_default()
    }

    /// What it lacks and does not get now: package and reason.
    pub fn not_now(&self, host: &str) -> Vec<(&str, &str)> {
        let rows = self.row(host)["not_now"].as_array().expect("a list");
        rows.iter().filter_map(|row| row["package"].as_str().zip(row["reason"].as_str())).collect()
    }

    fn row(&self, host: &str) -> &Value {
        let rows = self.account["hosts"].as_array().unwrap_or_else(|| panic!("no account:\n{}", self.talk));
        rows.iter().find(|row| row["host"] == host).unwrap_or_else(|| panic!("{host} is not told of: {self}"))
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {:?}\n{}\n{:#}", self.code, self.talk, self.account)
    }
}

impl Staff {
    pub fn new(sites: &[usize]) -> Self {
        let options = FleetOptions { sites: sites.to_vec(), own_packages: true, ..FleetOptions::default() };
        Self { fleet: Fleet::start(options) }
    }

    /// Writes the inventory: the first host is for development, the second for tests, all others are production.
    pub fn write_inventory(&self) {
        self.write_hosts(|at, site| {
            let environment = ["dev", "test"].get(at).unwrap_or(&"prod");
            format!("    environment: {environment}\n    site: {site}\n")
        });
    }

    /// Writes an inventory of hosts that are all alike, but for their relays.
    pub fn write_relays(&self) {
        self.write_hosts(|_, _| "    environment: prod\n".to_owned());
    }

    fn write_hosts(&self, more: impl Fn(usize, &str) -> String) {
        let mut text = "hosts:\n".to_owned();
        for (at, host) in self.fleet.hosts().iter().enumerate() {
            let (name, site, address) = (host.name(), host.site(), host.address());
            text.push_str(&format!(
                "  - id: {name}\n    target: {{ kind: ssh, host: {address}, user: root }}\n    relay: relay of {site}\n{}",
                more(at, site)
            ));
        }
        fs::write(self.fleet.beside("hosts.yaml"), text).unwrap();
    }

    /// Fetches the lists on every host.
    pub fn refresh(&self) {
        for host in self.fleet.hosts() {
            assert!(host.inside("apt-get -q update").status.success());
        }
    }

    /// Runs a command of patchloom to its end: whether it went well, and what it printed.
    pub fn run(&self, words: &[&str]) -> (bool, String) {
        let output = self.patchloom().args(words).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.success(), said)
    }

    /// What every host has, read from outside.
    pub fn packages(&self) -> BTreeMap<String, Packages> {
        self.fleet.hosts().iter().map(|host| (host.name().to_owned(), self.fleet.packages(host.name()))).collect()
    }

    /// What a host has once all that waits is installed.
    pub fn patched(&self, before: &Packages) -> Packages {
        let mut wanted = before.clone();
        let real = self.fleet.pairs().into_iter().map(|pair| (pair.name, pair.new));
        let own = ["loom-lib", "loom-app", "loom-conf", "loom-many", "loom-slow"]
            .map(|name| (name.to_owned(), "1.1".to_owned()));
        for (name, version) in real.chain(own) {
            let row = wanted.iter_mut().find(|(known, _)| known.split(':').next() == Some(name.as_str()));
            *row.unwrap_or_else(|| panic!("{name} is not installed in its former version")).1 = format!("{version} ii");
        }
        wanted
    }

    fn patchloom(&self) -> Command {
        let mut command = Command::new(patchloom_bed::lean(env!("CARGO_BIN_EXE_patchloom")));
        command.arg("--data-dir").arg(self.fleet.beside("data")).stdin(Stdio::null()).env_remove("SUDO_USER");
        command
    }

    pub fn start(&self, options: &[&str]) -> Campaign<'_> {
        let reboot: &[&str] = if options.contains(&"--reboot") { &[] } else { &["--reboot", "never"] };
        self.campaign(&[&["--apply", "--undo", "packages", "--soak", "0s"], reboot, options].concat())
    }

    /// Looks what a campaign would do, and changes nothing.
    pub fn observe(&self, options: &[&str]) -> Said {
        self.campaign(options).finish()
    }

    fn campaign(&self, options: &[&str]) -> Campaign<'_> {
        let mut command = self.patchloom();
        command.args(["campaign", "run", "--json"]);
        command.arg("--inventory").arg(self.fleet.beside("hosts.yaml"));
        command.arg("--ssh-identity").arg(self.fleet.client_key()).arg("--known-hosts").arg(self.fleet.known_hosts());
        let file = |name: &str| fs::File::create(self.fleet.beside(name)).unwrap();
        command.args(options).stdout(file("account")).stderr(file("talk"));
        Campaign { staff: self, child: command.spawn().expect("the binary starts") }
    }

    /// The only change there is, as it stands in the register.
    pub fn change(&self) -> Value {
        let output = self.patchloom().args(["change", "show", "CHG0000001", "--json"]).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// Approves the change once it waits for that; another person at another terminal, for whoever asked may not.
    pub fn approve(&self, campaign: &mut Campaign<'_>) {
        campaign.until("the change waits for approval", |talk| talk.contains("waits for approval"));
        let approve = |who: Option<&str>| {
            let mut command = self.patchloom();
            command.env_remove("SUDO_USER").args(["change", "approve", "CHG0000001", "--comment", "go"]);
            who.into_iter().fold(&mut command, |command, who| command.env("SUDO_USER", who)).output().unwrap()
        };
        let own = approve(None);
        let said = String::from_utf8_lossy(&own.stderr);
        assert!(own.status.code() == Some(1) && said.contains("E0602"), "{:?}: {said}", own.status);
        let output = approve(Some("ann"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Waits until the change says something.
    pub fn await_change(&self, what: &str, is: impl Fn(&Value) -> bool) {
        let end = Instant::now() + LIMIT;
        while !is(&self.change()) {
            assert!(Instant::now() < end, "never: {what}\n{:#}", self.change());
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Campaign<'_> {
    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.staff.fleet.beside(name)).unwrap_or_default()
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of ours")
    }

    /// Waits until its talk says something.
    pub fn until(&mut self, what: &str, is: impl Fn(&str) -> bool) {
        let end = Instant::now() + LIMIT;
        while !is(&self.read("talk")) {
            let left = self.ended();
            assert!(
                left.is_none(),
                "it ended with {left:?} before {what}:\n{}\n{}",
                self.read("talk"),
                self.read("account")
            );
            assert!(Instant::now() < end, "never: {what}\n{}", self.read("talk"));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    pub fn kill9(mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("it can be killed");
    }

    pub fn finish(mut self) -> Said {
        let end = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = self.ended() {
                break status;
            }
            assert!(Instant::now() < end, "it does not end:\n{}\n{:#}", self.read("talk"), self.staff.change());
            std::thread::sleep(Duration::from_millis(100));
        };
        let account = serde_json::from_str(&self.read("account")).unwrap_or(Value::Null);
        Said { code: status.code(), account, talk: self.read("talk") }
    }
}

impl Drop for Campaign<'_> {
    fn drop(&mut self) {
        // Over already where it was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
