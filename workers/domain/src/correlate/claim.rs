//! What a scanner or a feed says of one vulnerability in one package: data to be judged against the host, not yet true.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Purl, VendorStatus, clean_version, fix_versions};

/// What somebody says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Claim {
    /// Its id: mostly a CVE, also `GHSA-`, `ALAS-`, `TEMP-`.
    #[serde(alias = "cve")]
    pub id: String,
    /// Other ids of the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// The package by the name the source has for it: a binary or a source package.
    pub package: String,
    /// Its source package, where the source says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Its architecture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arch: Option<String>,
    /// The version that the source found on the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub installed: Option<String>,
    /// From which versions on it is fixed; several where there are several branches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fixed: Vec<FixVersion>,
    /// What these versions count.
    pub fix_of: FixOf,
    /// What the vendor says.
    pub status: VendorStatus,
    /// The module and stream of an rpm: `nodejs:18`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// Every severity, each with who says so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub severities: Vec<SeverityClaim>,
    /// Who says it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<String>,
}

/// A version from which on it is fixed.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "Written")]
pub struct FixVersion {
    /// It.
    pub version: String,
    /// For which release of the distribution alone: `12`, `bookworm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// For which module stream alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
}

/// A fixed version as files have it: a text, or an object.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Object { version: String, release: Option<String>, module: Option<String> },
}

impl From<Written> for FixVersion {
    fn from(written: Written) -> Self {
        match written {
            Written::Text(version) => Self { version, ..Self::default() },
            Written::Object { version, release, module } => Self { version, release, module },
        }
    }
}

/// What a fixed version counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FixOf {
    /// The source does not say: the source package on Debian, Ubuntu and Alpine, the binary package on rpm systems.
    #[default]
    Unknown,
    /// The source package.
    Source,
    /// The binary package.
    Binary,
    /// The upstream project: a distribution's package may have the fix at a lower version.
    Upstream,
}

/// How severe, and who says so.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct SeverityClaim {
    /// Who: `nvd`, `debian`, `redhat`.
    pub by: String,
    /// The word as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub word: Option<String>,
    /// The CVSS vector as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vector: Option<String>,
}

impl Claim {
    /// The id by which claims of several sources are one: the first CVE among its ids, else the id itself.
    #[must_use]
    pub fn canonical(&self) -> &str {
        canonical_id(&self.id, &self.aliases)
    }

    /// Puts it in the form that the judgement needs: blanks and NULs off, lists taken apart, what a package URL tells.
    #[must_use]
    pub fn cleaned(mut self, purl: Option<&str>) -> Self {
        self.id = self.id.trim().to_owned();
        self.installed = self.installed.as_deref().and_then(clean_version);
        let split = |fix: &FixVersion| {
            let (release, module) = (fix.release.clone(), fix.module.clone());
            let row = move |version| FixVersion { version, release: release.clone(), module: module.clone() };
            fix_versions(&fix.version).into_iter().map(row).collect::<Vec<_>>()
        };
        self.fixed = self.fixed.iter().flat_map(split).collect();
        if let Some(purl) = purl.and_then(Purl::read) {
            if self.package.is_empty() {
                self.package = purl.name;
            }
            self.installed = self.installed.or(purl.version);
            self.module = self.module.or(purl.module);
            self.source = self.source.or(purl.upstream.map(|text| match text.split_once('@') {
                Some((name, _)) => name.to_owned(),
                None => text,
            }));
            self.arch = self.arch.or(purl.arch);
        }
        self
    }
}

/// The id by which sources agree: the first CVE among the ids, else the first.
#[must_use]
pub fn canonical_id<'a>(id: &'a str, aliases: &'a [String]) -> &'a str {
    let mut ids = std::iter::once(id).chain(aliases.iter().map(String::as_str));
    ids.find(|id| id.starts_with("CVE-")).unwrap_or(id)
}

/// Makes one of all claims on the same vulnerability, package, architecture and installed version; in the order of these.
///
/// Nothing is lost: ids, fixed versions, severities and sources are collected. Of two different statuses the one that
/// leaves the host vulnerable counts.
#[must_use]
pub fn merge_claims(claims: Vec<Claim>) -> Vec<Claim> {
    type Key = (String, String, Option<String>, Option<String>);
    let mut merged: BTreeMap<Key, Claim> = BTreeMap::new();
    for claim in claims {
        let key = (claim.canonical().to_owned(), claim.package.clone(), claim.arch.clone(), claim.installed.clone());
        match merged.get_mut(&key) {
            None => {
                merged.insert(key, claim);
            }
            Some(known) => join(known, claim),
        }
    }
    merged.into_values().collect()
}

fn join(known: &mut Claim, other: Claim) {
    let ids = std::iter::once(other.id).chain(other.aliases);
    ids.for_each(|id| {
        if id != known.id && !known.aliases.contains(&id) {
            known.aliases.push(id);
        }
    });
    add(&mut known.fixed, other.fixed);
    add(&mut known.severities, other.severities);
    add(&mut known.by, other.by);
    known.source = known.source.take().or(other.source);
    known.module = known.module.take().or(other.module);
    if known.fix_of == FixOf::Unknown {
        known.fix_of = other.fix_of;
    }
    known.status = match (known.status, other.status) {
        (known, VendorStatus::Unknown) => known,
        (VendorStatus::Unknown | VendorStatus::NotAffected, other) => other,
        (known, _) => known,
    };
}

fn add<T: PartialEq>(to: &mut Vec<T>, more: Vec<T>) {
    for one in more {
        if !to.contains(&one) {
            to.push(one);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(text: &str) -> Claim {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_ghsa_and_its_cve_are_one_with_all_their_severities() {
        let merged = merge_claims(vec![
            claim(
                r#"{"id":"GHSA-1","aliases":["CVE-2024-1"],"package":"p","installed":"1","by":["grype"],
                "severities":[{"by":"ghsa","word":"High"}],"status":"not-affected"}"#,
            ),
            claim(
                r#"{"cve":"CVE-2024-1","package":"p","installed":"1","fixed":["2"],"status":"fixed","by":["trivy"],
                "severities":[{"by":"nvd","word":"CRITICAL"}]}"#,
            ),
            claim(r#"{"cve":"CVE-2024-1","package":"q","installed":"1"}"#),
        ]);
        assert_eq!(merged.len(), 2);
        let one = &merged[0];
        assert_eq!(one.canonical(), "CVE-2024-1");
        assert_eq!((one.severities.len(), one.by.len(), one.fixed.len()), (2, 2, 1));
        assert_eq!(one.status, VendorStatus::Fixed, "what leaves the host vulnerable counts");
    }

    #[test]
    fn cleaning_takes_lists_apart_and_asks_the_package_url() {
        let given = claim(r#"{"id":" CVE-2024-1 ","installed":"1.0\u0000 ","fixed":["3.1, 2.4"]}"#);
        let clean =
            given.cleaned(Some("pkg:rpm/redhat/nodejs@18.1-1.el8?arch=x86_64&rpmmod=nodejs:18&upstream=nodejs@18"));
        assert_eq!((clean.package.as_str(), clean.installed.as_deref()), ("nodejs", Some("1.0")));
        assert_eq!(clean.module.as_deref(), Some("nodejs:18"));
        assert_eq!(clean.source.as_deref(), Some("nodejs"));
        let fixed: Vec<&str> = clean.fixed.iter().map(|fix| fix.version.as_str()).collect();
        assert_eq!(fixed, ["3.1", "2.4"]);
    }
}
