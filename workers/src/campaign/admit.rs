//! `campaign.admit`: asks whether a host may begin, and says on the change why not.

use patchloom_core::Failure;
use patchloom_domain::{Admission, Command, HostOutcome, Roster};
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
}

/// `campaign.admit`: says whether a host may begin now. One that may not is deferred, and the change says why.
///
/// # Shape
/// In: `{change, roster, host}`. Out: `{admitted, why}`.
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
            let desk = Desk::open(context)?;
            let change = desk.get(&asked.change)?;
            // Once a host was begun, nothing but its end is of interest: a repeat must not defer what is half done.
            if change.tasks.get(&asked.host).is_some_and(|task| task.touched.is_some()) {
                return Ok(json!({ "admitted": true, "why": null }));
            }
            match roster.admit(&change, &asked.host, desk.now()) {
                Admission::Admitted => Ok(json!({ "admitted": true, "why": null })),
                Admission::Deferred { why } => {
                    let outcome = HostOutcome::Deferred { why: why.clone() };
                    desk.order(&asked.change, Command::Finish { host: asked.host.clone(), outcome })?;
                    Ok(json!({ "admitted": false, "why": why }))
                }
            }
        })
    }
}
