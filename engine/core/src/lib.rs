//! The pure heart of the engine: definitions, expressions, the state machine of a run.
//!
//! Nothing here does IO, reads a clock, draws a random number, logs or awaits: time and seeds are arguments.
//! It knows nothing of patches, of journals or of the network.

mod id;
mod time;

mod task;

mod diagnostic;
pub mod yaml;

mod fields;

pub mod calendar;

mod expr;
mod template;
mod types;

mod contract;
mod definition;
mod schema;
mod unwind;

mod effect;
mod event;
pub mod record;

mod backoff;
mod partition;
pub mod run;
pub mod shared;
mod triggers;
pub mod wire;

pub use calendar::Span as OpenSpan;
pub use contract::{Contract, Contracts};
pub use definition::{
    Action, CatchUp, Change, Compensate, Concurrency, Definition, Definitions, Digest, Draft, Emit, EventTrigger,
    EventWait, ForEach, Gate, Input, OnExceed, OnFailure, OnFull, OnTimeout, Overlap, Per, Portion, Rate, Retry,
    ScheduleTrigger, Set, SignalWait, Step, Tolerate, Trigger, Wait, Wave, Window, World, differences,
};
pub use diagnostic::{Diagnostic, Diagnostics, Place, Span, nearest, place};
pub use effect::{Effect, EffectKey};
pub use event::{
    BATCH_BYTES_MAX, BATCH_EVENTS_MAX, BATCH_TYPE, BinaryMessage, CloudEvent, EVENT_BYTES_MAX, EVENT_TYPE,
    EventMistake, NoEvents,
};
pub use expr::{EvalError, Expr, Reference, Scope};
pub use id::{Leg, QueueName, QueueNameError, RunId, StepName, TaskKey};
pub use partition::{KEY_KEPT, Partition, RowError, StartKey};
pub use schema::{reference, schema};
pub use task::{
    Failure, FailureClass, OWN_TYPES, Outcome, TOLD_BYTES_MAX, TOLD_MAX, TOLD_NAME_MAX, Task, TaskTimeouts, Told,
};
pub use template::{Part, Template};
pub use time::{Millis, SpanError, UtcMs};
pub use triggers::{CATCH_UP_MAX, CatchUpPlan, LATE, ScheduleKey, Scheduled, catch_up, jitter};
pub use unwind::{How, Known, Undoing, WayBack, ways_back};
