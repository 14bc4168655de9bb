//! Scripts of packages that failed where the package manager calls its work done: rpm installs a package whose %post failed.

use patchloom_domain::{FailureKind, Manager, Observed, PackageId, PackageSet, PackageState, PlannedChange, diagnose};

/// Scripts that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scripts {
    /// Whose, as the package manager names them: `loom-post` or `loom-post-2-1.noarch`.
    pub(super) of: Vec<String>,
    /// What was said of it.
    pub(super) said: String,
    /// Why what was begun did not come to its end, where it did not.
    pub(super) unfinished: Option<String>,
}

impl Scripts {
    /// Finds them in what a package manager said, with the words of the failure classifier.
    pub(super) fn in_words(manager: Manager, text: &str) -> Self {
        // As if it had ended well: only what is always a failure counts.
        let found = diagnose(&Observed { manager, code: Some(0), text: text.as_bytes(), states: None });
        let failures = found.primary.iter().chain(&found.others);
        let scripts = failures.filter(|failure| failure.cause.kind == FailureKind::Scriptlet);
        let mut of: Vec<String> =
            scripts.map(|failure| failure.subject.get("package").cloned().unwrap_or_default()).collect();
        of.sort();
        of.dedup();
        let said = if of.is_empty() { String::new() } else { text.to_owned() };
        Self { of, said, unfinished: None }
    }

    /// Adds what another source tells.
    pub(super) fn join(&mut self, other: Self) {
        self.of.extend(other.of);
        self.of.sort();
        self.of.dedup();
        if !self.said.contains(other.said.trim()) {
            self.said.push_str(&other.said);
        }
        self.unfinished = other.unfinished.or(self.unfinished.take());
    }

    /// The package set with the state `iF` where a planned package is there and its script failed: installed, not
    /// configured, as dpkg would say.
    pub(super) fn mark(&self, set: PackageSet, planned: &[PlannedChange]) -> PackageSet {
        let failed = |id: &PackageId, state: &PackageState| {
            planned.iter().any(|change| change.id == *id && change.candidate == state.version && self.names(change))
        };
        let row = |(id, state): (&PackageId, &PackageState)| {
            let status = if failed(id, state) { "iF".to_owned() } else { state.status.clone() };
            (id.clone(), PackageState { status, ..state.clone() })
        };
        set.iter().map(row).collect()
    }

    /// Planned packages whose scripts failed, at their planned version and in the state that says so: installed without
    /// being configured, or not installed at all.
    pub(super) fn blame(&self, set: &PackageSet, planned: &[PlannedChange]) -> Vec<(PackageId, PackageState)> {
        let state = |change: &PlannedChange| {
            let there = set.get(&change.id).is_some_and(|state| state.version == change.candidate);
            let status = if there { "iF" } else { "iH" };
            (change.id.clone(), PackageState { version: change.candidate.clone(), status: status.to_owned() })
        };
        planned.iter().filter(|change| self.names(change)).map(state).collect()
    }

    /// What no planned package stands for, a line each.
    pub(super) fn complaints(&self, planned: &[PlannedChange]) -> Vec<String> {
        let strange = |of: &&String| !planned.iter().any(|change| is_of(of, change));
        let mut lines: Vec<String> =
            self.of.iter().filter(strange).map(|of| format!("a script of {of} failed")).collect();
        lines.extend(self.unfinished.clone());
        lines
    }

    fn names(&self, change: &PlannedChange) -> bool {
        self.of.iter().any(|of| is_of(of, change))
    }
}

/// Whether `loom-post-2-1.noarch` or `loom-post` is this package, in whatever version: an old script that fails on the way
/// out is a failure of the update too.
fn is_of(subject: &str, change: &PlannedChange) -> bool {
    let Some(rest) = subject.strip_prefix(change.id.name.as_str()) else { return false };
    let Some(version) = rest.strip_prefix('-') else { return rest.is_empty() };
    let plain = |version: &str| version.split_once(':').map_or(version, |(_, plain)| plain).to_owned();
    let known = [Some(&change.candidate), change.installed.as_ref()];
    version.starts_with(|c: char| c.is_ascii_digit())
        || known.into_iter().flatten().any(|known| version.starts_with(&plain(known)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(name: &str) -> PlannedChange {
        PlannedChange {
            id: PackageId { name: name.to_owned(), arch: "noarch".to_owned() },
            installed: Some("1-1".to_owned()),
            candidate: "1:2-1".to_owned(),
            sha256: None,
            cves: Vec::new(),
            security: false,
        }
    }

    const SAID: &str = "loom-post: no\nwarning: %post(loom-post-2-1.noarch) scriptlet failed, exit status 1\n\
                        Error in POSTIN scriptlet in rpm package loom-post\nComplete!\n";

    #[test]
    fn a_script_that_failed_is_found_though_the_package_manager_is_content() {
        let scripts = Scripts::in_words(Manager::Dnf, SAID);
        assert!(!scripts.of.is_empty() && scripts.said.contains("%post"), "{scripts:?}");
        assert!(scripts.names(&planned("loom-post")) && !scripts.names(&planned("loom")));
        assert_eq!(scripts.complaints(&[planned("loom-post")]), Vec::<String>::new());
        assert_eq!(scripts.complaints(&[planned("loom")]).len(), scripts.of.len());
        assert_eq!(Scripts::in_words(Manager::Dnf, "Complete!\n"), Scripts::default());
    }

    #[test]
    fn the_set_tells_whose_script_failed_and_blame_tells_what_never_came() {
        let scripts = Scripts::in_words(Manager::Dnf, SAID);
        let plan = [planned("loom-post")];
        let set = |version: &str| -> PackageSet {
            let state = PackageState { version: version.to_owned(), status: "ii".to_owned() };
            [(plan[0].id.clone(), state)].into_iter().collect()
        };
        assert_eq!(scripts.mark(set("1:2-1"), &plan).get(&plan[0].id).unwrap().status, "iF");
        assert_eq!(scripts.mark(set("1-1"), &plan), set("1-1"), "the old one is whole");
        assert_eq!(scripts.blame(&set("1-1"), &plan)[0].1.status, "iH");
    }
}
