//! Runs commands on a target: argv arrays, a deadline, a bound on the output, cancellation of the whole group.
//! Knows nothing of what the commands mean.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use patchloom_domain::Target;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::capture::{Capture, Captured, Lines};
use super::enter;
use super::{Error, Far};

/// How often the output of a running command is taken in.
const TICK: Duration = Duration::from_millis(50);

/// Default of [`Order::timeout`].
const TIMEOUT: Duration = Duration::from_secs(120);

/// Default of [`Order::grace`].
const GRACE: Duration = Duration::from_secs(10);

/// Default of [`Order::keep`].
const KEEP_BYTES: usize = 8 << 20;

/// The only search path that a command sees inside a root.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables that a command inside a root inherits from us.
const PASSED_ON: [&str; 8] =
    ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "TERM"];

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// By itself, with this code.
    Exited(i32),
    /// By a signal that we did not send.
    Signaled(i32),
    /// We stopped it: its time was over.
    TimedOut,
    /// We stopped it: somebody cancelled.
    Cancelled,
    /// We stopped it: it wrote without end.
    TooMuchOutput,
}

/// A command that ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// What was asked for, without the words that lead into a root.
    pub argv: Vec<String>,
    /// How it ended.
    pub exit: Exit,
    /// Its standard output.
    pub stdout: Captured,
    /// Its standard error; empty where [`Order::merged`] sent it to the standard output.
    pub stderr: Captured,
    /// How long it took.
    pub duration: Duration,
}

impl Ran {
    /// Whether it ended by itself with code 0.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.exit == Exit::Exited(0)
    }

    /// The exit code, where it ended by itself.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        match self.exit {
            Exit::Exited(code) => Some(code),
            Exit::Signaled(_) | Exit::TimedOut | Exit::Cancelled | Exit::TooMuchOutput => None,
        }
    }

    /// Both streams, one after the other, for a classifier or a person.
    #[must_use]
    pub fn text(&self) -> String {
        match (self.stdout.text.is_empty(), self.stderr.text.is_empty()) {
            (_, true) => self.stdout.text.clone(),
            (true, false) => self.stderr.text.clone(),
            (false, false) => format!("{}\n{}", self.stdout.text.trim_end(), self.stderr.text),
        }
    }
}

/// A command to run: what, and within which bounds.
#[derive(Clone, Debug)]
pub struct Order {
    argv: Vec<String>,
    changes: bool,
    timeout: Duration,
    grace: Duration,
    keep_bytes: usize,
    env: Vec<(String, String)>,
    merged: bool,
    dir: Option<String>,
    shared: Option<PathBuf>,
}

impl Order {
    /// A command that only reads. A root directory is read-only for it; when its future is dropped, it is killed.
    pub fn reading<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            changes: false,
            timeout: TIMEOUT,
            grace: GRACE,
            keep_bytes: KEEP_BYTES,
            env: Vec::new(),
            merged: false,
            dir: None,
            shared: None,
        }
    }

    /// A command that may change the target. When its future is dropped or this process is killed, it goes on to its end.
    pub fn changing<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Self { changes: true, ..Self::reading(argv) }
    }

    /// Ends it after `timeout`; 2 minutes unless told.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Time between SIGTERM and SIGKILL; 10 seconds unless told.
    #[must_use]
    pub fn grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// Keeps `bytes` of the head and as many of the tail of each stream; 8 MiB unless told.
    #[must_use]
    pub fn keep(self, bytes: usize) -> Self {
        Self { keep_bytes: bytes, ..self }
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends standard error into standard output, in the order in which it was written.
    #[must_use]
    pub fn merged(self) -> Self {
        Self { merged: true, ..self }
    }

    /// Runs it in `dir`, a path as the target sees it.
    #[must_use]
    pub fn dir(self, dir: &str) -> Self {
        Self { dir: Some(dir.to_owned()), ..self }
    }

    /// Lets it see `dir` of this machine, read and write, as [`HostExec::shared_path`] says.
    #[must_use]
    pub fn share(self, dir: &Path) -> Self {
        Self { shared: Some(dir.to_owned()), ..self }
    }

    /// The words, whether they may change the target, and how long they may take.
    pub(super) fn parts(&self) -> (&[String], bool, Duration) {
        (&self.argv, self.changes, self.timeout)
    }

    fn program(&self) -> String {
        self.argv.first().cloned().unwrap_or_default()
    }
}

