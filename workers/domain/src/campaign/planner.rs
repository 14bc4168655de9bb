//! The planner: from hosts, what they lack and their windows to a plan. Pure: the same input gives the same bytes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::approve::{Kept, Offer, Rules, VersionHold, approved, withheld};
use super::durations::{Durations, Part, Work};
use super::estimate::{Estimate, whole};
use super::model::{Body, CampaignPlan, CampaignPlanError, LeftOut, LeftOutReason, Limits, PlannedWave, Slot};
use super::need::Need;
use super::rates::FailureRates;
use super::repair::{Missed, repairs};
use super::schedule::{Course, Fate, Frame, Job, Lanes, Schedule};
use super::wave::{Member, WAVES_MAX, Wave, WaveRule, look, waves};
use super::window::{CutoffRule, Occurrence};
use crate::inventory::GroupRules;
use crate::{Baseline, Host, HostPlan, Instant, MissingPatch, Mode, Moment, Plan, PlannedChange, UndoIntent};

/// After so many rounds no host is bound by how urgent it is.
const ROUNDS_MAX: u32 = 5;
/// Hosts that a note names.
const NAMED_MAX: usize = 5;

/// What was found on a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The host's id.
    pub host: String,
    /// What it lacks and may get.
    #[serde(default, alias = "missing")]
    pub patches: Vec<Offer>,
    /// What it lacks and does not get, for the packages are held on it.
    #[serde(default)]
    pub withheld: Vec<MissingPatch>,
    /// The way back intended; packages, then the snapshot, unless told.
    #[serde(default)]
    pub undo: UndoIntent,
    /// Why there is no way back, where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_undo: Option<String>,
    /// Why it cannot be patched, where it cannot: out of support, unreachable, out of disk …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_patchable: Option<String>,
    /// Its patches have to be in by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Moment>,
}

/// Whether hosts boot anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RebootRule {
    /// Where a patch needs it; the reserve is kept for all, since that shows only afterwards.
    #[default]
    IfNeeded,
    /// All do.
    Always,
    /// None does, and no reserve is kept.
    Never,
}

/// How to plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanSettings {
    /// Whether hosts may change.
    pub mode: Mode,
    /// When the plan is made; nothing starts before.
    pub now: Instant,
    /// The waves.
    pub waves: Vec<WaveRule>,
    /// How many hosts may be at work at once.
    pub limits: Limits,
    /// What the cutoff of windows asks.
    pub cutoff: CutoffRule,
    /// Whether hosts boot anew.
    pub reboot: RebootRule,
    /// What is kept free for it at the end.
    pub reboot_reserve_ms: u64,
}

/// What is planned from.
#[derive(Clone, Copy, Debug)]
pub struct PlanInput<'a> {
    /// The inventory.
    pub hosts: &'a [Host],
    /// What was found on the hosts.
    pub found: &'a [Found],
    /// Baselines; without any every patch is approved.
    pub baselines: &'a [Baseline],
    /// What patch groups decide.
    pub groups: &'a GroupRules,
    /// Hosts whose rules contradict each other, with the sentence that says how: they are left out.
    pub conflicts: &'a BTreeMap<String, String>,
    /// Versions held for the whole fleet.
    pub holds: &'a [VersionHold],
    /// The occurrences of each window by its name, sorted and disjoint.
    pub windows: &'a BTreeMap<String, Vec<Occurrence>>,
    /// The window of each host by its id. No window means never.
    pub window_of: &'a BTreeMap<String, String>,
    /// How urgent hosts are, by their ids; their deadlines are kept where that can be.
    pub needs: &'a BTreeMap<String, Need>,
    /// What was learned of durations.
    pub durations: &'a Durations,
    /// What was learned of failures.
    pub rates: &'a FailureRates,
}

/// A host that goes into a wave.
struct Candidate<'a> {
    host: &'a Host,
    plan: HostPlan,
    window: &'a str,
    estimate: Estimate,
    need_ms: u64,
    reserve_ms: u64,
    reboot: bool,
    /// It should be through by then.
    deadline: Option<Instant>,
    /// It is left out where it is not through by then.
    hard: Option<Instant>,
    /// The one of the two that counts when it is placed.
    bound: Option<Instant>,
    need: Option<&'a Need>,
    parts: Vec<Part>,
}

