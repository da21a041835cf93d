//! The differences between the families of stopped servers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::catalog::Catalog;
use super::finish::Snapshot;
use super::meta::Members;
use super::steps::{Found, Steps};
use crate::error::Result;
use crate::innodb::ids::Lsn;
use crate::metadata::Facts;
use crate::server::Variables;
use crate::server::files::{Layout, Tablespace};
use crate::server::options::Options;

/// Variables with the locations of files, and the server's defaults.
const PLACES: [(&str, &str); 6] = [
    ("innodb_data_home_dir", ""),
    ("innodb_data_file_path", "ibdata1:12M:autoextend"),
    ("innodb_undo_directory", "./"),
    ("innodb_log_group_home_dir", "./"),
    ("aria_log_dir_path", "./"),
    ("innodb_directories", ""),
];

/// The data directory of a stopped server of one family.
pub(super) trait Stopped {
    /// Where its files are.
    fn layout(&self) -> &Layout;
    /// Files that a running server keeps locked.
    fn guarded(&self) -> Vec<PathBuf>;
    /// The redo log as it is now.
    fn log(&self) -> Result<Log>;
    /// The version, as the server would report it.
    fn version(&self) -> Result<String>;
    /// Reads the checkpoint LSN, then lists the files.
    fn look(&mut self) -> Result<Found>;
    /// Copies everything.
    fn copy(&self, steps: &Steps<'_>, undo: &[Tablespace], catalog: &Catalog) -> Result<()>;
    /// Copies, after a crash, the binary log that decides about prepared transactions; false if there is none.
    fn binlog(&self, _: &Steps<'_>) -> Result<bool> {
        Ok(false)
    }
    /// Options that recovery needs, for the manifest.
    fn options(&self, variables: &Variables) -> BTreeMap<String, String>;
    /// Members that describe the backup.
    fn members(
        &self,
        variables: &Variables,
        options: &BTreeMap<String, String>,
        facts: &Facts,
        snapshot: &Snapshot,
    ) -> Members;
}

/// A redo log that no server writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Log {
    /// What identifies this log.
    pub(super) identity: Vec<u8>,
    /// The newest checkpoint.
    pub(super) checkpoint_lsn: Lsn,
    /// Where it ends.
    pub(super) end_lsn: Lsn,
    /// True if recovery has nothing to do after the checkpoint.
    pub(super) clean: bool,
}

/// Sets the variables with the locations of files: from option files, or the server's defaults.
pub(super) fn places(variables: &mut Variables, options: &Options) {
    for (name, default) in PLACES {
        if variables.get(name).is_none() {
            let named = options.server(&name.replace('_', "-"));
            variables.set(name, named.unwrap_or(default).to_owned());
        }
    }
}
