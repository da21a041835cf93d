//! Limits how much a merge can expand its input: a few bytes of a manifest can claim that a tablespace has terabytes of
//! zero pages, which would be written, read and hashed.

use std::path::Path;

use super::patch::Shape;
use super::plan::{Origin, Space};
use crate::error::{Error, Result};
use crate::stream::holes::Holes;
use crate::stream::native::Entry;

/// Bytes that were copied, and zeros that they expand to.
pub(super) struct Growth {
    limit: u64,
    content: u64,
    zeros: u64,
    /// Size of the current tablespace.
    size: u64,
}

impl Growth {
    /// Allows this many bytes of zeros, in addition to [`Holes::RATIO`] for each byte that was copied.
    pub(super) fn new(limit: u64) -> Self {
        Growth { limit, content: 0, zeros: 0, size: 0 }
    }

    /// Begins the next tablespace, before its deltas.
    pub(super) fn begin(&mut self, space: &Space<'_>) {
        self.size = match space.origin {
            Origin::Base(entry) | Origin::Whole(_, entry) => entry.size,
            Origin::Nothing => 0,
        };
        self.content = self.content.saturating_add(self.size);
    }

    /// Adds the next delta of the tablespace.
    pub(super) fn step(&mut self, delta: &Path, entry: &Entry, shape: &Shape<'_>) -> Result<()> {
        self.content = self.content.saturating_add(entry.size);
        let grown = shape.size().saturating_sub(self.size);
        self.zeros = self.zeros.saturating_add(grown).saturating_add(shape.zeros());
        self.size = shape.size();
        let most = self.limit.saturating_add(self.content.saturating_mul(Holes::RATIO));
        if self.zeros <= most {
            return Ok(());
        }
        let what = format_args!(
            "refused: tablespaces would grow by {} bytes of zeros of {} bytes that were copied; {most} is the limit",
            self.zeros, self.content
        );
        Err(Error::failed(delta.display(), what).hint("if the increment is real, --hole-limit SIZE allows for more"))
    }
}
