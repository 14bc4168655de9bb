//! One nats-server process: started, asked until it is ready, hurt, and started again on the same data and ports.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{cache, home};

/// A busy machine takes seconds; a server that needs longer is broken.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Between two questions whether it is ready.
const ASK_EVERY: Duration = Duration::from_millis(10);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Which of the two servers that `tests/lab/nats.sh` keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// The one that Patchloom is built for.
    #[default]
    Current,
    /// One that it has to refuse.
    Old,
}

/// When a server flushes what it acknowledges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sync {
    /// Before it acknowledges.
    #[default]
    Always,
    /// Whenever it thinks fit: every two minutes.
    Unset,
}

/// What kind of server a test wants.
///
/// # Example
/// ```
/// use patchloom_bed::nats::{Options, Sync};
/// let options = Options { sync: Sync::Unset, config: "authorization { token: secret }".to_owned(), ..Options::default() };
/// assert!(options.jetstream);
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    /// Which server.
    pub version: Version,
    /// Whether JetStream is on.
    pub jetstream: bool,
    /// When it flushes.
    pub sync: Sync,
    /// How many bytes its streams on disk may hold together.
    pub file_bytes_max: u64,
    /// More text for its configuration: accounts, TLS, limits.
    pub config: String,
    /// Where its streams lie: in a directory of this one that is called as the server is. In its own where none is given.
    pub store: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            version: Version::default(),
            jetstream: true,
            sync: Sync::default(),
            file_bytes_max: 1 << 30,
            config: String::new(),
            store: None,
        }
    }
}

/// A server of one's own; it and its directory are gone when dropped, after a panic too.
#[derive(Debug)]
pub struct Server {
    binary: PathBuf,
    options: Options,
    name: String,
    client_port: u16,
    monitor_port: u16,
    child: Option<Child>,
    home: TempDir,
}

impl Server {
    /// Starts a server and returns when it is ready.
    ///
    /// # Panics
    /// With one line saying what to run, where the cache has no server, and with its log where it does not get ready.
    #[must_use]
    #[track_caller]
    pub fn start(options: Options) -> Self {
        let mut server = Self::prepare("single", options, free_ports(2).as_slice());
        server.run();
        server.await_ready();
        server
    }

    /// A server that does not run yet, on these ports for clients and for questions.
    #[track_caller]
    pub(super) fn prepare(name: &str, options: Options, ports: &[u16]) -> Self {
        let &[client_port, monitor_port] = ports else { panic!("a server needs two ports, not {ports:?}") };
        let binary = binary(options.version);
        Self { binary, options, name: name.to_owned(), client_port, monitor_port, child: None, home: home() }
    }

