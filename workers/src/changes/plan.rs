//! `change.plan`: makes a plan of what correlation found missing.

use patchloom_core::Failure;
use patchloom_domain::{HostPlan, Instant, MissingPatch, Mode, Outside, Plan, PlannedChange, Target, UndoIntent};
use serde::Deserialize;
use serde_json::{Value, json};

use super::input;
use crate::artifact::ArtifactId;
use crate::failure::{chain, permanent};
use crate::runtime::{BoxFuture, Handler, TaskContext};
use crate::tell::host_name;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    target: Target,
    host: Option<String>,
    #[serde(default)]
    mode: Mode,
    /// An artifact: a list of missing patches, or an object with one under `missing` or `patches`.
    missing: ArtifactId,
    #[serde(default)]
    undo: UndoIntent,
    /// Who takes a snapshot from outside, as text; empty where nobody does.
    #[serde(default)]
    outside: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Missing {
    List(Vec<MissingPatch>),
    Object {
        #[serde(alias = "patches")]
        missing: Vec<MissingPatch>,
    },
}

/// `change.plan`: freezes exact versions into a plan with a digest.
///
/// # Shape
/// In: `{target, host?, mode?, missing, undo?, outside?}`. Out: `{artifact, digest, host, hosts, mode, count, security, new, cves}`.
#[derive(Clone, Copy, Debug, Default)]
pub struct MakePlan;

impl Handler for MakePlan {
    fn uses(&self) -> &'static str {
        "change.plan"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, value: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let Input { target, host, mode, missing, undo, outside } = input(value)?;
            let outside = outside.filter(|text| !text.is_empty()).map(|text| text.parse::<Outside>());
            let outside = outside.transpose().map_err(|error| permanent("E0930", chain(&error)))?;
            if let Some(outside) = outside.as_ref().filter(|outside| !outside.fits(&target)) {
                let text = format!(
                    "{outside} cannot snapshot {}: it is not reached as a machine of its own",
                    host_name(&target)
                );
                return Err(permanent("E0930", text));
            }
            let (Missing::List(missing) | Missing::Object { missing }) = context.get_json(&missing).await?;
            let host = host.unwrap_or_else(|| host_name(&target));
            let changes: Vec<_> = missing.into_iter().map(planned).collect();
            let mut cves: Vec<_> = changes.iter().flat_map(|change| change.cves.iter().cloned()).collect();
            cves.sort();
            cves.dedup();
            let count = |test: fn(&PlannedChange) -> bool| changes.iter().filter(|change| test(change)).count();
            let (security, new) = (count(|change| change.security), count(|change| change.installed.is_none()));
            let total = changes.len();
            let part = HostPlan { host: host.clone(), target, changes, undo, outside };
            let plan = Plan::new(mode, Instant(context.now().0), vec![part], Vec::new())
                .map_err(|error| permanent("E0609", chain(&error)))?;
            let artifact = context.put_json(&plan).await?;
            Ok(json!({
                "artifact": artifact,
                "digest": plan.digest(),
                "host": host,
                "hosts": [host],
                "mode": mode,
                "count": total,
                "security": security,
                "new": new,
                "cves": cves.len(),
            }))
        })
    }
}

fn planned(patch: MissingPatch) -> PlannedChange {
    let MissingPatch { id, installed, candidate, sha256, cves, security, .. } = patch;
    PlannedChange { id, installed, candidate, sha256, cves, security }
}
