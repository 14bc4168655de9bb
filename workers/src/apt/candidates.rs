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

/// The version that apt would install of each package, by `apt-cache policy`.
pub(crate) async fn offered(
    exec: &HostExec,
    names: &[String],
    cancel: &CancellationToken,
) -> Result<BTreeMap<String, String>, Error> {
    let mut found = BTreeMap::new();
    if names.is_empty() {
        return Ok(found);
    }
    let mut argv = vec!["apt-cache".to_owned(), "policy".to_owned()];
    argv.extend_from_slice(names);
    let text = ask(exec, &Order::reading(argv), cancel).await?;
    let mut name = "";
    for line in text.lines() {
        if let Some(heading) = line.strip_suffix(':').filter(|line| !line.starts_with(' ')) {
            name = heading;
        } else if let Some(version) = line.trim_start().strip_prefix("Candidate: ").filter(|text| *text != "(none)") {
            found.insert(name.to_owned(), version.to_owned());
        }
    }
    Ok(found)
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
