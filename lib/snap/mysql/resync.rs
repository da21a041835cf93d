//! `--lock-ddl=end`: DDL may run while InnoDB's files are copied. At the end it is blocked, and what it did to the files
//! is done to the copy.
//!
//! A server that recovers a backup does what it does after a crash. So the copy must have the files of that moment,
//! with their last names, each with pages of the checkpoint LSN or newer: all else is in the log. Not in the log is
//! what a server writes into an index while it builds it, which it does without redo; it is on disk before the
//! statement ends. For tablespaces that have come since they were listed that does not matter: they are copied as a
//! whole under the lock. Of the others those are copied again in which an index was begun, or that got a key, which the
//! log tells. When they are listed no DDL runs, so no index is half built.
//!
//! What cannot be made good: IMPORT TABLESPACE, which brings a tablespace back under the number of one whose file was
//! deleted; redo logging that was off for a while. Both end the backup.

use std::collections::BTreeSet;
use std::time::Duration;

use bstr::ByteSlice;

use super::{MySql, is_log_encrypted, logging, redo, wanted};
use crate::error::{Error, Kind, Result};
use crate::innodb::ids::{Lsn, SpaceId};
use crate::io::spool::Spool;
use crate::log::ddl_watch::mysql::{Until, Watch};
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

/// How often a small and busy log may overtake us before the backup has begun.
const TRIES: u32 = 5;
/// How long the server is given in between.
const PAUSE: Duration = Duration::from_millis(10);

impl MySql<'_> {
    /// The checkpoint LSN. Lets DDL go, now that everything is listed; what its log tells is watched from here on.
    pub(super) fn let_go(&mut self) -> Result<Redo> {
        self.lock.ask(none_discarded)?;
        self.lock.ask(logging)?;
        let since = self.lock.ask(LogStatus::of)?.lsn;
        let mut tries = TRIES;
        let redo = loop {
            let redo = redo(&self.layout)?;
            match Watch::begin(&self.layout.redo, redo.checkpoint_lsn, redo.log_uuid.unwrap_or_default(), since) {
                // Overwritten already: there is a newer one.
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

    /// Copies InnoDB's files while DDL runs, then all that is left while it does not.
    pub(super) fn freely(
        &mut self,
        hot: &Hot<'_>,
        watch: Watch,
        catalog: &Catalog,
        held: &Writer<Spool>,
    ) -> Result<Snapshot> {
        let (until, abort) = (Until::default(), hot.steps.abort);
        std::thread::scope(|scope| {
            let watching = scope.spawn(|| watch.run(&until).inspect_err(|error| abort.fail(error.clone())));
            let copy = || {
                hot.steps.system(&[])?;
                hot.steps.tables(catalog, false)?;
                hot.with_replication_stopped(&applier::MYSQL, || {
                    hot.report.stage("waiting for locks");
                    self.lock.instance()?;
                    hot.report.stage("copying under lock");
                    until.end(self.blocked()?);
                    let events = watching.join().map_err(|_| panicked())??;
                    self.lock.ask(|session| none_imported(session, events.deleted()))?;
                    self.resync(hot, catalog, events.touched(), held)?;
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

    /// Copies again what is not as the log leads to it; names what has gone.
    fn resync(
        &mut self,
        hot: &Hot<'_>,
        catalog: &Catalog,
        touched: &BTreeSet<SpaceId>,
        held: &Writer<Spool>,
    ) -> Result<()> {
        let (spaces, dictionary) = self.list()?;
        let mut ledger = Ledger::new(&dictionary);
        let mut review = Review { ledger: &mut ledger, heads: &|files| hot.steps.heads(files) };
        let undo = std::mem::take(&mut self.undo);
        let changes = catalog.changes_of(wanted(self.job, spaces.tables)?, undo, touched, &mut review)?;
        fileset::none_missing(&ledger, &self.job.filter)?;
        fileset::tell(&ledger, hot.report);
        hot.steps.dropped(held, &changes.gone)?;
        let gone = |found: &Tablespace| Err(Error::invalid(found.name.as_bstr(), super::GONE).hint(super::NOBODY));
        hot.steps.again(held, changes.again.iter().chain(&changes.unwritten), gone)?;
        if touched.contains(&SpaceId::SYSTEM) { hot.steps.system_again(held) } else { Ok(()) }
    }
}

/// Fails if nobody without its key can read the log.
pub(super) fn readable_log(session: &mut Session) -> Result<()> {
    if is_log_encrypted(session)? {
        let what = "its redo log is encrypted, so that it does not tell in which tables indexes are built meanwhile";
        return Err(Error::failed("server", what).hint("run it with --lock-ddl=early"));
    }
    Ok(())
}

/// Fails if a tablespace waits for its file: who can tell whether what comes is imported already.
fn none_discarded(session: &mut Session) -> Result<()> {
    let sql = "SELECT NAME AS name FROM information_schema.INNODB_TABLESPACES WHERE STATE='discarded' LIMIT 1";
    match session.value(sql)? {
        Some(name) => Err(Error::failed(name, "its tablespace is discarded, and may be imported meanwhile")
            .hint("run it with --lock-ddl=early")),
        None => Ok(()),
    }
}

/// Fails if a tablespace is there whose file was deleted meanwhile.
fn none_imported(session: &mut Session, deleted: &BTreeSet<SpaceId>) -> Result<()> {
    for row in session.records("SELECT SPACE AS id, NAME AS name FROM information_schema.INNODB_TABLESPACES")? {
        let text = |key: &str| row.get(key).map(String::as_str).unwrap_or_default();
        if deleted.contains(&told(&row, "INNODB_TABLESPACES", "id")?) {
            let what = "its tablespace was discarded or imported while files were copied, which no log can tell";
            return Err(Error::invalid(text("name"), what).hint("run it again, or with --lock-ddl=early"));
        }
    }
    Ok(())
}

/// Counted when the statement begins.
pub(super) fn alterations(session: &mut Session) -> Result<u64> {
    session.status("Com_alter_instance")
}

fn panicked() -> Error {
    Error::internal("a thread ended before its work")
}
