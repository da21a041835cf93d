//! A file on its way into a stream, read from beginning to end. Its holes are not read, and it does not fill the page
//! cache: others use the machine too, often the server whose files these are.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, SeekFrom};

use super::below;
use crate::bytes::Part as _;
use crate::error::{Error, Result};
use crate::io::cache::{self, ALIGN, Aligned, Policy};

/// An open file and how far it has been read.
pub(super) struct Source {
    source: cache::Source,
    path: PathBuf,
    size: u64,
    at: u64,
    holes: bool,
}

impl Source {
    /// Opens a member's file. Its size is what it is now.
    pub(super) fn open(dir: &Path, name: &[u8]) -> Result<Self> {
        let path = below(dir, name);
        let fail = |cause: &io::Error| Error::io(path.display(), "cannot read", cause);
        // NONBLOCK: should a FIFO have taken the file's place, opening it must not wait for a writer.
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

    /// The next bytes, at most `chunk`, and their offset; `None` at the end.
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
                    .hint("pack files that nobody changes; a running server's are copied by xb-snap"));
            }
        }
        self.at = end;
        Ok(Some((offset, part.part(..want)?)))
    }

    /// True if nothing but hole is in this part of the file.
    fn in_hole(&mut self, from: u64, to: u64) -> bool {
        if !self.holes {
            return false;
        }
        match rustix::fs::seek(self.source.file(), SeekFrom::Data(from)) {
            Ok(data) => data >= to,
            // No data up to the end of the file, which may have come nearer.
            Err(rustix::io::Errno::NXIO) => self.source.file().metadata().is_ok_and(|facts| facts.len() >= to),
            Err(_) => {
                self.holes = false;
                false
            }
        }
    }
}
