//! CISA's catalogue of known exploited vulnerabilities.

use std::collections::BTreeMap;

use serde_json::Value;

use super::feed::{FeedError, RECORDS_MAX, Unread};
use crate::Moment;

/// The catalogue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kev {
    /// Its version: `2025.08.25`.
    pub version: String,
    /// By CVE id.
    pub entries: BTreeMap<String, KevEntry>,
    /// What could not be read.
    pub apart: Unread,
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KevEntry {
    /// The first second of the day on which it was added.
    pub added: Moment,
    /// The last second of the day until which it is to be fixed; none where it is not told.
    pub due: Option<Moment>,
    /// Whether ransomware is known to use it.
    pub ransomware: bool,
    /// What is to be done.
    pub action: String,
}

const FEED: &str = "the KEV catalogue";

/// Reads the catalogue, or a bare list of its entries.
///
/// # Errors
/// Where it is no JSON or no catalogue. A single entry that is none is kept apart.
pub fn read_kev(text: &str) -> Result<Kev, FeedError> {
    let value: Value = serde_json::from_str(text).map_err(|error| FeedError::Json { feed: FEED, error })?;
    let rows = value
        .get("vulnerabilities")
        .unwrap_or(&value)
        .as_array()
        .ok_or_else(|| FeedError::Shape { feed: FEED, why: "it has no list named vulnerabilities".to_owned() })?;
    if rows.len() > RECORDS_MAX {
        return Err(FeedError::TooMany { feed: FEED });
    }
    let version = value.get("catalogVersion").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut kev = Kev { version, ..Kev::default() };
    for (at, row) in rows.iter().enumerate() {
        match entry(row) {
            Ok((id, entry)) => {
                kev.entries.insert(id, entry);
            }
            Err(why) => kev.apart.add(&format!("vulnerabilities[{at}]"), &why),
        }
    }
    let told = value.get("count").and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok());
    if let Some(told) = told.filter(|told| *told != rows.len()) {
        kev.apart.add("count", &format!("the catalogue says {told} entries and has {}", rows.len()));
    }
    Ok(kev)
}

/// The last second of a day from its first.
const LAST_SECOND: i64 = 86_399;

fn entry(row: &Value) -> Result<(String, KevEntry), String> {
    let text = |name: &str| row.get(name).and_then(Value::as_str).map(str::trim).unwrap_or_default();
    let id = text("cveID");
    if !id.starts_with("CVE-") {
        return Err(format!("cveID is '{id}'"));
    }
    let added = Moment::parse(text("dateAdded")).map_err(|error| format!("dateAdded: {error}"))?;
    let due = match text("dueDate") {
        "" => None,
        date => Some(Moment::parse(date).map_err(|error| format!("dueDate: {error}"))?),
    };
    let due = due.map(|day| Moment(day.0.saturating_add(LAST_SECOND)));
    let ransomware = text("knownRansomwareCampaignUse").eq_ignore_ascii_case("known");
    Ok((id.to_owned(), KevEntry { added, due, ransomware, action: text("requiredAction").to_owned() }))
}
