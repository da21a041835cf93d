//! `--lock-ddl=end`: DDL may run while InnoDB's files are copied. At the end it is blocked, and what it did to the files
//! is done to the copy.
//!
//! A server that recovers a backup does what it does after a crash. So the copy must have the files of that moment, with
//! their last names, each with pages of c0 or newer: all else is in the log. Not in the log is what a server writes into
//! an index while it builds it, which it does without redo; it is on disk before the statement ends. For tablespaces that
//! have come since they were listed that does not matter: they are copied as a whole under the lock. Of the others those
//! are copied again in which an index was begun, which the log tells. When they are listed no DDL runs, so no index is
//! half built.
//!
//! IMPORT TABLESPACE writes without redo, too, into a file that is another one then; redo logging can be switched off.

use std::collections::BTreeSet;

use bstr::ByteSlice;

use super::{MySql, logging, wanted};
use crate::error::{Error, Result};
use crate::io::spool::Spool;
use crate::redo::watch::{Until, Watch};
use crate::server::files::{Layout, Tablespace};
use crate::server::mysql::{InstanceLock, LogStatus, files};
use crate::server::{Session, applier};
use crate::snap::family::Hot;
use crate::snap::finish::Snapshot;
use crate::snap::known::Known;
use crate::stream::Writer;
use crate::stream::profile::Redo;

/// What is known of the moment at which DDL was let go.
pub(super) struct Free {
    watch: Watch,
    /// How often the statement had been run that can switch redo logging off.
    alterations: u64,
}

impl Free {
    /// Lets DDL go, now that everything is listed.
    pub(super) fn begin(lock: &mut InstanceLock, layout: &Layout, redo: &Redo) -> Result<Self> {
        let alterations = lock.ask(alterations)?;
        lock.ask(logging)?;
        let since = lock.ask(LogStatus::of)?.lsn;
        let watch = Watch::begin(&layout.redo, redo.checkpoint_lsn, redo.log_uuid.unwrap_or_default(), since)?;
        lock.pause()?;
        Ok(Free { watch, alterations })
    }
}

impl MySql<'_> {
    /// Copies InnoDB's files while DDL runs, then all that is left while it does not.
    pub(super) fn freely(
        &mut self,
        hot: &Hot<'_>,
        free: Free,
        known: &Known,
        held: &Writer<Spool>,
    ) -> Result<Snapshot> {
        let (Free { watch, alterations }, abort) = (free, hot.steps.abort);
        let until = Until::default();
        std::thread::scope(|scope| {
            let watching = scope.spawn(|| watch.run(&until).inspect_err(|error| abort.fail(error.clone())));
            let copy = || {
                hot.steps.system(&[])?;
                hot.steps.tables(known, false)?;
                hot.quietly(&applier::MYSQL, || {
                    hot.report.stage("waiting for locks");
                    self.lock.instance()?;
                    hot.report.stage("copying under lock");
                    until.end(self.blocked(alterations)?);
                    let touched = watching.join().map_err(|_| panicked())??;
                    self.resync(hot, known, &touched, held)?;
                    let others = files::others(&self.layout.datadir)?;
                    let buffer_pool = files::buffer_pool(&self.layout.datadir);
                    hot.steps.files(held, others.free.into_iter().chain(buffer_pool).map(Ok))?;
                    self.rest(hot, others.locked, held)
                })
            };
            let copied = copy();
            until.over();
            copied
        })
    }

    /// How far the log goes now that DDL is blocked; it is on disk up to there.
    fn blocked(&mut self, alterations: u64) -> Result<u64> {
        self.lock.ask(logging)?;
        self.lock.ask(readable_log)?;
        if self.lock.ask(self::alterations)? != alterations {
            let what = "ALTER INSTANCE was run while files were copied: redo logging may have been off for a while";
            return Err(Error::invalid("server", what).hint("run it again, or with --lock-ddl=early"));
        }
        let lsn = self.lock.ask(LogStatus::of)?.lsn;
        self.lock.run("FLUSH NO_WRITE_TO_BINLOG ENGINE LOGS")?;
        Ok(lsn)
    }

    /// Copies again what is not as the log leads to it; names what has gone.
    fn resync(&mut self, hot: &Hot<'_>, known: &Known, touched: &BTreeSet<u32>, held: &Writer<Spool>) -> Result<()> {
        let spaces = self.list()?;
        let mut changes = known.changes_of(wanted(self.job, spaces.tables), spaces.undo, touched);
        changes.again.extend(hot.steps.imported(std::mem::take(&mut changes.doubtful))?);
        hot.steps.dropped(held, &changes.gone)?;
        let gone = |found: &Tablespace| Err(Error::invalid(found.name.as_bstr(), super::GONE).hint(super::NOBODY));
        hot.steps.again(held, changes.again.iter().chain(&changes.unwritten), gone)?;
        if touched.contains(&0) { hot.steps.system_again(held) } else { Ok(()) }
    }
}

/// Fails if nobody without its key can read the log.
pub(super) fn readable_log(session: &mut Session) -> Result<()> {
    if session.value("SELECT @@global.innodb_redo_log_encrypt")?.is_some_and(|value| value == "1") {
        let what = "its redo log is encrypted, so that it does not tell in which tables indexes are built meanwhile";
        return Err(Error::failed("server", what).hint("run it with --lock-ddl=early"));
    }
    Ok(())
}

/// Counted when the statement begins.
fn alterations(session: &mut Session) -> Result<u64> {
    session.status("Com_alter_instance")
}

fn panicked() -> Error {
    Error::failed("xb-snap", "a thread ended early; this is a fault of the program")
}
