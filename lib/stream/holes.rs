//! Limits the holes of foreign streams that must be written or hashed as zeros: a hole of a petabyte takes a few bytes
//! in a stream.

use bstr::ByteSlice;

use crate::error::{Error, Result};

/// How many bytes of zeros holes have become so far, and the limit.
#[derive(Clone, Copy, Debug)]
pub struct Holes {
    limit: u64,
    content: u64,
    zeros: u64,
}

impl Holes {
    /// How many zeros are allowed for each byte of content, in addition to the limit: a page of 64 KiB may be
    /// compressed into one block of 512 bytes.
    pub const RATIO: u64 = 128;
    /// The default limit in bytes.
    pub const LIMIT: u64 = 1 << 30;

    /// No bytes yet.
    pub fn new(limit: u64) -> Self {
        Holes { limit, content: 0, zeros: 0 }
    }

    /// Counts bytes of content.
    pub fn content(&mut self, bytes: u64) {
        self.content = self.content.saturating_add(bytes);
    }

    /// Counts a hole to be filled with zeros; fails if that exceeds the limit.
    pub fn zeros(&mut self, path: &[u8], count: u64) -> Result<()> {
        self.zeros = self.zeros.saturating_add(count);
        let most = self.limit.saturating_add(self.content.saturating_mul(Self::RATIO));
        if self.zeros <= most {
            return Ok(());
        }
        let what = format_args!(
            "{}: refused: with a hole of {count} bytes the holes of the stream are {} bytes of zeros; {most} is the limit",
            path.as_bstr(),
            self.zeros
        );
        Err(Error::failed("stdin", what).hint("if the input is real, --hole-limit SIZE raises the limit"))
    }
}