/// A target on which commands can be run.
///
/// On this machine a command runs as it is. In a root directory it runs under `chroot` inside mount and process
/// namespaces of its own (so nothing stays mounted or alive afterwards), which needs root rights; without them, dpkg
/// and apt of this machine read the databases of the directory from outside.
#[derive(Clone, Debug)]
pub struct HostExec {
    target: Target,
    is_root: bool,
    /// The way to it, where it is a Windows machine.
    far: Option<Far>,
}

impl HostExec {
    /// Checks that the target is a system of apt, dnf or zypper and makes it ready for commands.
    ///
    /// # Errors
    /// [`Error::NotARoot`], or [`Error::Missing`] on a machine without apt and dpkg, or rpm and one of dnf and zypper.
    pub fn new(target: &Target) -> Result<Self, Error> {
        let base = match target {
            Target::Local => Path::new("/"),
            Target::Ssh(ssh) | Target::Windows(ssh) => return Err(Error::Elsewhere { place: ssh.to_string() }),
            Target::Ssm(ssm) => return Err(Error::Elsewhere { place: ssm.to_string() }),
            Target::Root { path } => {
                let not_a_root = |reason: &str| Error::NotARoot { path: path.clone(), reason: reason.to_owned() };
                if !Path::new(path).is_absolute() {
                    return Err(not_a_root("the path is not absolute"));
                }
                if !Path::new(path).is_dir() {
                    return Err(not_a_root("there is no such directory"));
                }
                let has = |inside: &str| Path::new(path).join(inside).is_file();
                if !has("var/lib/dpkg/status") && !has("usr/bin/rpm") {
                    return Err(not_a_root("it has neither var/lib/dpkg/status nor usr/bin/rpm"));
                }
                Path::new(path)
            }
        };
        let exec = Self { target: target.clone(), is_root: rustix::process::geteuid().is_root(), far: None };
        let lacking = |program: &&&str| !base.join("usr/bin").join(program).exists();
        if let Some(program) = ["apt-get", "dpkg-query"].iter().find(lacking)
            && (lacking(&&"rpm") || ["dnf", "dnf5", "zypper"].iter().all(|program| lacking(&program)))
        {
            return Err(Error::Missing { program: (*program).to_owned(), place: exec.place() });
        }
        Ok(exec)
    }

    /// A Windows machine: commands run there, and none of its files lies here.
    pub(crate) fn windows(far: Far) -> Self {
        Self { target: Target::Windows(far.place().clone()), is_root: true, far: Some(far) }
    }

