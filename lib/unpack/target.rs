//! The directory into which a stream is unpacked.
//!
//! It has a marker from before the first file until after the last sync, so that the result of a killed or failed run
//! is never used as a backup. The manifest gets its name only when all other files are on disk.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::sync::OnceLock;
use std::time::Instant;

use bstr::ByteSlice;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::{Destination, Existing, Sparse};
use crate::error::{Error, Result};
use crate::io::beneath::Directory;
use crate::stream::native::names::{self, LOCK};
use crate::stream::native::prints::{self, Prints};
use crate::stream::native::{BEGIN, INCOMPLETE, Line, MANIFEST, ManifestReader, Trailer};

const MANIFEST_PART: &[u8] = names::MANIFEST_PART.as_bytes();
const MARKER: &str = "xb-unpack has not ended well in this directory: do not use what is in it.\n";

/// The directory, once something is written.
pub(super) struct Target<'a> {
    destination: &'a Destination,
    directory: OnceLock<Directory>,
}

impl<'a> Target<'a> {
    /// Checks that the directory may be used. Changes nothing.
    pub(super) fn check(destination: &'a Destination) -> Result<Self> {
        let target = Target { destination, directory: OnceLock::new() };
        match Directory::open(&destination.dir) {
            Ok(directory) => target.check_empty(&directory)?,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(target.fail("cannot open", &cause)),
        }
        Ok(target)
    }

    /// Creates the directory if needed, and marks it. Called once, before anything else.
    pub(super) fn prepare(&self) -> Result<()> {
        let dir = &self.destination.dir;
        let directory = Directory::make(dir).map_err(|cause| self.fail("cannot create", &cause))?;
        self.check_empty(&directory)?;
        self.check_idle(&directory)?;
        let mark = || -> io::Result<()> {
            if self.replaces() {
                directory.remove(INCOMPLETE)?;
            }
            directory.create(INCOMPLETE)?.write_all(MARKER.as_bytes())?;
            if self.replaces() { forget(&directory) } else { Ok(()) }
        };
        mark().map_err(|cause| self.fail("cannot write into it", &cause))?;
        let _ = self.directory.set(directory);
        Ok(())
    }

    /// Creates a member's file.
    pub(super) fn create(&self, path: &[u8], replace: bool) -> Result<File> {
        if path == names::PRINTS.as_bytes() {
            return Err(Error::damaged(path.as_bstr(), "a name that only xb-unpack gives; no stream may have it"));
        }
        let create = || {
            let directory = self.directory()?;
            if self.replaces() || replace {
                directory.remove(name_on_disk(path))?;
            }
            if path == MANIFEST && self.destination.dir.join(names::MANIFEST).symlink_metadata().is_ok() {
                return Err(Errno::EXIST.into());
            }
            directory.create(name_on_disk(path))
        };
        create().map_err(|cause| fail_member(path, "cannot create", &cause))
    }

    /// Opens a member's file again.
    pub(super) fn reopen(&self, path: &[u8]) -> Result<File> {
        let file = self.directory().and_then(|directory| directory.append(name_on_disk(path)));
        file.map_err(|cause| fail_member(path, "cannot open again", &cause))
    }

    /// Removes a member's file, if it exists.
    pub(super) fn remove(&self, path: &[u8]) -> Result<()> {
        let removed = self.directory().and_then(|directory| directory.remove(name_on_disk(path)));
        removed.map(drop).map_err(|cause| fail_member(path, "cannot remove", &cause))
    }

    /// Renames a member's file; `replace`: even if a file has the new name.
    pub(super) fn rename(&self, from: &[u8], to: &[u8], replace: bool) -> Result<()> {
        if to == names::PRINTS.as_bytes() {
            return Err(Error::damaged(to.as_bstr(), "a name that only xb-unpack gives; no stream may have it"));
        }
        let rename = || {
            let directory = self.directory()?;
            if !replace && directory.append(to).is_ok() {
                return Err(Errno::EXIST.into());
            }
            directory.rename(from, to)
        };
        let renamed = rename();
        renamed.map_err(|cause| fail_member(from, format_args!("cannot rename to {}", to.as_bstr()), &cause))
    }

    /// True if zeros become holes.
    pub(super) fn is_sparse(&self) -> bool {
        self.destination.sparse == Sparse::Auto
    }

