//! A process that stays until it is told otherwise: what it says, and the ways to be hard on it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// More than anything takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A process whose output goes to a file. It is killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, whose output is appended to `log`.
    ///
    /// # Panics
    /// With one line, where it cannot be started.
    #[track_caller]
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let opened = File::options().create(true).append(true).open(log);
        let file = opened.unwrap_or_else(|error| panic!("cannot write {}: {error}", log.display()));
        let twin = file.try_clone().unwrap_or_else(|error| panic!("cannot write {}: {error}", log.display()));
        let started = command.stdin(Stdio::null()).stdout(twin).stderr(file).spawn();
        let child = started.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Self { child, log: log.to_owned() }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that stands in its log, from former lives too.
    #[must_use]
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How it ended, where it has.
    #[track_caller]
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap_or_else(|error| panic!("cannot look at process {}: {error}", self.child.id()))
    }

    /// Waits until it has said this so many times, in all its lives.
    ///
    /// # Panics
    /// With its log, where it ends before, or takes too long.
    #[track_caller]
    pub fn says(&mut self, what: &str, times: usize) {
        let end = Instant::now() + LIMIT;
        while self.said().matches(what).count() < times {
            let left = self.ended();
            assert!(left.is_none(), "it ended with {left:?} before it said {what:?}:\n{}", self.said());
            assert!(Instant::now() < end, "it does not say {what:?}:\n{}", self.said());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// SIGKILL, and waits.
    #[track_caller]
    pub fn kill9(&mut self) {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        killed.unwrap_or_else(|error| panic!("cannot kill process {}: {error}", self.child.id()));
    }

    /// SIGSTOP: it sleeps and knows nothing of it.
    #[track_caller]
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    #[track_caller]
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGTERM, and waits until it has ended well.
    ///
    /// # Panics
    /// With its log, where it takes too long or ends with an error.
    #[track_caller]
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.ended() {
                assert!(status.success(), "{status}:\n{}", self.said());
                return;
            }
            assert!(Instant::now() < end, "it does not stop:\n{}", self.said());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    #[track_caller]
    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let sent = id.map(|id| kill_process(id, signal));
        assert!(matches!(sent, Some(Ok(()))), "cannot send {signal:?} to process {}: {sent:?}", self.child.id());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
