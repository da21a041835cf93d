//! The differences between the families of running servers, and what a family gets to work with.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::catalog::Catalog;
use super::durable_lsn::DurableLsn;
use super::finish::Snapshot;
use super::identity::Evidence;
use super::meta::Members;
use super::replica;
use super::steps::{Found, Steps};
use crate::error::Result;
use crate::io::spool::Spool;
use crate::metadata::Facts;
use crate::report::{Level, Report};
use crate::server::applier::Applier;
use crate::server::files::{Layout, Tablespace};
use crate::server::{Login, Session};
use crate::stream::Writer;

/// What is copied under a lock waits in up to this many bytes of memory, then in a file.
const SPOOL_MEMORY: usize = 4 << 20;

/// A running server of one family. The methods are called in this order.
pub(super) trait Running {
    /// Where its files are.
    fn layout(&self) -> &Layout;
    /// What applies replicated events, if it must be stopped before the first lock.
    fn stops_first(&self) -> Option<&'static Applier> {
        None
    }
    /// The status variable with an LSN up to which the log is durable; `None`: it writes no log.
    fn flushed(&self) -> Option<&'static str>;
    /// Makes the server do something that shows in its data directory.
    fn evidence(&mut self, login: &Login) -> Result<Evidence>;
    /// Files that the server keeps locked.
    fn guarded(&self) -> Vec<PathBuf>;
    /// Takes the locks that are held from the start.
    fn lock(&mut self) -> Result<()>;
    /// The session for all statements.
    fn session(&mut self) -> &mut Session;
    /// The session with the locks, if any.
    fn holder(&mut self) -> Option<u32>;
    /// Reads the checkpoint LSN, then lists the files.
    fn look(&mut self, hot: &Hot<'_>) -> Result<Found>;
    /// Copies everything and releases the locks. Returns the positions, and what was copied under a short lock.
    fn copy(&mut self, hot: &Hot<'_>, undo: &[Tablespace], catalog: Catalog) -> Result<(Snapshot, Spool)>;
    /// After the locks: waits until the log is durable up to the end LSN.
    fn settle(&mut self, snapshot: &Snapshot) -> Result<()>;
    /// Options that recovery needs, for the manifest.
    fn options(&self) -> &BTreeMap<String, String>;
    /// Members that describe the backup.
    fn members(&self, facts: &Facts, snapshot: &Snapshot) -> Members;
}

/// The steps, with what only a running server has.
pub(super) struct Hot<'a> {
    pub(super) steps: Steps<'a>,
    pub(super) report: &'a dyn Report,
    pub(super) durable_lsn: &'a DurableLsn<'a>,
    pub(super) login: &'a Login,
}

impl Hot<'_> {
    /// Makes a snapshot. With `--safe-replica`, replication is stopped meanwhile.
    pub(super) fn with_replication_stopped<T>(
        &self,
        applier: &Applier,
        snapshot: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        match self.steps.job.safe_replica {
            true => replica::with_replication_stopped(applier, self.login, self.report, snapshot),
            false => snapshot(),
        }
    }

    /// What `--replica-info` adds, if anything.
    pub(super) fn replica(&self, statements: Option<String>) -> Option<String> {
        if self.steps.job.replica_info && statements.is_none() {
            self.report.note(Level::Info, format_args!("server: is not a replica; --replica-info adds nothing"));
        }
        statements
    }

    /// A writer for members that are copied under a lock: they wait in a spool.
    pub(super) fn deferred_output(&self) -> Writer<Spool> {
        self.steps.out.beside(Spool::new(SPOOL_MEMORY, &self.steps.job.spool_dir, u64::MAX))
    }
}
