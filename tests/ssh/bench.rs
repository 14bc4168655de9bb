//! One real host over SSH, the binary that patches it as a user does, and a gate that holds its installs.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use patchloom_bed::fleet::{Fleet, FleetOptions};
use serde_json::Value;

/// More than anything takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);

/// What one `patchloom patch` came to.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub summary: String,
    pub talk: String,
    pub report: Value,
}

impl Said {
    /// Its exit code and how its run ended.
    pub fn ended(&self) -> (Option<i32>, String) {
        (self.code, self.report["end"].as_str().unwrap_or_default().to_owned())
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "exit code {:?}\n{}\n{}", self.code, self.talk, self.summary)?;
        write!(f, "{:#}", self.report["failure"])
    }
}

/// A host and the data directory of whoever patches it.
pub struct Bench {
    pub fleet: Fleet,
    user: &'static str,
}

/// A `patchloom patch` at work; killed with -9 when it is dropped.
pub struct Running<'a> {
    bench: &'a Bench,
    child: Child,
}

impl Bench {
    pub fn new(user: &'static str) -> Self {
        let bench = Self::of(user, 1);
        let updated = bench.fleet.host("host-1").inside("apt-get -q update");
        assert!(updated.status.success(), "{}", String::from_utf8_lossy(&updated.stderr));
        bench
    }

    /// So many hosts, whose lists are as they were made.
    pub fn of(user: &'static str, hosts: usize) -> Self {
        let fleet = Fleet::start(FleetOptions { sites: vec![hosts], ..FleetOptions::default() });
        Self { fleet, user }
    }

    /// Runs another command of patchloom with the key and the known hosts of the fleet: its exit code, stdout and stderr.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(patchloom_bed::lean(env!("CARGO_BIN_EXE_patchloom")));
        command.args(words).arg("--data-dir").arg(self.fleet.beside("data"));
        command.env("PATCHLOOM_SSH_IDENTITY", self.fleet.client_key()).env("PATCHLOOM_SSH_TIMEOUT", "5");
        command.env("PATCHLOOM_KNOWN_HOSTS", self.fleet.known_hosts()).env_remove("SUDO_USER").stdin(Stdio::null());
        let output = command.output().expect("the binary starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    pub fn address(&self) -> String {
        self.fleet.host("host-1").address().to_string()
    }

    /// The package set of the host once all that waits is installed.
    #[track_caller]
    pub fn wanted(&self) -> BTreeMap<String, String> {
        let mut wanted = self.fleet.packages("host-1");
        for pair in self.fleet.pairs() {
            let row = wanted.iter_mut().find(|(name, _)| name.split(':').next() == Some(pair.name.as_str()));
            *row.expect("what waits is installed in its former version").1 = format!("{} ii", pair.new);
        }
        wanted
    }

    #[track_caller]
    pub fn start(&self, options: &[&str]) -> Running<'_> {
        self.start_on(&self.address(), options)
    }

    /// As [`start`](Self::start), on a host at another address.
    #[track_caller]
    pub fn start_on(&self, address: &str, options: &[&str]) -> Running<'_> {
        drop(fs::remove_dir_all(self.fleet.beside("report")));
        let mut command = Command::new(patchloom_bed::lean(env!("CARGO_BIN_EXE_patchloom")));
        let host = format!("{}@{address}", self.user);
        command.args(["patch", "--ssh", &host]).arg("--data-dir").arg(self.fleet.beside("data"));
        command.arg("--report-dir").arg(self.fleet.beside("report"));
        for (option, path) in [("--ssh-identity", self.fleet.client_key()), ("--known-hosts", self.fleet.known_hosts())]
        {
            if !options.contains(&option) {
                command.arg(option).arg(path);
            }
        }
        let file = |name: &str| fs::File::create(self.fleet.beside(name)).unwrap();
        command.args(options).stdin(Stdio::null()).stdout(file("summary")).stderr(file("talk"));
        Running { bench: self, child: command.env_remove("SUDO_USER").spawn().expect("the binary starts") }
    }

    #[track_caller]
    pub fn patch(&self, options: &[&str]) -> Said {
        self.start(options).finish()
    }

    /// What a line of shell prints on the host; not over the network.
    #[track_caller]
    pub fn on_host(&self, line: &str) -> String {
        let output = self.fleet.host("host-1").inside(line);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    #[track_caller]
    pub fn await_on_host(&self, what: &str, line: &str) {
        let end = Instant::now() + LIMIT;
        while !self.fleet.host("host-1").inside(line).status.success() {
            assert!(Instant::now() < end, "never: {what}\n{}", self.on_host("tail -n 20 /var/lib/patchloom/tasks/*/*"));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// From now on each apt waits before it calls dpkg.
    #[track_caller]
    pub fn gate(&self) {
        let hook = "DPkg::Pre-Invoke { \"touch /srv/reached; while [ -e /srv/shut ]; do sleep 0.1; done\"; };\n";
        let root = self.fleet.host("host-1").root();
        fs::write(root.join("srv/shut"), "").unwrap();
        fs::write(root.join("etc/apt/apt.conf.d/99gate"), hook).unwrap();
    }

    #[track_caller]
    pub fn await_gate(&self) {
        self.await_on_host("apt is at the gate", "test -e /srv/reached");
    }

    #[track_caller]
    pub fn open_gate(&self) {
        fs::remove_file(self.fleet.host("host-1").root().join("srv/shut")).unwrap();
    }

    /// How many upgrades dpkg logged since the host was made.
    #[track_caller]
    pub fn upgrades(&self) -> usize {
        let log = fs::read_to_string(self.fleet.host("host-1").root().join("var/log/dpkg.log")).unwrap_or_default();
        let pairs = self.fleet.pairs();
        log.lines()
            .filter(|line| line.split(' ').nth(2) == Some("upgrade"))
            .filter(|line| pairs.iter().any(|pair| line.ends_with(&format!(" {} {}", pair.old, pair.new))))
            .count()
    }

    /// No process of ours stays on the host.
    #[track_caller]
    pub fn nothing_runs(&self) {
        assert_eq!(self.on_host("pgrep -fa '[h]ost run'"), "");
    }

    /// A key that nobody knows: the path of its private part, and its public part.
    #[track_caller]
    pub fn new_key(&self, name: &str) -> (String, String) {
        let path = self.fleet.beside(name);
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path).status();
        assert!(made.is_ok_and(|status| status.success()));
        let public = fs::read_to_string(path.with_extension("pub")).unwrap();
        (path.display().to_string(), public)
    }
}

impl Running<'_> {
    /// Waits for its end.
    #[track_caller]
    pub fn finish(mut self) -> Said {
        let end = Instant::now() + LIMIT;
        let code = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status.code();
            }
            assert!(Instant::now() < end, "it does not end:\n{}", self.read("talk"));
            std::thread::sleep(Duration::from_millis(50));
        };
        let report = fs::read(self.bench.fleet.beside("report").join("report.json")).ok();
        let report = report.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        Said { code, summary: self.read("summary"), talk: self.read("talk"), report }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.bench.fleet.beside(name)).unwrap_or_default()
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // Over already is fine.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
