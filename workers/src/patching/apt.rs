//! apt and dpkg as the executor of a change: exact versions in, dpkg's database out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use patchloom_domain::{
    Adjustment, HostPlan, Manager, PackageId, PackageSet, PackageState, PlannedChange, VersionScheme,
};
use tokio_util::sync::CancellationToken;

use super::executor::{Adjusting, Answer, Executor, Former, Leavings, Offered, Simulated, Undoing};
use super::install::changing;
use super::report::{self, Line};
use super::{qualified, spec, state};
use crate::apt::simulate;
use crate::failure::{chain, permanent};
use crate::host::{HostExec, Order};

/// Where apt keeps what it downloaded.
const ARCHIVES: &str = "/var/cache/apt/archives";

/// How long the download of former versions may take.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(1800);

/// apt and dpkg.
pub(super) struct AptExecutor;

/// Options of every call of apt that changes packages.
fn apt_get(host: &HostExec, lock_timeout: Duration, more: &[String]) -> Order {
    let mut argv = vec!["apt-get".to_owned(), "-y".to_owned(), "-q".to_owned()];
    for option in [
        format!("DPkg::Lock::Timeout={}", lock_timeout.as_secs()),
        "APT::Status-Fd=3".to_owned(),
        "Dpkg::Use-Pty=0".to_owned(),
        "Dpkg::Options::=--force-confdef".to_owned(),
        "Dpkg::Options::=--force-confold".to_owned(),
        "APT::Get::AutomaticRemove=false".to_owned(),
        "APT::Install-Recommends=false".to_owned(),
        "APT::Install-Suggests=false".to_owned(),
    ] {
        argv.extend(["-o".to_owned(), option]);
    }
    argv.extend_from_slice(more);
    changing(host, argv)
}

/// Finishes what dpkg left half done, as far as it can.
const CONFIGURE: &[&str] = &["dpkg", "--force-confdef", "--force-confold", "--configure", "-a"];

fn configure(host: &HostExec) -> Order {
    changing(host, CONFIGURE.iter().map(|word| (*word).to_owned()).collect())
}

fn specs(plan: &HostPlan) -> Vec<String> {
    plan.changes.iter().map(|change| spec(&change.id, &change.candidate)).collect()
}

/// Packages that were not there before.
fn new_packages(undoing: &Undoing<'_>) -> Vec<String> {
    let is_new = |id: &&PackageId| undoing.before.get(id).is_none();
    undoing.now.iter().map(|(id, _)| id).filter(is_new).map(qualified).collect()
}

impl Executor for AptExecutor {
    fn words(&self) -> Manager {
        Manager::Apt
    }

    fn scheme(&self) -> Option<VersionScheme> {
        Some(VersionScheme::Deb)
    }

    fn leavings(&self) -> Leavings {
        Leavings {
            archives: ARCHIVES,
            depth: 0,
            suffix: ".deb",
            partial: Some("partial"),
            residue: &[".dpkg-dist", ".dpkg-old", ".dpkg-new", ".dpkg-tmp"],
        }
    }

