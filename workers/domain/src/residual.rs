//! Why a finding is still there after a patch: one reason for each, from what the host shows now. Reads nothing itself.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::correlate::{PackageFact, StaleProcess, Version, kernel_release};
use crate::{Finding, InstalledPackage, Mode, PackageId, VersionScheme};

/// Lists older than this explain by themselves why a fix is not on offer.
pub const LISTS_AGE_MS_MAX: u64 = 24 * 3_600_000;

/// Processes named in one reason; the others are counted.
const PROCESSES_NAMED_MAX: usize = 5;

/// Why a finding is still there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum ResidualReason {
    /// The fixed kernel is installed, and an older one runs.
    KernelNotBooted {
        /// What runs, with its version where it tells one.
        running: String,
        /// The version that is installed.
        installed: String,
    },
    /// The fix is installed, and processes still use the files from before.
    NotRestarted {
        /// Units, or processes with their numbers.
        processes: Vec<String>,
    },
    /// The package is neither whole nor gone.
    HalfInstalled {
        /// The package manager's word for its state.
        status: String,
    },
    /// Somebody put the package on hold on the host.
    Held,
    /// Patchloom holds the version that would fix it.
    VersionHeld {
        /// The version.
        version: String,
        /// Why.
        why: String,
    },
    /// The archive hands the fix out in phases, and this host is not in yet.
    Phased {
        /// The version that comes.
        offered: String,
    },
    /// The lists have the fix, and a pin or an exclusion prefers another version.
    Pinned {
        /// The version with the fix.
        wanted: String,
        /// The version that is preferred instead.
        preferred: Option<String>,
    },
    /// The fix is known, and the lists of the host do not have it yet.
    NotOnOffer {
        /// The newest version that they have.
        offered: Option<String>,
        /// The age of the lists in milliseconds, where they are too old to tell.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lists_age_ms: Option<u64>,
    },
    /// The fix is on offer, and the solver finds no way to take it.
    KeptBack {
        /// The version on offer.
        offered: String,
    },
    /// It was planned and is not there.
    DidNotTake,
    /// The fix is on offer and was not part of the plan.
    NotPlanned {
        /// The version on offer.
        offered: String,
    },
    /// Nothing was to change.
    OnlyObserved,
    /// Nobody knows of a fix.
    NoFix,
    /// The lists of the host could not be asked.
    Unexplained {
        /// Why not.
        why: String,
    },
}

