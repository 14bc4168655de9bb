//! The target as a place where commands run and files lie. Knows nothing of packages, of tasks or of workflows.

mod capture;
mod enter;
mod exec;

pub use capture::Captured;
pub use exec::{Error, Exit, HostExec, Order, Ran};
