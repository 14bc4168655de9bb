//! What dnf and zypper share: rpm's database, its files, and rpm itself as the last way back.
//!
//! rpm knows no halves: what stands in its database is installed, whatever its scripts said. What a cut off transaction leaves
//! is a package that stands there twice.

mod dnf;
mod executor;
mod journal;
mod zypper;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use patchloom_core::Failure;
use patchloom_domain::{HostPlan, InstalledPackage, PackageId, PackageSet, PackageState, PlannedChange, RpmVersion};
use tokio_util::sync::CancellationToken;

use super::executor::{Former, Undoing};
use super::install::changing;
use super::state;
use crate::dnf::rpmdb::is_beside;
use crate::dnf::{evr, rpmdb};
use crate::host::{HostExec, Order};

pub(super) use dnf::DnfExecutor;
pub(super) use zypper::ZypperExecutor;

/// Endings that rpm gives to configuration files that it did not install or did not keep.
const RESIDUE: &[&str] = &[".rpmnew", ".rpmsave", ".rpmorig"];

/// An exact version as dnf, zypper and rpm take it.
fn nevra(id: &PackageId, version: &str) -> String {
    format!("{}-{version}.{}", id.name, id.arch)
}

/// As [`nevra`], without the epoch, which rpm does not take and no file name has.
fn nvra(id: &PackageId, version: &str) -> String {
    nevra(id, version.split_once(':').map_or(version, |(_, plain)| plain))
}

/// A package in a simulation.
fn row_name(id: &PackageId) -> String {
    format!("{}.{}", id.name, id.arch)
}

/// Under which name an older copy of a package stands in a package set: the newest has the plain one.
fn copy_id(id: &PackageId, version: &str) -> PackageId {
    PackageId { name: format!("{}-{version}", id.name), arch: id.arch.clone() }
}

/// All installed versions of each package, the newest last.
async fn copies(
    host: &HostExec,
    cancel: &CancellationToken,
) -> Result<BTreeMap<PackageId, Vec<InstalledPackage>>, Failure> {
    let mut found: BTreeMap<PackageId, Vec<InstalledPackage>> = BTreeMap::new();
    for package in rpmdb::packages(host, cancel).await? {
        found.entry(package.id.clone()).or_default().push(package);
    }
    let order = |version: &str| version.parse::<RpmVersion>().ok();
    found.values_mut().for_each(|all| all.sort_by_key(|package| order(&package.version)));
    Ok(found)
}

async fn packages(host: &HostExec, cancel: &CancellationToken) -> Result<PackageSet, Failure> {
    Ok(set_of(&copies(host, cancel).await?))
}

fn set_of(copies: &BTreeMap<PackageId, Vec<InstalledPackage>>) -> PackageSet {
    let state =
        |package: &InstalledPackage| PackageState { version: package.version.clone(), status: package.status.clone() };
    let mut rows = Vec::new();
    for (id, all) in copies {
        let Some((newest, older)) = all.split_last() else { continue };
        rows.push((id.clone(), state(newest)));
        rows.extend(older.iter().map(|package| (copy_id(id, &package.version), state(package))));
    }
    rows.into_iter().collect()
}

/// What stands twice in the database, and what lacks something.
async fn audit(host: &HostExec, cancel: &CancellationToken) -> Result<String, Failure> {
    let mut lines = rpmdb::twice(&rpmdb::packages(host, cancel).await?);
    // Its exit code counts the same packages that it names.
    let argv = ["rpm", "-Va", "--nofiles", "--noscripts", "--nodigest", "--nosignature"];
    let ran = state::run(host, Order::reading(argv), cancel).await?;
    lines.extend(ran.stdout.text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()));
    Ok(lines.join("\n"))
}

