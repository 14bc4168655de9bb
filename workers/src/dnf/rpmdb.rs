//! The rpm database of a target.

use patchloom_domain::{InstalledPackage, PackageId};
use tokio_util::sync::CancellationToken;

use super::{evr, source_of};
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
