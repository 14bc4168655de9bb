//! What the handlers of a campaign take, give and fail with.

use patchloom_core::Contract;
use serde_json::{Value, json};

use crate::contract::{artifact, contract, count, flag, list, map, maybe_count, maybe_text, mode, target, text};

/// The contracts of this module.
pub(crate) fn contracts() -> Vec<(&'static str, Contract)> {
    vec![
        ("campaign.plan", plan()),
        ("campaign.admit", admit()),
        ("campaign.paused", paused()),
        ("campaign.reach", reach()),
        ("campaign.refresh", refresh()),
        ("campaign.record", record()),
        ("campaign.wave", wave()),
    ]
}

/// Waves with their hosts, as fan-outs take them.
fn waves() -> Value {
    let row = map(json!({
        "id": text(), "target": target(), "relay_lane": text(), "cluster": text(), "opens": count(),
        "packages": maybe_text(), "findings": maybe_text(), "download_bytes": count(),
    }));
    list(map(json!({ "name": text(), "soak_ms": count(), "hosts": list(row) })))
}

fn window() -> Value {
    map(json!({ "start": count(), "end": count() }))
}

fn plan() -> Contract {
    contract(
        "Freezes what all hosts of a campaign lack into one plan of waves and windows.",
        json!({
            "hosts": list(json!({ "type": "object" })), "found": list(json!({ "type": ["object", "null"] })),
            "failed?": list(json!({ "type": "object" })), "mode?": mode(),
            "undo?": { "enum": ["packages", "packages_then_snapshot", "snapshot", "attempt"] },
            "planning": { "type": "object" }, "approved?": maybe_text(),
        }),
        json!({
            "artifact": artifact(), "digest": text(), "roster": artifact(), "count": count(), "packages": count(),
            "window": window(), "waves": waves(), "left_out": list(map(json!({ "host": text(), "why": text() }))),
            "not_now": count(), "notes": list(text()), "drifted": flag(), "difference": text(),
        }),
        &["E0508", "E0609", "E0701", "E0703", "E0875", "E0986"],
    )
}

fn admit() -> Contract {
    contract(
        "Says whether a host of a campaign may begin now; one that may not is deferred on its change.",
        json!({ "change": text(), "roster": artifact(), "host": text(), "pardon?": text() }),
        json!({ "admitted": flag(), "why": maybe_text(), "at": count() }),
        &["E0508", "E0604", "E0608", "E0701", "E0703"],
    )
}

fn paused() -> Contract {
    let scope = map(json!({ "scope": text(), "host": text(), "target": target(), "until": count() }));
    contract(
        "Finds out what a campaign paused and whom that keeps away, and says so on its change.",
        json!({ "change": text(), "roster": artifact(), "waves": waves() }),
        json!({ "count": count(), "pardon": artifact(), "scopes": list(scope), "waves": waves() }),
        &["E0508", "E0604", "E0608", "E0701", "E0703"],
    )
}

fn reach() -> Contract {
    contract(
        "Asks the relay of a host for the smallest planned package and throws it away.",
        json!({ "target": target(), "plan": artifact(), "host": text(), "until?": maybe_count() }),
        json!({ "served": flag(), "why": text() }),
        &["E0508", "E0609", "E0701", "E0703", "FETCH"],
    )
}

fn refresh() -> Contract {
    contract(
        "Fetches the package lists of a host anew where they are older than so long.",
        json!({ "target": target(), "older_than_ms?": count() }),
        json!({ "refreshed": flag(), "age_ms": maybe_count() }),
        &["E0508", "FETCH"],
    )
}

fn record() -> Contract {
    contract(
        "Writes the outcome of a host on its change, unless it is there, and remembers how long it took.",
        json!({
            "change": text(), "host": text(), "end": text(), "failure?": { "type": ["object", "null"] },
            "roster?": maybe_text(), "began?": maybe_count(), "download_bytes?": count(),
            "rebooted?": flag(),
        }),
        json!({ "outcome": text() }),
        &["E0508", "E0601", "E0604", "E0608", "E0701", "E0703", "E0986"],
    )
}

fn wave() -> Contract {
    contract(
        "Says on the change what came of a wave, and until when it is watched.",
        json!({ "change": text(), "wave": text(), "hosts": list(text()), "soak_ms?": count() }),
        json!({ "wave": text(), "hosts": count(), "good": count(), "until": count() }),
        &["E0508", "E0604", "E0608"],
    )
}
