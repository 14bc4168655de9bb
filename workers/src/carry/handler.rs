//! A handler whose tasks are carried to their host where that is another machine, and done here where it is not.

use patchloom_core::Failure;
use patchloom_domain::{Machine, Plan, Target};
use serde_json::Value;

use super::Carrier;
use super::post::Standing;
use crate::artifact::ArtifactId;
use crate::runtime::{BoxFuture, Handler, TaskContext};

/// Wraps a handler.
pub(crate) struct Carried<H> {
    inner: H,
    carrier: Carrier,
}

impl<H> Carried<H> {
    pub(crate) fn new(inner: H, carrier: &Carrier) -> Self {
        Self { inner, carrier: carrier.clone() }
    }
}

impl<H: Handler> Handler for Carried<H> {
    fn uses(&self) -> &'static str {
        self.inner.uses()
    }

    fn run<'a>(&'a self, context: &'a TaskContext, input: Value) -> BoxFuture<'a, Result<Value, Failure>> {
        Box::pin(async move {
            let Some(target) = target_of(context, &input).await? else {
                return self.inner.run(context, input).await;
            };
            if let Some(context) = self.carrier.reaching(context, &target)? {
                return self.inner.run(&context, input).await;
            }
            match context.here(&target).machine() {
                Some(machine) => carry(&self.carrier, context, &machine, (self.uses(), input)).await,
                None => self.inner.run(context, input).await,
            }
        })
    }
}

async fn carry(
    carrier: &Carrier,
    context: &TaskContext,
    target: &Machine,
    (uses, input): (&'static str, Value),
) -> Result<Value, Failure> {
    let post = carrier.post(context, target).await?;
    // The host is asked first: what is at work or done there is neither sent nor begun again.
    match post.standing().await? {
        Standing::Begun => post.attend(None).await,
        Standing::Open => post.carry(uses, input, None).await,
    }
}

/// What a task is about; `None` where it is about none.
async fn target_of(context: &TaskContext, input: &Value) -> Result<Option<Target>, Failure> {
    match input.get("target") {
        // What is no target at all is for the handler to complain of.
        Some(target) => Ok(serde_json::from_value::<Target>(target.clone()).ok()),
        None => target_of_plan(context, input).await,
    }
}

async fn target_of_plan(context: &TaskContext, input: &Value) -> Result<Option<Target>, Failure> {
    let id = input.get("plan").and_then(Value::as_str).and_then(|text| text.parse::<ArtifactId>().ok());
    let Some(id) = id else { return Ok(None) };
    let plan: Plan = context.get_json(&id).await?;
    let part = match (input.get("host").and_then(Value::as_str), plan.hosts()) {
        (Some(host), _) => plan.host(host),
        (None, [only]) => Some(only),
        (None, _) => None,
    };
    Ok(part.map(|part| part.target.clone()))
}
