//! What the changelog of one .deb says, kept by the hash of that .deb, so that it is read once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use patchloom_domain::{ChangelogEntry, changelog_entries};
use serde::{Deserialize, Serialize};

use crate::apt::deb::{ChangelogOf, changelog_of};
use crate::failure::chain;

/// Raised when reading learns more: older records are then read anew.
const FORMAT: u32 = 1;

/// What one .deb says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Says {
    /// Its entries, newest first.
    Entries(Vec<ChangelogEntry>),
    /// See the package of this name.
    Sibling(String),
    /// Nothing, or nothing that is a Debian changelog.
    Nothing,
}

#[derive(Serialize, Deserialize)]
struct Record {
    format: u32,
    says: Says,
}

/// Records by hash: `DIR/abcdef….json`.
#[derive(Clone, Debug)]
pub(super) struct Records {
    dir: PathBuf,
}

impl Records {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// What is on record; a record that is damaged or of another format counts as none.
    pub(super) fn get(&self, sha256: &str) -> Option<Says> {
        let bytes = fs::read(self.path(sha256)).ok()?;
        serde_json::from_slice::<Record>(&bytes).ok().filter(|record| record.format == FORMAT).map(|record| record.says)
    }

    /// Reads the .deb of package `name` at `file` and records what it says.
    pub(super) fn read(&self, file: &Path, name: &str, sha256: &str) -> Result<Says, String> {
        let opened = File::open(file).map_err(|error| format!("cannot open the package: {error}"))?;
        let says = match changelog_of(opened, name).map_err(|error| chain(&error))? {
            ChangelogOf::Text(text) => match changelog_entries(&text) {
                entries if entries.is_empty() => Says::Nothing,
                entries => Says::Entries(entries),
            },
            ChangelogOf::Sibling(sibling) => Says::Sibling(sibling),
            ChangelogOf::None => Says::Nothing,
        };
        self.put(sha256, &says);
        Ok(says)
    }

    /// Best effort: without the record the .deb is read again next time.
    fn put(&self, sha256: &str, says: &Says) {
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(&self.dir)?;
            let temp = tempfile::NamedTempFile::new_in(&self.dir)?;
            serde_json::to_writer(&temp, &Record { format: FORMAT, says: says.clone() })?;
            temp.persist(self.path(sha256)).map_err(|error| error.error)?;
            Ok(())
        };
        if let Err(error) = write() {
            tracing::debug!(%error, "changelog record not kept");
        }
    }

    fn path(&self, sha256: &str) -> PathBuf {
        self.dir.join(format!("{sha256}.json"))
    }
}