    /// Where clients find it, such as `nats://127.0.0.1:40123`; the same after a restart.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.client_port)
    }

    /// Where it answers questions over HTTP, such as `http://127.0.0.1:40124`.
    #[must_use]
    pub fn monitor_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.monitor_port)
    }

    /// The process.
    ///
    /// # Panics
    /// Where it was killed and not started again.
    #[must_use]
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server does not run").id()
    }

    /// Whether it runs, or is at least paused.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Where its streams lie.
    #[must_use]
    pub fn store_dir(&self) -> PathBuf {
        match &self.options.store {
            Some(dir) => dir.join(&self.name),
            None => self.home.path().join("store"),
        }
    }

    /// All it has logged, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Kills it as a power cut of the process would; what the kernel holds is not lost.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            // An error means that it ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Ends it in an orderly way.
    ///
    /// # Panics
    /// Where it does not end within a minute.
    #[track_caller]
    pub fn quit(&mut self) {
        self.signal(Signal::TERM);
        if let Some(mut child) = self.child.take() {
            let end = Instant::now() + READY_WITHIN;
            while !matches!(child.try_wait(), Ok(Some(_))) {
                if Instant::now() > end {
                    let _ = child.kill();
                    let _ = child.wait();
                    panic!("nats-server does not end; its log:\n{}", self.log());
                }
                thread::sleep(ASK_EVERY);
            }
        }
    }

    /// Pauses it (SIGSTOP): its connections stay open and nothing answers. Returns when all its threads stand.
    ///
    /// # Panics
    /// Where it does not run.
    #[track_caller]
    pub fn stop(&self) {
        self.signal(Signal::STOP);
        let end = Instant::now() + READY_WITHIN;
        while !stands(self.pid()) {
            assert!(Instant::now() < end, "nats-server cannot be paused");
            thread::sleep(ASK_EVERY);
        }
    }

    /// Lets it go on after [`stop`](Self::stop).
    ///
    /// # Panics
    /// Where it does not run.
    #[track_caller]
    pub fn cont(&self) {
        self.signal(Signal::CONT);
    }

    /// Starts it again on the same data and the same ports, and returns when it is ready; ends it first if it runs.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    #[track_caller]
    pub fn restart(&mut self) {
        self.restart_unready();
        self.await_ready();
    }

    /// Starts it again and does not wait: for a member of a cluster that cannot be ready before others are.
    ///
    /// # Panics
    /// Where it cannot be started at all.
    #[track_caller]
    pub fn restart_unready(&mut self) {
        if self.child.is_some() {
            self.quit();
        }
        self.run();
    }

    /// Returns when it says of itself that it is ready: with JetStream, that its streams are recovered.
    ///
    /// # Panics
    /// With its log, where that takes too long or it ends.
    #[track_caller]
    pub fn await_ready(&mut self) {
        let end = Instant::now() + READY_WITHIN;
        while !self.is_healthy() {
            if let Some(Ok(Some(status))) = self.child.as_mut().map(Child::try_wait) {
                // A port that was free a moment ago may be in use by somebody's passing connection.
                assert!(Instant::now() < end, "nats-server ended with {status}; its log:\n{}", self.log());
                assert!(
                    self.log().contains("address already in use"),
                    "nats-server ended with {status}:\n{}",
                    self.log()
                );
                thread::sleep(ASK_EVERY * 10);
                self.run();
            }
            assert!(Instant::now() < end, "nats-server is not ready; its log:\n{}", self.log());
            thread::sleep(ASK_EVERY);
        }
    }

    /// What it answers to a question over HTTP, such as `/varz`; `None` where it does not, or not with 200.
    #[must_use]
    pub fn ask(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.monitor_port)).ok()?;
        stream.set_read_timeout(Some(ANSWER_WITHIN)).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.lines().next()?.contains(" 200 ").then(|| body.to_owned())
    }

    fn is_healthy(&self) -> bool {
        self.ask("/healthz").is_some()
    }

    fn log_path(&self) -> PathBuf {
        self.home.path().join("server.log")
    }

    #[track_caller]
    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process has a positive id");
        kill_process(pid, signal).unwrap_or_else(|error| panic!("cannot signal nats-server: {error}"));
    }

    #[track_caller]
    fn run(&mut self) {
        let config = self.home.path().join("nats.conf");
        write(&config, &self.config());
        let log = fs::File::options().create(true).append(true).open(self.log_path());
        let log = log.unwrap_or_else(|error| panic!("cannot write the log of nats-server: {error}"));
        let child = Command::new(&self.binary)
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", self.binary.display()));
        self.child = Some(child);
    }

    fn config(&self) -> String {
        let mut text = format!(
            "server_name: {}\nlisten: \"127.0.0.1:{}\"\nhttp: \"127.0.0.1:{}\"\n",
            self.name, self.client_port, self.monitor_port
        );
        if self.options.jetstream {
            let sync = match self.options.sync {
                Sync::Always => "sync_interval: always",
                Sync::Unset => "",
            };
            text.push_str(&format!(
                "jetstream {{\n  store_dir: {:?}\n  max_file_store: {}\n  max_memory_store: 67108864\n  {sync}\n}}\n",
                self.store_dir().display().to_string(),
                self.options.file_bytes_max,
            ));
        }
        text.push_str(&self.options.config);
        text.push('\n');
        text
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// The program of the server that Patchloom is built for.
///
/// # Panics
/// With one line saying what to run, where the cache does not have it.
#[must_use]
#[track_caller]
pub fn binary_path() -> PathBuf {
    binary(Version::Current)
}

#[track_caller]
fn binary(version: Version) -> PathBuf {
    let name = match version {
        Version::Current => "nats/current/nats-server",
        Version::Old => "nats/old/nats-server",
    };
    let path = cache().map(|cache| cache.join(name)).filter(|path| path.is_file());
    path.unwrap_or_else(|| panic!("nats-server is missing in the cache ({name}): run tests/lab/nats.sh, it fetches it"))
}

/// Whether every thread of a process is stopped: the signal arrives at one after another.
fn stands(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut states = threads.map(|thread| fs::read_to_string(thread.path().join("stat")).unwrap_or_default());
    // The state follows the name, which may hold anything and ends with the last parenthesis.
    states.all(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')))
}

/// Ports that nobody listened on a moment ago, each another one.
#[track_caller]
pub(super) fn free_ports(count: usize) -> Vec<u16> {
    let bind = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the loopback interface has a free port");
    // All are held until all are known, or one could come twice.
    let held: Vec<TcpListener> = (0..count).map(bind).collect();
    held.iter().map(|listener| listener.local_addr().expect("a bound socket has an address").port()).collect()
}

#[track_caller]
fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}