    fn packages<'a>(&'a self, host: &'a HostExec, cancel: &'a CancellationToken) -> Answer<'a, PackageSet> {
        Box::pin(async move {
            let format = "-f=${db:Status-Abbrev}\\t${Package}\\t${Architecture}\\t${Version}\\n";
            Ok(parse_packages(&state::read(host, &["dpkg-query", "-W", format], cancel).await?))
        })
    }

    /// What `dpkg --audit` says; its exit code is 0 even when packages are broken.
    fn audit<'a>(&'a self, host: &'a HostExec, cancel: &'a CancellationToken) -> Answer<'a, String> {
        Box::pin(async move {
            let ran = state::run(host, Order::reading(["dpkg", "--audit"]), cancel).await?;
            Ok(ran.stdout.text.trim().to_owned())
        })
    }

    fn auto_marks<'a>(&'a self, host: &'a HostExec, cancel: &'a CancellationToken) -> Answer<'a, BTreeSet<String>> {
        Box::pin(async move {
            Ok(state::read(host, &["apt-mark", "showauto"], cancel).await?.lines().map(str::to_owned).collect())
        })
    }

    fn row_name(&self, id: &PackageId) -> String {
        id.name.clone()
    }

    fn simulate<'a>(
        &'a self,
        host: &'a HostExec,
        plan: &'a HostPlan,
        cancel: &'a CancellationToken,
    ) -> Answer<'a, Simulated> {
        Box::pin(async move {
            let fixed = ["apt-get", "-s", "-y", "-q", "--no-remove", "-o", "APT::Install-Recommends=false", "install"];
            let order = Order::reading(fixed.map(str::to_owned).into_iter().chain(specs(plan)));
            let ran = state::run(host, order.timeout(Duration::from_secs(300)), cancel).await?;
            let found = simulate::parse(&ran.stdout.text).map_err(|error| permanent(error.code(), chain(&error)))?;
            let row = |i: &simulate::Install| (i.name.clone(), i.installed.clone(), i.candidate.clone());
            Ok(Simulated { rows: found.installs.iter().map(row).collect(), removes: found.removes, said: ran.text() })
        })
    }

    fn install_words(&self, plan: &HostPlan) -> Vec<String> {
        ["--no-remove", "install"].map(str::to_owned).into_iter().chain(specs(plan)).collect()
    }

    fn install(&self, host: &HostExec, plan: &HostPlan, lock_timeout: Duration, continued: bool) -> Order {
        let mut words = self.install_words(plan);
        if continued {
            // Lets apt start from a state with unmet dependencies; it still may only reach the planned versions.
            words.insert(0, "--fix-broken".to_owned());
        }
        apt_get(host, lock_timeout, &words)
    }

    fn adjusting(&self, what: Adjustment) -> Adjusting {
        const UPDATE: &[&str] = &["apt-get", "-q", "update"];
        const CLEAN: &[&str] = &["apt-get", "-q", "clean"];
        match what {
            Adjustment::RefreshIndexes => Adjusting::Calls(&[UPDATE]),
            Adjustment::ReplaceIndexes => Adjusting::SwapLists,
            Adjustment::DiscardPackages => Adjusting::Calls(&[CLEAN]),
            Adjustment::RefetchAll => Adjusting::Calls(&[CLEAN, UPDATE]),
            Adjustment::FinishFormerRun => Adjusting::Calls(&[CONFIGURE]),
        }
    }

    fn repair<'a>(
        &'a self,
        host: &'a HostExec,
        _plan: &'a HostPlan,
        _cancel: &'a CancellationToken,
    ) -> Answer<'a, Vec<Order>> {
        Box::pin(async move { Ok(vec![configure(host)]) })
    }

    fn hear(&self, line: &str) -> Option<Line> {
        report::parse(line)
    }

    fn mark(&self, verb: &str, names: Vec<String>) -> Option<Vec<String>> {
        Some(["apt-mark", verb].map(str::to_owned).into_iter().chain(names).collect())
    }

    fn offered<'a>(
        &'a self,
        host: &'a HostExec,
        changes: &'a [PlannedChange],
        cancel: &'a CancellationToken,
    ) -> Answer<'a, Offered> {
        Box::pin(async move {
            let mut argv = vec!["apt-cache".to_owned(), "madison".to_owned()];
            argv.extend(changes.iter().filter(|c| c.installed.is_some()).map(|c| c.id.name.clone()));
            if argv.len() == 2 {
                return Ok(Offered::new());
            }
            let ran = state::run(host, Order::reading(argv).keep(16 << 20), cancel).await?;
            Ok(parse_madison(&ran.stdout.text))
        })
    }

    fn cached(&self, host: &HostExec, id: &PackageId, version: &str) -> Option<PathBuf> {
        let path = host.path(&format!("{ARCHIVES}/{}", self.file_name(id, version)));
        path.is_file().then_some(path)
    }

    fn fetch(&self, host: &HostExec, wanted: &[Former], dir: &Path, offline: bool) -> Option<Order> {
        // Off line, a repository in a directory of the target is as good as a cache.
        let reachable = wanted.iter().filter(|(_, _, origin)| !offline || is_local(origin));
        let specs: Vec<_> = reachable.map(|(id, version, _)| spec(id, version)).collect();
        if specs.is_empty() {
            return None;
        }
        let inside = host.shared_path(dir);
        let argv =
            ["apt-get", "-q", "-o", "Acquire::Retries=2", "download"].map(str::to_owned).into_iter().chain(specs);
        let order = Order::reading(argv).share(dir).dir(&inside.to_string_lossy());
        Some(order.timeout(DOWNLOAD_TIMEOUT).merged())
    }

    fn identify(&self, file: &str) -> Vec<String> {
        let argv = ["dpkg-deb", "-W", "--showformat=${Package}\\t${Version}\\t${Architecture}", file];
        argv.map(str::to_owned).to_vec()
    }

    fn identified(&self, text: &str) -> Option<(PackageId, String)> {
        let fields: Vec<_> = text.trim().split('\t').collect();
        let [package, version, arch] = fields.as_slice() else { return None };
        Some((PackageId { name: (*package).to_owned(), arch: (*arch).to_owned() }, (*version).to_owned()))
    }

    fn rebuilds(&self) -> bool {
        true
    }

    fn file_name(&self, id: &PackageId, version: &str) -> String {
        format!("{}_{}_{}.deb", id.name, version.replace(':', "%3a"), id.arch)
    }

    fn config_files<'a>(
        &'a self,
        host: &'a HostExec,
        ids: &'a [&'a PackageId],
        cancel: &'a CancellationToken,
    ) -> Answer<'a, Vec<String>> {
        Box::pin(async move {
            let names = ids.iter().map(|id| qualified(id));
            let argv = ["dpkg-query", "-W", "-f=${Conffiles}\\n"].map(str::to_owned).into_iter().chain(names);
            let ran = state::run(host, Order::reading(argv), cancel).await?;
            Ok(parse_conffiles(&ran.stdout.text))
        })
    }

    fn spare(&self, _host: &HostExec) -> Vec<String> {
        ["/var/cache/apt/pkgcache.bin", "/var/cache/apt/srcpkgcache.bin"].map(str::to_owned).to_vec()
    }

    fn go_back(&self, undoing: &Undoing<'_>) -> Vec<Order> {
        let mut orders = vec![configure(undoing.host)];
        let new = new_packages(undoing);
        if !undoing.files.is_empty() || !new.is_empty() {
            // Without its binary caches apt needs no room of its own.
            let flags = [
                "-o",
                "Dir::Cache::pkgcache=",
                "-o",
                "Dir::Cache::srcpkgcache=",
                "--fix-broken",
                "--allow-downgrades",
                "--allow-change-held-packages",
                "--purge",
                "install",
            ];
            let mut words: Vec<_> = flags.map(str::to_owned).to_vec();
            words.extend(undoing.files.iter().map(|(_, _, file)| file.clone()));
            words.extend(new.iter().map(|name| format!("{name}-")));
            orders.push(apt_get(undoing.host, undoing.lock_timeout, &words).share(undoing.dir));
        }
        orders
    }

    /// apt refuses to plan on a database that is too broken; dpkg simply unpacks the former files over it.
    fn force_back(&self, undoing: &Undoing<'_>) -> Vec<Order> {
        if undoing.files.is_empty() {
            return Vec::new();
        }
        let flags = ["dpkg", "--force-confdef", "--force-confold", "--force-downgrade", "--force-depends", "-i"];
        let files = undoing.files.iter().map(|(_, _, file)| file.clone());
        let argv = flags.map(str::to_owned).into_iter().chain(files).collect();
        let mut orders = vec![changing(undoing.host, argv).share(undoing.dir)];
        let new = new_packages(undoing);
        if !new.is_empty() {
            let argv = ["dpkg", "--purge"].map(str::to_owned).into_iter().chain(new).collect();
            orders.push(changing(undoing.host, argv));
        }
        orders.push(configure(undoing.host));
        orders
    }
}

