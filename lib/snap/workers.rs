//! The buffers of a copying thread, and whether somebody waits for the copy.

use crate::codec::pool::{self, FirstError};
use crate::error::Result;
use crate::io::cache::Aligned;
use crate::io::nice;

/// How many bytes one read asks for.
pub(super) const BATCH: usize = 1 << 20;

/// The buffers of one thread.
#[derive(Debug)]
pub(super) struct Buffers {
    /// A batch of pages, or of a file's bytes.
    pub(super) batch: Aligned,
    /// A page that is read again, with what surrounds it.
    pub(super) again: Aligned,
}

impl Buffers {
    pub(super) fn new() -> Self {
        Buffers { batch: Aligned::new(BATCH), again: Aligned::new(64 << 10) }
    }
}

/// Whether somebody waits for a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Haste {
    /// Nobody waits.
    Behind,
    /// Locks are held during the copy.
    Urgent,
}

/// Does `work` for each item, with `threads` threads.
pub(super) fn each<I: Send>(
    threads: usize,
    haste: Haste,
    failure: &FirstError,
    items: impl Iterator<Item = Result<I>> + Send,
    work: impl Fn(&mut Buffers, I) -> Result<()> + Sync,
) -> Result<()> {
    let scratch = || {
        if haste == Haste::Behind {
            nice::step_back();
        }
        Buffers::new()
    };
    pool::for_each(threads, failure, items, scratch, work)
}
