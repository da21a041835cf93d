//! Files of a store: on their way in, and read by ranges.

use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Error, Result};
use crate::keep::store::Upload;

/// A file that becomes an object.
pub(super) struct Upward {
    pub(super) file: NamedTempFile,
    pub(super) path: PathBuf,
    pub(super) root: PathBuf,
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
pub(super) struct Exactly {
    pub(super) file: File,
    pub(super) left: u64,
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

/// What was created in a directory, or removed, stays so after a power cut.
pub(super) fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
