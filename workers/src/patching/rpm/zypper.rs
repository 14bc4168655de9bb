//! zypper as the executor of a change. It says by its exit code that a script failed (107) and tells which in its history,
//! which is what is read here: the history outlives a process that was killed.

use std::path::Path;
use std::time::Duration;

use patchloom_domain::{Adjustment, HostPlan, Manager, PackageId, PlannedChange};
use tokio_util::sync::CancellationToken;

use super::super::executor::{Adjusting, Answer, Former, Offered, Simulated};
use super::super::install::changing;
use super::super::scripts::Scripts;
use super::super::state;
use super::executor::RpmExecutor;
use super::row_name;
use crate::host::{HostExec, Order};
use crate::zypper::{PACKAGES, ZYPPER, xml};

/// What it has done, a line each, with what rpm said.
const HISTORY: &str = "/var/log/zypp/history";

/// Its locks hold the number of a process.
const LOCKS: [&str; 2] = ["/run/zypp.pid", "/var/run/zypp.pid"];

/// `REPOSITORY/ARCH/FILE`, or deeper where a repository is laid out so.
const CACHE_DEPTH: usize = 4;

/// How long a simulation or a download may take.
const LONG: Duration = Duration::from_secs(1800);

/// What is installed is exactly what is asked for: nothing recommended, and no solution that it finds by itself.
const EXACT: [&str; 4] = ["install", "--no-recommends", "--no-force-resolution", "--auto-agree-with-licenses"];

/// The repository column of what no repository has.
const NOWHERE: &str = "(System Packages)";

/// zypper and rpm.
pub(in super::super) struct ZypperExecutor;

fn zypper(options: &[&str], words: &[&str]) -> Vec<String> {
    ZYPPER.iter().chain(options).chain(words).map(|word| (*word).to_owned()).collect()
}

/// An exact version as zypper takes it.
fn spec(id: &PackageId, version: &str) -> String {
    format!("{}.{}={version}", id.name, id.arch)
}

/// zypper waits for another one by itself, as long as this variable says.
fn waiting(order: Order, limit: Duration) -> Order {
    order.env("ZYPP_LOCK_TIMEOUT", &limit.as_secs().to_string())
}

impl RpmExecutor for ZypperExecutor {
    fn words(&self) -> Manager {
        Manager::Zypper
    }

    fn archives(&self) -> (&'static str, usize) {
        (PACKAGES, CACHE_DEPTH)
    }

