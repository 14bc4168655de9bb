//! Claims out of what people have: Trivy's and Grype's JSON, or claims themselves as a list or one per line.

use serde_json::Value;

use super::claim::{Claim, FixOf, FixVersion, SeverityClaim};
use super::status::VendorStatus;
use crate::risk::{FeedError, Unread};

/// What a report says.
#[derive(Clone, Debug, Default)]
pub struct ReadClaims {
    /// Its claims on packages of the operating system.
    pub claims: Vec<Claim>,
    /// Findings in other things: libraries of a language, files; no package manager of the host mends them.
    pub foreign: usize,
    /// What could not be read.
    pub apart: Unread,
}

const FEED: &str = "the report";

/// How Trivy's names of distributions begin.
const FAMILIES: [&str; 19] = [
    "debian",
    "ubuntu",
    "alpine",
    "redhat",
    "centos",
    "rocky",
    "alma",
    "amazon",
    "oracle",
    "fedora",
    "suse",
    "opensuse",
    "sle",
    "photon",
    "wolfi",
    "chainguard",
    "cbl-mariner",
    "azurelinux",
    "echo",
];

/// Reads a report; which kind it is, its content tells.
///
/// # Errors
/// Where it is of none of these kinds.
pub fn read_claims(text: &str) -> Result<ReadClaims, FeedError> {
    let mut found = ReadClaims::default();
    match serde_json::from_str::<Value>(text) {
        Ok(value) if value.get("Results").is_some_and(|rows| rows.is_array() || rows.is_null()) => {
            rows(&value, "Results").for_each(|(at, result)| found.trivy(at, result));
        }
        Ok(value) if value.get("matches").is_some_and(Value::is_array) => {
            rows(&value, "matches").for_each(|(at, one)| found.grype(at, one));
        }
        Ok(Value::Array(list)) if list.iter().any(|one| one.get("Vulnerabilities").is_some()) => {
            list.iter().enumerate().for_each(|(at, result)| found.trivy(at, result));
        }
        Ok(Value::Array(list)) => list.into_iter().enumerate().for_each(|(at, one)| found.own(at, one)),
        Ok(value) if value.get("package").is_some() => found.own(0, value),
        Ok(_) => {
            let why = "it is neither Trivy's nor Grype's JSON, nor a list of claims with id and package".to_owned();
            return Err(FeedError::Shape { feed: FEED, why });
        }
        Err(error) if !text.trim().contains('\n') || !text.trim_start().starts_with('{') => {
            return Err(FeedError::Json { feed: FEED, error });
        }
        Err(first) => {
            for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
                match serde_json::from_str(line) {
                    Ok(value) => found.own(at, value),
                    Err(error) => found.apart.add(&format!("line {}", at + 1), &error.to_string()),
                }
            }
            if found.claims.is_empty() {
                return Err(FeedError::Json { feed: FEED, error: first });
            }
        }
    }
    Ok(found)
}

fn rows<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = (usize, &'a Value)> {
    value.get(name).and_then(Value::as_array).into_iter().flatten().enumerate()
}

fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
}

impl ReadClaims {
    fn own(&mut self, at: usize, value: Value) {
        let purl = text(&value, "purl");
        match serde_json::from_value::<Claim>(value).map(|claim| claim.cleaned(purl.as_deref())) {
            Ok(claim) if claim.id.is_empty() || claim.package.is_empty() => {
                self.apart.add(&format!("claim {}", at + 1), "it has no id or no package");
            }
            Ok(claim) => self.claims.push(claim),
            Err(error) => self.apart.add(&format!("claim {}", at + 1), &error.to_string()),
        }
    }

    fn keep(&mut self, place: &str, claim: Claim, purl: Option<&str>) {
        let claim = claim.cleaned(purl);
        match claim.id.is_empty() || claim.package.is_empty() {
            true => self.apart.add(place, "it has no id or no package"),
            false => self.claims.push(claim),
        }
    }

