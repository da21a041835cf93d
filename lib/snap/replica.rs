//! `--safe-replica`: stop applying events at a moment when no temporary table is open, as the stock tool does. A
//! replica restored between the creation of one and its use could not go on. Source: `backup_mysql.cc`
//! (`wait_for_safe_slave`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::{Error, Kind, Result};
use crate::report::{Level, Report};
use crate::server::applier::Applier;
use crate::server::{Login, Session};

/// How long to look for such a moment, and how long to let replication run between two looks.
const PATIENCE: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_secs(3);
/// How often we look whether we were asked to stop.
const TICK: Duration = Duration::from_millis(100);

/// Replication that stands still until [`Quiet::end`], or until this is dropped because something failed.
pub(super) struct Quiet<'a> {
    applier: &'a Applier,
    login: &'a Login,
    /// The connections that were applying events.
    stopped: Vec<String>,
    signals: Signals,
}

impl<'a> Quiet<'a> {
    /// Stops what is applying events at a safe moment. Nothing is done on a server that applies none.
    pub(super) fn seek(applier: &'a Applier, login: &'a Login, report: &dyn Report) -> Result<Self> {
        let session = &mut login.connect()?;
        let stopped = applier.running(session)?;
        let quiet = Quiet { applier, login, stopped, signals: Signals::hold()? };
        if quiet.stopped.is_empty() {
            report.note(Level::Info, format_args!("server: applies no replicated events; nothing to wait for"));
        } else {
            quiet.wait(session, report)?;
        }
        Ok(quiet)
    }

    fn wait(&self, session: &mut Session, report: &dyn Report) -> Result<()> {
        let begun = Instant::now();
        loop {
            self.applier.stop(session, &self.stopped)?;
            if self.applier.temporary_tables(session)? == 0 {
                return Ok(());
            }
            self.applier.start(session, &self.stopped)?;
            if begun.elapsed() > PATIENCE {
                return Err(Error::failed("server", "replication has temporary tables open all the time")
                    .hint("leave out --safe-replica with row-based replication; it does not need it"));
            }
            report.note(Level::Info, format_args!("server: waiting until replication has no temporary tables open"));
            let asleep = Instant::now();
            while asleep.elapsed() < PAUSE {
                self.signals.check()?;
                std::thread::sleep(TICK);
            }
        }
    }

    /// Fails if a signal has asked us to stop, which must wait until replication goes on again.
    pub(super) fn check(&self) -> Result<()> {
        self.signals.check()
    }

    /// Lets replication go on.
    pub(super) fn end(mut self) -> Result<()> {
        self.resume()?;
        self.check()
    }

    /// Over a new connection: the others may have been lost.
    fn resume(&mut self) -> Result<()> {
        let stopped = std::mem::take(&mut self.stopped);
        if stopped.is_empty() { Ok(()) } else { self.applier.start(&mut self.login.connect()?, &stopped) }
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        let _ = self.resume();
    }
}

/// A signal must not end us while replication stands still because of us; a second one may.
struct Signals {
    /// Whether a signal ends the process at once.
    deadly: Arc<AtomicBool>,
    caught: Arc<AtomicUsize>,
}

impl Signals {
    fn hold() -> Result<Self> {
        let signals = Signals { deadly: Arc::default(), caught: Arc::default() };
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            let number = usize::try_from(signal).unwrap_or_default();
            flag::register_conditional_default(signal, Arc::clone(&signals.deadly))
                .and_then(|_| flag::register(signal, Arc::clone(&signals.deadly)))
                .and_then(|_| flag::register_usize(signal, Arc::clone(&signals.caught), number))
                .map_err(|cause| Error::io("signals", "cannot be caught", &cause))?;
        }
        Ok(signals)
    }

    fn check(&self) -> Result<()> {
        match i32::try_from(self.caught.load(Relaxed)) {
            Ok(0) | Err(_) => Ok(()),
            Ok(signal) => Err(Error::new(Kind::Signal(signal), "xb-snap", "stopped; replication goes on")),
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.deadly.store(true, Relaxed);
    }
}
