//! Tables of another backup in a directory: a server would serve them with those of this one.
//!
//! People may add what they like: notes, sums, a keyring's `mysqld.my`. Only what a server, or `layout`, would take for part of
//! the data is refused when the manifest does not list it.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::directory::Directory;
use super::files::fail;
use crate::error::{Error, Result};
use crate::stream::profile::Entry;

/// Suffixes of the files of tables, and of the markers of backups.
const SUFFIXES: [&str; 20] = [
    "ibd", "ibu", "frm", "myd", "myi", "mad", "mai", "csv", "csm", "arz", "mrg", "par", "sdi", "isl", "trg", "trn",
    "del", "ren", "new", "delta",
];
/// Begin, before a number, the names of files that a server looks for at the root.
const NUMBERED: [&str; 5] = ["ibdata", "undo", "undo_", "ib_logfile", "aria_log."];

/// Refuses a directory with data that `entries` do not list.
pub(super) fn refuse(directory: &Directory, entries: &[Entry]) -> Result<()> {
    let listed: HashSet<PathBuf> = entries.iter().map(|entry| directory.file(entry)).collect::<Result<_>>()?;
    for name in names(&directory.path)? {
        let path = directory.path.join(&name);
        if !path.is_dir() {
            check(&listed, &path, is_table(&path) || is_numbered(name.as_bytes()))?;
        } else if is_database(name.as_bytes()) {
            for table in names(&path)?.iter().map(|name| path.join(name)) {
                check(&listed, &table, is_table(&table))?;
            }
        }
    }
    Ok(())
}

fn check(listed: &HashSet<PathBuf>, path: &Path, is_data: bool) -> Result<()> {
    if !is_data || listed.contains(path) {
        return Ok(());
    }
    Err(Error::damaged(path.display(), "is not of this backup: the manifest does not list it")
        .hint("unpack the backup again, into a new directory, or remove the file"))
}

fn names(directory: &Path) -> Result<Vec<OsString>> {
    let list = fs::read_dir(directory).and_then(|list| list.map(|entry| Ok(entry?.file_name())).collect());
    list.map_err(|cause| fail(directory, "cannot list", &cause))
}

fn is_table(path: &Path) -> bool {
    path.extension().is_some_and(|suffix| SUFFIXES.iter().any(|known| suffix.eq_ignore_ascii_case(known)))
}

fn is_numbered(name: &[u8]) -> bool {
    let rest = NUMBERED.iter().filter_map(|known| name.strip_prefix(known.as_bytes()));
    rest.into_iter().any(|rest| !rest.is_empty() && rest.iter().all(u8::is_ascii_digit))
}

/// `#` begins the names of a server's own directories, which are no databases.
fn is_database(name: &[u8]) -> bool {
    name != b"lost+found" && !name.starts_with(b".") && !name.starts_with(b"#")
}
