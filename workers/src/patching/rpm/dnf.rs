//! dnf as the executor of a change, in both its generations. dnf 4 exits 0 where it skipped a package and where the %post of one
//! failed, so it is asked for exact versions, its journal is read for scripts, and what counts is rpm's database.

use std::path::Path;
use std::time::Duration;

use patchloom_domain::{Adjustment, HostPlan, Manager, PackageId, PlannedChange};
use tokio_util::sync::CancellationToken;

use super::super::executor::{Adjusting, Answer, Former, Offered, Simulated};
use super::super::install::changing;
use super::super::scripts::Scripts;
use super::super::state;
use super::executor::RpmExecutor;
use super::{journal, nevra, row_name};
use crate::dnf::{Generation, offers};
use crate::host::{HostExec, Order};

/// Locks by process number. dnf 5 has locks that end with their process.
const LOCKS: [&str; 4] = [
    "/var/lib/dnf/rpmdb_lock.pid",
    "/var/cache/dnf/metadata_lock.pid",
    "/var/cache/dnf/download_lock.pid",
    "/var/log/log_lock.pid",
];

/// Its cache: `REPOSITORY-HASH/packages/FILE`.
const CACHE_DEPTH: usize = 2;

/// How long a simulation or a download may take.
const LONG: Duration = Duration::from_secs(1800);

/// What each adjustment calls. Indexes that cannot be read have to go first: dnf believes them as long as their summary is the same.
struct Calls {
    refresh: &'static [&'static [&'static str]],
    replace: &'static [&'static [&'static str]],
    discard: &'static [&'static [&'static str]],
    refetch: &'static [&'static [&'static str]],
}

const FOUR: Calls = Calls {
    refresh: &[&["dnf", "-q", "--refresh", "makecache"]],
    replace: &[&["dnf", "-q", "clean", "metadata"], &["dnf", "-q", "makecache"]],
    discard: &[&["dnf", "-q", "clean", "packages"]],
    refetch: &[&["dnf", "-q", "clean", "packages"], &["dnf", "-q", "--refresh", "makecache"]],
};

const FIVE: Calls = Calls {
    refresh: &[&["dnf5", "-q", "--refresh", "makecache"]],
    replace: &[&["dnf5", "-q", "clean", "metadata"], &["dnf5", "-q", "makecache"]],
    discard: &[&["dnf5", "-q", "clean", "packages"]],
    refetch: &[&["dnf5", "-q", "clean", "packages"], &["dnf5", "-q", "--refresh", "makecache"]],
};

/// dnf and rpm.
pub(in super::super) struct DnfExecutor(pub(in super::super) Generation);

impl DnfExecutor {
    /// The options of every call that resolves: what was planned was planned with what dnf had fetched by then.
    fn resolving(&self, more: &[&str]) -> Vec<String> {
        let fixed = [
            self.0.program(),
            "--color=never",
            "--best",
            "--setopt=install_weak_deps=False",
            "--setopt=installonly_limit=0",
            "--setopt=exit_on_lock=True",
            "--setopt=*.metadata_expire=never",
        ];
        fixed.iter().chain(more).map(|word| (*word).to_owned()).collect()
    }

    /// What the way back uses: no repository at all.
    fn offline(&self, verb: &str) -> Vec<String> {
        let fixed = [self.0.program(), "-y", "--color=never", "--disablerepo=*", "--setopt=exit_on_lock=True"];
        let keep = match self.0 {
            Generation::Four => "--noautoremove",
            Generation::Five => "--setopt=clean_requirements_on_remove=False",
        };
        fixed.into_iter().chain([keep, verb]).map(str::to_owned).collect()
    }
}

impl RpmExecutor for DnfExecutor {
    fn words(&self) -> Manager {
        Manager::Dnf
    }

    fn archives(&self) -> (&'static str, usize) {
        (self.0.cache(), CACHE_DEPTH)
    }

    fn journal<'a>(&'a self, host: &'a HostExec, cancel: &'a CancellationToken) -> Answer<'a, Option<u64>> {
        Box::pin(journal::last(host, self.0, cancel))
    }

    fn scripts<'a>(
        &'a self,
        host: &'a HostExec,
        since: Option<u64>,
        said: &'a str,
        cancel: &'a CancellationToken,
    ) -> Answer<'a, Scripts> {
        Box::pin(async move {
            let mut found = Scripts::in_words(Manager::Dnf, said);
            if let Some(since) = since {
                found.join(journal::scripts(host, self.0, since, cancel).await?);
            }
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
            let argv = self.resolving(&["--assumeno"]).into_iter().chain(self.install_words(plan));
            let ran = state::run(host, Order::changing(argv).timeout(LONG), cancel).await?;
            let found = offers::transaction(self.0, &ran.stdout.text);
            let former = |id: &PackageId| {
                plan.changes.iter().find(|change| change.id == *id).and_then(|change| change.installed.clone())
            };
            let rows = found.installs.iter().map(|(id, version)| (row_name(id), former(id), version.clone()));
            let removes = found.removes.iter().map(|(name, version)| (name.clone(), Some(version.clone())));
            Ok(Simulated { rows: rows.collect(), removes: removes.collect(), said: ran.text() })
        })
    }

