//! Kernels: which package holds which, which one runs, which one is the newest, which one is only left over.

use super::facts::{Installed, Offer, PackageFact};
use crate::{RpmVersion, VersionScheme};

/// Prefixes of Debian's and Ubuntu's packages that belong to one kernel release.
const DEB: [&str; 8] = [
    "linux-image-unsigned-",
    "linux-image-",
    "linux-modules-extra-",
    "linux-modules-",
    "linux-headers-",
    "linux-tools-",
    "linux-kbuild-",
    "linux-objects-",
];

/// Names of rpm packages of which a host keeps several, one per kernel.
const RPM: [&str; 14] = [
    "kernel",
    "kernel-core",
    "kernel-modules",
    "kernel-modules-core",
    "kernel-modules-extra",
    "kernel-devel",
    "kernel-default",
    "kernel-uek",
    "kernel-uek-core",
    "kernel-uek-modules",
    "kernel-rt",
    "kernel-rt-core",
    "kernel-64k",
    "kernel-64k-core",
];

/// The kernel that a package belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Release {
    /// As `uname -r` would have it, or the beginning of that.
    pub name: String,
    /// Whether the package is the kernel itself.
    pub image: bool,
    /// What tells its kind of kernel from others, such as `linux-image` or `kernel-core`.
    pub family: String,
}

impl Release {
    pub fn of(scheme: VersionScheme, package: &PackageFact) -> Option<Self> {
        match scheme {
            VersionScheme::Deb => {
                let prefix = DEB.into_iter().find(|prefix| {
                    let rest = package.name.strip_prefix(prefix);
                    rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
                })?;
                let name = package.name[prefix.len()..].to_owned();
                let image = prefix.starts_with("linux-image-");
                Some(Self { name, image, family: prefix.trim_end_matches('-').to_owned() })
            }
            VersionScheme::Rpm => {
                let known = RPM.contains(&package.name.as_str());
                let version: RpmVersion = package.version.parse().ok().filter(|_| known)?;
                let release = version.release()?;
                let image = !package.name.contains("modules") && !package.name.contains("devel");
                let name = format!("{}-{release}", version.version());
                Some(Self { name, image, family: package.name.clone() })
            }
            VersionScheme::Apk => None,
        }
    }

    /// Whether a kernel that says `running` of itself is this one.
    ///
    /// The package may leave out the flavour (`linux-headers-6.1.0-25-common`), and `uname -r` the end of the release (SUSE's
    /// rebuild number) or add the architecture.
    pub fn is(&self, running: &str) -> bool {
        let bare = self.name.strip_suffix("-common").unwrap_or(&self.name);
        let flavour = |longer: &str, shorter: &str| {
            longer.strip_prefix(shorter).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.']))
        };
        let suse = running.strip_suffix("-default");
        flavour(running, bare) || suse.is_some_and(|running| flavour(bare, running))
    }
}

/// The release of the kernel that a package holds, as `uname -r` begins; none where it belongs to none.
///
/// # Example
/// ```
/// use patchloom_domain::{VersionScheme, correlate::{PackageFact, kernel_release}};
/// let image = PackageFact { name: "linux-image-6.1.0-25-amd64".into(), version: "6.1.106-3".into(), ..Default::default() };
/// assert_eq!(kernel_release(VersionScheme::Deb, &image).as_deref(), Some("6.1.0-25-amd64"));
/// let meta = PackageFact { name: "linux-image-amd64".into(), ..image };
/// assert_eq!(kernel_release(VersionScheme::Deb, &meta), None);
/// ```
#[must_use]
pub fn kernel_release(scheme: VersionScheme, package: &PackageFact) -> Option<String> {
    Release::of(scheme, package).map(|release| release.name)
}

/// How the kernels of a host stand; indexes are those of its packages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kernels {
    /// The package that runs.
    pub running: Option<usize>,
    /// The newest one.
    pub newest: Option<usize>,
}

impl Kernels {
    /// Finds them among the packages of a host.
    pub fn of<'a>(packages: impl Iterator<Item = &'a Installed>, running: Option<&str>) -> Self {
        let mut found = Self::default();
        let mut best: Option<&Installed> = None;
        for (at, package) in packages.enumerate() {
            let Some(release) = package.kernel.as_ref().filter(|release| release.image && package.is_there()) else {
                continue;
            };
            // Of the packages of one running kernel the first that is really the image: kernel-core besides kernel.
            if running.is_some_and(|running| release.is(running)) && found.running.is_none() {
                found.running = Some(at);
            }
            let newer = match best {
                None => true,
                Some(best) => match (&package.version, &best.version) {
                    (Some(version), Some(best)) => version.against(best).is_some_and(std::cmp::Ordering::is_gt),
                    (Some(_) | None, _) => false,
                },
            };
            if newer {
                (found.newest, best) = (Some(at), Some(package));
            }
        }
        found
    }
}

/// The kernels as they matter to one package of a kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KernelCase<'a> {
    /// The kernel that runs: `uname -r`; none where it is not known.
    pub(crate) running: Option<&'a str>,
    /// Its package version, where known.
    pub(crate) running_version: Option<&'a super::Version>,
    /// The package of the newest kernel on the disk.
    pub(crate) newest: Option<&'a Installed>,
    /// The newest kernel on offer.
    pub(crate) offered: Option<&'a Offer>,
}

/// The newest candidate that is a kernel, or the package that draws the next kernel in.
pub(crate) fn offered_kernel<'a>(scheme: VersionScheme, offers: impl Iterator<Item = &'a Offer>) -> Option<&'a Offer> {
    let is_kernel = |offer: &&Offer| {
        let name = offer.fact.name.as_str();
        match scheme {
            VersionScheme::Deb => name.starts_with("linux-image-"),
            VersionScheme::Rpm => RPM.contains(&name) && !name.contains("modules") && !name.contains("devel"),
            VersionScheme::Apk => false,
        }
    };
    // A kernel that is withheld is better than none only where there is no other.
    super::host::best_offer(offers.filter(is_kernel))
}

/// The package version of the kernel that runs, as Debian's and Ubuntu's `uname -v` has it.
///
/// `#1 SMP PREEMPT_DYNAMIC Debian 6.1.106-3 (2024-08-26)` holds `6.1.106-3`.
pub(crate) fn running_version(scheme: VersionScheme, text: &str) -> Option<super::Version> {
    let word = match text.split_once("Debian ") {
        Some((_, rest)) => rest.split_whitespace().next()?,
        None => text.trim(),
    };
    super::Version::read(scheme, word).ok()
}
