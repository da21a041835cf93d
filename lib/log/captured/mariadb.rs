//! The captured redo log as a file: read from end to end, with local file names, extended for the server.
//!
//! A captured log is entirely in the first lap of its ring (`facts/mariadb-hot-backup#captured-log`), so the size of
//! the ring does not matter: the byte of `lsn` is at `START + lsn - first_lsn`, and the file may be made longer.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::format::TOOL;
use super::space_of;
use crate::error::{Error, Result};
use crate::innodb::ids::{Lsn, SpaceId};
use crate::innodb::redo::mariadb::mtr::{FileOp, files, forget, rewrite_names};
use crate::innodb::redo::mariadb::{self, Checkpoint, Header, Mtr, Ring, START, mtr};
use crate::io::copy;
use crate::io::files::fail;
use crate::io::map::Window;
use crate::stream::native::names::NEW;

/// The server writes little before it has recovered, but a rollback writes log, too.
const SPARE: u64 = 16 << 20;

/// A captured log.
#[derive(Debug)]
pub(crate) struct Captured {
    path: PathBuf,
    file: File,
    header: Header,
    checkpoint: Checkpoint,
    ring: Ring,
}

impl Captured {
    /// Opens `ib_logfile0` in a directory and reads its head.
    pub(crate) fn open(dir: &Path) -> Result<Captured> {
        let path = dir.join(mariadb::FILE);
        let file = File::open(&path).map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound => Error::damaged(path.display(), "missing"),
            _ => fail(&path, "cannot open", &cause),
        })?;
        let mut head = vec![0; START];
        match file.read_exact_at(&mut head, 0) {
            Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(Error::damaged(path.display(), "truncated: it is shorter than the head of a redo log"));
            }
            outcome => outcome.map_err(|cause| fail(&path, "cannot read", &cause))?,
        }
        let header = Header::parse(&head).map_err(|fault| Error::damaged(path.display(), fault))?;
        let checkpoint = Checkpoint::newest(&head, header.first_lsn)
            .ok_or_else(|| Error::damaged(path.display(), "damaged: no valid checkpoint in its head"))?;
        // So large that everything is in the first lap.
        let ring = Ring::new(header.first_lsn, u64::MAX / 2).map_err(|fault| Error::damaged(path.display(), fault))?;
        Ok(Captured { path, file, header, checkpoint, ring })
    }

    /// Where recovery begins.
    pub(crate) fn start_lsn(&self) -> Lsn {
        self.checkpoint.lsn
    }

    /// The path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The LSN of the byte at an offset in the file.
    pub(crate) fn lsn(&self, at: u64) -> Lsn {
        self.header.first_lsn.saturating_add(at.saturating_sub(START as u64))
    }

    /// The bytes of the file before `end`, mapped.
    pub(crate) fn bytes(&self, end: Lsn) -> Result<Window> {
        Window::first(&self.file, self.ring.offset(end)).map_err(|cause| fail(&self.path, "cannot map", &cause))
    }

    /// True if it has nothing but a checkpoint at `end`.
    pub(crate) fn is_empty_at(&self, end: Lsn) -> bool {
        self.header.first_lsn == end && self.checkpoint == Checkpoint { lsn: end, end_lsn: end }
    }

    /// Replaces the file by a log that has nothing but a checkpoint at `end`: a server that finds it has nothing to
    /// recover. Source: `facts/mariadb-hot-backup#after-apply`.
    pub(crate) fn empty(&self, end: Lsn) -> Vec<u8> {
        let mut log = self.header.captured(Checkpoint { lsn: end, end_lsn: end }, TOOL);
        log.extend(mtr::checkpoint(end));
        log.resize(log.len().next_multiple_of(4 << 10), 0);
        log
    }

    /// True if the names in it cannot be read without the server's key.
    pub(crate) fn encrypted(&self) -> bool {
        self.header.encrypted()
    }

    /// True if the server will recognize the directory as a restored backup.
    pub(crate) fn is_captured(&self) -> bool {
        self.header.creator.starts_with(b"Backup ")
    }

    /// Reads the log from its start to its last mini-transaction, checks each, and returns where that ends. `each` gets
    /// them with their offset in the file.
    pub(crate) fn walk(&self, mut each: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<Lsn> {
        let encrypted = self.encrypted();
        let mut lsn = self.checkpoint.lsn;
        loop {
            let begin = self.ring.offset(lsn);
            let window = match Window::at(&self.file, begin) {
                Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => return Ok(lsn),
                window => window.map_err(|cause| fail(&self.path, "cannot map", &cause))?,
            };
            let mut rest = &*window;
            while let Mtr::Complete { len } = mtr(rest, lsn, &self.ring, encrypted) {
                let (bytes, after) = rest.split_at_checked(len).ok_or_else(|| {
                    Error::damaged(self.path.display(), format_args!("a mini-transaction at lsn {lsn} has no end"))
                })?;
                each(self.ring.offset(lsn), bytes)?;
                lsn = lsn.saturating_add(len as u64);
                rest = after;
            }
            // A mini-transaction that the window cuts is whole in the next window, because none is longer than a
            // window.
            let cut =
                window.more && rest.len() < window.len() && mtr(rest, lsn, &self.ring, encrypted) == Mtr::Incomplete;
            if !cut {
                return Ok(lsn);
            }
        }
    }

    /// The same with copies of the bytes, which may be changed.
    fn walk_copies(&self, mut each: impl FnMut(u64, &mut [u8]) -> Result<()>) -> Result<()> {
        let mut copy = Vec::new();
        self.walk(|at, bytes| {
            copy.clear();
            copy.extend_from_slice(bytes);
            each(at, &mut copy)
        })
        .map(drop)
    }

    /// Checks that the log begins at `start` and that its last complete mini-transaction ends at `end`; `None`:
    /// anywhere after the checkpoint. Returns where it ends.
    pub(crate) fn verify(&self, start: Option<Lsn>, end: Option<Lsn>) -> Result<Lsn> {
        let fault = |what: String| Err(Error::damaged(self.path.display(), what));
        if let Some(start) = start.filter(|start| *start != self.start_lsn()) {
            return fault(format!("begins at lsn {}, the backup at {start}", self.start_lsn()));
        }
        let found = self.walk(|_, _| Ok(()))?;
        if found < self.checkpoint.end_lsn {
            return fault(format!(
                "truncated: ends at lsn {found}, before its checkpoint's own record at {}",
                self.checkpoint.end_lsn
            ));
        }
        match end {
            Some(end) if found < end => fault(format!("truncated: ends at lsn {found}, the backup at {end}")),
            Some(end) if found > end => {
                fault(format!("continues to lsn {found}, beyond the end of the backup at {end}"))
            }
            _ => Ok(found),
        }
    }

    /// Tablespaces of tables that are in the log and not in the directory: a partial backup leaves them out.
    pub(crate) fn left_out(&self, dir: &Path) -> Result<BTreeSet<SpaceId>> {
        // Whether a file has one of its names, and the id in the file with its last name.
        let mut spaces: BTreeMap<SpaceId, (bool, Option<SpaceId>)> = BTreeMap::new();
        self.each_name(|space, name| {
            if name.ends_with(b".ibd") {
                let found = space_of(&dir.join(OsStr::from_bytes(name)))?;
                let (here, last) = spaces.entry(space).or_default();
                *here |= found == Some(space);
                *last = found;
            }
            Ok(())
        })?;
        // Page 0 of a new file may be uninitialized.
        let left_out = spaces.into_iter().filter(|(_, (here, last))| !here && *last != Some(SpaceId::SYSTEM));
        Ok(left_out.map(|(space, _)| space).collect())
    }

    /// All names that files had at any time, as paths below the data directory.
    fn each_name(&self, mut each: impl FnMut(SpaceId, &[u8]) -> Result<()>) -> Result<()> {
        if self.encrypted() {
            return Ok(());
        }
        self.walk_copies(|_, bytes| {
            rewrite_names(bytes);
            for file in files(bytes) {
                match file.op {
                    FileOp::Create(name) | FileOp::Modify(name) => each(file.space, name)?,
                    FileOp::Rename(from, to) => [from, to].iter().try_for_each(|name| each(file.space, name))?,
                    FileOp::Delete(_) | FileOp::Checkpoint(_) => {}
                }
            }
            Ok(())
        })
    }

    /// True if [`Captured::make_local`] has anything to change.
    pub(crate) fn needs_change(&self, left_out: &BTreeSet<SpaceId>) -> Result<bool> {
        let mut found = false;
        if !self.encrypted() {
            self.walk_copies(|_, bytes| {
                found |= !found && (rewrite_names(bytes) || forget(bytes, left_out));
                Ok(())
            })?;
        }
        Ok(found)
    }

    /// Makes all file names in the log local to the data directory, and adds deletions of the files that were left out.
    /// This happens in a copy, which then replaces the log. Otherwise a server would open a table with DATA DIRECTORY
    /// at the source's path.
    pub(crate) fn make_local(&self, dir: &Path, left_out: &BTreeSet<SpaceId>) -> Result<()> {
        let new = dir.join(format!("{NEW}{}", mariadb::FILE));
        let write = |cause: io::Error| fail(&new, "cannot write", &cause);
        copy::file(&self.path, &new)?;
        let target = OpenOptions::new().write(true).open(&new).map_err(write)?;
        self.walk_copies(|at, bytes| {
            let changed = rewrite_names(bytes) | forget(bytes, left_out);
            if changed { target.write_all_at(bytes, at).map_err(write) } else { Ok(()) }
        })?;
        target.sync_all().map_err(write)?;
        fs::rename(&new, &self.path).map_err(write)
    }

    /// The length that the file should have for recovery up to `end`.
    pub(crate) fn roomy(&self, end: Lsn) -> u64 {
        let used = end.since(self.header.first_lsn);
        (START as u64).saturating_add(used).saturating_add(used / 4).saturating_add(SPARE).next_multiple_of(1 << 20)
    }
}

/// Extends `ib_logfile0` in a directory without writing data. Never makes it shorter.
pub(crate) fn extend(dir: &Path, size: u64) -> Result<()> {
    let path = dir.join(mariadb::FILE);
    let extend = || {
        let file = OpenOptions::new().write(true).open(&path)?;
        if file.metadata()?.len() < size { file.set_len(size) } else { Ok(()) }
    };
    extend().map_err(|cause| fail(&path, "cannot extend", &cause))
}