    /// `upgrade` leaves what it brings along marked as a dependency; it knows only what is installed.
    fn install_words(&self, plan: &HostPlan) -> Vec<String> {
        let spec = |change: &PlannedChange| nevra(&change.id, &change.candidate);
        let known: Vec<_> = plan.changes.iter().filter(|change| change.installed.is_some()).map(spec).collect();
        let (verb, specs) = match known.is_empty() {
            true => ("install", plan.changes.iter().map(spec).collect()),
            false => ("upgrade", known),
        };
        [verb.to_owned()].into_iter().chain(specs).collect()
    }

    fn install(&self, host: &HostExec, plan: &HostPlan, _lock_timeout: Duration, _continued: bool) -> Order {
        changing(host, self.resolving(&["-y"]).into_iter().chain(self.install_words(plan)).collect())
    }

    fn adjusting(&self, what: Adjustment) -> Adjusting {
        let calls = match self.0 {
            Generation::Four => &FOUR,
            Generation::Five => &FIVE,
        };
        Adjusting::Calls(match what {
            Adjustment::RefreshIndexes => calls.refresh,
            Adjustment::ReplaceIndexes => calls.replace,
            Adjustment::DiscardPackages => calls.discard,
            Adjustment::RefetchAll => calls.refetch,
            Adjustment::FinishFormerRun => return Adjusting::Never,
        })
    }

    fn locks(&self) -> &'static [&'static str] {
        &LOCKS
    }

    fn reinstall(&self) -> Vec<String> {
        self.resolving(&["-y", "reinstall"])
    }

    fn spec(&self, id: &PackageId, version: &str) -> String {
        nevra(id, version)
    }

    fn offered<'a>(
        &'a self,
        host: &'a HostExec,
        changes: &'a [PlannedChange],
        cancel: &'a CancellationToken,
    ) -> Answer<'a, Offered> {
        Box::pin(async move {
            let spec = |change: &PlannedChange| change.installed.as_ref().map(|version| nevra(&change.id, version));
            let specs: Vec<String> = changes.iter().filter_map(spec).collect();
            // Who cannot answer offers nothing.
            let offers = offers::describe(host, self.0, &specs, cancel).await.unwrap_or_default();
            Ok(offers.into_iter().map(|offer| ((offer.id.name, offer.version), offer.repository)).collect())
        })
    }

    /// `dnf download` is a plugin of dnf 4 that may be absent; to reinstall what is installed and stop after the download is not.
    fn fetch(&self, host: &HostExec, wanted: &[Former], dir: &Path, offline: bool) -> Option<Order> {
        let inside = format!("--destdir={}", host.shared_path(dir).display());
        let mut argv = self.resolving(&["-y"]);
        argv.extend(offline.then(|| "-C".to_owned()));
        argv.extend(match self.0 {
            Generation::Four => vec!["--downloadonly".to_owned(), inside, "reinstall".to_owned()],
            Generation::Five => vec!["download".to_owned(), inside],
        });
        argv.extend(wanted.iter().map(|(id, version, _)| nevra(id, version)));
        Some(changing(host, argv).share(dir).timeout(LONG))
    }

    fn spare(&self, host: &HostExec) -> Vec<String> {
        match self.0 {
            Generation::Four => super::files_in(host, self.0.cache(), &[".solv", ".solvx"]),
            Generation::Five => super::files_below(host, self.0.cache(), "solv", &[".solv", ".solvx"]),
        }
    }

    fn downgrade(&self, host: &HostExec, _lock_timeout: Duration, files: Vec<String>) -> Order {
        changing(host, self.offline("downgrade").into_iter().chain(files).collect())
    }

    fn erase(&self) -> Vec<String> {
        self.offline("remove")
    }
}
