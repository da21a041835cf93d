//! What a copying thread works with, and whether anybody waits for it.

use crate::codec::pool::{self, FirstError};
use crate::error::Result;
use crate::io::cache::Aligned;
use crate::io::nice;

/// How much one read asks for.
pub(super) const BATCH: usize = 1 << 20;

/// What a thread reads into.
#[derive(Debug)]
pub(super) struct Buffers {
    /// A batch of pages, or of a file's bytes.
    pub(super) batch: Aligned,
    /// One page that is read again, with what lies around it.
    pub(super) again: Aligned,
}

impl Buffers {
    pub(super) fn new() -> Self {
        Buffers { batch: Aligned::new(BATCH), again: Aligned::new(64 << 10) }
    }
}

/// Whether anybody waits for a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Haste {
    /// Nobody does.
    Behind,
    /// Locks are held meanwhile.
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
