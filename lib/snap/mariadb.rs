//! The backup of a running MariaDB server: its backup stages in order, and what is copied in each. Source:
//! `facts/mariadb-hot-backup#sql`, `facts/mariadb-hot-backup#ddl`, `facts/mariadb-hot-backup#file-set` and
//! `facts/mariadb-hot-backup#end-lsn`.

mod engines;
mod fileset;
mod meta;
mod settled;
mod start;
mod stopped;
mod switched_off;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};

use bstr::ByteSlice;

use super::catalog::{Catalog, Changes, Review};
use super::finish::{self, Snapshot};
use super::identity::{self, Evidence};
use super::meta::{Members, switched_on};
use super::partial;
use super::running::{Hot, Running};
use super::steps::{Found, Steps, optional, readable};
use super::workers::Buffers;
use super::{Job, LockDdl};
use crate::error::{Error, Result};
use crate::innodb::ids::{Lsn, SpaceId};
use crate::io::small;
use crate::io::spool::Spool;
use crate::metadata::Facts;
use crate::server::dictionary::Ledger;
use crate::server::files::{self, Layout, SYSTEM_DATABASE, Tablespace};
use crate::server::mariadb::ddl_log::Named;
use crate::server::mariadb::locks::{Stage, Stages};
use crate::server::privileges::Need;
use crate::server::{Login, Session, Variables, applier, parts, positions, privileges};
use crate::stream::Writer;
use crate::stream::native::EntryKind;
pub(super) use meta::ENCRYPTION;
use start::Start;
pub(super) use stopped::Stopped;
pub(super) use switched_off::SwitchedOff;

/// Extra passes copy new tables before the lock until they have fewer bytes than this, or the passes are used up.
const EXTRA_BYTES: u64 = 16 << 20;
const EXTRA_PASSES: u32 = 3;
/// The file in the data directory that names the tables that DDL changed.
const DDL_LOG: &str = "ddl.log";
/// Aria's recovery starts where this file says, so it is read before any Aria table (`facts/mariadb-hot-backup#aria`).
const ARIA_CONTROL: &str = "aria_log_control";
/// The hint after DDL that makes a backup invalid.
const RUN_AGAIN: &str = "run it again, with --lock-ddl=end (the default) or --lock-ddl=early";

/// The server, and the session that holds the backup stages.
pub(super) struct MariaDb<'a> {
    job: &'a Job,
    variables: &'a Variables,
    layout: Layout,
    aria: AriaLog,
    options: BTreeMap<String, String>,
    stages: Stages,
    /// Ids of tablespaces whose file the server itself does not have.
    lost: BTreeSet<SpaceId>,
    /// The account has RELOAD, which `--no-lock` does not need.
    reload: bool,
    /// Set if InnoDB is switched off.
    switched_off: Option<SwitchedOff>,
}

impl<'a> MariaDb<'a> {
    /// Checks that a backup is possible at all.
    pub(super) fn new(
        job: &'a Job,
        mut session: Session,
        variables: &'a Variables,
        switched_off: Option<SwitchedOff>,
    ) -> Result<Self> {
        let layout = match &switched_off {
            Some(innodb) => innodb.layout.clone(),
            None => Layout::of(variables)?,
        };
        readable(&layout)?;
        let mut needed = vec![Need::global("PROCESS")];
        if !job.no_lock {
            needed.push(Need::global("RELOAD"));
            if variables.is_on("log_bin") {
                needed.push(Need::global("BINLOG MONITOR"));
            }
        }
        if job.replica_info || job.safe_replica {
            needed.push(Need::global("SLAVE MONITOR"));
        }
        if job.safe_replica {
            needed.push(Need::global("REPLICATION SLAVE ADMIN"));
        }
        privileges::check(&mut session, &needed)?;
        let reload = privileges::has(&mut session, &[Need::global("RELOAD")])?;
        engines::asked(&mut session, &layout.datadir)?;
        let mut options = meta::server_options(variables, &meta::plugins(&mut session)?);
        if job.no_lock {
            // A transaction that is prepared at the end LSN had not been acknowledged, whatever the binary log has of
            // it.
            options.insert("tc_heuristic_recover".into(), "ROLLBACK".into());
        }
        let stages = Stages::new(session, job.lock_timeout)?;
        let aria = AriaLog::of(variables);
        Ok(MariaDb { job, variables, layout, aria, options, stages, lost: BTreeSet::new(), reload, switched_off })
    }

    fn lock_ddl(&self) -> LockDdl {
        self.job.lock_ddl.unwrap_or(LockDdl::End)
    }
}

