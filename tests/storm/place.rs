//! A system of processes: NATS servers, engines that each have lines and a small disk of their own, workers.

use std::path::{Path, PathBuf};
use std::process::Command;

use patchloom_bed::nats::{Cluster, Options, Proxy, Server};
use patchloom_bed::{Process, SmallDisk};

use crate::worker::Orders;

/// How long the lease of the engines lasts.
pub const LEASE: &str = "2s";
const ENGINE_DISK_MIB: u32 = 192;
const NODE_DISK_MIB: u32 = 256;

/// One server, or several that are one.
pub enum Nodes {
    One(Box<Server>),
    Many(Cluster),
}

impl Nodes {
    pub fn count(&self) -> usize {
        self.urls().len()
    }

    pub fn urls(&self) -> Vec<String> {
        match self {
            Self::One(server) => vec![server.url()],
            Self::Many(cluster) => cluster.urls(),
        }
    }

    pub fn at(&mut self, at: usize) -> &mut Server {
        match self {
            Self::One(server) => server,
            Self::Many(cluster) => cluster.member(at),
        }
    }

    pub fn await_ready(&mut self) {
        match self {
            Self::One(server) => server.await_ready(),
            Self::Many(cluster) => cluster.await_ready(),
        }
    }
}

/// How large a place is.
#[derive(Clone, Copy)]
pub struct Size {
    pub nodes: usize,
    pub engines: usize,
    pub workers: usize,
}

/// An engine, its lines to the servers and its disk.
pub struct Engine {
    // The process goes before what it stands on.
    pub process: Process,
    pub lines: Vec<Proxy>,
    pub disk: Option<SmallDisk>,
    pub name: String,
    /// It was killed, and is not to be started anew yet.
    down: bool,
    home: PathBuf,
    replicas: usize,
}

impl Engine {
    fn start(name: String, urls: &[String], home: PathBuf) -> Self {
        let lines: Vec<Proxy> = urls.iter().map(|url| Proxy::start(url)).collect();
        let disk = SmallDisk::mount(&home, ENGINE_DISK_MIB);
        std::fs::create_dir_all(&home).unwrap();
        let process = run(&name, &lines, &home, lines.len());
        Self { name, replicas: lines.len(), lines, process, disk, down: false, home }
    }

    pub fn data(&self) -> PathBuf {
        data(&self.home)
    }

    /// SIGKILL; it stays down until it is started again.
    pub fn kill(&mut self) {
        self.down = true;
        self.process.kill9();
    }

    /// Starts it again; it has ended.
    pub fn restart(&mut self) {
        self.down = false;
        self.process = run(&self.name, &self.lines, &self.home, self.replicas);
    }
}

fn data(home: &Path) -> PathBuf {
    home.join("data")
}

fn run(name: &str, lines: &[Proxy], home: &Path, replicas: usize) -> Process {
    let urls: Vec<String> = lines.iter().map(Proxy::url).collect();
    let mut command = Command::new(env!("CARGO_BIN_EXE_patchloom"));
    command
        .args(["serve", "--nats", &urls.join(","), "--name", name, "--lease", LEASE])
        .args(["--replicas", &replicas.to_string(), "--data-dir"])
        .arg(data(home));
    // Beside its disk, which may be full.
    Process::start(&mut command, &home.with_extension("log"))
}

/// A worker and what it is told.
pub struct Worker {
    pub process: Process,
    orders: Orders,
}

impl Worker {
    pub fn restart(&mut self) {
        self.process = self.orders.start();
    }
}

/// All of it.
pub struct Place {
    // In the order in which they are to go.
    pub workers: Vec<Worker>,
    pub engines: Vec<Engine>,
    pub nodes: Nodes,
    /// The disk of the last server.
    pub node_disk: Option<SmallDisk>,
    /// Engines that ended though nobody asked them to: which, and their last words.
    pub ended: Vec<(String, String)>,
    dir: tempfile::TempDir,
}

impl Place {
    pub fn build(size: Size, task_ms_max: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("nodes");
        let name = if size.nodes == 1 { "single".to_owned() } else { format!("member-{}", size.nodes - 1) };
        let node_disk = SmallDisk::mount(&store.join(name), NODE_DISK_MIB);
        let options = Options { store: Some(store), ..Options::default() };
        let nodes = match size.nodes {
            1 => Nodes::One(Box::new(Server::start(options))),
            count => Nodes::Many(Cluster::start_with(count, &options)),
        };
        let ledger = dir.path().join("ledger");
        std::fs::create_dir(&ledger).unwrap();
        let urls = nodes.urls();
        let engine = |at| Engine::start(format!("e{at}"), &urls, dir.path().join(format!("e{at}")));
        let worker = |at| {
            let (name, url) = (format!("w{at}"), urls.join(","));
            let orders = Orders { name, url, ledger: ledger.clone(), task_ms_max };
            Worker { process: orders.start(), orders }
        };
        let (engines, workers) = ((0..size.engines).map(engine).collect(), (0..size.workers).map(worker).collect());
        Self { workers, engines, nodes, node_disk, ended: Vec::new(), dir }
    }

    pub fn url(&self) -> String {
        self.nodes.urls().join(",")
    }

    pub fn ledger(&self) -> PathBuf {
        self.dir.path().join("ledger")
    }

    /// Starts anew what has ended by itself, as a service manager does.
    pub fn tend(&mut self) {
        for engine in self.engines.iter_mut().filter(|engine| !engine.down) {
            let Some(status) = engine.process.ended() else { continue };
            let said = engine.process.said();
            let words: Vec<&str> = said.lines().rev().take(3).collect();
            let words: Vec<&str> = words.into_iter().rev().collect();
            self.ended.push((engine.name.clone(), format!("{status}: {}", words.join(" / "))));
            engine.restart();
        }
        for worker in &mut self.workers {
            if let Some(status) = worker.process.ended() {
                self.ended.push(("a worker".to_owned(), status.to_string()));
                worker.restart();
            }
        }
    }
}
