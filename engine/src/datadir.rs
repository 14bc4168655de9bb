//! The data directory: its places, its version, its lock. Knows nothing of what lies in the places.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// The version of the data directory's layout that this engine writes and reads.
pub const LAYOUT_VERSION: u32 = 1;

const VERSION_PREFIX: &str = "patchloom data directory, version ";
/// Longer than any version file or process id.
const SMALL_FILE_BYTES_MAX: u64 = 4096;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process uses it.
    #[error("data directory {} is in use by {}: stop it, or choose another directory", path.display(), holder(*pid))]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The other process, where its lock file says so.
        pid: Option<u32>,
    },
    /// Written by another version.
    #[error(
        "data directory {} has version {found}, this program knows version {LAYOUT_VERSION}: use the program that wrote it, or choose another directory",
        path.display()
    )]
    UnknownVersion {
        /// The directory.
        path: PathBuf,
        /// What its VERSION file says.
        found: String,
    },
    /// Has files of somebody else in it.
    #[error("{} is not a data directory: it has files ({example}) and no VERSION; choose an empty directory", path.display())]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// One of the files.
        example: String,
    },
    /// Not there, or empty, where something was to be looked at.
    #[error("there is no data directory at {}", path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// The disk refused.
    #[error("cannot {attempt} {}", path.display())]
    Io {
        /// What was tried.
        attempt: &'static str,
        /// On what.
        path: PathBuf,
        /// What the disk said.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Its code in the error reference.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Locked { .. } => "E0401",
            Self::UnknownVersion { .. } => "E0402",
            Self::NotOurs { .. } => "E0403",
            Self::Missing { .. } => "E0404",
            Self::Io { .. } => "E0405",
        }
    }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

/// A data directory. Its lock, where it was opened for writing, is held until this is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: Option<File>,
}

/// The places inside, made when the directory is opened for writing.
const PLACES: [&str; 8] =
    ["journal", "snapshots", "archive", "artifacts/sha256", "changes", "cache/debs", "backups", "reports"];

impl DataDir {
    /// Opens a data directory for one process, or makes it where there is nothing or an empty directory.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::UnknownVersion`], [`Error::NotOurs`], or what the disk says.
    pub fn open(path: &Path) -> Result<Self, Error> {
        // Owner only: journals and reports name hosts and what is wrong with them.
        make_durably(path)?;
        // Before the lock, so that a directory of somebody else does not even get a lock file.
        refuse_foreign(path)?;
        let lock = lock(path)?;
        // And again: while this process waited, another one may have made it, in another version.
        refuse_foreign(path)?;
        match read_version(path)? {
            Some(found) => check_version(path, found)?,
            None => write_version(path)?,
        }
        for place in PLACES {
            let place = path.join(place);
            make_durably(&place)?;
        }
        Ok(Self { path: path.to_owned(), _lock: Some(lock) })
    }

    /// Looks into a data directory without its lock and without writing, also while an engine uses it.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::UnknownVersion`], [`Error::NotOurs`], or what the disk says.
    pub fn inspect(path: &Path) -> Result<Self, Error> {
        let missing = || Error::Missing { path: path.to_owned() };
        if !path.is_dir() {
            return Err(missing());
        }
        refuse_foreign(path)?;
        check_version(path, read_version(path)?.ok_or_else(missing)?)?;
        Ok(Self { path: path.to_owned(), _lock: None })
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The journal's segments.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// The snapshots.
    #[must_use]
    pub fn snapshots(&self) -> PathBuf {
        self.path.join("snapshots")
    }

    /// The store, made by the store itself. Damaged ones lie beside it as `store.damaged-N`.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.path.join("store")
    }

    /// Finished runs.
    #[must_use]
    pub fn archive(&self) -> PathBuf {
        self.path.join("archive")
    }

    /// Outputs of tasks by their digest; files are `sha256/ab/abcdef…` below.
    #[must_use]
    pub fn artifacts(&self) -> PathBuf {
        self.path.join("artifacts")
    }

    /// The built-in change register.
    #[must_use]
    pub fn changes(&self) -> PathBuf {
        self.path.join("changes")
    }

    /// Downloaded packages by their hash.
    #[must_use]
    pub fn cache_debs(&self) -> PathBuf {
        self.path.join("cache/debs")
    }

    /// Ways back.
    #[must_use]
    pub fn backups(&self) -> PathBuf {
        self.path.join("backups")
    }

    /// Reports.
    #[must_use]
    pub fn reports(&self) -> PathBuf {
        self.path.join("reports")
    }
}

fn io(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { attempt, path: path.to_owned(), source }
}

/// Makes a directory and those above it, and makes their names durable: a journal that is flushed in a directory whose
/// own name is not would be lost with it.
fn make_durably(path: &Path) -> Result<(), Error> {
    let made: Vec<&Path> = path.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io("create", path))?;
    for dir in made.iter().filter_map(|dir| dir.parent()) {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("flush", dir))?;
    }
    Ok(())
}

fn refuse_foreign(path: &Path) -> Result<(), Error> {
    let mut example = None;
    for entry in std::fs::read_dir(path).map_err(io("list", path))? {
        let name = entry.map_err(io("list", path))?.file_name().to_string_lossy().into_owned();
        match name.as_str() {
            "VERSION" => return Ok(()),
            // All that a first opening leaves when it dies before VERSION is there.
            "lock" | "VERSION.tmp" => {}
            _ => example = Some(name),
        }
    }
    example.map_or(Ok(()), |example| Err(Error::NotOurs { path: path.to_owned(), example }))
}

fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join("lock");
    // Not cut on opening: the file names its holder, which may not be us.
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(io("open", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let pid = small_text(&path).ok().and_then(|text| text.trim().parse().ok());
            return Err(Error::Locked { path: dir.to_owned(), pid });
        }
        Err(errno) => return Err(io("lock", &path)(errno.into())),
    }
    let name_ourselves = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    name_ourselves.map_err(io("write", &path))?;
    Ok(file)
}

fn small_text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(SMALL_FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn read_version(dir: &Path) -> Result<Option<String>, Error> {
    let path = dir.join("VERSION");
    match small_text(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io("read", &path)(error)),
    }
}

fn check_version(dir: &Path, text: String) -> Result<(), Error> {
    let text = text.trim();
    let version = text.strip_prefix(VERSION_PREFIX);
    if version.and_then(|version| version.parse().ok()) == Some(LAYOUT_VERSION) {
        return Ok(());
    }
    let found = version.map_or_else(|| format!("{text:?}"), str::to_owned);
    Err(Error::UnknownVersion { path: dir.to_owned(), found })
}

fn write_version(dir: &Path) -> Result<(), Error> {
    let (draft, path) = (dir.join("VERSION.tmp"), dir.join("VERSION"));
    let written = (|| {
        let mut file = File::create(&draft)?;
        writeln!(file, "{VERSION_PREFIX}{LAYOUT_VERSION}")?;
        file.sync_all()?;
        std::fs::rename(&draft, &path)?;
        File::open(dir)?.sync_all()
    })();
    written.map_err(io("write", &path))
}
