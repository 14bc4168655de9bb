//! Which advisories of the vendor name a package, and the vulnerabilities they fix.

use std::collections::{BTreeMap, BTreeSet};

use patchloom_domain::{PackageId, RpmVersion, cve_order};
use tokio_util::sync::CancellationToken;

use super::nevra_of;
use crate::apt::{Error, ask};
use crate::host::{HostExec, Order};

/// What the advisories between the installed and the newest version say of each package, by the version they brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Advisories(BTreeMap<PackageId, Vec<Row>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    version: String,
    /// The id of an advisory or of a vulnerability.
    id: String,
    severity: Option<String>,
}

/// What an upgrade to one version brings by the advisories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Their ids.
    pub(super) ids: BTreeSet<String>,
    /// Whether one of them is about security.
    pub(super) security: bool,
    /// What they fix, sorted.
    pub(super) cves: Vec<String>,
    /// The gravest severity, in the words that a Debian maintainer would use for the urgency.
    pub(super) urgency: Option<String>,
}

/// The severities of updateinfo from the gravest on, as urgencies.
const SEVERITIES: [(&str, &str); 4] =
    [("Critical", "critical"), ("Important", "high"), ("Moderate", "medium"), ("Low", "low")];

/// Asks for the advisories of all that is newer than what is installed; and for their vulnerabilities.
pub(super) async fn read(exec: &HostExec, cancel: &CancellationToken) -> Result<Advisories, Error> {
    // Of what is excluded too: what a held package would fix is open.
    let list = ["dnf", "-q", "-C", "--disableexcludes=all", "updateinfo", "list", "--updates"];
    let mut found = Advisories::default();
    found.add(&ask(exec, &Order::changing(list), cancel).await?);
    found.add(&ask(exec, &Order::changing(list.into_iter().chain(["--with-cve"])), cancel).await?);
    Ok(found)
}

impl Advisories {
    /// Reads rows such as `RHSA-2026:0001 Important/Sec. bash-5.1.8-9.el9.x86_64`; with vulnerabilities asked for, the first word
    /// is one of those.
    pub(super) fn add(&mut self, text: &str) {
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            // Anything else is a message of a plugin.
            let [id, kind, nevra] = words.as_slice() else { continue };
            let Some((name, version, arch)) = nevra_of(nevra) else { continue };
            let package = PackageId { name: name.to_owned(), arch: arch.to_owned() };
            let severity = kind.strip_suffix("/Sec.").map(str::to_owned);
            self.0.entry(package).or_default().push(Row {
                version: version.to_owned(),
                id: (*id).to_owned(),
                severity,
            });
        }
    }

    /// What all advisories up to this version say.
    pub(super) fn up_to(&self, package: &PackageId, version: &str) -> Told {
        let mut told = Told::default();
        let Ok(limit) = version.parse::<RpmVersion>() else { return told };
        let reached = |row: &&Row| row.version.parse::<RpmVersion>().is_ok_and(|version| version <= limit);
        let rows: Vec<&Row> = self.0.get(package).into_iter().flatten().filter(reached).collect();
        told.security = rows.iter().any(|row| row.severity.is_some());
        let (cves, ids): (BTreeSet<&str>, BTreeSet<&str>) =
            rows.iter().map(|row| row.id.as_str()).partition(|id| id.starts_with("CVE-"));
        told.cves = cves.into_iter().map(str::to_owned).collect();
        told.cves.sort_by_key(|id| cve_order(id));
        told.ids = ids.into_iter().map(str::to_owned).collect();
        let has = |severity: &str| rows.iter().any(|row| row.severity.as_deref() == Some(severity));
        told.urgency = SEVERITIES.iter().find(|(severity, _)| has(severity)).map(|(_, urgency)| (*urgency).to_owned());
        told
    }
}
