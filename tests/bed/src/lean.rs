//! A program without what only a debugger reads.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run;

/// The same program without its symbols, a third of the bytes to carry to a host and to hash there: `lean/NAME` beside it, made
/// again when it was.
///
/// # Panics
/// With one line, where binutils or the program are missing.
#[must_use]
#[track_caller]
pub fn lean(program: &str) -> PathBuf {
    let program = Path::new(program);
    let made = |path: &Path| fs::metadata(path).and_then(|known| known.modified()).ok();
    let (Some(dir), Some(name), Some(of)) = (program.parent(), program.file_name(), made(program)) else {
        panic!("there is no program {}", program.display());
    };
    let (dir, lean) = (dir.join("lean"), dir.join("lean").join(name));
    if made(&lean) != Some(of) {
        fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("cannot make {}: {error}", dir.display()));
        // Other tests make it at the same time, and run it.
        let new = tempfile::NamedTempFile::new_in(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        let new = new.into_temp_path();
        run(Command::new("strip").arg("-o").arg(&new).arg(program));
        // The very date, not just a later one: a build may put a former program back.
        let dated = fs::set_permissions(&new, Permissions::from_mode(0o755))
            .and_then(|()| fs::File::open(&new))
            .and_then(|file| file.set_modified(of));
        dated.unwrap_or_else(|error| panic!("cannot date {}: {error}", lean.display()));
        new.persist(&lean).unwrap_or_else(|error| panic!("cannot make {}: {error}", lean.display()));
    }
    lean
}
