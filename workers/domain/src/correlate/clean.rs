//! Cleans what sources write around versions and names: operators, lists, NULs, package URLs.

/// What stands for a version where there is none.
const NONE: [&str; 8] = ["", "-", "(none)", "none", "n/a", "notavailable", "unknown", "unfixed"];

/// A version without what sources put around it; none where nothing is left, or a word that says that there is none.
///
/// # Example
/// ```
/// use patchloom_domain::correlate::clean_version;
/// assert_eq!(clean_version(" 1.2-3\0").as_deref(), Some("1.2-3"));
/// assert_eq!(clean_version("NotAvailable"), None);
/// ```
#[must_use]
pub fn clean_version(text: &str) -> Option<String> {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    let text = text.trim();
    (!NONE.contains(&text.to_ascii_lowercase().as_str())).then(|| text.to_owned())
}

/// The versions of a list such as `11.0.14, 10.1.49` or `>= 3.1.0, < 3.2.0 || 4.0`: those from which on it is fixed.
///
/// What only bounds from above (`<`, `<=`) is no fix and is left out.
/// # Example
/// ```
/// use patchloom_domain::correlate::fix_versions;
/// assert_eq!(fix_versions(">= 3.1.0, >= 2.1.3, < 3.0.0"), ["3.1.0", "2.1.3"]);
/// assert!(fix_versions("").is_empty());
/// ```
#[must_use]
pub fn fix_versions(list: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for part in list.split([',', ';', '|']) {
        let part = part.trim();
        if part.starts_with('<') {
            continue;
        }
        let bare = part.trim_start_matches(['>', '=', '^', '~', ' ']);
        // In `>= 1.2 < 1.3` the first word is the fix, and the rest bounds it.
        let bare = bare.split_whitespace().next().unwrap_or_default();
        if let Some(version) = clean_version(bare).filter(|version| !found.contains(version)) {
            found.push(version);
        }
    }
    found
}

/// The parts of a package URL that a correlation needs.
///
/// # Source
/// The purl specification: `pkg:type/namespace/name@version?qualifiers#subpath`, percent-encoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purl {
    /// `deb`, `rpm`, `apk`, `npm` …
    pub kind: String,
    /// The distribution, for the first three.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its version, with the epoch of a qualifier before it.
    pub version: Option<String>,
    /// Its architecture; `source` for a source package.
    pub arch: Option<String>,
    /// `debian-12`.
    pub distro: Option<String>,
    /// The source package, as some tools add it (`upstream=`).
    pub upstream: Option<String>,
    /// The module of an rpm, `nodejs:18:…` (`modularitylabel=` or `rpmmod=`).
    pub module: Option<String>,
}

impl Purl {
    /// Reads one; none where it is none.
    ///
    /// # Example
    /// ```
    /// use patchloom_domain::correlate::Purl;
    /// let purl = Purl::read("pkg:rpm/alma/openssl-libs@1.1.1k-4.el8?arch=x86_64&epoch=1").unwrap();
    /// assert_eq!((purl.name.as_str(), purl.version.as_deref()), ("openssl-libs", Some("1:1.1.1k-4.el8")));
    /// assert_eq!(Purl::read("openssl"), None);
    /// ```
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let rest = text.trim().strip_prefix("pkg:")?.trim_start_matches('/');
        let rest = rest.split('#').next()?;
        let (path, qualifiers) = rest.split_once('?').unwrap_or((rest, ""));
        // The last @ parts the version: a namespace such as @scope may have one too.
        let (path, version) = match path.rsplit_once('@') {
            Some((before, version)) if !before.ends_with('/') => (before, Some(decoded(version))),
            Some(_) | None => (path, None),
        };
        let (kind, path) = path.split_once('/')?;
        let (namespace, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut purl = Self {
            kind: kind.to_ascii_lowercase(),
            namespace: decoded(namespace),
            name: decoded(name),
            version,
            ..Self::default()
        };
        for pair in qualifiers.split('&') {
            let Some((key, value)) = pair.split_once('=') else { continue };
            let value = decoded(value);
            match key {
                "arch" => purl.arch = Some(value),
                "distro" => purl.distro = Some(value),
                "upstream" => purl.upstream = Some(value),
                "modularitylabel" | "rpmmod" => purl.module = Some(value),
                "epoch" if value != "0" => {
                    purl.version = purl.version.map(|version| match version.contains(':') {
                        true => version,
                        false => format!("{value}:{version}"),
                    });
                }
                _ => {}
            }
        }
        (!purl.name.is_empty()).then_some(purl)
    }
}

/// A text without its percent-encoding; what is no such code stays.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let code = text.get(at + 1..at + 3).filter(|_| byte == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(code.unwrap_or(byte));
        at += if code.is_some() { 3 } else { 1 };
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_out_of_lists_and_operators() {
        for (given, expected) in [
            ("11.0.14, 10.1.49, 9.0.112", &["11.0.14", "10.1.49", "9.0.112"][..]),
            (">= 3.1.0, >= 2.1.3, < 3.0.0", &["3.1.0", "2.1.3"]),
            ("^2.0 || >=3.1 <3.2", &["2.0", "3.1"]),
            ("1:2.3~rc1-1", &["1:2.3~rc1-1"]),
            ("1.2, 1.2", &["1.2"]),
            ("NotAvailable", &[]),
            (" \0", &[]),
        ] {
            assert_eq!(fix_versions(given), expected, "{given}");
        }
    }

    #[test]
    fn package_urls_are_taken_apart() {
        let deb =
            Purl::read("pkg:deb/debian/libssl3@3.0.20-1~deb12u2?arch=amd64&distro=debian-12&upstream=openssl").unwrap();
        assert_eq!((deb.kind.as_str(), deb.name.as_str()), ("deb", "libssl3"));
        assert_eq!(deb.version.as_deref(), Some("3.0.20-1~deb12u2"));
        assert_eq!((deb.distro.as_deref(), deb.upstream.as_deref()), (Some("debian-12"), Some("openssl")));
        let plus = Purl::read("pkg:deb/debian/g%2B%2B-12@12.2.0-14%2Bdeb12u1").unwrap();
        assert_eq!((plus.name.as_str(), plus.version.as_deref()), ("g++-12", Some("12.2.0-14+deb12u1")));
        let scoped = Purl::read("pkg:npm/@scope/name").unwrap();
        assert_eq!((scoped.namespace.as_str(), scoped.name.as_str(), scoped.version), ("@scope", "name", None));
        assert_eq!(Purl::read("pkg:deb"), None);
        assert_eq!(Purl::read("pkg:deb/debian/a%").unwrap().name, "a%");
    }
}
