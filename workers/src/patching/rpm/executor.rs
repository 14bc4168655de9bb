//! What dnf and zypper do alike because rpm is below both, written once: an executor over rpm says only what is its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use patchloom_domain::{Adjustment, HostPlan, Manager, PackageId, PackageSet, PlannedChange, VersionScheme};
use tokio_util::sync::CancellationToken;

use super::super::executor::{Adjusting, Answer, Executor, Former, Leavings, Offered, Simulated, Undoing};
use super::super::install::changing;
use super::super::scripts::Scripts;
use super::{RESIDUE, Rest};
use crate::host::{HostExec, Order};

/// A package manager over rpm. What is named as in [`Executor`] means the same.
pub(super) trait RpmExecutor: Send + Sync {
    fn words(&self) -> Manager;

    /// Where it keeps what it downloaded, and how deep.
    fn archives(&self) -> (&'static str, usize);

    /// How far its own journal is.
    fn journal<'a>(&'a self, host: &'a HostExec, cancel: &'a CancellationToken) -> Answer<'a, Option<u64>>;

    fn scripts<'a>(
        &'a self,
        host: &'a HostExec,
        since: Option<u64>,
        said: &'a str,
        cancel: &'a CancellationToken,
    ) -> Answer<'a, Scripts>;

    fn simulate<'a>(
        &'a self,
        host: &'a HostExec,
        plan: &'a HostPlan,
        cancel: &'a CancellationToken,
    ) -> Answer<'a, Simulated>;

    fn install_words(&self, plan: &HostPlan) -> Vec<String>;

    fn install(&self, host: &HostExec, plan: &HostPlan, lock_timeout: Duration, continued: bool) -> Order;

    fn adjusting(&self, what: Adjustment) -> Adjusting;

    /// Its locks that hold the number of a process.
    fn locks(&self) -> &'static [&'static str];

    /// The words before exact versions that are to be installed once more.
    fn reinstall(&self) -> Vec<String>;

    /// An exact version as it takes it.
    fn spec(&self, id: &PackageId, version: &str) -> String;

    fn offered<'a>(
        &'a self,
        host: &'a HostExec,
        changes: &'a [PlannedChange],
        cancel: &'a CancellationToken,
    ) -> Answer<'a, Offered>;

    fn fetch(&self, host: &HostExec, wanted: &[Former], dir: &Path, offline: bool) -> Option<Order>;

    fn spare(&self, host: &HostExec) -> Vec<String>;

    /// Takes packages back to those in files.
    fn downgrade(&self, host: &HostExec, lock_timeout: Duration, files: Vec<String>) -> Order;

    /// The words before names of packages that are to go.
    fn erase(&self) -> Vec<String>;
}

impl<T: RpmExecutor> Executor for T {
    fn words(&self) -> Manager {
        RpmExecutor::words(self)
    }

    fn scheme(&self) -> Option<VersionScheme> {
        Some(VersionScheme::Rpm)
    }

    fn leavings(&self) -> Leavings {
        let (archives, depth) = self.archives();
        Leavings { archives, depth, suffix: ".rpm", partial: None, residue: RESIDUE }
    }

