//! The names of our own files at the root of a backup's directory. Other names with `xb_` are not ours: a database, a
//! tablespace or a file of the system tablespace may have them.

/// The stream's first member.
pub(crate) const BEGIN: &str = "xb_begin";
/// The stream's last member.
pub(crate) const MANIFEST: &str = "xb_manifest";
/// Page digests; the member before the manifest.
pub(crate) const PAGES: &str = "xb_pages";
/// The manifest's name until all other files are synced to disk.
pub(crate) const MANIFEST_PART: &str = "xb_manifest.part";
/// Marks a directory that is being filled, and names the program; removed last.
pub(crate) const INCOMPLETE: &str = "xb_incomplete";
/// The state of the files when xb-unpack had written them.
pub(crate) const PRINTS: &str = "xb_prints";
/// The state of `--apply`.
pub(crate) const APPLIED: &str = "xb_applied";
/// Stands in a directory whose log is to be applied when it is copied back.
pub(crate) const WAITS: &str = "xb_waits";
/// Pages that `--apply` is about to write.
pub(crate) const IMAGES: &str = "xb_images";
/// The state of `--merge`.
pub(crate) const MERGING: &str = "xb_merging";
/// Locked while `xb-redo`, or a server that it has started, works in the directory.
pub(crate) const LOCK: &str = "xb_lock";
/// The error log of the server that recovered the directory.
pub(crate) const SERVER_LOG: &str = "xb_server.log";
/// The init file that shuts a MySQL server down.
pub(crate) const INIT: &str = "xb_init.sql";
/// That file, and others that such a server creates.
pub(crate) const SERVER_FILES: [&str; 4] = [INIT, "xb_server.sock", "xb_server.sock.lock", "xb_server.pid"];
/// Where `--apply`, and `--prepare` of mariadb-backup, write the binary log position that InnoDB has stored.
pub(crate) const BINLOG_POSITION: &str = "xtrabackup_binlog_pos_innodb";
/// First part of the name of a file until it replaces the one whose name follows.
pub(crate) const NEW: &str = "xb_new.";
/// The directory of MySQL's redo files until they are moved to their place.
pub(crate) const NEW_REDO: &str = "xb_new_redo";
/// First part of the names of a merge's result.
pub(crate) const MERGED: &str = "xb_merged.";
/// First part, before a number, of temporary names of files that a merge renames.
pub(crate) const ASIDE: &str = "xb_aside.";

/// All names without a variable part.
const FILES: [&str; 12] =
    [BEGIN, MANIFEST, PAGES, MANIFEST_PART, INCOMPLETE, PRINTS, APPLIED, WAITS, IMAGES, MERGING, LOCK, SERVER_LOG];
/// All names that may follow [`NEW`].
const REPLACED: [&str; 7] =
    [APPLIED, WAITS, MERGING, "ib_logfile0", "xtrabackup_checkpoints", "mariadb_backup_checkpoints", BINLOG_POSITION];

/// Suffix of a tablespace that was copied again: this copy replaces the first one.
pub(crate) const AGAIN: &[u8] = b".new";
/// Suffix of an empty file that says that the tablespace was dropped after it had been copied.
pub(crate) const DROPPED: &[u8] = b".del";

/// The name of a tablespace's file with such a suffix: `db/t.new`, as in mariadb-backup. Files that are not of a table
/// keep their whole name: `undo_001.new`.
pub(crate) fn marker(path: &[u8], ending: &[u8]) -> Vec<u8> {
    let table = path.strip_suffix(b".ibd").filter(|stem| stem.contains(&b'/'));
    [table.unwrap_or(path), ending].concat()
}

/// The file to which such a name refers.
pub(crate) fn marked(path: &[u8], ending: &[u8]) -> Option<Vec<u8>> {
    let stem = path.strip_suffix(ending).filter(|stem| !stem.is_empty())?;
    let whole = !stem.contains(&b'/') || stem.ends_with(b".ibu");
    Some(if whole { stem.to_vec() } else { [stem, b".ibd"].concat() })
}

/// True for the name of one of our own files.
pub(crate) fn is_ours(name: &[u8]) -> bool {
    let known = |names: &[&str], name: &[u8]| names.iter().any(|one| one.as_bytes() == name);
    let after = |prefix: &str| name.strip_prefix(prefix.as_bytes());
    known(&FILES, name)
        || known(&SERVER_FILES, name)
        || after(NEW).is_some_and(|name| known(&REPLACED, name))
        || after(MERGED).is_some_and(|name| known(&[BEGIN, MANIFEST], name))
        || after(ASIDE).is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_name_their_files() {
        for (file, name) in [
            ("db/t.ibd", "db/t.new"),
            ("db/t.u.ibu", "db/t.u.ibu.new"),
            ("undo_001", "undo_001.new"),
            ("ibdata1", "ibdata1.new"),
            ("general.ibd", "general.ibd.new"),
        ] {
            assert_eq!(marker(file.as_bytes(), AGAIN), name.as_bytes());
            assert_eq!(marked(name.as_bytes(), AGAIN).as_deref(), Some(file.as_bytes()));
        }
        assert_eq!(marked(b"db/t.ibd", AGAIN), None);
        assert_eq!(marked(b".new", AGAIN), None);
    }

    #[test]
    fn only_names_that_we_give_are_ours() {
        for name in
            ["xb_begin", "xb_applied", "xb_new.ib_logfile0", "xb_merged.xb_manifest", "xb_aside.12", "xb_init.sql"]
        {
            assert!(is_ours(name.as_bytes()), "{name}");
        }
        for name in ["xb_", "xb_ts.ibd", "xb_new.ibd", "xb_ibdata1", "xb_shop", "xb_aside.", "xb_aside.1.ibd"] {
            assert!(!is_ours(name.as_bytes()), "{name}");
        }
    }
}
