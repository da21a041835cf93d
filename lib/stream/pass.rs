//! Hands a stream on, chunk by chunk, as it came: heads bit for bit, payloads past the program where the kernel can.

use std::fs::File;
use std::io::Write;

use super::reader::{Head, Reader};
use crate::error::{Error, Result};
use crate::io::pipe::{Mover, lost};

/// A stream on its way from one descriptor to another.
///
/// Call [`Pass::next`] for a head; then hand the chunk on with [`Pass::forward`], or take its payload, or do nothing:
/// the next call of `next` swallows what was not handed on. Heads are checked as [`Reader`] checks them; the CRC of a
/// payload only when it is taken or swallowed, for what is handed on is not looked at.
pub struct Pass {
    reader: Reader<File>,
    output: File,
    mover: Mover,
}

impl Pass {
    /// From `input`, which messages call `place`, to `output`, which they call `stdout`.
    pub fn new(input: File, place: &str, output: File) -> Self {
        Pass { reader: Reader::new(input, place), output, mover: Mover::default() }
    }

    /// The next chunk's head; `None` at the end of the input, which is legal between chunks only.
    #[expect(clippy::should_implement_trait, reason = "what becomes of a chunk is decided between two heads")]
    pub fn next(&mut self) -> Result<Option<Head>> {
        self.reader.next()
    }

    /// Hands the current chunk on unchanged; none of its payload must have been taken. `moved` hears of bytes as they go.
    pub fn forward(&mut self, mut moved: impl FnMut(u64)) -> Result<()> {
        let Pass { reader, output, mover } = self;
        // A small chunk that is here already goes out with one write.
        let begun = reader.begun()?;
        (&*output).write_all(&begun).map_err(|cause| Error::io("stdout", "cannot write", &cause))?;
        moved(begun.len() as u64);
        reader.rest(|input, left| {
            let count = mover.some(input, output, left).map_err(|cause| lost(&cause))? as u64;
            moved(count);
            Ok(count)
        })
    }

    /// True if the sender has nothing ready: none of the next chunk is here.
    pub fn is_idle(&self) -> bool {
        self.reader.is_idle()
    }

    /// Bytes of the current chunk's payload; 0 when it is complete and its CRC was right.
    pub fn payload(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.reader.payload(buffer)
    }

    /// Fills `buffer` with payload; a short count means that the payload is complete and its CRC was right.
    pub fn fill(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.reader.fill(buffer)
    }

    /// The current chunk up to its payload, bit for bit; with the payload, for handing on what was looked at.
    pub fn raw(&self) -> &[u8] {
        self.reader.raw()
    }

    /// The stream byte up to which everything has been taken.
    pub fn position(&self) -> u64 {
        self.reader.position()
    }

    /// What messages call the input.
    pub fn place(&self) -> &str {
        self.reader.place()
    }
}