/// Plans a campaign.
///
/// # Errors
/// Where host or package names are none, hosts come twice, or the settings make no sense.
pub fn plan_campaign(input: PlanInput<'_>, settings: &PlanSettings) -> Result<CampaignPlan, CampaignPlanError> {
    check(settings)?;
    let mut notes = Vec::new();
    if input.baselines.is_empty() {
        notes.push("no baseline was given: every patch counts as approved".to_owned());
    }
    let mut kept = Kept::default();
    let mut left_out = Vec::new();
    let mut candidates = candidates(&input, settings, &mut kept, &mut left_out)?;
    let members: Vec<Member> = candidates.iter().map(|candidate| Member::of(candidate.host)).collect();
    let made = waves(&members, &settings.waves, &mut notes);
    let (placed, late) = place_all(&input, settings, &mut candidates, &made);
    if !late.is_empty() {
        notes.push(behind(&late));
    }
    let mut slots = placed.slots;
    let planned: BTreeSet<&str> = slots.iter().map(|slot| slot.host.as_str()).collect();
    let hosts = candidates.iter().filter(|candidate| planned.contains(candidate.plan.host.as_str()));
    let plan =
        Plan::new(settings.mode, settings.now, hosts.map(|candidate| candidate.plan.clone()).collect(), Vec::new())?;
    left_out.extend(placed.missed.iter().map(Missed::left_out));
    left_out.sort_by(|a: &LeftOut, b| a.host.cmp(&b.host));
    slots.sort_by(|a, b| (a.wave, a.start, &a.host).cmp(&(b.wave, b.start, &b.host)));
    let body = Body {
        plan,
        limits: settings.limits,
        cutoff: settings.cutoff,
        waves: placed.waves,
        slots,
        left_out,
        withheld: kept.list(),
        repairs: repairs(&[placed.missed, late].concat(), settings),
        samples: input.durations.samples(),
        notes,
    };
    body.finished()
}

fn check(settings: &PlanSettings) -> Result<(), CampaignPlanError> {
    let wrong = |text: String| Err(CampaignPlanError::Settings(text));
    let names: BTreeSet<&str> = settings.waves.iter().map(|wave| wave.name.as_str()).collect();
    if settings.waves.is_empty() || settings.waves.len() > WAVES_MAX {
        return wrong(format!("there are {} waves; a plan has 1 to {WAVES_MAX}", settings.waves.len()));
    }
    if names.len() < settings.waves.len() {
        return wrong("two waves have the same name".to_owned());
    }
    if settings.limits.max_parallel == 0 {
        return wrong("no host may be at work at once: max_parallel is 0".to_owned());
    }
    Ok(())
}