impl Running for MariaDb<'_> {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn flushed(&self) -> Option<&'static str> {
        self.switched_off.is_none().then_some("Innodb_lsn_flushed")
    }

    fn evidence(&mut self, _: &Login) -> Result<Evidence> {
        if !self.reload {
            return Ok(Evidence::Untried("the account lacks RELOAD, with which it could be shown".into()));
        }
        identity::stages(&mut self.stages, &self.layout.datadir.join(DDL_LOG))
    }

    fn guarded(&self) -> Vec<PathBuf> {
        guarded(&self.layout, &self.aria)
    }

    fn lock(&mut self) -> Result<()> {
        if self.job.no_lock {
            return Ok(());
        }
        self.stages.enter(Stage::Start)?;
        if self.lock_ddl() == LockDdl::Early {
            self.stages.enter(Stage::Flush)?;
            self.stages.enter(Stage::BlockDdl)?;
        }
        Ok(())
    }

    fn session(&mut self) -> &mut Session {
        self.stages.session()
    }

    fn holder(&mut self) -> Option<u32> {
        (!self.job.no_lock).then(|| self.stages.session().id())
    }

    fn look(&mut self, hot: &Hot<'_>) -> Result<Found> {
        self.aria.read_control()?;
        if self.aria.control.is_none() {
            let place = self.aria.dir.join(ARIA_CONTROL);
            return Err(Error::failed(place.display(), "is not there").hint(files::UNSEEN));
        }
        let server_uuid = self.variables.get("server_uid").map(str::to_owned);
        if let Some(innodb) = &self.switched_off {
            return Ok(Found { server_uuid, ..innodb.look(&self.job.filter)? });
        }
        let names = self.fulltext()?;
        let names = names.iter().map(Vec::as_slice);
        self.job.filter.ask(self.stages.session(), partial::MARIADB, names)?;
        let (redo, catalog, listed) = settled::look(self.stages.session(), &self.layout, &self.job.filter, hot)?;
        let undo = match &catalog.dictionary {
            Some(dictionary) => super::fileset::undo(&undo(&self.layout)?, dictionary, &self.layout)?,
            None => undo(&self.layout)?,
        };
        self.none_unseen(&catalog)?;
        Ok(Found { redo: Some(redo), server_uuid, undo, catalog, listed })
    }

    /// Copies everything until the locks are released.
    fn copy(&mut self, hot: &Hot<'_>, undo: &[Tablespace], mut catalog: Catalog) -> Result<(Snapshot, Spool)> {
        hot.report.stage("copying InnoDB");
        let runs = self.switched_off.is_none();
        let deferred = self.lock_ddl() != LockDdl::Early && runs;
        innodb(&hot.steps, &self.aria, undo, &catalog, !deferred)?;
        let again = self.lock_ddl() == LockDdl::End && !self.job.no_lock && runs;
        let logged = if again { self.extra(hot, &mut catalog)? } else { 0 };
        let deferred = hot.deferred_output();
        let snapshot =
            hot.with_replication_stopped(&applier::MARIADB, || self.rest(hot, &catalog, &deferred, logged))?;
        self.switched_off.as_ref().map_or(Ok(()), |innodb| innodb.unchanged(&catalog))?;
        // Of the answers at the start and at the end, the one that encrypts more is used.
        switched_on(&mut self.options, &ENCRYPTION, self.stages.session())?;
        Ok((snapshot, deferred.into_inner()))
    }

    fn settle(&mut self, snapshot: &Snapshot) -> Result<()> {
        if self.switched_off.is_some() {
            return Ok(());
        }
        finish::durable(self.stages.session(), snapshot.end_lsn, self.reload)
    }

    fn options(&self) -> &BTreeMap<String, String> {
        &self.options
    }

    fn members(&self, facts: &Facts, snapshot: &Snapshot) -> Members {
        meta::members(self.variables, &self.options, facts, snapshot)
    }
}

