//! What the handlers of change requests take, give and fail with.

use patchloom_core::Contract;
use serde_json::{Value, json};

use crate::contract::{artifact, contract, count, map, maybe_text, mode, target, text};

/// What each of them tells of the change.
fn told() -> Value {
    json!({ "number": text(), "state": text(), "digest": text(), "close_code": maybe_text(), "notes": count() })
}

/// The contracts of this module.
pub(crate) fn contracts() -> Vec<(&'static str, Contract)> {
    let of_change = || json!({ "change": text() });
    vec![
        ("change.plan", plan()),
        ("change.open", open()),
        (
            "change.authorize",
            contract(
                "Takes an authorized change to Scheduled.",
                of_change(),
                told(),
                &["E0508", "E0601", "E0604", "E0621", "E0622"],
            ),
        ),
        (
            "change.implement",
            contract("Begins the work of a change.", of_change(), told(), &["E0508", "E0601", "E0604", "E0608"]),
        ),
        (
            "change.note",
            contract(
                "Writes a work note on a change, once.",
                json!({ "change": text(), "text": text(), "key?": maybe_text() }),
                told(),
                &["E0508", "E0604"],
            ),
        ),
        (
            "change.close",
            contract(
                "Closes a change with the code that its hosts' outcomes earn.",
                json!({ "change": text(), "notes?": maybe_text() }),
                told(),
                &["E0508", "E0601", "E0604", "E0608"],
            ),
        ),
        ("change.fail", fail()),
    ]
}

fn plan() -> Contract {
    contract(
        "Freezes exact versions into a plan with a digest.",
        json!({
            "target": target(), "host?": maybe_text(), "mode?": mode(), "missing": artifact(),
            "undo?": { "enum": ["packages", "packages_then_snapshot", "snapshot"] },
        }),
        json!({
            "artifact": artifact(), "digest": text(), "host": text(), "hosts": { "type": "array", "items": text() },
            "mode": mode(), "count": count(), "security": count(), "new": count(), "cves": count(),
        }),
        &["E0508", "E0609", "E0701", "E0703"],
    )
}

fn open() -> Contract {
    let mut window = map(json!({ "start": count(), "end": count() }));
    window["type"] = json!(["object", "null"]);
    contract(
        "Opens the change of a plan and submits it.",
        json!({
            "plan": artifact(), "title?": maybe_text(), "kind?": maybe_text(), "window?": window,
            "correlation_id?": maybe_text(), "risk?": maybe_text(), "requested_by?": maybe_text(),
        }),
        told(),
        &["E0508", "E0601", "E0603", "E0605", "E0606", "E0607"],
    )
}

fn fail() -> Contract {
    contract(
        "Cancels a change that never came to work, and closes one that did as unsuccessful.",
        json!({
            "change?": maybe_text(), "why?": maybe_text(), "code?": maybe_text(), "correlation_id?": maybe_text(),
        }),
        json!({
            "number": maybe_text(), "state?": text(), "digest?": text(), "close_code?": maybe_text(), "notes?": count(),
        }),
        &["E0508", "E0604", "E0606", "E0607"],
    )
}