/// The hosts that go into waves; the others are left out with their reason.
fn candidates<'a>(
    input: &PlanInput<'a>,
    settings: &PlanSettings,
    kept: &mut Kept,
    left_out: &mut Vec<LeftOut>,
) -> Result<Vec<Candidate<'a>>, CampaignPlanError> {
    let mut found: BTreeMap<&str, &'a Found> = BTreeMap::new();
    for one in input.found {
        if found.insert(&one.host, one).is_some() {
            return Err(CampaignPlanError::Shape { host: one.host.clone(), what: "was found twice" });
        }
    }
    let mut hosts: BTreeMap<&str, &'a Host> = BTreeMap::new();
    for host in input.hosts {
        if hosts.insert(&host.id, host).is_some() {
            return Err(CampaignPlanError::Shape { host: host.id.clone(), what: "is in the inventory twice" });
        }
    }
    let mut leave = |host: &str, reason, why: &str| {
        left_out.push(LeftOut { host: host.to_owned(), reason, why: why.to_owned() });
    };
    let mut candidates = Vec::new();
    let (baselines, groups, holds) = (input.baselines, input.groups, input.holds);
    for (id, host) in &hosts {
        let Some(one) = found.get(id) else {
            leave(id, LeftOutReason::NotScanned, "nobody looked what it lacks");
            continue;
        };
        for patch in &one.withheld {
            let (reason, why) = withheld(patch);
            kept.add(patch, reason, why, id);
        }
        if one.patches.is_empty() && one.withheld.is_empty() {
            leave(id, LeftOutReason::NothingMissing, "it lacks nothing");
            continue;
        }
        let conflict = input.conflicts.get(*id).cloned().map_or(Ok(()), Err);
        let rules = Rules { baselines, groups, holds, need: input.needs.get(*id), now: settings.now };
        let changes = match conflict.and_then(|()| approved(host, &one.patches, rules, kept)) {
            Ok(changes) => changes,
            Err(why) => {
                leave(id, LeftOutReason::Conflict, &why);
                continue;
            }
        };
        let named = input.window_of.get(*id);
        let window = named.filter(|name| input.windows.contains_key(*name));
        match (&one.not_patchable, &one.no_undo, window) {
            _ if changes.is_empty() => {
                leave(id, LeftOutReason::NothingApproved, "nothing of what it lacks is approved and free");
            }
            (Some(why), ..) => leave(id, LeftOutReason::NotPatchable, why),
            (None, Some(why), _) => leave(id, LeftOutReason::NoUndo, why),
            (None, None, None) => {
                let why = match named {
                    Some(name) => format!("its window '{name}' is in no calendar that is known"),
                    None => "it has no window, and no window means never".to_owned(),
                };
                leave(id, LeftOutReason::NoWindow, &why);
            }
            (None, None, Some(window)) => candidates.push(candidate(input, settings, host, one, changes, window)),
        }
    }
    for id in found.keys().filter(|id| !hosts.contains_key(*id)) {
        leave(id, LeftOutReason::NotInInventory, "it was scanned and is in no inventory");
    }
    Ok(candidates)
}

fn candidate<'a>(
    input: &PlanInput<'a>,
    settings: &PlanSettings,
    host: &'a Host,
    found: &Found,
    changes: Vec<(PlannedChange, &MissingPatch)>,
    window: &'a str,
) -> Candidate<'a> {
    let part = |patch: &MissingPatch| Part::Sized { name: patch.id.name.clone(), bytes: patch.size_bytes };
    let parts: Vec<Part> = changes.iter().map(|(_, patch)| part(patch)).collect();
    let bytes = changes.iter().filter_map(|(_, patch)| patch.size_bytes).sum();
    let reboot = match settings.reboot {
        RebootRule::Always => true,
        RebootRule::Never => false,
        RebootRule::IfNeeded => parts.iter().any(|part| needs_reboot(part.name())),
    };
    let reserve_ms = if settings.reboot == RebootRule::Never { 0 } else { settings.reboot_reserve_ms };
    let quiet = Work { host: host.id.clone(), look: look(host), packages: parts.clone(), bytes, rebooted: false };
    let estimate = input.durations.estimate(&Work { rebooted: reboot, ..quiet.clone() });
    // The reserve covers a reboot; where reboots are known to take longer than it, that counts.
    let need_ms = (input.durations.estimate(&quiet).p95_ms + reserve_ms).max(estimate.p95_ms).max(estimate.mean_ms);
    let instant = |at: Moment| Instant(u64::try_from(at.0).unwrap_or(0).saturating_mul(1000));
    let need = input.needs.get(&host.id);
    // Only what is planned counts: a deadline of something else is not kept by this plan.
    let planned: Vec<&MissingPatch> = changes.iter().map(|(_, patch)| *patch).collect();
    let due = need.and_then(|need| planned.iter().filter_map(|patch| need.due_of(patch)).min());
    let bound = found.deadline.map(instant);
    let deadline = [bound, due.map(|due| instant(due.deadline))].into_iter().flatten().min();
    let changes = changes.into_iter().map(|(change, _)| change).collect();
    let target = host.target.clone();
    let outside = host.snapshot.clone().filter(|outside| outside.fits(&target));
    let plan = HostPlan { host: host.id.clone(), target, changes, undo: found.undo, outside };
    Candidate {
        host,
        plan,
        window,
        estimate,
        need_ms,
        reserve_ms,
        reboot,
        deadline,
        bound: deadline,
        hard: bound,
        need,
        parts,
    }
}

