//! What the repositories of a target offer, and what dnf would make of it.

use std::collections::{BTreeMap, BTreeSet};

use patchloom_domain::PackageId;
use tokio_util::sync::CancellationToken;

use super::evr;
use crate::apt::{Error, ask, failed};
use crate::host::{HostExec, Order};

const FORMAT: &str =
    "%{name}\\t%{epoch}\\t%{version}-%{release}\\t%{arch}\\t%{sourcerpm}\\t%{repoid}\\t%{downloadsize}";

/// A version of a package in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) id: PackageId,
    pub(crate) version: String,
    pub(crate) source: String,
    pub(crate) repository: String,
    pub(crate) size_bytes: Option<u64>,
}

/// The newest upgrade of each installed package, whether dnf could take it or not. `all` asks also for those that the
/// configuration excludes.
pub(crate) async fn upgrades(exec: &HostExec, all: bool, cancel: &CancellationToken) -> Result<Vec<Offer>, Error> {
    let mut argv = vec!["dnf", "-q", "-C", "repoquery", "--upgrades", "--latest-limit", "1", "--qf", FORMAT];
    argv.extend(all.then_some("--disableexcludes=all"));
    parse(&ask(exec, &Order::changing(argv), cancel).await?)
}

/// What repositories say of these versions, given as `name-epoch:version-release.arch`.
pub(crate) async fn describe(
    exec: &HostExec,
    nevras: &[String],
    cancel: &CancellationToken,
) -> Result<Vec<Offer>, Error> {
    if nevras.is_empty() {
        return Ok(Vec::new());
    }
    let mut argv: Vec<String> = ["dnf", "-q", "-C", "repoquery", "--qf", FORMAT].map(str::to_owned).to_vec();
    argv.extend_from_slice(nevras);
    parse(&ask(exec, &Order::changing(argv), cancel).await?)
}

pub(crate) fn parse(text: &str) -> Result<Vec<Offer>, Error> {
    let mut offers = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let answer = || Error::Answer { command: "dnf repoquery".to_owned(), line: line.to_owned() };
        let fields: [&str; 7] = line.split('\t').collect::<Vec<_>>().try_into().map_err(|_| answer())?;
        let [name, epoch, version, arch, source, repository, size] = fields;
        offers.push(Offer {
            id: PackageId { name: name.to_owned(), arch: arch.to_owned() },
            version: evr(epoch, version),
            source: source.to_owned(),
            repository: repository.to_owned(),
            size_bytes: size.trim().parse().ok(),
        });
    }
    Ok(offers)
}

/// What `dnf upgrade` would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Transaction {
    /// What would be there afterwards, with its version.
    pub(crate) installs: BTreeMap<PackageId, String>,
    /// Names and versions that would be gone.
    pub(crate) removes: BTreeSet<(String, String)>,
}

/// Lets dnf resolve a full upgrade and do nothing.
pub(crate) async fn dry_run(exec: &HostExec, cancel: &CancellationToken) -> Result<Transaction, Error> {
    let ran = exec
        .run(&Order::changing(["dnf", "-C", "--setopt=install_weak_deps=False", "upgrade", "--assumeno"]), cancel)
        .await?;
    let text = ran.text();
    // It says no to itself, which it counts as a failure.
    let resolved = ran.ok() || (ran.code() == Some(1) && text.contains("Operation aborted."));
    if !resolved || ran.stdout.truncated {
        return Err(failed(exec, &ran));
    }
    Ok(transaction(&ran.stdout.text))
}

/// Reads dnf's table. A row begins with one blank; what does not fit into its columns goes on in a line with more.
pub(crate) fn transaction(text: &str) -> Transaction {
    let mut found = Transaction::default();
    let mut heading = "";
    let mut row: Vec<&str> = Vec::new();
    for line in text.lines().take_while(|line| *line != "Transaction Summary") {
        let words = line.split_whitespace();
        let begins = line.len() - line.trim_start().len();
        match begins {
            0 if line.ends_with(':') && !line.starts_with('(') => {
                take(&mut found, heading, &std::mem::take(&mut row));
                heading = line;
            }
            0 => {}
            1 => {
                take(&mut found, heading, &std::mem::take(&mut row));
                row = words.collect();
            }
            // What a new name takes the place of is gone afterwards: `replacing  NAME.ARCH VERSION`.
            _ if line.trim_start().starts_with("replacing ") => {
                let mut words = words.skip(1);
                if let (Some(name), Some(version)) = (words.next(), words.next()) {
                    let name = name.rsplit_once('.').map_or(name, |(name, _)| name);
                    found.removes.insert((name.to_owned(), version.to_owned()));
                }
            }
            _ => row.extend(words),
        }
    }
    take(&mut found, heading, &row);
    found
}

fn take(found: &mut Transaction, heading: &str, row: &[&str]) {
    let [name, arch, version, ..] = row else { return };
    let heading = heading.to_ascii_lowercase();
    if heading.starts_with("remov") {
        found.removes.insert(((*name).to_owned(), (*version).to_owned()));
    } else if ["upgrad", "install", "downgrad"].iter().any(|word| heading.starts_with(word)) {
        let id = PackageId { name: (*name).to_owned(), arch: (*arch).to_owned() };
        found.installs.insert(id, (*version).to_owned());
    }
}
