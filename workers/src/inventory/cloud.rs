//! What AWS answered, kept as sources, and the tags that its instances should have otherwise.

use std::fs;
use std::path::{Path, PathBuf};

use patchloom_domain::inventory::{SourceKind, TagPatch};

use super::Error;
use crate::aws::InstanceTag;

/// Keeps what AWS answered below a data directory, where later reads find it: names of files, and what stands in them.
///
/// # Errors
/// [`Error::Io`] where that cannot be written.
pub fn keep_answers(root: &Path, answers: Vec<(String, String)>) -> Result<Vec<PathBuf>, Error> {
    let dir = root.join("inventory/aws");
    let dir = std::path::absolute(&dir).map_err(|source| Error::Io { action: "find", path: dir, source })?;
    fs::create_dir_all(&dir).map_err(|source| Error::Io { action: "create", path: dir.clone(), source })?;
    let keep = |(name, text): (String, String)| {
        let path = dir.join(name);
        match fs::write(&path, text) {
            Ok(()) => Ok(path),
            Err(source) => Err(Error::Io { action: "write", path, source }),
        }
    };
    answers.into_iter().map(keep).collect()
}

/// The tags that instances should have otherwise: of what was just asked, not of answers kept from before or of other regions.
#[must_use]
pub fn instance_tags(patches: &[TagPatch], asked: &[PathBuf]) -> Vec<InstanceTag> {
    let fresh = |patch: &&TagPatch| {
        patch.kind == SourceKind::Ec2
            && patch.resource.starts_with("i-")
            && asked.iter().any(|path| path.as_path() == Path::new(&patch.source))
    };
    let tag = |patch: &TagPatch| InstanceTag {
        instance: patch.resource.clone(),
        key: patch.key.clone(),
        value: patch.value.clone(),
        was: patch.was.clone(),
    };
    patches.iter().filter(fresh).map(tag).collect()
}
