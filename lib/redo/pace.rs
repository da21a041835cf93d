//! Whether the stream keeps up with the log, looked at while it runs.

use std::time::{Duration, Instant};

use super::capture::Capture;

/// For how long rates are measured.
const SPAN: Duration = Duration::from_secs(3);
/// How often it is said again.
const AGAIN: Duration = Duration::from_secs(60);
/// What waits must have grown by so much in each of two spans.
const GROWN: u64 = 2 << 20;

/// The rates since the last look.
pub(super) struct Pace {
    since: Instant,
    captured: u64,
    waiting: u64,
    /// Bytes of data.
    passed: u64,
    /// The span before this one was too slow, too.
    behind: bool,
    said: Option<Instant>,
}

impl Pace {
    pub(super) fn new(capture: &Capture) -> Self {
        let (captured, waiting) = capture.waiting();
        Pace { since: Instant::now(), captured, waiting, passed: 0, behind: false, said: None }
    }

    /// `passed` bytes of data have gone since the last call. What there is to say, if the log grows faster than it can
    /// be sent.
    pub(super) fn look(&mut self, passed: u64, capture: &Capture) -> Option<String> {
        self.passed = self.passed.saturating_add(passed);
        let time = self.since.elapsed();
        if time < SPAN {
            return None;
        }
        let (captured, waiting) = capture.waiting();
        let log = captured.saturating_sub(self.captured);
        let more = waiting.saturating_sub(self.waiting);
        let stream = self.passed.saturating_add(log.saturating_sub(more));
        let behind = more >= GROWN;
        let twice = std::mem::replace(&mut self.behind, behind) && behind;
        (self.since, self.captured, self.waiting, self.passed) = (Instant::now(), captured, waiting, 0);
        if !twice || self.said.is_some_and(|said| said.elapsed() < AGAIN) {
            return None;
        }
        self.said = Some(Instant::now());
        let rate = |bytes: u64| u128::from(bytes) * 1000 / time.as_millis().max(1) / 1024;
        Some(format!(
            "the log grows by {} KiB/s and the stream takes {} KiB/s, of which data has half: the log does not catch up, \
             and {} MiB of it wait; {} KiB/s would be enough",
            rate(log),
            rate(stream),
            waiting >> 20,
            rate(log.saturating_mul(2)),
        ))
    }
}
