//! The processes of one round: patchloom and all that descends from it. Only they are ever stopped or killed, each by
//! its own id.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How often a waiting test looks again.
const POLL: Duration = Duration::from_millis(10);

/// How long a leftover reader may take to end.
const LEFTOVER_LIMIT: Duration = Duration::from_secs(20);

/// A patchloom that works on the root of one round.
pub struct Victim {
    child: Child,
    home: PathBuf,
    log: PathBuf,
}

/// What a kill takes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Only patchloom: its apt and dpkg live on.
    Process,
    /// All that descends from it, as a power cut would.
    Tree,
}

impl Victim {
    /// Starts `patchloom patch` with `args` on the root in `home`, in a process group of its own.
    pub fn start(home: &Path, args: &[&str], log: &str) -> Self {
        let log = home.join(log);
        let file = File::create(&log).expect("a log file can be made");
        let child = Command::new(env!("CARGO_BIN_EXE_patchloom"))
            .arg("patch")
            .arg("--root")
            .arg(home.join("root"))
            .arg("--data-dir")
            .arg(home.join("data"))
            .args(args)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a file can be shared"))
            .stderr(file)
            .process_group(0)
            .spawn()
            .expect("patchloom starts");
        Self { child, home: home.to_owned(), log }
    }

    /// Waits until it ends by itself, at most so long.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return Some(status);
            }
            match end.checked_duration_since(Instant::now()) {
                Some(left) if !left.is_zero() => std::thread::sleep(left.min(POLL)),
                _ => return None,
            }
        }
    }

    /// Kills it with SIGKILL; false where it had ended by itself. Tells how many processes went with it.
    pub fn kill(&mut self, extent: Extent) -> Option<usize> {
        let own = Pid::from_child(&self.child);
        // Stopped first, so that nothing is started between the look and the kill.
        let _ = kill_process(own, Signal::STOP);
        if self.child.try_wait().expect("a child can be waited for").is_some() {
            return None;
        }
        let mut doomed = BTreeSet::from([own.as_raw_nonzero().get()]);
        if extent == Extent::Tree {
            loop {
                let found = of_round(&self.home, &doomed);
                let new: Vec<i32> = found.difference(&doomed).copied().collect();
                if new.is_empty() {
                    break;
                }
                new.iter().for_each(|pid| send(*pid, Signal::STOP));
                doomed.extend(new);
            }
        }
        doomed.iter().for_each(|pid| send(*pid, Signal::KILL));
        self.child.wait().expect("a killed child can be waited for");
        Some(doomed.len())
    }

    /// What it said.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // After a failed assertion; else it has ended long ago.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill(Extent::Tree);
        }
    }
}

fn send(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It may have ended in between, which is what we want.
        let _ = kill_process(pid, signal);
    }
}

/// All processes that work in the directory of a round: they name it among their words, have it as their root
/// directory, or descend from one of those or of `known`.
pub fn of_round(home: &Path, known: &BTreeSet<i32>) -> BTreeSet<i32> {
    let name = home.display().to_string();
    let own = std::process::id();
    let mut rows: Vec<(i32, i32, bool)> = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|text| text.parse::<i32>().ok()) else { continue };
        let dir = entry.path();
        let Ok(stat) = std::fs::read_to_string(dir.join("stat")) else { continue };
        let mut fields = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ')).into_iter().flatten();
        let (state, parent) = (fields.next().unwrap_or("X"), fields.next().and_then(|text| text.parse().ok()));
        if ["Z", "X"].contains(&state) || u32::try_from(pid) == Ok(own) {
            continue;
        }
        let words = std::fs::read(dir.join("cmdline")).unwrap_or_default();
        let root = std::fs::read_link(dir.join("root")).unwrap_or_default();
        let named = String::from_utf8_lossy(&words).contains(&name) || root.starts_with(home);
        rows.push((pid, parent.unwrap_or(0), named));
    }
    let mut found: BTreeSet<i32> = rows.iter().filter(|row| row.2).map(|row| row.0).collect();
    found.extend(rows.iter().map(|row| row.0).filter(|pid| known.contains(pid)));
    loop {
        let more: Vec<i32> = rows
            .iter()
            .filter(|(pid, parent, _)| !found.contains(pid) && (found.contains(parent) || known.contains(parent)))
            .map(|row| row.0)
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// What is still mounted or alive, or lies where nothing should: one line each.
pub fn leftovers(home: &Path) -> Vec<String> {
    let mut rest = Vec::new();
    // A reader whose patchloom was killed goes on to its end.
    let end = Instant::now() + LEFTOVER_LIMIT;
    let mut alive = of_round(home, &BTreeSet::new());
    while !alive.is_empty() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
        alive = of_round(home, &BTreeSet::new());
    }
    for pid in alive {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        rest.push(format!("process {pid} is alive: {}", String::from_utf8_lossy(&words).replace('\0', " ")));
    }
    let inside = format!("{}/", home.display());
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|point| point.starts_with(&inside));
    rest.extend(points.map(|point| format!("{point} is mounted")));
    for dir in ["data/backups/snapshots", "root/mnt"] {
        let left = std::fs::read_dir(home.join(dir)).into_iter().flatten().flatten();
        rest.extend(left.map(|entry| format!("{} is left", entry.path().display())));
    }
    rest
}

/// Files that nobody finished, below the data directory.
pub fn unfinished(data: &Path) -> Vec<String> {
    let (mut rest, mut open) = (Vec::new(), vec![data.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            // A saved configuration may hold any name; a lock file stays where it is locked.
            if ["files", ".lock", ".holds.lock"].iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            if entry.file_name().to_string_lossy().starts_with('.') {
                rest.push(format!("{} is left", entry.path().display()));
            } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push(entry.path());
            }
        }
    }
    rest
}
