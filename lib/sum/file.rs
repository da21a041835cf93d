//! Writes a file completely, or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The file for the sums at the end of a run.
#[derive(Debug)]
pub(super) struct Target {
    path: PathBuf,
    /// True for a pipe or device, which cannot be replaced.
    special: bool,
}

impl Target {
    /// Checks early that a file can be written. Removes one of an earlier run: if this run fails, it would look like
    /// the result of this run.
    pub(super) fn prepare(path: &Path) -> Result<Target> {
        let fault = |cause: io::Error| Error::io(path.display(), "cannot be written", &cause);
        // The target of a symbolic link.
        let (path, special) = match fs::canonicalize(path) {
            Ok(real) => {
                let kind = fs::metadata(&real).map_err(fault)?.file_type();
                if kind.is_dir() {
                    return Err(Error::usage(path.display(), "is a directory"));
                }
                if kind.is_file() {
                    fs::remove_file(&real).map_err(fault)?;
                }
                (real, !kind.is_file())
            }
            Err(_) => (path.to_owned(), false),
        };
        let target = Target { path, special };
        if !special {
            rustix::fs::access(target.directory(), rustix::fs::Access::WRITE_OK)
                .map_err(|errno| fault(errno.into()))?;
        }
        Ok(target)
    }

    /// Replaces the file, and syncs it to disk.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<()> {
        self.put(bytes).map_err(|cause| Error::io(self.path.display(), "cannot write", &cause))
    }

    fn put(&self, bytes: &[u8]) -> io::Result<()> {
        if self.special {
            return File::options().write(true).open(&self.path)?.write_all(bytes);
        }
        // The usual mode of a new file: the umask applies.
        let mode = fs::Permissions::from_mode(0o666);
        let mut file = tempfile::Builder::new().prefix(".xb-sum-").permissions(mode).tempfile_in(self.directory())?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|error| error.error)?;
        File::open(self.directory())?.sync_all()
    }

    fn directory(&self) -> &Path {
        self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }
}
