//! Prepares an unpacked backup for a server: resolves the markers of DDL, makes the paths in the log local, and extends
//! the log.
//!
//! Every step can be repeated after a kill at any point, and none depends on how far an earlier run came. Sources:
//! `facts/mariadb-hot-backup#restore` and `facts/mariadb-hot-backup#stock-prepare`, and `xtrabackup.cc` for the order
//! `.del`, `.ren`, `.new`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bstr::ByteSlice;

use super::backup::Backup;
use super::files::{self, Item, fail};
use crate::error::{Error, Result};
use crate::innodb::ids::{Lsn, SpaceId};
use crate::io;
use crate::log::captured::mariadb::{self as log, Captured};
use crate::report::{Level, Report};
use crate::stream::name;
use crate::stream::native::names::{AGAIN, DROPPED, marked};

/// Tables with DATA DIRECTORY, by name without suffix, and their paths on the source server: from the manifest, and
/// from the `.isl` files that mariadb-backup copies.
pub(super) fn locations(backup: &Backup) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for entry in backup.ours.iter().flat_map(|ours| &ours.entries) {
        if let (Some(location), Some(path)) = (&entry.location, entry.path()) {
            let name = marked(&path, AGAIN).unwrap_or(path);
            let name = name.strip_suffix(b".ibd").unwrap_or(&name);
            found.insert(name.to_str_lossy().into_owned(), location.clone());
        }
    }
    let items = files::list(&backup.path)?;
    for link in with_suffix(&backup.path, &items, "isl", false) {
        let target = io::small(&link)?.unwrap_or_default();
        let name = link.strip_prefix(&backup.path).unwrap_or(&link).with_extension("");
        found.insert(name.to_string_lossy().into_owned(), target.trim().to_str_lossy().into_owned());
    }
    Ok(found)
}

/// Resolves the markers of tables that were dropped, renamed or copied again during the backup. Removes the `.isl`
/// files: all tables are in the directory now, and a server that follows an `.isl` opens the source's file.
/// `everywhere`: not only in the directories of databases, because MySQL's tablespaces may be anywhere; for MariaDB
/// such a file at the root may be the user's own.
pub(super) fn names(dir: &Path, everywhere: bool) -> Result<()> {
    let items = files::list(dir)?;
    for marker in with_suffix(dir, &items, "del", everywhere) {
        files::remove(&meant(dir, &marker, DROPPED))?;
        files::remove(&marker)?;
    }
    renames(dir, &items)?;
    for new in with_suffix(dir, &items, "new", everywhere) {
        rename(&new, &meant(dir, &new, AGAIN))?;
    }
    with_suffix(dir, &items, "isl", false).iter().try_for_each(|link| files::remove(link))
}

/// The file that a marker refers to.
fn meant(dir: &Path, marker: &Path, ending: &[u8]) -> PathBuf {
    let path = marker.strip_prefix(dir).unwrap_or(marker).as_os_str().as_bytes();
    dir.join(OsStr::from_bytes(&marked(path, ending).unwrap_or_else(|| path.to_vec())))
}

/// A `.ren` file has a table's new name. Tables may have swapped names, so all get a temporary name before the first
/// gets its new one. A `.ren` file is removed only after its table has the temporary name; none is left when the second
/// half begins.
fn renames(dir: &Path, items: &[Item]) -> Result<()> {
    let mut rest = with_suffix(dir, items, "xb_to", false);
    for marker in with_suffix(dir, items, "ren", false) {
        let (table, aside) = (marker.with_extension("ibd"), marker.with_extension("xb_ren"));
        if table.exists() && !aside.exists() {
            rename(&table, &aside)?;
        }
        rest.push(marker.with_extension("xb_to"));
        rename(&marker, &marker.with_extension("xb_to"))?;
    }
    for marker in rest {
        let target = io::small(&marker)?.unwrap_or_default();
        let target = name::clean(target.trim())
            .map_err(|fault| Error::damaged(marker.display(), format_args!("refused: {fault}")))?;
        let target = target.strip_suffix(b".ibd").unwrap_or(&target).to_str_lossy().into_owned() + ".ibd";
        let (target, aside) = (dir.join(target), marker.with_extension("xb_ren"));
        if aside.exists() {
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent).map_err(|cause| fail(parent, "cannot create", &cause))?;
            }
            rename(&aside, &target)?;
        }
        files::remove(&marker)?;
    }
    Ok(())
}

/// Refuses an encrypted log if the source has tables outside its data directory. Without the key the paths in the log
/// can be neither seen nor changed, and a server would open the originals, or find nothing. mariadb-backup can do it,
/// because it has the key.
pub(super) fn refuse_unseen(captured: &Captured, backup: &Backup, external: &BTreeMap<String, String>) -> Result<()> {
    match external.iter().next() {
        Some((table, place)) if captured.encrypted() => {
            let what =
                format!("the redo log is encrypted and has {table} at {place}, where a server would look for it");
            Err(Error::failed(backup.path.display(), what)
                .hint(format_args!("mariadb-backup --prepare --target-dir={} does not", backup.path.display())))
        }
        _ => Ok(()),
    }
}

/// Makes the paths in the log local and extends it; the log ends at `end`.
pub(super) fn redo(backup: &Backup, end: Lsn, report: &dyn Report) -> Result<()> {
    let dir = &backup.path;
    let captured = Captured::open(dir)?;
    let left_out = if backup.partial { captured.left_out(dir)? } else { BTreeSet::new() };
    none_is_here(backup, &left_out)?;
    if captured.needs_change(&left_out)? {
        report.note(
            Level::Detail,
            format_args!("ib_logfile0: changed to have tables where they are here, and none that was left out"),
        );
        captured.make_local(dir, &left_out)?;
    }
    log::extend(dir, captured.roomy(end))
}

