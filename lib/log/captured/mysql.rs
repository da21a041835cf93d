//! MySQL's captured log, `xtrabackup_logfile`: checked block by block, and split into the files that a server expects.
//! `facts/mysql-hot-backup#log-layout`.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, OrInternal as _, Result};
use crate::innodb::ids::{Lsn, SpaceId};
use crate::innodb::redo::mysql::forget::forget;
use crate::innodb::redo::mysql::{self, BLOCK, Block, FULL, HEAD, Header, Locked, block};
use crate::io::files::{self, fail};
use crate::io::map::{WINDOW, Window};
use crate::stream::native::names::NEW_REDO;

/// The size of a file is a multiple of the largest page size.
const UNIT: u64 = 64 << 10;
/// The largest size of a file in bytes; the server allows twice as many.
const LARGEST: u64 = 8 << 30;
/// The least free space in the newest file in bytes; recovery itself writes log.
const SPARE: u64 = 4 << 20;
/// How many bytes are written at a time: whole blocks; a window of the file is a multiple of it.
const PIECE: usize = 1 << 20;

/// A captured log.
#[derive(Debug)]
pub(crate) struct Captured {
    path: PathBuf,
    header: Header,
    encryption: [u8; BLOCK],
    checkpoint_lsn: Lsn,
}

impl Captured {
    /// Opens the log in a directory and reads its head.
    pub(crate) fn open(dir: &Path) -> Result<Captured> {
        let path = dir.join(mysql::FILE);
        let mut file = File::open(&path).map_err(|cause| match cause.kind() {
            io::ErrorKind::NotFound => Error::damaged(path.display(), "missing"),
            _ => fail(&path, "cannot open", &cause),
        })?;
        let mut head = vec![0; HEAD];
        file.read_exact(&mut head).map_err(|cause| match cause.kind() {
            io::ErrorKind::UnexpectedEof => {
                Error::damaged(path.display(), "truncated: it is shorter than the head of a redo log")
            }
            _ => fail(&path, "cannot read", &cause),
        })?;
        let size = file.metadata().map_err(|cause| fail(&path, "cannot read", &cause))?.len();
        let header = Header::parse(&head).map_err(|fault| Error::damaged(path.display(), fault))?;
        // A log that ends at the start of the checkpoint's block has no block.
        let checkpoint_lsn = mysql::checkpoint(&head, &header, size.max((HEAD + BLOCK) as u64))
            .ok_or_else(|| Error::damaged(path.display(), "damaged: no valid checkpoint in its head"))?;
        let encryption = *mysql::encryption(&head).or_internal("the head of a log file is too short")?;
        Ok(Captured { path, header, encryption, checkpoint_lsn })
    }

    /// True if a server encrypts it, or did so once.
    pub(crate) fn has_key(&self) -> bool {
        Locked::parse(&self.encryption).is_some()
    }

    /// Checks that the log begins with the block of `start` and has every block up to `end`.
    pub(crate) fn verify(&self, start: Lsn, end: Lsn) -> Result<()> {
        let fault = |what: String| Err(Error::damaged(self.path.display(), what));
        if self.checkpoint_lsn != start || self.header.start_lsn != block::begin(start) {
            return fault(format!("begins at lsn {}, the backup at {start}", self.checkpoint_lsn));
        }
        if !block::is_end(end) {
            return fault(format!("no log can end at lsn {end}, as the backup does"));
        }
        self.blocks(end, |_, _| Ok(()))
    }

    /// Passes all blocks to `each`, checked, in pieces with their LSN; the last one is cut at `end`.
    fn blocks(&self, end: Lsn, mut each: impl FnMut(Lsn, &[u8]) -> Result<()>) -> Result<()> {
        let file = File::open(&self.path).map_err(|cause| fail(&self.path, "cannot open", &cause))?;
        let until = block::until(end);
        let (mut lsn, mut offset) = (self.header.start_lsn, HEAD as u64);
        while lsn < until {
            let window = Window::at(&file, offset).map_err(|cause| fail(&self.path, "cannot map", &cause))?;
            let wanted = usize::try_from(until.since(lsn).min(WINDOW)).unwrap_or(usize::MAX);
            let Some(bytes) = window.get(..wanted) else {
                let there = lsn.saturating_add(window.len() as u64);
                let what = format!("truncated: ends at lsn {there}, the backup at {end}");
                return Err(Error::damaged(self.path.display(), what));
            };
            for piece in bytes.chunks(PIECE) {
                match self.checked(piece, lsn, end)? {
                    Some(cut) => each(lsn, &cut)?,
                    None => each(lsn, piece)?,
                }
                lsn = lsn.saturating_add(piece.len() as u64);
            }
            offset = offset.saturating_add(bytes.len() as u64);
        }
        Ok(())
    }

