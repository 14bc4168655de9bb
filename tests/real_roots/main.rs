//! The binary on real roots: what it installs, what it leaves alone, how it comes back from what goes wrong.
//!
//! Each test unpacks a root of its own and has a data directory of its own. What is asserted is what a user could see:
//! the exit code, the summary, report.json, the change register, and above all the root itself.

mod adjusted;
mod bench;
mod done;
mod machine;
mod mixed;
mod refused;
mod rpm;
mod served;
mod undone;