/// Checks that no tablespace counted as left out is in the backup: a server would discard its part of the log.
pub(super) fn none_is_here(backup: &Backup, left_out: &BTreeSet<SpaceId>) -> Result<()> {
    let entries = backup.ours.iter().flat_map(|ours| &ours.entries);
    for (entry, space) in entries.filter_map(|entry| Some((entry, entry.space_id?))) {
        let Some(path) = entry.path().filter(|_| left_out.contains(&space)) else { continue };
        let path = backup.path.join(OsStr::from_bytes(&marked(&path, AGAIN).unwrap_or(path)));
        // The file of a dropped table keeps its id; another table may have its name now.
        if files::space_of(&path)? == Some(space) {
            return Err(Error::damaged(
                path.display(),
                "is in the backup, and its log is taken for that of a table left out",
            ));
        }
    }
    Ok(())
}

/// Files `db/*.suffix`, or `*.suffix` everywhere.
fn with_suffix(dir: &Path, items: &[Item], suffix: &str, everywhere: bool) -> Vec<PathBuf> {
    let named = items.iter().filter(|item| !item.is_dir && item.path.extension() == Some(OsStr::new(suffix)));
    let place = |item: &&Item| everywhere || item.path.components().count() == 2;
    named.filter(place).map(|item| dir.join(&item.path)).collect()
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|cause| fail(from, "cannot rename", &cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            fs::write(dir.path().join(name), content).unwrap();
        }
        dir
    }

    fn content(dir: &Path) -> Vec<(String, String)> {
        let items = files::list(dir).unwrap();
        let items = items.iter().filter(|item| !item.is_dir);
        items.map(|item| (item.path.display().to_string(), fs::read_to_string(dir.join(&item.path)).unwrap())).collect()
    }

    #[test]
    fn markers_are_resolved_in_order() {
        let dir = tree(&[
            ("db/dropped.ibd", "old"),
            ("db/dropped.del", ""),
            ("db/again.ibd", "old"),
            ("db/again.new", "new"),
            ("db/back.ibd", "old"),
            ("db/back.del", ""),
            ("db/back.new", "another"),
            ("db/a.ibd", "was a"),
            ("db/a.ren", "db/b"),
            ("db/b.ibd", "was b"),
            ("db/b.ren", "./db/a"),
            ("db/far.ibd", "far"),
            ("db/far.ren", "other/far"),
            ("db/x.isl", "/elsewhere/db/x.ibd"),
            ("db/x.ibd", "x"),
            ("undo_001", "old"),
            ("undo_001.new", "new"),
            ("far.ibu.new", "undo"),
            ("sub/db/t.ibd", "old"),
            ("sub/db/t.new", "new"),
            ("general.ibd", "old"),
            ("general.ibd.del", ""),
        ]);
        names(dir.path(), true).unwrap();
        let expect = [
            ("db/a.ibd", "was b"),
            ("db/again.ibd", "new"),
            ("db/b.ibd", "was a"),
            ("db/back.ibd", "another"),
            ("db/x.ibd", "x"),
            ("far.ibu", "undo"),
            ("other/far.ibd", "far"),
            ("sub/db/t.ibd", "new"),
            ("undo_001", "new"),
        ];
        let expect: Vec<_> = expect.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
        assert_eq!(content(dir.path()), expect);
        names(dir.path(), true).unwrap();
        assert_eq!(content(dir.path()), expect);
    }

    #[test]
    fn a_file_at_the_root_is_no_marker() {
        let files = [("notes.new", "mine"), ("old", "mine"), ("old.del", "mine"), ("x.isl", "mine")];
        let dir = tree(&files);
        names(dir.path(), false).unwrap();
        assert_eq!(content(dir.path()), files.map(|(name, text)| (name.to_owned(), text.to_owned())));
    }

    /// Every state that a kill between two renames of a swap can leave leads to the same result.
    #[test]
    fn a_swap_survives_a_kill_at_every_step() {
        let end = [("db/a.ibd", "was b"), ("db/b.ibd", "was a")];
        for state in [
            &[("db/a.xb_ren", "was a"), ("db/a.ren", "db/b"), ("db/b.ibd", "was b"), ("db/b.ren", "db/a")][..],
            &[("db/a.xb_ren", "was a"), ("db/a.xb_to", "db/b"), ("db/b.ibd", "was b"), ("db/b.ren", "db/a")],
            &[("db/a.xb_ren", "was a"), ("db/a.xb_to", "db/b"), ("db/b.xb_ren", "was b"), ("db/b.ren", "db/a")],
            &[("db/a.xb_ren", "was a"), ("db/a.xb_to", "db/b"), ("db/b.xb_ren", "was b"), ("db/b.xb_to", "db/a")],
            &[("db/b.ibd", "was a"), ("db/a.xb_to", "db/b"), ("db/b.xb_ren", "was b"), ("db/b.xb_to", "db/a")],
            &[("db/b.ibd", "was a"), ("db/b.xb_ren", "was b"), ("db/b.xb_to", "db/a")],
            &[("db/b.ibd", "was a"), ("db/a.ibd", "was b"), ("db/b.xb_to", "db/a")],
        ] {
            let dir = tree(state);
            names(dir.path(), false).unwrap();
            assert_eq!(content(dir.path()), end.map(|(name, text)| (name.to_owned(), text.to_owned())), "{state:?}");
        }
    }

    #[test]
    fn a_marker_cannot_lead_out_of_the_directory() {
        let dir = tree(&[("db/a.ibd", ""), ("db/a.ren", "../../etc/a")]);
        assert!(names(dir.path(), false).unwrap_err().to_string().contains("'..'"));
    }
}
