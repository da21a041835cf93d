//! Files of a backup directory: reads and replaces small ones as a whole, and lists all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::codec::pool::{self, FirstError};
use crate::error::{Error, Result};
pub(super) use crate::io::files::{fail, give, owner, remove, sync};
pub(super) use crate::log::captured::space_of;
use crate::stream::native::names::{self, NEW};

/// Summarizes the files in a directory: equal fingerprints mean equal names and sizes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fingerprint {
    /// Number of files.
    pub(super) count: u64,
    /// Sum of their sizes.
    pub(super) bytes: u64,
    /// BLAKE3 of the sorted names and sizes, in hexadecimal.
    pub blake3: String,
}

/// A file or directory below a root.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Item {
    /// Relative to the root.
    pub(super) path: PathBuf,
    /// True for a directory.
    pub(super) is_dir: bool,
    /// Bytes; 0 for a directory.
    pub(super) size: u64,
}

/// Replaces a file atomically: at any time either the old or the new one exists. Keeps owner and mode of the old one.
pub(super) fn replace(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let (path, new) = (dir.join(name), dir.join(format!("{NEW}{name}")));
    let old = fs::metadata(&path).or_else(|_| fs::metadata(dir)).map_err(|cause| fail(dir, "cannot read", &cause))?;
    let write = || -> io::Result<()> {
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o660))?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|cause| fail(&path, "cannot write", &cause))
}

/// Everything below a directory: directories before their content, sorted by name. Symbolic links are refused: a backup
/// has none, and following one would lead out of it.
pub(super) fn list(root: &Path) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(backup) = directories.pop() {
        let place = root.join(&backup);
        for entry in fs::read_dir(&place).map_err(|cause| fail(&place, "cannot list", &cause))? {
            let entry = entry.map_err(|cause| fail(&place, "cannot list", &cause))?;
            let path = backup.join(entry.file_name());
            let data = entry.metadata().map_err(|cause| fail(&entry.path(), "cannot read", &cause))?;
            if data.is_dir() {
                directories.push(path.clone());
            } else if !data.is_file() {
                return Err(Error::failed(entry.path().display(), "is neither a file nor a directory")
                    .hint("a backup holds neither symlinks nor sockets; is a server running on this directory?"));
            }
            items.push(Item { path, is_dir: data.is_dir(), size: if data.is_dir() { 0 } else { data.len() } });
        }
    }
    items.sort();
    Ok(items)
}

/// True for our own files at the root of a directory: `xb_begin`, `xb_manifest`, `xb_applied` …
pub(super) fn is_own(item: &Item) -> bool {
    !item.is_dir && names::is_ours(item.path.as_os_str().as_bytes())
}

/// The fingerprint of all files except our own.
pub(super) fn fingerprint(root: &Path) -> Result<Fingerprint> {
    let (mut count, mut bytes, mut digest) = (0, 0u64, blake3::Hasher::new());
    for item in list(root)?.iter().filter(|item| !item.is_dir && !is_own(item)) {
        count += 1;
        bytes = bytes.saturating_add(item.size);
        digest.update(item.path.as_os_str().as_bytes());
        digest.update(&[0]);
        digest.update(&item.size.to_le_bytes());
    }
    Ok(Fingerprint { count, bytes, blake3: digest.finalize().to_hex().to_string() })
}

/// Runs `work` for each item on this many threads; the first error ends all.
pub(super) fn each<T: Sync>(items: &[T], threads: usize, work: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    let threads = threads.clamp(1, items.len().max(1));
    pool::for_each(threads, &FirstError::default(), items.iter().map(Ok), || (), |(), item| work(item))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_covers_all_but_our_own_files() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("db")).unwrap();
        fs::write(dir.path().join("db/t"), "abc").unwrap();
        let before = fingerprint(dir.path()).unwrap();
        fs::write(dir.path().join("xb_applied"), "x").unwrap();
        assert_eq!(fingerprint(dir.path()).unwrap(), before);
        fs::write(dir.path().join("db/xb_t"), "").unwrap();
        assert_ne!(fingerprint(dir.path()).unwrap(), before);
        fs::remove_file(dir.path().join("db/xb_t")).unwrap();
        fs::write(dir.path().join("db/t"), "ab").unwrap();
        assert_ne!(fingerprint(dir.path()).unwrap(), before);
    }
}
