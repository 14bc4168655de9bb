//! Negative memory: package versions that nobody installs until somebody says why they may. Knows not where it is kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Actor, Cause, Dimension, HostPlan, Instant, PackageSet, PlannedChange, VersionScheme};

/// At most so many versions are remembered.
pub const HOLDS_MAX: usize = 10_000;
/// At most so many causes of one hold are remembered: the first ones.
pub const HOLD_CAUSES_MAX: usize = 100;

/// Which hosts a hold is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "hosts", rename_all = "snake_case", deny_unknown_fields)]
pub enum HoldScope {
    /// All of them.
    Fleet,
    /// Those with these values.
    Cohort {
        /// What they have in common.
        with: BTreeMap<Dimension, String>,
    },
}

/// What is held.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldKey {
    /// Whose versions they are.
    pub ecosystem: VersionScheme,
    /// The package.
    pub package: String,
    /// Exactly this version.
    pub version: String,
    /// For whom.
    pub scope: HoldScope,
}

/// Why something is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldCause {
    /// Who held it.
    pub by: Actor,
    /// When.
    pub at: Instant,
    /// The change under which it failed, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
    /// The host on which it failed, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// What failed, or what a person says.
    pub why: String,
}

/// The end of a hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldRelease {
    /// Who.
    pub by: Actor,
    /// When.
    pub at: Instant,
    /// Why it may be installed after all.
    pub why: String,
}

/// A version that was held, and is, or no longer is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// What.
    #[serde(flatten)]
    pub key: HoldKey,
    /// Why, from the first on.
    pub causes: Vec<HoldCause>,
    /// Each time it was released.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub releases: Vec<HoldRelease>,
    /// Whether it holds now.
    pub active: bool,
}

/// Why an order about holds was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    /// Too many.
    #[error("{HOLDS_MAX} versions are held already: release some")]
    Full,
    /// Nothing to release.
    #[error("{package} {version} is not held")]
    NotHeld {
        /// The package.
        package: String,
        /// The version.
        version: String,
    },
    /// No words where some are needed.
    #[error("a hold needs {0}")]
    Empty(&'static str),
}

/// All holds, and what is known of the hosts that they may be for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holds {
    holds: BTreeMap<HoldKey, Hold>,
    hosts: BTreeMap<String, BTreeMap<Dimension, String>>,
}

impl FromIterator<Hold> for Holds {
    fn from_iter<I: IntoIterator<Item = Hold>>(holds: I) -> Self {
        Self { holds: holds.into_iter().map(|hold| (hold.key.clone(), hold)).collect(), hosts: BTreeMap::new() }
    }
}

impl Holds {
    /// All of them, those that were released too.
    pub fn iter(&self) -> impl Iterator<Item = &Hold> {
        self.holds.values()
    }

    /// Tells what is known of a host. Where nobody tells, a hold of a cohort holds there too: to be on the safe side.
    #[must_use]
    pub fn knowing(mut self, host: &str, values: BTreeMap<Dimension, String>) -> Self {
        self.hosts.insert(host.to_owned(), values);
        self
    }

    /// Holds a version. The same change and host say it once, also after a release; says whether anything changed.
    ///
    /// # Errors
    /// [`HoldError::Full`], [`HoldError::Empty`].
    pub fn hold(&mut self, key: HoldKey, cause: HoldCause) -> Result<bool, HoldError> {
        for (words, what) in [(&key.package, "a package"), (&key.version, "a version"), (&cause.why, "a reason")] {
            if words.trim().is_empty() {
                return Err(HoldError::Empty(what));
            }
        }
        if self.holds.len() >= HOLDS_MAX && !self.holds.contains_key(&key) {
            return Err(HoldError::Full);
        }
        let fresh = || Hold { key: key.clone(), causes: Vec::new(), releases: Vec::new(), active: false };
        let hold = self.holds.entry(key.clone()).or_insert_with(fresh);
        let same = |known: &HoldCause| known.change == cause.change && known.host == cause.host;
        let told_before = cause.change.is_some() && hold.causes.iter().any(same);
        if told_before || (hold.active && cause.change.is_none()) {
            return Ok(false);
        }
        hold.active = true;
        if hold.causes.len() < HOLD_CAUSES_MAX {
            hold.causes.push(cause);
        }
        Ok(true)
    }

