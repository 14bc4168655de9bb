//! The decision: which row of the table a finding is in, by when it is to be fixed, and by what that is known.

use serde::Serialize;

use super::{BaseScore, EpssScore, Exploitation, Kev, KevEntry, TableInputs, Timeline, Vulnrichment, timeline};
use crate::Moment;
use crate::correlate::{SeverityClaim, canonical_id};

/// What was read; a feed that was not given is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Feeds {
    /// Known exploited vulnerabilities.
    pub kev: Option<Kev>,
    /// Likelihoods of exploitation.
    pub epss: Option<super::Epss>,
    /// CVE records with decision points.
    pub ssvc: Option<Vulnrichment>,
}

/// What stands for an answer that nobody gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Assume {
    /// The host is exposed, it can be automated, its impact is total.
    #[default]
    Worst,
    /// None of these.
    Best,
}

/// A finding, as far as its risk goes.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Its id.
    pub id: &'a str,
    /// Other ids of the same.
    pub aliases: &'a [String],
    /// What is said of its severity.
    pub severities: &'a [SeverityClaim],
    /// Whether the host is exposed.
    pub exposed: Option<bool>,
    /// When it was first found.
    pub first_seen: Moment,
    /// What stands for missing answers.
    pub assume: Assume,
}

/// How urgent a finding is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decision {
    /// The row of the table.
    pub inputs: TableInputs,
    /// What it says.
    pub timeline: Timeline,
    /// Until when; none where the table has no deadline and the catalogue no date.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Moment>,
    /// What has to be gathered before patching, and until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forensic: Option<ForensicTriage>,
    /// Whether ransomware is known to use it.
    pub ransomware: bool,
    /// How likely it is exploited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epss: Option<EpssScore>,
    /// Every base score that its vectors make, each with who says so; the highest first.
    pub scores: Vec<(String, BaseScore)>,
    /// Its id was taken back.
    pub rejected: bool,
    /// What led there, one sentence each.
    pub reasons: Vec<String>,
    /// Answers that nobody gave, and what stands for them.
    pub assumed: Vec<String>,
}

/// The clocks of forensic triage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ForensicTriage {
    /// Which hosts are in scope is known until then: two hours after it was added.
    pub scope_until: Moment,
    /// Volatile evidence is gathered until then, and before patching: twenty-four hours.
    pub evidence_until: Moment,
    /// Whether the host was compromised is decided until then: seventy-two hours.
    pub decision_until: Moment,
}

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// Decides.
///
/// In the catalogue's entries the clock starts on the day of the entry, elsewhere when the finding was first seen; the
/// catalogue's own date counts too where it is earlier. Missing answers are worked out from the CVSS vector, else assumed,
/// and said. Whether it is exploited is taken from the catalogue, and where that was not given from SSVC; where neither
/// says, it counts as not exploited.
#[must_use]
pub fn decide(feeds: &Feeds, question: &Question<'_>) -> Decision {
    let id = canonical_id(question.id, question.aliases);
    let record = feeds.ssvc.as_ref().and_then(|ssvc| ssvc.records.get(id));
    let (mut reasons, mut assumed) = (Vec::new(), Vec::new());
    let said = record.map(|record| record.vectors.as_slice()).unwrap_or_default();
    let scores = scores(question.severities.iter().chain(said), &mut assumed);
    let ssvc = record.and_then(|record| record.ssvc.as_ref());
    let entry = feeds.kev.as_ref().and_then(|kev| kev.entries.get(id));
    let kev = exploited(feeds, entry, ssvc.and_then(|ssvc| ssvc.exploitation), &mut reasons, &mut assumed);
    let worst = question.assume == Assume::Worst;
    let mut answer = |name: &str, told: Option<bool>, by_vector: Option<bool>| match (told, by_vector) {
        (Some(told), _) => told,
        (None, Some(read)) => {
            assumed.push(format!("{name}: {} by its CVSS vector, since no SSVC decision is known", yes(read)));
            read
        }
        (None, None) => {
            let case = if worst { "worst" } else { "best" };
            assumed.push(format!("{name}: {}, the {case} case, since nobody says", yes(worst)));
            worst
        }
    };
    // Any of the scores that reads so is enough: sources differ, and the careful reading counts.
    let any =
        |reads: fn(&BaseScore) -> bool| (!scores.is_empty()).then(|| scores.iter().any(|(_, score)| reads(score)));
    let exposed = answer("the host is publicly exposed", question.exposed, None);
    let automatable = answer("automatable", ssvc.and_then(|ssvc| ssvc.automatable), any(BaseScore::looks_automatable));
    let total = answer("total impact", ssvc.and_then(|ssvc| ssvc.total), any(BaseScore::looks_total));
    let inputs = TableInputs { kev, exposed, automatable, total };
    let timeline = timeline(inputs);
    let start = entry.map_or(question.first_seen, |entry| entry.added);
    let deadline = deadline(timeline, start, entry, &mut reasons);
    let forensic = timeline.forensic().then(|| triage(start));
    let epss = feeds.epss.as_ref().and_then(|epss| epss.scores.get(id)).copied();
    if let Some(score) = epss {
        reasons.push(format!("EPSS gives {:.1} % within 30 days", score.probability * 100.0));
    }
    if let Some((by, score)) = scores.first() {
        reasons.push(format!("its highest base score is {score} by {by}"));
    }
    let ransomware = entry.is_some_and(|entry| entry.ransomware);
    let rejected = record.is_some_and(|record| record.rejected);
    Decision { inputs, timeline, deadline, forensic, ransomware, epss, scores, rejected, reasons, assumed }
}

