//! The judgement: what one claim means for one package of one host, and why.

use serde::Serialize;

use super::claim::Claim;
use super::facts::{Installed, Offer, Place, StaleProcess, Withheld};
use super::kernel::KernelCase;
use super::{FixOf, Fixed, VendorStatus, Version, choose_fix};
use crate::VersionScheme;

/// What is to be done about a finding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// The lists of the host offer the fix.
    FixableNow {
        /// What is to be installed.
        unit: PatchUnit,
        /// Whether it works only after a reboot.
        reboot: bool,
    },
    /// A fix exists, and the host does not get it.
    FixNotOffered {
        /// The fixed version, where it is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        fixed: Option<String>,
        /// Why not.
        reason: NotOffered,
    },
    /// The fix is installed, and what runs is older.
    RunningOld {
        /// What has to be started anew: `the host`, or the units and processes.
        restart: Vec<String>,
        /// Whether that is the host.
        reboot: bool,
    },
    /// It is in a kernel that neither runs nor would start: what is left to do is to remove it.
    OldKernelLeft {
        /// The package.
        remove: String,
    },
    /// There is no fix.
    NoFix {
        /// What the vendor says.
        vendor: VendorStatus,
    },
    /// It cannot be judged by what is known.
    Unclear,
    /// The installed version has the fix.
    AlreadyFixed {
        /// The fixed version.
        fixed: String,
    },
    /// The vendor says that the package is not affected.
    NotAffected,
    /// The package is not on the host any more, or never was.
    NotInstalled,
}

/// Why a host does not get a fix that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NotOffered {
    /// The package is on hold, or locked.
    Held,
    /// The archive gives it to a share of the hosts first.
    Phased,
    /// The lists of the host do not have it: a mirror that lags, old lists, an archive that is not configured.
    NotInLists,
    /// A pin, an exclusion or a priority prefers another version.
    Pinned,
    /// It is for subscribers (Ubuntu's ESM, extended support).
    NeedsSubscription,
    /// Only another release or branch has it.
    OtherRelease,
    /// Its archive withdrew it, or it would remove what has to stay.
    Removed,
    /// The source says that it is fixed and not since when; what the lists offer does not name it.
    VersionUnknown,
}

/// What is installed together: a source package at one version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct PatchUnit {
    /// The source package.
    pub source: String,
    /// Its version on offer.
    pub version: String,
    /// The binary packages of the host that it brings up.
    pub binaries: Vec<String>,
}

/// A judgement with its reason.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Verdict {
    /// What is to be done.
    #[serde(flatten)]
    pub state: State,
    /// Why, in one sentence without full stop.
    pub why: String,
}

impl State {
    /// Whether the host is vulnerable by all that is known.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match self {
            Self::FixableNow { .. }
            | Self::FixNotOffered { .. }
            | Self::RunningOld { .. }
            | Self::OldKernelLeft { .. }
            | Self::NoFix { .. }
            | Self::Unclear => true,
            Self::AlreadyFixed { .. } | Self::NotAffected | Self::NotInstalled => false,
        }
    }

    /// Its name in a word or two.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::FixableNow { .. } => "fixable now",
            Self::FixNotOffered { .. } => "not offered",
            Self::RunningOld { reboot: true, .. } => "reboot",
            Self::RunningOld { reboot: false, .. } => "restart",
            Self::OldKernelLeft { .. } => "old kernel",
            Self::NoFix { .. } => "no fix",
            Self::Unclear => "unclear",
            Self::AlreadyFixed { .. } => "already fixed",
            Self::NotAffected => "not affected",
            Self::NotInstalled => "not installed",
        }
    }

    fn because(self, why: impl Into<String>) -> Verdict {
        Verdict { state: self, why: why.into() }
    }
}

/// One package of one host, with all that matters to a judgement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case<'a> {
    pub(crate) scheme: VersionScheme,
    pub(crate) place: &'a Place,
    pub(crate) package: &'a Installed,
    pub(crate) offer: Option<&'a Offer>,
    pub(crate) stale: &'a [&'a StaleProcess],
    pub(crate) kernel: Option<KernelCase<'a>>,
}

/// A claim with its versions read.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub claim: Claim,
    /// By the place of the fix in the claim; none where it is no version.
    fixes: Vec<Option<Version>>,
}

