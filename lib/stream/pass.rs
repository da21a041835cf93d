//! Passes a stream on unchanged, chunk by chunk; payloads bypass the program where the kernel allows it.

use std::fs::File;
use std::io::Write;

use super::reader::{Head, Reader};
use crate::error::{Error, Result};
use crate::io::pipe::{Mover, lost};

/// A stream on its way from one descriptor to another.
///
/// Call [`Pass::next`] for a header. Then pass the chunk on with [`Pass::forward`], or take its payload, or do neither:
/// the next call of `next` skips what was not passed on. Headers are checked as by [`Reader`]. The CRC of a payload is
/// checked only if it is taken or skipped, because a payload that is passed on is not read.
pub struct Pass {
    reader: Reader<File>,
    output: File,
    mover: Mover,
}

impl Pass {
    /// From `input`, which is `place` in messages, to `output`, which is `stdout` in messages.
    pub fn new(input: File, place: &str, output: File) -> Self {
        Pass { reader: Reader::new(input, place), output, mover: Mover::default() }
    }

    /// The next chunk's header; `None` at the end of the input, which is valid only between chunks.
    #[expect(clippy::should_implement_trait, reason = "what becomes of a chunk is decided between two heads")]
    pub fn next(&mut self) -> Result<Option<Head>> {
        self.reader.next()
    }

    /// Passes the current chunk on unchanged; none of its payload must have been taken. `moved` is called with the
    /// number of bytes as they go.
    pub fn forward(&mut self, mut moved: impl FnMut(u64)) -> Result<()> {
        let Pass { reader, output, mover } = self;
        // A small chunk that has been read already is written at once.
        let begun = reader.begun()?;
        (&*output).write_all(&begun).map_err(|cause| Error::io("stdout", "cannot write", &cause))?;
        moved(begun.len() as u64);
        reader.rest(|input, left| {
            let count = mover.some(input, output, left).map_err(|cause| lost(&cause))? as u64;
            moved(count);
            Ok(count)
        })
    }

    /// True if the sender has nothing ready: no byte of the next chunk has arrived.
    pub fn is_idle(&self) -> bool {
        self.reader.is_idle()
    }

    /// Reads payload of the current chunk; 0 if it is complete and its CRC is right.
    pub fn payload(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.reader.payload(buffer)
    }

    /// Fills `buffer` with payload; fewer bytes mean that the payload is complete and its CRC is right.
    pub fn fill(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.reader.fill(buffer)
    }

    /// The bytes of the current chunk's header; the caller adds the payload to pass on what it has read.
    pub fn raw(&self) -> &[u8] {
        self.reader.raw()
    }

    /// The position in the stream up to which everything has been taken.
    pub fn position(&self) -> u64 {
        self.reader.position()
    }

    /// The name of the input in messages.
    pub fn place(&self) -> &str {
        self.reader.place()
    }
}
