//! The joiner's directories: who may work in them, what is cleared, and when.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use regex::Regex;
use rustix::fs::{FlockOperation, OFlags, flock};

use super::keep;
use super::places::Places;
use super::watch::Watch;
use crate::error::{Error, Result};

/// Where a backup arrives, and is applied.
const ARRIVAL: &str = ".sst";
/// There while a joiner works, for start-up scripts.
const AT_WORK: &str = "sst_in_progress";
/// Which script works here; locked while it does.
const LOCK: &str = "wsrep_sst.pid";
/// How long the script before may take to notice that its server is gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether new data fit in beside the old ones.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// They do.
    Both,
    /// They do not, but they fit in without the old ones.
    One {
        /// Bytes that are free.
        free: u64,
        /// Bytes that both need in addition.
        wanted: u64,
    },
    /// They do not even fit in without the old ones.
    None {
        /// Bytes that would be free.
        possible: u64,
    },
}

/// A data directory in which no other script works.
pub(super) struct Datadir {
    path: PathBuf,
    _lock: File,
}

impl Datadir {
    /// Claims it.
    ///
    /// # Errors
    ///
    /// Failed: another script works there.
    pub(super) fn claim(path: &Path, watch: &Watch) -> Result<Datadir> {
        let lock = path.join(LOCK);
        let fail = |cause: std::io::Error| Error::io(lock.display(), "cannot write", &cause);
        let nofollow = OFlags::NOFOLLOW.bits().cast_signed();
        let file =
            OpenOptions::new().write(true).create(true).mode(0o640).truncate(false).custom_flags(nofollow).open(&lock);
        let mut file = file.map_err(fail)?;
        let begun = Instant::now();
        while let Err(cause) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if begun.elapsed() > PATIENCE {
                return Err(Error::io(path.display(), "another transfer works in this directory", &cause.into()));
            }
            watch.check()?;
            std::thread::sleep(Duration::from_millis(100));
        }
        file.set_len(0).map_err(fail)?;
        writeln!(file, "{}", std::process::id()).map_err(fail)?;
        Ok(Datadir { path: path.to_owned(), _lock: file })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where a backup arrives.
    pub(super) fn arrival(&self) -> PathBuf {
        self.path.join(ARRIVAL)
    }

    /// An empty place for the backup; what an earlier transfer has left is removed.
    pub(super) fn begin(&self) -> Result<()> {
        let arrival = self.arrival();
        remove(&arrival)?;
        let made = DirBuilder::new().mode(0o700).create(&arrival);
        made.map_err(|cause| Error::io(arrival.display(), "cannot create", &cause))?;
        let mark = self.path.join(AT_WORK);
        let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&mark);
        made.map(drop).map_err(|cause| Error::io(mark.display(), "cannot create", &cause))
    }

    /// Nothing of the transfer is left.
    pub(super) fn finish(&self) -> Result<()> {
        remove(&self.arrival())?;
        remove(&self.path.join(AT_WORK))
    }

    /// Whether there is room for this many bytes.
    ///
    /// # Errors
    ///
    /// Failed: nobody can tell.
    pub(super) fn room(&self, bytes: u64, cpat: &Regex, places: &Places) -> Result<Room> {
        let facts = rustix::fs::statvfs(&self.path)
            .map_err(|cause| Error::io(self.path.display(), "cannot ask for room", &cause.into()))?;
        let free = facts.f_bavail.saturating_mul(facts.f_frsize);
        // A tenth more: recovery adds to files.
        let wanted = bytes.saturating_add(bytes / 10);
        if free > wanted {
            return Ok(Room::Both);
        }
        let mut freed = 0_u64;
        for path in self.doomed(cpat, places)? {
            freed = freed.saturating_add(occupied(&path)?);
        }
        // What recovery adds may still be too much; but the data themselves must have their place.
        let possible = free.saturating_add(freed);
        Ok(if possible > bytes { Room::One { free, wanted } } else { Room::None { possible } })
    }

    /// What is not kept at the top of the data directory.
    fn doomed(&self, cpat: &Regex, places: &Places) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in entries(&self.path)? {
            let path = self.path.join(&entry);
            let kept = keep::always(&entry.to_string_lossy()) || cpat.is_match(&path.to_string_lossy());
            if !kept && !places.needs(&path) {
                found.push(path);
            }
        }
        Ok(found)
    }

    /// Removes the data that are there, here and in other places, but nothing that is kept.
    pub(super) fn clear(&self, cpat: &Regex, places: &Places) -> Result<()> {
        for path in self.doomed(cpat, places)? {
            remove(&path)?;
        }
        for (dir, is_ours) in places.outside() {
            let Ok(names) = entries(&dir) else { continue };
            for name in names.iter().filter(|name| is_ours(name.as_bytes())) {
                remove(&dir.join(name))?;
            }
        }
        Ok(())
    }
}

