//! One simulated world: a disk, a journal, a leader, workers and operators, all drawn from one seed.

pub mod books;
#[path = "../../../core/tests/world/people.rs"]
pub mod core_people;
#[path = "../../../core/tests/world/generator.rs"]
pub mod core_world;
#[path = "../../../core/tests/world/limits.rs"]
mod limits;
pub mod people;
#[path = "../../../core/tests/world/sources.rs"]
mod sources;
mod triggers;
#[path = "../../../core/tests/world/watch.rs"]
pub mod watch;
pub mod world;

pub use core_world::Dice;
