//! All claims on one host: each is brought to the packages it is about, judged, and grouped into what is installed together.

use std::collections::BTreeMap;

use serde::Serialize;

use super::claim::{Claim, merge_claims};
use super::facts::{HostFacts, Installed, Offer, StaleProcess};
use super::judge::{Case, PatchUnit, Prepared, State, Verdict, judge_prepared};
use super::kernel::{KernelCase, Kernels, offered_kernel, running_version};

/// A claim with what it means on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Correlated {
    /// What was claimed.
    pub claim: Claim,
    /// The package of the host that decides, and its version; none where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// Its version on the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What is to be done, and why.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// A host made ready for questions.
pub(crate) struct Ready<'a> {
    facts: &'a HostFacts,
    packages: Vec<Installed>,
    offers: Vec<Offer>,
    by_name: BTreeMap<String, Vec<usize>>,
    by_source: BTreeMap<String, Vec<usize>>,
    kernels: Kernels,
    running_version: Option<super::Version>,
}

/// Judges all claims on a host. Claims of several sources on the same thing are made one first.
#[must_use]
pub fn correlate_host(facts: &HostFacts, claims: &[Claim]) -> Vec<Correlated> {
    let ready = Ready::of(facts);
    merge_claims(claims.to_vec()).into_iter().map(|claim| ready.judge(claim)).collect()
}

impl<'a> Ready<'a> {
    pub fn of(facts: &'a HostFacts) -> Self {
        let read = |fact: &super::PackageFact| Installed::of(facts.scheme, fact.clone());
        let packages: Vec<Installed> = facts.packages.iter().map(read).filter(Installed::is_there).collect();
        let offers = facts.candidates.iter().map(|fact| Offer::of(facts.scheme, fact.clone())).collect();
        let (mut by_name, mut by_source) = (BTreeMap::new(), BTreeMap::new());
        for (at, package) in packages.iter().enumerate() {
            by_name.entry(package.fact.name.clone()).or_insert_with(Vec::new).push(at);
            by_source.entry(package.fact.source.clone()).or_insert_with(Vec::new).push(at);
        }
        let kernels = Kernels::of(packages.iter(), facts.running_kernel.as_deref());
        let running_version =
            facts.running_kernel_version.as_deref().and_then(|text| running_version(facts.scheme, text));
        Self { facts, packages, offers, by_name, by_source, kernels, running_version }
    }

    fn judge(&self, claim: Claim) -> Correlated {
        let found = self.meant(&claim);
        let prepared = Prepared::of(self.facts.scheme, claim);
        let judged = found.into_iter().map(|at| (at, self.judge_at(at, &prepared)));
        // Of several packages the one for which most is to be done speaks for the claim: states are in that order.
        let worst = judged.min_by(|(_, left), (_, right)| left.cmp(right));
        let claim = prepared.claim;
        match worst {
            Some((at, mut verdict)) => {
                if let State::FixableNow { unit, .. } = &mut verdict.state {
                    unit.binaries = self.binaries(unit);
                }
                let fact = &self.packages[at].fact;
                Correlated { claim, package: Some(fact.name.clone()), version: Some(fact.version.clone()), verdict }
            }
            None => {
                let why = format!("the host has no package {}", claim.package);
                Correlated { claim, package: None, version: None, verdict: Verdict { state: State::NotInstalled, why } }
            }
        }
    }

    /// The packages that a claim is about: the binary package of that name, else all of the source package of that name.
    fn meant(&self, claim: &Claim) -> Vec<usize> {
        let named = self.by_name.get(&claim.package).or_else(|| self.by_source.get(&claim.package));
        narrowed(named.cloned().unwrap_or_default(), claim, |at| &self.packages[at])
    }

    fn judge_at(&self, at: usize, prepared: &Prepared) -> Verdict {
        let package = &self.packages[at];
        let stale: Vec<&StaleProcess> =
            self.facts.stale.iter().filter(|process| process.package == package.fact.name).collect();
        let case = Case {
            scheme: self.facts.scheme,
            place: &self.facts.place,
            package,
            offer: self.offer(package),
            stale: &stale,
            kernel: package.kernel.as_ref().map(|_| KernelCase {
                running: self.facts.running_kernel.as_deref().filter(|_| self.kernels.running.is_some()),
                running_version: self.running_version.as_ref(),
                newest: self.kernels.newest.map(|at| &self.packages[at]),
                offered: offered_kernel(self.facts.scheme, self.offers.iter()),
            }),
        };
        judge_prepared(&case, prepared)
    }

    /// The candidate of a package: of several the one that is given, and of these the newest.
    fn offer(&self, package: &Installed) -> Option<&Offer> {
        let fits =
            |offer: &&Offer| offer.fact.name == package.fact.name && same_arch(&offer.fact.arch, &package.fact.arch);
        best_offer(self.offers.iter().filter(fits))
    }

    /// The binary packages that come up with a patch unit: those on offer from the same source at the same version.
    fn binaries(&self, unit: &PatchUnit) -> Vec<String> {
        let of_unit = |offer: &&Offer| {
            let fact = &offer.fact;
            let same = fact.source == unit.source && fact.source_version == unit.version && fact.withheld.is_none();
            same && (self.by_name.contains_key(&fact.name) || unit.binaries.contains(&fact.name))
        };
        let mut names: Vec<String> = self.offers.iter().filter(of_unit).map(|offer| offer.fact.name.clone()).collect();
        names.sort();
        names.dedup();
        names
    }
}

/// Of the packages of one name those that a claim means: by architecture, and by the version that was seen.
pub(super) fn narrowed<'p, T: Copy>(mut found: Vec<T>, claim: &Claim, of: impl Fn(T) -> &'p Installed) -> Vec<T> {
    let narrow = |found: &mut Vec<T>, fits: &dyn Fn(&Installed) -> bool| {
        if found.iter().any(|at| fits(of(*at))) {
            found.retain(|at| fits(of(*at)));
        }
    };
    if let Some(arch) = claim.arch.as_deref().filter(|arch| *arch != "source" && found.len() > 1) {
        narrow(&mut found, &|package| package.fact.arch == arch);
    }
    // An rpm host keeps several kernels of one name: the report tells which one it saw.
    if let Some(seen) = claim.installed.as_deref().filter(|_| found.len() > 1) {
        narrow(&mut found, &|package| same_version(&package.fact.version, seen));
    }
    found
}

/// Of several candidates the one that is given, and of these the newest.
pub(super) fn best_offer<'o>(offers: impl Iterator<Item = &'o Offer>) -> Option<&'o Offer> {
    offers.max_by(|left, right| {
        let open = |offer: &Offer| offer.fact.withheld.is_none();
        open(left).cmp(&open(right)).then_with(|| match (&left.version, &right.version) {
            (Some(left), Some(right)) => left.against(right).unwrap_or(std::cmp::Ordering::Equal),
            (left, right) => left.is_some().cmp(&right.is_some()),
        })
    })
}

/// Architectures fit where they are the same, or where one is not told.
pub(crate) fn same_arch(left: &str, right: &str) -> bool {
    left.is_empty() || right.is_empty() || left == right
}

/// Two ways of writing a version: one may leave out an epoch of nought.
fn same_version(left: &str, right: &str) -> bool {
    let bare = |text: &'_ str| text.strip_prefix("0:").unwrap_or(text).to_owned();
    left == right || bare(left) == bare(right)
}
