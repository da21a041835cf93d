//! Small operations on files that belong to us alone: owners, removal, syncing.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{Error, Result};

/// The error for a failed call on a path.
pub(crate) fn fail(path: &Path, what: &str, cause: &io::Error) -> Error {
    Error::io(path.display(), what, cause)
}

/// The owner of a file or directory, for new files; `None` without root, which owns its files in any case.
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

/// Syncs everything on a directory's file system to disk.
pub(crate) fn sync(dir: &Path) -> Result<()> {
    let file = File::open(dir).map_err(|cause| fail(dir, "cannot open", &cause))?;
    rustix::fs::syncfs(&file).map_err(|cause| fail(dir, "cannot sync", &cause.into()))
}

/// Removes a file, which need not exist.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(fail(path, "cannot remove", &cause)),
        _ => Ok(()),
    }
}