    fn packages<'a>(&'a self, host: &'a HostExec, cancel: &'a CancellationToken) -> Answer<'a, PackageSet> {
        Box::pin(super::packages(host, cancel))
    }

    fn audit<'a>(&'a self, host: &'a HostExec, cancel: &'a CancellationToken) -> Answer<'a, String> {
        Box::pin(super::audit(host, cancel))
    }

    fn baseline<'a>(&'a self, host: &'a HostExec, cancel: &'a CancellationToken) -> Answer<'a, (Option<u64>, String)> {
        Box::pin(async move { Ok((self.journal(host, cancel).await?, super::audit(host, cancel).await?)) })
    }

    fn scripts<'a>(
        &'a self,
        host: &'a HostExec,
        since: Option<u64>,
        said: &'a str,
        cancel: &'a CancellationToken,
    ) -> Answer<'a, Scripts> {
        RpmExecutor::scripts(self, host, since, said, cancel)
    }

    fn row_name(&self, id: &PackageId) -> String {
        super::row_name(id)
    }

    fn simulate<'a>(
        &'a self,
        host: &'a HostExec,
        plan: &'a HostPlan,
        cancel: &'a CancellationToken,
    ) -> Answer<'a, Simulated> {
        RpmExecutor::simulate(self, host, plan, cancel)
    }

    fn install_words(&self, plan: &HostPlan) -> Vec<String> {
        RpmExecutor::install_words(self, plan)
    }

    fn install(&self, host: &HostExec, plan: &HostPlan, lock_timeout: Duration, continued: bool) -> Order {
        RpmExecutor::install(self, host, plan, lock_timeout, continued)
    }

    fn adjusting(&self, what: Adjustment) -> Adjusting {
        RpmExecutor::adjusting(self, what)
    }

    fn mend<'a>(&'a self, host: &'a HostExec, cancel: &'a CancellationToken) -> Answer<'a, Vec<Order>> {
        Box::pin(super::mend(host, self.locks(), cancel))
    }

    /// Nobody can tell which scripts of a cut off transaction ran: what it had installed is installed once more.
    fn repair<'a>(
        &'a self,
        host: &'a HostExec,
        plan: &'a HostPlan,
        cancel: &'a CancellationToken,
    ) -> Answer<'a, Vec<Order>> {
        Box::pin(async move {
            let mut orders = super::erase_doubles(host, plan, cancel).await?;
            let arrived = super::arrived(host, plan, cancel).await?;
            if !arrived.is_empty() {
                let specs = arrived.iter().map(|change| self.spec(&change.id, &change.candidate));
                orders.push(changing(host, self.reinstall().into_iter().chain(specs).collect()));
            }
            Ok(orders)
        })
    }

    fn offered<'a>(
        &'a self,
        host: &'a HostExec,
        changes: &'a [PlannedChange],
        cancel: &'a CancellationToken,
    ) -> Answer<'a, Offered> {
        RpmExecutor::offered(self, host, changes, cancel)
    }

    fn cached(&self, host: &HostExec, id: &PackageId, version: &str) -> Option<PathBuf> {
        let (dir, depth) = self.archives();
        super::cached(host, dir, depth, id, version)
    }

    fn fetch(&self, host: &HostExec, wanted: &[Former], dir: &Path, offline: bool) -> Option<Order> {
        RpmExecutor::fetch(self, host, wanted, dir, offline)
    }

    fn identify(&self, file: &str) -> Vec<String> {
        super::identify(file)
    }

    fn identified(&self, text: &str) -> Option<(PackageId, String)> {
        super::identified(text)
    }

    fn file_name(&self, id: &PackageId, version: &str) -> String {
        super::file_name(id, version)
    }

    fn config_files<'a>(
        &'a self,
        host: &'a HostExec,
        ids: &'a [&'a PackageId],
        cancel: &'a CancellationToken,
    ) -> Answer<'a, Vec<String>> {
        Box::pin(super::config_files(host, ids, cancel))
    }

    fn spare(&self, host: &HostExec) -> Vec<String> {
        RpmExecutor::spare(self, host)
    }

    fn go_back(&self, undoing: &Undoing<'_>) -> Vec<Order> {
        let rest = Rest::of(undoing);
        let mut orders = Vec::new();
        if !rest.files.is_empty() {
            orders.push(self.downgrade(undoing.host, undoing.lock_timeout, rest.files).share(undoing.dir));
        }
        let gone: Vec<String> = rest.new.into_iter().chain(rest.beside).collect();
        if !gone.is_empty() {
            orders.push(changing(undoing.host, self.erase().into_iter().chain(gone).collect()));
        }
        orders
    }

    fn force_back(&self, undoing: &Undoing<'_>) -> Vec<Order> {
        super::force_back(undoing)
    }
}
