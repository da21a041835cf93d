//! The backup of a running MySQL server: its statements, in order. Source: `facts/mysql-hot-backup#statements`.

mod meta;
mod resync;
mod stopped;

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bstr::ByteSlice;

use super::catalog::Catalog;
use super::copy::Copier;
use super::fileset;
use super::finish::Snapshot;
use super::identity::{self, Evidence};
use super::meta::{Members, switched_on};
use super::partial;
use super::running::{Hot, Running};
use super::steps::{Found, Steps, readable};
use super::workers::Buffers;
use super::{Job, LockDdl};
use crate::error::{Error, Result};
use crate::innodb::ids::SpaceId;
use crate::innodb::redo::mysql::FORMAT;
use crate::io::spool::Spool;
use crate::log::ddl_watch::mysql::Watch;
use crate::log::live::mysql as live;
use crate::metadata::Facts;
use crate::report::{Level, Report};
use crate::server::applier::{self, Applier};
use crate::server::dictionary::{Dictionary, Ledger};
use crate::server::files::{Layout, Tablespace};
use crate::server::mysql::files::{self, Named, Spaces};
use crate::server::mysql::{GtidSet, InstanceLock, LogStatus, binlog_prefix, replica};
use crate::server::privileges::{self, Need};
use crate::server::session::{Record, told};
use crate::server::{Login, Session, Variables};
use crate::stream::Writer;
use crate::stream::native::{Binlog, EntryKind, Redo};
pub(super) use meta::ENCRYPTION;
pub(super) use stopped::Stopped;

/// Their ids must fit into the last line of a manifest.
const LEFT_OUT_MAX: usize = 60_000;

/// The file of the server's dictionary, which is always in the data directory.
const DICTIONARY: &str = "mysql.ibd";

/// The messages for a file that disappeared although DDL was blocked: no server removes one then.
const GONE: &str = "was removed before it could be copied, although DDL was blocked";
const NOBODY: &str = "do not remove files of a running server; run the backup again";

/// The server, and the session that holds the locks.
pub(super) struct MySql<'a> {
    job: &'a Job,
    variables: &'a Variables,
    layout: Layout,
    options: BTreeMap<String, String>,
    lock: InstanceLock,
    /// Tables of engines without transactions.
    tables: Vec<Named>,
    /// Files with the name of an undo tablespace.
    undo: Vec<Tablespace>,
    /// External tablespaces, for `xtrabackup_tablespaces`.
    external: Vec<Tablespace>,
    /// How often ALTER INSTANCE, which can switch redo logging off, had been run.
    alterations: u64,
    /// Watches the log while DDL may run.
    watch: Option<Watch>,
}

impl<'a> MySql<'a> {
    /// Checks that a backup is possible at all.
    pub(super) fn new(job: &'a Job, mut session: Session, variables: &'a Variables) -> Result<Self> {
        refuse(job)?;
        let layout = files::layout(Layout::of(variables)?);
        readable(&layout)?;
        same_server(&layout, variables)?;
        logging(&mut session)?;
        provable_log(&mut session)?;
        if job.lock_ddl == Some(LockDdl::End) {
            resync::readable_log(&mut session)?;
        }
        if job.filter.is_partial() {
            closed_log(&mut session)?;
        }
        let tables = tables(job, &layout)?;
        privileges::check(&mut session, &needed(job, &tables))?;
        if job.replica_info && !job.safe_replica {
            replica::exact(&replica::channels(&mut session)?)?;
        }
        let lock = InstanceLock::new(session, job.lock_timeout)?;
        let options = meta::options(variables);
        Ok(MySql {
            job,
            variables,
            layout,
            options,
            lock,
            tables,
            undo: Vec::new(),
            external: Vec::new(),
            alterations: 0,
            watch: None,
        })
    }
}