    /// The target.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Whether we have root rights.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.is_root
    }

    /// The target in words: `this machine`, or its path.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.target {
            Target::Local | Target::Ssh(_) | Target::Ssm(_) => "this machine".to_owned(),
            Target::Root { path } => path.clone(),
            Target::Windows(ssh) => ssh.to_string(),
        }
    }

    /// Where the file that the target knows as `inside` (an absolute path) lies on this machine.
    #[must_use]
    pub fn path(&self, inside: &str) -> PathBuf {
        match &self.target {
            Target::Local | Target::Ssh(_) | Target::Ssm(_) => PathBuf::from(inside),
            Target::Root { path } => Path::new(path).join(inside.trim_start_matches('/')),
            // Below a file there is nothing: whoever looks for one of its files here never finds one of ours.
            Target::Windows(_) => Path::new("/dev/null").join(inside.trim_start_matches('/')),
        }
    }

    /// How a command sees the directory of this machine that its order [shares](Order::share).
    #[must_use]
    pub fn shared_path(&self, dir: &Path) -> PathBuf {
        match &self.target {
            Target::Root { .. } if self.is_root => PathBuf::from(enter::SHARED_INSIDE),
            Target::Root { .. } | Target::Local | Target::Ssh(_) | Target::Ssm(_) | Target::Windows(_) => {
                dir.to_owned()
            }
        }
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// Only when it could not be run at all; how it ended is in the answer.
    /// # Cancellation
    /// `cancel` ends the command (SIGTERM to its group, SIGKILL after the grace) and the answer says `Cancelled`.
    /// Dropping the future kills a reading command and lets a changing one finish unobserved.
    pub async fn run(&self, order: &Order, cancel: &CancellationToken) -> Result<Ran, Error> {
        self.run_any(order, cancel, None).await
    }

    /// Runs a command that reports on file descriptor 3 (`-o APT::Status-Fd=3`), and hands each line of that to `line`.
    ///
    /// # Errors
    /// As [`HostExec::run`].
    pub async fn run_reporting(
        &self,
        order: &Order,
        cancel: &CancellationToken,
        line: &mut (dyn FnMut(&str) + Send),
    ) -> Result<Ran, Error> {
        self.run_any(order, cancel, Some(line)).await
    }

    async fn run_any(&self, order: &Order, cancel: &CancellationToken, line: Option<OnLine<'_>>) -> Result<Ran, Error> {
        if let Some(far) = &self.far {
            return far.run(order, cancel).await;
        }
        let started = Instant::now();
        let words = self.words(order)?;
        let mut streams = Streams::new(order, line).map_err(start_error("prepare the output of", order))?;
        let mut command = self.command(order, &words, streams.status.is_some());
        streams.connect(&mut command).map_err(start_error("prepare the output of", order))?;
        let child = command.spawn().map_err(|source| {
            let program = words.first().cloned().unwrap_or_default();
            match source.kind() {
                io::ErrorKind::NotFound => Error::Missing { program, place: self.place() },
                _ => Error::Start { action: "start", program, source },
            }
        })?;
        // The command holds copies of our ends; ours are closed here.
        drop(command);
        let mut group = Group::new(child, !order.changes);
        let exit = streams.follow(&mut group, order, cancel).await.map_err(start_error("watch", order))?;
        let (stdout, stderr) = streams.finish().map_err(start_error("read from", order))?;
        let exit = self.judge(exit, order, &stderr, &stdout)?;
        Ok(Ran { argv: order.argv.clone(), exit, stdout, stderr, duration: started.elapsed() })
    }

    /// The words that really run.
    fn words(&self, order: &Order) -> Result<Vec<String>, Error> {
        match &self.target {
            Target::Local | Target::Ssh(_) | Target::Ssm(_) | Target::Windows(_) => Ok(order.argv.clone()),
            Target::Root { path } if self.is_root => {
                let shared = order.shared.as_deref().map(Path::to_string_lossy);
                let mut argv = order.argv.clone();
                if let Some(dir) = &order.dir {
                    argv.splice(0..0, ["env".to_owned(), format!("--chdir={dir}")]);
                }
                Ok(enter::chrooted(path, !order.changes, shared.as_deref(), &argv))
            }
            Target::Root { path } => {
                let outside = if order.changes { None } else { enter::from_outside(path, &order.argv) };
                outside.ok_or_else(|| Error::NeedsRoot { program: order.program(), path: path.clone() })
            }
        }
    }

    fn command(&self, order: &Order, words: &[String], reports: bool) -> Command {
        let mut command = if reports {
            // The status stream comes in as standard input: duplicating a descriptor is all the shell does here,
            // so no descriptor has to be passed by number, which safe Rust cannot.
            let mut shell = Command::new("sh");
            shell.args(["-c", r#"exec "$@" 3>&0 </dev/null"#, "report"]).args(words);
            shell
        } else {
            let mut plain = Command::new(words.first().map_or("", String::as_str));
            plain.args(words.iter().skip(1));
            plain
        };
        match &self.target {
            Target::Root { .. } if self.is_root => {
                command.env_clear().env("PATH", PATH).env("HOME", "/root");
                for name in PASSED_ON {
                    if let Some(value) = std::env::var_os(name) {
                        command.env(name, value);
                    }
                }
            }
            Target::Root { .. } | Target::Local | Target::Ssh(_) | Target::Ssm(_) | Target::Windows(_) => {
                command.env_remove("LANGUAGE").env_remove("LANG");
                if let Some(dir) = &order.dir {
                    command.current_dir(dir);
                }
            }
        }
        command.env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive").env("NEEDRESTART_MODE", "l");
        for (name, value) in &order.env {
            command.env(name, value);
        }
        command.process_group(0);
        command
    }

    /// What an exit code means once the way into the root is taken into account.
    fn judge(&self, exit: Exit, order: &Order, stderr: &Captured, stdout: &Captured) -> Result<Exit, Error> {
        let Target::Root { path } = &self.target else { return Ok(exit) };
        if !self.is_root {
            return Ok(exit);
        }
        let said = if order.merged { &stdout.text } else { &stderr.text };
        match exit {
            Exit::Exited(enter::SETUP_FAILED) if said.contains(enter::SETUP_MARK) => {
                let reason = said.lines().find_map(|line| line.strip_prefix(enter::SETUP_MARK)).unwrap_or_default();
                Err(Error::Enter { path: path.clone(), reason: reason.to_owned() })
            }
            Exit::Exited(127) if said.starts_with("chroot: failed to run command") => {
                Err(Error::Missing { program: order.program(), place: self.place() })
            }
            // The shell in between tells the signal that ended the command as a code.
            Exit::Exited(code) if (129..=192).contains(&code) => Ok(Exit::Signaled(code - 128)),
            Exit::Exited(_) | Exit::Signaled(_) | Exit::TimedOut | Exit::Cancelled | Exit::TooMuchOutput => Ok(exit),
        }
    }
}

fn start_error(action: &'static str, order: &Order) -> impl FnOnce(io::Error) -> Error {
    let program = order.program();
    move |source| Error::Start { action, program, source }
}

/// The streams of one running command.
struct Streams<'a> {
    stdout: Capture,
    stderr: Option<Capture>,
    status: Option<Status<'a>>,
}

/// What comes on descriptor 3, cut into lines and handed on.
type Status<'a> = (Capture, Lines, OnLine<'a>);

