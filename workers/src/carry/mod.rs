//! Tasks that are carried to the host they are about, and done there by the handlers that do them here. No daemon stays.
//!
//! The worker brings this very binary to the host and asks it (`patchloom host ask`); a task runs there in a process of
//! its own (`patchloom host run`) that no lost connection ends, and leaves its outcome in a file. Whoever asks again
//! under the same key finds the task at work, its outcome, or that its process died: then it is started again.

mod carrier;
mod handler;
mod message;
mod post;
mod runner;
mod station;
mod way;

pub use carrier::Carrier;
pub(crate) use handler::Carried;
pub(crate) use post::{Post, Standing};
pub use runner::{RunnerError, run};
pub use station::answer;
pub(crate) use station::wait_for_word;

/// A process of a carried task looks this often whether somebody has a word for it.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(200);
