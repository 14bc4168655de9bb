//! The state of one run, and the pure machine that moves it.
//!
//! `apply` is total: a record that does not fit is refused, never a panic. What moves it stands in `forward` (the
//! steps), `work` and `admit` (their items, and which may start), `waves`, `signals`, `unwind` (the way back), `orders` and `operate` (what people and
//! parents ask for); what it owes in `pending`.

mod admit;
mod fact;
mod forward;
mod items;
mod lanes;
mod machine;
mod operate;
mod orders;
mod pending;
mod reopen;
mod scope;
mod signals;
mod state;
mod unwind;
mod waits;
mod waves;
mod why;
mod work;

pub use fact::{EVENT_TYPES, Fact, FactKind};
pub use items::Items;
pub use lanes::{Lanes, Limit};
pub use machine::{Applied, Refusal, apply};
pub(crate) use machine::{begin, look, nudge};
pub(crate) use pending::emission;
pub use pending::pending;
pub(crate) use reopen::migrate;
pub use state::*;
pub(crate) use waits::{as_key, deliver, key as wait_key, waiting as event_waits};
pub use why::{Reason, why};