impl ResidualReason {
    /// Its name, as figures are counted by.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::KernelNotBooted { .. } => "kernel_not_booted",
            Self::NotRestarted { .. } => "not_restarted",
            Self::HalfInstalled { .. } => "half_installed",
            Self::Held => "held",
            Self::VersionHeld { .. } => "version_held",
            Self::Phased { .. } => "phased",
            Self::Pinned { .. } => "pinned",
            Self::NotOnOffer { .. } => "not_on_offer",
            Self::KeptBack { .. } => "kept_back",
            Self::DidNotTake => "did_not_take",
            Self::NotPlanned { .. } => "not_planned",
            Self::OnlyObserved => "only_observed",
            Self::NoFix => "no_fix",
            Self::Unexplained { .. } => "unexplained",
        }
    }

    /// In one sentence, without full stop.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::KernelNotBooted { running, installed } => {
                format!("{installed} is installed, but the kernel that runs is {running}")
            }
            Self::NotRestarted { processes } => {
                let more = processes.len().saturating_sub(PROCESSES_NAMED_MAX);
                let named = processes.iter().take(PROCESSES_NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
                let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
                format!("the fix is installed, but {named}{rest} still use the files from before")
            }
            Self::HalfInstalled { status } => format!("the package is half installed ({status})"),
            Self::Held => "the package is on hold".to_owned(),
            Self::VersionHeld { version, why } => format!("{version} is held: {why}"),
            Self::Phased { offered } => format!("{offered} is handed out in phases, and this host is not in yet"),
            Self::Pinned { wanted, preferred } => match preferred {
                Some(preferred) => format!("{wanted} is on offer, but a pin prefers {preferred}"),
                None => format!("{wanted} is on offer, but a pin forbids it"),
            },
            Self::NotOnOffer { offered, lists_age_ms } => {
                let ends = match offered {
                    Some(offered) => format!("the lists end at {offered}"),
                    None => "the lists offer nothing newer".to_owned(),
                };
                match lists_age_ms {
                    Some(age) => format!("{ends} and are {} hours old", age / 3_600_000),
                    None => format!("{ends}: the mirror lags behind, or the archive is not configured"),
                }
            }
            Self::KeptBack { offered } => format!("{offered} is on offer, but its dependencies cannot be met"),
            Self::DidNotTake => "it was planned, and the patch did not take".to_owned(),
            Self::NotPlanned { offered } => format!("{offered} is on offer and was not part of the plan"),
            Self::OnlyObserved => "nothing was installed: this run only observes".to_owned(),
            Self::NoFix => "no version with a fix is known".to_owned(),
            Self::Unexplained { why } => format!("the lists of the host could not be asked: {why}"),
        }
    }

    /// What to do about it; empty where nothing.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::KernelNotBooted { .. } => "reboot the host, or run with --reboot if_needed",
            Self::NotRestarted { .. } => "restart them, or reboot the host",
            Self::HalfInstalled { .. } => "run dpkg --configure -a, then apt-get -f install",
            Self::Held => "apt-mark unhold it once its reason is gone, or accept the risk",
            Self::VersionHeld { .. } => "wait for a later version, or patchloom hold release",
            Self::Phased { .. } => "wait, or set APT::Get::Always-Include-Phased-Updates on the host",
            Self::Pinned { .. } => "look at apt-cache policy and the files in /etc/apt/preferences.d",
            Self::NotOnOffer { lists_age_ms: Some(_), .. } => "refresh the lists of the host",
            Self::NotOnOffer { lists_age_ms: None, .. } => "look at the mirror, and at the sources of the host",
            Self::KeptBack { .. } => "see what the package manager says of its dependencies",
            Self::DidNotTake => "see the evidence of the install",
            Self::NotPlanned { .. } => "run again: it is part of the next plan",
            Self::OnlyObserved => "",
            Self::NoFix => "mitigate, or accept the risk",
            Self::Unexplained { .. } => "mend that, then scan again",
        }
    }
}

/// A finding that is still there, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Residual {
    /// Its CVE id.
    pub cve: String,
    /// The binary package.
    pub package: String,
    /// The version there is.
    pub installed: String,
    /// The version that fixes it.
    pub fixed: Option<String>,
    /// Why.
    #[serde(flatten)]
    pub why: ResidualReason,
    /// Why, for people.
    pub text: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

/// What the lists of a host have for a package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfferNow {
    /// The version that would be installed.
    pub candidate: Option<String>,
    /// All versions that the archives have.
    pub versions: Vec<String>,
    /// Whether it waits for its phase.
    pub phased: bool,
    /// Whether the solver leaves it.
    pub kept_back: bool,
}

/// The kernel that runs, where it is the host's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelNow {
    /// `uname -r`.
    pub release: String,
    /// The package version that `uname -v` tells, as Debian's does.
    pub version: Option<String>,
}

impl KernelNow {
    /// By `uname -r` and `uname -v`: `#1 SMP PREEMPT_DYNAMIC Debian 6.1.106-3 (2024-08-26)` holds `6.1.106-3`.
    #[must_use]
    pub fn read(release: &str, built: &str) -> Self {
        let version = built.split_once("Debian ").and_then(|(_, rest)| rest.split_whitespace().next());
        Self { release: release.trim().to_owned(), version: version.map(str::to_owned) }
    }
}

