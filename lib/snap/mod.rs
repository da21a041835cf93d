//! xb-snap's job: a consistent copy of a running server's files as a stream, with the redo log's place for xb-redo.
//!
//! Order and reasons are in `facts/mariadb-hot-backup#guarantees`, `facts/mariadb-hot-backup#stream`,
//! `facts/mariadb-hot-backup#sql`, `facts/mariadb-hot-backup#ddl` and `facts/mariadb-hot-backup#end-lsn`: the
//! checkpoint LSN is read before the first page; InnoDB's files are copied while everything runs; then short locks,
//! under which the rest is copied into a spool; then the end LSN, the LSN at which the log is cut. `hot` has what the
//! families share of that, `mariadb` and `mysql` are their statements in order; the other modules are steps. Of an
//! increment, `base` says since when and `delta` copies the pages.

pub mod base;
mod catalog;
mod copy;
mod ddl;
mod delta;
mod durable_lsn;
mod fileset;
pub mod filter;
mod finish;
pub mod history;
mod hot;
mod identity;
mod lsndir;
mod manifest;
mod mariadb;
mod meta;
mod mysql;
mod offline;
mod open;
mod page_digests;
mod partial;
mod replica;
mod running;
mod steps;
mod stopped;
mod unique_names;
mod view;
mod workers;

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::Result;
use crate::innodb::redo::mysql::DIR;
use crate::io::cache::Policy;
use crate::io::spool::Spool;
use crate::report::Report;
use crate::server::files::Layout;
use crate::server::options::Sources;
use crate::server::{Family, Login};
use mariadb::{MariaDb, SwitchedOff};
use mysql::MySql;
use running::Running;
use stopped::Stopped;

/// What DDL may do while tables are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockDdl {
    /// Blocked from the start.
    Early,
    /// Free until a short lock at the end, under which what changed is copied again.
    End,
    /// Free; a backup during which tables changed is not valid.
    Off,
}

/// What to copy and how.
#[derive(Debug)]
pub struct Job {
    /// Option files.
    pub sources: Sources,
    /// How to connect.
    pub login: Login,
    /// The data directory, if it is not where the server says (a container's).
    pub datadir: Option<PathBuf>,
    /// Go on if nothing shows whether the data directory is that of the server.
    pub trust_datadir: bool,
    /// Copying threads.
    pub threads: usize,
    /// How files are read.
    pub policy: Policy,
    /// DDL during the copy; `None`: as suits the server.
    pub lock_ddl: Option<LockDdl>,
    /// How long a lock is waited for.
    pub lock_timeout: Duration,
    /// The server is stopped.
    pub offline: bool,
    /// No locks at all.
    pub no_lock: bool,
    /// Wait until replication has no temporary tables open.
    pub safe_replica: bool,
    /// Add `xtrabackup_slave_info`.
    pub replica_info: bool,
    /// Add `xtrabackup_galera_info`.
    pub galera_info: bool,
    /// Which tables.
    pub filter: filter::Filter,
    /// What an increment builds on; `None`: a full backup.
    pub base: Option<base::Base>,
    /// Where what the next increment needs goes beside the stream: `xb_begin`, `xb_pages` …
    pub extra_lsndir: Option<PathBuf>,
    /// Note the backup in the server's table of backups.
    pub history: Option<history::Series>,
    /// Have the server make a checkpoint before.
    pub checkpoint_now: bool,
    /// Where what is copied under a lock waits.
    pub spool_dir: PathBuf,
    /// The command line, for `xtrabackup_info`.
    pub command: String,
}

/// Copies a server to `output`. The family is chosen here.
pub fn run(job: &Job, output: File, report: &dyn Report) -> Result<()> {
    Spool::check(&job.spool_dir)?;
    if job.offline {
        job.login.password.forget();
        return copy_stopped(job, output, report);
    }
    let (mut connected, session) = hot::connect(job, report)?;
    let switched_off = match connected.has_innodb {
        true => None,
        false => Some(SwitchedOff::find(&mut connected.variables, job.policy, report)?),
    };
    let mut server: Box<dyn Running> = match connected.family {
        Family::MariaDb => Box::new(MariaDb::new(job, session, &connected.variables, switched_off)?),
        Family::MySql => Box::new(MySql::new(job, session, &connected.variables)?),
    };
    hot::run(job, server.as_mut(), &connected, output, report)
}

/// A server that does not run tells its family by where its redo log is.
fn copy_stopped(job: &Job, output: File, report: &dyn Report) -> Result<()> {
    let encryption = mariadb::ENCRYPTION.iter().chain(&mysql::ENCRYPTION);
    let mut variables = offline::variables(job, &job.sources.read(report)?, encryption);
    let layout = Layout::of(&variables)?;
    let mut server: Box<dyn Stopped> = match layout.redo.join(DIR).is_dir() {
        true => Box::new(mysql::Stopped::new(job, &mut variables, layout)?),
        false => Box::new(mariadb::Stopped::new(job, &mut variables, layout)?),
    };
    offline::run(job, server.as_mut(), variables, output, report)
}
