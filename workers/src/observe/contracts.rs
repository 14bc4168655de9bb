//! What the handlers that look take, give and fail with.

use patchloom_core::Contract;
use serde_json::{Value, json};

use crate::contract::{artifact, contract, count, flag, list, map, maybe_count, maybe_text, mode, target, text};

/// The contracts of this module.
pub(crate) fn contracts() -> Vec<(&'static str, Contract)> {
    let mut all = looking();
    all.extend([("correlate.cves", cves()), ("prepare.check", check()), ("verify.rescan", rescan())]);
    all.push(("verify.applications", applications()));
    all
}

fn looking() -> Vec<(&'static str, Contract)> {
    let packages = contract(
        "Reads the installed packages of a target.",
        json!({ "target": target() }),
        json!({
            "artifact": artifact(), "count": count(), "held": count(), "broken": list(text()), "os": text(),
            "architecture": text(), "at": count(),
        }),
        &["E0501", "E0502", "E0503", "E0504", "E0505", "E0510", "E0592"],
    );
    let findings = contract(
        "Lists what the package database itself shows to be wrong.",
        json!({ "target": target(), "packages": artifact() }),
        json!({
            "artifact": artifact(), "count": count(), "note": text(),
            "kinds": map(json!({ "half_installed": count(), "held": count(), "triggers_pending": count() })),
        }),
        &["E0592", "E0701", "E0703"],
    );
    let lists = map(json!({ "updated": maybe_count(), "age_ms": maybe_count(), "expired": count() }));
    let missing = contract(
        "Asks apt which patches a target lacks.",
        json!({ "target": target(), "packages?": maybe_text() }),
        json!({
            "artifact": artifact(), "count": count(), "security": count(), "new": count(), "kept_back": list(json!({})),
            "kept_back_count": count(), "removes": list(json!({})), "removes_count": count(),
            "download_bytes": count(), "lists": lists,
        }),
        &["E0501", "E0502", "E0503", "E0504", "E0505", "E0520", "E0521", "E0522", "E0592"],
    );
    vec![("scan.packages", packages), ("scan.findings", findings), ("correlate.missing", missing)]
}

fn cves() -> Contract {
    let urgency = map(json!({
        "priority": maybe_text(), "first": count(), "soon": count(), "routine": count(), "security": count(),
        "cves": count(), "summary": text(),
    }));
    let top = map(json!({
        "package": text(), "source": text(), "installed": maybe_text(), "candidate": text(), "priority": text(),
        "reason": text(), "cves": count(), "newest": list(text()),
    }));
    contract(
        "Finds the vulnerabilities that the missing patches fix, by their changelogs.",
        json!({
            "target": target(), "packages?": maybe_text(), "missing": artifact(), "offline?": flag(),
            "bytes_max?": maybe_count(),
        }),
        json!({
            "artifact": artifact(), "findings": artifact(), "findings_count": count(), "count": count(),
            "security": count(), "cves": count(), "withheld": count(), "withheld_cves": count(), "urgency": urgency,
            "top": list(top), "complete": flag(), "offline": flag(), "notes": list(text()), "sources": count(),
            "known": count(), "from_cache": count(), "downloaded": count(), "downloaded_bytes": count(),
        }),
        &["E0523", "E0524", "E0592", "E0701", "E0703"],
    )
}

fn check() -> Contract {
    let level = json!({ "enum": ["ok", "warn", "fail"] });
    let agent = map(json!({ "unit?": text(), "process?": text(), "command?": list(text()) }));
    let seen = map(json!({ "name": text(), "level": level, "reason": text(), "remedy?": text(), "code?": text() }));
    let row = map(json!({ "name": text(), "passed": flag(), "detail": text() }));
    let preflight = map(json!({ "host": text(), "at": count(), "checks": list(row) }));
    contract(
        "Checks whether the package manager of a target is fit to be used.",
        json!({
            "target": target(), "mode?": mode(), "host?": maybe_text(), "download_bytes?": count(),
            "lock_timeout_seconds?": count(), "agents?": list(agent),
        }),
        json!({ "ok": flag(), "checks": list(seen), "warnings": count(), "preflight": preflight }),
        &["E0531", "E0532", "E0533", "E0534", "E0535", "E0592", "E0970", "E0972"],
    )
}

fn rescan() -> Contract {
    let counts = json!({ "type": "object", "additionalProperties": count() });
    let left = json!({ "type": "object", "required": ["cve", "package", "installed", "fixed", "reason", "text"] });
    let difference = map(json!({
        "name": text(), "arch": text(), "expected": maybe_text(), "found": maybe_text(), "reason": text(),
    }));
    contract(
        "Reads the package set again and compares it with the plan.",
        json!({
            "target": target(), "host?": maybe_text(), "plan?": maybe_text(), "mode?": mode(), "before?": maybe_text(),
            "findings?": maybe_text(),
        }),
        json!({
            "artifact": artifact(), "report": artifact(), "ok": flag(), "planned": count(), "arrived": count(),
            "missed": list(difference.clone()), "drift": list(difference), "drift_count": count(), "fixed": count(),
            "residual": count(), "reasons": counts, "left": list(left), "summary": text(),
        }),
        &["E0541", "E0592", "E0701", "E0703"],
    )
}

fn applications() -> Contract {
    let commands: Value = list(list(text()));
    let probes = map(json!({
        "failed_units": maybe_count(), "listening": maybe_count(), "broken": count(), "commands": count(),
        "probes": count(), "probes_well": count(),
    }));
    let probe = map(json!({
        "name?": text(), "unit?": text(), "tcp?": text(), "http?": text(), "status?": count(), "body?": text(),
        "command?": list(text()), "timeout_seconds?": count(),
    }));
    contract(
        "Looks at what runs before a patch, and tells after it what does not work any more.",
        json!({
            "target": target(), "phase": { "enum": ["before", "after"] }, "mode?": mode(), "baseline?": maybe_text(),
            "commands?": commands, "probes?": list(probe),
        }),
        json!({
            "artifact": artifact(), "probes?": probes, "ok?": { "type": ["boolean", "null"] },
            "regressions?": list(text()), "preexisting?": list(text()), "recovered?": list(text()),
        }),
        &["E0545", "E0592", "E0701", "E0703"],
    )
}
