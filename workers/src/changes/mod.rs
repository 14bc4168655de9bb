//! Step 3 and the closing of step 6: plan, open, authorize, implement, note, close and fail a change request.

mod contracts;
mod desk;
mod handlers;
mod plan;
#[cfg(test)]
mod tests;
mod words;

use patchloom_core::Failure;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::failure::permanent;
use crate::runtime::{DuplicateHandler, Handlers};

pub(crate) use contracts::contracts;
pub(crate) use desk::Desk;
pub use desk::REQUESTER;
pub use handlers::{Authorize, Close, Fail, Implement, Note, Open};
pub use plan::MakePlan;

/// Adds all handlers of this module.
///
/// # Errors
/// [`DuplicateHandler`] when one of their task types is taken.
pub fn register(handlers: &mut Handlers) -> Result<(), DuplicateHandler> {
    handlers.add(MakePlan)?;
    handlers.add(Open)?;
    handlers.add(Authorize)?;
    handlers.add(Implement)?;
    handlers.add(Note)?;
    handlers.add(Close)?;
    handlers.add(Fail)
}

/// Reads the input of a task.
pub(crate) fn input<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    serde_json::from_value(value)
        .map_err(|error| permanent("E0508", format!("the input of the task has another shape: {error}")))
}