    /// Completes the directory: syncs all files to disk, gives the manifest its name, then removes the marker.
    ///
    /// `proved`: every member was written and agrees with the manifest that has this last line. Files that do not
    /// change from then on need not be read again.
    pub(super) fn finish(&self, proved: Option<&Trailer>) -> Result<()> {
        let Some(directory) = self.directory.get() else { return Ok(()) };
        let sync = self.destination.sync;
        let begun = Instant::now();
        if sync {
            directory.sync_all().map_err(|cause| self.fail("cannot put everything on disk", &cause))?;
        }
        if let Some(trailer) = proved.filter(|_| sync) {
            std::thread::sleep((prints::TICK * 2).saturating_sub(begun.elapsed()));
            self.prints(directory, trailer)?;
        }
        let finish = || -> io::Result<()> {
            match directory.rename(MANIFEST_PART, MANIFEST) {
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
                Err(cause) => return Err(cause),
                Ok(()) if sync => directory.sync_entries()?,
                Ok(()) => {}
            }
            directory.remove(INCOMPLETE)?;
            if sync { directory.sync_entries() } else { Ok(()) }
        };
        finish().map_err(|cause| self.fail("cannot put everything on disk", &cause))
    }

    fn prints(&self, directory: &Directory, trailer: &Trailer) -> Result<()> {
        let fail = |cause: io::Error| self.fail("cannot write xb_prints", &cause);
        let mut prints = Prints::new(trailer);
        let text = std::fs::read(self.destination.dir.join(names::MANIFEST_PART)).map_err(fail)?;
        ManifestReader::default().feed(&text, |line, _| {
            if let Line::Entry(entry) = line
                && let Some(path) = entry.path()
                && let Ok(meta) = self.destination.dir.join(OsStr::from_bytes(&path)).symlink_metadata()
            {
                prints.add(&path, &meta);
            }
            Ok(())
        })?;
        let write = || -> io::Result<()> {
            let mut file = directory.create(names::PRINTS.as_bytes())?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            file.write_all(&prints.bytes()?)?;
            file.sync_all()
        };
        write().map_err(fail)
    }

    fn directory(&self) -> io::Result<&Directory> {
        self.directory.get().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn replaces(&self) -> bool {
        self.destination.existing == Existing::Replace
    }

    fn check_empty(&self, directory: &Directory) -> Result<()> {
        let dir = self.destination.dir.display();
        if self.replaces() {
            return Ok(());
        }
        let names = directory.names().map_err(|cause| self.fail("cannot read", &cause))?;
        let keep = self.destination.existing == Existing::Keep;
        if names.iter().all(|name| name == b"lost+found" || keep && name != INCOMPLETE) {
            return Ok(());
        }
        if self.destination.dir.join("xb_incomplete").exists() {
            return Err(Error::failed(dir, "holds what an earlier run left unfinished (xb_incomplete)")
                .hint("empty it, or give another directory"));
        }
        Err(Error::failed(dir, "is not empty").hint("give another directory, or --keep-existing, or --overwrite"))
    }

    /// Refuses a directory in which `xb-redo`, or a server that it has started, is running.
    fn check_idle(&self, directory: &Directory) -> Result<()> {
        match directory.append(LOCK.as_bytes()) {
            Ok(lock) if flock(&lock, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK) => {
                Err(Error::failed(self.destination.dir.display(), "xb-redo is running in it"))
            }
            Ok(_) => Ok(()),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(cause) => Err(self.fail("cannot open xb_lock", &cause)),
        }
    }

    fn fail(&self, what: &str, cause: &io::Error) -> Error {
        Error::io(self.destination.dir.display(), what, cause)
    }
}

/// Removes the state of `--merge` and `--apply` for the former content of the directory, which does not apply to the
/// new content. `xb_begin` stays: without a manifest it shows that the directory is not a backup, unless another one
/// replaces it.
fn forget(directory: &Directory) -> io::Result<()> {
    let kept = [BEGIN, INCOMPLETE];
    let notes = directory.names()?.into_iter().filter(|name| names::is_ours(name) && !kept.contains(&name.as_slice()));
    notes.into_iter().try_for_each(|name| directory.remove(&name).map(drop))
}

fn name_on_disk(path: &[u8]) -> &[u8] {
    if path == MANIFEST { MANIFEST_PART } else { path }
}

fn fail_member(path: &[u8], what: impl std::fmt::Display, cause: &io::Error) -> Error {
    let error = Error::io(path.as_bstr(), what, cause);
    match Errno::from_io_error(cause) {
        Some(Errno::EXIST) => error.hint("it existed before; --overwrite replaces it"),
        Some(Errno::LOOP | Errno::NOTDIR) => error.hint("a file or a symlink is in the way; symlinks are not followed"),
        _ => error,
    }
}