/// What a host shows after a patch.
#[derive(Clone, Debug)]
pub struct HostNow<'a> {
    /// Whose versions its packages have.
    pub scheme: VersionScheme,
    /// Whether anything was to change.
    pub mode: Mode,
    /// What is installed, or in some state between.
    pub packages: BTreeMap<&'a PackageId, &'a InstalledPackage>,
    /// Which of them are half installed.
    pub broken: BTreeSet<&'a PackageId>,
    /// What was planned.
    pub planned: BTreeSet<&'a PackageId>,
    /// The kernel that runs.
    pub kernel: Option<KernelNow>,
    /// Processes that use files which are gone.
    pub stale: Vec<StaleProcess>,
    /// What the lists have, by package name; a package without a row is on no list.
    pub offers: BTreeMap<String, OfferNow>,
    /// Why the lists could not be asked, where they could not.
    pub unasked: Option<String>,
    /// Versions that Patchloom holds on this host, by package name: version and reason.
    pub holds: BTreeMap<String, Vec<(String, String)>>,
    /// The age of the lists, where known.
    pub lists_age_ms: Option<u64>,
}

/// Packages whose findings are open by their versions alone: what has to be asked of the lists before [`residual`].
#[must_use]
pub fn unfixed_packages(findings: &[Finding], host: &HostNow<'_>) -> BTreeSet<String> {
    let open = |finding: &&Finding| host.packages.get(&finding.package).is_some_and(|now| !has_fix(finding, now, host));
    findings.iter().filter(open).map(|finding| finding.package.name.clone()).collect()
}

/// Why a finding is still there; none where it is fixed, or its package is gone.
#[must_use]
pub fn residual(finding: &Finding, host: &HostNow<'_>) -> Option<Residual> {
    let package = host.packages.get(&finding.package)?;
    let why = match has_fix(finding, package, host) {
        true => not_in_use(finding, package, host)?,
        false => not_installed(finding, package, host),
    };
    Some(Residual {
        cve: finding.cve.clone(),
        package: finding.package.name.clone(),
        installed: package.version.clone(),
        fixed: finding.fixed.clone(),
        text: why.text(),
        remedy: why.remedy().to_owned(),
        why,
    })
}

/// Whether one version is another or newer; never where one of them cannot be read.
fn reaches(scheme: VersionScheme, version: &str, other: &str) -> bool {
    let versions = (Version::read(scheme, version), Version::read(scheme, other));
    matches!(versions, (Ok(version), Ok(other)) if version.reaches(&other))
}

fn has_fix(finding: &Finding, package: &InstalledPackage, host: &HostNow<'_>) -> bool {
    let is_whole = !host.broken.contains(&package.id);
    is_whole && finding.fixed.as_deref().is_some_and(|fixed| reaches(host.scheme, &package.version, fixed))
}

/// The fix is on the disk: does it run?
fn not_in_use(finding: &Finding, package: &InstalledPackage, host: &HostNow<'_>) -> Option<ResidualReason> {
    if let Some(kernel) = host.kernel.as_ref().filter(|_| is_kernel(&package.id.name)) {
        return not_booted(finding, package, kernel, host);
    }
    let users = host.stale.iter().filter(|process| process.package == package.id.name);
    let named = |one: &StaleProcess| one.unit.clone().unwrap_or_else(|| format!("{} ({})", one.command, one.pid));
    let processes: BTreeSet<String> = users.map(named).collect();
    (!processes.is_empty()).then(|| ResidualReason::NotRestarted { processes: processes.into_iter().collect() })
}

/// Whether a package is, or draws in, a kernel: only those work by a reboot. Headers and tools do not.
fn is_kernel(name: &str) -> bool {
    let rpm =
        ["kernel", "kernel-core", "kernel-default", "kernel-uek", "kernel-uek-core", "kernel-rt", "kernel-rt-core"];
    name.starts_with("linux-image-") || name.starts_with("linux-modules-") || rpm.contains(&name)
}

fn not_booted(
    finding: &Finding,
    package: &InstalledPackage,
    kernel: &KernelNow,
    host: &HostNow<'_>,
) -> Option<ResidualReason> {
    let running = match &kernel.version {
        Some(version) => format!("{} ({version})", kernel.release),
        None => kernel.release.clone(),
    };
    // Its own version decides where it tells one: the same release is rebuilt under the same name.
    let is_old = match (&kernel.version, &finding.fixed) {
        (Some(version), Some(fixed)) if Version::read(host.scheme, version).is_ok() => {
            !reaches(host.scheme, version, fixed)
        }
        _ => newer_kernel(host.scheme, host.packages.values().copied(), kernel).is_some(),
    };
    is_old.then(|| ResidualReason::KernelNotBooted {
        running,
        installed: format!("{} {}", package.id.name, package.version),
    })
}

