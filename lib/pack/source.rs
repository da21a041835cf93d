//! A file on its way into a stream, read from beginning to end without harm to the page cache.
//!
//! Others use the machine too, often the server whose files these are. What was in the page cache before stays there,
//! what only we have read is dropped again behind us. A read with `RWF_NOWAIT` tells which it is: it gives bytes only
//! if they are cached.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, Mode, OFlags, SeekFrom};
use rustix::io::ReadWriteFlags;

use super::below;
use crate::error::{Error, Result};

/// The file is asked once per so many bytes whether it is cached; larger than any usual readahead.
const REGION: u64 = 8 << 20;

/// An open file and how far it has been read.
pub(super) struct Source {
    file: File,
    path: PathBuf,
    size: u64,
    at: u64,
    holes: bool,
    /// Whether the region being read was cached before, and the one after it.
    cached: [bool; 2],
    /// What has been read from disk and can be dropped once it has been sent.
    dropping: Option<(u64, u64)>,
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
        let mut source = Source { file, path, size, at: 0, holes, cached: [true; 2], dropping: None };
        // Without readahead while asking: the question itself must not fill the cache.
        let _ = rustix::fs::fadvise(&source.file, 0, None, Advice::Random);
        source.cached = [source.is_cached(0), source.is_cached(REGION)];
        let _ = rustix::fs::fadvise(&source.file, 0, None, Advice::Sequential);
        Ok(source)
    }

    /// The file's size.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The next bytes and their offset; `None` at the end. Holes are not read.
    pub(super) fn next<'a>(&mut self, buffer: &'a mut [u8]) -> Result<Option<(u64, &'a [u8])>> {
        let offset = self.at;
        let left = usize::try_from(self.size - offset).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(None);
        }
        let want = left.min(buffer.len());
        let Some(part) = buffer.get_mut(..want) else { return Ok(None) };
        let end = offset + want as u64;
        if self.in_hole(offset, end) {
            part.fill(0);
        } else {
            self.file.read_exact_at(part, offset).map_err(|cause| self.fail(offset, &cause))?;
            self.dropping = (!self.cached[0]).then_some((offset, end));
        }
        self.at = end;
        if offset / REGION != end / REGION {
            self.cached = [self.cached[1], self.is_cached(end - end % REGION + REGION)];
        }
        Ok(Some((offset, part)))
    }

    /// What [`Source::next`] gave has gone out.
    pub(super) fn sent(&mut self) {
        if let Some((from, to)) = self.dropping.take() {
            let len = std::num::NonZeroU64::new(to - from);
            let _ = rustix::fs::fadvise(&self.file, from, len, Advice::DontNeed);
        }
    }

    /// True if nothing but hole is in this part of the file.
    fn in_hole(&mut self, from: u64, to: u64) -> bool {
        if !self.holes {
            return false;
        }
        match rustix::fs::seek(&self.file, SeekFrom::Data(from)) {
            Ok(data) => data >= to,
            // No data up to the end of the file, which may have come nearer.
            Err(rustix::io::Errno::NXIO) => self.file.metadata().is_ok_and(|facts| facts.len() >= to),
            Err(_) => {
                self.holes = false;
                false
            }
        }
    }

    /// Asks one byte in the middle of a region. Where the system cannot tell, the answer is yes: nothing is dropped.
    fn is_cached(&self, region: u64) -> bool {
        let spot = region.saturating_add(REGION / 2).min(self.size.saturating_sub(1));
        if region >= self.size {
            return true;
        }
        let mut byte = [0];
        let answer = rustix::io::preadv2(&self.file, &mut [IoSliceMut::new(&mut byte)], spot, ReadWriteFlags::NOWAIT);
        !matches!(answer, Err(rustix::io::Errno::AGAIN))
    }

    fn fail(&self, offset: u64, cause: &io::Error) -> Error {
        if cause.kind() == io::ErrorKind::UnexpectedEof {
            let what = format!("became shorter while it was read: it had {} bytes", self.size);
            return Error::failed(self.path.display(), what)
                .hint("pack files that nobody changes; a running server's are copied by xb-snap");
        }
        Error::io(self.path.display(), format_args!("cannot read at byte {offset}"), cause)
    }
}
