//! `--extra-lsndir`: what the next increment has to know of this backup, outside the stream.
//!
//! It is written once the next program has taken the stream to its end. Until it is whole, `xb_incomplete` stands in the
//! directory, which may be that of an older backup: so half of it is never taken for a base.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use tempfile::NamedTempFile;

use crate::error::{Error, Result};
use crate::names::{BEGIN, CHECKPOINTS, INCOMPLETE, INFO, PAGES};

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

    /// Puts everything in its place, `xb_begin` last.
    pub(super) fn write<'t>(self, texts: impl Iterator<Item = (&'t str, &'t [u8])>, begin: &'t [u8]) -> Result<()> {
        let dir = self.dir;
        let fail = |cause: io::Error| Error::io(dir.display(), "cannot write", &cause);
        let mark = dir.join(INCOMPLETE);
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&mark).map_err(fail)?;
        file.write_all(UNFINISHED).and_then(|()| file.sync_all()).and_then(|()| sync(dir)).map_err(fail)?;
        // What an older backup left is not mixed with this one.
        for name in [BEGIN, PAGES].into_iter().chain(CHECKPOINTS).chain(INFO) {
            match fs::remove_file(dir.join(name)) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(fail(cause)),
                _ => {}
            }
        }
        if let Some(pages) = self.pages {
            put(dir, PAGES, pages).map_err(fail)?;
        }
        for (name, text) in texts.chain([(BEGIN, begin)]) {
            let mut file = NamedTempFile::new_in(dir).map_err(fail)?;
            file.write_all(text).and_then(|()| put(dir, name, file)).map_err(fail)?;
        }
        sync(dir).and_then(|()| fs::remove_file(&mark)).and_then(|()| sync(dir)).map_err(fail)
    }

    fn fail(&self, cause: &io::Error) -> Error {
        Error::io(self.dir.display(), "cannot write", cause)
    }
}

fn put(dir: &Path, name: &str, file: NamedTempFile) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist(dir.join(name)).map(drop).map_err(|failed| failed.error)
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
