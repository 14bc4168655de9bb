//! A place for a system of processes behind a NATS server.

use std::collections::BTreeMap;
use std::process::{Command, Output};

use patchloom_bed::Process;
use patchloom_engine::runtime::inspect;

/// A place for a system of processes.
pub struct System {
    pub dir: tempfile::TempDir,
    pub url: String,
}

impl System {
    pub fn new(url: String) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), url }
    }

    pub fn engine(&self, name: &str) -> Process {
        self.stays(name, &["serve", "--nats", &self.url, "--name", name, "--lease", "2s"])
    }

    /// `patchloom ARGS`, as one that stays and has a data directory of its own.
    pub fn stays(&self, name: &str, args: &[&str]) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_patchloom"));
        command.args(args).arg("--data-dir").arg(self.dir.path().join(name));
        Process::start(&mut command, &self.dir.path().join(format!("{name}.log")))
    }

    pub fn call(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_patchloom"))
            .args(args)
            .args(["--nats", &self.url, "--data-dir", self.dir.path().join("person").to_str().unwrap()])
            .output()
            .unwrap()
    }

    #[track_caller]
    pub fn ask(&self, args: &[&str]) -> String {
        let output = self.call(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?} ended with {}:\n{error}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn rows(&self, engine: &str) -> BTreeMap<String, Vec<u8>> {
        inspect(&self.dir.path().join(engine)).unwrap().state.rows().collect()
    }
}
