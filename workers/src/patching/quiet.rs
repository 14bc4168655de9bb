//! Never two changes on one target at once: a lease per target, and the wait for what a former process left running.
//!
//! A patchloom that was killed leaves its package manager alive. Whoever comes next waits for that one to end before
//! it judges or changes anything. Knows nothing of what is installed.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use patchloom_core::Failure;
use patchloom_domain::Target;
use rustix::process::{Flock, FlockType, Pid, Signal, fcntl_getlk, kill_process};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::failure::transient;
use crate::host::HostExec;

/// The variable by which every process of a change is known, whoever its parent is.
pub(super) const MARK: &str = "PATCHLOOM_TARGET";

/// Programs whose end is the end of a change; a service that a maintainer script started carries the mark as well,
/// and lives on.
const ANCHORS: [&str; 10] = ["unshare", "apt-get", "dpkg", "apt", "dnf", "dnf-3", "dnf5", "yum", "rpm", "zypper"];

/// How often a waiting task looks again.
const POLL: Duration = Duration::from_millis(100);

/// Locks of apt, dpkg, rpm and dnf 5 inside a target; where rpm's lies depends on how its vendor built it.
const LOCKS: [&str; 7] = [
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/cache/apt/archives/lock",
    "/var/lib/rpm/.rpm.lock",
    "/usr/lib/sysimage/rpm/.rpm.lock",
    "/root/.rpmdb/.rpm.lock",
    "/var/lib/dnf/system-repo.lock",
];

/// The right to change a target, held until it is dropped or the process ends.
#[derive(Debug)]
pub(super) struct Lease {
    _file: File,
}

/// A short name of a target, the same in every process.
pub(super) fn target_name(target: &Target) -> String {
    let text = match target {
        Target::Local => "local".to_owned(),
        // Two ways to write one directory must not be two leases.
        Target::Root { path } => {
            let real = Path::new(path).canonicalize().unwrap_or_else(|_| PathBuf::from(path));
            format!("root {}", real.display())
        }
        Target::Ssh(ssh) => format!("ssh {ssh}"),
        Target::Ssm(ssm) => format!("ssm {ssm}"),
        Target::Windows(ssh) => format!("windows {ssh}"),
    };
    Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Waits for the lease of a target.
pub(super) async fn lease(
    dir: &Path,
    target: &Target,
    limit: Duration,
    cancel: &CancellationToken,
) -> Result<Lease, Failure> {
    let path = dir.join(format!("{}.lease", target_name(target)));
    let io = |error: std::io::Error| transient("E0511", format!("cannot open {}: {error}", path.display()));
    std::fs::create_dir_all(dir).map_err(io)?;
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io)?;
    let deadline = Instant::now() + limit;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Lease { _file: file }),
            Err(std::fs::TryLockError::Error(error)) => return Err(io(error)),
            Err(std::fs::TryLockError::WouldBlock) => {}
        }
        let text = || "another patchloom task is changing this target".to_owned();
        pause(deadline, cancel, text).await?;
    }
}

/// Waits until no process of a former change lives on the target and nobody holds its locks.
pub(super) async fn settle(host: &HostExec, limit: Duration, cancel: &CancellationToken) -> Result<(), Failure> {
    let deadline = Instant::now() + limit;
    loop {
        let Some(busy) = busy(host) else { return Ok(()) };
        pause(deadline, cancel, || format!("the package manager of {} is busy: {busy}", host.place())).await?;
    }
}

/// As [`settle`], but ends our own leftover processes when they do not end by themselves. Locks of others are left.
pub(super) async fn subdue(host: &HostExec, limit: Duration, cancel: &CancellationToken) -> Result<(), Failure> {
    // Half for the polite wait: to end dpkg in its work costs a repair, to wait costs only time.
    let polite = limit / 2;
    if settle(host, polite, cancel).await.is_ok() {
        return Ok(());
    }
    for signal in [Signal::TERM, Signal::KILL] {
        for pid in leftovers(host.target()) {
            // It may have ended in between, which is what we want.
            let _ = kill_process(pid, signal);
        }
        if settle(host, polite / 2, cancel).await.is_ok() {
            return Ok(());
        }
    }
    settle(host, Duration::ZERO, cancel).await
}

async fn pause(deadline: Instant, cancel: &CancellationToken, text: impl Fn() -> String) -> Result<(), Failure> {
    if Instant::now() >= deadline {
        return Err(transient("LOCKED", text()));
    }
    // Cancel-safe: neither branch holds anything.
    tokio::select! {
        () = cancel.cancelled() => Err(transient("CANCELLED", format!("stopped waiting: {}", text()))),
        () = tokio::time::sleep(POLL) => Ok(()),
    }
}

fn busy(host: &HostExec) -> Option<String> {
    if let Some(pid) = leftovers(host.target()).first() {
        return Some(format!("process {} of a former try is still at work", pid.as_raw_nonzero()));
    }
    LOCKS.iter().find_map(|lock| {
        let file = OpenOptions::new().read(true).open(host.path(lock)).ok()?;
        let held = fcntl_getlk(&file, &Flock::from(FlockType::WriteLock)).ok()??;
        let pid = held.pid.map_or_else(|| "unknown".to_owned(), |pid| pid.as_raw_nonzero().to_string());
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        Some(format!("{lock} is held by process {pid} ({})", name.trim()))
    })
}

/// Processes of a former change of this target that are still at work.
fn leftovers(target: &Target) -> Vec<Pid> {
    let mark = format!("{MARK}={}", target_name(target));
    let own = std::process::id().to_string();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| *name != own);
    pids.filter_map(|name| {
        let pid = Pid::from_raw(name.parse().ok()?)?;
        // The processes of others cannot be read and are none of ours.
        let environ = std::fs::read(format!("/proc/{name}/environ")).ok()?;
        if !environ.split(|&byte| byte == 0).any(|variable| variable == mark.as_bytes()) {
            return None;
        }
        let comm = std::fs::read_to_string(format!("/proc/{name}/comm")).ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{name}/stat")).ok()?;
        // A zombie has done its work; only its parent has not looked yet.
        let dead = stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']));
        (ANCHORS.contains(&comm.trim()) && !dead).then_some(pid)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_target_has_one_lease() {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::Root { path: dir.path().display().to_string() };
        let again = Target::Root { path: format!("{}/.", dir.path().display()) };
        let cancel = CancellationToken::new();
        let held = lease(dir.path(), &target, Duration::ZERO, &cancel).await.unwrap();
        let refused = lease(dir.path(), &again, Duration::ZERO, &cancel).await.unwrap_err();
        assert_eq!(refused.code, "LOCKED");
        lease(dir.path(), &Target::Local, Duration::ZERO, &cancel).await.unwrap();
        drop(held);
        lease(dir.path(), &again, Duration::ZERO, &cancel).await.unwrap();
    }

    #[tokio::test]
    async fn a_wait_ends_when_it_is_cancelled() {
        let dir = tempfile::tempdir().unwrap();
        let cancel = CancellationToken::new();
        let _held = lease(dir.path(), &Target::Local, Duration::ZERO, &cancel).await.unwrap();
        cancel.cancel();
        let stopped = lease(dir.path(), &Target::Local, Duration::from_secs(3600), &cancel).await.unwrap_err();
        assert_eq!(stopped.code, "CANCELLED");
    }
}
