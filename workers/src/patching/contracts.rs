//! What the handlers that patch take, give and fail with.

use patchloom_core::Contract;
use serde_json::{Value, json};

use crate::contract::{artifact, contract, count, flag, list, map, maybe_count, maybe_text, text};

/// A snapshot as its maker tells it; or null, where there is none.
fn snapshot() -> Value {
    json!({ "type": ["object", "null"], "required": ["id"], "properties": { "id": text() } })
}

/// A value itself, or the artifact that holds it.
fn given() -> Value {
    json!({ "type": ["object", "string"], "description": "The value itself, or the artifact that holds it." })
}

/// The contracts of this module.
pub(crate) fn contracts() -> Vec<(&'static str, Contract)> {
    let dropped = contract(
        "Deletes a snapshot; without one, the one that the same step makes.",
        json!({ "snapshot?": snapshot() }),
        json!({ "gone": text() }),
        &["E0508", "E0555", "E0556", "E0558", "E0590", "E0932"],
    );
    vec![
        ("prepare.backup", backup()),
        ("prepare.snapshot", make()),
        ("prepare.snapshot_drop", dropped),
        ("prepare.prove", prove()),
        ("patch.install", install()),
        ("patch.reboot", reboot()),
        ("patch.rollback", rollback()),
    ]
}

fn backup() -> Contract {
    let row = map(json!({ "package": text(), "why": text() }));
    contract(
        "Records the way back of each package of a plan.",
        json!({ "plan": artifact(), "host?": maybe_text(), "offline?": flag() }),
        json!({
            "artifact": artifact(), "host": text(), "total": count(), "cached": count(), "obtainable": count(),
            "new": count(), "unprovable": list(row), "files": count(),
        }),
        &["E0508", "E0514", "E0515", "E0609", "E0701", "E0703"],
    )
}

fn make() -> Contract {
    let mut made = map(json!({ "id": text(), "kind": text(), "verified": flag(), "bytes": maybe_count() }));
    made["type"] = json!(["object", "null"]);
    contract(
        "Snapshots a root directory, or has a machine snapshotted from outside, where the plan intends it.",
        json!({ "plan": artifact(), "host?": maybe_text(), "change?": maybe_text(), "ttl_seconds?": maybe_count() }),
        json!({ "snapshot": made, "why?": text() }),
        &[
            "E0508", "E0551", "E0552", "E0553", "E0554", "E0555", "E0556", "E0557", "E0590", "E0609", "E0931", "E0932",
            "E0933",
        ],
    )
}

fn prove() -> Contract {
    let mut proof = map(json!({ "id": text(), "kind": text(), "verified": flag() }));
    proof["type"] = json!(["object", "null"]);
    contract(
        "Says whether a host can be taken back, and by what.",
        json!({ "plan": artifact(), "host?": maybe_text(), "backup": given(), "snapshot?": snapshot() }),
        json!({
            "artifact": artifact(), "proven": flag(), "undoable": count(), "total": count(), "unproven": list(text()),
            "snapshot": proof,
        }),
        &["E0508", "E0609", "E0629", "E0932", "E0933"],
    )
}

fn install() -> Contract {
    let gate = map(json!({ "code": text(), "text": text() }));
    contract(
        "Installs exactly the planned versions through the gate, or simulates them in observe mode.",
        json!({
            "plan": artifact(), "host?": maybe_text(), "change": text(), "proof": given(), "preflight": given(),
            "lock_timeout_seconds?": maybe_count(),
        }),
        json!({
            "host": text(), "outcome": { "enum": ["installed", "simulated"] }, "count": count(),
            "gate?": list(gate), "summary?": text(), "evidence?": artifact(), "before?": text(), "after?": {}, "continued?": {}, "residue?": {},
            "conffiles?": {}, "cleaned?": {}, "adjusted?": {},
        }),
        &[
            "DRIFT",
            "E0508",
            "E0510",
            "E0511",
            "E0512",
            "E0513",
            "E0604",
            "E0620",
            "E0621",
            "E0622",
            "E0623",
            "E0624",
            "E0625",
            "E0626",
            "E0627",
            "E0628",
            "E0630",
            "E0631",
            "E0632",
            "E0874",
            "E0875",
            "E0934",
            "HALF_STATE",
            "HELD",
            "HOST",
            "LOCKED",
            "UNVERIFIED",
        ],
    )
}

fn reboot() -> Contract {
    contract(
        "Boots a host anew after its patch, where the policy wants it and the gate allows it.",
        json!({
            "plan": artifact(), "host?": maybe_text(), "change": text(),
            "policy?": { "enum": ["never", "if_needed", "always"] }, "reserve_seconds?": maybe_count(),
            "deadline_seconds?": maybe_count(), "command?": list(text()),
        }),
        json!({
            "host": text(), "rebooted": flag(), "needed": flag(), "why": list(text()), "refused?": list(text()),
            "boot_id_before?": text(), "boot_id_after?": text(), "took_ms?": count(),
        }),
        &["E0508", "E0575", "E0579", "E0604", "E0609", "E0975", "E0976"],
    )
}

fn rollback() -> Contract {
    contract(
        "Takes a host back to what it was before its patch, and proves it.",
        json!({
            "plan": artifact(), "host?": maybe_text(), "change": text(), "backup?": {}, "snapshot?": snapshot(),
            "why?": maybe_text(), "code?": maybe_text(), "got?": {},
        }),
        json!({
            "host": text(), "way": { "enum": ["nothing_to_undo", "packages", "snapshot"] }, "verified": flag(),
            "changed": count(), "evidence?": artifact(), "cleaned?": {}, "etc_differs?": {},
            "found?": {}, "scheme?": {}, "before?": {}, "after?": text(), "restored?": list(text()),
        }),
        &[
            "E0508", "E0514", "E0516", "E0517", "E0590", "E0604", "E0609", "E0875", "E0930", "E0932", "E0933", "E0935",
            "E0936",
        ],
    )
}
