//! One simulated world: a disk, a journal, a leader, workers and operators, all drawn from one seed.

pub mod books;
#[path = "../../core/tests/world/mod.rs"]
#[allow(dead_code, reason = "only its dice and its definitions are wanted here")]
pub mod core_world;
pub mod people;
pub mod world;
