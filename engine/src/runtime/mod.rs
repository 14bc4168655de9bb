//! The leader of a partition at work: intake, group commit, effects, timers, and what is kept behind the journal.
//!
//! Knows the ports and the pure machine; not what any task does.

mod behind;
mod books;
mod export;
mod follow;
mod handle;
mod history;
mod inspect;
mod keeper;
mod leader;
mod past;
mod planner;
mod publish;
mod recovery;
mod release;
mod retention;

pub use books::{Archived, Books, HistoryError};
pub use export::{Difference, EXPORT_FORMAT, Exported, Line, Point, Replayed, Told};
pub use follow::{BoxFuture, Follow, Forward};
pub use handle::{EngineError, Handle, Intake, Notice, Seen, StartRun, Status};
pub use history::Item;
pub use inspect::{Found, Inspected, inspect};
pub use keeper::{EmbeddedKeeper, Keeper, KeeperOptions, Kept, NoKeeper, Shelf, Work};
pub use leader::{Leader, Tuning};
pub use past::{Past, Until, told};
pub use patchloom_core::run::Run as RunState;
pub use planner::{HORIZON, SPANS_MAX, calendar_events};
pub use publish::Published;
pub use recovery::{Engine, EngineOptions, OpenError, Recovered, Seat, open, recover};
