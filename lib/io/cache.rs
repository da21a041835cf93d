//! Reading big files without throwing out of the page cache what others keep there.
//!
//! A database server's file is copied once; its pages must not displace those that queries use. What is in the cache is
//! taken from there without a trace (`RWF_NOWAIT`). What is not is read past it (`O_DIRECT`), as a server does that
//! writes the file meanwhile; or, where nobody does, through it, which then reads ahead, and is dropped again behind: from
//! the first miss on the rest of such a file is never asked for, and none of it stays in the cache.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::bytes::Part as _;
use rustix::fs::{Advice, OFlags, fadvise, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

/// Alignment of offsets, lengths and memory that every device and file system takes for direct reads.
pub const ALIGN: usize = 4096;

/// What follows a miss is rarely cached, and to ask costs a read of its own: so many bytes are read without asking.
const MISSED: u64 = 8 << 20;
/// So many bytes are kept before they are dropped: to drop is not cheap.
const WINDOW: u64 = 8 << 20;

/// How files are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// From the cache what is in it, past the cache what is not.
    #[default]
    Auto,
    /// Past the cache.
    Direct,
    /// Through the cache; from the first miss on, the rest of a file is dropped again, also what was in the cache before.
    Drop,
    /// Through the cache, which keeps it.
    Keep,
}

/// Memory that begins at a multiple of [`ALIGN`].
#[derive(Debug)]
pub struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// `len` zero bytes.
    pub fn new(len: usize) -> Self {
        let bytes = vec![0; len + ALIGN];
        let start = bytes.as_ptr().align_offset(ALIGN).min(ALIGN);
        Aligned { bytes, start, len }
    }
}

impl AsRef<[u8]> for Aligned {
    fn as_ref(&self) -> &[u8] {
        self.bytes.split_at(self.start).1.split_at(self.len).0
    }
}

impl AsMut<[u8]> for Aligned {
    fn as_mut(&mut self) -> &mut [u8] {
        self.bytes.split_at_mut(self.start).1.split_at_mut(self.len).0
    }
}

/// A file that is read by one thread.
#[derive(Debug)]
pub struct Source {
    file: File,
    policy: Policy,
    /// The descriptor's state now; `O_DIRECT` is switched on and off as needed.
    direct: bool,
    /// Here nobody asks whether it is cached.
    unasked: Range<u64>,
    /// What was fetched into the cache and is to be dropped.
    fetched: Range<u64>,
}

impl Source {
    /// Opens a file.
    pub fn open(path: &Path, policy: Policy) -> io::Result<Self> {
        Ok(Self::new(File::open(path)?, policy))
    }

    /// Reads an open file. What the file system cannot do is found out by the first read.
    pub fn new(file: File, policy: Policy) -> Self {
        if matches!(policy, Policy::Auto | Policy::Drop) {
            // To ask must not start reading ahead.
            let _ = fadvise(&file, 0, None, Advice::Random);
        }
        Source { file, policy, direct: false, unasked: 0..0, fetched: u64::MAX..u64::MAX }
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Fills `buffer` from `offset` on; fewer bytes mean the end of the file. Both and the buffer's length must be
    /// multiples of [`ALIGN`] for the cache to be spared; others work, too.
    pub fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self.policy {
            Policy::Keep => self.plain(buffer, offset),
            Policy::Direct => self.past_cache(buffer, offset),
            Policy::Auto | Policy::Drop => {
                let read = self.sparing(buffer, offset)?;
                // To ask for what was allocated and never written fills the cache with zeros, at once.
                if is_zero(buffer.part(..read)?) {
                    self.forget(offset, read as u64);
                }
                Ok(read)
            }
        }
    }

