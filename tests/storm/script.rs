//! What happens to a system, drawn from a seed: the same seed, the same script.

use std::fmt;
use std::time::Duration;

use patchloom_engine::sim::Random;

/// One kind of hardship.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hardship {
    /// SIGKILL to the engine that leads.
    KillLeader,
    /// SIGSTOP to it for longer than its lease lasts, then SIGCONT.
    PauseLeader,
    /// Its connections are closed, and new ones refused.
    CutLeader,
    /// Its connections stand, and nothing passes.
    StallLeader,
    /// What it says arrives, and what is said to it does not.
    MuteLeader,
    /// Its connections are slow.
    SlowLeader,
    /// The disk with its copy of the journal, its store and its archive is full.
    FullLeader,
    /// SIGKILL to a worker.
    KillWorker,
    /// SIGKILL to a NATS server.
    KillNode,
    /// SIGKILL to all of them at once.
    KillAllNodes,
    /// A NATS server stands still again and again.
    SlowNode,
    /// The disk of a NATS server is full.
    FullNode,
}

pub const ALL: [Hardship; 12] = [
    Hardship::KillLeader,
    Hardship::PauseLeader,
    Hardship::CutLeader,
    Hardship::StallLeader,
    Hardship::MuteLeader,
    Hardship::SlowLeader,
    Hardship::FullLeader,
    Hardship::KillWorker,
    Hardship::KillNode,
    Hardship::KillAllNodes,
    Hardship::SlowNode,
    Hardship::FullNode,
];

impl Hardship {
    /// Whether the engine that leads cannot lead meanwhile: another one has to.
    pub fn topples(self) -> bool {
        use Hardship::{CutLeader, KillLeader, MuteLeader, PauseLeader, StallLeader};
        matches!(self, KillLeader | PauseLeader | CutLeader | StallLeader | MuteLeader)
    }

    /// Whether words between processes may come late.
    pub fn delays(self) -> bool {
        !matches!(self, Self::KillLeader | Self::KillWorker | Self::FullLeader)
    }
}

/// One act of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Act {
    /// So long after the last one is over.
    pub after: Duration,
    pub what: Hardship,
    /// Which worker or server, where there are several.
    pub which: usize,
    /// How long it lasts at least.
    pub lasts: Duration,
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { after, what, which, lasts } = self;
        write!(f, "{what:?} {which} after {} ms for {} ms", after.as_millis(), lasts.as_millis())
    }
}

/// The script of a seed: so many acts of these kinds, each kind before any comes twice; in `pace` percent of the time.
pub fn script(seed: u64, acts: usize, kinds: &[Hardship], pace: u64) -> Vec<Act> {
    let mut random = Random::new(seed);
    let mut left: Vec<Hardship> = Vec::new();
    let mut script = Vec::new();
    for _ in 0..acts {
        if left.is_empty() {
            left = kinds.to_vec();
        }
        let kinds_left = u64::try_from(left.len()).expect("a small number");
        let at = usize::try_from(random.below(kinds_left)).expect("an index");
        let mut millis = |least, below| Duration::from_millis((least + random.below(below)) * pace / 100);
        let (after, lasts) = (millis(200, 1_300), millis(1_000, 2_500));
        let which = usize::try_from(random.below(3)).expect("a small number");
        script.push(Act { after, what: left.swap_remove(at), which, lasts });
    }
    script
}
