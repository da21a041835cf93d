//! A store in a directory of this host.
//!
//! An object is a file. While it is written it is a file in `tmp/`; then it is synced and renamed, and the directories
//! that lead to it are synced. `tmp/` and the lock files are no objects.

mod files;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use tempfile::NamedTempFile;

use self::files::{Exactly, Upward, sync};
use super::{Held, Object, Space, Store, Upload, Use, is_name};
use crate::error::{Error, Result};

/// Where uploads are written.
const TMP: &str = "tmp";
/// Locked by whoever adds or prunes.
const WRITERS: &str = "lock";
/// Locked by whoever follows a server.
const FOLLOWER: &str = "lock.binlog";
/// Locked, shared, by whoever reads backups, and exclusively by whoever prunes.
const READERS: &str = "lock.readers";

/// A directory with objects.
#[derive(Debug)]
pub struct Local {
    root: PathBuf,
}

impl Local {
    /// Makes the directory, which must not exist or be empty.
    ///
    /// # Errors
    ///
    /// Failed, if it has something in it, or cannot be made.
    pub fn init(root: &Path) -> Result<Local> {
        let fail = |cause: &io::Error| Error::io(root.display(), "cannot create", cause);
        DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(|cause| fail(&cause))?;
        if fs::read_dir(root).map_err(|cause| fail(&cause))?.next().is_some() {
            return Err(Error::failed(root.display(), "is not empty").hint("a store needs a directory of its own"));
        }
        let local = Local { root: root.to_owned() };
        DirBuilder::new().mode(0o700).create(local.path(TMP)).map_err(|cause| fail(&cause))?;
        for name in [WRITERS, READERS] {
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(local.path(name));
            file.and_then(|file| file.sync_all()).map_err(|cause| fail(&cause))?;
        }
        sync(root).map_err(|cause| fail(&cause))?;
        Ok(local)
    }

