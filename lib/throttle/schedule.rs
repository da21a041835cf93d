//! When to send how many bytes: a token bucket, stored as the time up to which everything sent is paid for (GCRA).
//!
//! Times are nanoseconds of a monotonic clock; nothing here sleeps or reads a clock. Idle time is not saved: after a
//! stall of any length, at most `Schedule::burst` of the rate is sent at once. Delays do not add up, because each time
//! is computed from the one before, and not from the actual wakeup. After a late wakeup everything is sent that has
//! become due, up to the burst; any further delay counts as a stall.

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;
/// The least number of slices per second: one more or less changes the rate of a second by less than one percent.
const SLICES: u64 = 128;
/// The largest slice in bytes: half of what fits into a core's cache. From a gigabyte per second on, system calls cost
/// more.
const SLICE_MAX: u64 = 256 << 10;
const SLICE_FAST: u64 = 1 << 20;
const FAST: u64 = 1_000_000_000;

/// The longest sleep: a changed rate takes effect after it.
const NAP: u64 = SECOND / 50;

/// A rate, and how far its bytes are paid for.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Bytes per second; 0 means no limit.
    rate: u64,
    burst: u64,
    paid_until: u64,
    /// The remainder of the division by the rate, in bytes times nanoseconds.
    remainder: u64,
}

impl Schedule {
    /// `rate` bytes per second, 0 for no limit, from the time `now` on; after a stall at most `burst` nanoseconds of it
    /// at once.
    pub fn new(rate: u64, burst: u64, now: u64) -> Self {
        Schedule { rate, burst, paid_until: now, remainder: 0 }
    }

    /// How many bytes to move at once: few enough for a steady flow, and at most half of the burst, so that some of it
    /// is left after a late wakeup. At least one byte.
    pub fn slice(&self) -> u64 {
        if self.rate == 0 {
            return u64::MAX;
        }
        let most = if self.rate >= FAST { SLICE_FAST } else { SLICE_MAX };
        let half = u64::try_from(u128::from(self.rate) * u128::from(self.burst) / u128::from(2 * SECOND));
        (self.rate / SLICES).min(most).min(half.unwrap_or(u64::MAX)).max(1)
    }

    /// Until when to sleep before the next slice is sent; `None` if it may be sent now. Sets the rate to `wanted`. No
    /// sleep is longer than 20 ms, so that a changed rate takes effect: call it again afterwards.
    pub fn pause(&mut self, wanted: u64, now: u64) -> Option<u64> {
        if wanted != self.rate {
            self.change(wanted, now);
        }
        let due = self.due();
        (due > now).then(|| due.min(now.saturating_add(NAP)))
    }

    /// When the next slice may be sent; now or earlier if at once.
    pub fn due(&self) -> u64 {
        if self.rate == 0 { 0 } else { self.paid_until }
    }

    /// Records that `bytes`, at most a slice, were sent at the time `now`.
    pub fn sent(&mut self, bytes: u64, now: u64) {
        if self.rate == 0 {
            return;
        }
        // The slice after a stall is part of the burst.
        let slice = nanoseconds(self.slice(), self.rate);
        let earliest = now.saturating_sub(self.burst.saturating_sub(slice));
        if self.paid_until < earliest {
            (self.paid_until, self.remainder) = (earliest, 0);
        }
        let cost = u128::from(bytes) * u128::from(SECOND) + u128::from(self.remainder);
        let rate = u128::from(self.rate);
        self.paid_until = self.paid_until.saturating_add(u64::try_from(cost / rate).unwrap_or(u64::MAX));
        // Less than the rate, which is a u64.
        self.remainder = u64::try_from(cost % rate).unwrap_or_default();
    }

    /// Sets another rate at the time `now`. A slice that is being paid for is charged at the faster of both rates, so
    /// that neither a raise nor a cut is delayed by the past.
    fn change(&mut self, rate: u64, now: u64) {
        if self.rate == 0 {
            self.paid_until = now;
        } else if rate > self.rate {
            let debt = u128::from(self.paid_until.saturating_sub(now)) * u128::from(self.rate) / u128::from(rate);
            // Less than before.
            self.paid_until = self.paid_until.min(now.saturating_add(u64::try_from(debt).unwrap_or(u64::MAX)));
        }
        (self.rate, self.remainder) = (rate, 0);
    }
}

fn nanoseconds(bytes: u64, rate: u64) -> u64 {
    let time = u128::from(bytes) * u128::from(SECOND) / u128::from(rate.max(1));
    u64::try_from(time).unwrap_or(u64::MAX)
}
