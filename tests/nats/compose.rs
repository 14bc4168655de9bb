//! The topology of docker-compose.yml, as processes in namespaces of their own: keys, TLS, synchronous writes, three replicas.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use patchloom_bed::Process;
use patchloom_bed::nats::left_out;
use patchloom_engine::runtime::inspect;

const WAITS: &str = "
name: waits
steps:
  first: { wait: { signal: go } }
  last: { needs: first, wait: { for: 1s } }
";

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What the script does for each service, in short.
const TRY: &str = "ip link add br0 type bridge && ip link add v0 type veth peer name v1 && mkdir $0/u $0/w $0/r && \
                   mount -t overlay -o lowerdir=/,upperdir=$0/u,workdir=$0/w overlay $0/r";

/// Whether this machine lets a process have a network and mounts of its own.
fn has_namespaces() -> bool {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "sh", "-c", TRY]).arg(dir.path());
    let works = command.output().is_ok_and(|tried| tried.status.success());
    if !works {
        eprintln!("left out: this test needs namespaces, bridges and overlays, which this machine does not allow");
    }
    works
}

struct Topology {
    dir: tempfile::TempDir,
    process: Process,
}

impl Topology {
    #[track_caller]
    fn up() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("python3");
        command
            .arg(project("tests/lab/compose.py"))
            .arg("up")
            .arg(project("docker-compose.yml"))
            .arg(dir.path().join("x"));
        let program = |name: &str, path: &Path| format!("{name}={}", path.display());
        command.args(["--program", &program("patchloom", Path::new(env!("CARGO_BIN_EXE_patchloom")))]);
        command.args(["--program", &program("nats-server", &patchloom_bed::nats::binary_path())]);
        // Its program is another's, and what it asks for is asked for here.
        command.args(["--leave-out", "prometheus"]);
        let mut process = Process::start(&mut command, &dir.path().join("log"));
        process.says("all services are up", 1);
        Self { dir, process }
    }

    fn place(&self) -> PathBuf {
        self.dir.path().join("x")
    }

    #[track_caller]
    fn compose(&self, word: &str, rest: &[&str]) -> Output {
        let script = project("tests/lab/compose.py");
        Command::new("python3").arg(script).arg(word).arg(self.place()).args(rest).output().unwrap()
    }

    #[track_caller]
    fn order(&self, word: &str, service: &str) {
        let done = self.compose(word, &[service]);
        assert!(done.status.success(), "{word} {service}: {}", String::from_utf8_lossy(&done.stderr));
    }

    #[track_caller]
    fn ask(&self, service: &str, words: &[&str]) -> String {
        let line: Vec<&str> = [service].iter().chain(words).copied().collect();
        let done = self.compose("exec", &line);
        let error = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{line:?} ended with {}:\n{error}\n{}", done.status, self.logs());
        String::from_utf8(done.stdout).unwrap()
    }

    fn log(&self, service: &str) -> String {
        std::fs::read_to_string(self.place().join("services").join(service).join("log")).unwrap_or_default()
    }

    fn logs(&self) -> String {
        ["engine-a", "engine-b"].map(|engine| format!("{engine}:\n{}", self.log(engine))).concat()
    }

    /// The data directory of a service, as this side sees it.
    fn volume(&self, service: &str) -> PathBuf {
        self.place().join("volumes").join(service)
    }
}

#[test]
fn the_topology_of_the_compose_file_outlives_a_server_and_the_leader() {
    if left_out() || !has_namespaces() {
        return;
    }
    let mut topology = Topology::up();
    let leads = |engine: &str| topology.log(engine).contains("Leads main.");
    let end = Instant::now() + Duration::from_secs(60);
    // Healthy are those that follow, too.
    while !leads("engine-a") && !leads("engine-b") {
        assert!(Instant::now() < end, "nobody leads:\n{}", topology.logs());
        std::thread::sleep(Duration::from_millis(50));
    }
    let (leader, other) = if leads("engine-a") { ("engine-a", "engine-b") } else { ("engine-b", "engine-a") };
    assert!(!leads(other), "{}", topology.logs());
    assert!(topology.log(leader).contains("strict: every server flushes"), "{}", topology.logs());
    std::fs::write(topology.volume(other).join("waits.yaml"), WAITS).unwrap();
    let person = ["--data-dir", "/tmp/person"];
    let patchloom = |words: &[&str]| {
        let line: Vec<&str> = ["patchloom"].iter().chain(words).chain(&person).copied().collect();
        topology.ask(other, &line)
    };
    let run = patchloom(&["run", "start", "/var/lib/patchloom/waits.yaml"]).trim().to_owned();

    topology.order("kill", "nats-1");
    topology.order("kill", leader);
    assert!(patchloom(&["run", "signal", &run, "go"]).contains("succeeded"), "{}", topology.logs());
    assert!(leads(other), "{}", topology.logs());
    let ready = ["curl", "-fsS", "http://127.0.0.1:8780/readyz", "-H", "@/nats/http.header"];
    assert!(topology.ask(other, &ready).contains("leading"), "the one that is left says that it leads");

    topology.order("start", "nats-1");
    topology.order("start", leader);
    let event = r#"{"specversion":"1.0","id":"1","source":"/test","type":"com.example.nothing"}"#;
    let post = [
        "sh",
        "-c",
        "until curl -fsS http://127.0.0.1:8780/events -H @/nats/http.header \
                 -H 'Content-Type: application/cloudevents+json' -d \"$0\"; do sleep 0.2; done",
        event,
    ];
    assert!(topology.ask(leader, &post).contains("unwanted"), "an engine that follows takes events too");
    let metrics = ["curl", "-fsS", "http://127.0.0.1:8780/metrics", "-H", "@/nats/http.header"];
    assert!(topology.ask(other, &metrics).contains("patchloom_"), "Prometheus is answered");
    topology.process.stop();
    let rows =
        |engine: &str| -> Vec<(String, Vec<u8>)> { inspect(&topology.volume(engine)).unwrap().state.rows().collect() };
    assert_eq!(rows(leader), rows(other), "two engines, one state");
}
