//! EPSS: how likely a vulnerability is exploited within thirty days.

use std::collections::BTreeMap;

use super::feed::{FeedError, RECORDS_MAX, Unread};

/// The scores of a day.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Epss {
    /// The version of the model, where the file says.
    pub model: Option<String>,
    /// The day, where the file says.
    pub date: Option<String>,
    /// By CVE id.
    pub scores: BTreeMap<String, EpssScore>,
    /// What could not be read.
    pub apart: Unread,
}

/// A score.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, serde::Serialize)]
pub struct EpssScore {
    /// Between 0 and 1.
    pub probability: f64,
    /// The share of all vulnerabilities with a score not above it.
    pub percentile: f64,
}

const FEED: &str = "the EPSS file";

/// Reads the CSV: a comment line with the model's version and the day, a heading, then a line per CVE.
///
/// # Errors
/// Where it has no heading with `cve` and `epss`. A single line that is none is kept apart.
pub fn read_epss(text: &str) -> Result<Epss, FeedError> {
    let mut epss = Epss::default();
    let mut columns: Option<(usize, usize, Option<usize>)> = None;
    for (at, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        if let Some(comment) = line.strip_prefix('#') {
            for pair in comment.split(',') {
                match pair.split_once(':') {
                    Some(("model_version", value)) => epss.model = Some(value.to_owned()),
                    Some(("score_date", value)) => epss.date = Some(value.to_owned()),
                    Some(_) | None => {}
                }
            }
            continue;
        }
        if line.is_empty() {
            continue;
        }
        let fields: Vec<&str> = line.split(',').map(|field| field.trim().trim_matches('"')).collect();
        let Some((cve, score, percentile)) = columns else {
            let place = |name: &str| fields.iter().position(|field| field.eq_ignore_ascii_case(name));
            let (Some(cve), Some(score)) = (place("cve"), place("epss")) else {
                let why = format!("line {} should name the columns cve, epss and percentile", at + 1);
                return Err(FeedError::Shape { feed: FEED, why });
            };
            columns = Some((cve, score, place("percentile")));
            continue;
        };
        if epss.scores.len() >= RECORDS_MAX {
            return Err(FeedError::TooMany { feed: FEED });
        }
        let share =
            |column: usize| fields.get(column).and_then(|text| text.parse().ok()).filter(|n| (0.0..=1.0).contains(n));
        let id = fields.get(cve).copied().unwrap_or_default();
        match (id.starts_with("CVE-"), share(score), percentile.map_or(Some(0.0), share)) {
            (true, Some(probability), Some(percentile)) => {
                epss.scores.insert(id.to_owned(), EpssScore { probability, percentile });
            }
            (false, _, _) => epss.apart.add(&format!("line {}", at + 1), &format!("'{id}' is no CVE id")),
            (true, _, _) => epss.apart.add(&format!("line {}", at + 1), "a score is no number from 0 to 1"),
        }
    }
    match columns {
        Some(_) => Ok(epss),
        None => Err(FeedError::Shape { feed: FEED, why: "it is empty".to_owned() }),
    }
}
