//! What the repositories of a target offer, and what dnf would make of it.

use std::collections::{BTreeMap, BTreeSet};

use patchloom_domain::PackageId;
use tokio_util::sync::CancellationToken;

use super::{Generation, evr};
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

/// What a query prints for each package. dnf 5 knows no escapes but that of a new line, which it does not add by itself.
fn format(dnf: Generation) -> String {
    match dnf {
        Generation::Four => FORMAT.to_owned(),
        Generation::Five => format!("{}\n", FORMAT.replace("\\t", "\t")),
    }
}

/// The newest upgrade of each installed package, whether dnf could take it or not. `all` asks also for those that the
/// configuration excludes.
pub(crate) async fn upgrades(
    exec: &HostExec,
    dnf: Generation,
    all: bool,
    cancel: &CancellationToken,
) -> Result<Vec<Offer>, Error> {
    let mut argv = dnf.asking(&["repoquery", "--upgrades", "--latest-limit", "1", "--qf", &format(dnf)]);
    argv.extend(all.then(|| dnf.with_excluded().to_owned()));
    parse(&ask(exec, &Order::changing(argv), cancel).await?)
}

/// What repositories say of these versions, given as `name-epoch:version-release.arch`.
pub(crate) async fn describe(
    exec: &HostExec,
    dnf: Generation,
    nevras: &[String],
    cancel: &CancellationToken,
) -> Result<Vec<Offer>, Error> {
    if nevras.is_empty() {
        return Ok(Vec::new());
    }
    let mut argv = dnf.asking(&["repoquery", "--qf", &format(dnf)]);
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
pub(crate) async fn dry_run(
    exec: &HostExec,
    dnf: Generation,
    cancel: &CancellationToken,
) -> Result<Transaction, Error> {
    let argv = [dnf.program(), "-C", "--setopt=install_weak_deps=False", "upgrade", "--assumeno"];
    let ran = exec.run(&Order::changing(argv), cancel).await?;
    // It says no to itself, which it counts as a failure.
    let resolved = ran.ok() || (ran.code() == Some(1) && ran.text().contains("Operation aborted"));
    if !resolved || ran.stdout.truncated {
        return Err(failed(exec, &ran));
    }
    Ok(transaction(dnf, &ran.stdout.text))
}

/// Reads the table of a transaction.
pub(crate) fn transaction(dnf: Generation, text: &str) -> Transaction {
    match dnf {
        Generation::Four => table4(text),
        Generation::Five => table5(text),
    }
}

/// Reads dnf 5's table: a heading, below it the rows, one blank in, and further in what each of them takes the place of, which
/// for an upgrade is the former version.
fn table5(text: &str) -> Transaction {
    let mut found = Transaction::default();
    let mut replaced = Vec::new();
    let mut heading = "";
    for line in text.lines().take_while(|line| !line.starts_with("Transaction Summary")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            _ if line.ends_with(':') && !line.starts_with(' ') => heading = line,
            ["replacing", row @ ..] => replaced.push(row.to_vec()),
            row if line.starts_with(' ') => take(&mut found, heading, row),
            _ => {}
        }
    }
    let gone = replaced.iter().filter_map(|row| match row.as_slice() {
        [name, arch, version, ..] => Some((PackageId { name: (*name).to_owned(), arch: (*arch).to_owned() }, *version)),
        _ => None,
    });
    let gone: Vec<_> = gone.filter(|(id, _)| !found.installs.contains_key(id)).collect();
    found.removes.extend(gone.into_iter().map(|(id, version)| (id.name, plain(version))));
    found
}

/// A version without an epoch of zero, which dnf 5 writes.
fn plain(version: &str) -> String {
    version.strip_prefix("0:").unwrap_or(version).to_owned()
}

/// Reads dnf 4's table. A row begins with one blank; what does not fit into its columns goes on in a line with more.
fn table4(text: &str) -> Transaction {
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
        found.removes.insert(((*name).to_owned(), plain(version)));
    } else if ["upgrad", "install", "downgrad"].iter().any(|word| heading.starts_with(word)) {
        let id = PackageId { name: (*name).to_owned(), arch: (*arch).to_owned() };
        found.installs.insert(id, plain(version));
    }
}
