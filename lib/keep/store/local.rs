//! A store in a directory of this host.
//!
//! An object is a file. While it is written it is a file in `tmp/`; then it is synced and renamed, and the directories
//! that lead to it are synced. `tmp/` and the lock files are no objects.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use tempfile::NamedTempFile;

use super::{Held, Object, Space, Store, Upload, Use, is_name};
use crate::error::{Error, Result};

/// Where uploads are written.
const TMP: &str = "tmp";
/// Locked by whoever adds or prunes.
const WRITERS: &str = "lock";
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

/// A file that becomes an object.
struct Upward {
    file: NamedTempFile,
    path: PathBuf,
    root: PathBuf,
}

impl Write for Upward {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.as_file_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Upload for Upward {
    fn publish(self: Box<Self>) -> Result<()> {
        let Upward { file, path, root } = *self;
        let fail = |cause: &io::Error| Error::io(path.display(), "cannot write", cause);
        file.as_file().sync_all().map_err(|cause| fail(&cause))?;
        let parent = path.parent().unwrap_or(&root);
        DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(|cause| fail(&cause))?;
        file.persist_noclobber(&path).map_err(|refused| match refused.error.kind() {
            ErrorKind::AlreadyExists => {
                Error::failed(path.display(), "exists already; nothing in a store is overwritten")
            }
            _ => fail(&refused.error),
        })?;
        for dir in parent.ancestors().take_while(|dir| dir.starts_with(&root)) {
            sync(dir).map_err(|cause| fail(&cause))?;
        }
        Ok(())
    }
}

/// So many bytes of a file; if it ends before, somebody has changed it meanwhile.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = Read::by_ref(&mut self.file).take(self.left).read(buffer)?;
        if got == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "it has become shorter"));
        }
        self.left = self.left.saturating_sub(got as u64);
        Ok(got)
    }
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::error::Kind;
    use crate::keep::store::{put, small};

    fn store() -> (tempfile::TempDir, Local) {
        let dir = tempfile::tempdir().unwrap();
        let store = Local::init(&dir.path().join("store")).unwrap();
        (dir, store)
    }

    #[test]
    fn an_object_is_there_whole_or_not_at_all() {
        let (_dir, store) = store();
        let mut upload = store.create("backups/a/stream.xbs").unwrap();
        upload.write_all(b"half").unwrap();
        assert_eq!(store.list("").unwrap(), []);
        drop(upload);
        assert_eq!(fs::read_dir(store.path(TMP)).unwrap().count(), 0);
        put(&store, "backups/a/stream.xbs", b"whole").unwrap();
        let mode = fs::metadata(store.path("backups/a/stream.xbs")).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
        let again = put(&store, "backups/a/stream.xbs", b"other").unwrap_err();
        assert!(again.to_string().contains("nothing in a store is overwritten"), "{again}");
        assert_eq!(small(&store, "backups/a/stream.xbs").unwrap(), b"whole");
        store.remove("backups/a/stream.xbs").unwrap();
        store.remove("backups/a/stream.xbs").unwrap();
        assert!(!store.path("backups").exists() && store.path(TMP).exists());
    }

    #[test]
    fn ranges_are_read_exactly_or_refused() {
        let (_dir, store) = store();
        put(&store, "o", b"0123456789").unwrap();
        let range = |from, len| -> Result<Vec<u8>> {
            let mut bytes = Vec::new();
            store.read("o", from, len)?.read_to_end(&mut bytes).unwrap();
            Ok(bytes)
        };
        assert_eq!(range(3, Some(4)).unwrap(), b"3456");
        assert_eq!(range(8, None).unwrap(), b"89");
        assert_eq!(range(10, Some(0)).unwrap(), b"");
        assert_eq!(range(8, Some(3)).unwrap_err().kind(), Kind::Damaged);
        assert_eq!(store.read("p", 0, None).err().unwrap().kind(), Kind::Damaged);
    }

    #[test]
    fn a_listing_has_objects_alone_in_order() {
        let (_dir, store) = store();
        for name in ["backups/b/meta.json", "backups/a/meta.json", "failures/x.json", "backups/a/stream"] {
            put(&store, name, b"x").unwrap();
        }
        let names = |prefix| store.list(prefix).unwrap().into_iter().map(|object| object.name).collect::<Vec<_>>();
        assert_eq!(names("backups/a/"), ["backups/a/meta.json", "backups/a/stream"]);
        assert_eq!(names("").len(), 4);
        assert_eq!(names("backups").len(), 3);
    }

    #[test]
    fn who_prunes_is_alone_and_who_adds_is_the_only_one() {
        let (_dir, store) = store();
        let (read, add) = (store.hold(Use::Read).unwrap(), store.hold(Use::Add).unwrap());
        let also = store.hold(Use::Read).unwrap();
        assert!(store.hold(Use::Add).is_err() && store.hold(Use::Prune).is_err());
        drop(add);
        assert!(store.hold(Use::Prune).is_err());
        drop((read, also));
        let prune = store.hold(Use::Prune).unwrap();
        assert!(store.hold(Use::Read).is_err() && store.hold(Use::Add).is_err());
        drop(prune);
        store.hold(Use::Add).unwrap();
    }

    #[test]
    fn a_store_takes_no_directory_with_something_in_it() {
        let (dir, _store) = store();
        assert!(Local::init(&dir.path().join("store")).is_err());
    }
}
