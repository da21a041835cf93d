//! The format of a captured log in a backup, and where it may be cut: mini-transactions after a head, or blocks.

use std::sync::Arc;

use crate::bytes::{Part as _, within};
use crate::error::{Error, Result};
use crate::innodb::ids::Lsn;
use crate::innodb::redo::mariadb::{self, Checkpoint, Mtr, Ring, mtr};
use crate::innodb::redo::mysql::{self, Block, LogKey, block};

/// The program that makes it, for its head.
pub(super) const TOOL: &str = concat!("xb-redo ", env!("CARGO_PKG_VERSION"));
/// MariaDB: the size of the file is a multiple of this many bytes, so that a server can read it unbuffered.
const SECTOR: usize = 4096;

/// The format of a captured log that is being written.
#[derive(Clone, Debug)]
pub(crate) struct LogFormat {
    /// Sent before anything else.
    pub(crate) head: Vec<u8>,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// `ib_logfile0`. `facts/mariadb-hot-backup#captured-log`.
    Mariadb { start: Checkpoint, encrypted: bool },
    /// `xtrabackup_logfile`. `facts/mysql-hot-backup#captured-log`.
    Mysql { checkpoint_lsn: Lsn, key: Option<Arc<LogKey>> },
}

impl LogFormat {
    /// A log with the properties that `header` describes.
    pub(crate) fn mariadb(header: &mariadb::Header, start: Checkpoint) -> Self {
        LogFormat { head: header.captured(start, TOOL), kind: Kind::Mariadb { start, encrypted: header.encrypted() } }
    }

    /// The same for MySQL. `encryption` holds the encrypted `key`.
    pub(crate) fn mysql(
        header: &mysql::Header,
        encryption: &[u8; mysql::BLOCK],
        key: Option<Arc<LogKey>>,
        checkpoint_lsn: Lsn,
    ) -> Self {
        LogFormat { head: header.captured(checkpoint_lsn, encryption, TOOL), kind: Kind::Mysql { checkpoint_lsn, key } }
    }

    /// The member's name.
    pub(crate) fn name(&self) -> &'static str {
        match self.kind {
            Kind::Mariadb { .. } => mariadb::FILE,
            Kind::Mysql { .. } => mysql::FILE,
        }
    }

    /// The checkpoint LSN.
    pub(crate) fn checkpoint(&self) -> Lsn {
        match self.kind {
            Kind::Mariadb { start, .. } => start.lsn,
            Kind::Mysql { checkpoint_lsn, .. } => checkpoint_lsn,
        }
    }

    /// LSN of the first byte after the head.
    pub(crate) fn first(&self) -> Lsn {
        match self.kind {
            Kind::Mariadb { start, .. } => start.lsn,
            Kind::Mysql { checkpoint_lsn, .. } => block::begin(checkpoint_lsn),
        }
    }

    /// The smallest possible end LSN of a backup.
    pub(crate) fn least(&self) -> Lsn {
        match self.kind {
            Kind::Mariadb { start, .. } => start.end_lsn,
            Kind::Mysql { checkpoint_lsn, .. } => checkpoint_lsn,
        }
    }

    /// How far the log may be sent when everything before `lsn` belongs to the backup.
    pub(crate) fn settled(&self, lsn: Lsn) -> Lsn {
        match self.kind {
            Kind::Mariadb { .. } => lsn,
            Kind::Mysql { .. } => block::begin(lsn),
        }
    }

    /// LSN after the last byte that is sent if the backup ends at `end`.
    pub(crate) fn until(&self, end: Lsn) -> Lsn {
        match self.kind {
            Kind::Mariadb { .. } => end,
            Kind::Mysql { .. } => block::until(end),
        }
    }

    /// How many of these bytes, which begin at `lsn`, belong to a backup that ends at `end`. The last block is cut.
    pub(crate) fn take(&self, bytes: &mut [u8], lsn: Lsn, end: Lsn) -> Result<usize> {
        match &self.kind {
            Kind::Mariadb { start, encrypted } => whole(bytes, lsn, end, start.lsn, *encrypted),
            Kind::Mysql { key, .. } => cut(bytes, lsn, end, key.as_deref()),
        }
    }

    /// How many zeros follow a log of `size` bytes. MariaDB needs at least one: it shows the server where the log ends.
    pub(crate) fn padding(&self, size: u64) -> usize {
        match self.kind {
            Kind::Mariadb { .. } => SECTOR - within(size, SECTOR),
            Kind::Mysql { .. } => 0,
        }
    }
}

/// The length of the mini-transactions up to `end`.
fn whole(bytes: &[u8], lsn: Lsn, end: Lsn, first: Lsn, encrypted: bool) -> Result<usize> {
    // More may have been captured, up to a checkpoint that the server made later.
    let ring = Ring::new(first, u64::MAX).map_err(|fault| Error::failed(mariadb::FILE, fault))?;
    let (mut whole, mut at) = (0, lsn);
    while at < end {
        let Mtr::Complete { len } = mtr(bytes.part(whole..)?, at, &ring, encrypted) else { break };
        whole += len;
        at = at.saturating_add(len as u64);
    }
    if whole == 0 || at > end {
        let what = format!("the end lsn {end} lies inside a mini-transaction, which begins at lsn {lsn}");
        return Err(Error::damaged("xb_manifest", what));
    }
    Ok(whole)
}

/// The length of the blocks up to the one that contains `end`.
fn cut(bytes: &mut [u8], lsn: Lsn, end: Lsn, key: Option<&LogKey>) -> Result<usize> {
    let wanted = usize::try_from(block::until(end).since(lsn)).unwrap_or(usize::MAX);
    let whole = wanted.min(bytes.len() - bytes.len() % mysql::BLOCK);
    let last = block::begin(end);
    if block::used(end) > block::TRAILER {
        return Err(Error::damaged("xb_manifest", format_args!("no log can end at lsn {end}")));
    }
    if let Some(bytes) = last.checked_since(lsn).and_then(|at| bytes.get_mut(usize::try_from(at).ok()?..whole)) {
        match block::check(bytes, last, key) {
            Block::Here { used } if used >= block::used(end) => block::cut(bytes, block::used(end), key)?,
            _ if bytes.is_empty() => {}
            _ => return Err(Error::failed("spool", "captured log is damaged")),
        }
    }
    if whole == 0 { Err(Error::failed("spool", "captured log is lost")) } else { Ok(whole) }
}