type OnLine<'a> = &'a mut (dyn FnMut(&str) + Send);

impl<'a> Streams<'a> {
    fn new(order: &Order, line: Option<OnLine<'a>>) -> io::Result<Self> {
        let status = match line {
            Some(line) => Some((Capture::new(0)?, Lines::default(), line)),
            None => None,
        };
        let stderr = if order.merged { None } else { Some(Capture::new(order.keep_bytes)?) };
        Ok(Self { stdout: Capture::new(order.keep_bytes)?, stderr, status })
    }

    fn connect(&self, command: &mut Command) -> io::Result<()> {
        command.stdout(self.stdout.writer()?);
        command.stderr(self.stderr.as_ref().unwrap_or(&self.stdout).writer()?);
        match &self.status {
            Some((status, ..)) => command.stdin(status.writer()?),
            None => command.stdin(Stdio::null()),
        };
        Ok(())
    }

    /// Watches the command until it has ended by itself or was made to.
    async fn follow(&mut self, group: &mut Group, order: &Order, cancel: &CancellationToken) -> io::Result<Exit> {
        let deadline = tokio::time::Instant::now() + order.timeout;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // Cancel-safe: wait() of a child may be asked again, the others hold no state.
            let verdict = tokio::select! {
                biased;
                status = group.child.wait() => return Ok(exit_of(status?)),
                () = cancel.cancelled() => Some(Exit::Cancelled),
                () = tokio::time::sleep_until(deadline) => Some(Exit::TimedOut),
                _ = tick.tick() => {
                    self.advance()?;
                    self.is_excessive().then_some(Exit::TooMuchOutput)
                }
            };
            if let Some(verdict) = verdict {
                group.end(order.grace).await?;
                return Ok(verdict);
            }
        }
    }

    fn advance(&mut self) -> io::Result<()> {
        self.stdout.advance(|_| ())?;
        if let Some(stderr) = &mut self.stderr {
            stderr.advance(|_| ())?;
        }
        if let Some((status, lines, line)) = &mut self.status {
            status.advance(|bytes| lines.feed(bytes, line))?;
        }
        Ok(())
    }

    fn is_excessive(&self) -> bool {
        self.stdout.is_excessive() || self.stderr.as_ref().is_some_and(Capture::is_excessive)
    }

    fn finish(mut self) -> io::Result<(Captured, Captured)> {
        self.advance()?;
        if let Some((_, lines, line)) = &mut self.status {
            lines.flush(line);
        }
        Ok((self.stdout.finish(), self.stderr.map(Capture::finish).unwrap_or_default()))
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Exited(code),
        (None, signal) => Exit::Signaled(signal.unwrap_or(0)),
    }
}

/// A child and all that it started, as one process group.
struct Group {
    child: Child,
    pid: Option<Pid>,
    kill_on_drop: bool,
}

impl Group {
    fn new(child: Child, kill_on_drop: bool) -> Self {
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Self { child, pid, kill_on_drop }
    }

    /// Asks the group to stop, and makes it after the grace.
    async fn end(&mut self, grace: Duration) -> io::Result<()> {
        self.signal(Signal::TERM);
        if tokio::time::timeout(grace, self.child.wait()).await.is_err() {
            self.signal(Signal::KILL);
            self.child.wait().await?;
        }
        // What ignored the polite word may have outlived its leader. The number cannot have been given to a new group
        // yet: while a member lives it is taken, and where none lives this does nothing.
        self.signal_all(Signal::KILL);
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        if self.child.id().is_some() {
            self.signal_all(signal);
        }
    }

    fn signal_all(&self, signal: Signal) {
        if let Some(pid) = self.pid {
            // The group may be gone already: then there is nothing to stop.
            let _ = kill_process_group(pid, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.kill_on_drop {
            self.signal(Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests;