/// Rebuilds a database that cannot be read, and takes away locks of processes that are gone.
async fn mend(host: &HostExec, locks: &[&str], cancel: &CancellationToken) -> Result<Vec<Order>, Failure> {
    // Inside a root the numbers of processes begin anew each time, so that a number in a lock there names nobody.
    if matches!(host.target(), patchloom_domain::Target::Root { .. }) {
        for lock in locks {
            // One that is not there is as good as gone.
            let _ = std::fs::remove_file(host.path(lock));
        }
    }
    let ran = state::run(host, Order::reading(["rpm", "-qa"]), cancel).await?;
    let damaged = !ran.ok() || ran.stderr.text.lines().any(|line| line.starts_with("error:"));
    let rebuild = || changing(host, ["rpm", "--rebuilddb"].map(str::to_owned).to_vec());
    Ok(damaged.then(rebuild).into_iter().collect())
}

/// Erases what a cut off transaction would have erased: the former version, where the planned one stands beside it.
async fn erase_doubles(host: &HostExec, plan: &HostPlan, cancel: &CancellationToken) -> Result<Vec<Order>, Failure> {
    let copies = copies(host, cancel).await?;
    let mut doubles = Vec::new();
    for change in plan.changes.iter().filter(|change| !is_beside(&change.id)) {
        let all = copies.get(&change.id).map(Vec::as_slice).unwrap_or_default();
        if all.iter().any(|package| package.version == change.candidate) {
            let others = all.iter().filter(|package| package.version != change.candidate);
            doubles.extend(others.map(|package| nvra(&change.id, &package.version)));
        }
    }
    if doubles.is_empty() {
        return Ok(Vec::new());
    }
    let argv = ["rpm", "-e", "--nodeps"].map(str::to_owned).into_iter().chain(doubles).collect();
    Ok(vec![changing(host, argv)])
}

/// Planned packages that are there at their planned version.
async fn arrived<'p>(
    host: &HostExec,
    plan: &'p HostPlan,
    cancel: &CancellationToken,
) -> Result<Vec<&'p PlannedChange>, Failure> {
    let now = packages(host, cancel).await?;
    let there = |change: &&PlannedChange| now.get(&change.id).is_some_and(|state| state.version == change.candidate);
    Ok(plan.changes.iter().filter(there).collect())
}

/// The name that a kept file gets.
fn file_name(id: &PackageId, version: &str) -> String {
    format!("{}.rpm", nevra(id, &version.replace(':', "%3a")))
}

fn identify(file: &str) -> Vec<String> {
    let format = "%{NAME}\\t%{EPOCHNUM}\\t%{VERSION}-%{RELEASE}\\t%{ARCH}";
    ["rpm", "-qp", "--nosignature", "--qf", format, file].map(str::to_owned).to_vec()
}

fn identified(text: &str) -> Option<(PackageId, String)> {
    let fields: Vec<_> = text.trim().split('\t').collect();
    let [name, epoch, version, arch] = fields.as_slice() else { return None };
    Some((PackageId { name: (*name).to_owned(), arch: (*arch).to_owned() }, evr(epoch, version)))
}

/// The file of a package below a cache directory, as this machine sees it.
fn cached(host: &HostExec, dir: &str, depth: usize, id: &PackageId, version: &str) -> Option<PathBuf> {
    find(&host.path(dir), depth, &format!("{}.rpm", nvra(id, version)))
}

fn find(dir: &Path, depth: usize, name: &str) -> Option<PathBuf> {
    let direct = dir.join(name);
    if direct.is_file() {
        return Some(direct);
    }
    let deeper = std::fs::read_dir(dir).ok()?.flatten().filter(|_| depth > 0);
    deeper
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .find_map(|entry| find(&entry.path(), depth - 1, name))
}

async fn config_files(host: &HostExec, ids: &[&PackageId], cancel: &CancellationToken) -> Result<Vec<String>, Failure> {
    let names = ids.iter().map(|id| format!("{}.{}", id.name, id.arch));
    let argv = ["rpm", "-qc"].map(str::to_owned).into_iter().chain(names);
    let ran = state::run(host, Order::reading(argv), cancel).await?;
    // `(contains no files)` is what it says of a package without any.
    let paths: BTreeSet<String> =
        ran.stdout.text.lines().filter(|line| line.starts_with('/')).map(str::to_owned).collect();
    Ok(paths.into_iter().collect())
}

