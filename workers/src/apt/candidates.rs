//! What the archive's index says of a version: its source, its size, its hash.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{Error, ask};
use crate::host::{HostExec, Order};

/// Packages asked for at once; far below the limit of an argument list.
const ASKED_AT_ONCE: usize = 400;

/// One version of a package on offer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Source package name.
    pub source: String,
    /// Source version.
    pub source_version: String,
    /// Architecture.
    pub arch: String,
    /// SHA-256 of the .deb in hex, where the index names it.
    pub sha256: Option<String>,
    /// Size of the .deb.
    pub size_bytes: Option<u64>,
    /// File name within the archive.
    pub filename: Option<String>,
}

/// Reads the index entries of these `(name, version)` pairs. What no list knows is missing in the answer.
///
/// # Errors
/// When apt-cache could not be run at all; it fails on any name that it does not know, and answers the others.
pub async fn describe(
    exec: &HostExec,
    wanted: &[(String, String)],
    cancel: &CancellationToken,
) -> Result<BTreeMap<(String, String), Candidate>, Error> {
    let mut found = BTreeMap::new();
    for some in wanted.chunks(ASKED_AT_ONCE) {
        let mut argv = vec!["apt-cache".to_owned(), "show".to_owned()];
        argv.extend(some.iter().map(|(name, version)| format!("{name}={version}")));
        let ran = exec.run(&Order::reading(argv), cancel).await?;
        if ran.code().is_none() || ran.stdout.truncated {
            return Err(super::failed(exec, &ran));
        }
        parse(&ran.stdout.text, &mut found);
    }
    Ok(found)
}

/// What `apt-cache policy` says of a package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Policy {
    /// The version that apt would install.
    pub(crate) candidate: Option<String>,
    /// All versions that it knows, the newest first.
    pub(crate) versions: Vec<String>,
}

/// The version that apt would install of each package, by `apt-cache policy`.
pub(crate) async fn offered(
    exec: &HostExec,
    names: &[String],
    cancel: &CancellationToken,
) -> Result<BTreeMap<String, String>, Error> {
    let found = policy(exec, names, cancel).await?;
    Ok(found.into_iter().filter_map(|(name, policy)| Some((name, policy.candidate?))).collect())
}

/// What apt knows of each package; one that it does not know is missing in the answer.
pub(crate) async fn policy(
    exec: &HostExec,
    names: &[String],
    cancel: &CancellationToken,
) -> Result<BTreeMap<String, Policy>, Error> {
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut argv = vec!["apt-cache".to_owned(), "policy".to_owned()];
    argv.extend_from_slice(names);
    Ok(policies(&ask(exec, &Order::reading(argv), cancel).await?))
}

/// `name:`, `  Candidate: 2`, and in the version table ` *** 1 500` or `     2 990`, with the archives of each below it.
fn policies(text: &str) -> BTreeMap<String, Policy> {
    let mut found: BTreeMap<String, Policy> = BTreeMap::new();
    let mut name = "";
    for line in text.lines() {
        if let Some(heading) = line.strip_suffix(':').filter(|line| !line.starts_with(' ')) {
            name = heading;
            found.entry(name.to_owned()).or_default();
        } else if let Some(policy) = found.get_mut(name) {
            let version =
                line.strip_prefix(" *** ").or_else(|| line.strip_prefix("     ")).filter(|t| !t.starts_with(' '));
            if let Some(text) = line.trim_start().strip_prefix("Candidate: ") {
                policy.candidate = Some(text.to_owned()).filter(|text| text != "(none)");
            } else if let Some(version) = version.and_then(|text| text.split_whitespace().next()) {
                policy.versions.push(version.to_owned());
            }
        }
    }
    found
}

fn parse(text: &str, found: &mut BTreeMap<(String, String), Candidate>) {
    for stanza in text.split("\n\n") {
        let field = |name: &str| {
            let value = |line: &str| line.strip_prefix(name)?.strip_prefix(": ").map(|value| value.trim().to_owned());
            stanza.lines().find_map(value)
        };
        let (Some(package), Some(version)) = (field("Package"), field("Version")) else { continue };
        let source = field("Source").unwrap_or_else(|| package.clone());
        let (source, source_version) = match source.split_once(" (") {
            Some((source, version)) => (source.to_owned(), version.trim_end_matches(')').to_owned()),
            None => (source, version.clone()),
        };
        let candidate = Candidate {
            source,
            source_version,
            arch: field("Architecture").unwrap_or_default(),
            sha256: field("SHA256").map(|hash| hash.to_ascii_lowercase()),
            size_bytes: field("Size").and_then(|size| size.parse().ok()),
            filename: field("Filename"),
        };
        // The first archive that offers it is the one apt takes.
        found.entry((package, version)).or_insert(candidate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_has_its_candidate_and_all_versions_of_its_table() {
        let text = "jq:\n  Installed: 1.6-2.1\n  Candidate: 1.6-2.1\n  Package pin: 1.6-2.1\n  Version table:\n     \
                    1.6-2.1+deb12u2 1001\n        500 http://a bookworm/main amd64 Packages\n *** 1.6-2.1 1001\n        \
                    100 /var/lib/dpkg/status\nzip:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n";
        let found = policies(text);
        let versions = vec!["1.6-2.1+deb12u2".to_owned(), "1.6-2.1".to_owned()];
        assert_eq!(found["jq"], Policy { candidate: Some("1.6-2.1".to_owned()), versions });
        assert_eq!(found["zip"], Policy::default());
    }

    #[test]
    fn source_name_and_version_come_from_the_source_field_where_they_differ() {
        let text = "Package: bash\nSource: bash (5.2.15-2)\nVersion: 5.2.15-2+b13\nArchitecture: amd64\nSize: 7\n\
                    Description: a\n Size: 9\n\nPackage: libssl3\nSource: openssl\nVersion: 3\nSHA256: AB\n\n\
                    Package: zip\nVersion: 1\n\n";
        let mut found = BTreeMap::new();
        parse(text, &mut found);
        let of = |name: &str, version: &str| found[&(name.to_owned(), version.to_owned())].clone();
        let bash = of("bash", "5.2.15-2+b13");
        assert_eq!((bash.source.as_str(), bash.source_version.as_str()), ("bash", "5.2.15-2"));
        assert_eq!(bash.size_bytes, Some(7));
        let ssl = of("libssl3", "3");
        assert_eq!(
            (ssl.source.as_str(), ssl.source_version.as_str(), ssl.sha256.as_deref()),
            ("openssl", "3", Some("ab"))
        );
        assert_eq!(of("zip", "1").source, "zip");
    }
}
