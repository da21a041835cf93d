//! Threads that take work from one list until it is empty or something fails.

use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Kind, Result};
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

/// The first failure of any thread, for all threads.
#[derive(Debug, Default)]
pub(super) struct Abort {
    first: Mutex<Option<Error>>,
    set: std::sync::atomic::AtomicBool,
}

impl Abort {
    /// Notes a failure. The first counts, but for a broken pipe: when a write fails, other threads see that, and may be
    /// faster.
    pub(super) fn fail(&self, error: Error) {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if first.as_ref().is_none_or(|first| first.kind() == Kind::Pipe) {
            *first = Some(error);
        }
        drop(first);
        self.set.store(true, std::sync::atomic::Ordering::Release);
    }

    /// The first failure, if there was one.
    pub(super) fn check(&self) -> Result<()> {
        if !self.set.load(std::sync::atomic::Ordering::Acquire) {
            return Ok(());
        }
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        first.clone().map_or(Ok(()), Err)
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
    abort: &Abort,
    items: impl Iterator<Item = Result<I>> + Send,
    work: impl Fn(&mut Buffers, I) -> Result<()> + Sync,
) -> Result<()> {
    let items = Mutex::new(items);
    let next = || items.lock().map_err(|_| panicked()).and_then(|mut items| items.next().transpose());
    let loop_ = || {
        if haste == Haste::Behind {
            nice::step_back();
        }
        let mut buffers = Buffers::new();
        while abort.check().is_ok() {
            let done = next().and_then(|item| item.map(|item| work(&mut buffers, item)).transpose());
            match done {
                Ok(Some(())) => {}
                Ok(None) => break,
                Err(error) => abort.fail(error),
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(loop_)).collect();
        for thread in threads {
            if thread.join().is_err() {
                abort.fail(panicked());
            }
        }
    });
    abort.check()
}

fn panicked() -> Error {
    Error::failed("xb-snap", "a thread ended early; this is a fault of the program")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_counts_more_than_its_echo() {
        let abort = Abort::default();
        abort.fail(Error::new(Kind::Pipe, "stdout", "cannot write: broken pipe"));
        abort.fail(Error::failed("spool", "no space left on device"));
        abort.fail(Error::failed("d/t.ibd", "cannot read"));
        assert_eq!(abort.check().unwrap_err().to_string(), "spool: no space left on device");
    }
}