impl Prepared {
    pub fn of(scheme: VersionScheme, claim: Claim) -> Self {
        let fixes = claim.fixed.iter().map(|fix| Version::read(scheme, &fix.version).ok()).collect();
        Self { claim, fixes }
    }
}

/// Judges.
#[must_use]
pub(crate) fn judge_prepared(case: &Case<'_>, prepared: &Prepared) -> Verdict {
    let claim = &prepared.claim;
    let never = claim.fixed.iter().any(|fix| fix.version == "0");
    if claim.status == VendorStatus::NotAffected || never {
        return State::NotAffected.because(VendorStatus::NotAffected.says());
    }
    let Some(installed) = compared(case, claim) else {
        let version = &case.package.fact.version;
        return State::Unclear.because(format!("the installed version {version} is no {} version", case.scheme));
    };
    if let Some(other) = other_module(case, claim) {
        return State::Unclear.because(other);
    }
    let (kept, dropped) = usable(case, prepared);
    let fixes: Vec<Version> = kept.iter().map(|(_, version)| (*version).clone()).collect();
    if fixes.is_empty() && prepared.fixes.iter().any(Option::is_none) && !dropped {
        let words: Vec<&str> = claim.fixed.iter().map(|fix| fix.version.as_str()).collect();
        return State::Unclear.because(format!("'{}' is no {} version", words.join(", "), case.scheme));
    }
    match choose_fix(installed, &fixes) {
        Fixed::Already(at) if claim.fix_of != FixOf::Upstream || upstream_reaches(case, installed, &fixes[at]) => {
            fixed_already(case, claim, installed, &fixes[at])
        }
        Fixed::Already(_) | Fixed::By(_) if claim.fix_of == FixOf::Upstream => State::Unclear.because(format!(
            "{} is the version of the upstream project; the package may have the fix at {installed}",
            fixes[0]
        )),
        Fixed::Already(at) | Fixed::By(at) => open(case, prepared, &fixes, Some(&fixes[at]), dropped),
        Fixed::Nowhere => open(case, prepared, &fixes, None, dropped),
    }
}

/// Whether a claim's fixed versions count the source package.
fn of_source(case: &Case<'_>, claim: &Claim) -> bool {
    // The signed packages of Debian have a source of their own, whose version is another than that of the code they hold.
    let signed = case.package.fact.source.contains("-signed") && claim.package != case.package.fact.source;
    match claim.fix_of {
        FixOf::Binary => false,
        FixOf::Source | FixOf::Upstream => !signed && case.package.kernel.is_none(),
        FixOf::Unknown => case.scheme != VersionScheme::Rpm && !signed && case.package.kernel.is_none(),
    }
}

fn compared<'a>(case: &Case<'a>, claim: &Claim) -> Option<&'a Version> {
    if of_source(case, claim) { case.package.source_version.as_ref() } else { case.package.version.as_ref() }
}

/// Whether an installed version is upstream's fix or newer: an epoch is the distribution's, upstream has none.
fn upstream_reaches(case: &Case<'_>, installed: &Version, fix: &Version) -> bool {
    let text = installed.as_str();
    let bare = text.split_once(':').map_or(text, |(_, bare)| bare);
    Version::read(case.scheme, bare).is_ok_and(|bare| bare.reaches(fix))
}

fn stream(module: &str) -> String {
    module.split(':').take(2).collect::<Vec<_>>().join(":")
}

fn other_module(case: &Case<'_>, claim: &Claim) -> Option<String> {
    let (wanted, has) = (claim.module.as_deref()?, case.package.fact.module.as_deref());
    match has {
        Some(has) if stream(has) == stream(wanted) => None,
        Some(has) => Some(format!("it is about the module {wanted}; the host has {}", stream(has))),
        None => Some(format!("it is about the module {wanted}; the package of the host belongs to none")),
    }
}