impl Drop for Datadir {
    fn drop(&mut self) {
        // The lock is what counts; the file is for people.
        let _ = fs::remove_file(self.path.join(LOCK));
    }
}

fn entries(dir: &Path) -> Result<Vec<OsString>> {
    let fail = |cause| Error::io(dir.display(), "cannot read", &cause);
    fs::read_dir(dir).map_err(fail)?.map(|entry| entry.map(|entry| entry.file_name()).map_err(fail)).collect()
}

/// How many bytes become free with this.
fn occupied(path: &Path) -> Result<u64> {
    let fail = |cause| Error::io(path.display(), "cannot read", &cause);
    let facts = fs::symlink_metadata(path).map_err(fail)?;
    if facts.is_dir() {
        return entries(path)?.iter().try_fold(0_u64, |sum, name| Ok(sum.saturating_add(occupied(&path.join(name))?)));
    }
    Ok(if facts.nlink() == 1 { facts.blocks().saturating_mul(512) } else { 0 })
}

/// Removes a file, a link or a directory with all that is in it, if it is there.
fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(facts) if facts.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(cause) => Err(cause),
    };
    match removed {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(path.display(), "cannot remove", &cause))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_belongs_to_others_stays() {
        let top = tempfile::tempdir().unwrap();
        let (data, undo, log) = (top.path().join("data"), top.path().join("undo"), top.path().join("log"));
        for dir in [&data, &undo, &log, &data.join("shop"), &data.join("keys"), &data.join("tls"), &data.join(".sst")] {
            fs::create_dir(dir).unwrap();
        }
        let files = [
            "data/ibdata1",
            "data/shop/t.ibd",
            "data/keys/keyfile",
            "data/grastate.dat",
            "data/gcache.page.000001",
            "data/galera.cache",
            "data/a.pem",
            "data/tls/key",
            "data/transfer-key",
            "data/log-of-errors",
            "data/.sst/ibdata1",
            "data/wsrep_sst.pid",
            "undo/undo001",
            "undo/undoes",
            "undo/other",
            "log/bin.000001",
            "log/bin.index",
            "log/bin.txt",
            "log/binary.000001",
        ];
        for file in files {
            fs::write(top.path().join(file), "x").unwrap();
        }
        let places = Places {
            datadir: data.clone(),
            options: vec![
                ("innodb_undo_directory".into(), undo.display().to_string()),
                ("file_key_management_filename".into(), "keys/keyfile".into()),
                ("ssl_key".into(), data.join("tls/key").display().to_string()),
                ("log_error".into(), "./log-of-errors".into()),
            ],
            binlog: Some(log.join("bin")),
            binlog_index: None,
            own: vec![data.join("transfer-key")],
        };
        let dir = Datadir::claim(&data, &Watch::default()).unwrap();
        dir.clear(&keep::pattern(keep::USUAL).unwrap(), &places).unwrap();
        let left: BTreeSet<&str> = files.into_iter().filter(|file| top.path().join(file).exists()).collect();
        let gone = ["data/ibdata1", "data/shop/t.ibd", "undo/undo001", "log/bin.000001", "log/bin.index"];
        let want: BTreeSet<&str> = files.into_iter().filter(|file| !gone.contains(file)).collect();
        assert_eq!(left, want);
    }

    #[test]
    fn two_scripts_do_not_share_a_directory() {
        let data = tempfile::tempdir().unwrap();
        let first = Datadir::claim(data.path(), &Watch::default()).unwrap();
        let second = Datadir::claim(data.path(), &Watch::default()).err().unwrap();
        assert!(second.to_string().contains("another transfer"), "{second}");
        drop(first);
        Datadir::claim(data.path(), &Watch::default()).unwrap();
    }
}
