//! Allows one `xb-redo` at a time in a directory, including the servers that it starts. The lock file is empty, because
//! it is also a server's standard input.

use std::fs::{File, Metadata, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::files::{self, fail};
use crate::error::Result;
use crate::report::{Level, Report};
use crate::stream::native::names::LOCK;

/// Locks the directory for this run and the servers that it starts; waits for a server that an interrupted run has
/// left.
pub(super) fn take(dir: &Path, report: &dyn Report) -> Result<File> {
    let path = dir.join(LOCK);
    let mut told = false;
    loop {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|cause| fail(&path, "cannot write", &cause))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            // The last holder may have removed the file, and another run created a new one.
            Ok(()) if is_at(&file, &path) => return Ok(file),
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                if !told {
                    let what = "another xb-redo, or a server that one left behind, is at work here; waiting for it";
                    report.note(Level::Info, format_args!("{}: {what}", dir.display()));
                    told = true;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            Err(errno) => return Err(fail(&path, "cannot lock", &errno.into())),
        }
    }
}

/// True if this open file is still the one with this name.
fn is_at(file: &File, path: &Path) -> bool {
    let place = |data: Metadata| (data.dev(), data.ino());
    file.metadata().ok().map(place).is_some_and(|open| path.metadata().ok().map(place) == Some(open))
}

/// Releases the lock and removes the file.
pub(super) fn give_back(dir: &Path) -> Result<()> {
    files::remove(&dir.join(LOCK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_whose_file_was_replaced_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LOCK);
        let first = take(dir.path(), &()).unwrap();
        assert!(is_at(&first, &path));
        give_back(dir.path()).unwrap();
        assert!(!is_at(&first, &path));
        let second = take(dir.path(), &()).unwrap();
        assert!(is_at(&second, &path) && !is_at(&first, &path));
    }
}
