//! `campaign.admit`: asks whether a host may begin, and says on the change why not.

use patchloom_core::Failure;
use patchloom_domain::{Admission, Command, HostOutcome, Pardon, Roster};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::artifact::ArtifactId;
use crate::changes::{Desk, input};
use crate::runtime::{BoxFuture, Handler, TaskContext};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    change: String,
    roster: ArtifactId,
    host: String,
    /// What was paused and may go on; empty for none.
    #[serde(default)]
    pardon: String,
}

/// `campaign.admit`: says whether a host may begin now. One that may not is deferred, and the change says why.
///
/// # Shape
/// In: `{change, roster, host, pardon?}`. Out: `{admitted, why, at}`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Admit;

impl Handler for Admit {
    fn uses(&self) -> &'static str {
        "campaign.admit"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, value: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let asked: Input = input(value)?;
            let roster: Roster = context.get_json(&asked.roster).await?;
            let pardon: Option<Pardon> = match asked.pardon.parse::<ArtifactId>() {
                Ok(id) => Some(context.get_json(&id).await?),
                Err(_) => None,
            };
            let desk = Desk::open(context)?;
            let change = desk.get(&asked.change)?;
            let at = desk.now();
            let task = change.tasks.get(&asked.host);
            // Once a host was begun, nothing but its end is of interest: a repeat must not defer what is half done.
            if task.is_some_and(|task| task.touched.is_some()) {
                return Ok(json!({ "admitted": true, "why": null, "at": at.0 }));
            }
            match roster.admit(&change, &asked.host, at, pardon.as_ref()) {
                Admission::Admitted => Ok(json!({ "admitted": true, "why": null, "at": at.0 })),
                Admission::Deferred { why } => {
                    let why = match task.and_then(|task| task.outcome.as_ref()) {
                        // What kept it away first is still the reason; why it stays away comes behind.
                        Some(HostOutcome::Deferred { why: first }) if pardon.is_some() => later(first, &why),
                        _ => why,
                    };
                    let outcome = HostOutcome::Deferred { why: why.clone() };
                    desk.order(&asked.change, Command::Finish { host: asked.host.clone(), outcome })?;
                    Ok(json!({ "admitted": false, "why": why, "at": at.0 }))
                }
            }
        })
    }
}

/// The first reason and the later one; said again, it stays as it is.
fn later(first: &str, then: &str) -> String {
    const THEN: &str = "; then: ";
    let first = first.split(THEN).next().unwrap_or(first);
    format!("{first}{THEN}{then}")
}
