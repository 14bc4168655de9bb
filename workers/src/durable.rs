//! Files that survive a crash: replaced as a whole and synced, with the name. Knows nothing of what is in them.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Replaces `path` as a whole: after a crash at any moment it is the old file or the new one.
///
/// # Durability
/// Content and name are synced when this returns.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    sync_dir(dir)
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
