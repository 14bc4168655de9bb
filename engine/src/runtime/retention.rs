//! How long runs that are over are kept: by what their workflow says, each with the runs below it.

use std::collections::{BTreeMap, BTreeSet};

use patchloom_core::record::Parent;
use patchloom_core::{Digest, Millis, Partition, RunId, UtcMs};
use serde::Deserialize;

/// What decides when runs in the archive have had their time.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// How long the runs of a version are kept, where it says so.
    retention: BTreeMap<Digest, Millis>,
    /// The runs in the state: what is below them stays.
    here: BTreeSet<RunId>,
}

/// What must be known of a run in the archive.
#[derive(Debug, Deserialize)]
pub(super) struct RunHead {
    start: RunStart,
    started: UtcMs,
    #[serde(default)]
    ended: Option<UtcMs>,
}

#[derive(Debug, Deserialize)]
struct RunStart {
    version: Digest,
    #[serde(default)]
    parent: Option<Parent>,
}

impl RunHead {
    /// Reads it off the payload of an archived run, without reading the history behind it.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let run = payload.strip_prefix(super::inspect::PAYLOAD_BEGIN)?;
        serde_json::Deserializer::from_slice(run).into_iter().next()?.ok()
    }
}

impl Sweep {
    /// What `state` says; `None` where no workflow says how long its runs are kept.
    pub fn of(state: &Partition) -> Option<Self> {
        let kept = state.definitions().filter_map(|known| Some((known.digest.clone(), known.retention?)));
        let retention: BTreeMap<Digest, Millis> = kept.collect();
        if retention.is_empty() {
            return None;
        }
        Some(Self { retention, here: state.runs().map(|run| run.id()).collect() })
    }

    /// The runs whose time is over: each counts from the end of the run at its root, by the version of that one.
    pub fn due(&self, archived: &BTreeMap<RunId, RunHead>, otherwise: Millis, now: UtcMs) -> BTreeSet<RunId> {
        let is_due = |id: &RunId| {
            let (mut id, mut steps) = (*id, 0);
            loop {
                if self.here.contains(&id) {
                    return false;
                }
                let Some(head) = archived.get(&id) else { return false };
                let above = head.start.parent.as_ref().map(|link| link.run);
                match above.filter(|above| self.here.contains(above) || archived.contains_key(above)) {
                    Some(above) if steps < archived.len() => (id, steps) = (above, steps + 1),
                    // A root, or one whose parent is gone already.
                    _ => {
                        let kept = self.retention.get(&head.start.version).copied().unwrap_or(otherwise);
                        return now.since(head.ended.unwrap_or(head.started)) >= kept;
                    }
                }
            }
        };
        archived.keys().copied().filter(is_due).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn id(n: u128) -> RunId {
        RunId(uuid::Uuid::from_u128(n))
    }

    fn head(version: &str, ended: u64, parent: Option<RunId>) -> RunHead {
        let parent = parent.map(|run| json!({"run": run, "step": "s", "attempt": 1}));
        let run = json!({"start": {"version": version, "parent": parent}, "started": 1, "ended": ended, "steps": []});
        let payload = format!("{{\"run\":{run},\"history\":[]}}");
        RunHead::read(payload.as_bytes()).unwrap()
    }

    #[test]
    fn a_run_is_kept_as_long_as_the_run_at_its_root() {
        let short = Digest("short".into());
        let sweep = Sweep { retention: [(short, Millis(100))].into(), here: [id(9)].into() };
        let archived: BTreeMap<RunId, RunHead> = [
            (id(1), head("short", 1_000, None)),
            (id(2), head("long", 900, Some(id(1)))),
            (id(3), head("long", 1_000, None)),
            (id(4), head("short", 900, Some(id(3)))),
            (id(5), head("short", 10, Some(id(9)))),
            (id(6), head("short", 10, Some(id(77)))),
        ]
        .into();
        let due = |now: u64| sweep.due(&archived, Millis(10_000), UtcMs(now)).into_iter().collect::<Vec<RunId>>();
        assert_eq!(due(1_099), [id(6)], "its parent is gone, so it counts for itself");
        assert_eq!(due(1_100), [id(1), id(2), id(6)]);
        assert_eq!(due(11_000), [id(1), id(2), id(3), id(4), id(6)], "what is below an open run stays");
    }
}
