//! Which advisories of the vendor name a package, and the vulnerabilities they fix.

use std::collections::{BTreeMap, BTreeSet};

use patchloom_domain::{PackageId, RpmVersion, cve_order};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::{Generation, nevra_of};
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
pub(super) async fn read(exec: &HostExec, dnf: Generation, cancel: &CancellationToken) -> Result<Advisories, Error> {
    let mut found = Advisories::default();
    for with_cves in [false, true] {
        // Of what is excluded too: what a held package would fix is open.
        let verb = match dnf {
            Generation::Four => "updateinfo",
            Generation::Five => "advisory",
        };
        let mut argv = dnf.asking(&[dnf.with_excluded(), verb, "list", "--updates"]);
        argv.extend(with_cves.then(|| "--with-cve".to_owned()));
        argv.extend((dnf == Generation::Five).then(|| "--json".to_owned()));
        let text = ask(exec, &Order::changing(argv), cancel).await?;
        match dnf {
            Generation::Four => found.add(&text),
            Generation::Five => found.add_json(&text)?,
        }
    }
    Ok(found)
}

/// A package of an advisory as dnf 5 tells it. Asked for vulnerabilities it calls the same things by other names, and gives the type
/// where it says severity.
#[derive(Deserialize)]
struct Told5 {
    #[serde(alias = "advisory_name")]
    name: String,
    #[serde(alias = "advisory_type", default)]
    r#type: String,
    #[serde(default)]
    severity: String,
    nevra: String,
    #[serde(default)]
    references: Vec<Reference5>,
}

#[derive(Deserialize)]
struct Reference5 {
    reference_id: String,
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

    /// Reads what dnf 5 answers: the advisories, or their vulnerabilities.
    pub(super) fn add_json(&mut self, text: &str) -> Result<(), Error> {
        let answer = |_| Error::Answer { command: "dnf5 advisory list".to_owned(), line: first_line(text) };
        // Where there is nothing to tell it may say nothing at all.
        let told: Vec<Told5> =
            if text.trim().is_empty() { Vec::new() } else { serde_json::from_str(text).map_err(answer)? };
        for row in told {
            let Some((name, version, arch)) = nevra_of(&row.nevra) else { continue };
            let package = PackageId { name: name.to_owned(), arch: arch.to_owned() };
            // Without words for it, as beside vulnerabilities, it is still about security.
            let severity = (row.r#type == "security").then_some(row.severity);
            let ids = match row.references.is_empty() {
                true => vec![row.name],
                false => row.references.into_iter().map(|reference| reference.reference_id).collect(),
            };
            let rows = ids.into_iter().map(|id| Row { version: version.to_owned(), id, severity: severity.clone() });
            self.0.entry(package).or_default().extend(rows);
        }
        Ok(())
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

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
