//! Engines and workers as processes of their own behind a real NATS server, and the same command line on them.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use patchloom_bed::Root;
use patchloom_bed::nats::{Options, Server, left_out};
use patchloom_engine::runtime::inspect;

/// More than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A process of ours that stays until it is told otherwise.
struct Stays {
    child: Child,
    log: PathBuf,
}

impl Stays {
    fn start(dir: &Path, name: &str, args: &[&str]) -> Self {
        let log = dir.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_patchloom"))
            .args(args)
            .args(["--data-dir", dir.join(name).to_str().unwrap()])
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Self { child, log }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has said this so many times, in all its lives.
    #[track_caller]
    fn says(&mut self, what: &str, times: usize) {
        let end = Instant::now() + LIMIT;
        while self.said().matches(what).count() < times {
            let left = self.child.try_wait().unwrap();
            assert!(left.is_none(), "it ended with {left:?} before it said {what:?}:\n{}", self.said());
            assert!(Instant::now() < end, "it does not say {what:?}:\n{}", self.said());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and waits.
    #[track_caller]
    fn stop(&mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "{status}:\n{}", self.said());
                return;
            }
            assert!(Instant::now() < end, "it does not stop:\n{}", self.said());
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Stays {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A place for a system of processes.
struct System {
    dir: tempfile::TempDir,
    url: String,
}

impl System {
    fn new(url: String) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), url }
    }

    fn engine(&self, name: &str) -> Stays {
        Stays::start(self.dir.path(), name, &["serve", "--nats", &self.url, "--name", name, "--lease", "2s"])
    }

    fn call(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_patchloom"))
            .args(args)
            .args(["--nats", &self.url, "--data-dir", self.dir.path().join("person").to_str().unwrap()])
            .output()
            .unwrap()
    }

    #[track_caller]
    fn ask(&self, args: &[&str]) -> String {
        let output = self.call(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?} ended with {}:\n{error}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    fn rows(&self, engine: &str) -> BTreeMap<String, Vec<u8>> {
        inspect(&self.dir.path().join(engine)).unwrap().state.rows().collect()
    }
}

const PATIENCE: &str = r#"
name: patience
steps:
  first: { wait: { for: 1s } }
  go: { needs: first, wait: { signal: go } }
  last: { needs: go, wait: { for: 1s } }
"#;

#[test]
fn engines_take_over_from_each_other_and_the_command_line_finds_the_one_that_leads() {
    if left_out() {
        return;
    }
    let server = Server::start(Options::default());
    let system = System::new(server.url());
    let file = system.dir.path().join("patience.yaml");
    std::fs::write(&file, PATIENCE).unwrap();
    let mut a = system.engine("a");
    a.says("Leads main.", 1);
    let mut b = system.engine("b");
    b.says("Follows main.", 1);

    let id = system.ask(&["run", "start", file.to_str().unwrap(), "--label", "why=test"]).trim().to_owned();
    let listed = system.ask(&["run", "list", "--label", "why=test"]);
    assert!(listed.contains(&id[..8]), "{listed}");
    a.kill9();
    let signalled = system.ask(&["run", "signal", &id, "go"]);
    assert!(signalled.contains("succeeded"), "{signalled}");
    b.says("Leads main.", 1);
    let why = system.ask(&["run", "show", &id, "--json"]);
    assert!(why.contains("\"succeeded\""), "{why}");

    // The one that was killed comes back and follows; then it is its turn again.
    let mut a = system.engine("a");
    a.says("Follows main.", 1);
    let second = system.ask(&["run", "start", file.to_str().unwrap()]).trim().to_owned();
    b.stop();
    a.says("Leads main.", 2);
    assert!(system.ask(&["run", "signal", &second, "go"]).contains("succeeded"));
    let mut b = system.engine("b");
    b.says("Follows main.", 2);
    a.stop();
    b.says("Leads main.", 2);
    b.stop();

    // a stopped before b opened its last term: a term changes nothing in the state.
    assert_eq!(system.rows("a"), system.rows("b"), "two engines, one state");
    for engine in ["a", "b"] {
        let dir = system.dir.path().join(engine);
        let verified = Command::new(env!("CARGO_BIN_EXE_patchloom"))
            .args(["journal", "verify", "--data-dir", dir.to_str().unwrap()])
            .output()
            .unwrap();
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
        let inspected = inspect(&dir).unwrap();
        for id in [&id, &second] {
            let run = inspected.run(id.parse().unwrap()).unwrap();
            assert!(run.is_some(), "{engine} has lost run {id}");
        }
    }
}

#[test]
fn a_worker_elsewhere_does_the_tasks_of_the_lifecycle() {
    if left_out() || patchloom_bed::left_out() {
        return;
    }
    let server = Server::start(Options::default());
    let system = System::new(server.url());
    let root = Root::mini();
    let mut engine = system.engine("a");
    engine.says("Leads main.", 1);
    let mut worker =
        Stays::start(system.dir.path(), "w", &["worker", "--nats", &system.url, "--name", "w", "--label", "site=here"]);
    worker.says("serves default", 1);
    let target = format!("target={{\"kind\":\"root\",\"path\":\"{}\"}}", root.path().display());
    let report = system.ask(&[
        "run",
        "start",
        "patch-lifecycle",
        "--input",
        &target,
        "--input",
        "mode=observe",
        "--input",
        "offline=false",
        "--wait",
    ]);
    assert!(report.contains("succeeded"), "{report}");
    worker.stop();
    engine.stop();
}

#[test]
fn engines_whose_server_is_gone_stop_when_they_are_asked_to() {
    if left_out() {
        return;
    }
    let mut server = Server::start(Options::default());
    let system = System::new(server.url());
    let mut a = system.engine("a");
    a.says("Leads main.", 1);
    let mut b = system.engine("b");
    b.says("Follows main.", 1);
    server.kill9();
    b.stop();
    a.stop();
}

#[test]
fn a_journal_moves_into_nats_and_back_with_all_its_links() {
    if left_out() {
        return;
    }
    let server = Server::start(Options::default());
    let system = System::new(server.url());
    let file = system.dir.path().join("patience.yaml");
    std::fs::write(&file, PATIENCE).unwrap();
    let alone = |args: &[&str], dir: &str| {
        let dir = system.dir.path().join(dir);
        let output = Command::new(env!("CARGO_BIN_EXE_patchloom"))
            .args(args)
            .args(["--data-dir", dir.to_str().unwrap()])
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, id, error) = alone(&["run", "start", file.to_str().unwrap()], "a");
    assert_eq!(code, Some(0), "{error}");
    let id = id.trim();

    let (code, said, error) = alone(&["journal", "move", "--to", "nats", "--nats", &system.url], "a");
    assert_eq!(code, Some(0), "{error}");
    let before = alone(&["journal", "verify"], "a").1;
    let link = before.trim().rsplit(' ').next().unwrap();
    assert!(said.contains(link), "{said} does not end with the link of {before}");
    let mut engine = system.engine("a");
    engine.says("Leads main.", 1);
    assert!(system.ask(&["run", "signal", id, "go"]).contains("succeeded"));
    let back = ["journal", "move", "--to", "dir", "--nats", &system.url];
    let (code, _, error) = alone(&back, "c");
    assert_eq!(code, Some(3), "{error}");
    assert!(error.contains("E0650"), "{error}");
    engine.stop();
    let (code, _, error) = alone(&back, "c");
    assert_eq!(code, Some(0), "{error}");
    let verified = alone(&["journal", "verify"], "c");
    assert_eq!((verified.0, &verified.1), (Some(0), &alone(&["journal", "verify"], "a").1), "the same links");
    assert!(alone(&["run", "show", id], "c").1.contains("succeeded"));
}

#[test]
fn a_server_that_is_not_there_is_told_in_a_sentence() {
    let system = System::new("nats://127.0.0.1:1".to_owned());
    let output = system.call(&["run", "list"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(error.contains("E0640") && error.contains("127.0.0.1:1"), "{error}");
}
