//! A limit for memory that grows with the input: the names of members, and buffers of open members.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::error::Error;

/// The default limit for names and open members of a stream: a tool then needs at most 64 MiB in all. The names of a
/// million members fit.
pub const MEMORY: u64 = 44 << 20;
/// What the operator can do.
const MORE: &str = "if the input is real, --memory SIZE allows for more";

/// Memory that all clones share.
#[derive(Clone, Debug)]
pub struct Budget {
    used: Arc<AtomicU64>,
    limit: u64,
}

impl Budget {
    /// A budget of this many bytes.
    pub fn new(limit: u64) -> Self {
        Budget { used: Arc::default(), limit }
    }

    /// Takes this many bytes; takes nothing if fewer are left.
    pub fn take(&self, bytes: u64) -> Result<(), Exceeded> {
        let within = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.limit);
        match self.used.fetch_update(Relaxed, Relaxed, within) {
            Ok(_) => Ok(()),
            Err(used) => Err(Exceeded { wanted: used.saturating_add(bytes), limit: self.limit }),
        }
    }

    /// Gives bytes back.
    pub fn give(&self, bytes: u64) {
        let _ = self.used.fetch_update(Relaxed, Relaxed, |used| Some(used.saturating_sub(bytes)));
    }

    /// A new share of this budget, which has taken nothing yet.
    pub fn share(&self) -> Share {
        Share { budget: self.clone(), bytes: 0 }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Budget::new(MEMORY)
    }
}

/// What one holder has taken; it is given back on drop.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    bytes: u64,
}

impl Share {
    /// Sets the size of this share in bytes; fails if it has to grow and the budget does not allow it.
    pub fn set(&mut self, bytes: u64) -> Result<(), Exceeded> {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.budget.take(more)?,
            None => self.budget.give(self.bytes - bytes),
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Grows this share to so many bytes, unless it is larger already.
    pub fn grow(&mut self, bytes: u64) -> Result<(), Exceeded> {
        self.set(self.bytes.max(bytes))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.give(self.bytes);
    }
}

/// More memory is needed than the budget allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    wanted: u64,
    limit: u64,
}

impl Exceeded {
    /// What the operator can do.
    pub fn advice(self) -> &'static str {
        MORE
    }
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Exceeded { wanted, limit } = self;
        write!(f, "refused: names and open members need {wanted} bytes of memory; {limit} is the limit")
    }
}

impl From<Exceeded> for Error {
    fn from(exceeded: Exceeded) -> Self {
        Error::failed("stdin", exceeded).hint(MORE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let budget = Budget::new(100);
        let (mut one, mut two) = (budget.share(), budget.share());
        one.set(60).unwrap();
        assert_eq!(two.set(50), Err(Exceeded { wanted: 110, limit: 100 }));
        two.grow(40).unwrap();
        one.set(10).unwrap();
        two.grow(20).unwrap();
        two.set(90).unwrap();
        drop(one);
        two.set(100).unwrap();
        assert!(budget.take(u64::MAX).is_err());
    }
}