    fn sparing(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.unasked.contains(&offset) {
            return self.missed(buffer, offset);
        }
        // One page tells whether there is any: a miss makes the kernel read what was asked for into the cache.
        let mut done = 0;
        for want in [ALIGN.min(buffer.len()), buffer.len()] {
            let part = buffer.part_mut(done..want)?;
            if part.is_empty() {
                break;
            }
            match self.cached(part, offset + done as u64) {
                Ok(0) => return Ok(done),
                Ok(read) => done += read,
                Err(Errno::AGAIN) => break,
                Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
                    self.unasked = 0..u64::MAX;
                    break;
                }
                Err(errno) => return Err(errno.into()),
            }
            if done < want {
                break;
            }
        }
        let end = offset + buffer.len() as u64;
        let rest = buffer.part_mut(done..)?;
        if rest.is_empty() {
            return Ok(done);
        }
        if !self.unasked.contains(&offset) {
            // What is read ahead would look like a hit.
            let until = if self.policy == Policy::Drop { u64::MAX } else { end + MISSED };
            self.unasked = offset..until;
        }
        let read = self.missed(rest, offset + done as u64)?;
        if self.policy == Policy::Auto {
            self.forget(offset + done as u64, read as u64);
        }
        Ok(done + read)
    }

    /// Reads what is not in the cache.
    fn missed(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.policy == Policy::Drop { self.through(buffer, offset) } else { self.past_cache(buffer, offset) }
    }

    /// Reads through the cache, which reads ahead as it sees fit, and drops what is behind, a window at a time.
    fn through(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset != self.fetched.end {
            let _ = fadvise(&self.file, 0, None, Advice::Sequential);
            self.forget(self.fetched.start, self.fetched.end - self.fetched.start);
            self.fetched = offset..offset;
        }
        let read = self.plain(buffer, offset)?;
        self.fetched.end = offset + read as u64;
        if self.fetched.end - self.fetched.start >= WINDOW {
            self.forget(self.fetched.start, WINDOW);
            self.fetched.start += WINDOW;
        }
        Ok(read)
    }

    fn cached(&mut self, part: &mut [u8], offset: u64) -> Result<usize, Errno> {
        self.switch(false);
        preadv2(&self.file, &mut [IoSliceMut::new(part)], offset, ReadWriteFlags::NOWAIT)
    }

    /// Reads with `O_DIRECT`; what is not aligned (the rest after an odd end of file) goes through the cache.
    fn past_cache(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let aligned = offset.is_multiple_of(ALIGN as u64)
            && buffer.len().is_multiple_of(ALIGN)
            && buffer.as_ptr().align_offset(ALIGN) == 0;
        if !aligned || !self.switch(true) {
            return self.plain(buffer, offset);
        }
        let mut done = 0;
        while done < buffer.len() {
            let part = buffer.part_mut(done..)?;
            match self.file.read_at(part, offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) if cause.raw_os_error() == Some(Errno::INVAL.raw_os_error()) && done == 0 => {
                    self.policy = Policy::Drop;
                    return self.read_at(buffer, offset);
                }
                Err(cause) => return Err(cause),
            }
            // A direct read stops short only at the end of the file, and cannot go on from an odd place.
            if !done.is_multiple_of(ALIGN) {
                break;
            }
        }
        Ok(done)
    }

    fn plain(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.switch(false);
        let mut done = 0;
        while done < buffer.len() {
            let part = buffer.part_mut(done..)?;
            match self.file.read_at(part, offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(cause),
            }
        }
        Ok(done)
    }

    /// Switches `O_DIRECT`; false if the file system refuses.
    fn switch(&mut self, direct: bool) -> bool {
        if self.direct == direct {
            return true;
        }
        let Ok(flags) = fcntl_getfl(&self.file) else { return false };
        let flags = if direct { flags | OFlags::DIRECT } else { flags - OFlags::DIRECT };
        if fcntl_setfl(&self.file, flags).is_err() {
            self.policy = Policy::Drop;
            return false;
        }
        self.direct = direct;
        true
    }

    fn forget(&self, offset: u64, len: u64) {
        if let Some(len) = NonZeroU64::new(len) {
            let _ = fadvise(&self.file, offset, Some(len), Advice::DontNeed);
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // What was read ahead as well.
        if self.fetched.start < u64::MAX {
            let _ = fadvise(&self.file, self.fetched.start, None, Advice::DontNeed);
        }
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; ALIGN] = [0; ALIGN];
    bytes.chunks(ALIGN).all(|block| ZEROS.starts_with(block))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// The same bytes by every policy, warm and cold, whole batches and an odd end.
    #[test]
    fn every_policy_reads_the_same() {
        let data: Vec<u8> = (0..1_000_123u32).map(|n| (n % 251) as u8).collect();
        let mut file = tempfile::NamedTempFile::new_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        file.write_all(&data).unwrap();
        file.as_file().sync_all().unwrap();
        for policy in [Policy::Keep, Policy::Auto, Policy::Direct, Policy::Drop, Policy::Auto, Policy::Direct] {
            let mut source = Source::open(file.path(), policy).unwrap();
            let mut buffer = Aligned::new(256 << 10);
            let mut got = Vec::new();
            loop {
                let read = source.read_at(buffer.as_mut(), got.len() as u64).unwrap();
                got.extend_from_slice(&buffer.as_ref()[..read]);
                if read < 256 << 10 {
                    break;
                }
            }
            assert!(got == data, "{policy:?}");
        }
    }
}
