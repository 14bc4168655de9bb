//! What a baseline says of a patch at an instant, and why.

use serde::Serialize;

use super::model::{
    Baseline, ComplianceLevel, FilterKey, OperatingSystem, PatchCandidate, PatchFilter, PatchFilters, PatchRule,
    RejectedAction,
};
use super::time::{DAY, Moment, days};

/// What a baseline says of a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "approval", rename_all = "snake_case")]
pub enum Approval {
    /// It may be installed.
    Approved,
    /// It is named among the approved ones.
    ExplicitlyApproved,
    /// It may be installed later.
    Pending {
        /// From then on; none where the day of its release is not known.
        until: Option<Moment>,
    },
    /// It is named among the rejected ones.
    Rejected,
    /// No rule sees it.
    NotMatched,
}

/// What a baseline says of a patch, with the reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// What it says.
    #[serde(flatten)]
    pub approval: Approval,
    /// How bad it is where the patch is missing.
    pub level: ComplianceLevel,
    /// Why.
    pub why: String,
}

/// Asks a baseline about a patch.
///
/// A name among the rejected ones outweighs all, one among the approved ones the rules. Of several rules that approve
/// the worst compliance level counts. On Linux a rule sees security updates only, unless it says otherwise.
#[must_use]
pub fn judge_patch(baseline: &Baseline, patch: &PatchCandidate, now: Moment) -> Judgement {
    if let Some(name) = named(&baseline.rejected_patches, patch) {
        let action = match baseline.rejected_patches_action {
            RejectedAction::AllowAsDependency => "it comes only where another one needs it",
            RejectedAction::Block => "it never comes, nor what needs it",
        };
        let why = format!("RejectedPatches names it: '{name}'; {action}");
        return Judgement { approval: Approval::Rejected, level: ComplianceLevel::Unspecified, why };
    }
    let linux = baseline.operating_system.is_linux();
    let unseen = |enabled: bool| linux && !enabled && !is_security(patch);
    if let Some(name) = named(&baseline.approved_patches, patch) {
        if unseen(baseline.approved_patches_enable_non_security) {
            let why = format!(
                "ApprovedPatches names it: '{name}', yet it is no security update and ApprovedPatchesEnableNonSecurity is false"
            );
            return Judgement { approval: Approval::NotMatched, level: ComplianceLevel::Unspecified, why };
        }
        let level = baseline.approved_patches_compliance_level;
        return Judgement {
            approval: Approval::ExplicitlyApproved,
            level,
            why: format!("ApprovedPatches names it: '{name}'"),
        };
    }
    if let Some(filter) = misfit(&baseline.global_filters, patch) {
        return unmatched(format!("GlobalFilters leave it out: {}", told(filter, patch)));
    }
    let rules = baseline.approval_rules.patch_rules.iter().enumerate();
    let (mut found, mut misses) = (Vec::new(), Vec::new());
    for (at, rule) in rules {
        if let Some(filter) = misfit(&rule.patch_filter_group, patch) {
            misses.push(format!("rule {}: {}", at + 1, told(filter, patch)));
        } else if unseen(rule.enable_non_security) {
            misses.push(format!("rule {}: it is no security update and EnableNonSecurity is false", at + 1));
        } else {
            found.push(by_rule(at + 1, rule, patch, baseline.operating_system, now));
        }
    }
    let order = |judgement: &Judgement| match judgement.approval {
        Approval::Approved | Approval::ExplicitlyApproved => (0, judgement.level, i64::MIN),
        Approval::Pending { until: Some(until) } => (1, ComplianceLevel::Critical, until.0),
        Approval::Pending { until: None } | Approval::Rejected | Approval::NotMatched => {
            (2, ComplianceLevel::Critical, i64::MAX)
        }
    };
    match found.into_iter().min_by_key(order) {
        Some(judgement) => judgement,
        None if misses.is_empty() => unmatched("the baseline has no rule".to_owned()),
        None => unmatched(misses.join("; ")),
    }
}