    fn journal<'a>(&'a self, host: &'a HostExec, _cancel: &'a CancellationToken) -> Answer<'a, Option<u64>> {
        // A history that is not there begins with our own change.
        let length = std::fs::metadata(host.path(HISTORY)).map_or(0, |data| data.len());
        Box::pin(async move { Ok(Some(length)) })
    }

    fn scripts<'a>(
        &'a self,
        host: &'a HostExec,
        since: Option<u64>,
        said: &'a str,
        _cancel: &'a CancellationToken,
    ) -> Answer<'a, Scripts> {
        Box::pin(async move {
            let mut found = Scripts::in_words(Manager::Zypper, said);
            let history = std::fs::read(host.path(HISTORY)).unwrap_or_default();
            let since = since.and_then(|since| usize::try_from(since).ok());
            // One that is shorter than it was has been rotated: then all of it is new.
            let new = since.and_then(|since| history.get(since..).or(Some(&history))).unwrap_or_default();
            found.join(Scripts::in_words(Manager::Zypper, &String::from_utf8_lossy(new)));
            Ok(found)
        })
    }

    fn simulate<'a>(
        &'a self,
        host: &'a HostExec,
        plan: &'a HostPlan,
        cancel: &'a CancellationToken,
    ) -> Answer<'a, Simulated> {
        Box::pin(async move {
            let argv = zypper(&["--xmlout"], &EXACT);
            let argv = argv.into_iter().chain(["--dry-run".to_owned()]).chain(specs(plan));
            let ran = state::run(host, Order::changing(argv).timeout(LONG), cancel).await?;
            let found = xml::summary(&ran.stdout.text);
            let row = |(id, (before, version)): (&PackageId, &(Option<String>, String))| {
                (row_name(id), before.clone(), version.clone())
            };
            let removes = found.removes.iter().map(|(name, version)| (name.clone(), Some(version.clone())));
            Ok(Simulated {
                rows: found.installs.iter().map(row).collect(),
                removes: removes.collect(),
                said: ran.text(),
            })
        })
    }

    fn install_words(&self, plan: &HostPlan) -> Vec<String> {
        EXACT.map(str::to_owned).into_iter().chain(specs(plan)).collect()
    }

    fn install(&self, host: &HostExec, plan: &HostPlan, lock_timeout: Duration, _continued: bool) -> Order {
        let argv = zypper(&[], &[]).into_iter().chain(self.install_words(plan)).collect();
        waiting(changing(host, argv), lock_timeout)
    }

    fn adjusting(&self, what: Adjustment) -> Adjusting {
        const REFRESH: &[&str] = &["zypper", "--non-interactive", "refresh", "--force"];
        const CLEAN: &[&str] = &["zypper", "--non-interactive", "clean"];
        match what {
            Adjustment::RefreshIndexes | Adjustment::ReplaceIndexes => Adjusting::Calls(&[REFRESH]),
            Adjustment::DiscardPackages => Adjusting::Calls(&[CLEAN]),
            Adjustment::RefetchAll => Adjusting::Calls(&[CLEAN, REFRESH]),
            Adjustment::FinishFormerRun => Adjusting::Never,
        }
    }

    fn locks(&self) -> &'static [&'static str] {
        &LOCKS
    }

    fn reinstall(&self) -> Vec<String> {
        zypper(&[], &EXACT).into_iter().chain(["--force".to_owned()]).collect()
    }

    fn spec(&self, id: &PackageId, version: &str) -> String {
        spec(id, version)
    }

    fn offered<'a>(
        &'a self,
        host: &'a HostExec,
        changes: &'a [PlannedChange],
        cancel: &'a CancellationToken,
    ) -> Answer<'a, Offered> {
        Box::pin(async move {
            let names = changes.iter().filter(|change| change.installed.is_some()).map(|change| change.id.name.clone());
            let argv = zypper(&["--xmlout"], &["search", "--details", "--type", "package", "--match-exact"]);
            let ran = state::run(host, Order::changing(argv.into_iter().chain(names)), cancel).await?;
            let rows = xml::tags(&ran.stdout.text).into_iter().filter(|tag| tag.name == "solvable");
            let somewhere = rows.filter(|tag| tag.get("repository") != NOWHERE);
            let row = |tag: xml::Tag| {
                let key = (tag.get("name").to_owned(), tag.get("edition").to_owned());
                (key, tag.get("repository").to_owned())
            };
            Ok(somewhere.map(row).collect())
        })
    }

    fn fetch(&self, host: &HostExec, wanted: &[Former], dir: &Path, offline: bool) -> Option<Order> {
        // Which repository is on this very machine it does not tell.
        if offline {
            return None;
        }
        let inside = host.shared_path(dir);
        let words = ["install", "--download-only", "--force", "--oldpackage", "--no-recommends"];
        let mut argv = zypper(&["--pkg-cache-dir", &inside.to_string_lossy()], &words);
        argv.extend(wanted.iter().map(|(id, version, _)| spec(id, version)));
        Some(changing(host, argv).share(dir).timeout(LONG))
    }

    fn spare(&self, _host: &HostExec) -> Vec<String> {
        Vec::new()
    }

    fn downgrade(&self, host: &HostExec, lock_timeout: Duration, files: Vec<String>) -> Order {
        // The files were checked when they were kept; a file has no repository whose key could vouch for it.
        let words = ["install", "--oldpackage", "--allow-downgrade", "--no-recommends", "--no-force-resolution"];
        let argv = zypper(&["--no-gpg-checks"], &words).into_iter().chain(files).collect();
        waiting(changing(host, argv), lock_timeout)
    }

    fn erase(&self) -> Vec<String> {
        ["rpm", "-e"].map(str::to_owned).to_vec()
    }
}

fn specs(plan: &HostPlan) -> Vec<String> {
    plan.changes.iter().map(|change| spec(&change.id, &change.candidate)).collect()
}
