//! A store of blobs named by their content, in a directory. Knows nothing of what they hold.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// A blob larger than this is refused on writing and on reading.
pub const ARTIFACT_BYTES_MAX: u64 = 256 << 20;

/// The name of a blob: `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArtifactId(String);

/// What could not be done with a blob.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The text names no blob.
    #[error("'{0}' is no artifact id: it must be sha256: and 64 hexadecimal digits")]
    Id(String),
    /// Not there.
    #[error("artifact {id} is not in {dir}")]
    Absent {
        /// The blob.
        id: ArtifactId,
        /// The directory of the store.
        dir: PathBuf,
    },
    /// Its bytes are not those of its name.
    #[error("artifact {id} is damaged: its content has the digest {found}")]
    Damaged {
        /// The blob.
        id: ArtifactId,
        /// What its bytes come to.
        found: ArtifactId,
    },
    /// Too large.
    #[error("artifact of {bytes} bytes is larger than {ARTIFACT_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// No JSON of the wanted shape.
    #[error("cannot {action} artifact as JSON")]
    Json {
        /// Read or write.
        action: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The operating system refused.
    #[error("cannot {action} artifact file {path}")]
    Io {
        /// What we tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ArtifactError {
    /// Its page in docs/errors.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Id(_) | Self::Json { .. } => "E0701",
            Self::Absent { .. } => "E0702",
            Self::Damaged { .. } => "E0703",
            Self::TooLarge { .. } => "E0704",
            Self::Io { .. } => "E0705",
        }
    }
}

impl ArtifactId {
    /// The name that `bytes` have.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(format!("sha256:{}", hex(&Sha256::digest(bytes))))
    }

    /// The 64 digits alone.
    #[must_use]
    pub fn hex(&self) -> &str {
        self.0.trim_start_matches("sha256:")
    }

    /// The whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl FromStr for ArtifactId {
    type Err = ArtifactError;

    fn from_str(text: &str) -> Result<Self, ArtifactError> {
        let is_hex =
            |digits: &str| digits.len() == 64 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match text.strip_prefix("sha256:") {
            Some(digits) if is_hex(digits) => Ok(Self(text.to_owned())),
            Some(_) | None => Err(ArtifactError::Id(text.to_owned())),
        }
    }
}

impl fmt::Display for ArtifactId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for ArtifactId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ArtifactId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The store: `DIR/sha256/ab/abcdef…`.
///
/// # Durability
/// A blob whose `put` returned survives a crash; one that is there is whole, or reading it says that it is damaged.
#[derive(Clone, Debug)]
pub struct ArtifactStore {
    dir: PathBuf,
}

impl ArtifactStore {
    /// The store in `dir`, which is made when the first blob comes.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Keeps `bytes` and tells their name. The same bytes are kept once.
    ///
    /// # Errors
    /// [`ArtifactError::TooLarge`], or [`ArtifactError::Io`].
    pub fn put(&self, bytes: &[u8]) -> Result<ArtifactId, ArtifactError> {
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if size > ARTIFACT_BYTES_MAX {
            return Err(ArtifactError::TooLarge { bytes: size });
        }
        let id = ArtifactId::of(bytes);
        if self.get(&id).is_ok() {
            return Ok(id);
        }
        let path = self.path(&id);
        let folder = path.parent().unwrap_or(&self.dir);
        fs::create_dir_all(folder).map_err(io_error("make the folder of", &path))?;
        let mut temp = tempfile::NamedTempFile::new_in(folder).map_err(io_error("create", &path))?;
        temp.write_all(bytes).map_err(io_error("write", &path))?;
        temp.as_file().sync_all().map_err(io_error("flush", &path))?;
        temp.persist(&path).map_err(|error| error.error).map_err(io_error("rename", &path))?;
        // The name lives in the folder: without this the blob could be there and its name not.
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error("flush the folder of", &path))?;
        Ok(id)
    }

    /// The bytes of a blob, checked against its name.
    ///
    /// # Errors
    /// [`ArtifactError::Absent`], [`ArtifactError::Damaged`], [`ArtifactError::TooLarge`] or [`ArtifactError::Io`].
    pub fn get(&self, id: &ArtifactId) -> Result<Vec<u8>, ArtifactError> {
        let path = self.path(id);
        let file = File::open(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ArtifactError::Absent { id: id.clone(), dir: self.dir.clone() },
            _ => ArtifactError::Io { action: "open", path: path.clone(), source },
        })?;
        let mut bytes = Vec::new();
        file.take(ARTIFACT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(io_error("read", &path))?;
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if size > ARTIFACT_BYTES_MAX {
            return Err(ArtifactError::TooLarge { bytes: size });
        }
        match ArtifactId::of(&bytes) {
            found if found == *id => Ok(bytes),
            found => Err(ArtifactError::Damaged { id: id.clone(), found }),
        }
    }

    /// Keeps a value as JSON.
    ///
    /// # Errors
    /// As [`ArtifactStore::put`], and [`ArtifactError::Json`].
    pub fn put_json<T: Serialize>(&self, value: &T) -> Result<ArtifactId, ArtifactError> {
        let bytes = serde_json::to_vec(value).map_err(|source| ArtifactError::Json { action: "write", source })?;
        self.put(&bytes)
    }

    /// Reads a value back from JSON.
    ///
    /// # Errors
    /// As [`ArtifactStore::get`], and [`ArtifactError::Json`].
    pub fn get_json<T: DeserializeOwned>(&self, id: &ArtifactId) -> Result<T, ArtifactError> {
        serde_json::from_slice(&self.get(id)?).map_err(|source| ArtifactError::Json { action: "read", source })
    }

    /// Where a blob lies.
    #[must_use]
    pub fn path(&self, id: &ArtifactId) -> PathBuf {
        self.dir.join("sha256").join(&id.hex()[..2]).join(id.hex())
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ArtifactError {
    let path = path.to_owned();
    move |source| ArtifactError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_by_its_name_and_lies_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = ArtifactStore::new(dir.path());
        let id = store.put_json(&vec![1, 2, 3]).unwrap();
        assert_eq!(store.put(b"[1,2,3]").unwrap(), id);
        assert_eq!(store.get_json::<Vec<u32>>(&id).unwrap(), [1, 2, 3]);
        assert_eq!(id.as_str().parse::<ArtifactId>().unwrap(), id);
        assert_eq!(fs::read_dir(store.path(&id).parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_damaged_blob_is_told_and_healed_by_the_next_put() {
        let dir = tempfile::tempdir().unwrap();
        let store = ArtifactStore::new(dir.path());
        let id = store.put(b"right").unwrap();
        fs::write(store.path(&id), b"wrong").unwrap();
        assert_eq!(store.get(&id).unwrap_err().code(), "E0703");
        store.put(b"right").unwrap();
        assert_eq!(store.get(&id).unwrap(), b"right");
    }

    #[test]
    fn what_is_absent_or_no_name_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let store = ArtifactStore::new(dir.path());
        assert_eq!(store.get(&ArtifactId::of(b"x")).unwrap_err().code(), "E0702");
        for text in ["", "sha256:", "sha256:../../etc/passwd", "md5:00"] {
            assert!(text.parse::<ArtifactId>().is_err(), "{text}");
        }
    }
}
