//! Access to files beneath a directory, whatever their names.
//!
//! A name comes from a stream and may be hostile, or the directory may contain a symbolic link that leads out of it. So
//! the kernel resolves every name from the directory's descriptor, without following symbolic links and never upwards
//! (`openat2`). Where that call is missing (Linux before 5.6, some containers), each component is opened in turn, with
//! the same result for names that [`crate::stream::name::clean`] accepts.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use bstr::ByteSlice;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Mode of new files, before the umask.
const FILE_MODE: Mode = Mode::from_raw_mode(0o640);
/// Mode of new directories, before the umask.
const DIR_MODE: Mode = Mode::from_raw_mode(0o750);
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory in which names are resolved. Names are relative and normalized: no empty, `.` or `..` component.
#[derive(Debug)]
pub struct Directory {
    root: File,
    openat2: bool,
}

impl Directory {
    /// Opens a directory.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        let openat2 = rustix::fs::openat2(&root, c".", DIRECTORY, Mode::empty(), RESOLVE).is_ok();
        Ok(Directory { root, openat2 })
    }

    /// Opens a directory; creates it and its parents if they are missing.
    pub fn make(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(DIR_MODE.as_raw_mode()).create(path)?;
        Self::open(path)
    }

    /// Creates a file for writing, and its parent directories. It must not exist.
    pub fn create(&self, name: &[u8]) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match self.resolve(name, flags) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound && name.contains(&b'/') => {
                self.make_parents(name)?;
                self.resolve(name, flags)
            }
            other => other,
        }
    }

    /// Opens an existing file for writing.
    pub fn append(&self, name: &[u8]) -> io::Result<File> {
        self.resolve(name, OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC)
    }

    /// Removes a file; false if it did not exist.
    pub fn remove(&self, name: &[u8]) -> io::Result<bool> {
        let outcome = self
            .parent(name)
            .and_then(|(parent, last)| Ok(rustix::fs::unlinkat(self.at(parent.as_ref()), last, AtFlags::empty())?));
        match outcome {
            Ok(()) => Ok(true),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(cause) => Err(cause),
        }
    }

    /// Renames a file, replaces an existing one, and creates parent directories.
    pub fn rename(&self, from: &[u8], to: &[u8]) -> io::Result<()> {
        self.make_parents(to)?;
        let (from_parent, from) = self.parent(from)?;
        let (to_parent, to) = self.parent(to)?;
        Ok(rustix::fs::renameat(self.at(from_parent.as_ref()), from, self.at(to_parent.as_ref()), to)?)
    }

    /// The names in the directory, in any order.
    pub fn names(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.root)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(name.to_vec());
            }
        }
        Ok(names)
    }

    /// Syncs its file system to disk, and reports writes that failed since it was opened.
    pub fn sync_all(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.root)?)
    }

    /// Syncs its own entries to disk.
    pub fn sync_entries(&self) -> io::Result<()> {
        self.root.sync_all()
    }

    fn at<'a>(&'a self, parent: Option<&'a OwnedFd>) -> BorrowedFd<'a> {
        parent.map_or(self.root.as_fd(), AsFd::as_fd)
    }

    fn resolve(&self, name: &[u8], flags: OFlags) -> io::Result<File> {
        if self.openat2 {
            return self.openat2(name, flags, FILE_MODE).map(File::from);
        }
        let (parent, last) = self.parent(name)?;
        Ok(File::from(rustix::fs::openat(self.at(parent.as_ref()), last, flags, FILE_MODE)?))
    }

    fn openat2(&self, name: &[u8], flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        // The kernel refuses a mode for a call that creates nothing.
        let mode = if flags.contains(OFlags::CREATE) { mode } else { Mode::empty() };
        loop {
            match rustix::fs::openat2(&self.root, name, flags, mode, RESOLVE) {
                // AGAIN: something was renamed while the name was resolved.
                Err(Errno::INTR | Errno::AGAIN) => {}
                other => return Ok(other?),
            }
        }
    }

    /// The parent directory of a name, `None` for the root, and the last component.
    fn parent<'a>(&self, name: &'a [u8]) -> io::Result<(Option<OwnedFd>, &'a [u8])> {
        let Some((directory, last)) = name.rsplit_once_str("/") else { return Ok((None, name)) };
        if self.openat2 {
            return Ok((Some(self.openat2(directory, DIRECTORY, Mode::empty())?), last));
        }
        let mut parent = None;
        for part in directory.split_str("/") {
            parent = Some(rustix::fs::openat(self.at(parent.as_ref()), part, DIRECTORY, Mode::empty())?);
        }
        Ok((parent, last))
    }

    fn make_parents(&self, name: &[u8]) -> io::Result<()> {
        let Some((directory, _)) = name.rsplit_once_str("/") else { return Ok(()) };
        let mut parent = None;
        for part in directory.split_str("/") {
            match rustix::fs::mkdirat(self.at(parent.as_ref()), part, DIR_MODE) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            parent = Some(rustix::fs::openat(self.at(parent.as_ref()), part, DIRECTORY, Mode::empty())?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// Everything must hold with `openat2` and without.
    fn both(check: impl Fn(&Path, Directory)) {
        for openat2 in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let inside = dir.path().join("inside");
            let target = Directory::make(&inside).unwrap();
            check(&inside, Directory { openat2: openat2 && target.openat2, ..target });
        }
    }

    #[test]
    fn makes_directories_on_the_way_and_refuses_what_exists() {
        both(|path, dir| {
            dir.create(b"a/b/c/file").unwrap().write_all(b"one").unwrap();
            let again = dir.create(b"a/b/c/file").unwrap_err();
            assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(std::fs::read(path.join("a/b/c/file")).unwrap(), b"one");
            assert_eq!(path.join("a").metadata().unwrap().permissions().mode() & 0o027, 0);
            dir.rename(b"a/b/c/file", b"x/y").unwrap();
            dir.append(b"x/y").unwrap().write_all(b"ON").unwrap();
            assert_eq!(std::fs::read(path.join("x/y")).unwrap(), b"ONe");
            assert!(dir.remove(b"x/y").unwrap());
            assert!(!dir.remove(b"x/y").unwrap());
            let mut names = dir.names().unwrap();
            names.sort();
            assert_eq!(names, [b"a", b"x"]);
        });
    }

    #[test]
    fn follows_no_symlink() {
        both(|path, dir| {
            let outside = path.parent().unwrap().join("outside");
            std::fs::create_dir(&outside).unwrap();
            std::fs::write(outside.join("kept"), "kept").unwrap();
            symlink("../outside", path.join("link")).unwrap();
            symlink("../outside/new", path.join("file")).unwrap();
            assert!(dir.create(b"link/new").is_err());
            assert!(dir.create(b"link/sub/new").is_err());
            assert!(dir.create(b"file").is_err());
            assert!(dir.append(b"link/kept").is_err());
            assert!(dir.remove(b"link/kept").is_err());
            dir.create(b"mine").unwrap();
            assert!(dir.rename(b"mine", b"link/mine").is_err());
            assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
        });
    }
}
