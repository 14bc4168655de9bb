//! Whether a running machine has to be booted anew, and why. Reads only.

use std::fs;

use patchloom_domain::{InstalledPackage, KernelNow, Target, VersionScheme, newer_kernel};
use tokio_util::sync::CancellationToken;

use super::stale;
use crate::dnf::Generation;
use crate::host::{HostExec, Order};
use crate::manager::{Family, family_of, manager_of};

/// The mark that packages leave, and the list beside it that says which.
const MARKS: [&str; 2] = ["/run/reboot-required", "/var/run/reboot-required"];

/// Packages named in a reason.
const NAMED_MAX: usize = 8;

/// The kernel that runs, where the target is a running machine with a kernel of its own: in a container it is another's.
pub(super) fn kernel(exec: &HostExec) -> Option<KernelNow> {
    if !matches!(exec.target(), Target::Local) {
        return None;
    }
    let read = |name: &str| fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok();
    let now = KernelNow::read(&read("osrelease")?, &read("version").unwrap_or_default());
    let places = [format!("/boot/vmlinuz-{}", now.release), format!("/lib/modules/{}", now.release)];
    places.iter().any(|place| exec.path(place).exists()).then_some(now)
}

/// Why a target has to be booted anew; empty where it has not. A root directory boots nothing.
pub(crate) async fn reboot_need(
    exec: &HostExec,
    packages: &[InstalledPackage],
    cancel: &CancellationToken,
) -> Vec<String> {
    if !matches!(exec.target(), Target::Local) {
        return Vec::new();
    }
    let rpm = manager_of(exec).name() != "apt";
    let mut why: Vec<String> = marked(exec).into_iter().collect();
    if let Some(now) = kernel(exec) {
        let scheme = if rpm { VersionScheme::Rpm } else { VersionScheme::Deb };
        let newer = newer_kernel(scheme, packages.iter().filter(|package| package.status.ends_with('i')), &now);
        why.extend(newer.map(|newer| format!("kernel {newer} is installed, {} runs", now.release)));
    }
    // The first process is not restarted by anything else.
    let first = stale::processes(exec, rpm, cancel).await.into_iter().filter(|process| process.pid == 1);
    let mut mapped: Vec<String> = first.map(|process| process.package).collect();
    mapped.sort();
    mapped.dedup();
    if !mapped.is_empty() {
        why.push(format!("the first process still uses the former {}", mapped.join(", ")));
    }
    if rpm && says_so(exec, cancel).await {
        why.push("needs-restarting says so".to_owned());
    }
    why
}

/// Whether dnf's plugin wants a restart. Its exit code is that of any other failure as well, and dnf 5 says so in words.
async fn says_so(exec: &HostExec, cancel: &CancellationToken) -> bool {
    let ask = |order: Order| async move { exec.run(&order, cancel).await.ok().filter(|ran| ran.code() == Some(1)) };
    if exec.path("/usr/bin/needs-restarting").exists() {
        return ask(Order::reading(["needs-restarting", "-r"])).await.is_some();
    }
    if family_of(exec) != Family::Dnf(Generation::Five) {
        return false;
    }
    let told = ask(Order::changing(Generation::Five.asking(&["needs-restarting", "-r"]))).await;
    told.is_some_and(|ran| ran.stdout.text.contains("Reboot is required"))
}

/// What packages have marked.
fn marked(exec: &HostExec) -> Option<String> {
    let mark = MARKS.iter().find(|mark| exec.path(mark).exists())?;
    let packages = fs::read_to_string(exec.path(&format!("{mark}.pkgs"))).unwrap_or_default();
    let mut names: Vec<&str> = packages.lines().map(str::trim).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    names.dedup();
    names.truncate(NAMED_MAX);
    let by = if names.is_empty() { String::new() } else { format!(" by {}", names.join(", ")) };
    Some(format!("{mark} was set{by}"))
}
