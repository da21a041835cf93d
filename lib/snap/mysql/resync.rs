//! `--lock-ddl=end`: DDL may run while InnoDB's files are copied. At the end it is blocked, and the copy is brought to
//! the state of the files.
//!
//! A server that recovers a backup does what it does after a crash. So the copy must have the files of the last moment,
//! under their last names, each with pages of the checkpoint LSN or newer; the log has everything else. One thing is
//! not in the log: a server builds an index without redo. It writes these pages to disk before the statement ends.
//! Tablespaces that were created after the listing are copied as a whole under the lock, so this does not matter for
//! them. Of the others, those are copied again in which the log shows the start of an index build, or that got an
//! encryption key. No DDL runs during the listing, so no index is half built then.
//!
//! Two statements end the backup, because the copy cannot be repaired: IMPORT TABLESPACE, which creates a tablespace
//! with the id of one whose file was deleted, and switching redo logging off for a while.

use std::collections::BTreeSet;
use std::time::Duration;

use bstr::ByteSlice;

use super::{MySql, is_log_encrypted, logging, redo, wanted};
use crate::error::{Error, Kind, Result};
use crate::innodb::ids::{Lsn, SpaceId};
use crate::io::spool::Spool;
use crate::log::ddl_watch::mysql::{Limit, Watch};
use crate::server::dictionary::Ledger;
use crate::server::files::Tablespace;
use crate::server::mysql::{LogStatus, files};
use crate::server::session::told;
use crate::server::{Session, applier};
use crate::snap::catalog::{Catalog, Review};
use crate::snap::fileset;
use crate::snap::finish::Snapshot;
use crate::snap::running::Hot;
use crate::stream::Writer;
use crate::stream::native::Redo;

/// How often the server may overwrite a small, busy log before the backup has begun.
const TRIES: u32 = 5;
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(10);

