//! The pure heart of the engine: definitions, expressions, the state machine of a run.
//!
//! Nothing here does IO, reads a clock, draws a random number, logs or awaits: time and seeds are arguments.
//! It knows nothing of patches, of journals or of the network.

mod definition;
mod diagnostic;
mod expr;
mod id;
mod task;
mod template;
mod time;
mod yaml;

pub use definition::{Action, Compensate, Definition, Digest, ForEach, Input, Retry, Set, Step, Wait};
pub use diagnostic::{Diagnostic, Diagnostics, Place, Span, nearest, place};
pub use id::{Leg, RunId, StepName, TaskKey};
pub use task::{Failure, FailureClass, Outcome, Task, TaskTimeouts};
pub use time::{Millis, UtcMs};
