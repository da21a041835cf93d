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
use crate::log::queue::Goal;

/// How often the log is checked.
const POLL: Duration = Duration::from_millis(20);

/// The log that is being read.
pub(crate) struct Watch {
    follower: Follower,
    events: DdlEvents,
}

/// How far to read the log: no limit until it is set, or until reading is cancelled.
#[derive(Debug, Default)]
pub(crate) struct Until {
    goal: Mutex<Goal>,
    changed: Condvar,
}

impl Until {
    /// Sets the limit: the server has written the log up to here.
    pub(crate) fn end(&self, lsn: Lsn) {
        self.set(|goal| goal.end = Some(lsn));
    }

    /// Cancels the reading.
    pub(crate) fn over(&self) {
        self.set(|goal| goal.over = true);
    }

    fn set(&self, change: impl FnOnce(&mut Goal)) {
        change(&mut self.goal.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    fn wait(&self, known: &Goal) -> Goal {
        let goal = self.goal.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(goal, POLL, |goal| goal == known);
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
    pub(crate) fn run(mut self, until: &Until) -> Result<DdlEvents> {
        let mut goal = Goal::default();
        while !goal.over {
            let Watch { follower, events } = &mut self;
            let read = follower.poll(&goal, &mut |bytes, _| {
                events.feed(bytes);
                Ok(())
            });
            read.map_err(|error| match error.kind() {
                // The follower would ask for a keyring.
                Kind::Usage => Error::invalid("server", "its redo log was encrypted meanwhile and cannot be read"),
                _ => error,
            })?;
            if goal.end.is_some_and(|end| follower.reached(end)) {
                break;
            }
            goal = until.wait(&goal);
        }
        Ok(self.events)
    }
}
