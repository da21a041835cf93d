//! `--extra-lsndir`: what the next increment needs to know of this backup, outside the stream.
//!
//! The files are written once the next program has read the stream to its end, beside those of an older backup, which
//! remains a usable base until the new files are on disk. While the new files replace the old ones, the directory
//! contains `xb_incomplete`, so that a mixture is never used as a base.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::{Error, Result};
use crate::metadata::{CHECKPOINTS, INFO};
use crate::stream::native::names::{BEGIN, INCOMPLETE, PAGES};

/// The content of [`INCOMPLETE`].
const UNFINISHED: &[u8] = b"xb-snap has not ended well in this directory: do not use what is in it.\n";

/// The directory while its backup is being sent.
#[derive(Debug)]
pub(super) struct LsnDir<'a> {
    dir: &'a Path,
    /// It gets its final name once the stream is complete.
    pages: Option<NamedTempFile>,
}

impl<'a> LsnDir<'a> {
    /// Creates the directory, if it does not exist.
    pub(super) fn new(dir: &'a Path) -> Result<Self> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|cause| Error::io(dir.display(), "cannot create", &cause))?;
        Ok(LsnDir { dir, pages: None })
    }

    /// Appends bytes to `xb_pages`.
    pub(super) fn pages(&mut self, bytes: &[u8]) -> Result<()> {
        let dir = self.dir;
        let mut write = || {
            let file = self.pages.take().map_or_else(|| NamedTempFile::new_in(dir), Ok)?;
            self.pages.insert(file).write_all(bytes)
        };
        write().map_err(|cause| self.fail(&cause))
    }

    /// Writes all files under temporary names, then replaces the old ones.
    pub(super) fn write<'t>(self, texts: impl Iterator<Item = (&'t str, &'t [u8])>, begin: &'t [u8]) -> Result<()> {
        let dir = self.dir;
        self.beside(texts.chain([(BEGIN, begin)]))
            .and_then(|files| put(dir, files))
            .map_err(|cause| Error::io(dir.display(), "cannot write", &cause))
    }

    /// Writes and syncs the files; returns them with their final names.
    fn beside<'t>(self, texts: impl Iterator<Item = (&'t str, &'t [u8])>) -> io::Result<Vec<(&'t str, NamedTempFile)>> {
        let mut files: Vec<(&str, NamedTempFile)> = self.pages.map(|pages| (PAGES, pages)).into_iter().collect();
        for (name, text) in texts {
            let mut file = NamedTempFile::new_in(self.dir)?;
            file.write_all(text)?;
            files.push((name, file));
        }
        files.iter().try_for_each(|(_, file)| file.as_file().sync_all())?;
        Ok(files)
    }

    fn fail(&self, cause: &io::Error) -> Error {
        Error::io(self.dir.display(), "cannot write", cause)
    }
}

/// Replaces the files in the directory. While it does, the directory is not a base.
fn put(dir: &Path, files: Vec<(&str, NamedTempFile)>) -> io::Result<()> {
    let mark = dir.join(INCOMPLETE);
    let mut file = NamedTempFile::new_in(dir)?;
    file.write_all(UNFINISHED)?;
    file.as_file().sync_all()?;
    file.persist(&mark)?;
    sync(dir)?;
    // Files of an older backup must not remain beside this one, which may have no digests.
    for name in [BEGIN, PAGES].into_iter().chain(CHECKPOINTS).chain(INFO) {
        match fs::remove_file(dir.join(name)) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
            _ => {}
        }
    }
    for (name, file) in files {
        file.persist(dir.join(name))?;
    }
    sync(dir)?;
    fs::remove_file(&mark)?;
    sync(dir)
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