/// The fixes that count for the host's release and module, and whether others were left out.
fn usable<'p>(case: &Case<'_>, prepared: &'p Prepared) -> (Vec<(usize, &'p Version)>, bool) {
    let mut dropped = false;
    let mut kept = Vec::new();
    for (at, (fix, version)) in prepared.claim.fixed.iter().zip(&prepared.fixes).enumerate() {
        let releases = &case.place.releases;
        let here = fix.release.as_ref().is_none_or(|release| releases.is_empty() || releases.contains(release));
        let module = case.package.fact.module.as_deref().map(stream);
        let stream_fits = match (&fix.module, module) {
            (None, _) => true,
            (Some(wanted), Some(has)) => stream(wanted) == has,
            (Some(_), None) => false,
        };
        match version {
            Some(version) if here && stream_fits => kept.push((at, version)),
            Some(_) | None => dropped |= !(here && stream_fits),
        }
    }
    (kept, dropped)
}

fn fixed_already(case: &Case<'_>, claim: &Claim, installed: &Version, fix: &Version) -> Verdict {
    let name = &case.package.fact.name;
    if let Some(kernel) = case.kernel {
        let runs = kernel.running.zip(case.package.kernel.as_ref()).is_some_and(|(running, own)| own.is(running));
        if let Some(version) = kernel.running_version.filter(|version| runs && !version.reaches(fix)) {
            return State::RunningOld { restart: vec!["the host".to_owned()], reboot: true }
                .because(format!("{name} {installed} has the fix; the kernel that runs was started from {version}"));
        }
    }
    if !case.stale.is_empty() {
        let mut restart: Vec<String> = case.stale.iter().map(|process| told(process)).collect();
        restart.sort();
        restart.dedup();
        let why = format!("{name} {installed} has the fix; {} still have the old files mapped", counted(restart.len()));
        return State::RunningOld { restart, reboot: false }.because(why);
    }
    let why = match claim.installed.as_deref().filter(|seen| *seen != case.package.fact.version) {
        Some(seen) => format!("{name} is at {installed} by now and has the fix of {fix}; the report saw {seen}"),
        None => format!("{name} {installed} has the fix of {fix}; the source of the finding disagrees"),
    };
    State::AlreadyFixed { fixed: fix.to_string() }.because(why)
}

fn counted(count: usize) -> String {
    if count == 1 { "one unit or process".to_owned() } else { format!("{count} units or processes") }
}

fn told(process: &StaleProcess) -> String {
    process.unit.clone().unwrap_or_else(|| format!("{} ({})", process.command, process.pid))
}

/// The package lacks the fix: `target` is the next fixed version, where one is known.
fn open(case: &Case<'_>, prepared: &Prepared, fixes: &[Version], target: Option<&Version>, dropped: bool) -> Verdict {
    if let Some(verdict) = case.kernel.and_then(|kernel| by_kernel(case, &kernel, fixes)) {
        return verdict;
    }
    let claim = &prepared.claim;
    let kernel_offer = case.kernel.and_then(|kernel| kernel.offered);
    let offers = [case.offer, kernel_offer].into_iter().flatten();
    let found =
        offers.filter(|offer| brings(case, claim, offer, fixes, target)).min_by_key(|offer| withheld(case, offer));
    let fixed = target.map(ToString::to_string);
    match found {
        Some(offer) => match withheld(case, offer) {
            None => fixable(case, offer, target),
            Some(why) => {
                let version = &offer.fact.candidate;
                let says = format!("{} {version} has the fix; {}", offer.fact.name, reason(why));
                let reason = not_offered(why);
                State::FixNotOffered { fixed: fixed.or_else(|| Some(version.clone())), reason }.because(says)
            }
        },
        None => unoffered(case, claim, target, dropped),
    }
}

/// What the kernels of the host say before any candidate is asked.
fn by_kernel(case: &Case<'_>, kernel: &KernelCase<'_>, fixes: &[Version]) -> Option<Verdict> {
    let (running, newest) = (kernel.running?, kernel.newest?);
    let (own, newest_release) = (case.package.kernel.as_ref()?, newest.kernel.as_ref()?);
    let (name, newest_name) = (&case.package.fact.name, &newest.fact.name);
    let is_newest = own.is(&newest_release.name) || newest_release.name == own.name;
    if !own.is(running) && !is_newest {
        let label = match case.scheme {
            VersionScheme::Rpm => format!("{name}-{}", case.package.fact.version),
            VersionScheme::Deb | VersionScheme::Apk => name.clone(),
        };
        return Some(State::OldKernelLeft { remove: label }.because(format!(
            "{name} {} neither runs ({running} does) nor would start ({} {} is newer)",
            case.package.fact.version, newest_name, newest.fact.version
        )));
    }
    let version = newest.version.as_ref()?;
    let has_fix = !is_newest && matches!(choose_fix(version, fixes), Fixed::Already(_));
    has_fix.then(|| {
        State::RunningOld { restart: vec!["the host".to_owned()], reboot: true }
            .because(format!("{newest_name} {version} has the fix and is installed; {running} runs"))
    })
}

