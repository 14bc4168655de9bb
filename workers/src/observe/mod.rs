//! Handlers that look and judge: scan, correlate, check, verify. None of them changes a target.

mod applications;
mod check;
mod contracts;
mod correlate;
mod fitness;
mod locks;
mod need;
mod probes;
mod rescan;
mod residue;
mod scan;
mod stale;
mod windows;

use std::future::Future;

use patchloom_core::Failure;
use patchloom_domain::Target;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

pub use applications::VerifyApplications;
pub use check::{CheckLevel, PrepareCheck, Seen};
pub(crate) use contracts::contracts;
pub use correlate::{CorrelateCves, CorrelateMissing};
pub(crate) use need::reboot_need;
pub use rescan::VerifyRescan;
pub use scan::{PackageScan, ScanFindings, ScanPackages};

use crate::artifact::ArtifactId;
use crate::carry::{Carried, Carrier};
use crate::failure::permanent;
use crate::host::HostExec;
use crate::runtime::{BoxFuture, DuplicateHandler, Handlers, TaskContext};

/// Adds all handlers of this module; those that look at a host are carried there by `carrier` where it is another machine.
///
/// # Errors
/// [`DuplicateHandler`] when one of their task types is taken.
pub fn register(handlers: &mut Handlers, carrier: &Carrier) -> Result<(), DuplicateHandler> {
    handlers.add(Carried::new(ScanPackages, carrier))?;
    handlers.add(ScanFindings)?;
    handlers.add(Carried::new(CorrelateMissing, carrier))?;
    handlers.add(Carried::new(CorrelateCves, carrier))?;
    handlers.add(Carried::new(PrepareCheck, carrier))?;
    handlers.add(Carried::new(VerifyRescan, carrier))?;
    handlers.add(Carried::new(VerifyApplications, carrier))
}

/// Reads the input of a task.
fn decode<T: DeserializeOwned>(uses: &str, input: Value) -> Result<T, Failure> {
    serde_json::from_value(input)
        .map_err(|error| permanent("E0592", format!("the input of {uses} is not what it takes: {error}")))
}

/// An artifact that may be left out: null and the empty text (the default of a workflow's input) mean none.
fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ArtifactId>, D::Error> {
    match Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty()) {
        Some(text) => text.parse().map(Some).map_err(serde::de::Error::custom),
        None => Ok(None),
    }
}

/// Makes the target ready for commands.
fn open(context: &TaskContext, target: &Target) -> Result<HostExec, Failure> {
    context.open(target).map_err(|error| error.failure())
}

/// The answer of a handler as JSON.
fn encode<T: serde::Serialize>(answer: &T) -> Result<Value, Failure> {
    serde_json::to_value(answer).map_err(|error| permanent("E0592", format!("cannot write an answer: {error}")))
}

fn boxed<'a, T>(future: impl Future<Output = T> + Send + 'a) -> BoxFuture<'a, T> {
    Box::pin(future)
}

#[cfg(test)]
mod left_tests;
#[cfg(test)]
mod tests;