fn parse_packages(text: &str) -> PackageSet {
    let row = |line: &str| {
        let mut fields = line.split('\t');
        let (status, name, arch, version) = (fields.next()?.trim(), fields.next()?, fields.next()?, fields.next()?);
        // dpkg lists names that it merely heard of: not installed is not there.
        if status.as_bytes().get(1) == Some(&b'n') {
            return None;
        }
        let id = PackageId { name: name.to_owned(), arch: arch.to_owned() };
        Some((id, PackageState { version: version.to_owned(), status: status.to_owned() }))
    };
    text.lines().filter_map(row).collect()
}

fn parse_madison(text: &str) -> Offered {
    let row = |line: &str| {
        let mut fields = line.split('|').map(str::trim);
        let (name, version, origin) = (fields.next()?, fields.next()?, fields.next()?);
        Some(((name.to_owned(), version.to_owned()), origin.to_owned()))
    };
    text.lines().filter_map(row).collect()
}

fn is_local(origin: &str) -> bool {
    ["file:", "copy:"].iter().any(|scheme| origin.starts_with(scheme))
}

fn parse_conffiles(text: &str) -> Vec<String> {
    let path = |line: &str| {
        let mut words = line.trim().rsplitn(2, ' ');
        let (last, first) = (words.next()?, words.next()?);
        // ` /etc/x 0123… obsolete` has one word more.
        let path = if last == "obsolete" { first.rsplit_once(' ')?.0 } else { first };
        path.starts_with('/').then(|| path.trim().to_owned())
    };
    let mut paths: Vec<_> = text.lines().filter_map(path).collect();
    paths.sort();
    paths.dedup();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dpkg_only_heard_of_is_not_there() {
        let set = parse_packages(
            "ii \tjq\tamd64\t1.6-2\niF \tacme\tall\t1.1\nrc \told\tamd64\t2\nun \tghost\t\t\npn \tgone\tamd64\t1\n\
             iHR\tbad\tamd64\t1\nhi \theld\tamd64\t3\n",
        );
        let rows: Vec<_> = set.iter().map(|(id, state)| format!("{} {state}", id.name)).collect();
        assert_eq!(rows, ["acme 1.1 (iF)", "bad 1 (iHR)", "held 3 (hi)", "jq 1.6-2 (ii)", "old 2 (rc)"]);
    }

    #[test]
    fn madison_and_conffiles_are_read() {
        let rows = parse_madison(
            "   jq | 1.6-2 | http://deb.example/debian bookworm/main amd64 Packages\n jq | 1.5 | file:/srv/repo ./ Packages\n",
        );
        assert!(is_local(&rows[&("jq".to_owned(), "1.5".to_owned())]));
        assert!(!is_local(&rows[&("jq".to_owned(), "1.6-2".to_owned())]));
        let files = parse_conffiles("\n /etc/a 0123\n /etc/b c 4567 obsolete\n\n /etc/a 0123\n");
        assert_eq!(files, ["/etc/a", "/etc/b c"]);
    }

    #[test]
    fn a_file_name_is_apts_own() {
        let jq = PackageId { name: "jq".to_owned(), arch: "amd64".to_owned() };
        assert_eq!(AptExecutor.file_name(&jq, "5:7.0-1~x"), "jq_5%3a7.0-1~x_amd64.deb");
    }
}
