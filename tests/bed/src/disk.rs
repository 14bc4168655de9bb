//! File systems of their own, on loop images: one that is small and full, one that can take snapshots.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run;

/// A mounted loop image; unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Disk {
    mount_point: PathBuf,
}

impl Disk {
    /// Makes an image of `bytes` beside `mount_point` and mounts it there.
    ///
    /// # Panics
    /// Where the machine cannot: no root, no loop device.
    #[track_caller]
    pub(crate) fn make(mount_point: &Path, bytes: u64, mkfs: &[&str]) -> Self {
        let image = mount_point.with_extension("img");
        File::create(&image)
            .and_then(|file| file.set_len(bytes))
            .unwrap_or_else(|error| panic!("cannot make the image {}: {error}", image.display()));
        run(Command::new(mkfs[0]).args(&mkfs[1..]).arg(&image));
        std::fs::create_dir_all(mount_point)
            .unwrap_or_else(|error| panic!("cannot make {}: {error}", mount_point.display()));
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(mount_point));
        Self { mount_point: mount_point.to_owned() }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process that a failed test left behind must not keep the mount for ever.
        let unmounted = Command::new("umount").arg("-l").arg(&self.mount_point).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("test bed: cannot unmount {}", self.mount_point.display());
        }
    }
}