impl MariaDb<'_> {
    /// Copies what must be of one moment: files of other engines, and the positions.
    fn rest(&mut self, hot: &Hot<'_>, catalog: &Catalog, deferred: &Writer<Spool>, logged: usize) -> Result<Snapshot> {
        if self.job.no_lock {
            if self.switched_off.is_none() {
                self.unchanged(hot, catalog, hot.steps.out, "without locks")?;
            }
            others(&hot.steps, hot.steps.out, false)?;
            late_files(&hot.steps, hot.steps.out, &self.aria)?;
        } else {
            self.locked(hot, catalog, deferred, logged)?;
        }
        hot.durable_lsn.stop();
        self.snapshot(hot)
    }

    /// Copies the rest, under the locks.
    fn locked(&mut self, hot: &Hot<'_>, catalog: &Catalog, deferred: &Writer<Spool>, logged: usize) -> Result<()> {
        hot.report.stage("waiting for locks");
        if self.lock_ddl() == LockDdl::Early {
            if let Some(dictionary) = &catalog.dictionary {
                let mut ledger = Ledger::new(dictionary);
                catalog.compare_with(&mut ledger)?;
                self.settled(&mut ledger, hot.report)?;
            }
            // The lock is deferred for the whole copy, so what it protects need not wait in the spool.
            others(&hot.steps, hot.steps.out, false)?;
        } else {
            self.stages.enter(Stage::Flush)?;
            self.stages.enter(Stage::BlockDdl)?;
            hot.report.stage("copying under lock");
            match self.lock_ddl() {
                _ if self.switched_off.is_some() => {}
                LockDdl::Off => self.unchanged(hot, catalog, deferred, "with --lock-ddl=off")?,
                _ => self.resync(hot, catalog, deferred, logged)?,
            }
            others(&hot.steps, deferred, false)?;
        }
        self.stages.enter(Stage::BlockCommit)?;
        late_files(&hot.steps, deferred, &self.aria)
    }

    /// Copies tables that were created since, so that less remains to be copied under the lock. Returns the length of
    /// the DDL log before the last pass.
    fn extra(&mut self, hot: &Hot<'_>, catalog: &mut Catalog) -> Result<usize> {
        let mut logged = None;
        for _ in 0..EXTRA_PASSES {
            let length = self.ddl_log()?.len();
            self.ask_again()?;
            let dictionary = self.dictionary()?;
            let fresh = catalog.fresh(&self.layout.datadir, &self.job.filter, dictionary)?;
            let bytes = fresh.bytes;
            if fresh.tables().is_empty() {
                break;
            }
            // What an earlier pass copied is judged by all statements since that pass.
            logged.get_or_insert(length);
            hot.steps.tables(&fresh, false)?;
            catalog.merge(fresh);
            if bytes < EXTRA_BYTES {
                break;
            }
        }
        Ok(logged.unwrap_or(0))
    }

    /// Copies again what DDL changed, and lists what was dropped.
    fn resync(&mut self, hot: &Hot<'_>, catalog: &Catalog, deferred: &Writer<Spool>, logged: usize) -> Result<()> {
        let log = self.ddl_log()?;
        let late = log.get(logged..).ok_or_else(|| Error::failed(DDL_LOG, "became shorter while files were copied"))?;
        let (all, late) = (Named::parse(&log), Named::parse(late));
        let changes = self.changes(hot, catalog, &all, &late)?;
        hot.steps.dropped(deferred, &changes.gone)?;
        // A file that disappears in spite of the lock belongs to a table that an ALTER was building.
        hot.steps.again(deferred, changes.again.iter().chain(&changes.unwritten), |_| Ok(()))
    }

    /// Checks that no table was created, dropped or exchanged, and copies tables whose page 0 was not initialized
    /// before.
    fn unchanged<W: Write + Send>(
        &mut self,
        hot: &Hot<'_>,
        catalog: &Catalog,
        out: &Writer<W>,
        how: &str,
    ) -> Result<()> {
        let named = if self.job.no_lock { Named::default() } else { Named::parse(&self.ddl_log()?) };
        let changes = self.changes(hot, catalog, &named, &named)?;
        let changed = changes.again.iter().map(|found| &found.name).chain(&changes.gone).next();
        let Some(name) = changed else { return hot.steps.again(out, changes.unwritten.iter(), |_| Ok(())) };
        Err(Error::invalid(name.as_bstr(), format_args!("changed by DDL during a backup {how}")).hint(RUN_AGAIN))
    }

    fn changes(&mut self, hot: &Hot<'_>, catalog: &Catalog, all: &Named, late: &Named) -> Result<Changes> {
        self.ask_again()?;
        let dictionary = self.dictionary()?;
        let mut ledger = Ledger::new(&dictionary);
        let mut review = Review { ledger: &mut ledger, heads: &|files| hot.steps.heads(files) };
        let changes = catalog.changes(&self.layout.datadir, &self.job.filter, all, late, &mut review)?;
        self.none_new(&dictionary)?;
        self.settled(&mut ledger, hot.report)?;
        Ok(changes)
    }

    /// Asks again to which tables full-text indexes belong; some may be new.
    fn ask_again(&mut self) -> Result<()> {
        let names = self.fulltext()?;
        self.job.filter.ask_again(self.stages.session(), partial::MARIADB, names.iter().map(Vec::as_slice))
    }

    /// The files of full-text indexes, if the filter needs them.
    fn fulltext(&self) -> Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        let databases = if self.job.filter.is_partial() { files::databases(&self.layout.datadir)? } else { Vec::new() };
        for database in databases {
            names.extend(files::of_database(&self.layout.datadir.join(database), parts::is_fulltext)?);
        }
        Ok(names)
    }

    fn ddl_log(&self) -> Result<Vec<u8>> {
        Ok(optional(&self.layout.datadir.join(DDL_LOG))?.unwrap_or_default())
    }

    /// Reads the end LSN and the positions, then releases all locks. The end LSN is the current LSN, not the flushed
    /// one: with some settings the latter misses commits that the binary log has (`facts/mariadb-hot-backup#end-lsn`).
    fn snapshot(&mut self, hot: &Hot<'_>) -> Result<Snapshot> {
        // Without a binary log, the privilege to ask for its position is not needed.
        let has_binlog = !self.job.no_lock && self.variables.is_on("log_bin");
        let session = self.stages.session();
        let end_lsn = match &self.switched_off {
            Some(innodb) => innodb.end_lsn(),
            None => Lsn::new(session.status("Innodb_lsn_current")?),
        };
        let binlog = if has_binlog { positions::binlog(session)? } else { None };
        let replica = if self.job.replica_info { positions::replica(session)? } else { None };
        let replica = hot.replica(replica);
        let galera = if self.job.galera_info { positions::galera(session)? } else { None };
        let times = self.stages.end()?;
        Ok(Snapshot { end_lsn, left_out: Vec::new(), binlog, replica, galera, times })
    }
}