/// Whether a package asks for a reboot once it is installed.
///
/// # Source
/// `NEED_REBOOT` of dnf's plugin needs-restarting, and the Debian packages that write `/run/reboot-required`.
fn needs_reboot(package: &str) -> bool {
    const EXACT: [&str; 14] = [
        "kernel",
        "kernel-core",
        "kernel-rt",
        "kernel-default",
        "glibc",
        "libc6",
        "linux-firmware",
        "systemd",
        "udev",
        "openssl-libs",
        "gnutls",
        "dbus",
        "intel-microcode",
        "amd64-microcode",
    ];
    EXACT.contains(&package) || package.starts_with("linux-image-")
}

#[derive(Default)]
struct Placed {
    waves: Vec<PlannedWave>,
    slots: Vec<Slot>,
    missed: Vec<Missed>,
}

/// How long jobs are expected to take.
struct Expected<'a>(&'a [u64]);

impl Course for Expected<'_> {
    fn takes(&mut self, job: usize, _: Instant) -> u64 {
        self.0[job]
    }

    fn over(&mut self, _: usize, _: Instant) -> bool {
        true
    }
}

/// Places the hosts. Those that are late by how urgent they are get a place all the same, since later is better than never; they
/// are given back beside.
fn place_all(
    input: &PlanInput<'_>,
    settings: &PlanSettings,
    candidates: &mut [Candidate<'_>],
    made: &[Wave],
) -> (Placed, Vec<Missed>) {
    let mut late: Vec<Missed> = Vec::new();
    let mut round = 0;
    loop {
        round += 1;
        let placed = place(input, settings, candidates, made);
        let missed: BTreeMap<&str, &Missed> = placed.missed.iter().map(|one| (one.host.as_str(), one)).collect();
        let before = late.len();
        for one in candidates.iter_mut().filter(|one| one.bound != one.hard) {
            let found = missed.get(one.plan.host.as_str());
            // Each that comes in late may push out another; after some rounds none is bound any more.
            if found.is_some() || round >= ROUNDS_MAX {
                one.bound = one.hard;
                late.extend(found.map(|found| (*found).clone()));
            }
        }
        if late.len() == before {
            let ends: BTreeMap<&str, Instant> =
                placed.slots.iter().map(|slot| (slot.host.as_str(), slot.latest_end)).collect();
            late.retain(|one| {
                ends.get(one.host.as_str()).is_some_and(|end| one.deadline.is_some_and(|due| *end > due))
            });
            return (placed, late);
        }
    }
}

/// Says who is planned behind the deadline.
fn behind(late: &[Missed]) -> String {
    let named: Vec<String> = late.iter().take(NAMED_MAX).map(|one| one.host.clone()).collect();
    let more = late.len().checked_sub(NAMED_MAX).filter(|more| *more > 0).map(|more| format!(" and {more} more"));
    format!(
        "planned behind the deadline of what is found on them, for no window comes before it: {}{}",
        named.join(", "),
        more.unwrap_or_default()
    )
}

/// Places the hosts wave by wave.
fn place(input: &PlanInput<'_>, settings: &PlanSettings, candidates: &[Candidate<'_>], made: &[Wave]) -> Placed {
    let mut placed = Placed::default();
    let mut ready = settings.now;
    let names: Vec<&String> = input.windows.keys().collect();
    let calm = Need::default();
    for wave in made {
        let mut order: Vec<usize> = (0..wave.members.len()).collect();
        order.sort_by_cached_key(|at| {
            let one = &candidates[wave.members[*at].0];
            let level = Member::of(one.host).level;
            let urgent = one.need.unwrap_or(&calm).order();
            (
                one.deadline.unwrap_or(Instant(u64::MAX)),
                urgent,
                level,
                std::cmp::Reverse(one.need_ms),
                one.plan.host.clone(),
            )
        });
        let order: Vec<&(usize, String)> = order.into_iter().map(|at| &wave.members[at]).collect();
        let (frame, jobs) = frame(input, settings, candidates, wave, &order, &names);
        let takes: Vec<u64> = order.iter().map(|(at, _)| candidates[*at].estimate.mean_ms).collect();
        let (fates, rest) = Schedule::new(&frame, &jobs).run(ready, &mut Expected(&takes));
        let nth = u32::try_from(placed.waves.len()).unwrap_or(u32::MAX);
        let before = placed.slots.len();
        for ((at, why), fate) in order.into_iter().zip(fates) {
            let one = &candidates[*at];
            match fate {
                Fate::Ran { start, end, occurrence } => {
                    let spans = &input.windows[one.window];
                    let first = spans.partition_point(|span| span.last_start <= ready);
                    let later = if occurrence > first { "; the windows before had no room for it" } else { "" };
                    let slot = slot(input, one, nth, (start, end), spans[occurrence]);
                    let later = format!("{later}{}", due(one, slot.latest_end));
                    placed.slots.push(Slot { why: format!("{why}{later}"), ..slot });
                }
                Fate::NoRoom | Fate::TooLate | Fate::Halted => placed.missed.push(Missed {
                    host: one.plan.host.clone(),
                    window: one.window.to_owned(),
                    need_ms: one.need_ms,
                    mean_ms: one.estimate.mean_ms,
                    deadline: one.bound,
                    ready,
                }),
            }
        }
        if let Some(start) = placed.slots[before..].iter().map(|slot| slot.start).min() {
            placed.waves.push(PlannedWave {
                name: wave.name.clone(),
                hosts: u32::try_from(placed.slots.len() - before).unwrap_or(u32::MAX),
                soak_ms: wave.soak_ms,
                failures: wave.failures,
                environment: wave.environment,
                cluster_nodes_together: wave.together,
                start,
                end: rest,
            });
            ready = rest.plus(wave.soak_ms);
        }
    }
    placed
}

