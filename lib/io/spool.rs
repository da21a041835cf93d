//! A queue of bytes that starts in memory and goes on in an unlinked file.
//!
//! What is captured faster than it can be sent waits here: the redo log while the next program stalls, the files
//! that are copied under a lock. Writing never waits for reading; memory is bounded, the file by an optional limit.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;

use crate::bytes::Part as _;
use crate::error::{Error, OrInternal as _, Result};

/// How much is read from the file before its disk room is given back.
const RECLAIM: u64 = 16 << 20;

/// Bytes in, the same bytes out, in order.
#[derive(Debug)]
pub struct Spool {
    memory: VecDeque<u8>,
    memory_max: usize,
    file: Option<File>,
    dir: PathBuf,
    /// Bytes written to and read from the file; what lies between is waiting there, after what is in memory.
    written: u64,
    read: u64,
    /// Bytes at the file's front whose disk room was given back.
    freed: u64,
    limit: u64,
    peak: u64,
}

impl Spool {
    /// Keeps `memory` bytes in memory and the rest in a file in `dir`, at most `limit` bytes in all.
    pub fn new(memory: usize, dir: &Path, limit: u64) -> Self {
        Spool {
            memory: VecDeque::new(),
            memory_max: memory,
            file: None,
            dir: dir.to_owned(),
            written: 0,
            read: 0,
            freed: 0,
            limit,
            peak: 0,
        }
    }

    /// Checks that a file for it can be made in a directory, so that this is known before anything is sent.
    pub fn check(dir: &Path) -> Result<()> {
        let made = tempfile::tempfile_in(dir).and_then(|file| file.write_all_at(&[0; 512], 0));
        made.map_err(|cause| {
            Error::io(format_args!("spool in {}", dir.display()), "cannot write", &cause)
                .hint("choose a directory with room, by --spool-dir or TMPDIR")
        })
    }

    /// Bytes that wait.
    pub fn len(&self) -> u64 {
        self.memory.len() as u64 + self.on_disk()
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that wait in the file.
    pub fn on_disk(&self) -> u64 {
        self.written.saturating_sub(self.read)
    }

    /// The most bytes that ever waited.
    pub fn peak(&self) -> u64 {
        self.peak
    }

    /// Adds bytes at the end. Fails when the file's disk is full or the limit is reached.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        let waiting = self.len().saturating_add(bytes.len() as u64);
        if waiting > self.limit {
            return Err(Error::failed("spool", format_args!("limit of {} bytes reached", self.limit))
                .hint("the next program reads too slowly; give more with --spool-limit or a larger --spool-dir"));
        }
        self.peak = self.peak.max(waiting);
        // Order: memory holds the older bytes, the file the newer, so memory takes more only while the file is empty.
        let room = if self.on_disk() == 0 { self.memory_max.saturating_sub(self.memory.len()) } else { 0 };
        let (near, far) = bytes.split_at(room.min(bytes.len()));
        self.memory.extend(near);
        if far.is_empty() {
            return Ok(());
        }
        let fail = |cause: io::Error| {
            Error::io(format_args!("spool in {}", self.dir.display()), "cannot write", &cause)
                .hint("choose a directory with more room: --spool-dir")
        };
        let file = match self.file.take() {
            Some(file) => file,
            None => tempfile::tempfile_in(&self.dir).map_err(fail)?,
        };
        self.file.insert(file).write_all_at(far, self.written).map_err(fail)?;
        self.written = self.written.saturating_add(far.len() as u64);
        Ok(())
    }

    /// Takes bytes from the front into `buffer`; returns how many: fewer than fit only when no more wait.
    pub fn pull(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let rest = buffer.part_mut(filled..)?;
            let count = if self.memory.is_empty() { self.pull_file(rest)? } else { self.pull_memory(rest)? };
            if count == 0 {
                break;
            }
            filled += count;
        }
        Ok(filled)
    }

    fn pull_memory(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let (front, _) = self.memory.as_slices();
        let count = front.len().min(buffer.len());
        buffer.part_mut(..count)?.copy_from_slice(front.part(..count)?);
        self.memory.drain(..count);
        Ok(count)
    }

    fn pull_file(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let want = usize::try_from(self.on_disk()).unwrap_or(usize::MAX).min(buffer.len());
        if want == 0 {
            return Ok(0);
        }
        let file = self.file.as_ref().or_internal("a spool's file is not there")?;
        let part = buffer.part_mut(..want)?;
        let place = format!("spool in {}", self.dir.display());
        file.read_exact_at(part, self.read).map_err(|cause| Error::io(&place, "cannot read", &cause))?;
        self.read = self.read.saturating_add(want as u64);
        if self.read == self.written {
            // Empty again: give the disk its room back and start over at the front.
            file.set_len(0).map_err(|cause| Error::io(&place, "cannot truncate", &cause))?;
            (self.read, self.written, self.freed) = (0, 0, 0);
        } else if self.read - self.freed >= RECLAIM {
            // A spool that never runs empty must not keep what has left it. A file system without holes keeps it.
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let _ = rustix::fs::fallocate(file, flags, self.freed, self.read - self.freed);
            self.freed = self.read;
        }
        Ok(want)
    }
}

/// What is written is pushed; a failure carries the [`Error`].
impl io::Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_across_memory_and_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(100, dir.path(), u64::MAX);
        let (mut sent, mut got) = (Vec::new(), Vec::new());
        let mut byte = 0u8;
        for round in 0..200usize {
            let piece: Vec<u8> = (0..round % 37)
                .map(|_| {
                    byte = byte.wrapping_add(1);
                    byte
                })
                .collect();
            sent.extend_from_slice(&piece);
            spool.push(&piece).unwrap();
            let mut buffer = vec![0; round % 19];
            let count = spool.pull(&mut buffer).unwrap();
            got.extend_from_slice(&buffer[..count]);
        }
        assert!(spool.peak() > 100);
        let mut buffer = [0; 64];
        while !spool.is_empty() {
            let count = spool.pull(&mut buffer).unwrap();
            got.extend_from_slice(&buffer[..count]);
        }
        assert_eq!(sent, got);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the file has no name");
    }

    #[test]
    fn refuses_more_than_its_limit() {
        let mut spool = Spool::new(10, Path::new("/nonexistent"), 12);
        spool.push(&[1; 10]).unwrap();
        assert!(spool.push(&[1; 3]).unwrap_err().to_string().contains("limit"));
        assert!(spool.push(&[1; 1]).unwrap_err().to_string().contains("cannot write"));
    }
}