    /// One target of Trivy's. Its fixed versions are those of source packages on Debian, Ubuntu and Alpine.
    fn trivy(&mut self, at: usize, result: &Value) {
        let found = rows(result, "Vulnerabilities");
        let told = |name: &str| result.get(name).and_then(Value::as_str);
        // Reports before classes came up tell the family of the distribution, or the kind of a lock file.
        let of_system = match (told("Class"), told("Type")) {
            (Some(class), _) => class == "os-pkgs",
            (None, Some(family)) => FAMILIES.iter().any(|known| family.starts_with(known)),
            (None, None) => true,
        };
        if !of_system {
            self.foreign += found.count();
            return;
        }
        for (number, one) in found {
            let purl = one.pointer("/PkgIdentifier/PURL").and_then(Value::as_str);
            let word = text(one, "Severity");
            let by = text(one, "SeveritySource").unwrap_or_else(|| "trivy".to_owned());
            let mut severities = vec![SeverityClaim { by, word, vector: None }];
            for (by, scores) in one.get("CVSS").and_then(Value::as_object).into_iter().flatten() {
                for name in ["V40Vector", "V3Vector", "V2Vector"] {
                    if let Some(vector) = text(scores, name) {
                        severities.push(SeverityClaim { by: by.clone(), word: None, vector: Some(vector) });
                    }
                }
            }
            let fixed = text(one, "FixedVersion");
            let status = match (text(one, "Status"), &fixed) {
                (Some(word), _) => VendorStatus::of(&word),
                // Older reports have no status: a fixed version says it.
                (None, Some(_)) => VendorStatus::Fixed,
                (None, None) => VendorStatus::Unknown,
            };
            let claim = Claim {
                id: text(one, "VulnerabilityID").unwrap_or_default(),
                package: text(one, "PkgName").unwrap_or_default(),
                installed: text(one, "InstalledVersion"),
                fixed: fixed.map(|version| FixVersion { version, ..FixVersion::default() }).into_iter().collect(),
                status,
                severities,
                by: vec!["trivy".to_owned()],
                ..Claim::default()
            };
            self.keep(&format!("Results[{at}].Vulnerabilities[{number}]"), claim, purl);
        }
    }

    fn grype(&mut self, at: usize, one: &Value) {
        let artifact = one.get("artifact").unwrap_or(&Value::Null);
        let kind = text(artifact, "type").unwrap_or_default();
        if !matches!(kind.as_str(), "deb" | "rpm" | "apk" | "") {
            self.foreign += 1;
            return;
        }
        let vulnerability = one.get("vulnerability").unwrap_or(&Value::Null);
        let mut fixed: Vec<String> = Vec::new();
        for (_, version) in vulnerability.get("fix").into_iter().flat_map(|fix| rows(fix, "versions")) {
            fixed.extend(version.as_str().map(str::to_owned));
        }
        fixed.extend(text(vulnerability, "fixedInVersion"));
        let state = vulnerability.pointer("/fix/state").and_then(Value::as_str).unwrap_or_default();
        let status = match VendorStatus::of(state) {
            VendorStatus::Unknown if !fixed.is_empty() => VendorStatus::Fixed,
            status => status,
        };
        let mut severities = Vec::new();
        if let Some(word) = text(vulnerability, "severity") {
            severities.push(SeverityClaim { by: "grype".to_owned(), word: Some(word), vector: None });
        }
        let related = rows(one, "relatedVulnerabilities").map(|(_, other)| other);
        for source in std::iter::once(vulnerability).chain(related) {
            let by = text(source, "namespace").unwrap_or_else(|| "grype".to_owned());
            let vectors = rows(source, "cvss").filter_map(|(_, score)| text(score, "vector"));
            severities.extend(vectors.map(|vector| SeverityClaim { by: by.clone(), word: None, vector: Some(vector) }));
        }
        let aliases = rows(one, "relatedVulnerabilities").filter_map(|(_, other)| text(other, "id")).collect();
        let upstream = rows(artifact, "upstreams").find_map(|(_, upstream)| text(upstream, "name"));
        let claim = Claim {
            id: text(vulnerability, "id").unwrap_or_default(),
            aliases,
            package: text(artifact, "name").unwrap_or_default(),
            source: upstream,
            installed: text(artifact, "version"),
            fixed: fixed.into_iter().map(|version| FixVersion { version, ..FixVersion::default() }).collect(),
            fix_of: FixOf::Unknown,
            status,
            severities,
            by: vec!["grype".to_owned()],
            ..Claim::default()
        };
        self.keep(&format!("matches[{at}]"), claim, text(artifact, "purl").as_deref());
    }
}
