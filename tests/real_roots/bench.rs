//! Runs the binary on a root as a user does, and reads what it left: report, change register, processes, mounts.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use patchloom_bed::Root;
use patchloom_domain::{ChangeRequest, ChangeState, CloseCode};
use patchloom_workers::register::Register;
use serde_json::Value;

/// What one `patchloom patch` came to.
#[derive(Debug)]
pub struct Said {
    /// Its exit code.
    pub code: Option<i32>,
    /// What a person reads.
    pub summary: String,
    /// Its talk on the way.
    pub talk: String,
    /// `report.json`.
    pub report: Value,
}

/// A root and the data directory that belongs to it.
pub struct Bench {
    pub root: Root,
    data: PathBuf,
}

impl Bench {
    pub fn new(root: Root) -> Self {
        let data = root.beside("data");
        Self { root, data }
    }

    fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_patchloom"));
        command.arg("patch").arg("--root").arg(self.root.path()).args(options);
        command.arg("--data-dir").arg(&self.data).arg("--report-dir").arg(self.root.beside("report"));
        command.env_remove("SUDO_USER").stdin(Stdio::null());
        command
    }

    /// Starts `patchloom patch` on the root.
    #[track_caller]
    pub fn start(&self, options: &[&str]) -> Running<'_> {
        // That a report is of this very run must be sure.
        drop(fs::remove_dir_all(self.root.beside("report")));
        let mut command = self.command(options);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let talk = BufReader::new(child.stderr.take().expect("stderr is a pipe"));
        Running { bench: self, child, talk, heard: String::new() }
    }

    /// Runs `patchloom patch` on the root to its end.
    #[track_caller]
    pub fn patch(&self, options: &[&str]) -> Said {
        self.start(options).finish()
    }

    /// The changes in the register, the oldest first.
    #[track_caller]
    pub fn changes(&self) -> Vec<ChangeRequest> {
        let listing = Register::open(&self.data.join("changes")).and_then(|register| register.list()).unwrap();
        assert!(listing.damaged.is_empty(), "{:?}", listing.damaged);
        let mut changes = listing.changes;
        changes.sort_by(|a, b| a.number.cmp(&b.number));
        changes
    }

    /// The newest change, which must be closed so.
    #[track_caller]
    pub fn closed(&self, code: CloseCode) -> ChangeRequest {
        let change = self.changes().pop().expect("a change was opened");
        assert_eq!(change.state, ChangeState::Closed, "{change:#?}");
        assert_eq!(change.closure.as_ref().map(|closure| closure.code), Some(code), "{change:#?}");
        change
    }

    /// Nothing of a run stays behind: no mount in the root, no process in it, no snapshot of it.
    #[track_caller]
    pub fn left_clean(&self) {
        let root = self.root.path().display().to_string();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let inside = format!(" {root}/");
        assert!(!mounts.contains(&inside), "something is still mounted:\n{mounts}");
        for process in fs::read_dir("/proc").unwrap().flatten() {
            let at = fs::read_link(process.path().join("root")).unwrap_or_default();
            assert!(!at.starts_with(&root), "{} is still at work in {root}", process.path().display());
        }
        let snapshots = self.data.join("backups/snapshots");
        let kept: Vec<_> = fs::read_dir(&snapshots).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        assert!(kept.is_empty(), "snapshots are left: {kept:?}");
        let beside = self.root.path().parent().unwrap();
        let aside = fs::read_dir(beside).unwrap().flatten().map(|entry| entry.file_name());
        let known = ["root", "data", "report", "disk", "disk.img", "ballast", "lost+found"];
        let strange: Vec<_> = aside.filter(|name| !known.iter().any(|known| *name == **known)).collect();
        assert!(strange.is_empty(), "left beside the root: {strange:?}");
    }
}

/// A `patchloom patch` at work; killed when it is dropped, or a failed test would leave it there.
pub struct Running<'a> {
    bench: &'a Bench,
    child: Child,
    talk: BufReader<std::process::ChildStderr>,
    heard: String,
}

impl Running<'_> {
    /// Reads its talk up to a line that holds `words`.
    #[track_caller]
    pub fn until(&mut self, words: &str) {
        loop {
            let start = self.heard.len();
            let read = self.talk.read_line(&mut self.heard).expect("its talk is text");
            assert!(read > 0, "it never said '{words}':\n{}", self.heard);
            if self.heard[start..].contains(words) {
                return;
            }
        }
    }

    /// Waits for its end.
    #[track_caller]
    pub fn finish(mut self) -> Said {
        while self.talk.read_line(&mut self.heard).expect("its talk is text") > 0 {}
        let mut summary = String::new();
        let mut stdout = BufReader::new(self.child.stdout.take().expect("stdout is a pipe"));
        while stdout.read_line(&mut summary).expect("its summary is text") > 0 {}
        let code = self.child.wait().unwrap().code();
        let report = fs::read(self.bench.root.beside("report").join("report.json")).ok();
        let report = report.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        Said { code, summary, talk: std::mem::take(&mut self.heard), report }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // Over already is fine.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Said {
    /// Ended with this exit code and this end; all it said goes into the panic where it did not.
    #[track_caller]
    pub fn ended(&self, code: i32, end: &str) -> &Self {
        assert_eq!((self.code, self.report["end"].as_str()), (Some(code), Some(end)), "{self:#}");
        self
    }

    /// The summary for people has these words, wherever its lines break.
    #[track_caller]
    pub fn tells(&self, words: &str) -> &Self {
        let summary = self.summary.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(summary.contains(words), "no '{words}' in\n{self:#}");
        self
    }

    /// One field of each missing patch, by package name.
    #[track_caller]
    pub fn missing(&self, field: &str) -> Vec<(String, String)> {
        let patches = self.report["missing"].as_array().expect("the report lists what is missing");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut rows: Vec<_> = patches.iter().map(|patch| (text(&patch["name"]), text(&patch[field]))).collect();
        rows.sort();
        rows
    }

    /// Failed with this code and was put back, as the report tells.
    #[track_caller]
    pub fn undone_for(&self, cause: &str) -> &Self {
        self.ended(1, "compensated");
        let failure = &self.report["failure"];
        assert_eq!(failure["code"], cause, "{failure:#}");
        assert_eq!(failure["as_before"], true, "{failure:#}");
        let way = failure["way_back"].as_array().expect("there was a way back");
        assert!(!way.is_empty() && way.iter().all(|step| step["state"] == "undone"), "{failure:#}");
        self
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "exit code {:?}\n{}\n{}", self.code, self.talk, self.summary)?;
        write!(f, "{:#}", self.report["failure"])
    }
}
