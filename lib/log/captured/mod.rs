//! The captured redo log as a file of a backup.

pub(crate) mod format;
pub(crate) mod mariadb;
pub(crate) mod mysql;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::error::Result;
use crate::innodb::ids::{Lsn, SpaceId};
use crate::io::files::fail;
use crate::server::Family;

/// Checks that the log in a directory begins at `start`, is complete, and ends at `end` or can be cut there.
pub(crate) fn verify(dir: &Path, family: Family, start: Lsn, end: Lsn) -> Result<()> {
    match family {
        Family::MariaDb => mariadb::Captured::open(dir)?.verify(Some(start), Some(end)).map(drop),
        Family::MySql => mysql::Captured::open(dir)?.verify(start, end),
    }
}

/// The tablespace id in page 0 of a file: 0 if it is uninitialized, `None` if there is no file. Source: `fil0types.h`
/// (`FIL_PAGE_SPACE_ID`).
pub(crate) fn space_of(path: &Path) -> Result<Option<SpaceId>> {
    let mut number = [0; 4];
    match File::open(path).and_then(|file| file.read_exact_at(&mut number, 34)) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => Ok(Some(SpaceId::SYSTEM)),
        outcome => outcome
            .map(|()| Some(SpaceId::new(u32::from_be_bytes(number))))
            .map_err(|cause| fail(path, "cannot read", &cause)),
    }
}
