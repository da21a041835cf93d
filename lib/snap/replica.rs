//! `--safe-replica`: stops replication at a moment when no temporary table is open, as mariadb-backup does. A replica
//! that is restored to a moment between the creation of such a table and its use could not continue. Source:
//! `backup_mysql.cc` (`wait_for_safe_slave`).

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use signal_hook::{flag, low_level};

use crate::error::{Error, Kind, Result};
use crate::report::{Level, Report};
use crate::server::applier::Applier;
use crate::server::{Login, Session};

/// How long to look for such a moment, and how long replication runs between two attempts.
const PATIENCE: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_secs(3);
/// How often to try to connect in order to start replication again, and the pause between attempts.
const TRIES: u32 = 5;
const AGAIN: Duration = Duration::from_secs(1);

/// Does `work` while the applier threads are stopped, and starts them again in any case: after a failure, and before a
/// signal ends the program. Stops nothing on a server that is not a replica.
pub(super) fn with_replication_stopped<T>(
    applier: &Applier,
    login: &Login,
    report: &dyn Report,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let session = &mut login.connect()?;
    let stopped = applier.running(session)?;
    if stopped.is_empty() {
        report.note(Level::Info, format_args!("server: applies no replicated events; nothing to wait for"));
        return work();
    }
    let replication = Replication { applier, login, report, stopped: Mutex::new(stopped) };
    let deadly = Arc::default();
    let signals = caught(&deadly).map_err(|cause| Error::io("signals", "cannot be caught", &cause))?;
    std::thread::scope(|scope| {
        let quiet = Quiet { replication: &replication, deadly, watched: signals.handle() };
        scope.spawn(|| replication.watch(signals));
        quiet.replication.seek(session)?;
        let done = work()?;
        replication.resume(&mut replication.stopped())?;
        Ok(done)
    })
}

/// The applier threads that were stopped.
struct Replication<'a> {
    applier: &'a Applier,
    login: &'a Login,
    report: &'a dyn Report,
    /// The connections whose appliers are stopped. Locked by the thread that stops or starts them.
    stopped: Mutex<Vec<String>>,
}

impl Replication<'_> {
    fn stopped(&self) -> MutexGuard<'_, Vec<String>> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops replication at a safe moment.
    fn seek(&self, session: &mut Session) -> Result<()> {
        let begun = Instant::now();
        while !self.stop(session)? {
            if begun.elapsed() > PATIENCE {
                return Err(Error::failed("server", "replication has temporary tables open all the time")
                    .hint("leave out --safe-replica with row-based replication; it does not need it"));
            }
            let report = self.report;
            report.note(Level::Info, format_args!("server: waiting until replication has no temporary tables open"));
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Stops it; starts it again if this is not a safe moment.
    fn stop(&self, session: &mut Session) -> Result<bool> {
        let stopped = self.stopped();
        self.applier.stop(session, &stopped)?;
        let safe = self.applier.temporary_tables(session)? == 0;
        if !safe {
            self.applier.start(session, &mut stopped.clone())?;
        }
        Ok(safe)
    }

    /// Starts replication over a new connection: the others may be lost, or blocked. Tries once.
    fn resume(&self, stopped: &mut Vec<String>) -> Result<()> {
        let mut stopped = std::mem::take(stopped);
        if stopped.is_empty() {
            return Ok(());
        }
        let started = self.connect().and_then(|mut session| self.applier.start(&mut session, &mut stopped));
        started.map_err(|error| {
            Error::failed("replication", format_args!("is still stopped: {error}")).hint(self.applier.starts(&stopped))
        })
    }

    fn connect(&self) -> Result<Session> {
        let mut session = self.login.connect();
        for _ in 1..TRIES {
            if session.is_err() {
                std::thread::sleep(AGAIN);
                session = self.login.connect();
            }
        }
        session
    }

    /// Waits for a signal, even while all other threads wait for a server or a pipe; then starts replication again and
    /// dies by the signal.
    fn watch(&self, mut signals: Signals) {
        let signal = signals.forever().next();
        // A signal may have arrived just before the end.
        let Some(signal) = signal.or_else(|| signals.pending().next()) else { return };
        // Locked until the end, so that no other thread stops it again.
        let mut stopped = self.stopped();
        if let Err(error) = self.resume(&mut stopped) {
            self.report.error(&error);
        }
        self.report.error(&Error::new(Kind::Signal(signal), "backup", "stopped by a signal"));
        let _ = low_level::emulate_default_handler(signal);
    }
}

/// Replication is stopped until this is dropped.
struct Quiet<'a> {
    replication: &'a Replication<'a>,
    /// True if a signal ends the process at once.
    deadly: Arc<AtomicBool>,
    watched: Handle,
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.replication.resume(&mut self.replication.stopped()) {
            self.replication.report.error(&error);
        }
        self.deadly.store(true, Relaxed);
        self.watched.close();
    }
}

/// Catches the signals that would end the process until `deadly` is set: a handler cannot be removed.
fn caught(deadly: &Arc<AtomicBool>) -> std::io::Result<Signals> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let signals = [SIGHUP, SIGINT, SIGTERM].into_iter().filter(|signal| !ignored(&status, *signal));
    let signals: Vec<i32> = signals.collect();
    for signal in &signals {
        flag::register_conditional_default(*signal, Arc::clone(deadly))?;
    }
    Signals::new(signals)
}

/// True if a signal is ignored, as SIGHUP under `nohup`; it stays ignored. Source: proc_pid_status(5).
fn ignored(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nohup_ignores() {
        let status = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n";
        assert!(ignored(status, SIGHUP));
        assert!(!ignored(status, SIGINT) && !ignored(status, SIGTERM));
        assert!(!ignored("", SIGHUP));
    }
}