    /// The store in this directory.
    pub fn new(root: &Path) -> Local {
        Local { root: root.to_owned() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn checked(&self, name: &str) -> Result<PathBuf> {
        if is_name(name) {
            Ok(self.path(name))
        } else {
            Err(Error::internal(format_args!("no object is named {name:?}")))
        }
    }

    fn lock(&self, name: &str, how: FlockOperation) -> Result<File> {
        let path = self.path(name);
        // A copy of a store may lack the file; whoever may only read needs no more.
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file =
            file.or_else(|_| File::open(&path)).map_err(|cause| Error::io(path.display(), "cannot open", &cause))?;
        match rustix::fs::flock(&file, how) {
            Ok(()) => Ok(file),
            Err(Errno::WOULDBLOCK) => Err(Error::failed(self.root.display(), "is in use by another xb-keep")
                .hint("wait until it has ended; a run that crashed holds nothing")),
            Err(errno) => Err(Error::io(path.display(), "cannot lock", &errno.into())),
        }
    }

    /// Adds the files below `dir`, which is `prefix` in names.
    fn walk(&self, dir: &Path, prefix: &str, wanted: &str, found: &mut Vec<Object>) -> io::Result<()> {
        let entries = match fs::read_dir(dir) {
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let file = entry.file_name();
            let name = format!("{prefix}{}", file.to_string_lossy());
            let outside = !name.starts_with(wanted) && !wanted.starts_with(&format!("{name}/"));
            if outside || !is_name(&name) {
                continue;
            }
            let facts = match entry.metadata() {
                // Removed meanwhile.
                Err(cause) if cause.kind() == ErrorKind::NotFound => continue,
                facts => facts?,
            };
            if facts.is_dir() {
                self.walk(&entry.path(), &format!("{name}/"), wanted, found)?;
            } else if facts.is_file() && name.starts_with(wanted) {
                found.push(Object { name, size: facts.len() });
            }
        }
        Ok(())
    }
}

impl Store for Local {
    fn place(&self) -> String {
        self.root.display().to_string()
    }

    fn create(&self, name: &str) -> Result<Box<dyn Upload>> {
        let path = self.checked(name)?;
        let tmp = self.path(TMP);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&tmp);
        made.map_err(|cause| Error::io(tmp.display(), "cannot create", &cause))?;
        let file = NamedTempFile::new_in(&tmp).map_err(|cause| Error::io(tmp.display(), "cannot write", &cause))?;
        // Whoever cleans up leaves it alone as long as it is open.
        rustix::fs::flock(file.as_file(), FlockOperation::LockExclusive)
            .map_err(|errno| Error::io(tmp.display(), "cannot lock", &errno.into()))?;
        Ok(Box::new(Upward { file, path, root: self.root.clone() }))
    }

    fn read(&self, name: &str, from: u64, len: Option<u64>) -> Result<Box<dyn Read + Send>> {
        let path = self.checked(name)?;
        let missing = |cause: io::Error| match cause.kind() {
            ErrorKind::NotFound => Error::damaged(path.display(), "missing: the store had it")
                .hint("take it from another copy of the store"),
            _ => Error::io(path.display(), "cannot open", &cause),
        };
        let mut file = File::open(&path).map_err(missing)?;
        let size = file.metadata().map_err(missing)?.len();
        let len = len.unwrap_or_else(|| size.saturating_sub(from));
        if from.checked_add(len).is_none_or(|end| end > size) {
            let what =
                format!("truncated: it has {size} bytes, and bytes up to {} are needed", from.saturating_add(len));
            return Err(Error::damaged(path.display(), what));
        }
        file.seek(SeekFrom::Start(from)).map_err(missing)?;
        Ok(Box::new(Exactly { file, left: len }))
    }

    fn list(&self, prefix: &str) -> Result<Vec<Object>> {
        let mut found = Vec::new();
        self.walk(&self.root, "", prefix, &mut found)
            .map_err(|cause| Error::io(self.root.display(), "cannot read", &cause))?;
        found.retain(|object| !object.name.starts_with("tmp/") && !object.name.starts_with(WRITERS));
        found.sort();
        Ok(found)
    }

    fn remove(&self, name: &str) -> Result<()> {
        let path = self.checked(name)?;
        let fail = |cause: &io::Error| Error::io(path.display(), "cannot remove", cause);
        match fs::remove_file(&path) {
            Err(cause) if cause.kind() == ErrorKind::NotFound => {}
            outcome => outcome.map_err(|cause| fail(&cause))?,
        }
        // Directories that have become empty go, too.
        let mut dir = path.parent().unwrap_or(&self.root);
        while dir != self.root && fs::remove_dir(dir).is_ok() {
            dir = dir.parent().unwrap_or(&self.root);
        }
        match sync(dir) {
            Err(cause) if cause.kind() != ErrorKind::NotFound => Err(fail(&cause)),
            _ => Ok(()),
        }
    }

    fn sweep(&self) -> Result<u64> {
        let tmp = self.path(TMP);
        let fail = |cause: &io::Error| Error::io(tmp.display(), "cannot clean", cause);
        let mut bytes = 0u64;
        let entries = match fs::read_dir(&tmp) {
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(0),
            entries => entries.map_err(|cause| fail(&cause))?,
        };
        for entry in entries {
            let entry = entry.map_err(|cause| fail(&cause))?;
            let file = File::open(entry.path()).map_err(|cause| fail(&cause))?;
            if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                // Somebody writes it: the follower of a server.
                continue;
            }
            bytes = bytes.saturating_add(entry.metadata().map_err(|cause| fail(&cause))?.len());
            fs::remove_file(entry.path()).map_err(|cause| fail(&cause))?;
        }
        Ok(bytes)
    }

    fn space(&self) -> Result<Option<Space>> {
        let space = rustix::fs::statvfs(&self.root)
            .map_err(|errno| Error::io(self.root.display(), "cannot tell its space", &errno.into()))?;
        let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
        // As df reckons: blocks that are reserved for root are neither used nor free.
        let used = space.f_blocks.saturating_sub(space.f_bfree);
        Ok(Some(Space { free: bytes(space.f_bavail), total: bytes(used.saturating_add(space.f_bavail)) }))
    }

    fn hold(&self, how: Use) -> Result<Box<dyn Held>> {
        let exclusive = FlockOperation::NonBlockingLockExclusive;
        let held = match how {
            Use::Read => vec![self.lock(READERS, FlockOperation::NonBlockingLockShared)?],
            Use::Follow => vec![self.lock(FOLLOWER, exclusive)?],
            Use::Add => vec![self.lock(WRITERS, exclusive)?],
            Use::Prune => vec![self.lock(WRITERS, exclusive)?, self.lock(READERS, exclusive)?],
        };
        Ok(Box::new(Locks { _files: held }))
    }
}

/// Locked files, until they are closed.
struct Locks {
    _files: Vec<File>,
}

impl Held for Locks {}

#[cfg(test)]
mod tests;