impl Running for MySql<'_> {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Replication cannot be stopped while DDL is blocked (error 3857), which is the whole time.
    fn stops_first(&self) -> Option<&'static Applier> {
        (self.job.lock_ddl != Some(LockDdl::End)).then_some(&applier::MYSQL)
    }

    fn flushed(&self) -> Option<&'static str> {
        Some("Innodb_redo_log_flushed_to_disk_lsn")
    }

    fn evidence(&mut self, login: &Login) -> Result<Evidence> {
        let dir = self.variables.dir("innodb_temp_tablespaces_dir");
        identity::temporary_tables(login.connect()?, &dir, &self.layout.datadir)
    }

    fn guarded(&self) -> Vec<PathBuf> {
        self.layout.system.iter().cloned().chain([self.layout.datadir.join(DICTIONARY)]).collect()
    }

    fn lock(&mut self) -> Result<()> {
        // A statement that is counted from here on may be waiting for the lock, and run once it is released.
        self.alterations = self.lock.ask(resync::alterations)?;
        self.lock.instance()
    }

    fn session(&mut self) -> &mut Session {
        self.lock.session()
    }

    fn holder(&mut self) -> Option<u32> {
        Some(self.lock.session().id())
    }

    fn look(&mut self, _: &Hot<'_>) -> Result<Found> {
        let server_uuid = self.variables.get("server_uuid").map(str::to_owned);
        let (spaces, dictionary) = self.list()?;
        // No DDL can run here.
        let listed = |name: &[u8]| spaces.tables.binary_search_by(|space| space.name.as_slice().cmp(name)).is_ok();
        fileset::none_open(&dictionary, &fileset::unseen(&dictionary, listed, &self.job.filter)?)?;
        // This comes last, because the server continues to overwrite its log.
        let redo = match self.job.lock_ddl {
            Some(LockDdl::End) => self.let_go()?,
            _ => redo(&self.layout)?,
        };
        let mut found = found(self.job, redo, server_uuid, spaces)?;
        found.catalog.dictionary = Some(dictionary);
        if self.watch.is_some() {
            // Undo tablespaces may then be truncated, created and dropped like any other.
            found.catalog.add(std::mem::take(&mut found.undo));
        }
        Ok(found)
    }

    fn copy(&mut self, hot: &Hot<'_>, undo: &[Tablespace], catalog: Catalog) -> Result<(Snapshot, Spool)> {
        hot.report.stage("copying InnoDB");
        let deferred = hot.deferred_output();
        let snapshot = match self.watch.take() {
            Some(watch) => self.freely(hot, watch, &catalog, &deferred)?,
            None => {
                let others = innodb(&hot.steps, undo, &catalog)?;
                self.settled(&catalog, hot.report)?;
                self.rest(hot, others.locked, &deferred)?
            }
        };
        // Of the answers at the start and at the end, the one that encrypts more is used.
        self.lock.ask(|session| switched_on(&mut self.options, &ENCRYPTION, session))?;
        Ok((snapshot, deferred.into_inner()))
    }

    /// The log was flushed under the locks.
    fn settle(&mut self, _: &Snapshot) -> Result<()> {
        Ok(())
    }

    fn options(&self) -> &BTreeMap<String, String> {
        &self.options
    }

    fn members(&self, facts: &Facts, snapshot: &Snapshot) -> Members {
        meta::members(self.variables, &self.external, facts, snapshot)
    }
}