/// What a host's deadline says of its place.
fn due(one: &Candidate<'_>, latest_end: Instant) -> String {
    let Some(deadline) = one.deadline else { return String::new() };
    let at = Moment(i64::try_from(deadline.0 / 1000).unwrap_or(i64::MAX));
    let behind = if latest_end > deadline { ", which it does not keep" } else { "" };
    format!("; due {at}{behind}")
}

fn frame(
    input: &PlanInput<'_>,
    settings: &PlanSettings,
    candidates: &[Candidate<'_>],
    wave: &Wave,
    order: &[&(usize, String)],
    names: &[&String],
) -> (Frame, Vec<Job>) {
    let mut lanes = Lanes::new(settings.limits, settings.cutoff, input.windows.values().cloned().collect());
    let mut jobs = Vec::with_capacity(order.len());
    for (at, _) in order {
        let one = &candidates[*at];
        let window = names.binary_search_by(|name| name.as_str().cmp(one.window)).unwrap_or(0);
        let cluster = one.host.cluster.as_deref().filter(|_| wave.together);
        let lane = lanes.lane(window, one.host.relay.as_deref(), one.host.site.as_deref(), cluster);
        jobs.push(Job { lane, need_ms: one.need_ms, deadline: one.bound });
    }
    (lanes.finish(), jobs)
}

fn slot(
    input: &PlanInput<'_>,
    one: &Candidate<'_>,
    wave: u32,
    (start, end): (Instant, Instant),
    occurrence: Occurrence,
) -> Slot {
    let look = look(one.host);
    let pcm = |part: f64| u32::try_from(whole(part * 100_000.0)).unwrap_or(100_000);
    Slot {
        host: one.plan.host.clone(),
        wave,
        window: one.window.to_owned(),
        occurrence,
        start,
        end,
        latest_end: start.plus(one.need_ms),
        estimate: one.estimate,
        reboot_reserve_ms: one.reserve_ms,
        reboot: one.reboot,
        deadline: one.deadline,
        relay: one.host.relay.clone(),
        site: one.host.site.clone(),
        cluster: one.host.cluster.clone(),
        failure_pcm: pcm(input.rates.chance(&look, &one.parts)),
        failure_doubt_pcm: pcm(input.rates.doubt(&look)),
        look,
        why: String::new(),
    }
}
