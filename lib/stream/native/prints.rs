//! `xb_prints`: the state of the files of an unpacked backup as xb-unpack left them, so that unchanged files need not
//! be read again. It is not a member, because it describes one directory only.
//!
//! A fingerprint consists of file attributes that change with the content and differ for every copy. The change time
//! (`ctime`) cannot be set by users, but it is only as exact as the kernel's tick. So a file that was changed just
//! before it was checked has no fingerprint.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::Trailer;
use crate::error::Internal;
use crate::stream::native::names::PRINTS;

/// The clock for file times advances at least this often.
pub const TICK: Duration = Duration::from_millis(50);
/// The same for file systems without fractions of seconds (ext3, small inodes of ext4, FAT).
const COARSE: Duration = Duration::from_secs(2);

/// A file's inode, size, modification time and change time, in seconds and nanoseconds.
type Print = (u64, u64, i64, i64, i64, i64);

/// The fingerprints of all files that agree with the manifest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Prints {
    backup_id: String,
    /// Identifies the manifest, by the digest in its last line.
    manifest: String,
    /// By name; names that are not UTF-8 are left out.
    files: HashMap<String, Print>,
}

impl Prints {
    /// No fingerprints yet, for the backup with this trailer.
    pub fn new(trailer: &Trailer) -> Self {
        let (backup_id, manifest) = (trailer.backup_id.clone(), trailer.blake3.clone());
        Prints { backup_id, manifest, files: HashMap::new() }
    }

    /// The fingerprints in a directory, if they belong to the backup with this trailer. An unreadable file counts as
    /// none.
    pub fn read(dir: &Path, trailer: &Trailer) -> Option<Self> {
        let path = dir.join(PRINTS);
        std::fs::symlink_metadata(&path).ok().filter(|meta| meta.is_file() && meta.mode() & 0o077 == 0)?;
        let prints: Prints = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        (prints.backup_id == trailer.backup_id && prints.manifest == trailer.blake3).then_some(prints)
    }

    /// The content of the file.
    pub fn bytes(&self) -> Result<Vec<u8>, Internal> {
        // Strings and numbers can always be serialized.
        serde_json::to_vec(self).map_err(|_| Internal("a note cannot be written as JSON"))
    }

    /// Adds a file, unless it was changed too recently.
    pub fn add(&mut self, name: &[u8], meta: &Metadata) {
        let changed = u64::try_from(meta.ctime()).ok().zip(u32::try_from(meta.ctime_nsec()).ok());
        let changed =
            changed.and_then(|(seconds, nanos)| SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos)));
        let tick = if meta.ctime_nsec() == 0 { COARSE } else { TICK };
        let settled = changed.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > tick);
        if let Ok(name) = std::str::from_utf8(name)
            && settled
            && meta.is_file()
        {
            self.files.insert(name.to_owned(), print(meta));
        }
    }

    /// True if a file has not changed.
    pub fn has(&self, name: &[u8], path: &Path) -> bool {
        let known = std::str::from_utf8(name).ok().and_then(|name| self.files.get(name));
        let now = std::fs::symlink_metadata(path).ok().filter(Metadata::is_file);
        known.zip(now).is_some_and(|(known, now)| *known == print(&now))
    }
}

fn print(meta: &Metadata) -> Print {
    (meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_just_changed_has_no_print() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "content").unwrap();
        let mut prints = Prints { backup_id: String::new(), manifest: String::new(), files: HashMap::new() };
        let meta = path.symlink_metadata().unwrap();
        if meta.ctime_nsec() != 0 {
            prints.add(b"file", &meta);
            let late = SystemTime::now().duration_since(meta.modified().unwrap()).is_ok_and(|age| age > TICK);
            assert!(late || !prints.has(b"file", &path));
        }
        std::thread::sleep(TICK * 2);
        prints.add(b"file", &path.symlink_metadata().unwrap());
        assert!(meta.ctime_nsec() == 0 || prints.has(b"file", &path));
        std::fs::hard_link(&path, dir.path().join("other")).unwrap();
        assert!(!prints.has(b"file", &path), "a link changes the time of change");
    }
}
