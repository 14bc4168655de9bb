//! One virtual machine, and the binary that patches it over SSH as a user does.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use patchloom_bed::Vm;
use serde_json::Value;

/// An emulated machine on a busy one: what takes two minutes was seen to take nine.
const LIMIT: Duration = Duration::from_secs(1500);
const LOOK_EVERY: Duration = Duration::from_millis(250);

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

/// A machine and the data directory of whoever patches it.
pub struct Bench {
    pub vm: Vm,
    pub binary: PathBuf,
}

/// A `patchloom patch` at work; killed with -9 when it is dropped.
pub struct Running<'a> {
    bench: &'a Bench,
    child: Child,
}

impl Bench {
    pub fn new(spare_mib: u64) -> Self {
        let vm = Vm::start(spare_mib);
        Self { vm, binary: patchloom_bed::lean(env!("CARGO_BIN_EXE_patchloom")) }
    }

    #[track_caller]
    pub fn start(&self, options: &[&str]) -> Running<'_> {
        drop(fs::remove_dir_all(self.vm.beside("report")));
        let mut command = Command::new(&self.binary);
        let host = format!("root@127.0.0.1:{}", self.vm.port());
        command.args(["patch", "--ssh", &host, "--ssh-timeout", "120", "--apply", "--yes"]);
        command.arg("--data-dir").arg(self.vm.beside("data"));
        command.arg("--report-dir").arg(self.vm.beside("report"));
        command.arg("--ssh-identity").arg(self.vm.client_key()).arg("--known-hosts").arg(self.vm.known_hosts());
        let file = |name: &str| fs::File::create(self.vm.beside(name)).unwrap();
        command.args(options).stdin(Stdio::null()).stdout(file("summary")).stderr(file("talk"));
        Running { bench: self, child: command.env_remove("SUDO_USER").spawn().expect("the binary starts") }
    }

    #[track_caller]
    pub fn patch(&self, options: &[&str]) -> Said {
        self.start(options).finish()
    }

    /// What the changes of this data directory say, one note a line.
    pub fn notes(&self) -> String {
        let register = patchloom_workers::register::Register::open(&self.vm.beside("data").join("changes")).unwrap();
        let changes = register.list().unwrap().changes;
        changes.iter().flat_map(|change| &change.notes).map(|note| format!("{}\n", note.text)).collect()
    }

    /// Every package that its dpkg knows of: name to `VERSION STATUS`.
    #[track_caller]
    pub fn packages(&self) -> BTreeMap<String, String> {
        let rows = self.vm.say("dpkg-query -W -f '${Package}\\t${Version} ${db:Status-Abbrev}\\n'");
        let row = |line: &str| line.split_once('\t').map(|(name, rest)| (name.to_owned(), rest.trim_end().to_owned()));
        rows.lines().filter_map(row).collect()
    }

    /// Offers one more of the repositories that lie below /srv.
    #[track_caller]
    pub fn offer(&self, repository: &str) {
        self.vm.say(&format!(
            "echo 'deb [trusted=yes] file:/srv/{repository} ./' >>/etc/apt/sources.list && apt-get -qq update"
        ));
    }

    /// Waits until a line of shell in the machine succeeds.
    #[track_caller]
    pub fn wait(&self, what: &str, line: &str) {
        let end = Instant::now() + LIMIT;
        while !self.vm.ssh(line).status.success() {
            assert!(Instant::now() < end, "never: {what}\n{}", self.vm.console());
            std::thread::sleep(LOOK_EVERY);
        }
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
            std::thread::sleep(LOOK_EVERY);
        };
        let report = fs::read(self.bench.vm.beside("report").join("report.json")).ok();
        let report = report.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        Said { code, summary: self.read("summary"), talk: self.read("talk"), report }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.bench.vm.beside(name)).unwrap_or_default()
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // Over already is fine.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
