//! One member on its way to disk: its bytes are summed, shown to whoever inspects them, and written.

use std::fs::File;
use std::os::unix::fs::FileExt;

use bstr::ByteSlice;

use super::target::Target;
use crate::bytes::within;
use crate::error::{Error, Result};

/// What a hole is measured in: the block of the usual file systems.
const BLOCK: usize = 4096;
const ZEROS: [u8; BLOCK] = [0; BLOCK];

/// Sees a member's bytes in the order in which the stream has them, in a thread of its own choosing.
pub trait Inspect: Send {
    /// Bytes of the member from `offset` on. Where an offset is not the end of the bytes before, there is a hole.
    fn bytes(&mut self, offset: u64, bytes: &[u8]) -> Result<()>;
    /// The member is complete, with this size.
    fn end(&mut self, size: u64) -> Result<()>;
}

/// Chooses what inspects a member, by its name.
pub type Inspector<'a> = &'a (dyn Fn(&[u8]) -> Option<Box<dyn Inspect>> + Sync);

/// A member that is open.
pub(super) struct Member {
    /// Its name in the stream.
    pub(super) path: Vec<u8>,
    /// Stream byte of its first chunk.
    pub(super) at: u64,
    /// Whether it is written and listed.
    pub(super) picked: bool,
    rewritten: bool,
    digest: Option<Box<blake3::Hasher>>,
    inspect: Option<Box<dyn Inspect>>,
    file: Option<File>,
    created: bool,
    /// Where bytes in order go next.
    next: u64,
    /// Where the member ends so far, holes included.
    size: u64,
    /// Below this, zeros must be written: something may stand there.
    written: u64,
    /// Where the file on disk ends.
    length: u64,
    /// Pieces that came.
    pub(super) holes: bool,
}

impl Member {
    pub(super) fn new(path: Vec<u8>, at: u64, picked: bool) -> Self {
        Member {
            path,
            at,
            picked,
            rewritten: false,
            digest: None,
            inspect: None,
            file: None,
            created: false,
            next: 0,
            size: 0,
            written: 0,
            length: 0,
            holes: false,
        }
    }

    /// Whether the content's BLAKE3 is wanted.
    pub(super) fn summed(self, wanted: bool) -> Self {
        Member { digest: wanted.then(Default::default), ..self }
    }

    pub(super) fn inspected(self, inspect: Option<Box<dyn Inspect>>) -> Self {
        Member { inspect, ..self }
    }

    /// Whether it takes the place of what has its name.
    pub(super) fn rewritten(self, rewritten: bool) -> Self {
        Member { rewritten, ..self }
    }

    /// Creates the file.
    pub(super) fn create(&mut self, target: &Target) -> Result<()> {
        let created = target.create(&self.path, self.rewritten);
        self.file = Some(created?);
        self.created = true;
        Ok(())
    }

    /// True if it holds a descriptor.
    pub(super) fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Gives the descriptor back until the next bytes come.
    pub(super) fn close(&mut self) {
        self.file = None;
    }

    /// True if a file was created that is not complete.
    pub(super) fn is_unfinished(&self) -> bool {
        self.created
    }

    /// Bytes from `offset` on.
    pub(super) fn bytes(&mut self, offset: u64, bytes: &[u8], target: Option<&Target>) -> Result<()> {
        if offset != self.next {
            // A hole or a seek: there is no content in order to sum.
            (self.digest, self.holes) = (None, true);
        }
        let end = offset.saturating_add(bytes.len() as u64);
        (self.next, self.size) = (end, self.size.max(end));
        if let Some(digest) = &mut self.digest {
            digest.update(bytes);
        }
        if let Some(inspect) = &mut self.inspect {
            inspect.bytes(offset, bytes)?;
        }
        match target {
            Some(target) if self.created => self.write(offset, bytes, target),
            _ => Ok(()),
        }
    }

    /// The member reaches to `end`, with a hole.
    pub(super) fn hole(&mut self, end: u64) {
        self.size = self.size.max(end);
    }

    fn write(&mut self, offset: u64, bytes: &[u8], target: &Target) -> Result<()> {
        let file = match self.file.take() {
            Some(file) => file,
            None => target.reopen(&self.path)?,
        };
        let solid = if target.is_sparse() { self.written } else { u64::MAX };
        let outcome = data_runs(offset, bytes, solid, |at, run| {
            self.length = self.length.max(at.saturating_add(run.len() as u64));
            file.write_all_at(run, at)
        });
        outcome.map_err(|cause| Error::io(self.path.as_bstr(), "cannot write", &cause))?;
        self.written = self.written.max(self.length);
        self.file = Some(file);
        Ok(())
    }

    /// The member is complete: gives it its full length, and returns size and sum.
    pub(super) fn end(&mut self, target: Option<&Target>) -> Result<(u64, Option<blake3::Hash>)> {
        if let Some(target) = target.filter(|_| self.created && self.length < self.size) {
            let file = match self.file.take() {
                Some(file) => file,
                None => target.reopen(&self.path)?,
            };
            file.set_len(self.size).map_err(|cause| Error::io(self.path.as_bstr(), "cannot set its size", &cause))?;
        }
        if let Some(inspect) = &mut self.inspect {
            inspect.end(self.size)?;
        }
        (self.file, self.created) = (None, false);
        let digest = self.digest.take().filter(|_| self.next == self.size);
        Ok((self.size, digest.map(|digest| digest.finalize())))
    }
}

/// Calls `each` for every run of bytes that must be written: all but whole blocks of zeros from `solid` on.
fn data_runs<E>(
    offset: u64,
    bytes: &[u8],
    solid: u64,
    mut each: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let (mut start, mut at) = (0, 0);
    while at < bytes.len() {
        let place = offset.saturating_add(at as u64);
        let rest = bytes.split_at(at).1;
        // Up to the next multiple of the block size, less at both ends.
        let len = (BLOCK - within(place, BLOCK)).min(rest.len());
        let zero = len == BLOCK && place >= solid && rest.get(..len) == Some(&ZEROS);
        if zero {
            if start < at {
                each(offset.saturating_add(start as u64), bytes.split_at(at).0.split_at(start).1)?;
            }
            start = at + len;
        }
        at += len;
    }
    if start < at { each(offset.saturating_add(start as u64), bytes.split_at(start).1) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(offset: u64, bytes: &[u8], solid: u64) -> Vec<(u64, usize)> {
        let mut runs = Vec::new();
        data_runs(offset, bytes, solid, |at, run| {
            runs.push((at, run.len()));
            Ok::<(), ()>(())
        })
        .unwrap();
        runs
    }

    #[test]
    fn only_whole_blocks_of_zeros_become_holes() {
        let mut bytes = vec![0; 5 * BLOCK];
        assert_eq!(runs(0, &bytes, 0), []);
        assert_eq!(runs(100, &bytes, 0), [(100, 3996), (20480, 100)]);
        bytes[2 * BLOCK] = 1;
        assert_eq!(runs(0, &bytes, 0), [(2 * 4096, BLOCK)]);
        assert_eq!(runs(0, &bytes, 4096), [(0, BLOCK), (2 * 4096, BLOCK)]);
        assert_eq!(runs(0, &bytes, u64::MAX), [(0, 5 * BLOCK)]);
        assert_eq!(runs(0, &bytes[..10], 0), [(0, 10)]);
        assert_eq!(runs(0, &[], 0), []);
    }
}
