//! When each package version was first seen, and the date of its changelog: what a delay of approval counts from where the
//! archive does not tell, as on Debian and Ubuntu.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Moment, PatchCandidate};

/// The most versions that are kept.
pub const SEEN_MAX: usize = 1_000_000;

/// What was seen, by operating system, package and version.
///
/// Stores of several observers are merged; the order in which that is done, and how often, changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Vec<Row>", try_from = "Vec<Row>")]
pub struct FirstSeen {
    rows: BTreeMap<(String, String, String), Seen>,
}

/// When a version was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// When somebody first saw it on offer.
    pub first_seen: Moment,
    /// The date of its newest changelog entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changelog: Option<Moment>,
    /// When somebody last looked at the package and the version was not on offer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Moment>,
}

#[derive(Serialize, Deserialize)]
struct Row {
    os: String,
    package: String,
    version: String,
    #[serde(flatten)]
    seen: Seen,
}

/// There is no room for more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot keep when {package} {version} was first seen: {SEEN_MAX} versions are the most; forget old ones first")]
pub struct SeenError {
    package: String,
    version: String,
}

impl FirstSeen {
    /// Takes down that a version is on offer. Of first looks and changelogs the earliest counts; of looks at which it was not on
    /// offer the latest.
    ///
    /// # Errors
    /// Where there are [`SEEN_MAX`] versions already.
    pub fn observe(&mut self, os: &str, package: &str, version: &str, seen: Seen) -> Result<(), SeenError> {
        let key = (os.to_owned(), package.to_owned(), version.to_owned());
        if let Some(known) = self.rows.get_mut(&key) {
            known.first_seen = known.first_seen.min(seen.first_seen);
            known.changelog = [known.changelog, seen.changelog].into_iter().flatten().min();
            known.not_before = known.not_before.max(seen.not_before);
            return Ok(());
        }
        if self.rows.len() >= SEEN_MAX {
            return Err(SeenError { package: key.1, version: key.2 });
        }
        self.rows.insert(key, seen);
        Ok(())
    }

    /// Takes over all that another one has seen.
    ///
    /// # Errors
    /// Where both together are too many.
    pub fn merge(&mut self, other: &Self) -> Result<(), SeenError> {
        other.rows.iter().try_for_each(|((os, package, version), seen)| self.observe(os, package, version, *seen))
    }

    /// Forgets what was first seen before an instant, and is not among the versions that are still of use.
    pub fn forget(&mut self, before: Moment, of_use: impl Fn(&str, &str, &str) -> bool) {
        self.rows.retain(|(os, package, version), seen| seen.first_seen >= before || of_use(os, package, version));
    }

    /// What is known of a version.
    #[must_use]
    pub fn get(&self, os: &str, package: &str, version: &str) -> Option<Seen> {
        self.rows.get(&(os.to_owned(), package.to_owned(), version.to_owned())).copied()
    }

    /// How many versions are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Tells a patch when it was first seen, and the date of its changelog where it has no release date of its own, so that a
    /// baseline can count its delay.
    pub fn tell(&self, os: &str, patch: &mut PatchCandidate) {
        let version = match patch.epoch {
            0 => patch.version.clone(),
            epoch if !patch.version.contains(':') => format!("{epoch}:{}", patch.version),
            _ => patch.version.clone(),
        };
        let Some(seen) = self.get(os, &patch.name, &version) else { return };
        patch.first_seen = [patch.first_seen, Some(seen.first_seen)].into_iter().flatten().min();
        patch.release_date = patch.release_date.or(seen.changelog);
        patch.not_before = patch.not_before.or(seen.not_before);
    }
}

impl From<FirstSeen> for Vec<Row> {
    fn from(store: FirstSeen) -> Self {
        store.rows.into_iter().map(|((os, package, version), seen)| Row { os, package, version, seen }).collect()
    }
}

impl TryFrom<Vec<Row>> for FirstSeen {
    type Error = SeenError;

    fn try_from(rows: Vec<Row>) -> Result<Self, SeenError> {
        let mut store = Self::default();
        rows.iter().try_for_each(|row| store.observe(&row.os, &row.package, &row.version, row.seen))?;
        Ok(store)
    }
}

/// The instant of a changelog's trailer: `Mon, 02 Sep 2024 10:00:00 +0200`; none where it is no such text.
///
/// # Source
/// deb-changelog(5): the format of RFC 5322, with the zone as digits.
/// # Example
/// ```
/// use patchloom_domain::{Moment, correlate::changelog_moment};
/// let read = changelog_moment("Mon, 02 Sep 2024 10:00:00 +0200");
/// assert_eq!(read, Moment::parse("2024-09-02T08:00:00Z").ok());
/// assert_eq!(changelog_moment("yesterday"), None);
/// ```
#[must_use]
pub fn changelog_moment(text: &str) -> Option<Moment> {
    const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let text = text.split_once(',').map_or(text, |(_, rest)| rest);
    let parts: [&str; 5] = text.split_whitespace().collect::<Vec<_>>().try_into().ok()?;
    let [day, month, year, clock, zone] = parts;
    let month = MONTHS.iter().position(|name| month.to_ascii_lowercase().starts_with(name))? + 1;
    let (hours, minutes) = (zone.get(..3)?, zone.get(3..)?);
    Moment::parse(&format!("{year}-{month:02}-{day:0>2}T{clock}{hours}:{minutes}")).ok()
}
