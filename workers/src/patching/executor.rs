//! The seam between a change of packages and the package manager that makes it: what it is told, what it left, how it goes back.
//! What counts as done is decided above it, and by the package set alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use patchloom_core::Failure;
use patchloom_domain::{Adjustment, HostPlan, Manager, PackageId, PackageSet, PlannedChange, VersionScheme};
use tokio_util::sync::CancellationToken;

use super::apt::AptExecutor;
use super::report::Line;
use super::rpm::{DnfExecutor, ZypperExecutor};
use super::scripts::Scripts;
use super::windows::WindowsExecutor;
use crate::dnf::Generation;
use crate::host::{HostExec, Order};
use crate::manager::{Family, family_of};
use crate::runtime::BoxFuture;

/// What an answer takes its time for.
pub(super) type Answer<'a, T> = BoxFuture<'a, Result<T, Failure>>;

/// Versions that repositories offer, by name and version, and who offers them.
pub(super) type Offered = BTreeMap<(String, String), String>;

/// What a package manager would do.
#[derive(Clone, Debug, Default)]
pub(super) struct Simulated {
    /// Names as [`Executor::row_name`] writes them, with the version before and after.
    pub(super) rows: BTreeSet<(String, Option<String>, String)>,
    /// Names that would be gone, with their versions.
    pub(super) removes: Vec<(String, Option<String>)>,
    /// What it said.
    pub(super) said: String,
}

/// What a package manager leaves on a host besides packages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leavings {
    /// Where it keeps what it downloaded.
    pub(super) archives: &'static str,
    /// How many directories deep the files lie below that.
    pub(super) depth: usize,
    /// What such a file's name ends with.
    pub(super) suffix: &'static str,
    /// A directory of unfinished downloads in there.
    pub(super) partial: Option<&'static str>,
    /// Endings of configuration files that it did not install or did not keep.
    pub(super) residue: &'static [&'static str],
}

/// A way back by former packages.
pub(super) struct Undoing<'a> {
    pub(super) host: &'a HostExec,
    pub(super) plan: &'a HostPlan,
    pub(super) before: &'a PackageSet,
    pub(super) now: &'a PackageSet,
    /// Former packages that are kept, with their file as the host sees it.
    pub(super) files: &'a [Former],
    /// The directory of those, to be shared with the host.
    pub(super) dir: &'a Path,
    pub(super) lock_timeout: Duration,
}

/// A former package that is kept: which, its version, and its file as the host sees it.
pub(super) type Former = (PackageId, String, String);