fn unmatched(why: String) -> Judgement {
    Judgement { approval: Approval::NotMatched, level: ComplianceLevel::Unspecified, why }
}

/// What a rule that sees a patch says of it.
fn by_rule(at: usize, rule: &PatchRule, patch: &PatchCandidate, os: OperatingSystem, now: Moment) -> Judgement {
    let level = rule.compliance_level;
    let judged =
        |approval: Approval, why: String| Judgement { approval, level, why: format!("rule {at} sees it; {why}") };
    if rule.approve_after_days == Some(0) {
        return judged(Approval::Approved, "it approves at once".to_owned());
    }
    let Some((released, which)) = released(patch, os) else {
        let why = "the day of its release is not known, so that no delay can be counted".to_owned();
        return judged(Approval::Pending { until: None }, why);
    };
    if let Some(delay) = rule.approve_after_days {
        let until = Moment(released.0.saturating_add(i64::from(delay).saturating_mul(DAY)));
        let why = format!("{which} {released} and {delay} days make {until}");
        return judged(if now >= until { Approval::Approved } else { Approval::Pending { until: Some(until) } }, why);
    }
    let last = rule.approve_until_date.as_deref().unwrap_or_default();
    let end = days(last).map(|day| day.saturating_add(1).saturating_mul(DAY));
    match end.is_some_and(|end| released.0 < end) {
        true => judged(Approval::Approved, format!("{which} {released} is not after {last}")),
        false => Judgement {
            approval: Approval::NotMatched,
            level: ComplianceLevel::Unspecified,
            why: format!("rule {at} approves what was released until {last}; {which} {released} is later"),
        },
    }
}

/// When a patch was released, and which date says so: the earliest one that can be believed.
///
/// On Debian and Ubuntu archives do not tell: the date of its changelog stands for it. Its author wrote that, by any clock and
/// perhaps months before it was handed out, so it is held against what was seen. One later than the day it was first seen counts
/// for nothing. One before the last look at which it was not on offer counts as of that look. Where nobody looked before, a
/// changelog counts for security updates only: point releases hand out in a day what was written over months.
fn released(patch: &PatchCandidate, os: OperatingSystem) -> Option<(Moment, &'static str)> {
    let by_changelog = matches!(os, OperatingSystem::Debian | OperatingSystem::Ubuntu | OperatingSystem::Raspbian);
    let (Some(date), Some(seen)) = (patch.release_date, patch.first_seen) else {
        let word = if by_changelog { "changelog of" } else { "released" };
        let told = patch.release_date.map(|date| (date, word));
        return told.or_else(|| patch.first_seen.map(|seen| (seen, "first seen")));
    };
    if date > seen {
        return Some((seen, "first seen (the date that it bears is later)"));
    }
    match patch.not_before {
        _ if !by_changelog => Some((date, "released")),
        Some(looked) if looked >= seen => Some((seen, "first seen")),
        Some(looked) if date < looked => Some((looked, "its changelog is older, yet it was not on offer on")),
        Some(_) => Some((date, "changelog of")),
        None if is_security(patch) => Some((date, "changelog of")),
        None => Some((seen, "first seen (its changelog does not count: nobody looked before)")),
    }
}

fn is_security(patch: &PatchCandidate) -> bool {
    let by_class = || patch.classification.to_ascii_lowercase().starts_with("security");
    let by_repository = || patch.repository.to_ascii_lowercase().contains("security");
    patch.security.unwrap_or_else(|| by_class() || by_repository() || !patch.cve_ids.is_empty())
}

/// The first filter that does not fit.
fn misfit<'a>(filters: &'a PatchFilters, patch: &PatchCandidate) -> Option<&'a PatchFilter> {
    filters.patch_filters.iter().find(|filter| {
        let has = values(filter.key, patch);
        let fits = |wanted: &String| wanted == "*" || has.iter().any(|value| value.eq_ignore_ascii_case(wanted));
        !filter.values.iter().any(fits)
    })
}

