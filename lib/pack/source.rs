//! Reads a file from start to end for a stream. Does not read holes, and does not fill the page cache, because others
//! use the machine, too, often the server to which the files belong.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, SeekFrom};

use super::below;
use crate::bytes::Part as _;
use crate::error::{Error, Result};
use crate::io::cache::{self, ALIGN, Aligned, Policy};

/// An open file, and how far it has been read.
pub(super) struct Source {
    source: cache::Source,
    path: PathBuf,
    size: u64,
    at: u64,
    holes: bool,
}

impl Source {
    /// Opens a member's file. Its size is the current one.
    pub(super) fn open(dir: &Path, name: &[u8]) -> Result<Self> {
        let path = below(dir, name);
        let fail = |cause: &io::Error| Error::io(path.display(), "cannot read", cause);
        // NONBLOCK: if a FIFO has replaced the file, opening it must not wait for a writer.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = rustix::fs::open(&path, flags, Mode::empty()).map_err(|errno| fail(&errno.into()))?;
        let file = File::from(file);
        let facts = file.metadata().map_err(|cause| fail(&cause))?;
        if !facts.is_file() {
            return Err(Error::failed(path.display(), "is not a regular file"));
        }
        let size = facts.len();
        let holes = facts.blocks().saturating_mul(512) < size;
        Ok(Source { source: cache::Source::new(file, Policy::Drop), path, size, at: 0, holes })
    }

    /// The file's size.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Returns the next bytes, at most `chunk`, and their offset; `None` at the end.
    pub(super) fn next<'a>(&mut self, buffer: &'a mut Aligned, chunk: usize) -> Result<Option<(u64, &'a [u8])>> {
        let offset = self.at;
        let want = usize::try_from(self.size - offset).unwrap_or(usize::MAX).min(chunk);
        let room = want.next_multiple_of(ALIGN);
        if want == 0 {
            return Ok(None);
        }
        let part = buffer.as_mut().part_mut(..room)?;
        let end = offset + want as u64;
        if self.in_hole(offset, end) {
            part.fill(0);
        } else {
            let read = self.source.read_at(part, offset).map_err(|cause| {
                Error::io(self.path.display(), format_args!("cannot read at byte {offset}"), &cause)
            })?;
            if read < want {
                let what = format!("became shorter while it was read: it had {} bytes", self.size);
                return Err(Error::failed(self.path.display(), what)
                    .hint("pack files that do not change; xb-snap copies those of a running server"));
            }
        }
        self.at = end;
        Ok(Some((offset, part.part(..want)?)))
    }

    /// True if this part of the file is a hole.
    fn in_hole(&mut self, from: u64, to: u64) -> bool {
        if !self.holes {
            return false;
        }
        match rustix::fs::seek(self.source.file(), SeekFrom::Data(from)) {
            Ok(data) => data >= to,
            // No data up to the end of the file, which may have been truncated.
            Err(rustix::io::Errno::NXIO) => self.source.file().metadata().is_ok_and(|facts| facts.len() >= to),
            Err(_) => {
                self.holes = false;
                false
            }
        }
    }
}
