//! Ensures that each member name belongs to one file. A backup has all files of a server, wherever they are, and its
//! own files in one directory. A file that would get the name of another is refused before anything is sent.
//!
//! A database with the name of one of the backup's own files cannot be renamed in the backup: the server's dictionary
//! and its redo log contain the name, and a server uses both to recover the backup. The backup's own file cannot be
//! renamed either, because other programs look for it.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;

use bstr::ByteSlice;

use super::Job;
use super::filter::Filter;
use super::steps::Found;
use crate::error::{Error, Result};
use crate::innodb::delta::DELTA;
use crate::metadata::OF_BACKUP;
use crate::report::{Level, Report};
use crate::server::files::{self, Layout};
use crate::stream::chunk::PATH_MAX;
use crate::stream::native;

/// Length limit of a file name in bytes.
const NAME_MAX: usize = 255;
/// The length of what `xb-zip | xb-crypt` add to a member's name.
const CODED: usize = ".zst".len() + ".xbseal".len();
/// The hint.
const RENAME: &str = "drop or rename the database, or leave it out with --databases-exclude";

/// Checks the names of all files to be copied.
pub(super) fn check(job: &Job, layout: &Layout, found: &Found, report: &dyn Report) -> Result<()> {
    let system = layout.system_names();
    let undo = found.undo.iter().map(|space| space.name.as_slice());
    let tables = found.catalog.tables().iter().map(|table| &*table.name);
    let mut root = HashSet::new();
    let mut before: &[u8] = b"";
    for name in system.iter().map(Vec::as_slice).chain(undo).chain(tables.filter(|name| !name.contains(&b'/'))) {
        if is_of_backup(name) {
            return Err(Error::failed(name.as_bstr(), "a backup has members of its own by this name")
                .hint("rename the file on the server"));
        }
        if !root.insert(name) {
            return Err(twice(name));
        }
    }
    // The tables are sorted by name.
    for table in found.catalog.tables() {
        if *before == *table.name {
            return Err(twice(before));
        }
        before = &table.name;
    }
    for table in found.catalog.tables() {
        fits(&table.name, job.base.is_some())?;
    }
    let more = if job.base.is_some() { DELTA.len() + CODED } else { CODED };
    if let Some(table) = found.catalog.tables().iter().find(|table| table.name.len() + more > PATH_MAX) {
        let what = "its path is too long for a suffix of xb-zip and of xb-crypt, which need --raw";
        report.note(Level::Warning, format_args!("{}: {what}", table.name.as_bstr()));
    }
    for database in files::databases(&layout.datadir)? {
        let name = database.as_bytes();
        if (is_of_backup(name) || root.contains(name)) && is_wanted(&job.filter, name) {
            return Err(clash(name));
        }
    }
    Ok(())
}

/// Checks the lengths of names. A file system takes names of 255 bytes, a stream paths of 511. A table name has up to
/// 64 characters, each of which may need five bytes; with the suffix of an increment the name may be too long for any
/// file, which would only show at the restore.
pub(super) fn fits(name: &[u8], incremental: bool) -> Result<()> {
    let more = match incremental {
        true => DELTA.len(),
        // --merge gives a renamed table a longer name for a while (`lib/restore/layout.rs`).
        false if name.ends_with(b".ren") => ".xb_ren".len() - ".ren".len(),
        false => 0,
    };
    let file = name.rsplit(|byte| *byte == b'/').next().map_or(0, <[u8]>::len);
    let what = match () {
        () if file + more > NAME_MAX => {
            format!("its name is too long: in the backup it has {} bytes, a file system takes {NAME_MAX}", file + more)
        }
        () if name.len() + more > PATH_MAX => {
            let bytes = name.len() + more;
            format!("its path is too long: in the backup it has {bytes} bytes, an xbstream takes {PATH_MAX}")
        }
        () => return Ok(()),
    };
    let error = Error::failed(name.as_bstr(), what);
    Err(match incremental {
        true => error.hint("take a full backup, rename the table, or leave it out with --tables-exclude"),
        false => error.hint("rename the table, or leave it out with --tables-exclude"),
    })
}

/// Checks a member's name before it is written: databases may be created while files are copied.
pub(super) fn is_free(name: &[u8]) -> Result<()> {
    fits(name, false)?;
    match name.split_once_str(b"/") {
        Some((database, _)) if is_of_backup(database) => Err(clash(database)),
        None if is_of_backup(name) && native::is_own(name) => {
            Err(Error::failed(name.as_bstr(), "a backup has members of its own by this name")
                .hint("rename the file on the server"))
        }
        _ => Ok(()),
    }
}

fn is_of_backup(name: &[u8]) -> bool {
    native::is_own(name) || OF_BACKUP.iter().any(|own| own.as_bytes() == name)
}

/// True if anything of a database is copied.
fn is_wanted(filter: &Filter, database: &[u8]) -> bool {
    !filter.is_partial() || filter.wants(&[database, b"/db.opt"].concat())
}

fn clash(database: &[u8]) -> Error {
    let what = "the database is called as a file of a backup, which has both in one directory";
    Error::failed(database.as_bstr(), what).hint(RENAME)
}

fn twice(name: &[u8]) -> Error {
    Error::failed(name.as_bstr(), "two files of the server would get this name in a backup, which has one directory")
        .hint("move or rename one of them on the server")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_room_for_what_is_added_to_them() {
        let name = |stem: usize, ending: &str| [b"d/".as_slice(), &b"t".repeat(stem), ending.as_bytes()].concat();
        for (stem, ending, incremental, expected) in [
            (251, ".ibd", false, true),
            (252, ".ibd", false, false),
            (245, ".ibd", true, true),
            (246, ".ibd", true, false),
            (248, ".ren", false, true),
            (249, ".ren", false, false),
        ] {
            assert_eq!(fits(&name(stem, ending), incremental).is_ok(), expected, "{stem} {ending} {incremental}");
        }
        let path = [b"d".repeat(255), b"t".repeat(255)].join(&b'/');
        assert!(fits(&path, false).is_ok());
        assert!(fits(&[b"d/".as_slice(), &path].concat(), false).is_err());
        assert!(fits(&path, true).is_err());
    }
}