impl MySql<'_> {
    /// Lists all files, while DDL is blocked.
    fn list(&mut self) -> Result<(Spaces, Dictionary)> {
        let dictionary = self.lock.ask(|session| Dictionary::of_mysql(session, &self.layout))?;
        let mut spaces = Spaces::below(&self.layout)?;
        self.lock.ask(|session| spaces.ask(session, &self.layout.datadir))?;
        self.undo = std::mem::take(&mut spaces.undo);
        spaces.undo = fileset::undo(&self.undo, &dictionary, &self.layout)?;
        spaces.enough(&self.layout)?;
        let names = || spaces.tables.iter().map(|space| space.name.as_slice());
        self.lock.ask(|session| self.job.filter.ask(session, partial::MYSQL, names()))?;
        // Tables may have been created or dropped while the session waited for the lock.
        self.tables = tables(self.job, &self.layout)?;
        self.external = spaces.external();
        Ok((spaces, dictionary))
    }

    /// Fails if a tablespace has not been copied; warns of files that are left out.
    fn settled(&self, catalog: &Catalog, report: &dyn Report) -> Result<()> {
        let Some(dictionary) = &catalog.dictionary else { return Ok(()) };
        let mut ledger = Ledger::new(dictionary);
        catalog.compare_with(&mut ledger)?;
        fileset::take(&mut ledger, &self.undo, &self.layout)?;
        fileset::none_missing(&ledger, &self.job.filter)?;
        fileset::tell(&ledger, report);
        Ok(())
    }

    /// Copies what must be of one moment: tables without transactions, and the positions.
    fn rest(&mut self, hot: &Hot<'_>, others: Vec<Vec<u8>>, deferred: &Writer<Spool>) -> Result<Snapshot> {
        let left_out = self.lock.ask(|session| left_out(self.job, &self.layout, session))?;
        hot.report.stage("waiting for locks");
        if self.variables.is_on("log_bin") {
            // The part of the binary log that is copied is then short.
            self.lock.run("FLUSH NO_WRITE_TO_BINLOG BINARY LOGS")?;
        }
        self.lock.tables(&self.tables)?;
        hot.report.stage("copying under lock");
        hot.steps.files(deferred, others.into_iter().map(Ok))?;
        hot.durable_lsn.stop();
        self.snapshot(hot, deferred, left_out)
    }

    /// Reads all positions at one moment, waits until the log is on disk up to there, copies the end of the binary log,
    /// then releases all locks.
    fn snapshot(&mut self, hot: &Hot<'_>, deferred: &Writer<Spool>, left_out: Vec<SpaceId>) -> Result<Snapshot> {
        let status = self.lock.ask(LogStatus::of)?;
        if self.variables.get("server_uuid").is_some_and(|uuid| uuid != status.uuid) {
            return Err(Error::invalid("server", format_args!("its uuid has changed to {}", status.uuid)));
        }
        let channels = self.lock.ask(|session| channels(self.job, session))?;
        let galera = match self.job.galera_info {
            true => self.lock.ask(crate::server::positions::galera)?,
            false => None,
        };
        self.lock.run("FLUSH NO_WRITE_TO_BINLOG ENGINE LOGS")?;
        let binlog_copy = match &status.binlog {
            Some((file, position)) => Some(self.copy_binlog(hot, deferred, file, *position)?),
            None => None,
        };
        // It may have been switched on since the check at the start.
        self.lock.ask(provable_log)?;
        if self.job.filter.is_partial() {
            self.lock.ask(closed_log)?;
        }
        let times = self.lock.end()?;
        let (binlog, executed) = match (status.binlog, binlog_copy) {
            (Some((file, position)), Some(binlog_copy)) => {
                let set = gtids(hot, &binlog_copy, position, &status.executed)?;
                (Some(Binlog { file, position, gtid: set.to_string() }), set)
            }
            _ => (None, status.executed),
        };
        let statements = Some(replica::statements(&channels, &executed)?).filter(|statements| !statements.is_empty());
        let replica = hot.replica(statements);
        Ok(Snapshot { end_lsn: status.lsn, left_out, binlog, replica, galera, times })
    }

    /// Copies the binary log up to the snapshot.
    fn copy_binlog(&self, hot: &Hot<'_>, deferred: &Writer<Spool>, file: &str, position: u64) -> Result<PathBuf> {
        let base = self.layout.datadir.join(self.variables.text("log_bin_basename"));
        let path = base.with_file_name(file);
        binlog(&hot.steps.copier, deferred, &base, &path, binlog_prefix::size(&path, position)?)?;
        Ok(path)
    }
}

/// Copies the newest binary log up to `size`, with an index that names only this file. A server that recovers uses it
/// to decide which prepared transactions were committed.
fn binlog<W: Write>(copier: &Copier<'_>, out: &Writer<W>, base: &Path, path: &Path, size: u64) -> Result<()> {
    let file = path.file_name().unwrap_or_default();
    copier.beginning(out, &mut Buffers::new(), file.as_bytes(), path, size)?;
    // The index gets this name whatever it is on the server, because --apply derives it from the name of the log.
    let index = [base.file_name().unwrap_or_default().as_bytes(), b".index"].concat();
    copier.made(out, &index, EntryKind::File, &[b"./", file.as_bytes(), b"\n"].concat())
}

