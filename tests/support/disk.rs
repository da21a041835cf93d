//! A file system whose files can share blocks.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{Pipeline, cannot, output, program, root, scratch};

/// Much more than a small server; the image is sparse.
const SIZE: u64 = 1 << 30;

/// btrfs in an image. Dropped, it is unmounted.
pub struct SharingDisk {
    /// The image, and where it is mounted.
    directory: TempDir,
}

impl SharingDisk {
    /// None where images cannot be mounted, as for an ordinary user and in most containers, which is said.
    pub fn new() -> Option<SharingDisk> {
        if !root() {
            cannot("an image can be mounted only by root");
            return None;
        }
        let directory = scratch();
        let (image, place) = (directory.path().join("image"), directory.path().join("disk"));
        File::create(&image).unwrap().set_len(SIZE).unwrap();
        std::fs::create_dir(&place).unwrap();
        let mut make = program("mkfs.btrfs");
        make.arg("--quiet").arg(&image);
        output(sbin(make));
        let mut mount = program("mount");
        mount.args(["-t", "btrfs", "-o", "loop"]).arg(&image).arg(&place);
        let mounted = Pipeline::new().stage(mount).run();
        if mounted.codes() != [0] {
            cannot(&format!("no image can be mounted here: {}", mounted.stderr(0).trim_end()));
            return None;
        }
        Some(SharingDisk { directory })
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("disk")
    }
}

impl Drop for SharingDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

/// Whether a file shares all of its blocks with others; `None` if it has no blocks, because it is empty, a hole, or
/// stored in its inode.
pub fn shared(file: &Path) -> Option<bool> {
    let mut map = program("filefrag");
    map.args(["-s", "-v"]).arg(file);
    let told = output(sbin(map));
    // "   0:        0..     732:       3328..      4060:    733:             last,shared,eof"
    let extents = told.lines().filter(|line| line.trim_start().starts_with(|first: char| first.is_ascii_digit()));
    let flags: Vec<&str> = extents.map(|line| line.rsplit(':').next().unwrap()).collect();
    let own: Vec<&&str> = flags.iter().filter(|flags| !flags.contains("inline")).collect();
    (!own.is_empty()).then(|| own.iter().all(|flags| flags.contains("shared")))
}

/// With the places where an ordinary user's PATH does not look.
fn sbin(mut command: Command) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}
