//! How urgent hosts are, out of what `patchloom correlate --json` says of them. Only what their lists can fix counts: no window
//! helps against the rest.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{MissingPatch, Moment};

/// How urgent a host is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Need {
    /// Whether evidence is to be gathered before patching.
    pub forensic: bool,
    /// Whether ransomware is known to use something.
    pub ransomware: bool,
    /// The likeliest exploitation within 30 days, in thousandths of a percent.
    pub epss_pcm: u32,
    /// The highest base score, in tenths of a point.
    pub score_tenths: u32,
    /// What can be fixed, the earliest deadline first.
    pub dues: Vec<Due>,
}

/// A finding that the lists of its host fix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Due {
    /// By when.
    pub deadline: Moment,
    /// Its id.
    pub id: String,
    /// Whether it is known to be exploited.
    pub kev: bool,
    /// The source package that fixes it.
    pub source: String,
    /// The host's packages that come up with it.
    pub packages: Vec<String>,
}

/// A text that is no answer of `patchloom correlate --json`.
#[derive(Debug, thiserror::Error)]
#[error("answer {number}: {source}")]
pub struct NeedError {
    /// Which of the answers, counted from 1.
    pub number: usize,
    /// What is wrong with it.
    #[source]
    pub source: serde_json::Error,
}

/// What is taken of an answer.
#[derive(Deserialize)]
struct Answer {
    host: String,
    findings: Vec<Finding>,
}

#[derive(Deserialize)]
struct Finding {
    claim: Claim,
    state: String,
    #[serde(default)]
    unit: Option<Unit>,
    risk: Risk,
}

#[derive(Deserialize)]
struct Claim {
    id: String,
}

#[derive(Deserialize)]
struct Unit {
    source: String,
    binaries: Vec<String>,
}

#[derive(Deserialize)]
struct Risk {
    inputs: Inputs,
    #[serde(default)]
    deadline: Option<Moment>,
    #[serde(default)]
    forensic: Option<serde_json::Value>,
    ransomware: bool,
    #[serde(default)]
    epss: Option<Epss>,
    scores: Vec<(String, Score)>,
    rejected: bool,
}

#[derive(Deserialize)]
struct Inputs {
    kev: bool,
}

#[derive(Deserialize)]
struct Epss {
    probability: f64,
}

#[derive(Deserialize)]
struct Score {
    tenths: u32,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answers {
    Many(Vec<Answer>),
    One(Answer),
}

/// Reads answers: one, a list of them, or one behind the other; hosts by their id. Of two on one host both count.
///
/// # Errors
/// Where an answer is none.
pub fn read_needs(text: &str) -> Result<BTreeMap<String, Need>, NeedError> {
    let mut needs: BTreeMap<String, Need> = BTreeMap::new();
    for (at, answers) in serde_json::Deserializer::from_str(text).into_iter::<Answers>().enumerate() {
        let answers = match answers.map_err(|source| NeedError { number: at + 1, source })? {
            Answers::Many(answers) => answers,
            Answers::One(answer) => vec![answer],
        };
        for answer in answers {
            let need = needs.entry(answer.host).or_default();
            answer.findings.into_iter().for_each(|finding| need.add(finding));
        }
    }
    for need in needs.values_mut() {
        need.dues.sort();
        need.dues.dedup();
    }
    Ok(needs)
}

impl Need {
    fn add(&mut self, finding: Finding) {
        let Finding { claim, state, unit, risk } = finding;
        let Some(unit) = unit.filter(|_| state == "fixable_now" && !risk.rejected) else { return };
        self.forensic |= risk.forensic.is_some();
        self.ransomware |= risk.ransomware;
        // A share between 0 and 1: no whole number of thousandths of a percent is beyond 100,000.
        let share = risk.epss.map_or(0.0, |score| score.probability.clamp(0.0, 1.0));
        self.epss_pcm = self.epss_pcm.max((share * 100_000.0).round() as u32);
        self.score_tenths = self.score_tenths.max(risk.scores.iter().map(|(_, score)| score.tenths).max().unwrap_or(0));
        if let Some(deadline) = risk.deadline {
            let Unit { source, binaries: packages } = unit;
            self.dues.push(Due { deadline, id: claim.id, kev: risk.inputs.kev, source, packages });
        }
    }

    /// The earliest deadline.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        self.dues.first().map(|due| due.deadline)
    }

    /// The finding with the earliest deadline that a patch fixes.
    #[must_use]
    pub fn due_of(&self, patch: &MissingPatch) -> Option<&Due> {
        self.dues.iter().find(|due| due.source == patch.source || due.packages.contains(&patch.id.name))
    }

    /// Who goes first of those with one deadline: evidence, ransomware, likelihood, score.
    pub(super) fn order(&self) -> impl Ord + use<> {
        Reverse((self.forensic, self.ransomware, self.epss_pcm, self.score_tenths))
    }
}

impl Due {
    /// In words: `CVE-2026-1 (KEV) is due 2026-11-25T00:00:00Z`.
    #[must_use]
    pub fn says(&self) -> String {
        format!("{}{} is due {}", self.id, if self.kev { " (KEV)" } else { "" }, self.deadline)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn finding(id: &str, state: &str, deadline: Option<&str>, epss: f64) -> Value {
        json!({
            "claim": { "id": id, "package": "libssl3" }, "state": state, "why": "…", "package": "libssl3",
            "unit": { "source": "openssl", "version": "3.0.15-1", "binaries": ["libssl3", "openssl"] },
            "risk": { "inputs": { "kev": id == "CVE-1" }, "deadline": deadline, "ransomware": false,
                "epss": { "probability": epss, "percentile": 0.5 }, "scores": [["nvd", { "tenths": 75 }]], "rejected": false },
        })
    }

    #[test]
    fn what_the_lists_of_a_host_fix_makes_it_urgent_and_nothing_else() {
        let answer = |findings: Value| json!({ "host": "web-1", "risk": {}, "findings": findings });
        let fixable = finding("CVE-1", "fixable_now", Some("2026-12-03T00:00:00Z"), 0.5);
        let open = json!([fixable, finding("CVE-2", "no_fix", Some("2020-01-01T00:00:00Z"), 0.9)]);
        let mut rejected = finding("CVE-3", "fixable_now", Some("2020-01-01T00:00:00Z"), 0.9);
        rejected["risk"]["rejected"] = json!(true);
        // One behind the other, or a list; what stands in two of them counts once.
        let later = finding("CVE-4", "fixable_now", Some("2026-12-20T00:00:00Z"), 0.001);
        let text = format!("{}\n{}", answer(open), json!([answer(json!([rejected, later, fixable]))]));
        let needs = read_needs(&text).unwrap();
        let need = &needs["web-1"];
        let ids: Vec<&str> = need.dues.iter().map(|due| due.id.as_str()).collect();
        assert_eq!((ids, need.epss_pcm, need.score_tenths), (vec!["CVE-1", "CVE-4"], 50_000, 75));
        assert_eq!(need.deadline(), Moment::parse("2026-12-03").ok());
        assert_eq!(need.dues[0].says(), "CVE-1 (KEV) is due 2026-12-03T00:00:00Z");
        assert!(Need::default().order() > need.order(), "the more urgent goes first");
        let wrong = read_needs(&format!("{text}\n{{}}")).unwrap_err();
        assert_eq!(wrong.number, 3);
    }
}