    /// Lets a version be installed again.
    ///
    /// # Errors
    /// [`HoldError::NotHeld`], [`HoldError::Empty`].
    pub fn release(&mut self, key: &HoldKey, release: HoldRelease) -> Result<(), HoldError> {
        if release.why.trim().is_empty() {
            return Err(HoldError::Empty("a reason for its release"));
        }
        match self.holds.get_mut(key).filter(|hold| hold.active) {
            Some(hold) => {
                hold.active = false;
                hold.releases.push(release);
                Ok(())
            }
            None => Err(HoldError::NotHeld { package: key.package.clone(), version: key.version.clone() }),
        }
    }

    /// What holds a version on a host now. A plan does not say whose versions its own are: all are looked at.
    #[must_use]
    pub fn held(&self, host: &str, package: &str, version: &str) -> Option<&Hold> {
        let known = self.hosts.get(host);
        let covers = |hold: &&Hold| match &hold.key.scope {
            HoldScope::Fleet => true,
            HoldScope::Cohort { with } => with.iter().all(|(dimension, value)| {
                known.and_then(|values| values.get(dimension)).is_none_or(|known| known == value)
            }),
        };
        let same = |hold: &&Hold| hold.active && hold.key.package == package && hold.key.version == version;
        self.holds.values().filter(same).find(covers)
    }

    /// Every held version of a host's plan, in words.
    ///
    /// What failed under this very `number` on another host stops nobody else of it: whether that is more than one host's
    /// misfortune, the campaign judges by its numbers.
    #[must_use]
    pub fn of_plan(&self, plan: &HostPlan, number: &str) -> Vec<String> {
        let elsewhere = |cause: &HoldCause| {
            cause.change.as_deref() == Some(number) && cause.host.as_deref().is_some_and(|host| host != plan.host)
        };
        let held = |change: &PlannedChange| {
            let hold = self.held(&plan.host, &change.id.name, &change.candidate)?;
            if hold.causes.iter().all(elsewhere) {
                return None;
            }
            let why = hold.causes.last().map_or("", |cause| cause.why.as_str());
            Some(format!("{} {} ({why})", change.id.name, change.candidate))
        };
        plan.changes.iter().filter_map(held).collect()
    }
}

