//! Reads the live log of MySQL for changes that no file shows (see
//! [`ddl_events`](crate::innodb::redo::mysql::ddl_events)).

use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::innodb::ids::Lsn;
use crate::innodb::redo::mysql::ddl_events::DdlEvents;
use crate::log::follow::Follow;
use crate::log::follow::mysql::Follower;
use crate::log::queue::Target;

/// How often the log is checked.
const POLL: Duration = Duration::from_millis(20);

/// The log that is being read.
pub(crate) struct Watch {
    follower: Follower,
    events: DdlEvents,
}

/// How far to read the log: no limit until it is set, or until reading is cancelled.
#[derive(Debug, Default)]
pub(crate) struct Limit {
    target: Mutex<Target>,
    changed: Condvar,
}

impl Limit {
    /// Sets the limit: the server has written the log up to here.
    pub(crate) fn set_end(&self, lsn: Lsn) {
        self.set(|target| target.end_lsn = Some(lsn));
    }

    /// Cancels the reading.
    pub(crate) fn cancel(&self) {
        self.set(|target| target.cancelled = true);
    }

    fn set(&self, change: impl FnOnce(&mut Target)) {
        change(&mut self.target.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    fn wait(&self, known: &Target) -> Target {
        let target = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(target, POLL, |target| target == known);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Watch {
    /// Opens the log in `dir`, identified by its UUID and a checkpoint that it had, at a later LSN.
    pub(crate) fn begin(dir: &Path, checkpoint_lsn: Lsn, uuid: u32, since: Lsn) -> Result<Self> {
        let mut follower = Follower::begin(dir, checkpoint_lsn, uuid, None)?;
        follower.skip(since);
        Ok(Watch { follower, events: DdlEvents::default() })
    }

    /// Reads to the limit.
    pub(crate) fn run(mut self, limit: &Limit) -> Result<DdlEvents> {
        let mut target = Target::default();
        while !target.cancelled {
            let Watch { follower, events } = &mut self;
            let read = follower.poll(&target, &mut |bytes, _| {
                events.feed(bytes);
                Ok(())
            });
            read.map_err(|error| match error.kind() {
                // The follower would ask for a keyring.
                Kind::Usage => {
                    Error::invalid("server", "its redo log was encrypted during the backup and cannot be read")
                }
                _ => error,
            })?;
            if target.end_lsn.is_some_and(|end| follower.reached(end)) {
                break;
            }
            target = limit.wait(&target);
        }
        Ok(self.events)
    }
}
