//! `--extra-lsndir`: what the next increment has to know of this backup, outside the stream.
//!
//! It is written once the next program has taken the stream to its end, beside what an older backup left there, which stays
//! a base until all is on disk. While files take each other's place `xb_incomplete` stands in the directory: so half of a
//! base is never taken for one.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::{Error, Result};
use crate::metadata::{CHECKPOINTS, INFO};
use crate::stream::native::names::{BEGIN, INCOMPLETE, PAGES};

/// What [`INCOMPLETE`] says.
const UNFINISHED: &[u8] = b"xb-snap has not ended well in this directory: do not use what is in it.\n";

/// The directory while its backup is being sent.
#[derive(Debug)]
pub(super) struct LsnDir<'a> {
    dir: &'a Path,
    /// Has no name of ours until the stream is complete.
    pages: Option<NamedTempFile>,
}

impl<'a> LsnDir<'a> {
    /// Makes the directory, if it is not there.
    pub(super) fn new(dir: &'a Path) -> Result<Self> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|cause| Error::io(dir.display(), "cannot create", &cause))?;
        Ok(LsnDir { dir, pages: None })
    }

    /// The next bytes of `xb_pages`.
    pub(super) fn pages(&mut self, bytes: &[u8]) -> Result<()> {
        let dir = self.dir;
        let mut write = || {
            let file = self.pages.take().map_or_else(|| NamedTempFile::new_in(dir), Ok)?;
            self.pages.insert(file).write_all(bytes)
        };
        write().map_err(|cause| self.fail(&cause))
    }

    /// Writes everything beside what is there; then puts it in its place.
    pub(super) fn write<'t>(self, texts: impl Iterator<Item = (&'t str, &'t [u8])>, begin: &'t [u8]) -> Result<()> {
        let dir = self.dir;
        self.beside(texts.chain([(BEGIN, begin)]))
            .and_then(|files| put(dir, files))
            .map_err(|cause| Error::io(dir.display(), "cannot write", &cause))
    }

    /// The files, on disk, and the names that they will have.
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

/// Replaces what is in the directory. From its first step to the last it is no base.
fn put(dir: &Path, files: Vec<(&str, NamedTempFile)>) -> io::Result<()> {
    let mark = dir.join(INCOMPLETE);
    let mut file = NamedTempFile::new_in(dir)?;
    file.write_all(UNFINISHED)?;
    file.as_file().sync_all()?;
    file.persist(&mark)?;
    sync(dir)?;
    // What an older backup left is not mixed with this one, which may have no digests.
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