/// The release of the newest kernel on the disk, where another one runs.
#[must_use]
pub fn newer_kernel<'a>(
    scheme: VersionScheme,
    packages: impl Iterator<Item = &'a InstalledPackage>,
    running: &KernelNow,
) -> Option<String> {
    let release = |package: &'a InstalledPackage| {
        let (name, version) = (package.id.name.clone(), package.version.clone());
        let fact = PackageFact { name, version, ..PackageFact::default() };
        Some((Version::read(scheme, &package.version).ok()?, kernel_release(scheme, &fact)?))
    };
    let releases = packages.filter(|package| is_kernel(&package.id.name)).filter_map(release);
    let (_, newest) = releases.reduce(|best, one| if one.0.reaches(&best.0) { one } else { best })?;
    (!is_release(&running.release, &newest)).then_some(newest)
}

/// Whether `uname -r` names this release: it may add the architecture, or a flavour.
fn is_release(running: &str, release: &str) -> bool {
    running.strip_prefix(release).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-', '+']))
}

/// The fix is not on the disk: what keeps it away?
fn not_installed(finding: &Finding, package: &InstalledPackage, host: &HostNow<'_>) -> ResidualReason {
    if host.broken.contains(&package.id) {
        return ResidualReason::HalfInstalled { status: package.status.clone() };
    }
    let Some(fixed) = &finding.fixed else { return ResidualReason::NoFix };
    if package.held {
        return ResidualReason::Held;
    }
    let brings = |version: &&String| reaches(host.scheme, version, fixed);
    let ours = host.holds.get(&package.id.name).into_iter().flatten();
    if let Some((version, why)) = ours.clone().find(|(version, _)| version == fixed) {
        return ResidualReason::VersionHeld { version: version.clone(), why: why.clone() };
    }
    if host.planned.contains(&package.id) && host.mode == Mode::Apply {
        return ResidualReason::DidNotTake;
    }
    if let Some(why) = &host.unasked {
        return ResidualReason::Unexplained { why: why.clone() };
    }
    let none = OfferNow::default();
    let offer = host.offers.get(&package.id.name).unwrap_or(&none);
    let candidate = offer.candidate.as_ref().filter(brings);
    match candidate {
        Some(offered) if offer.phased => ResidualReason::Phased { offered: offered.clone() },
        Some(offered) if offer.kept_back => ResidualReason::KeptBack { offered: offered.clone() },
        Some(offered) => {
            let held = ours.clone().find(|(version, _)| version == offered);
            match (held, host.mode) {
                (Some((version, why)), _) => ResidualReason::VersionHeld { version: version.clone(), why: why.clone() },
                (None, Mode::Observe) => ResidualReason::OnlyObserved,
                (None, Mode::Apply) => ResidualReason::NotPlanned { offered: offered.clone() },
            }
        }
        None => match offer.versions.iter().find(brings) {
            Some(wanted) => ResidualReason::Pinned { wanted: wanted.clone(), preferred: offer.candidate.clone() },
            None => ResidualReason::NotOnOffer {
                offered: offer.candidate.clone().filter(|one| *one != package.version),
                lists_age_ms: host.lists_age_ms.filter(|age| *age > LISTS_AGE_MS_MAX),
            },
        },
    }
}

/// How many findings have which reason, the most frequent first: `2 kernel_not_booted, 1 held`.
#[must_use]
pub fn residual_counts(found: &[Residual]) -> Vec<(&'static str, usize)> {
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    for one in found {
        *counts.entry(one.why.name()).or_default() += 1;
    }
    let mut rows: Vec<_> = counts.into_iter().collect();
    rows.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), *name));
    rows
}

#[cfg(test)]
#[path = "residual_tests.rs"]
mod tests;
