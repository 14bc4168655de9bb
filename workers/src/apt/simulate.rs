//! What an upgrade would do, by apt's own dry run.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Error, ask};
use crate::host::{HostExec, Order};

/// A package that would be installed or upgraded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install {
    /// Name without architecture.
    pub name: String,
    /// Architecture of the candidate.
    pub arch: String,
    /// Version before; `None` when it would come new.
    pub installed: Option<String>,
    /// Version after.
    pub candidate: String,
    /// Where it comes from, as apt prints it; several are separated by commas.
    pub origin: String,
}

impl Install {
    /// Whether one of its origins is a security archive.
    #[must_use]
    pub fn is_security(&self) -> bool {
        self.origin.split(',').any(is_security_origin)
    }
}

/// `Label:version/suite`: the label or the suite has `security` as one of its words.
///
/// The package name is never looked at: `libapache2-mod-security2` is no security update.
fn is_security_origin(origin: &str) -> bool {
    let words = |text: &str| text.split(['-', '_', '/', ' ']).any(|word| word.eq_ignore_ascii_case("security"));
    match origin.trim().split_once(':') {
        Some((label, rest)) => {
            words(label) || rest.split_once('/').map_or_else(|| words(rest), |(_, suite)| words(suite))
        }
        None => false,
    }
}

/// A dry run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Simulation {
    /// What would be installed or upgraded, in apt's order.
    pub installs: Vec<Install>,
    /// What would be removed: name and version.
    pub removes: Vec<(String, Option<String>)>,
    /// Upgradable, but apt keeps it back: held, or it needs what may not be installed.
    pub kept_back: Vec<String>,
    /// Upgradable, but the archive hands it out in phases and this host is not in yet.
    pub phased: Vec<String>,
}

/// What becomes of packages on hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// They stay as they are.
    Kept,
    /// As if nobody had put them on hold.
    Ignored,
}

/// Asks apt what a full upgrade would do.
///
/// # Errors
/// When apt fails, which it does on broken dependencies and damaged lists.
pub async fn full_upgrade(exec: &HostExec, holds: Holds, cancel: &CancellationToken) -> Result<Simulation, Error> {
    let mut argv = vec!["apt-get", "-s", "-q", "-o", "APT::Get::Show-User-Simulation-Note=false"];
    if holds == Holds::Ignored {
        argv.push("--ignore-hold");
    }
    argv.push("dist-upgrade");
    let text = ask(exec, &Order::reading(argv).timeout(Duration::from_secs(300)), cancel).await?;
    parse(&text)
}

/// Reads a dry run.
///
/// # Errors
/// [`Error::Answer`] on an `Inst` or `Remv` line of another shape: to pass it over would hide a patch.
pub fn parse(text: &str) -> Result<Simulation, Error> {
    let mut found = Simulation::default();
    let mut section: Option<&mut Vec<String>> = None;
    for line in text.lines() {
        if line.starts_with("  ") {
            if let Some(names) = section.as_deref_mut() {
                names.extend(line.split_whitespace().map(str::to_owned));
            }
            continue;
        }
        section = None;
        let answer = || Error::Answer { command: "apt-get -s".to_owned(), line: line.to_owned() };
        if let Some(rest) = line.strip_prefix("Inst ") {
            found.installs.push(install(rest).ok_or_else(answer)?);
        } else if let Some(rest) = line.strip_prefix("Remv ") {
            let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            let version = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(version, _)| version);
            found.removes.push((plain_name(name).to_owned(), version.map(str::to_owned)));
        } else if line.starts_with("The following packages have been kept back") {
            section = Some(&mut found.kept_back);
        } else if line.starts_with("The following upgrades have been deferred due to phasing") {
            section = Some(&mut found.phased);
        }
    }
    Ok(found)
}

/// `NAME [OLD] (NEW ORIGIN, ORIGIN [ARCH]) [...]`, without `[OLD]` for a new package.
fn install(rest: &str) -> Option<Install> {
    let (name, rest) = rest.split_once(' ')?;
    let (installed, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once("] ").map(|(old, rest)| (Some(old.to_owned()), rest))?,
        None => (None, rest),
    };
    let (inside, _) = rest.strip_prefix('(')?.split_once("])")?;
    let (inside, arch) = inside.rsplit_once('[')?;
    let (candidate, origin) = inside.trim_end().split_once(' ').unwrap_or((inside.trim_end(), ""));
    Some(Install {
        name: plain_name(name).to_owned(),
        arch: arch.to_owned(),
        installed,
        candidate: candidate.to_owned(),
        origin: origin.to_owned(),
    })
}

/// A name without the `:arch` that apt appends to those of foreign architectures.
fn plain_name(name: &str) -> &str {
    name.split_once(':').map_or(name, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "\
The following packages have been kept back:
  heldpkg
  other third
The following upgrades have been deferred due to phasing:
  slow
The following packages will be upgraded:
  not these
Inst perl [5.36.0-7+deb12u2] (5.36.0-7+deb12u4 Debian-Security:12/oldstable-security [amd64]) []
Inst libc6:i386 [2.36-9] (2.36-9+deb12u1 Debian:12.15/oldstable, Debian-Security:12/oldstable-security [i386])
Inst libpam-modules-bin [1] (2 Debian:12.15/oldstable [amd64]) [libpam-modules:amd64 on x:amd64] [y:amd64 ]
Inst linux-image (6.1 Debian:12.15/oldstable [amd64])
Inst libapache2-mod-security2 [2.9.3-3] (2.9.3-4 Raspbian:11/oldoldstable [armhf])
Inst local [1] (2 [all])
Remv old:i386 [1.0] [x]
Conf perl (5.36.0-7+deb12u4 Debian-Security:12/oldstable-security [amd64])
";

    #[test]
    fn all_shapes_of_a_dry_run_are_read() {
        let run = parse(RUN).unwrap();
        let rows: Vec<_> = run
            .installs
            .iter()
            .map(|i| (i.name.as_str(), i.arch.as_str(), i.installed.is_some(), i.is_security()))
            .collect();
        assert_eq!(
            rows,
            [
                ("perl", "amd64", true, true),
                ("libc6", "i386", true, true),
                ("libpam-modules-bin", "amd64", true, false),
                ("linux-image", "amd64", false, false),
                ("libapache2-mod-security2", "armhf", true, false),
                ("local", "all", true, false),
            ]
        );
        assert_eq!(run.installs[1].origin, "Debian:12.15/oldstable, Debian-Security:12/oldstable-security");
        assert_eq!(run.installs[5].candidate, "2");
        assert_eq!(run.removes, [("old".to_owned(), Some("1.0".to_owned()))]);
        assert_eq!(run.kept_back, ["heldpkg", "other", "third"]);
        assert_eq!(run.phased, ["slow"]);
    }

    #[test]
    fn security_archives_are_told_by_label_or_suite() {
        for (origin, expected) in [
            ("Debian-Security:12/oldstable-security", true),
            ("Ubuntu:22.04/jammy-security", true),
            ("UbuntuESMApps:22.04/jammy-apps-security", true),
            ("Ubuntu:22.04/jammy-updates", false),
            ("Acme-Insecurity:1/stable", false),
            ("", false),
        ] {
            assert_eq!(is_security_origin(origin), expected, "{origin}");
        }
    }

    #[test]
    fn a_line_of_another_shape_is_no_silent_loss() {
        assert_eq!(parse("Inst perl\n").unwrap_err().code(), "E0512");
    }
}
