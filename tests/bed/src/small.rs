//! A small disk in memory: a test fills it and frees it again.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

const PIECE_BYTES: usize = 64 * 1024;

/// A mounted file system of a given size; unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    mount_point: PathBuf,
}

impl SmallDisk {
    /// Mounts one of so many MiB at `mount_point`, which is made. Where this machine does not let us mount, it says so in one
    /// line and gives nothing: the test goes on without.
    #[must_use]
    pub fn mount(mount_point: &Path, mib: u32) -> Option<Self> {
        let made = std::fs::create_dir_all(mount_point).map_err(|error| error.to_string());
        let size = std::ffi::CString::new(format!("size={mib}m")).map_err(|error| error.to_string());
        let mounted = made.and(size).and_then(|size| {
            let flags = MountFlags::NODEV | MountFlags::NOSUID;
            mount("tmpfs", mount_point, "tmpfs", flags, size.as_c_str()).map_err(|error| error.to_string())
        });
        match mounted {
            Ok(()) => Some(Self { mount_point: mount_point.to_owned() }),
            Err(error) => {
                eprintln!("left out: a disk cannot be mounted at {} here: {error}", mount_point.display());
                None
            }
        }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.mount_point
    }

    /// Fills it to the last byte.
    ///
    /// # Panics
    /// Where it cannot be written for another reason than that it is full.
    #[track_caller]
    pub fn fill(&self) {
        let opened = File::options().create(true).append(true).open(self.ballast());
        let mut file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::StorageFull => return,
            Err(error) => panic!("cannot write {}: {error}", self.ballast().display()),
        };
        let piece = vec![0_u8; PIECE_BYTES];
        loop {
            match file.write(&piece) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return,
                Err(error) => panic!("cannot fill {}: {error}", self.mount_point.display()),
            }
        }
    }

    /// Makes room again.
    ///
    /// # Panics
    /// Where what filled it cannot be removed.
    #[track_caller]
    pub fn free(&self) {
        match std::fs::remove_file(self.ballast()) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => panic!("cannot remove {}: {error}", self.ballast().display()),
        }
    }

    fn ballast(&self) -> PathBuf {
        self.mount_point.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that a failed test left behind must not keep the mount for ever.
        if let Err(error) = unmount(&self.mount_point, UnmountFlags::DETACH) {
            eprintln!("test bed: cannot unmount {}: {error}", self.mount_point.display());
        }
    }
}
