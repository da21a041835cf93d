//! The live redo log of MySQL: the files of `#innodb_redo`. Source: `facts/mysql-hot-backup#log-files` and
//! `facts/mysql-hot-backup#checkpoints`.
//!
//! As soon as the server does not need a file any more, it renames and reuses, or deletes it. A descriptor that was
//! opened before still reads the old content until blocks are overwritten, and each block contains its LSN.

use std::fs::{DirEntry, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::mariadb::PATIENCE;
use crate::error::{Error, Internal, OrInternal as _, Result};
use crate::innodb::ids::Lsn;
use crate::innodb::redo::Fault;
use crate::innodb::redo::mysql::{self, BLOCK, HEAD, Header};

/// A file of the log.
#[derive(Debug)]
pub(crate) struct LogFile {
    file: File,
    pub(crate) number: u64,
    pub(crate) header: Header,
    /// Size of the file in bytes when it was opened; files in use keep their size.
    size: u64,
    head: Vec<u8>,
}

/// Where a backup begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// The checkpoint LSN: the newest checkpoint.
    pub(crate) checkpoint_lsn: Lsn,
    /// The UUID of the log.
    pub(crate) uuid: u32,
}

impl LogFile {
    /// Opens a file in use; `None` if it no longer exists, or its head is being written.
    pub(crate) fn open(dir: &Path, number: u64) -> Result<Option<LogFile>> {
        let path = dir.join(mysql::name(number));
        let fail = |cause: &std::io::Error| Error::io(path.display(), "cannot read the redo log", cause);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(fail(&cause)),
        };
        let size = file.metadata().map_err(|cause| fail(&cause))?.len();
        let mut head = vec![0; HEAD];
        match file.read_exact_at(&mut head, 0) {
            Err(cause) if cause.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read.map_err(|cause| fail(&cause))?,
        }
        match Header::parse(&head) {
            Ok(header) => Ok(Some(LogFile { file, number, header, size, head })),
            Err(Fault::Checksum { .. }) => Ok(None),
            Err(fault) => Err(Error::failed(path.display(), fault)),
        }
    }

    /// LSN after its last block.
    pub(crate) fn end_lsn(&self) -> Lsn {
        self.header.end_lsn(self.size)
    }

    /// True if redo logging was off when its head was written.
    fn is_off(&self) -> bool {
        self.header.flags & (mysql::NO_LOGGING | mysql::CRASH_UNSAFE) != 0
    }

    /// True if it contains the log of this LSN.
    pub(crate) fn holds(&self, lsn: Lsn) -> bool {
        (self.header.start_lsn..self.end_lsn()).contains(&lsn)
    }

    /// The encryption block.
    pub(crate) fn encryption(&self) -> Result<&[u8; BLOCK], Internal> {
        mysql::encryption(&self.head).or_internal("the head of a log file is too short")
    }

    /// Reads from the block of `lsn` on; returns the number of bytes, which is smaller at the end of the file.
    pub(crate) fn read(&self, lsn: Lsn, bytes: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, self.header.offset(lsn).saturating_add(done as u64)) {
                Ok(0) => break,
                Ok(got) => done += got,
                Err(cause) if cause.kind() == std::io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(Error::io(mysql::name(self.number), "cannot read the redo log", &cause)),
            }
        }
        Ok(done)
    }
}

/// Numbers of the files in use, in order.
pub(crate) fn numbers(dir: &Path) -> Result<Vec<u64>> {
    let mut numbers = Vec::new();
    each(dir, |name, _| numbers.extend(mysql::number(name)))?;
    numbers.sort_unstable();
    Ok(numbers)
}

/// The error for a log without checksums.
pub(crate) fn unsealed(place: impl std::fmt::Display) -> Error {
    // Recovery of such a log was seen to stop at a record that could not be parsed.
    Error::failed(place, "the redo log has no checksums: a block read while it is written looks whole")
        .hint("SET GLOBAL innodb_log_checksums=ON; SELECT innodb_redo_log_sharp_checkpoint(); then run it again")
}

/// The error for a server that writes no log.
pub(crate) fn off(place: impl std::fmt::Display) -> Error {
    Error::failed(place, "redo logging is switched off; no backup can be made")
        .hint("ALTER INSTANCE ENABLE INNODB REDO_LOG")
}

/// Total size of all files in bytes, including spare ones: the server writes this much before it overwrites anything.
pub(crate) fn capacity(dir: &Path) -> Result<u64> {
    let mut capacity = 0u64;
    each(dir, |name, entry| {
        if mysql::number(name.strip_suffix(b"_tmp").unwrap_or(name)).is_some() {
            // A file that no longer exists was deleted or renamed.
            let size = entry.metadata().map_or(0, |metadata| metadata.len());
            capacity = capacity.saturating_add(size.saturating_sub(HEAD as u64));
        }
    })?;
    Ok(capacity)
}

fn each(dir: &Path, mut visit: impl FnMut(&[u8], &DirEntry)) -> Result<()> {
    let fail = |cause: &std::io::Error| {
        Error::io(dir.display(), "cannot list the redo log", cause)
            .hint("the redo log is read on the server's host, as the server's user or as root")
    };
    for entry in std::fs::read_dir(dir).map_err(|cause| fail(&cause))? {
        let entry = entry.map_err(|cause| fail(&cause))?;
        visit(entry.file_name().as_bytes(), &entry);
    }
    Ok(())
}

/// Reads the newest checkpoint of a server, which may be running.
pub(crate) fn start(dir: &Path) -> Result<Start> {
    let begun = Instant::now();
    loop {
        let mut files = Vec::new();
        for number in numbers(dir)? {
            files.extend(LogFile::open(dir, number)?);
        }
        let checkpoints = files.iter().filter_map(|file| {
            let lsn = mysql::checkpoint(&file.head, &file.header, file.size)?;
            Some(Start { checkpoint_lsn: lsn, uuid: file.header.uuid })
        });
        match checkpoints.max_by_key(|start| start.checkpoint_lsn) {
            Some(start) => {
                // Earlier files may be from a time when logging was off.
                let needed = |file: &&LogFile| file.end_lsn() > start.checkpoint_lsn;
                if files.iter().filter(needed).any(LogFile::is_off) {
                    return Err(off(dir.display()));
                }
                return Ok(start);
            }
            None if begun.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(5)),
            None => return Err(Error::failed(dir.display(), "the redo log has no checkpoint")),
        }
    }
}
