//! Small steps on files that belong to us alone: owners, removal, syncing.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{Error, Result};

/// A failed call on a path.
pub(crate) fn fail(path: &Path, what: &str, cause: &io::Error) -> Error {
    Error::io(path.display(), what, cause)
}

/// The owner of a file or directory, to be given to others; `None` without root, whose files are its own in any case.
pub(crate) fn owner(path: &Path) -> Result<Option<(u32, u32)>> {
    let data = fs::metadata(path).map_err(|cause| fail(path, "cannot read", &cause))?;
    Ok(rustix::process::geteuid().is_root().then_some((data.uid(), data.gid())))
}

/// Sets a file's owner.
pub(crate) fn give(path: &Path, owner: Option<(u32, u32)>) -> Result<()> {
    let Some((user, group)) = owner else { return Ok(()) };
    std::os::unix::fs::lchown(path, Some(user), Some(group))
        .map_err(|cause| fail(path, "cannot set the owner", &cause).hint("only root can give files to another user"))
}

/// Writes everything below a directory to disk.
pub(crate) fn sync(dir: &Path) -> Result<()> {
    let file = File::open(dir).map_err(|cause| fail(dir, "cannot open", &cause))?;
    rustix::fs::syncfs(&file).map_err(|cause| fail(dir, "cannot sync", &cause.into()))
}

/// Removes a file that may be missing.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(fail(path, "cannot remove", &cause)),
        _ => Ok(()),
    }
}