impl MySql<'_> {
    /// Reads the checkpoint LSN and releases the lock on DDL, now that everything is listed. The log is watched from
    /// here on.
    pub(super) fn let_go(&mut self) -> Result<Redo> {
        self.lock.ask(none_discarded)?;
        self.lock.ask(logging)?;
        let since = self.lock.ask(LogStatus::of)?.lsn;
        let mut tries = TRIES;
        let redo = loop {
            let redo = redo(&self.layout)?;
            match Watch::begin(&self.layout.redo, redo.checkpoint_lsn, redo.log_uuid.unwrap_or_default(), since) {
                // The log was overwritten already: there is a newer checkpoint.
                Err(error) if error.kind() == Kind::Invalid && tries > 0 => {
                    tries -= 1;
                    std::thread::sleep(PAUSE);
                }
                watch => {
                    self.watch = Some(watch?);
                    break redo;
                }
            }
        };
        self.lock.pause()?;
        Ok(redo)
    }

    /// Copies InnoDB's files while DDL may run, then the rest while it is blocked.
    pub(super) fn freely(
        &mut self,
        hot: &Hot<'_>,
        watch: Watch,
        catalog: &Catalog,
        deferred: &Writer<Spool>,
    ) -> Result<Snapshot> {
        let (limit, abort) = (Limit::default(), hot.steps.abort);
        std::thread::scope(|scope| {
            let watching = scope.spawn(|| watch.run(&limit).inspect_err(|error| abort.fail(error.clone())));
            let copy = || {
                hot.steps.system(&[])?;
                hot.steps.tables(catalog, false)?;
                hot.with_replication_stopped(&applier::MYSQL, || {
                    hot.report.stage("waiting for locks");
                    self.lock.instance()?;
                    hot.report.stage("copying under lock");
                    limit.set_end(self.blocked()?);
                    let events = watching.join().map_err(|_| panicked())??;
                    self.lock.ask(|session| none_imported(session, events.deleted()))?;
                    self.resync(hot, catalog, events.touched(), deferred)?;
                    let others = files::others(&self.layout.datadir)?;
                    let buffer_pool = files::buffer_pool(&self.layout.datadir);
                    hot.steps.files(deferred, others.free.into_iter().chain(buffer_pool).map(Ok))?;
                    self.rest(hot, others.locked, deferred)
                })
            };
            let copied = copy();
            limit.cancel();
            copied
        })
    }

    /// The LSN of the log now that DDL is blocked; the log is on disk up to there.
    fn blocked(&mut self) -> Result<Lsn> {
        self.lock.ask(logging)?;
        self.lock.ask(readable_log)?;
        if self.lock.ask(alterations)? != self.alterations {
            let what = "ALTER INSTANCE was run while files were copied: redo logging may have been off for a while";
            return Err(Error::invalid("server", what).hint("run it again, or with --lock-ddl=early"));
        }
        let lsn = self.lock.ask(LogStatus::of)?.lsn;
        self.lock.run("FLUSH NO_WRITE_TO_BINLOG ENGINE LOGS")?;
        Ok(lsn)
    }

    /// Copies again what the log does not make right, and lists what was dropped.
    fn resync(
        &mut self,
        hot: &Hot<'_>,
        catalog: &Catalog,
        touched: &BTreeSet<SpaceId>,
        deferred: &Writer<Spool>,
    ) -> Result<()> {
        let (spaces, dictionary) = self.list()?;
        let mut ledger = Ledger::new(&dictionary);
        let mut review = Review { ledger: &mut ledger, heads: &|files| hot.steps.heads(files) };
        let undo = std::mem::take(&mut self.undo);
        let changes = catalog.changes_of(wanted(self.job, spaces.tables)?, undo, touched, &mut review)?;
        fileset::none_missing(&ledger, &self.job.filter)?;
        fileset::tell(&ledger, hot.report);
        hot.steps.dropped(deferred, &changes.gone)?;
        let gone = |found: &Tablespace| Err(Error::invalid(found.name.as_bstr(), super::GONE).hint(super::NOBODY));
        hot.steps.again(deferred, changes.again.iter().chain(&changes.unwritten), gone)?;
        if touched.contains(&SpaceId::SYSTEM) { hot.steps.system_again(deferred) } else { Ok(()) }
    }
}

/// Fails if the log cannot be read without its key.
pub(super) fn readable_log(session: &mut Session) -> Result<()> {
    if is_log_encrypted(session)? {
        let what = "its redo log is encrypted, so tables in which indexes are built cannot be found";
        return Err(Error::failed("server", what).hint("run it with --lock-ddl=early"));
    }
    Ok(())
}

/// Fails if a tablespace is discarded: when a file appears later, nothing tells whether it is imported already.
fn none_discarded(session: &mut Session) -> Result<()> {
    let sql = "SELECT NAME AS name FROM information_schema.INNODB_TABLESPACES WHERE STATE='discarded' LIMIT 1";
    match session.value(sql)? {
        Some(name) => Err(Error::failed(name, "its tablespace is discarded, and may be imported during the backup")
            .hint("run it with --lock-ddl=early")),
        None => Ok(()),
    }
}

/// Fails if a tablespace exists whose file was deleted during the copy.
fn none_imported(session: &mut Session, deleted: &BTreeSet<SpaceId>) -> Result<()> {
    for row in session.records("SELECT SPACE AS id, NAME AS name FROM information_schema.INNODB_TABLESPACES")? {
        let text = |key: &str| row.get(key).map(String::as_str).unwrap_or_default();
        if deleted.contains(&told(&row, "INNODB_TABLESPACES", "id")?) {
            let what = "its tablespace was discarded or imported while files were copied, which the log does not show";
            return Err(Error::invalid(text("name"), what).hint("run it again, or with --lock-ddl=early"));
        }
    }
    Ok(())
}

/// The server counts the statement when it begins.
pub(super) fn alterations(session: &mut Session) -> Result<u64> {
    session.status("Com_alter_instance")
}

fn panicked() -> Error {
    Error::internal("a thread ended before its work")
}
