//! The test bed: fresh, real Debian roots, and ways to make their lives hard. For tests only; it knows nothing of
//! Patchloom and panics with one clear line wherever a test could not go on.
//!
//! ```no_run
//! let root = patchloom_bed::Root::mini();
//! let before = root.packages();
//! root.modify_conffile("/etc/loom.conf");
//! // … run what is to be tested on root.path() …
//! assert_eq!(root.packages(), before);
//! ```

mod disk;
mod hardship;
mod root;
mod tree;

pub use hardship::{HeldLock, Repository};
pub use root::{Pair, Root};
pub use tree::Tree;

use std::process::Command;

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
