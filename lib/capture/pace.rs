//! Checks during the run whether the stream keeps up with the log.

use std::time::{Duration, Instant};

use crate::innodb::ids::Lsn;
use crate::log::queue::Queue;

/// The interval over which rates are measured.
const SPAN: Duration = Duration::from_secs(3);
/// How often the warning is repeated.
const AGAIN: Duration = Duration::from_secs(60);
/// The warning needs the waiting log to grow by this many bytes in each of two intervals.
const GROWN: u64 = 2 << 20;

/// The rates since the last check.
pub(super) struct Pace {
    since: Instant,
    captured: Lsn,
    waiting: u64,
    /// Bytes of data sent.
    passed: u64,
    /// The interval before this one was too slow, too.
    behind: bool,
    said: Option<Instant>,
}

impl Pace {
    pub(super) fn new(queue: &Queue) -> Self {
        let (captured, waiting) = queue.waiting();
        Pace { since: Instant::now(), captured, waiting, passed: 0, behind: false, said: None }
    }

    /// `passed` bytes of data were sent since the last call. Returns a warning if the log grows faster than it can be
    /// sent.
    pub(super) fn look(&mut self, passed: u64, queue: &Queue) -> Option<String> {
        self.passed = self.passed.saturating_add(passed);
        let time = self.since.elapsed();
        if time < SPAN {
            return None;
        }
        let (captured, waiting) = queue.waiting();
        let log = captured.since(self.captured);
        let span = Span { time, log, passed: self.passed, before: self.waiting, waiting };
        (self.since, self.captured, self.waiting, self.passed) = (Instant::now(), captured, waiting, 0);
        self.judge(&span, Instant::now())
    }

    /// Two slow intervals in a row give a warning, because one may be chance; then none for a while.
    fn judge(&mut self, span: &Span, now: Instant) -> Option<String> {
        let behind = span.more() >= GROWN;
        let twice = std::mem::replace(&mut self.behind, behind) && behind;
        if !twice || self.said.is_some_and(|said| now.saturating_duration_since(said) < AGAIN) {
            return None;
        }
        self.said = Some(now);
        Some(span.warning())
    }
}

/// Measurements of one interval.
struct Span {
    time: Duration,
    /// Bytes of log written by the server, and bytes of data sent.
    log: u64,
    passed: u64,
    /// Bytes of log that waited at its start, and at its end.
    before: u64,
    waiting: u64,
}

impl Span {
    fn more(&self) -> u64 {
        self.waiting.saturating_sub(self.before)
    }

    /// Data gets half of the stream, so the stream needs twice the rate of the log.
    fn warning(&self) -> String {
        let stream = self.passed.saturating_add(self.log.saturating_sub(self.more()));
        let rate = |bytes: u64| u128::from(bytes) * 1000 / self.time.as_millis().max(1) / 1024;
        format!(
            "the log grows by {} KiB/s and the stream takes {} KiB/s, of which data has half: the log does not catch up, \
             and {} MiB of it wait; {} KiB/s would be enough",
            rate(self.log),
            rate(stream),
            self.waiting >> 20,
            rate(self.log.saturating_mul(2)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn two_slow_spans_are_reported_once_a_minute() {
        // Seconds at the end of an interval, MiB that wait by then, and whether a warning is expected.
        let looks = [
            (3, 1, false),
            // Less than two more each time: this may be chance.
            (6, 2, false),
            (9, 3, false),
            // Two more, but not twice.
            (12, 5, false),
            (15, 5, false),
            (18, 7, false),
            (21, 9, true),
            // No repetition within a minute, nor if the stream has caught up by then.
            (24, 20, false),
            (80, 30, false),
            (81, 40, true),
            (141, 30, false),
            (144, 40, false),
            (147, 50, true),
        ];
        let start = Instant::now();
        let mut pace = Pace { since: start, captured: Lsn::new(0), waiting: 0, passed: 0, behind: false, said: None };
        let mut before = 0;
        for (second, wait, told) in looks {
            let span = Span { time: SPAN, log: 60 * MIB, passed: 6 * MIB, before: before * MIB, waiting: wait * MIB };
            let said = pace.judge(&span, start + Duration::from_secs(second));
            assert_eq!(said.is_some(), told, "at second {second}: {said:?}");
            before = wait;
        }
    }

    #[test]
    fn the_sufficient_rate_is_twice_the_logs() {
        // In 2 s the log grows by 20 MiB, of which 4 are sent, in addition to 4 of data.
        let span =
            Span { time: Duration::from_secs(2), log: 20 * MIB, passed: 4 * MIB, before: 8 * MIB, waiting: 24 * MIB };
        assert_eq!(
            span.warning(),
            "the log grows by 10240 KiB/s and the stream takes 4096 KiB/s, of which data has half: the log does not catch \
             up, and 24 MiB of it wait; 20480 KiB/s would be enough"
        );
    }
}
