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

pub use hardship::{HeldLock, Repository};
pub use root::{Pair, Root};

use std::process::Command;

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
