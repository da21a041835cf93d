//! `--safe-replica`: stop applying events at a moment when no temporary table is open, as the stock tool does. A
//! replica restored between the creation of one and its use could not go on.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::report::{Level, Report};
use crate::server::Session;

/// How long to look for such a moment, and how long to let replication run between two looks.
const PATIENCE: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_secs(3);

/// What a family calls it.
pub(super) struct Words {
    pub(super) stop: &'static str,
    pub(super) start: &'static str,
    /// The status variable that counts them.
    pub(super) temporary_tables: &'static str,
}

impl Words {
    /// Stops the SQL thread at a safe moment.
    pub(super) fn quiesce(&self, session: &mut Session, report: &dyn Report) -> Result<()> {
        let begun = Instant::now();
        loop {
            session.run(self.stop)?;
            if session.status(self.temporary_tables)? == 0 {
                return Ok(());
            }
            session.run(self.start)?;
            if begun.elapsed() > PATIENCE {
                return Err(Error::failed("server", "replication has temporary tables open all the time")
                    .hint("leave out --safe-replica with row-based replication; it does not need it"));
            }
            report.note(Level::Info, format_args!("server: waiting until replication has no temporary tables open"));
            std::thread::sleep(PAUSE);
        }
    }

    /// Goes on applying.
    pub(super) fn resume(&self, session: &mut Session, report: &dyn Report) -> Result<()> {
        report.note(Level::Detail, format_args!("server: replication goes on"));
        Ok(session.run(self.start)?)
    }
}