/// Aria's log, and its control file as it was before the first table was read.
struct AriaLog {
    dir: PathBuf,
    control: Option<Vec<u8>>,
}

impl AriaLog {
    fn of(variables: &Variables) -> Self {
        AriaLog { dir: variables.dir("aria_log_dir_path"), control: None }
    }

    fn read_control(&mut self) -> Result<()> {
        self.control = small(&self.dir.join(ARIA_CONTROL))?;
        Ok(())
    }
}

/// Files that a running server keeps locked.
fn guarded(layout: &Layout, aria: &AriaLog) -> Vec<PathBuf> {
    layout.system.iter().cloned().chain([aria.dir.join(ARIA_CONTROL)]).collect()
}

/// The undo tablespaces.
fn undo(layout: &Layout) -> Result<Vec<Tablespace>> {
    let external = layout.undo != layout.datadir;
    let names = files::undo_files(&layout.undo)?.into_iter();
    let spaces = names.map(|name| files::tablespace(files::path_of(&layout.undo, &name), name, external));
    spaces.filter_map(Result::transpose).collect()
}

/// Copies InnoDB, after the Aria control file. `unwritten`: also copies files whose page 0 is not initialized, because
/// there is no later pass.
fn innodb(steps: &Steps<'_>, aria: &AriaLog, undo: &[Tablespace], catalog: &Catalog, unwritten: bool) -> Result<()> {
    if let Some(control) = &aria.control {
        steps.copier.made(steps.out, ARIA_CONTROL.as_bytes(), EntryKind::File, control)?;
    }
    steps.system(undo)?;
    steps.tables(catalog, unwritten)
}

/// Copies files of other engines: of all databases but `mysql`, or of `mysql` only.
fn others<W: Write + Send>(steps: &Steps<'_>, out: &Writer<W>, system: bool) -> Result<()> {
    let datadir: &Path = &steps.layout.datadir;
    let mut databases = files::databases(datadir)?;
    databases.retain(|database| (database == OsStr::new(SYSTEM_DATABASE)) == system);
    databases.retain(|database| !steps.layout.ignored.contains(database));
    let root = if system { Vec::new() } else { files::root_files(datadir)? };
    let lists = databases.iter().map(|database| files::others(datadir, database));
    let names = std::iter::once(Ok(root)).chain(lists).flat_map(|list| match list {
        Ok(names) => names.into_iter().map(Ok).collect(),
        Err(error) => vec![Err(error)],
    });
    steps.files(out, names)
}

/// Copies what the server writes until commits are blocked: the system tables, then the Aria log.
fn late_files<W: Write + Send>(steps: &Steps<'_>, out: &Writer<W>, aria: &AriaLog) -> Result<()> {
    others(steps, out, true)?;
    let mut buffers = Buffers::new();
    for name in files::aria_logs(&aria.dir)? {
        steps.copier.file(out, &mut buffers, &name, &files::path_of(&aria.dir, &name))?;
    }
    Ok(())
}
