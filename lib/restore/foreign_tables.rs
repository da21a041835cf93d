//! Finds tables of another backup in a directory: a server would use them together with those of this backup.
//!
//! Other files are allowed: notes, checksums, a keyring's `mysqld.my`. A file that the manifest does not list is
//! refused only if a server, or `layout`, would treat it as data.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::files;
use crate::error::{Error, Result};

/// Suffixes of the files of tables, and of the markers of backups.
const SUFFIXES: [&str; 20] = [
    "ibd", "ibu", "frm", "myd", "myi", "mad", "mai", "csv", "csm", "arz", "mrg", "par", "sdi", "isl", "trg", "trn",
    "del", "ren", "new", "delta",
];
/// First parts of the names of files, before a number, that a server looks for at the root.
const NUMBERED: [&str; 5] = ["ibdata", "undo", "undo_", "ib_logfile", "aria_log."];

/// Refuses a directory with data files whose paths are not `listed`.
pub(super) fn refuse(backup: &Path, listed: &HashSet<PathBuf>) -> Result<()> {
    for item in files::list(backup)?.iter().filter(|item| !item.is_dir) {
        let (name, parent) = (item.path.file_name().unwrap_or_default(), item.path.parent().unwrap_or(Path::new("")));
        let mut directories = parent.iter().map(OsStr::as_bytes);
        let numbered = parent.as_os_str().is_empty() && is_numbered(name.as_bytes());
        let path = backup.join(&item.path);
        if (numbered || is_table(&path)) && directories.all(is_database) && !listed.contains(&path) {
            return Err(Error::damaged(path.display(), "is not of this backup: the manifest does not list it")
                .hint("unpack the backup again, into a new directory, or remove the file"));
        }
    }
    Ok(())
}

fn is_table(path: &Path) -> bool {
    path.extension().is_some_and(|suffix| SUFFIXES.iter().any(|known| suffix.eq_ignore_ascii_case(known)))
}

fn is_numbered(name: &[u8]) -> bool {
    let rest = NUMBERED.iter().filter_map(|known| name.strip_prefix(known.as_bytes()));
    rest.into_iter().any(|rest| !rest.is_empty() && rest.iter().all(u8::is_ascii_digit))
}

/// A server's own directories have names with `#`; they are not databases and contain none.
fn is_database(name: &[u8]) -> bool {
    name != b"lost+found" && !name.starts_with(b".") && !name.starts_with(b"#")
}
