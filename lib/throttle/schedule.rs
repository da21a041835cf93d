//! When how many bytes may go: a token bucket kept as the moment up to which everything sent is paid for (GCRA).
//!
//! Time is nanoseconds of any clock that only goes forward; nothing here sleeps or looks at a clock. Idle time is never
//! saved up: however long a stall was, at most `Schedule::burst` of the rate goes out at once after it. Delays do not
//! add up either, for each moment is reckoned from the one before, not from when the sleeper woke: one who wakes late
//! finds all that became due meanwhile, up to the burst. What he is late beyond that is a stall like any other.

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;
/// Slices in a second, at least: with one more or less, any second is within one per cent of the rate.
const SLICES: u64 = 128;
/// No slice is larger: half of what stays in a core's cache. From a gigabyte a second on, system calls count for more.
const SLICE_MAX: u64 = 256 << 10;
const SLICE_FAST: u64 = 1 << 20;
const FAST: u64 = 1_000_000_000;

/// Longest sleep: a rate that is changed meanwhile counts from its end on.
const NAP: u64 = SECOND / 50;

/// A rate, and how far its bytes are paid for.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Bytes a second; 0 means no limit.
    rate: u64,
    burst: u64,
    paid_until: u64,
    /// What the division by the rate has left over, in bytes times nanoseconds.
    remainder: u64,
}

impl Schedule {
    /// `rate` bytes a second, 0 for no limit, from the moment `now` on; after a stall at most `burst` nanoseconds of it
    /// at once.
    pub fn new(rate: u64, burst: u64, now: u64) -> Self {
        Schedule { rate, burst, paid_until: now, remainder: 0 }
    }

    /// Most bytes to move at once: few enough for a steady flow, and half of the burst, so that there is something left
    /// of it for a late sleeper. At least one byte, however slow that is.
    pub fn slice(&self) -> u64 {
        if self.rate == 0 {
            return u64::MAX;
        }
        let most = if self.rate >= FAST { SLICE_FAST } else { SLICE_MAX };
        let half = u64::try_from(u128::from(self.rate) * u128::from(self.burst) / u128::from(2 * SECOND));
        (self.rate / SLICES).min(most).min(half.unwrap_or(u64::MAX)).max(1)
    }

    /// Until when to sleep before the next slice goes; `None` if it may go now. `wanted` becomes the rate. No sleep is
    /// longer than 20 ms, so that a changed rate is heard of: ask again after it.
    pub fn pause(&mut self, wanted: u64, now: u64) -> Option<u64> {
        if wanted != self.rate {
            self.change(wanted, now);
        }
        let due = self.due();
        (due > now).then(|| due.min(now.saturating_add(NAP)))
    }

    /// The moment from which on the next slice may go; the present or the past if it may go at once.
    pub fn due(&self) -> u64 {
        if self.rate == 0 { 0 } else { self.paid_until }
    }

    /// `bytes`, not more than a slice, were gone at the moment `now`.
    pub fn sent(&mut self, bytes: u64, now: u64) {
        if self.rate == 0 {
            return;
        }
        // The slice that follows a stall is part of the burst.
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

    /// Another rate from the moment `now` on. A slice that is being paid for is paid for at the faster of both rates, so
    /// that neither a raise nor a cut waits for the past.
    fn change(&mut self, rate: u64, now: u64) {
        if self.rate == 0 {
            self.paid_until = now;
        } else if rate > self.rate {
            let debt = u128::from(self.paid_until.saturating_sub(now)) * u128::from(self.rate) / u128::from(rate);
            // Less than it was.
            self.paid_until = self.paid_until.min(now.saturating_add(u64::try_from(debt).unwrap_or(u64::MAX)));
        }
        (self.rate, self.remainder) = (rate, 0);
    }
}

fn nanoseconds(bytes: u64, rate: u64) -> u64 {
    let time = u128::from(bytes) * u128::from(SECOND) / u128::from(rate.max(1));
    u64::try_from(time).unwrap_or(u64::MAX)
}
