//! Brings .debs into a cache keyed by their hash. Installs nothing.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::Error;
use crate::artifact::hex;
use crate::host::{HostExec, Order};

/// A .deb that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Package name.
    pub name: String,
    /// Its architecture.
    pub arch: String,
    /// Version.
    pub version: String,
    /// SHA-256 in hex by the archive's index: what comes must have it.
    pub sha256: String,
    /// Size by the index.
    pub size_bytes: u64,
}

/// Cached .debs: `DIR/sha256/ab/abcdef…`. Each is complete and has the hash of its name.
#[derive(Clone, Debug)]
pub struct DebCache {
    dir: PathBuf,
}

impl DebCache {
    /// The cache in `dir`.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Where the .deb with this hash lies, or would.
    #[must_use]
    pub fn path(&self, sha256: &str) -> PathBuf {
        self.dir.join("sha256").join(sha256.get(..2).unwrap_or("xx")).join(sha256)
    }

    /// Whether a .deb of this hash is there.
    #[must_use]
    pub fn has(&self, sha256: &str) -> bool {
        self.path(sha256).is_file()
    }

    /// A directory for downloads, on the file system of the cache so that a finished file can be renamed into it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn staging(&self) -> Result<tempfile::TempDir, Error> {
        let place = self.dir.join("staging");
        let io_error = |source| Error::Io { action: "make a download directory in", path: place.clone(), source };
        fs::create_dir_all(&place).map_err(io_error)?;
        tempfile::Builder::new().prefix("get-").tempdir_in(&place).map_err(io_error)
    }

    /// Takes a file into the cache when its content has the wanted hash.
    ///
    /// # Errors
    /// [`Error::Io`]; a wrong hash is `Ok(false)`, and the file stays where it is.
    pub fn adopt(&self, file: &Path, sha256: &str) -> Result<bool, Error> {
        let io_error = |action| move |source| Error::Io { action, path: file.to_owned(), source };
        if hash_of(file).map_err(io_error("read"))? != sha256 {
            return Ok(false);
        }
        let path = self.path(sha256);
        let folder = path.parent().unwrap_or(&self.dir);
        fs::create_dir_all(folder).map_err(io_error("make a cache folder for"))?;
        // Flushed before it gets its name: whoever finds it by its hash later trusts it.
        File::open(file).and_then(|opened| opened.sync_all()).map_err(io_error("flush"))?;
        fs::rename(file, &path).map_err(io_error("rename"))?;
        Ok(true)
    }

    /// Takes what apt keeps of these in its own archive directory; tells how many.
    pub fn adopt_from_archives(&self, exec: &HostExec, wanted: &[Wanted]) -> usize {
        let archives = exec.path("/var/cache/apt/archives");
        let take = |one: &&Wanted| {
            let kept = archives.join(file_name(one));
            let Ok(staging) = self.staging() else { return false };
            let copy = staging.path().join("deb");
            kept.is_file() && fs::copy(&kept, &copy).is_ok() && self.adopt(&copy, &one.sha256).unwrap_or(false)
        };
        wanted.iter().filter(|one| !self.has(&one.sha256)).filter(take).count()
    }

    /// Downloads these with the target's own apt, from its own sources.
    ///
    /// What did not come is just not [there](DebCache::has) afterwards.
    ///
    /// # Errors
    /// When apt could not be run or was cancelled; `Ok` holds the reasons that apt gave, in its words.
    pub async fn download(
        &self,
        exec: &HostExec,
        wanted: &[Wanted],
        timeout: Duration,
        cancel: &CancellationToken,
    ) -> Result<Vec<String>, Error> {
        let staging = self.staging()?;
        let seen = exec.shared_path(staging.path()).to_string_lossy().into_owned();
        let mut argv: Vec<String> =
            ["apt-get", "-q", "-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=20"].map(str::to_owned).into();
        if exec.is_root() {
            // apt's own download user cannot write to our directory.
            argv.extend(["-o", "APT::Sandbox::User=root"].map(str::to_owned));
        }
        argv.push("download".to_owned());
        argv.extend(wanted.iter().map(|one| format!("{}={}", one.name, one.version)));
        let order = Order::reading(argv).share(staging.path()).dir(&seen).timeout(timeout).keep(64 << 10);
        let ran = exec.run(&order, cancel).await?;
        let cache = self.clone();
        let wanted = wanted.to_vec();
        let adopted = tokio::task::spawn_blocking(move || {
            let mut wrong = Vec::new();
            for one in &wanted {
                let file = staging.path().join(file_name(one));
                if file.is_file() && !cache.adopt(&file, &one.sha256)? {
                    wrong.push(format!("{} {} came with another hash than its index names", one.name, one.version));
                }
            }
            Ok::<_, Error>(wrong)
        });
        let mut reasons = adopted.await.unwrap_or_else(|error| Ok(vec![error.to_string()]))?;
        if !ran.ok() {
            match super::failed(exec, &ran) {
                cancelled @ Error::Cancelled { .. } => return Err(cancelled),
                failed => reasons.push(why(&ran.text()).unwrap_or_else(|| failed.to_string())),
            }
        }
        Ok(reasons)
    }
}

/// Why apt could not fetch something: what stands behind the address in its first complaint, so that the same cause
/// reads the same for every package.
fn why(text: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix("E: Failed to fetch "))?;
    let (_, reason) = line.split_once("  ")?;
    Some(reason.trim().trim_end_matches(':').to_owned())
}

/// The name under which apt stores a .deb: the colon of an epoch is escaped.
fn file_name(wanted: &Wanted) -> String {
    format!("{}_{}_{}.deb", wanted.name, wanted.version.replace(':', "%3a"), wanted.arch)
}

/// SHA-256 of a file, in hex.
fn hash_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 256 << 10];
    loop {
        let count = file.read(&mut chunk)?;
        if count == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&chunk[..count]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_with_the_right_hash_is_adopted() {
        let dir = tempfile::tempdir().unwrap();
        let cache = DebCache::new(dir.path().join("debs"));
        let file = dir.path().join("x.deb");
        let right = hex(&Sha256::digest(b"content"));
        fs::write(&file, "other").unwrap();
        assert!(!cache.adopt(&file, &right).unwrap());
        assert!(!cache.has(&right));
        fs::write(&file, "content").unwrap();
        assert!(cache.adopt(&file, &right).unwrap());
        assert!(cache.has(&right) && !file.exists());
    }

    #[test]
    fn the_cause_of_a_failed_download_is_told_without_its_address() {
        let text = "Err:1 http://a x\nE: Failed to fetch http://a/p_1.deb  404  Not Found [IP: 10.0.0.1 80]\nE: Unable";
        assert_eq!(why(text).as_deref(), Some("404  Not Found [IP: 10.0.0.1 80]"));
        assert_eq!(why("E: something else"), None);
    }

    #[test]
    fn an_epoch_is_escaped_in_a_file_name() {
        let wanted = Wanted {
            name: "login".to_owned(),
            arch: "amd64".to_owned(),
            version: "1:4.13+dfsg1-1".to_owned(),
            sha256: String::new(),
            size_bytes: 0,
        };
        assert_eq!(file_name(&wanted), "login_1%3a4.13+dfsg1-1_amd64.deb");
    }
}
