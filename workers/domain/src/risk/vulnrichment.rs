//! CVE records (CVE JSON 5) with CISA's enrichment: SSVC decision points, vectors, whether the id was rejected.

use std::collections::BTreeMap;

use serde_json::Value;

use super::feed::{FeedError, RECORDS_MAX, Unread};
use crate::correlate::SeverityClaim;

/// What is known of some CVEs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vulnrichment {
    /// By CVE id.
    pub records: BTreeMap<String, CveRecord>,
    /// What could not be read.
    pub apart: Unread,
}

/// What is known of a CVE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CveRecord {
    /// Its id was taken back.
    pub rejected: bool,
    /// The newest decision points.
    pub ssvc: Option<Ssvc>,
    /// The vectors, each with who says so.
    pub vectors: Vec<SeverityClaim>,
}

/// The decision points of SSVC as CISA publishes them; each may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ssvc {
    /// Whether it is exploited.
    pub exploitation: Option<Exploitation>,
    /// Whether an attacker can exploit it by a program.
    pub automatable: Option<bool>,
    /// Whether it gives the whole of the component.
    pub total: Option<bool>,
    /// When that was said.
    pub at: String,
}

/// How far exploitation is known to have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Exploitation {
    /// Nothing is known.
    None,
    /// There is a proof of concept.
    Poc,
    /// It is exploited.
    Active,
}

const FEED: &str = "the CVE records";

/// Reads one record, a list of records, or a record per line.
///
/// # Errors
/// Where there is no record at all. A single one that cannot be read is kept apart.
pub fn read_vulnrichment(text: &str) -> Result<Vulnrichment, FeedError> {
    let mut found = Vulnrichment::default();
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Array(rows)) if rows.len() > RECORDS_MAX => return Err(FeedError::TooMany { feed: FEED }),
        Ok(Value::Array(rows)) => {
            rows.iter().enumerate().for_each(|(at, row)| found.add(&format!("record {}", at + 1), row));
        }
        Ok(row) => found.add("the record", &row),
        Err(error) if !text.trim_start().contains('\n') => return Err(FeedError::Json { feed: FEED, error }),
        Err(_) => {
            for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
                if found.records.len() >= RECORDS_MAX {
                    return Err(FeedError::TooMany { feed: FEED });
                }
                let place = format!("line {}", at + 1);
                match serde_json::from_str::<Value>(line) {
                    Ok(row) => found.add(&place, &row),
                    Err(error) => found.apart.add(&place, &error.to_string()),
                }
            }
        }
    }
    match found.records.is_empty() && found.apart.count > 0 {
        true => Err(FeedError::Shape { feed: FEED, why: format!("no record could be read; {}", found.apart.first[0]) }),
        false => Ok(found),
    }
}

impl Vulnrichment {
    fn add(&mut self, place: &str, row: &Value) {
        match record(row) {
            Ok((id, record)) => {
                self.records.insert(id, record);
            }
            Err(why) => self.apart.add(place, &why),
        }
    }
}

fn record(row: &Value) -> Result<(String, CveRecord), String> {
    let id = row.pointer("/cveMetadata/cveId").and_then(Value::as_str).unwrap_or_default();
    if !id.starts_with("CVE-") {
        return Err("cveMetadata.cveId is no CVE id".to_owned());
    }
    let containers = row.get("containers").ok_or("it has no containers")?;
    let state = row.pointer("/cveMetadata/state").and_then(Value::as_str).unwrap_or_default();
    let mut record = CveRecord { rejected: state.eq_ignore_ascii_case("rejected"), ..CveRecord::default() };
    let adp = containers.get("adp").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for container in containers.get("cna").into_iter().chain(adp) {
        let by = container.pointer("/providerMetadata/shortName").and_then(Value::as_str).unwrap_or("cna");
        let metrics = container.get("metrics").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        metrics.iter().for_each(|metric| record.metric(by, metric));
    }
    Ok((id.to_owned(), record))
}

impl CveRecord {
    fn metric(&mut self, by: &str, metric: &Value) {
        for name in ["cvssV4_0", "cvssV3_1", "cvssV3_0", "cvssV2_0"] {
            let text = |key: &str| metric.get(name).and_then(|score| score.get(key)).and_then(Value::as_str);
            if let Some(vector) = text("vectorString") {
                let word = text("baseSeverity").map(str::to_owned);
                self.vectors.push(SeverityClaim { by: by.to_owned(), word, vector: Some(vector.to_owned()) });
            }
        }
        if metric.pointer("/other/type").and_then(Value::as_str) != Some("ssvc") {
            return;
        }
        let content = &metric["other"]["content"];
        let mut said = Ssvc { at: content["timestamp"].as_str().unwrap_or_default().to_owned(), ..Ssvc::default() };
        for option in content["options"].as_array().into_iter().flatten().filter_map(Value::as_object) {
            for (point, answer) in option {
                said.point(point, answer.as_str().unwrap_or_default());
            }
        }
        if self.ssvc.as_ref().is_none_or(|known| known.at <= said.at) {
            self.ssvc = Some(said);
        }
    }
}

impl Ssvc {
    fn point(&mut self, point: &str, answer: &str) {
        let answer = answer.to_ascii_lowercase();
        match (point.to_ascii_lowercase().replace([' ', '_'], "").as_str(), answer.as_str()) {
            ("exploitation", "none") => self.exploitation = Some(Exploitation::None),
            ("exploitation", "poc" | "public poc") => self.exploitation = Some(Exploitation::Poc),
            ("exploitation", "active") => self.exploitation = Some(Exploitation::Active),
            ("automatable", "yes") => self.automatable = Some(true),
            ("automatable", "no") => self.automatable = Some(false),
            ("technicalimpact", "total") => self.total = Some(true),
            ("technicalimpact", "partial") => self.total = Some(false),
            _ => {}
        }
    }
}
