//! `patchloom change approve` and `reject`: a person's decision about one plan.

use anyhow::anyhow;
use patchloom_domain::{Actor, ChangeRequest, Decision, Instant, PlanDigest};

use super::{ChangeDecisionArgs, fault, register, select};
use crate::cli::Context;
use crate::fault::{Exit, Fault};
use crate::lifecycle;
use crate::output::{text, time};

/// The fewest characters of a digest that name a plan.
const DIGEST_PREFIX_MIN: usize = 4;

pub(super) fn approve(args: &ChangeDecisionArgs, context: &Context) -> Result<Exit, Fault> {
    let register = register(context)?;
    let change = select(&register, &args.change)?;
    let digest = agreed(&change, args.plan.as_deref())?;
    let by = Actor::Person(lifecycle::person());
    // With the digest that was looked at: a plan that changes in between is refused by the register.
    let change = register.approve(&change.number, &by, now(), Some(&digest), args.comment.as_deref()).map_err(fault)?;
    told(&change, Decision::Approved, context)
}

pub(super) fn reject(args: &ChangeDecisionArgs, context: &Context) -> Result<Exit, Fault> {
    let register = register(context)?;
    let change = select(&register, &args.change)?;
    agreed(&change, args.plan.as_deref())?;
    let by = Actor::Person(lifecycle::person());
    let why = args.comment.as_deref().ok_or_else(|| {
        Fault::new("E0608", Exit::Usage, anyhow!("a rejection needs a reason")).hint("give it with --comment TEXT")
    })?;
    let change = register.reject(&change.number, &by, now(), why).map_err(fault)?;
    told(&change, Decision::Rejected, context)
}

fn now() -> Instant {
    Instant(time::now().0)
}

/// The digest that is decided about; one that was named must be that of the present plan.
fn agreed(change: &ChangeRequest, wanted: Option<&str>) -> Result<PlanDigest, Fault> {
    let present = change.draft.digest.clone();
    let Some(wanted) = wanted else { return Ok(present) };
    let (full, bare) = (present.to_string(), wanted.strip_prefix("sha256:").unwrap_or(wanted).to_ascii_lowercase());
    let hex = full.strip_prefix("sha256:").unwrap_or(&full);
    if bare.len() >= DIGEST_PREFIX_MIN && hex.starts_with(&bare) {
        return Ok(present);
    }
    let error = anyhow!("the plan of {} is not {}", change.number, text::plain(wanted));
    Err(Fault::new("E0603", Exit::Failed, error).hint(format!("it is {full}: look at it again with change show")))
}

fn told(change: &ChangeRequest, decision: Decision, context: &Context) -> Result<Exit, Fault> {
    let word = match decision {
        Decision::Approved => "approved",
        Decision::Rejected => "rejected",
    };
    context.print(&format!("{} {word} {}\n", change.number, change.draft.digest))?;
    if let Some(run) = change.correlation_id.split('/').next().filter(|_| !change.state.is_final()) {
        eprintln!("The run that asked hears of it, or goes on with: patchloom run watch {}", text::plain(run));
    }
    Ok(Exit::Ok)
}
