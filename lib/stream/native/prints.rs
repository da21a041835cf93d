//! `xb_prints`: the files of an unpacked backup as xb-unpack left them, so that what has not changed since need not be read
//! again. It is no member: it is true of one directory only.
//!
//! A fingerprint is what the system says of a file that changes with its content and is another for every copy. Nobody can
//! set the time of change (`ctime`), but it is as coarse as the system's tick. So a file that was changed just before it
//! was looked at has none.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::Trailer;
use crate::error::Internal;
use crate::stream::native::names::PRINTS;

/// The clock for files goes on at least so often.
pub const TICK: Duration = Duration::from_millis(50);
/// So often where a filesystem has no fractions of seconds (ext3, small inodes of ext4, FAT).
const COARSE: Duration = Duration::from_secs(2);

/// Of one file: inode, size, when it was written and changed, in seconds and nanoseconds.
type Print = (u64, u64, i64, i64, i64, i64);

/// Of all files that agreed with the manifest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Prints {
    backup_id: String,
    /// The manifest, by the digest in its last line.
    manifest: String,
    /// By name; names that are no text are left out.
    files: HashMap<String, Print>,
}

impl Prints {
    /// Of a backup with this end, without a file.
    pub fn new(trailer: &Trailer) -> Self {
        let (backup_id, manifest) = (trailer.backup_id.clone(), trailer.blake3.clone());
        Prints { backup_id, manifest, files: HashMap::new() }
    }

    /// Those in a directory, if they are of the backup with this end. What cannot be read says nothing.
    pub fn read(dir: &Path, trailer: &Trailer) -> Option<Self> {
        let path = dir.join(PRINTS);
        std::fs::symlink_metadata(&path).ok().filter(|meta| meta.is_file() && meta.mode() & 0o077 == 0)?;
        let prints: Prints = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        (prints.backup_id == trailer.backup_id && prints.manifest == trailer.blake3).then_some(prints)
    }

    /// As they are written.
    pub fn bytes(&self) -> Result<Vec<u8>, Internal> {
        // Strings and numbers always serialise.
        serde_json::to_vec(self).map_err(|_| Internal("a note cannot be written as JSON"))
    }

    /// Adds a file, if that says something yet.
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

    /// True if a file is as it was.
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