fn yes(answer: bool) -> &'static str {
    if answer { "yes" } else { "no" }
}

fn exploited(
    feeds: &Feeds,
    entry: Option<&KevEntry>,
    said: Option<Exploitation>,
    reasons: &mut Vec<String>,
    assumed: &mut Vec<String>,
) -> bool {
    if let Some(entry) = entry {
        let ransomware = if entry.ransomware { ", and ransomware uses it" } else { "" };
        reasons.push(format!("it is in KEV since {}{ransomware}", day(entry.added)));
        return true;
    }
    if feeds.kev.is_some() {
        return false;
    }
    let active = said == Some(Exploitation::Active);
    let by =
        if said.is_some() { "by SSVC, since no KEV catalogue was given" } else { "since no KEV catalogue was given" };
    assumed.push(format!("in KEV: {}, {by}", yes(active)));
    active
}

/// The day of an instant.
fn day(moment: Moment) -> String {
    moment.to_string().split('T').next().unwrap_or_default().to_owned()
}

fn deadline(timeline: Timeline, start: Moment, entry: Option<&KevEntry>, reasons: &mut Vec<String>) -> Option<Moment> {
    let by_table = timeline.days().map(|days| Moment(start.0.saturating_add(i64::from(days).saturating_mul(DAY))));
    let due = entry.and_then(|entry| entry.due);
    let since = if entry.is_some() { "it was added" } else { "it was first seen" };
    reasons.push(match by_table {
        Some(until) => format!("BOD 26-04: {}, from {} on when {since}: {}", timeline.says(), day(start), day(until)),
        None => format!("BOD 26-04: {}", timeline.says()),
    });
    if let Some(due) = due {
        let rank = if by_table.is_none_or(|until| due < until) { "which is earlier" } else { "which is not earlier" };
        reasons.push(format!("KEV asks for {}, {rank}", day(due)));
    }
    [by_table, due].into_iter().flatten().min()
}

fn triage(start: Moment) -> ForensicTriage {
    let after = |hours: i64| Moment(start.0.saturating_add(hours.saturating_mul(HOUR)));
    ForensicTriage { scope_until: after(2), evidence_until: after(24), decision_until: after(72) }
}

fn scores<'a>(said: impl Iterator<Item = &'a SeverityClaim>, assumed: &mut Vec<String>) -> Vec<(String, BaseScore)> {
    let mut found: Vec<(String, BaseScore)> = Vec::new();
    for claim in said {
        let Some(vector) = &claim.vector else { continue };
        match BaseScore::of(vector) {
            Ok(score) if found.iter().any(|known| known.0 == claim.by && known.1 == score) => {}
            Ok(score) => found.push((claim.by.clone(), score)),
            Err(error) => assumed.push(format!("{error}; it is passed over")),
        }
    }
    found.sort_by(|left, right| right.1.tenths.cmp(&left.1.tenths).then_with(|| left.0.cmp(&right.0)));
    found
}
