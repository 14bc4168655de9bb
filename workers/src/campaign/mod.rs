//! A campaign over many hosts: one plan and one change for all, an admission for each before it begins, and its outcome on the
//! change, whatever becomes of it.

mod admit;
mod contracts;
mod history;
mod paused;
mod plan;
mod reach;
mod reach_rpm;
mod record;
#[cfg(test)]
mod tests;
mod wave;

use crate::carry::{Carried, Carrier};
use crate::runtime::{DuplicateHandler, Handlers};

pub use admit::Admit;
pub(crate) use contracts::contracts;
pub use history::{History, HistoryError, HistoryStore, Look, Sample};
pub use paused::Paused;
pub use plan::{CHANGE_WINDOW, MakeCampaign, Planning};
pub use record::Record;
pub use wave::WaveOver;

/// Adds all handlers of this module; what is asked on hosts that are other machines is carried there by `carrier`.
///
/// # Errors
/// [`DuplicateHandler`] when one of their task types is taken.
pub fn register(handlers: &mut Handlers, carrier: &Carrier) -> Result<(), DuplicateHandler> {
    handlers.add(MakeCampaign)?;
    handlers.add(Admit)?;
    handlers.add(Paused)?;
    handlers.add(reach::Reach::new(carrier))?;
    handlers.add(Carried::new(reach::Refresh, carrier))?;
    handlers.add(WaveOver)?;
    handlers.add(Record)
}

/// Adds the handlers of what is carried to a host, for the process that does it there.
pub(crate) fn register_inner(handlers: &mut Handlers) -> Result<(), DuplicateHandler> {
    handlers.add(reach::ReachHere)?;
    handlers.add(reach::Refresh)
}