/// The replication channels at the moment of the snapshot. Replication may have been started, or moved, since the copy
/// began.
fn channels(job: &Job, session: &mut Session) -> Result<Vec<Record>> {
    if job.safe_replica && !applier::MYSQL.running(session)?.is_empty() {
        return Err(
            Error::invalid("server", "replication was started while it had to stand still").hint("run it again")
        );
    }
    if !job.replica_info {
        return Ok(Vec::new());
    }
    let channels = replica::channels(session)?;
    replica::exact(&channels)?;
    Ok(channels)
}

/// The GTIDs of the snapshot. `gtid_executed` may lag behind the binary log (`facts/mysql-hot-backup#log-status`), and
/// a replica without `log_replica_updates` has executed transactions that its binary log does not have. The result is
/// the union of both sets.
fn gtids(hot: &Hot<'_>, binlog_copy: &Path, position: u64, executed: &GtidSet) -> Result<GtidSet> {
    let Some(mut set) = binlog_prefix::gtids(binlog_copy, position)? else { return Ok(executed.clone()) };
    if !executed.contains(&set) {
        hot.report.note(
            Level::Warning,
            format_args!("server: gtid_executed lags behind the binary log; the set of the binary log is recorded"),
        );
    }
    set.merge(executed);
    Ok(set)
}

/// Fails if redo logging is switched off.
fn logging(session: &mut Session) -> Result<()> {
    let enabled = session.record("SHOW GLOBAL STATUS LIKE 'Innodb_redo_log_enabled'")?;
    if enabled.and_then(|row| row.get("value").cloned()).is_some_and(|value| value == "OFF") {
        return Err(live::off("server"));
    }
    Ok(())
}

/// Refuses options that xb-snap cannot honour for MySQL.
fn refuse(job: &Job) -> Result<()> {
    match job.lock_ddl {
        _ if job.no_lock => Err(Error::usage("--no-lock", "a backup of MySQL needs its lock")
            .hint("LOCK INSTANCE FOR BACKUP blocks DDL only, no reads and no writes")),
        Some(LockDdl::Off) => Err(Error::usage("--lock-ddl", "for MySQL early, which is its default, or end")),
        _ => Ok(()),
    }
}

/// Fails if the redo log is encrypted: the end of the log could not be written without its key.
fn closed_log(session: &mut Session) -> Result<()> {
    if is_log_encrypted(session)? {
        return Err(Error::failed("server", "its redo log is encrypted: a backup of some tables could not be applied")
            .hint("take a full backup, or SET GLOBAL innodb_redo_log_encrypt=OFF"));
    }
    Ok(())
}

fn is_log_encrypted(session: &mut Session) -> Result<bool> {
    Ok(session.value("SELECT @@global.innodb_redo_log_encrypt")?.is_some_and(|value| value == "1"))
}

/// The ids of the tablespaces that are not wanted, while DDL is blocked.
fn left_out(job: &Job, layout: &Layout, session: &mut Session) -> Result<Vec<SpaceId>> {
    if !job.filter.is_partial() {
        return Ok(Vec::new());
    }
    let sql = "SELECT FILE_ID AS id, FILE_NAME AS file FROM information_schema.FILES WHERE ENGINE='InnoDB' \
        AND FILE_TYPE='TABLESPACE' AND TABLESPACE_NAME NOT IN ('innodb_system', 'mysql') ORDER BY FILE_ID";
    let mut left_out = Vec::new();
    for row in session.records(sql)? {
        let path = layout.datadir.join(told::<String>(&row, "FILES", "file")?);
        // An external tablespace is always wanted: `wanted` has refused all others.
        let Ok(below) = path.strip_prefix(&layout.datadir) else { continue };
        if !job.filter.wants(&files::clean(below)) {
            left_out.push(told(&row, "FILES", "id")?);
        }
    }
    if left_out.len() > LEFT_OUT_MAX {
        let what = format!("{} tables are left out, {LEFT_OUT_MAX} are allowed", left_out.len());
        return Err(Error::failed("server", what).hint("take a full backup"));
    }
    Ok(left_out)
}

/// Fails if log blocks have no checksums, which prove that a block is complete.
fn provable_log(session: &mut Session) -> Result<()> {
    match session.value("SELECT @@global.innodb_log_checksums")? {
        Some(value) if value == "0" => Err(live::unsealed("server")),
        _ => Ok(()),
    }
}