    /// Checks blocks from `lsn` on. If the last one is longer than the backup, returns a copy in which it is cut.
    fn checked(&self, piece: &[u8], lsn: Lsn, end: Lsn) -> Result<Option<Vec<u8>>> {
        let mut cut = None;
        for (bytes, number) in piece.chunks(BLOCK).zip(0u64..) {
            if self.goes_beyond(bytes, lsn.saturating_add(number.saturating_mul(BLOCK as u64)), end)? {
                let mut copy = piece.to_vec();
                copy.rchunks_mut(BLOCK).take(1).try_for_each(|last| block::cut(last, block::used(end), None))?;
                cut = Some(copy);
            }
        }
        Ok(cut)
    }

    /// Checks a block; true if it is the last one and longer than the backup. An encrypted block was checked with its
    /// key when it was captured; its digest in the manifest proves that it has not changed since.
    fn goes_beyond(&self, bytes: &[u8], lsn: Lsn, end: Lsn) -> Result<bool> {
        let fault =
            |what: &str| Err(Error::damaged(self.path.display(), format_args!("the block of lsn {lsn} {what}")));
        let last = lsn == block::begin(end);
        let wanted = if last { block::used(end) } else { BLOCK };
        match block::check(bytes, lsn, None) {
            Block::Here { used } | Block::Encrypted { used } if used < wanted => {
                fault("is not full, though the log goes on")
            }
            Block::Here { used } => Ok(used > wanted),
            Block::Encrypted { used } if used > wanted => fault("goes beyond the end of the backup"),
            Block::Encrypted { .. } => Ok(false),
            Block::Unsealed => fault("has no checksum"),
            Block::Missing | Block::Overwritten => fault("is damaged"),
        }
    }

    /// Creates the directory of log files, replacing an existing one. `version` goes into the headers: a server warns
    /// of a log from an unknown program. At its end the log says that `left_out` were deleted; see [`end`].
    pub(crate) fn lay_out(&self, dir: &Path, end: Lsn, left_out: &[SpaceId], version: &str) -> Result<()> {
        let (new, place) = (dir.join(NEW_REDO), dir.join(mysql::DIR));
        remove(&new)?;
        fs::DirBuilder::new().mode(0o750).create(&new).map_err(|cause| fail(&new, "cannot create", &cause))?;
        let owner = fs::metadata(dir).map_err(|cause| fail(dir, "cannot read", &cause))?;
        let owner = rustix::process::geteuid().is_root().then_some((owner.uid(), owner.gid()));
        files::give(&new, owner)?;
        let mut made = Vec::new();
        let until = block::until(self::end(end, left_out)?);
        for (part, number) in parts(self.header.start_lsn, until).into_iter().zip(0..) {
            let path = new.join(mysql::name(number));
            made.push((self.part(&path, &part, version)?, part));
            files::give(&path, owner)?;
        }
        let write = |lsn: Lsn, bytes: &[u8]| {
            for (file, part) in &made {
                if let Some((share, at)) = part.share(lsn, bytes) {
                    file.write_all_at(share, at).map_err(|cause| fail(&new, "cannot write", &cause))?;
                }
            }
            Ok(())
        };
        let mut last = Vec::new();
        self.blocks(end, |lsn, bytes| {
            last = bytes.last_chunk::<BLOCK>().or_internal("a piece of the log without a block")?.to_vec();
            write(lsn, bytes)
        })?;
        if !left_out.is_empty() {
            if let Block::Encrypted { .. } = block::check(&last, block::begin(end), None) {
                let what =
                    "its log is encrypted: without the key nothing can be said there of the tables that it left out";
                return Err(Error::failed(dir.display(), what).hint("a full backup can be applied"));
            }
            write(block::begin(end), &forget(&last, end, left_out)?.0)?;
        }
        files::sync(dir)?;
        remove(&place)?;
        fs::rename(&new, &place).map_err(|cause| fail(&new, "cannot rename", &cause))
    }