/// How a package manager makes an adjustment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Adjusting {
    /// By calls of its own, one after the other.
    Calls(&'static [&'static [&'static str]]),
    /// By indexes that are fetched beside the old ones and take their place.
    SwapLists,
    /// It has nothing of the kind.
    Never,
}

/// A package manager that changes a target.
pub(super) trait Executor: Send + Sync {
    /// Whose words it speaks.
    fn words(&self) -> Manager;

    /// How it compares versions; none where they are compared by nobody.
    fn scheme(&self) -> Option<VersionScheme>;

    /// What takes a package away that came new, where nobody can prove beforehand that it does.
    fn attempts(&self) -> Option<&'static str> {
        None
    }

    /// What it leaves behind.
    fn leavings(&self) -> Leavings;

    /// The package database as it is now.
    fn packages<'a>(&'a self, host: &'a HostExec, cancel: &'a CancellationToken) -> Answer<'a, PackageSet>;

    /// What is wrong with its packages, a line each.
    fn audit<'a>(&'a self, host: &'a HostExec, cancel: &'a CancellationToken) -> Answer<'a, String>;

    /// Packages marked as installed automatically; none where it keeps its marks through every change by itself.
    fn auto_marks<'a>(&'a self, host: &'a HostExec, cancel: &'a CancellationToken) -> Answer<'a, BTreeSet<String>> {
        let _ = (host, cancel);
        Box::pin(async { Ok(BTreeSet::new()) })
    }

    /// How far its own journal is, where scripts that failed are told only there, and complaints that are older than
    /// any change of ours.
    fn baseline<'a>(&'a self, host: &'a HostExec, cancel: &'a CancellationToken) -> Answer<'a, (Option<u64>, String)> {
        let _ = (host, cancel);
        Box::pin(async { Ok((None, String::new())) })
    }

    /// Scripts that failed since its journal was that far, where the package set does not tell; `said` is what it said
    /// to us.
    fn scripts<'a>(
        &'a self,
        host: &'a HostExec,
        since: Option<u64>,
        said: &'a str,
        cancel: &'a CancellationToken,
    ) -> Answer<'a, Scripts> {
        let _ = (host, since, said, cancel);
        Box::pin(async { Ok(Scripts::default()) })
    }

    /// A package in a simulation.
    fn row_name(&self, id: &PackageId) -> String;

    /// What an install of exactly the planned versions would do.
    fn simulate<'a>(
        &'a self,
        host: &'a HostExec,
        plan: &'a HostPlan,
        cancel: &'a CancellationToken,
    ) -> Answer<'a, Simulated>;

    /// The words that name exactly the planned versions.
    fn install_words(&self, plan: &HostPlan) -> Vec<String>;

    /// Installs exactly the planned versions; `continued` where an install before it was cut off.
    fn install(&self, host: &HostExec, plan: &HostPlan, lock_timeout: Duration, continued: bool) -> Order;

    /// How it makes an adjustment.
    fn adjusting(&self, what: Adjustment) -> Adjusting;

    /// Makes a damaged database readable again; nothing where it is.
    fn mend<'a>(&'a self, host: &'a HostExec, cancel: &'a CancellationToken) -> Answer<'a, Vec<Order>> {
        let _ = (host, cancel);
        Box::pin(async { Ok(Vec::new()) })
    }

    /// Finishes or tidies what was left half done.
    fn repair<'a>(
        &'a self,
        host: &'a HostExec,
        plan: &'a HostPlan,
        cancel: &'a CancellationToken,
    ) -> Answer<'a, Vec<Order>>;

    /// Reads a line of its machine-readable channel.
    fn hear(&self, line: &str) -> Option<Line> {
        let _ = line;
        None
    }

    /// What sets marks of packages; none where that is not needed.
    fn mark(&self, verb: &str, names: Vec<String>) -> Option<Vec<String>> {
        let _ = (verb, names);
        None
    }

    /// Former versions of a plan that repositories offer, and who does.
    fn offered<'a>(
        &'a self,
        host: &'a HostExec,
        changes: &'a [PlannedChange],
        cancel: &'a CancellationToken,
    ) -> Answer<'a, Offered>;

    /// A former package in its own cache, as this machine sees it.
    fn cached(&self, host: &HostExec, id: &PackageId, version: &str) -> Option<PathBuf>;

    /// Downloads former packages into `dir`, which is shared; none where they are out of reach.
    fn fetch(&self, host: &HostExec, wanted: &[Former], dir: &Path, offline: bool) -> Option<Order>;

    /// Asks a package file what it is.
    fn identify(&self, file: &str) -> Vec<String>;

    /// What it answered.
    fn identified(&self, text: &str) -> Option<(PackageId, String)>;

    /// Whether packages can be made again out of their installed files.
    fn rebuilds(&self) -> bool {
        false
    }

    /// The name that it gives to the file of a package.
    fn file_name(&self, id: &PackageId, version: &str) -> String;

    /// The configuration files of packages.
    fn config_files<'a>(
        &'a self,
        host: &'a HostExec,
        ids: &'a [&'a PackageId],
        cancel: &'a CancellationToken,
    ) -> Answer<'a, Vec<String>>;

    /// Caches that it makes again by itself, for when there is no room.
    fn spare(&self, host: &HostExec) -> Vec<String>;

    /// The way back as it is meant to be gone.
    fn go_back(&self, undoing: &Undoing<'_>) -> Vec<Order>;

    /// The way back where that one was refused.
    fn force_back(&self, undoing: &Undoing<'_>) -> Vec<Order>;
}

/// Who changes a target, by what its system calls itself.
pub(super) fn executor_of(host: &HostExec) -> &'static dyn Executor {
    match family_of(host) {
        Family::Apt => &AptExecutor,
        Family::Dnf(Generation::Four) => &DnfExecutor(Generation::Four),
        Family::Dnf(Generation::Five) => &DnfExecutor(Generation::Five),
        Family::Zypper => &ZypperExecutor,
        Family::Windows => &WindowsExecutor,
    }
}
