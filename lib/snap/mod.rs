//! xb-snap's job: writes a consistent copy of a server's files as a stream, and the location of the redo log for
//! xb-redo.
//!
//! The order and its reasons are in `facts/mariadb-hot-backup#guarantees`, `facts/mariadb-hot-backup#stream`,
//! `facts/mariadb-hot-backup#sql`, `facts/mariadb-hot-backup#ddl` and `facts/mariadb-hot-backup#end-lsn`. The
//! checkpoint LSN is read before the first page. InnoDB's files are copied while the server works as usual. Then short
//! locks are taken, under which the rest is copied into a spool. Then the end LSN is read, where the log is cut. `hot`
//! has what the families have in common, `mariadb` and `mysql` have their statements in order; the other modules are
//! steps. For an increment, `base` says since when, and `delta` copies the pages.

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

/// Which DDL may run while tables are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockDdl {
    /// Blocked from the start.
    Early,
    /// Allowed until a short lock at the end, under which changed tables are copied again.
    End,
    /// Allowed; the backup is invalid if a table changed.
    Off,
}

/// What to copy and how.
#[derive(Debug)]
pub struct Job {
    /// Option files.
    pub sources: Sources,
    /// How to connect.
    pub login: Login,
    /// The data directory, if its path here is not the server's (containers).
    pub datadir: Option<PathBuf>,
    /// Continue if nothing shows whether the data directory belongs to the server.
    pub trust_datadir: bool,
    /// Number of copying threads.
    pub threads: usize,
    /// How files are read.
    pub policy: Policy,
    /// DDL during the copy; `None`: the default of the server family.
    pub lock_ddl: Option<LockDdl>,
    /// How long to wait for a lock.
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
    /// The base of an increment; `None`: a full backup.
    pub base: Option<base::Base>,
    /// Directory for what the next increment needs: `xb_begin`, `xb_pages` …
    pub extra_lsndir: Option<PathBuf>,
    /// Record the backup in the server's history table.
    pub history: Option<history::Series>,
    /// Have the server make a checkpoint before.
    pub checkpoint_now: bool,
    /// Directory for files that wait until the locks are released.
    pub spool_dir: PathBuf,
    /// The command line, for `xtrabackup_info`.
    pub command: String,
}

/// Copies a server to `output`, as a stream.
///
/// # Errors
///
/// - Usage: an option that this server family cannot honour.
/// - Invalid: DDL, an import or a lost lock makes the backup inconsistent; the base of an increment does not fit;
///   nothing proves that the data directory is the server's.
/// - Damaged: a page, or the base of an increment, is damaged.
/// - Pipe: the reader of `output` ended.
/// - Failed: all else, such as errors of the server, of files and of privileges.
///
/// After an error `output` may have a part of the stream. It has no manifest, so every reader reports it as truncated.
/// The directory `extra_lsndir` still has an older base, or is marked as incomplete.
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

/// Copies a stopped server. The location of its redo log tells the family.
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
