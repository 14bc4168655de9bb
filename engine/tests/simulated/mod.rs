//! One simulated world: a disk, a journal, a leader, workers and operators, all drawn from one seed.

pub mod books;
#[path = "../../core/tests/world/people.rs"]
pub mod core_people;
#[path = "../../core/tests/world/generator.rs"]
pub mod core_world;
pub mod people;
pub mod world;

pub use core_world::Dice;
