//! `campaign.record`: what became of a host whose run is over, where nobody wrote it on the change yet.

use patchloom_core::Failure;
use patchloom_domain::{Cause, Command, HostOutcome};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::changes::{Desk, input};
use crate::runtime::{BoxFuture, Handler, TaskContext};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    change: String,
    host: String,
    end: String,
    #[serde(default)]
    failure: Option<Told>,
}

#[derive(Deserialize)]
struct Told {
    code: String,
    message: String,
}

/// `campaign.record`: writes the outcome of a host on its change, unless it is there.
///
/// # Shape
/// In: `{change, host, end, failure?: {code, message} | null}`. Out: `{outcome}`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record;

impl Handler for Record {
    fn uses(&self) -> &'static str {
        "campaign.record"
    }

    fn run<'a>(&'a self, context: &'a TaskContext, value: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let asked: Input = input(value)?;
            let desk = Desk::open(context)?;
            let change = desk.get(&asked.change)?;
            let task = change.tasks.get(&asked.host);
            if let Some(outcome) = task.and_then(|task| task.outcome.as_ref()) {
                return Ok(json!({ "outcome": outcome.to_string() }));
            }
            let told = |told: Told| Cause { code: told.code, message: told.message };
            let unsaid =
                || Cause { code: "E0891".to_owned(), message: format!("its run {} without a word", asked.end) };
            let cause = asked.failure.map_or_else(unsaid, told);
            // Touched, and nobody wrote what became of it: nothing is proven.
            let outcome = match task.and_then(|task| task.touched) {
                None => HostOutcome::NotBegun { cause },
                Some(_) => HostOutcome::Failed { cause },
            };
            desk.order(&asked.change, Command::Finish { host: asked.host, outcome: outcome.clone() })?;
            Ok(json!({ "outcome": outcome.to_string() }))
        })
    }
}