/// Fails if `--datadir`, or a socket of another server, leads to files that are not this server's.
fn same_server(layout: &Layout, variables: &Variables) -> Result<()> {
    let (ours, theirs) = (server_uuid(&layout.datadir)?, variables.get("server_uuid"));
    match (ours, theirs) {
        (Some(ours), Some(theirs)) if ours != theirs => {
            let what = format!("belongs to the server {ours}, the connection is to {theirs}");
            Err(Error::failed(layout.datadir.join("auto.cnf").display(), what)
                .hint("name the server with --socket, its data directory with --datadir"))
        }
        _ => Ok(()),
    }
}

/// The UUID in `auto.cnf`.
fn server_uuid(datadir: &Path) -> Result<Option<String>> {
    let text = super::steps::optional(&datadir.join("auto.cnf"))?.unwrap_or_default();
    let found = text.lines().find_map(|line| line.strip_prefix(b"server-uuid="));
    Ok(found.map(|uuid| uuid.trim().to_str_lossy().into_owned()))
}

/// The required privileges (`facts/mysql-hot-backup#privileges`).
fn needed(job: &Job, tables: &[Named]) -> Vec<Need> {
    let mut needed: Vec<Need> = ["BACKUP_ADMIN", "RELOAD", "PROCESS"].map(Need::global).into();
    if job.replica_info || job.safe_replica {
        needed.push(Need::global("REPLICATION CLIENT"));
    }
    if job.safe_replica {
        needed.push(Need::global("REPLICATION_SLAVE_ADMIN"));
    }
    needed.push(Need::on_table("SELECT", "performance_schema", "log_status"));
    for Named { database, table } in tables {
        needed.push(Need::on_tables("SELECT", database, table));
        needed.push(Need::on_database("LOCK TABLES", database));
    }
    needed
}

/// The wanted tables of engines without transactions.
fn tables(job: &Job, layout: &Layout) -> Result<Vec<Named>> {
    files::without_transactions(&layout.datadir, &|name| job.filter.wants(name))
}

/// The checkpoint LSN.
fn redo(layout: &Layout) -> Result<Redo> {
    let start = live::start(&layout.redo)?;
    Ok(Redo {
        format: FORMAT.to_string(),
        dir: layout.redo.display().to_string(),
        checkpoint_lsn: start.checkpoint_lsn,
        checkpoint_end_lsn: None,
        log_uuid: Some(start.uuid),
    })
}

fn found(job: &Job, redo: Redo, server_uuid: Option<String>, spaces: Spaces) -> Result<Found> {
    let catalog = Catalog::of(wanted(job, spaces.tables)?);
    Ok(Found { redo: Some(redo), server_uuid, catalog, undo: spaces.undo, listed: None })
}

/// The wanted tablespaces. An external tablespace cannot be left out: the dictionary of the copy has its path, and a
/// server that recovers the copy on this host would open the file and write to it.
fn wanted(job: &Job, mut spaces: Vec<Tablespace>) -> Result<Vec<Tablespace>> {
    for space in spaces.extract_if(.., |space| !job.filter.wants(&space.name)) {
        if let Some(path) = space.external {
            let what = format!("is outside the data directory, at {}, and cannot be left out", path.display());
            return Err(Error::failed(space.name.as_bstr(), what)
                .hint("the copy's server would open that file itself; include the table, or make a full backup"));
        }
    }
    Ok(spaces)
}

/// Copies InnoDB's files, then the other files that need no lock except that on DDL. Returns the files that remain.
fn innodb(steps: &Steps<'_>, undo: &[Tablespace], catalog: &Catalog) -> Result<files::Others> {
    steps.system(undo)?;
    steps.tables(catalog, true)?;
    if let Some(name) = catalog.missed() {
        return Err(Error::invalid(name.as_bstr(), GONE).hint(NOBODY));
    }
    let mut others = files::others(&steps.layout.datadir)?;
    others.free.extend(files::buffer_pool(&steps.layout.datadir));
    steps.files(steps.out, std::mem::take(&mut others.free).into_iter().map(Ok))?;
    Ok(others)
}
