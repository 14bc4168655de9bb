//! Which host goes in which wave: a canary of each look, then dev before test before prod, and the critical last.
//!
//! Sizes are reckoned as the engine reckons those of `for_each.waves`, so that what is planned is what is carried out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Criticality, Environment, Host};

/// The most waves that rules may name.
pub const WAVES_MAX: usize = 100;

/// How many hosts a wave takes of those that no wave before it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum WaveSize {
    /// So many.
    Count(u32),
    /// So many hundredths of a percent of all hosts, rounded up.
    BasisPoints(u32),
}

impl WaveSize {
    /// As a number of hosts.
    #[must_use]
    pub fn of(self, whole: usize) -> usize {
        let (whole, points) = match self {
            Self::Count(count) => return usize::try_from(count).unwrap_or(usize::MAX),
            Self::BasisPoints(points) => (u64::try_from(whole).unwrap_or(u64::MAX), u64::from(points)),
        };
        usize::try_from(whole.saturating_mul(points).div_ceil(10_000)).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for WaveSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::BasisPoints(points) if points % 100 == 0 => write!(f, "{}%", points / 100),
            Self::BasisPoints(points) => write!(f, "{}.{:02}%", points / 100, points % 100),
        }
    }
}

impl From<WaveSize> for String {
    fn from(size: WaveSize) -> Self {
        size.to_string()
    }
}

impl TryFrom<String> for WaveSize {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("'{text}' is neither a number of hosts nor a percentage such as 10%");
        let Some(percent) = text.strip_suffix('%') else {
            return text.parse().map(Self::Count).map_err(|_| wrong());
        };
        let (whole, part) = percent.split_once('.').unwrap_or((percent, ""));
        let digits =
            !whole.is_empty() && part.len() <= 2 && (whole.bytes().chain(part.bytes())).all(|b| b.is_ascii_digit());
        let points: Option<u32> = format!("{whole}{part:0<2}").parse().ok().filter(|_| digits);
        points.filter(|points| *points <= 10_000).map(Self::BasisPoints).ok_or_else(wrong)
    }
}

/// One wave as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaveRule {
    /// Its name.
    pub name: String,
    /// How many hosts it takes.
    pub size: WaveSize,
    /// How long after its last host nothing happens.
    #[serde(default)]
    pub soak_ms: u64,
    /// So many of its hosts may fail, with one more nobody begins behind it; where it is not said, all may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<u32>,
}

impl WaveRule {
    /// Canary, pilot, broad: no failure of a canary is borne, one of a pilot.
    #[must_use]
    pub fn usual() -> Vec<Self> {
        let rule = |name: &str, points: u32, minutes: u64, failures| Self {
            name: name.to_owned(),
            size: WaveSize::BasisPoints(points),
            soak_ms: minutes * 60_000,
            failures,
        };
        vec![rule("canary", 100, 30, Some(0)), rule("pilot", 1_000, 30, Some(1)), rule("broad", 10_000, 0, None)]
    }
}

/// What the waves have to know of a host.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// Its id.
    pub host: String,
    /// Where nobody said, production: the careful guess.
    pub environment: Environment,
    /// Where nobody said, 3: the middle.
    pub level: u8,
    /// System, device class and site.
    pub look: String,
    /// The cluster it is a node of.
    pub cluster: Option<String>,
}

impl Member {
    pub fn of(host: &Host) -> Self {
        Self {
            host: host.id.clone(),
            environment: host.environment.unwrap_or(Environment::Prod),
            level: host.criticality.map_or(3, Criticality::level),
            look: look(host),
            cluster: host.cluster.clone(),
        }
    }

    fn rank(&self) -> (Environment, u8, &str) {
        (self.environment, self.level, &self.host)
    }
}

/// What a host has in common with those that a patch treats alike: system and version, device class, site.
#[must_use]
pub fn look(host: &Host) -> String {
    let system = host.os.as_ref().map_or_else(
        || "unknown system".to_owned(),
        |os| os.version.as_ref().map_or_else(|| os.id.clone(), |version| format!("{} {version}", os.id)),
    );
    let class = host.device_class.as_deref().unwrap_or("unknown class");
    format!("{system}, {class}, {}", host.site.as_deref().unwrap_or("unknown site"))
}

/// A wave with its hosts.
#[derive(Clone, Debug)]
pub(super) struct Wave {
    pub name: String,
    pub soak_ms: u64,
    /// So many of its hosts may fail.
    pub failures: Option<u32>,
    /// That of all its hosts; none for canaries, which come from all.
    pub environment: Option<Environment>,
    /// Whether two nodes of one cluster may stand in it: the last of its environment.
    pub together: bool,
    /// Indices of members, with why each is here.
    pub members: Vec<(usize, String)>,
}

