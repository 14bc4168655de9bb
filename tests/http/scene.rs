//! An engine that serves on a data directory of its own, and what its journal has afterwards.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use patchloom_bed::Process;
use patchloom_core::record::{Batch, Event, SEMANTICS};
use patchloom_engine::journal::{EmbeddedJournal, Journal as _, Options, RecordReader as _};

/// Starts a run by each event whose `data.run` is there; others are recorded and start nothing.
pub const NOTED: &str = r#"
name: noted
on: [ { event: { type: com.example.someevent, if: "has(event.data.run)", inputs: { id: "${{ event.id }}" } } } ]
inputs: { id: { type: string, default: none } }
steps:
  note: { set: "${{ inputs.id }}" }
output: "${{ steps.note.output }}"
"#;

pub fn patchloom(args: &[&str], data: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_patchloom")).args(args).arg("--data-dir").arg(data).output().unwrap()
}

#[track_caller]
pub fn patchloom_says(args: &[&str], data: &Path) -> String {
    let output = patchloom(args, data);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub struct Scene {
    pub dir: tempfile::TempDir,
}

impl Scene {
    /// A data directory in which `noted` is known.
    pub fn new() -> Self {
        let scene = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::write(scene.path("noted.yaml"), NOTED).unwrap();
        patchloom_says(&["run", "start", scene.path("noted.yaml").to_str().unwrap()], &scene.data());
        scene
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// `patchloom serve` on the directory, on a port that is free; gives its address too.
    pub fn serve(&self, args: &[&str]) -> (Process, String) {
        self.serve_in("data", args)
    }

    pub fn serve_in(&self, name: &str, args: &[&str]) -> (Process, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_patchloom"));
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(args).arg("--data-dir").arg(self.path(name));
        let log = self.path(&format!("{name}.log"));
        let before = std::fs::read_to_string(&log).unwrap_or_default().matches("Listens on").count();
        let mut process = Process::start(&mut command, &log);
        process.says("Listens on", before + 1);
        let said = process.said();
        let line = said.lines().rfind(|line| line.contains("Listens on")).unwrap();
        let addr = line.rsplit("://").next().unwrap().trim_end_matches('.').to_owned();
        (process, addr)
    }

    /// How often the journal has each event that came over HTTP.
    pub fn recorded(&self, name: &str) -> BTreeMap<(String, String), u32> {
        let dir = self.path(name).join("journal");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (journal, _) = EmbeddedJournal::open(&dir, Options::new(SEMANTICS)).unwrap();
            let mut reader = journal.read_from(1).await.unwrap();
            let mut found = BTreeMap::new();
            while let Some(record) = reader.next().await.unwrap() {
                let batch: Batch = serde_json::from_slice(&record.payload).unwrap();
                for entry in batch.entries {
                    if let Event::EventReceived { event } = entry.event {
                        assert_eq!(&*entry.by, "http");
                        *found.entry((event.source.clone(), event.id.clone())).or_default() += 1;
                    }
                }
            }
            found
        })
    }
}

/// The most memory that a process ever had, in KiB.
pub fn memory_kib(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
