//! What the handlers of a campaign take, give and fail with.

use patchloom_core::Contract;
use serde_json::json;

use crate::contract::{artifact, contract, count, flag, list, map, maybe_text, mode, target, text};

/// The contracts of this module.
pub(crate) fn contracts() -> Vec<(&'static str, Contract)> {
    vec![
        ("campaign.plan", plan()),
        ("campaign.admit", admit()),
        ("campaign.record", record()),
        ("campaign.wave", wave()),
    ]
}

fn plan() -> Contract {
    let waves = map(json!({
        "canary": count(), "pilot": count(), "canary_failures?": count(), "pilot_failures?": count(),
    }));
    let row = map(json!({
        "id": text(), "target": target(), "wave": { "enum": ["canary", "pilot", "broad"] }, "relay": text(),
        "cluster": text(), "packages": maybe_text(), "findings": maybe_text(), "download_bytes": count(),
    }));
    contract(
        "Freezes what all hosts of a campaign lack into one plan.",
        json!({
            "hosts": list(json!({ "type": "object" })), "found": list(json!({ "type": ["object", "null"] })),
            "failed?": list(json!({ "type": "object" })), "mode?": mode(),
            "undo?": { "enum": ["packages", "packages_then_snapshot", "snapshot"] }, "waves": waves,
            "approved?": maybe_text(),
        }),
        json!({
            "artifact": artifact(), "digest": text(), "roster": artifact(), "count": count(), "packages": count(),
            "waves": map(json!({ "canary": count(), "pilot": count(), "broad": count() })),
            "hosts": list(row), "left_out": list(map(json!({ "host": text(), "why": text() }))), "drifted": flag(),
            "difference": text(),
        }),
        &["E0508", "E0609", "E0701", "E0703"],
    )
}

fn admit() -> Contract {
    contract(
        "Says whether a host of a campaign may begin now; one that may not is deferred on its change.",
        json!({ "change": text(), "roster": artifact(), "host": text() }),
        json!({ "admitted": flag(), "why": maybe_text() }),
        &["E0508", "E0604", "E0608", "E0701", "E0703"],
    )
}

fn record() -> Contract {
    contract(
        "Writes the outcome of a host on its change, unless it is there.",
        json!({ "change": text(), "host": text(), "end": text(), "failure?": { "type": ["object", "null"] } }),
        json!({ "outcome": text() }),
        &["E0508", "E0601", "E0604", "E0608"],
    )
}

fn wave() -> Contract {
    contract(
        "Says on the change what came of a wave, and until when it is watched.",
        json!({
            "change": text(), "roster": artifact(), "wave": { "enum": ["canary", "pilot", "broad"] }, "soak_ms?": count(),
        }),
        json!({ "wave": text(), "hosts": count(), "good": count(), "until": count() }),
        &["E0508", "E0604", "E0608", "E0701", "E0703"],
    )
}
