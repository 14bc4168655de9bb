//! Checks of a machine besides its package manager: inodes, room for kernels, a reboot that is due, its agents, its clock.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use patchloom_core::UtcMs;
use patchloom_domain::Target;
use patchloom_domain::probe::Agent;
use patchloom_domain::windows::{process_words, service_words};
use tokio_util::sync::CancellationToken;

use super::check::{CheckLevel, Seen, seen};
use super::need::reboot_need;
use super::scan::PackageScan;
use crate::host::{HostExec, Order};

/// Fewer free inodes than this end an upgrade in its midst: a large one makes some thousand files anew.
const INODES_MIN: u64 = 10_000;

/// A kernel with its initrd, old and new beside each other.
const BOOT_BYTES_MIN: u64 = 128 << 20;

/// Time for the command of an agent.
const AGENT_TIMEOUT: Duration = Duration::from_secs(30);

/// The checks of this file.
pub(super) async fn checks(
    exec: &HostExec,
    scan: &PackageScan,
    agents: &[Agent],
    (download_bytes, now): (u64, UtcMs),
    cancel: &CancellationToken,
) -> Vec<Seen> {
    if let Target::Windows(_) = exec.target() {
        return super::windows::checks(exec, agents, (download_bytes, now), cancel).await;
    }
    let mut checks = vec![inodes(exec)];
    checks.extend(boot(exec));
    let why = reboot_need(exec, &scan.packages, cancel).await;
    checks.push(match why.is_empty() {
        true => seen("reboot", CheckLevel::Ok, "no reboot is due", ""),
        false => {
            let reason = format!("a reboot is due: {}", why.join("; "));
            seen("reboot", CheckLevel::Warn, reason, "reboot it, or patch with the reboot policy if_needed")
                .code("E0971")
        }
    });
    checks.extend(time_sync(exec, cancel).await);
    for agent in agents {
        checks.push(alive(exec, agent, cancel).await);
    }
    checks
}

fn inodes(exec: &HostExec) -> Seen {
    let mut least: Option<(&str, u64)> = None;
    for place in ["/usr", "/var/lib/dpkg", "/var/cache"] {
        // File systems that make inodes as they go (btrfs) tell of none at all.
        let Ok(stat) = rustix::fs::statvfs(exec.path(place)) else { continue };
        if stat.f_files > 0 && least.is_none_or(|(_, free)| stat.f_favail < free) {
            least = Some((place, stat.f_favail));
        }
    }
    match least {
        Some((place, free)) if free < INODES_MIN => {
            let reason = format!("{place}: {free} inodes free, {INODES_MIN} needed");
            seen("inodes", CheckLevel::Fail, reason, "delete what has many small files: caches, sessions, old logs")
                .code("E0970")
        }
        Some((place, free)) => seen("inodes", CheckLevel::Ok, format!("{place}: {free} inodes free"), ""),
        None => seen("inodes", CheckLevel::Ok, "the file systems make inodes as they need them", ""),
    }
}

/// Room for a kernel, where /boot is a file system of its own; else it is that of the root.
fn boot(exec: &HostExec) -> Option<Seen> {
    let (root, boot) = (fs::metadata(exec.path("/")).ok()?, fs::metadata(exec.path("/boot")).ok()?);
    if root.dev() == boot.dev() {
        return None;
    }
    let stat = rustix::fs::statvfs(exec.path("/boot")).ok()?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let reason = format!("/boot: {} MiB free, a kernel takes about {}", free >> 20, BOOT_BYTES_MIN >> 20);
    Some(match free >= BOOT_BYTES_MIN {
        true => seen("boot", CheckLevel::Ok, reason, ""),
        false => seen("boot", CheckLevel::Warn, reason, "remove kernels that do not run: apt-get autoremove --purge")
            .code("E0533"),
    })
}

/// Whether its clock is kept right, where it says so.
async fn time_sync(exec: &HostExec, cancel: &CancellationToken) -> Option<Seen> {
    let runs = matches!(exec.target(), Target::Local) && exec.path("/run/systemd/system").is_dir();
    if !runs {
        return None;
    }
    let order = Order::reading(["timedatectl", "show", "--property=NTPSynchronized", "--value"]).timeout(AGENT_TIMEOUT);
    let ran = exec.run(&order, cancel).await.ok()?;
    match ran.stdout.text.trim() {
        "yes" => Some(seen("time_sync", CheckLevel::Ok, "its clock is kept by NTP", "")),
        "no" => {
            let reason = "nothing keeps its clock right";
            Some(seen("time_sync", CheckLevel::Warn, reason, "timedatectl set-ntp true, or run chrony").code("E0973"))
        }
        _ => None,
    }
}

pub(super) async fn alive(exec: &HostExec, agent: &Agent, cancel: &CancellationToken) -> Seen {
    let windows = matches!(exec.target(), Target::Windows(_));
    let (what, lives) = match agent {
        Agent::Unit(unit) if windows => {
            (format!("the service {unit}"), ends_well(exec, service_words(unit), cancel).await)
        }
        Agent::Unit(unit) => {
            let argv = ["systemctl", "is-active", "--quiet", unit.as_str()];
            (format!("the unit {unit}"), ends_well(exec, argv.map(str::to_owned).to_vec(), cancel).await)
        }
        Agent::Process(name) if windows => {
            (format!("the process {name}"), ends_well(exec, process_words(name), cancel).await)
        }
        Agent::Process(name) => (format!("the process {name}"), has_process(exec, name)),
        Agent::Command(argv) => (format!("'{}'", argv.join(" ")), ends_well(exec, argv.clone(), cancel).await),
    };
    match lives {
        true => seen("agent", CheckLevel::Ok, format!("{what} is well"), ""),
        false => seen(
            "agent",
            CheckLevel::Fail,
            format!("{what} is not well"),
            "start it, or mend it, before the host is patched",
        )
        .code("E0972"),
    }
}

async fn ends_well(exec: &HostExec, argv: Vec<String>, cancel: &CancellationToken) -> bool {
    exec.run(&Order::reading(argv).timeout(AGENT_TIMEOUT), cancel).await.is_ok_and(|ran| ran.ok())
}

/// Whether a process of that name runs with the root of the target; its name as the kernel cuts it, at 15 bytes.
fn has_process(exec: &HostExec, name: &str) -> bool {
    let Ok(root) = fs::metadata(exec.path("/")) else { return false };
    let wanted: String = name.chars().take(15).collect();
    fs::read_dir("/proc").into_iter().flatten().flatten().any(|entry| {
        let same = fs::metadata(entry.path().join("root/."));
        let is_there = same.is_ok_and(|seen| (seen.dev(), seen.ino()) == (root.dev(), root.ino()));
        is_there && fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.trim() == wanted)
    })
}
