//! Which dnf a host has: dnf 4, written in Python, and dnf 5 go by one name and differ in options, tables and places.

use std::path::Path;

use crate::host::HostExec;

/// A generation of dnf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Generation {
    /// dnf 4: RHEL up to 10 and its kin, Fedora up to 40.
    Four,
    /// dnf 5: Fedora from 41 on.
    Five,
}

impl Generation {
    /// The one that `dnf` means on a host. Where both are installed the name is a link to one of them.
    pub(crate) fn of(exec: &HostExec) -> Self {
        let five = |link: &str| {
            // As the host sees it: the target of an absolute link lies inside a root, too.
            let target = std::fs::read_link(exec.path(link)).ok();
            target.as_deref().and_then(Path::file_name).is_some_and(|name| name == "dnf5")
        };
        let has = |program: &str| exec.path(program).symlink_metadata().is_ok();
        let only = !has("/usr/bin/dnf") && has("/usr/bin/dnf5");
        if five("/usr/bin/dnf") || only { Self::Five } else { Self::Four }
    }

    /// What is called. Each of them can be there under the plain name.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Four => "dnf",
            Self::Five => "dnf5",
        }
    }

    /// Where it keeps what it fetched of repositories, each in a directory of its own.
    pub(crate) fn cache(self) -> &'static str {
        match self {
            Self::Four => "/var/cache/dnf",
            Self::Five => "/var/cache/libdnf5",
        }
    }

    /// Where rpm's database lies on the systems that have it.
    pub(super) fn database(self) -> &'static str {
        match self {
            Self::Four => "/var/lib/rpm",
            Self::Five => "/usr/lib/sysimage/rpm",
        }
    }

    /// The option that asks of what the configuration excludes as well.
    pub(super) fn with_excluded(self) -> &'static str {
        match self {
            Self::Four => "--disableexcludes=all",
            Self::Five => "--setopt=disable_excludes=*",
        }
    }

    /// A call that answers out of what was fetched before, and says nothing but the answer.
    pub(crate) fn asking(self, words: &[&str]) -> Vec<String> {
        [self.program(), "-q", "-C"].iter().chain(words).map(|word| (*word).to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use patchloom_domain::Target;

    use super::*;

    #[track_caller]
    fn check(make: impl Fn(&Path), expected: Generation) {
        let root = tempfile::tempdir().unwrap();
        let bin = root.path().join("usr/bin");
        std::fs::create_dir_all(&bin).unwrap();
        for program in ["rpm", "zypper"] {
            std::fs::write(bin.join(program), "").unwrap();
        }
        make(&bin);
        let exec = HostExec::new(&Target::Root { path: root.path().display().to_string() }).unwrap();
        assert_eq!(Generation::of(&exec), expected);
    }

    #[test]
    fn dnf_is_what_its_name_leads_to() {
        check(|bin| symlink("dnf-3", bin.join("dnf")).unwrap(), Generation::Four);
        check(|bin| symlink("dnf5", bin.join("dnf")).unwrap(), Generation::Five);
        check(|bin| symlink("/usr/bin/dnf5", bin.join("dnf")).unwrap(), Generation::Five);
        check(|bin| std::fs::write(bin.join("dnf5"), "").unwrap(), Generation::Five);
        let both = |bin: &Path| {
            std::fs::write(bin.join("dnf5"), "").unwrap();
            symlink("dnf-3", bin.join("dnf")).unwrap();
        };
        check(both, Generation::Four);
    }
}
