//! The rpm database of a target, and what else is alike wherever rpm is below.

use std::fs;
use std::io;
use std::time::UNIX_EPOCH;

use patchloom_core::UtcMs;
use patchloom_domain::{InstalledPackage, PackageId};
use tokio_util::sync::CancellationToken;

use super::{evr, source_of};
use crate::apt::lists::Lists;
use crate::apt::{Error, ask};
use crate::host::{HostExec, Order};

const FORMAT: &str = "%{NAME}\\t%{EPOCHNUM}\\t%{VERSION}-%{RELEASE}\\t%{ARCH}\\t%{SOURCERPM}\\n";
/// What rpm keeps the keys of vendors as: no package that anybody installed.
const KEY: &str = "gpg-pubkey";
/// Kernels are.
const BESIDE: &str = "kernel";
/// rpm knows no halves: what stands in its database is installed. Said as dpkg says it.
const INSTALLED: &str = "ii";

/// All packages of the database, sorted by name, architecture and version. The same name may stand there more than once: kernels,
/// and the leavings of a broken transaction.
pub(crate) async fn packages(exec: &HostExec, cancel: &CancellationToken) -> Result<Vec<InstalledPackage>, Error> {
    let text = ask(exec, &Order::reading(["rpm", "-qa", "--qf", FORMAT]), cancel).await?;
    parse(&text)
}

/// What is wrong with the packages, for which nothing may be changed; nothing where all is well.
pub(crate) async fn audit(exec: &HostExec, cancel: &CancellationToken) -> Result<Option<String>, Error> {
    let twice = twice(&packages(exec, cancel).await?);
    Ok((!twice.is_empty()).then(|| twice.join("\n")))
}

/// The architecture of the target in rpm's words.
pub(crate) async fn architecture(exec: &HostExec, cancel: &CancellationToken) -> Result<String, Error> {
    Ok(ask(exec, &Order::reading(["rpm", "--eval", "%{_arch}"]), cancel).await?.trim().to_owned())
}

/// The repositories whose metadata lie in a cache, each in a directory of its own; none where none were ever fetched.
pub(crate) fn fetched(exec: &HostExec, cache: &str) -> Result<Lists, Error> {
    let dir = exec.path(cache);
    let mut lists = Lists::default();
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(lists),
        Err(source) => return Err(Error::Io { action: "list", path: dir, source }),
    };
    for entry in entries {
        let entry = entry.map_err(|source| Error::Io { action: "list", path: dir.clone(), source })?;
        let Ok(data) = fs::metadata(entry.path().join("repodata/repomd.xml")) else { continue };
        let since = data.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        lists.indexes += 1;
        let updated = since.and_then(|since| u64::try_from(since.as_millis()).ok()).map(UtcMs);
        lists.updated = lists.updated.max(updated);
    }
    Ok(lists)
}

/// What stands more than once in the database without being meant to, a line each: rows in the order of [`packages`].
pub(crate) fn twice(rows: &[InstalledPackage]) -> Vec<String> {
    let same = rows.chunk_by(|a, b| a.id == b.id);
    let doubles = same.filter_map(|all| {
        let id = all.first().filter(|first| all.len() > 1 && !is_beside(&first.id)).map(|first| &first.id)?;
        let versions: Vec<&str> = all.iter().map(|package| package.version.as_str()).collect();
        Some(format!("{}.{} is installed more than once: {}", id.name, id.arch, versions.join(", ")))
    });
    doubles.collect()
}

/// Whether versions of a package are installed beside each other on purpose.
pub(crate) fn is_beside(id: &PackageId) -> bool {
    id.name == BESIDE || id.name.strip_prefix(BESIDE).is_some_and(|rest| rest.starts_with('-'))
}

pub(super) fn parse(text: &str) -> Result<Vec<InstalledPackage>, Error> {
    let mut rows = Vec::new();
    for line in text.lines() {
        let answer = || Error::Answer { command: "rpm -qa".to_owned(), line: line.to_owned() };
        let fields: [&str; 5] = line.split('\t').collect::<Vec<_>>().try_into().map_err(|_| answer())?;
        let [name, epoch, version, arch, source] = fields;
        if name == KEY {
            continue;
        }
        let (source, source_version) = source_of(source).unwrap_or((name, version));
        rows.push(InstalledPackage {
            id: PackageId { name: name.to_owned(), arch: arch.to_owned() },
            version: evr(epoch, version),
            source: source.to_owned(),
            source_version: source_version.to_owned(),
            status: INSTALLED.to_owned(),
            held: false,
            essential: false,
        });
    }
    rows.sort_by(|a, b| a.id.cmp(&b.id).then_with(|| a.version.cmp(&b.version)));
    Ok(rows)
}
