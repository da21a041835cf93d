//! The captured redo log as a file of a backup.

pub(super) mod mariadb;
pub(super) mod mysql;

use std::path::Path;

use crate::error::Result;

/// Whose files they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Mariadb,
    Mysql,
}

/// Checks that the log in a directory begins at `start`, is whole, and reaches exactly `end`, or can be cut there.
pub(super) fn verify(dir: &Path, family: Family, start: u64, end: u64) -> Result<()> {
    match family {
        Family::Mariadb => mariadb::Captured::open(dir)?.verify(Some(start), Some(end)).map(drop),
        Family::Mysql => mysql::Captured::open(dir)?.verify(start, end),
    }
}
