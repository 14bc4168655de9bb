//! A data directory of its own for each test, and the binary to call on it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A workflow that waits for a person, and gives back what the person says.
pub const WAITER: &str = "
name: waiter
steps:
  first: { set: 1 }
  hold: { needs: [first], wait: { signal: change.approved } }
  last: { needs: [hold], set: \"${{ steps.hold.output }}\" }
output: \"${{ steps.last.output }}\"
";

/// A directory to work in, with a data directory inside that need not exist yet.
pub struct Bed {
    dir: tempfile::TempDir,
}

/// What one call came to.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks the exit code; shows everything where it is another.
    #[track_caller]
    pub fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }

    /// Checks a fault: its exit code, and its code and words on stderr.
    #[track_caller]
    pub fn fault(self, exit: i32, code: &str, words: &[&str]) {
        assert_eq!(self.code, exit, "{self:?}");
        assert!(self.err.contains(&format!("error[{code}]")), "{self:?}");
        for word in words {
            assert!(self.err.contains(word), "no '{word}' in {self:?}");
        }
    }
}

impl Bed {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn file(&self, name: &str, content: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_patchloom"));
        command.args(args).current_dir(self.dir.path()).env("PATCHLOOM_DATA_DIR", self.data());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn run(&self, args: &[&str]) -> Said {
        Said::of(self.command(args).output().unwrap())
    }

    /// Starts a run of [`WAITER`], which then waits; gives its id.
    pub fn waiter(&self) -> String {
        let file = self.file("waiter.yaml", WAITER);
        self.run(&["run", "start", &file]).ends(0).out.trim().to_owned()
    }

    /// Follows a run in a process of its own, up to the moment at which it leads and has said `line`.
    pub fn leader(&self, run: &str, line: &str) -> Leader {
        let mut child = self.command(&["run", "watch", run]).spawn().unwrap();
        let mut err = BufReader::new(child.stderr.take().unwrap());
        let mut seen = String::new();
        while !seen.contains(line) {
            let before = seen.len();
            err.read_line(&mut seen).unwrap();
            assert!(seen.len() > before, "it ended before it said '{line}': {seen}");
        }
        // What it says from here on is read, or it would stop at a full pipe.
        let rest = std::thread::spawn(move || std::io::copy(&mut err, &mut std::io::sink()));
        Leader { child, rest: Some(rest) }
    }
}

/// A process that leads; killed when it is dropped.
pub struct Leader {
    child: Child,
    rest: Option<std::thread::JoinHandle<std::io::Result<u64>>>,
}

impl Leader {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end.
    pub fn code(mut self) -> i32 {
        if let Some(rest) = self.rest.take() {
            rest.join().unwrap().unwrap();
        }
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The only segment of a young journal.
pub fn segment(data: &Path) -> PathBuf {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(data.join("journal")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    assert_eq!(files.len(), 1);
    files.remove(0)
}
