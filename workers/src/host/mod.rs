//! The target as a place where commands run and files lie. Knows nothing of packages, of tasks or of workflows.

mod capture;
mod enter;
mod error;
mod exec;
mod far;

pub use capture::Captured;
pub use error::Error;
pub use exec::{Exit, HostExec, Order, Ran};
pub(crate) use far::Far;