/// Puts each member in one wave.
pub(super) fn waves(members: &[Member], rules: &[WaveRule], notes: &mut Vec<String>) -> Vec<Wave> {
    let mut sorted: Vec<usize> = (0..members.len()).collect();
    sorted.sort_by(|a, b| members[*a].rank().cmp(&members[*b].rank()));
    let mut made = Vec::new();
    let rules = if rules.len() > 1 {
        let canary = canaries(members, &sorted, &rules[0], notes);
        let taken: BTreeSet<usize> = canary.members.iter().map(|(at, _)| *at).collect();
        sorted.retain(|at| !taken.contains(at));
        made.push(canary);
        &rules[1..]
    } else {
        rules
    };
    let mut pools: BTreeMap<Environment, VecDeque<usize>> = BTreeMap::new();
    for at in sorted {
        pools.entry(members[at].environment).or_default().push_back(at);
    }
    for (nth, rule) in rules.iter().enumerate() {
        let last = nth + 1 == rules.len();
        let quota = if last { usize::MAX } else { rule.size.of(members.len()) };
        made.extend(parts(members, &mut pools, rule, quota, last));
    }
    made.retain(|wave| !wave.members.is_empty());
    made
}

/// One host of each look that has several, from the least critical; then the least critical of all.
fn canaries(members: &[Member], sorted: &[usize], rule: &WaveRule, notes: &mut Vec<String>) -> Wave {
    let mut looks: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for at in sorted {
        looks.entry(members[*at].look.as_str()).or_default().push(*at);
    }
    let size = rule.size.of(members.len()).min(members.len());
    let (mut chosen, mut clusters) = (BTreeMap::new(), BTreeSet::new());
    let mut free = |at: usize| members[at].cluster.as_deref().is_none_or(|cluster| clusters.insert(cluster));
    for (look, alike) in looks.iter().filter(|(_, alike)| alike.len() > 1) {
        if let Some(at) = alike.iter().copied().find(|at| free(*at)) {
            chosen.insert(at, format!("the least critical of {} hosts alike: {look}", alike.len()));
        }
    }
    if chosen.len() > size {
        notes.push(format!(
            "wave '{}' has {} hosts where {size} were asked for: one for each look that several hosts have",
            rule.name,
            chosen.len()
        ));
    }
    for at in sorted {
        if chosen.len() >= size {
            break;
        }
        if !chosen.contains_key(at) && free(*at) {
            chosen.insert(*at, format!("among the least critical: {}", standing(&members[*at])));
        }
    }
    // In the order of rank, not of looks.
    let members = sorted.iter().filter_map(|at| Some((*at, chosen.remove(at)?))).collect();
    let (name, soak_ms, failures) = (rule.name.clone(), rule.soak_ms, rule.failures);
    Wave { name, soak_ms, failures, environment: None, together: false, members }
}

/// What a rule takes: one wave, or one per environment where it reaches from one to the next.
fn parts(
    members: &[Member],
    pools: &mut BTreeMap<Environment, VecDeque<usize>>,
    rule: &WaveRule,
    mut quota: usize,
    last: bool,
) -> Vec<Wave> {
    let mut parts: Vec<Wave> = Vec::new();
    for (environment, pool) in pools.iter_mut() {
        while quota > 0 && !pool.is_empty() {
            // Nodes that had to wait for one another come together, one after another, in the last wave of theirs.
            let again = parts.last().is_some_and(|part| part.environment == Some(*environment));
            let together = last || again;
            if again && pool.len() > quota {
                // They do not fit, and nobody passes them: the next environment waits for the next rule.
                return named(parts, &rule.name);
            }
            let taken = take(members, pool, quota, together);
            quota -= taken.len();
            let why = |at: usize| (at, standing(&members[at]));
            parts.push(Wave {
                name: String::new(),
                soak_ms: rule.soak_ms,
                failures: rule.failures,
                environment: Some(*environment),
                together,
                members: taken.into_iter().map(why).collect(),
            });
        }
        if quota == 0 {
            break;
        }
    }
    named(parts, &rule.name)
}

/// Up to so many from the front of a pool; of a cluster one, unless its nodes may come together.
fn take(members: &[Member], pool: &mut VecDeque<usize>, quota: usize, together: bool) -> Vec<usize> {
    let (mut taken, mut left, mut clusters) = (Vec::new(), VecDeque::new(), BTreeSet::new());
    for at in pool.drain(..) {
        let free = || members[at].cluster.as_deref().is_none_or(|cluster| clusters.insert(cluster));
        if taken.len() < quota && (together || { free }()) { taken.push(at) } else { left.push_back(at) }
    }
    *pool = left;
    taken
}

/// A rule that made one wave gives it its name; several are told apart by environment.
fn named(mut parts: Vec<Wave>, name: &str) -> Vec<Wave> {
    let many = parts.len() > 1;
    let mut before = None;
    for part in &mut parts {
        let nth = if before == part.environment { "-2" } else { "" };
        before = part.environment;
        part.name = match part.environment.filter(|_| many) {
            Some(environment) => format!("{name}-{}{nth}", word(environment)),
            None => name.to_owned(),
        };
    }
    parts
}

fn standing(member: &Member) -> String {
    format!("{}, criticality {}", word(member.environment), member.level)
}

/// The environment in a word.
pub(super) fn word(environment: Environment) -> &'static str {
    match environment {
        Environment::Dev => "dev",
        Environment::Test => "test",
        Environment::Prod => "prod",
    }
}
