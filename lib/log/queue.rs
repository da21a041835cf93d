//! What the follower and the stream share: the captured log that waits to be sent, and how far each may go.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::innodb::ids::Lsn;
use crate::innodb::redo::mariadb::Deletions;
use crate::io::spool::Spool;

/// The distance between positions at which the captured log may be cut, in bytes.
const STEP: u64 = 256 << 10;

/// Log on its way from the follower to the stream.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    spool: Spool,
    target: Target,
    /// LSN up to which the log is in the spool.
    captured: Lsn,
    /// LSNs before that, between mini-transactions, at which the log may be cut; at least [`STEP`] apart.
    cuts: VecDeque<Lsn>,
    /// Statistics that the follower leaves when it has reached the end without error.
    stats: Option<FollowStats>,
}

/// How far the log may be captured, as the stream says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    /// The newest durable LSN mark; 0 before the first.
    pub(crate) durable_lsn: Lsn,
    /// The end LSN, once the manifest has arrived: the log is wanted exactly up to here.
    pub(crate) end_lsn: Option<Lsn>,
    /// The other side has ended; nothing is wanted any more.
    pub(crate) cancelled: bool,
}

/// Statistics of the follower, for the operator.
#[derive(Clone, Debug)]
pub(crate) struct FollowStats {
    /// How many bytes the server could still write before it would overwrite log that was not captured: the minimum.
    pub(crate) spare: u64,
    /// Capacity of the log in bytes at that time.
    pub(crate) capacity: u64,
    /// How often the log was replaced by one of another size.
    pub(crate) resized: u32,
    /// MariaDB: tablespaces whose file was deleted, perhaps after the end LSN.
    pub(crate) deletions: Deletions,
}

impl FollowStats {
    /// Statistics at the beginning.
    pub(crate) fn new(capacity: u64) -> Self {
        FollowStats { spare: capacity, capacity, resized: 0, deletions: Deletions::default() }
    }

    /// Records how close the server is to overwriting log that was not captured: it is `ahead` bytes further.
    pub(crate) fn measure(&mut self, ahead: u64, capacity: u64) {
        let spare = capacity.saturating_sub(ahead);
        if u128::from(spare) * u128::from(self.capacity) < u128::from(self.spare) * u128::from(capacity) {
            (self.spare, self.capacity) = (spare, capacity);
        }
    }
}

impl Queue {
    /// A queue in which nothing is captured yet, from `lsn` on.
    pub(crate) fn new(spool: Spool, lsn: Lsn) -> Self {
        let state = State { spool, target: Target::default(), captured: lsn, cuts: VecDeque::new(), stats: None };
        Queue { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Stream: the log is durable up to `lsn`.
    pub(crate) fn mark(&self, lsn: Lsn) {
        let mut state = self.lock();
        state.target.durable_lsn = state.target.durable_lsn.max(lsn);
        self.changed.notify_all();
    }

    /// Stream: the log is wanted up to `lsn`. Returns once it is captured and the follower has checked it.
    pub(crate) fn end(&self, lsn: Lsn) -> Result<FollowStats> {
        let mut state = self.lock();
        state.target.end_lsn = Some(lsn);
        self.changed.notify_all();
        loop {
            match state.stats.take() {
                Some(stats) => return Ok(stats),
                None if state.target.cancelled => {
                    return Err(Error::failed("redo log", "following it has ended early"));
                }
                None => state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Stream: the newest durable LSN mark, and the LSN up to which the log is captured.
    pub(crate) fn reached(&self) -> (Lsn, Lsn) {
        let state = self.lock();
        (state.target.durable_lsn, state.captured)
    }

    /// Stream: the first position after `lsn`, and at most `until`, at which the log may be cut; otherwise `until`
    /// itself.
    pub(crate) fn cut(&self, lsn: Lsn, until: Lsn) -> Lsn {
        let mut state = self.lock();
        while state.cuts.front().is_some_and(|cut| *cut <= lsn) {
            state.cuts.pop_front();
        }
        state.cuts.front().map_or(until, |cut| until.min(*cut))
    }

    /// The LSN up to which the log is captured, and how many bytes of it wait to be sent.
    pub(crate) fn waiting(&self) -> (Lsn, u64) {
        let state = self.lock();
        (state.captured, state.spool.len())
    }

    /// Stream: takes the next bytes of the log; fewer than requested only if no more are captured.
    pub(crate) fn pull(&self, buffer: &mut [u8]) -> Result<usize> {
        self.lock().spool.pull(buffer)
    }

    /// Either side: wakes the other one and tells it to end.
    pub(crate) fn close(&self) {
        self.lock().target.cancelled = true;
        self.changed.notify_all();
    }

    /// Follower: adds complete mini-transactions; the last one ends at `lsn`.
    pub(crate) fn push(&self, bytes: &[u8], lsn: Lsn) -> Result<()> {
        let mut state = self.lock();
        state.spool.push(bytes)?;
        if state.cuts.back().is_none_or(|last| lsn.since(*last) >= STEP) {
            state.cuts.push_back(lsn);
        }
        state.captured = lsn;
        self.changed.notify_all();
        Ok(())
    }

    /// Follower: the end is reached.
    pub(crate) fn conclude(&self, stats: FollowStats) {
        self.lock().stats = Some(stats);
        self.changed.notify_all();
    }

    /// Follower: waits for a target other than `last`, but at most `wait`.
    pub(crate) fn target(&self, last: &Target, wait: Duration) -> Target {
        let waited = self.changed.wait_timeout_while(self.lock(), wait, |state| state.target == *last);
        waited.map_or_else(|poisoned| poisoned.into_inner().0.target, |(state, _)| state.target)
    }

    /// The largest number of bytes that ever waited.
    pub(crate) fn peak(&self) -> u64 {
        self.lock().spool.peak()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
