//! The test bed: fresh, real Debian roots and NATS servers, and ways to make their lives hard. For tests only; it knows nothing of
//! Patchloom and panics with one clear line wherever a test could not go on.
//!
//! ```no_run
//! let root = patchloom_bed::Root::mini();
//! let before = root.packages();
//! root.modify_conffile("/etc/loom.conf");
//! // … run what is to be tested on root.path() …
//! assert_eq!(root.packages(), before);
//! ```

pub mod cloud;
mod disk;
pub mod fleet;
mod hardship;
pub mod hypervisor;
mod lean;
pub mod nats;
mod process;
mod root;
mod small;
mod tree;
mod vm;

pub use hardship::{HeldLock, Repository};
pub use lean::lean;
pub use process::Process;
pub use root::{Pair, Root};
pub use small::SmallDisk;
pub use tree::Tree;
pub use vm::Vm;

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// Whether this run leaves the tests on real roots out: `tests/run --quick` says so.
///
/// Each such test begins with `if patchloom_bed::left_out() { return; }`.
#[must_use]
pub fn left_out() -> bool {
    let left_out = std::env::var_os("PATCHLOOM_TEST_QUICK").is_some();
    if left_out {
        eprintln!("left out: this test needs a real root, and the run is a quick one");
    }
    left_out
}

/// Where tests/run keeps what it fetched and built.
fn cache() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("PATCHLOOM_TEST_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("patchloom-tests")))
        .or_else(|| set("HOME").map(|dir| dir.join(".cache/patchloom-tests")))
}

/// A temporary directory that says whose it is: tests/run clears those of processes that are gone.
#[track_caller]
fn home() -> TempDir {
    tempfile::Builder::new()
        .prefix(&format!("patchloom-bed-{}-", std::process::id()))
        .tempdir()
        .unwrap_or_else(|error| panic!("cannot make a temporary directory: {error}"))
}

/// Runs a command and returns what it printed; panics with its errors where it fails.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} ended with {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