/// What a patch has of a property.
fn values(key: FilterKey, patch: &PatchCandidate) -> Vec<String> {
    let one = |text: &str| if text.is_empty() { Vec::new() } else { vec![text.to_owned()] };
    match key {
        FilterKey::Arch => one(&patch.arch),
        FilterKey::AdvisoryId => patch.advisory_ids.clone(),
        FilterKey::BugzillaId => patch.bugzilla_ids.clone(),
        // Applications of Microsoft are the other set; what does not say so belongs to the system.
        FilterKey::PatchSet => {
            one(if patch.product_family.eq_ignore_ascii_case("windows") || patch.product_family.is_empty() {
                "OS"
            } else {
                "APPLICATION"
            })
        }
        FilterKey::Product => one(&patch.product),
        FilterKey::ProductFamily => one(&patch.product_family),
        FilterKey::Classification => one(&patch.classification),
        FilterKey::CveId => patch.cve_ids.clone(),
        FilterKey::Epoch => vec![patch.epoch.to_string()],
        FilterKey::MsrcSeverity => one(&patch.msrc_severity),
        FilterKey::Name => one(&patch.name),
        FilterKey::PatchId => [one(&patch.kb_number), one(&patch.id)].concat(),
        FilterKey::Section => one(&patch.section),
        FilterKey::Priority => one(&patch.priority),
        FilterKey::Repository => one(&patch.repository),
        FilterKey::Release => one(&patch.release),
        FilterKey::Severity => one(&patch.severity),
        FilterKey::Security => vec![is_security(patch).to_string()],
        FilterKey::Version => one(&patch.version),
    }
}

fn told(filter: &PatchFilter, patch: &PatchCandidate) -> String {
    let key = serde_json::to_value(filter.key)
        .map_or_else(|_| String::new(), |key| key.as_str().unwrap_or_default().to_owned());
    let has = values(filter.key, patch);
    let has = if has.is_empty() { "nothing".to_owned() } else { has.join(", ") };
    format!("{key} is {has}, wanted is {}", filter.values.join(" or "))
}

/// The entry of a list that names a patch. An entry is a KB or bulletin number, a patch id, a package name, or a name
/// with its version in one of the ways of writing that SSM takes; `*` stands for anything.
fn named<'a>(list: &'a [String], patch: &PatchCandidate) -> Option<&'a str> {
    let mut names = vec![patch.kb_number.clone(), patch.msrc_number.clone(), patch.id.clone(), patch.name.clone()];
    if !patch.name.is_empty() && !patch.version.is_empty() {
        let release = if patch.release.is_empty() { String::new() } else { format!("-{}", patch.release) };
        let evr = format!("{}{release}", patch.version);
        for full in [
            format!("{}-{evr}", patch.name),
            format!("{}-{}:{evr}", patch.name, patch.epoch),
            format!("{}:{}-{evr}", patch.epoch, patch.name),
        ] {
            names.push(format!("{full}.{}", patch.arch));
            names.push(full);
        }
    }
    let known: Vec<&String> = names.iter().filter(|name| !name.is_empty()).collect();
    list.iter().map(String::as_str).find(|entry| known.iter().any(|name| fits(entry, name)))
}

/// Whether an entry with `*` in it stands for a name. Pieces are looked for from left to right, which finds a match
/// where there is one.
fn fits(entry: &str, name: &str) -> bool {
    let (entry, name) = (entry.to_ascii_lowercase(), name.to_ascii_lowercase());
    let Some((first, rest)) = entry.split_once('*') else { return entry == name };
    let Some(mut left) = name.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        let Some(at) = left.find(piece) else { return false };
        left = &left[at + piece.len()..];
    }
    left.ends_with(last)
}
