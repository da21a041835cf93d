//! The joiner's directories: who may work in them, what is cleared, and when.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use regex::Regex;
use rustix::fs::{FlockOperation, OFlags, flock};

use super::keep;
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

    /// True if there is room for this many bytes beside what is there.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        // A tenth more: recovery adds to files.
        let wanted = bytes.saturating_add(bytes / 10);
        rustix::fs::statvfs(&self.path).is_ok_and(|facts| facts.f_bavail.saturating_mul(facts.f_frsize) > wanted)
    }

    /// Removes the data that are there, here and in other places, but nothing that is kept.
    pub(super) fn clear(&self, cpat: &Regex, places: &Places) -> Result<()> {
        for entry in entries(&self.path)? {
            let name = entry.to_string_lossy();
            let path = self.path.join(&entry);
            if !keep::always(&name) && !cpat.is_match(&path.to_string_lossy()) && !places.secret(&path) {
                remove(&path)?;
            }
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

/// Directories that the server's options name.
pub(super) struct Places {
    pub(super) datadir: PathBuf,
    /// Options and their values, with `_` in their names.
    pub(super) options: Vec<(String, String)>,
    /// The binary log's base name.
    pub(super) binlog: Option<PathBuf>,
    pub(super) binlog_index: Option<PathBuf>,
}

type Ours = Box<dyn Fn(&[u8]) -> bool>;

impl Places {
    fn option(&self, name: &str) -> Option<PathBuf> {
        let found = self.options.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| self.datadir.join(value))
    }

    /// True for a file of keys below the data directory: keys are not transferred.
    fn secret(&self, path: &Path) -> bool {
        self.options.iter().any(|(key, value)| {
            key.starts_with("file_key_management_file") && {
                let value = value.strip_prefix("FILE:").unwrap_or(value);
                self.datadir.join(value).starts_with(path)
            }
        })
    }

    /// Directories, and which of their files belong to this server.
    fn outside(&self) -> Vec<(PathBuf, Ours)> {
        let mut found: Vec<(PathBuf, Ours)> = Vec::new();
        if let Some(dir) = self.option("innodb_undo_directory") {
            found.push((dir, Box::new(|name| numbered(name, b"undo"))));
        }
        if let Some(dir) = self.option("innodb_log_group_home_dir") {
            found.push((dir, Box::new(|name| numbered(name, b"ib_logfile"))));
        }
        if let Some(dir) = self.option("aria_log_dir_path") {
            found.push((dir, Box::new(|name| name == b"aria_log_control" || numbered(name, b"aria_log."))));
        }
        if let Some(dir) = self.option("innodb_data_home_dir") {
            let listed = self.options.iter().find(|(key, _)| key == "innodb_data_file_path");
            let listed = listed.map_or("ibdata1", |(_, value)| value.as_str());
            let files: Vec<String> =
                listed.split(';').filter_map(|file| file.split(':').next()).map(str::to_owned).collect();
            found.push((dir, Box::new(move |name| files.iter().any(|file| file.as_bytes() == name))));
        }
        if let Some(base) = self.binlog.as_ref().map(|base| self.datadir.join(base))
            && let (Some(dir), Some(base)) =
                (base.parent().map(Path::to_owned), base.file_stem().map(OsStrExt::as_bytes))
        {
            let base = base.to_vec();
            found.push((dir, Box::new(move |name| is_binlog(name, &base))));
        }
        if let Some(index) = self.binlog_index.as_ref().map(|index| self.datadir.join(index))
            && let (Some(dir), Some(name)) =
                (index.parent().map(Path::to_owned), index.file_name().map(OsStrExt::as_bytes))
        {
            let own = name.to_vec();
            found.push((dir, Box::new(move |name| name == own)));
        }
        found
    }
}

fn is_binlog(name: &[u8], base: &[u8]) -> bool {
    let rest = name.strip_prefix(base).and_then(|rest| rest.strip_prefix(b"."));
    rest.is_some_and(|rest| {
        matches!(rest, b"index" | b"state") || (rest.len() >= 6 && rest.iter().all(u8::is_ascii_digit))
    })
}

fn numbered(name: &[u8], prefix: &[u8]) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.iter().all(u8::is_ascii_digit))
}

fn entries(dir: &Path) -> Result<Vec<OsString>> {
    let fail = |cause| Error::io(dir.display(), "cannot read", &cause);
    fs::read_dir(dir).map_err(fail)?.map(|entry| entry.map(|entry| entry.file_name()).map_err(fail)).collect()
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
        for dir in [&data, &undo, &log, &data.join("shop"), &data.join("keys"), &data.join(".sst")] {
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
            ],
            binlog: Some(log.join("bin")),
            binlog_index: None,
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
