//! Memory that follows the input: names of members, and what is held of those that are open. It has a limit.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::error::Error;

/// What the names and open members of a stream may take by default: so that a tool needs no more than 64 MiB in all. The
/// names of a million members fit.
pub const MEMORY: u64 = 44 << 20;
/// What the operator can do.
const MORE: &str = "if the input is real, --memory SIZE allows for more";

/// Memory that is shared by all who hold a clone.
#[derive(Clone, Debug)]
pub struct Budget {
    used: Arc<AtomicU64>,
    limit: u64,
}

impl Budget {
    /// So many bytes.
    pub fn new(limit: u64) -> Self {
        Budget { used: Arc::default(), limit }
    }

    /// Takes so many bytes; nothing if not as many are left.
    pub fn take(&self, bytes: u64) -> Result<(), Exceeded> {
        let within = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.limit);
        match self.used.fetch_update(Relaxed, Relaxed, within) {
            Ok(_) => Ok(()),
            Err(used) => Err(Exceeded { wanted: used.saturating_add(bytes), limit: self.limit }),
        }
    }

    /// Gives back what was taken.
    pub fn give(&self, bytes: u64) {
        let _ = self.used.fetch_update(Relaxed, Relaxed, |used| Some(used.saturating_sub(bytes)));
    }

    /// A part of it, nothing yet.
    pub fn share(&self) -> Share {
        Share { budget: self.clone(), bytes: 0 }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Budget::new(MEMORY)
    }
}

/// What one holder has taken, until it is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    bytes: u64,
}

impl Share {
    /// Makes it so many bytes; fails if it has to grow and cannot.
    pub fn set(&mut self, bytes: u64) -> Result<(), Exceeded> {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.budget.take(more)?,
            None => self.budget.give(self.bytes - bytes),
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Makes it so many bytes, if it is smaller.
    pub fn grow(&mut self, bytes: u64) -> Result<(), Exceeded> {
        self.set(self.bytes.max(bytes))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.give(self.bytes);
    }
}

/// More is wanted than may be.
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