    /// Creates a file of its full size that has only a head.
    fn part(&self, path: &Path, part: &Part, version: &str) -> Result<File> {
        let header = Header {
            start_lsn: part.start,
            creator: mysql::creator(&format!("MySQL {version}")),
            flags: if part.newest { 0 } else { FULL },
            ..self.header
        };
        let holds = part.start == self.header.start_lsn;
        let head = header.head(holds.then_some(self.checkpoint_lsn), &self.encryption);
        let make = || {
            let file = File::options().write(true).create_new(true).mode(0o640).open(path)?;
            file.write_all_at(&head, 0)?;
            file.set_len(part.size)?;
            Ok(file)
        };
        make().map_err(|cause| fail(path, "cannot write", &cause))
    }
}

/// Where the log of a backup that ends at `end` ends after the deletions of `left_out` were added.
pub(crate) fn end(end: Lsn, left_out: &[SpaceId]) -> Result<Lsn> {
    if left_out.is_empty() { Ok(end) } else { Ok(forget(&[], end, left_out)?.1) }
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(fail(dir, "cannot remove", &cause)),
        _ => Ok(()),
    }
}

/// A file to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    /// LSN of its first block.
    start: Lsn,
    /// Size of the file in bytes.
    size: u64,
    /// True for the last one, in which the server continues.
    newest: bool,
}

impl Part {
    fn end(&self) -> Lsn {
        self.start.saturating_add(self.size.saturating_sub(HEAD as u64))
    }

    /// The part of these bytes, which begin at `lsn`, that belongs to this file, and its offset there.
    fn share<'a>(&self, lsn: Lsn, bytes: &'a [u8]) -> Option<(&'a [u8], u64)> {
        let (from, to) = (self.start.max(lsn), self.end().min(lsn.saturating_add(bytes.len() as u64)));
        let index = |at: Lsn| usize::try_from(at.checked_since(lsn)?).ok();
        let share = bytes.get(index(from)?..index(to)?).filter(|share| !share.is_empty())?;
        Some((share, HEAD as u64 + from.checked_since(self.start)?))
    }
}

/// The files for a log from `start` to `until`, both block boundaries.
fn parts(mut start: Lsn, until: Lsn) -> Vec<Part> {
    let mut parts = Vec::new();
    loop {
        let size = until.since(start).saturating_add(HEAD as u64 + SPARE).next_multiple_of(UNIT);
        let part = Part { start, size: size.min(LARGEST), newest: size <= LARGEST };
        start = part.end();
        let last = part.newest;
        parts.push(part);
        if last {
            return parts;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_follow_one_another_and_the_last_has_room() {
        assert_eq!(parts(Lsn::new(512), Lsn::new(1024)), [Part { start: Lsn::new(512), size: 65 << 16, newest: true }]);
        let until = 512 + (20 << 30);
        let parts = parts(Lsn::new(512), Lsn::new(until));
        assert_eq!(parts.len(), 3);
        for two in parts.windows(2) {
            assert_eq!((two[0].end(), two[0].newest), (two[1].start, false));
            assert_eq!((two[0].size, two[1].start.get() % 512), (LARGEST, 0));
        }
        let last = parts.last().unwrap();
        assert!(last.newest && last.end() >= Lsn::new(until + SPARE) && last.size.is_multiple_of(UNIT));
        let bytes = [7; 1024];
        let border = Lsn::new(parts[0].end().get() - 512);
        assert_eq!(parts[0].share(border, &bytes), Some((&bytes[..512], LARGEST - 512)));
        assert_eq!(parts[1].share(border, &bytes), Some((&bytes[..512], HEAD as u64)));
        assert_eq!(parts[2].share(border, &bytes), None);
        // A log that just does not fit leaves the last file without a block.
        let tight = 512 + LARGEST - HEAD as u64;
        let two = super::parts(Lsn::new(512), Lsn::new(tight));
        assert_eq!((two.len(), two[1].start), (2, Lsn::new(tight)));
    }
}
