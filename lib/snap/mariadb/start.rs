//! Where the copy begins: the checkpoint LSN, read from the redo log before the first page; and where the log of a
//! stopped server ends. Source: `facts/mariadb-hot-backup#redo-log`.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::bytes::Part as _;
use crate::error::{Error, Result};
use crate::innodb::ids::Lsn;
use crate::innodb::redo::mariadb::{Checkpoint, FILE, Format, Header, Mtr, mtr};
use crate::log::live::mariadb::Live;
use crate::stream::native::Redo;

/// How long to wait for a block that is being written.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much of the log is searched at a time.
const WINDOW: usize = 4 << 20;

/// The log before the first page is read.
pub(super) struct Start {
    log: Live,
    /// The checkpoint LSN.
    pub(super) checkpoint: Checkpoint,
}

impl Start {
    /// Reads the header and the newest checkpoint.
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let hint = "run xb-snap on the server's host, as the server's user or as root";
        let log = Live::open(&dir.join(FILE)).map_err(|error| error.hint(hint))?;
        let begun = Instant::now();
        loop {
            if let Some(checkpoint) = log.checkpoint()? {
                return Ok(Start { log, checkpoint });
            }
            if begun.elapsed() > PATIENCE {
                return Err(Error::damaged(log.path().display(), "neither checkpoint can be read"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The header block.
    pub(super) fn header(&self) -> &Header {
        &self.log.header
    }

    /// The log as `xb_begin` describes it.
    pub(super) fn redo(&self) -> Redo {
        let format = match self.log.header.format {
            Format::Phys if !self.log.header.encrypted() => "Phys",
            Format::Phys | Format::Encrypted => "encrypted",
        };
        Redo {
            format: format.into(),
            dir: self.log.path().parent().unwrap_or(Path::new("")).display().to_string(),
            checkpoint_lsn: self.checkpoint.lsn,
            checkpoint_end_lsn: Some(self.checkpoint.end_lsn),
            log_uuid: None,
        }
    }

    /// Where the log of a stopped server ends: after the last complete mini-transaction, as the server's own recovery
    /// finds it.
    pub(super) fn end(&self) -> Result<Lsn> {
        let encrypted = self.log.header.encrypted();
        let capacity = self.log.ring.capacity();
        let window = WINDOW.min(usize::try_from(capacity).unwrap_or(WINDOW));
        let (mut bytes, mut lsn) = (vec![0; window], self.checkpoint.lsn);
        while lsn.since(self.checkpoint.lsn) < capacity {
            self.log.read(lsn, &mut bytes)?;
            let (mut rest, from) = (bytes.as_slice(), lsn);
            while let Mtr::Complete { len } = mtr(rest, lsn, &self.log.ring, encrypted) {
                lsn = lsn.saturating_add(len as u64);
                rest = rest.part(len..)?;
            }
            if lsn == from {
                break;
            }
        }
        if lsn <= self.checkpoint.end_lsn {
            return Err(Error::damaged(
                self.log.path().display(),
                format_args!("ends at lsn {lsn}, before its checkpoint is complete at lsn {}", self.checkpoint.end_lsn),
            ));
        }
        Ok(lsn)
    }
}