/// Files below a directory whose names end so, as the host sees them.
fn files_in(host: &HostExec, dir: &str, endings: &[&str]) -> Vec<String> {
    let entries = std::fs::read_dir(host.path(dir)).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| endings.iter().any(|ending| name.ends_with(ending)))
        .map(|name| format!("{dir}/{name}"))
        .collect()
}

/// As [`files_in`], in a directory of this name in each directory below.
fn files_below(host: &HostExec, dir: &str, name: &str, endings: &[&str]) -> Vec<String> {
    let entries = std::fs::read_dir(host.path(dir)).into_iter().flatten().flatten();
    let dirs = entries.filter_map(|entry| entry.file_name().into_string().ok());
    dirs.flat_map(|each| files_in(host, &format!("{dir}/{each}/{name}"), endings)).collect()
}

/// What is not as it was, by what has to be done about it.
struct Rest {
    /// Files of former versions that are not there.
    files: Vec<String>,
    /// Names of packages that came new.
    new: Vec<String>,
    /// Exact versions that came beside their former ones.
    beside: Vec<String>,
}

impl Rest {
    fn of(undoing: &Undoing<'_>) -> Self {
        let copy = |change: &PlannedChange| change.installed.as_ref().map(|version| copy_id(&change.id, version));
        let is_copy = |id: &PackageId| undoing.plan.changes.iter().any(|change| copy(change).as_ref() == Some(id));
        let stands_twice = |id: &PackageId, former: &str| undoing.now.get(&copy_id(id, former)).is_some();
        let lacking = |(id, former, _): &&Former| {
            let there = undoing.now.get(id).is_some_and(|state| state.version == *former);
            // A kernel is still there; anything else that stands twice has lost files to its other self.
            let beside = is_beside(id) && stands_twice(id, former);
            !there && !beside
        };
        let is_new = |id: &&PackageId| undoing.before.get(id).is_none() && !is_copy(id);
        let beside = |change: &&PlannedChange| {
            let former = change.installed.as_deref().unwrap_or_default();
            is_beside(&change.id) && stands_twice(&change.id, former)
        };
        Self {
            files: undoing.files.iter().filter(lacking).map(|(_, _, file)| file.clone()).collect(),
            new: undoing
                .now
                .iter()
                .map(|(id, _)| id)
                .filter(is_new)
                .map(|id| format!("{}.{}", id.name, id.arch))
                .collect(),
            beside: undoing.plan.changes.iter().filter(beside).map(|c| nvra(&c.id, &c.candidate)).collect(),
        }
    }
}

/// rpm unpacks the former files over whatever is there. A broken version must not stop its own end, so its scripts are
/// left out; that the whole fits together was so before.
fn force_back(undoing: &Undoing<'_>) -> Vec<Order> {
    let rest = Rest::of(undoing);
    let mut orders = Vec::new();
    if !rest.files.is_empty() {
        let flags = [
            "rpm",
            "-U",
            "--oldpackage",
            "--replacepkgs",
            "--replacefiles",
            "--nodeps",
            "--ignoresize",
            "--nopreun",
            "--nopostun",
        ];
        let argv = flags.map(str::to_owned).into_iter().chain(rest.files).collect();
        orders.push(changing(undoing.host, argv).share(undoing.dir));
    }
    let gone: Vec<String> = rest.new.into_iter().chain(rest.beside).collect();
    if !gone.is_empty() {
        let argv = ["rpm", "-e", "--nodeps"].map(str::to_owned).into_iter().chain(gone).collect();
        orders.push(changing(undoing.host, argv));
    }
    orders
}

#[cfg(test)]
mod tests;
