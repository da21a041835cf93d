//! Tells xb-redo during the copy how far the server's log is durable. Source: `facts/mariadb-hot-backup#stream` and
//! `facts/mariadb-hot-backup#durable-bound`.

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::codec::pool::FirstError;
use crate::error::{Error, Result};
use crate::innodb::ids::Lsn;
use crate::server::LOST;
use crate::server::Session;
use crate::stream::Writer;
use crate::stream::native::{MARK, mark_bytes};

/// How often the server is asked.
const INTERVAL: Duration = Duration::from_millis(100);
/// After how many intervals the session that holds the locks is checked: its loss must not be noticed hours later.
const LOOK: u64 = 10;

/// Writes `xb_mark.N` members.
pub(super) struct DurableLsn<'a> {
    out: &'a Writer<File>,
    /// The status variable with the durable LSN; `None` if the server writes no log.
    flushed: Option<&'static str>,
    next: AtomicU64,
    /// Set once no mark may be written any more. The server is asked while this is locked, so a mark never exceeds the
    /// end LSN: it was read before that.
    stopped: Mutex<bool>,
    wake: Condvar,
}

impl<'a> DurableLsn<'a> {
    pub(super) fn new(out: &'a Writer<File>, flushed: Option<&'static str>) -> Self {
        DurableLsn { out, flushed, next: AtomicU64::new(1), stopped: Mutex::new(false), wake: Condvar::new() }
    }

    /// Sends marks until [`DurableLsn::stop`]. `holder` is the session with the locks, if any.
    pub(super) fn run(&self, mut session: Session, holder: Option<u32>, abort: &FirstError) {
        for round in 1u64.. {
            let lsn = {
                let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
                if *stopped {
                    return;
                }
                self.flushed.map(|name| session.status(name).map(Lsn::new)).transpose()
            };
            let holds = match holder.filter(|_| round.is_multiple_of(LOOK)) {
                Some(id) => look_for(&mut session, id),
                None => Ok(()),
            };
            if let Err(error) = holds.and(lsn).and_then(|lsn| lsn.map_or(Ok(()), |lsn| self.send(lsn))) {
                abort.fail(error);
                return;
            }
            let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = self.wake.wait_timeout_while(stopped, INTERVAL, |stopped| !*stopped);
        }
    }

    /// Sends the end LSN, if there is a log for xb-redo to follow.
    pub(super) fn end(&self, lsn: Lsn) -> Result<()> {
        self.flushed.map_or(Ok(()), |_| self.send(lsn))
    }

    /// Writes one mark.
    fn send(&self, lsn: Lsn) -> Result<()> {
        let name = [MARK, self.next.fetch_add(1, Relaxed).to_string().as_bytes()].concat();
        self.out.member(&name, &mark_bytes(lsn))
    }

    /// The server is not asked again after this returns.
    pub(super) fn stop(&self) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.wake.notify_all();
    }
}

/// An account sees its own connections without any privilege.
fn look_for(session: &mut Session, id: u32) -> Result<()> {
    let sql = format!("SELECT 1 FROM information_schema.processlist WHERE id={id}");
    match session.value(&sql)? {
        Some(_) => Ok(()),
        None => Err(Error::invalid("server", "the session that holds the backup's locks was lost").hint(LOST)),
    }
}
