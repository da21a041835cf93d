//! `xb-throttle`: passes anything on, no faster than it is told to, and tells how far it is.

pub mod observer;
pub mod remote;
pub mod schedule;

use std::fs::File;
use std::io::{self, Read, Write};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::thread::{ClockId, Timespec};

use crate::bytes::Part as _;
use crate::error::{Error, Result};
use crate::io::pipe::{Mover, lost};
use crate::report::{Level, Report};
use observer::{Observer, Seen};
use schedule::{SECOND, Schedule};

/// How to pass a stream on.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes a second; 0 for no limit.
    pub rate: u64,
    /// After a stall at most so many milliseconds of the rate go out at once.
    pub burst_ms: u64,
    /// Bytes to expect; without it the stream's first member may say.
    pub size: Option<u64>,
    /// Tell the name of each member that passes.
    pub names: bool,
}

/// Passes `input` on to `output` until it ends.
pub fn run(options: &Options, input: File, output: File, report: &dyn Report) -> Result<()> {
    let rate = Arc::new(AtomicU64::new(options.rate));
    if let Err(cause) = remote::listen(rate.clone()) {
        let why = crate::error::reason(&cause);
        report.note(Level::Warning, format_args!("-R: the rate of this run cannot be changed: {why}"));
    }
    if let Some(size) = options.size {
        report.expect(size);
    }
    // The kernel may round a sleep up by this much; its default of 50 us is felt from a gigabyte a second on.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let observer = (options.names || options.size.is_none()).then(|| Observer::new(options.names));
    let sized = options.size.is_some();
    let mut flow = Flow { input, output, mover: Mover::default(), observer, sized, report };
    let mut schedule = Schedule::new(options.rate, options.burst_ms.saturating_mul(SECOND / 1000), now());
    loop {
        wait(&mut schedule, &rate);
        match flow.some(schedule.slice())? {
            0 => return Ok(()),
            count => {
                schedule.sent(count, now());
                report.advance(count);
            }
        }
    }
}

/// Sleeps until the next slice may go, at the rate that is wanted by then.
fn wait(schedule: &mut Schedule, wanted: &AtomicU64) {
    while let Some(until) = schedule.pause(wanted.load(Relaxed), now()) {
        // A signal ends it early; the schedule looks at the clock again.
        let _ = rustix::thread::clock_nanosleep_absolute(ClockId::Monotonic, &moment(until));
    }
}

/// Nanoseconds of the clock that only goes forward.
fn now() -> u64 {
    let time = rustix::time::clock_gettime(ClockId::Monotonic);
    let (seconds, rest) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    seconds.unwrap_or_default().saturating_mul(SECOND).saturating_add(rest.unwrap_or_default())
}

fn moment(nanoseconds: u64) -> Timespec {
    let seconds = i64::try_from(nanoseconds / SECOND).unwrap_or(i64::MAX);
    Timespec { tv_sec: seconds, tv_nsec: i64::try_from(nanoseconds % SECOND).unwrap_or_default() }
}

/// Two descriptors and what is read of the stream between them.
struct Flow<'a> {
    input: File,
    output: File,
    mover: Mover,
    observer: Option<Observer>,
    /// The size was given.
    sized: bool,
    report: &'a dyn Report,
}

impl Flow<'_> {
    /// Passes up to `most` bytes on, unseen where it can be; 0 at the end of the input.
    fn some(&mut self, most: u64) -> Result<u64> {
        let need = self.observer.as_ref().map_or(0, Observer::need);
        if need > 0 {
            return self.seen(usize::try_from(most).unwrap_or(usize::MAX).min(need));
        }
        let blind = self.observer.as_ref().map_or(u64::MAX, Observer::blind);
        let moved = self.mover.some(&self.input, &self.output, most.min(blind)).map_err(|cause| lost(&cause))? as u64;
        if let Some(observer) = &mut self.observer {
            observer.skip(moved);
        }
        Ok(moved)
    }

    fn seen(&mut self, most: usize) -> Result<u64> {
        let mut buffer = vec![0; most];
        let got = loop {
            match self.input.read(&mut buffer) {
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                other => break other.map_err(|cause| Error::io("stdin", "cannot read", &cause))?,
            }
        };
        let bytes = buffer.part(..got)?;
        self.output.write_all(bytes).map_err(|cause| Error::io("stdout", "cannot write", &cause))?;
        match self.observer.as_mut().and_then(|observer| observer.see(bytes)) {
            Some(Seen::Expected(bytes)) if !self.sized => self.report.expect(bytes),
            Some(Seen::Coded) if !self.sized => self.report.expect(0),
            Some(Seen::Member(name)) => self.report.stage(&name),
            Some(Seen::Expected(_) | Seen::Coded) | None => {}
        }
        Ok(got as u64)
    }
}
