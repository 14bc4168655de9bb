//! A campaign over many hosts: one plan and one change for all, an admission for each before it begins, and its outcome on the
//! change, whatever becomes of it.

mod admit;
mod contracts;
mod plan;
mod record;
#[cfg(test)]
mod tests;
mod wave;

use crate::runtime::{DuplicateHandler, Handlers};

pub use admit::Admit;
pub(crate) use contracts::contracts;
pub use plan::MakeCampaign;
pub use record::Record;
pub use wave::WaveOver;

/// Adds all handlers of this module.
///
/// # Errors
/// [`DuplicateHandler`] when one of their task types is taken.
pub fn register(handlers: &mut Handlers) -> Result<(), DuplicateHandler> {
    handlers.add(MakeCampaign)?;
    handlers.add(Admit)?;
    handlers.add(WaveOver)?;
    handlers.add(Record)
}