/// The planned packages that made a host go back: those whose own scripts failed, as their state says; where only one was
/// planned and it failed or made things worse, that one. Nobody is blamed for a mirror, a full disk or a lock.
#[must_use]
pub fn blamed<'a>(cause: &Cause, found: &PackageSet, planned: &'a [PlannedChange]) -> Vec<&'a PlannedChange> {
    if !matches!(cause.code.as_str(), "SCRIPTLET" | "HALF_STATE" | "REGRESSION") {
        return Vec::new();
    }
    // dpkg's `F` is half configured, `H` half installed; what only waits for those is `U` or `W`.
    let failed = |change: &&PlannedChange| {
        let state = found.get(&change.id).filter(|state| state.version == change.candidate);
        state.is_some_and(|state| matches!(state.status.as_bytes().get(1), Some(b'F' | b'H')))
    };
    let failed: Vec<&PlannedChange> = planned.iter().filter(failed).collect();
    match (failed.is_empty(), planned) {
        (true, [only]) => vec![only],
        (true, _) | (false, _) => failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PackageId, PackageState};

    fn key(package: &str, scope: HoldScope) -> HoldKey {
        let (package, version) = (package.to_owned(), "2".to_owned());
        HoldKey { ecosystem: VersionScheme::Deb, package, version, scope }
    }

    fn cause(change: Option<&str>) -> HoldCause {
        let host = change.map(|_| "web1".to_owned());
        let by = Actor::Service("patchloom".to_owned());
        HoldCause { by, at: Instant(1), change: change.map(str::to_owned), host, why: "postinst".to_owned() }
    }

    fn release() -> HoldRelease {
        HoldRelease { by: Actor::Person("ann".to_owned()), at: Instant(2), why: "fixed upstream".to_owned() }
    }

    #[test]
    fn a_held_version_is_held_until_it_is_released_and_no_other_version_is() {
        let mut holds = Holds::default();
        let jq = key("jq", HoldScope::Fleet);
        assert_eq!(holds.hold(jq.clone(), cause(Some("CHG0000001"))), Ok(true));
        assert!(holds.held("any", "jq", "2").is_some());
        assert!(holds.held("any", "jq", "3").is_none() && holds.held("any", "zip", "2").is_none());
        assert_eq!(holds.release(&jq, release()), Ok(()));
        assert!(holds.held("any", "jq", "2").is_none());
        assert!(matches!(holds.release(&jq, release()), Err(HoldError::NotHeld { .. })));
    }

    #[test]
    fn a_task_that_is_repeated_does_not_undo_a_release_and_a_new_failure_does() {
        let mut holds = Holds::default();
        let jq = key("jq", HoldScope::Fleet);
        assert_eq!(holds.hold(jq.clone(), cause(Some("CHG0000001"))), Ok(true));
        assert_eq!(holds.hold(jq.clone(), cause(Some("CHG0000001"))), Ok(false));
        holds.release(&jq, release()).unwrap();
        assert_eq!(holds.hold(jq.clone(), cause(Some("CHG0000001"))), Ok(false));
        assert!(holds.held("h", "jq", "2").is_none());
        assert_eq!(holds.hold(jq.clone(), cause(Some("CHG0000002"))), Ok(true));
        let hold = holds.held("h", "jq", "2").unwrap();
        assert_eq!((hold.causes.len(), hold.releases.len()), (2, 1));
        assert_eq!(holds.hold(jq, cause(None)), Ok(false), "it is held already");
    }

    #[test]
    fn a_hold_of_a_cohort_spares_those_that_are_known_to_be_others() {
        let mut holds = Holds::default();
        let with = BTreeMap::from([(Dimension::Os, "debian 12".to_owned())]);
        holds.hold(key("jq", HoldScope::Cohort { with: with.clone() }), cause(None)).unwrap();
        let other = BTreeMap::from([(Dimension::Os, "debian 13".to_owned())]);
        let holds = holds.knowing("a", with).knowing("b", other);
        assert!(holds.held("a", "jq", "2").is_some());
        assert!(holds.held("b", "jq", "2").is_none());
        assert!(holds.held("nobody knows", "jq", "2").is_some());
    }

    #[test]
    fn memory_is_bounded_and_words_are_needed() {
        let mut holds = Holds::default();
        for at in 0..HOLDS_MAX {
            holds.hold(key(&format!("p{at}"), HoldScope::Fleet), cause(None)).unwrap();
        }
        assert_eq!(holds.hold(key("one more", HoldScope::Fleet), cause(None)), Err(HoldError::Full));
        assert_eq!(holds.hold(key("p1", HoldScope::Fleet), cause(Some("CHG0000001"))), Ok(true));
        for at in 0..HOLD_CAUSES_MAX * 2 {
            holds.hold(key("p1", HoldScope::Fleet), cause(Some(&format!("CHG{at}")))).unwrap();
        }
        assert_eq!(holds.held("h", "p1", "2").unwrap().causes.len(), HOLD_CAUSES_MAX);
        let silent = HoldCause { why: " ".to_owned(), ..cause(None) };
        assert_eq!(holds.hold(key("p1", HoldScope::Fleet), silent), Err(HoldError::Empty("a reason")));
    }

    #[test]
    fn the_package_whose_script_failed_is_blamed_and_not_those_that_wait_for_it() {
        let planned: Vec<PlannedChange> = ["jq", "libjq1", "zip"]
            .map(|name| PlannedChange {
                id: PackageId { name: name.to_owned(), arch: "amd64".to_owned() },
                installed: Some("1".to_owned()),
                candidate: "2".to_owned(),
                sha256: None,
                cves: Vec::new(),
                security: false,
            })
            .into();
        let state = |version: &str, status: &str| PackageState { version: version.into(), status: status.into() };
        let found: PackageSet = planned
            .iter()
            .map(|change| change.id.clone())
            .zip([state("2", "iU"), state("2", "iF"), state("1", "iF")])
            .collect();
        let names = |code: &str, planned: &[PlannedChange]| -> Vec<String> {
            let cause = Cause { code: code.to_owned(), message: String::new() };
            blamed(&cause, &found, planned).into_iter().map(|change| change.id.name.clone()).collect()
        };
        assert_eq!(names("SCRIPTLET", &planned), ["libjq1"]);
        assert_eq!(names("REGRESSION", &planned[..1]), ["jq"]);
        assert!(names("FETCH", &planned).is_empty() && names("DISK", &planned[..1]).is_empty());
        assert!(names("REGRESSION", &[planned[0].clone(), planned[2].clone()]).is_empty(), "two, and neither failed");
    }
}