/// Whether what is on offer has the fix.
fn brings(case: &Case<'_>, claim: &Claim, offer: &Offer, fixes: &[Version], target: Option<&Version>) -> bool {
    let named = || offer.fact.cves.iter().any(|id| *id == claim.id || claim.aliases.contains(id));
    let by_source = of_source(case, claim) && !offer.fact.source.contains("-signed");
    let Some(version) = (if by_source { offer.source_version.as_ref() } else { offer.version.as_ref() }) else {
        return named();
    };
    match target {
        Some(target) => version.reaches(target) || matches!(choose_fix(version, fixes), Fixed::Already(_)),
        None => named(),
    }
}

fn withheld(case: &Case<'_>, offer: &Offer) -> Option<Withheld> {
    offer.fact.withheld.or_else(|| case.package.fact.held.then_some(Withheld::Held))
}

fn fixable(case: &Case<'_>, offer: &Offer, target: Option<&Version>) -> Verdict {
    let unit = PatchUnit {
        source: offer.fact.source.clone(),
        version: offer.fact.source_version.clone(),
        binaries: vec![offer.fact.name.clone()],
    };
    let why = match target {
        Some(target) => format!("{} {} is offered and has the fix of {target}", offer.fact.name, offer.fact.candidate),
        None => format!("{} {} is offered and its changelog names it", offer.fact.name, offer.fact.candidate),
    };
    State::FixableNow { unit, reboot: case.package.kernel.is_some() }.because(why)
}

fn not_offered(why: Withheld) -> NotOffered {
    match why {
        Withheld::Held => NotOffered::Held,
        Withheld::Phased => NotOffered::Phased,
        Withheld::Pinned => NotOffered::Pinned,
        Withheld::Subscription => NotOffered::NeedsSubscription,
        Withheld::OtherRelease => NotOffered::OtherRelease,
        Withheld::Removed => NotOffered::Removed,
    }
}

fn reason(why: Withheld) -> &'static str {
    match why {
        Withheld::Held => "the package is on hold",
        Withheld::Phased => "the archive gives it to a share of the hosts first, and this one is not among them",
        Withheld::Pinned => "a pin or an exclusion prefers another version",
        Withheld::Subscription => "it is for subscribers, and the host is none",
        Withheld::OtherRelease => "only another release has it",
        Withheld::Removed => "its archive withdrew it, or it would remove what has to stay",
    }
}

/// No candidate has the fix.
fn unoffered(case: &Case<'_>, claim: &Claim, target: Option<&Version>, dropped: bool) -> Verdict {
    let name = &case.package.fact.name;
    let Some(target) = target else {
        if dropped {
            let state = State::FixNotOffered { fixed: None, reason: NotOffered::OtherRelease };
            return state.because("the fixes that are known are for other releases or module streams");
        }
        return match claim.status {
            VendorStatus::Fixed => State::FixNotOffered { fixed: None, reason: NotOffered::VersionUnknown }
                .because("the source says that it is fixed and not since which version; no candidate names it"),
            vendor => State::NoFix { vendor }.because(vendor.says()),
        };
    };
    let esm = target.as_str().contains("esm");
    let (reason, why) = if esm && case.place.subscriptions.is_empty() {
        (NotOffered::NeedsSubscription, format!("{target} is for subscribers, and the host is none"))
    } else if let Some(offer) = case.offer {
        (NotOffered::NotInLists, format!("the lists of the host end at {name} {}", offer.fact.candidate))
    } else if case.package.fact.held {
        (NotOffered::Held, format!("{name} is on hold at {}; its lists were not asked", case.package.fact.version))
    } else {
        let installed = &case.package.fact.version;
        (NotOffered::NotInLists, format!("the lists of the host offer nothing newer than {name} {installed}"))
    };
    State::FixNotOffered { fixed: Some(target.to_string()), reason }.because(why)
}
