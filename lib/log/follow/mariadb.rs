//! Follows the log of MariaDB and captures what is durable, mini-transaction by mini-transaction.
//! `facts/mariadb-hot-backup#following`.
//!
//! The essential rule: capture nothing beyond an LSN that the server has reported as durable. After it the file
//! contains stale mini-transactions of the same lap, which look valid in every respect.

use std::path::Path;
use std::time::Instant;

use bstr::ByteSlice;

use super::super::live::mariadb::{Live, PATIENCE};
use super::super::queue::{FollowStats, Target};
use super::{END_PATIENCE, Follow, OVERRUN_PATIENCE, POLL, WINDOW};
use crate::bytes::Part as _;
use crate::error::{Error, OrInternal as _, Result};
use crate::innodb::ids::Lsn;
use crate::innodb::redo::mariadb::mtr::{self, FileOp, Mtr, mtr};
use crate::innodb::redo::mariadb::{Checkpoint, Deletions, Header, Ring, START};

/// The length of a file name that file systems allow, in bytes.
const NAME_MAX: usize = 255;

/// The state of the follower.
#[derive(Debug)]
pub(crate) struct Follower {
    live: Live,
    /// The log that has replaced `live`, while some of `live` is still to be read.
    next: Option<Live>,
    /// Everything before is captured; always a boundary of mini-transactions.
    lsn: Lsn,
    start: Checkpoint,
    /// FILE_CHECKPOINT of `start` has been found where recovery looks for it.
    anchored: bool,
    /// The newest checkpoint of the server.
    checkpoint: Checkpoint,
    /// Since when there has been no complete mini-transaction at `lsn`, although it is below the bound.
    stuck: Option<Instant>,
    /// Since when no checkpoint can be read.
    headless: Option<Instant>,
    window: Vec<u8>,
    stats: FollowStats,
    /// The first file name that no file system accepts, and the LSN of its record.
    unopenable: Option<(Lsn, Vec<u8>)>,
}

impl Follow for Follower {
    fn poll(&mut self, target: &Target, take: &mut dyn FnMut(&[u8], Lsn) -> Result<()>) -> Result<()> {
        self.look()?;
        let durable = self.checkpoint.end_lsn.max(target.durable_lsn);
        let bound = durable.max(target.end_lsn.unwrap_or_default());
        self.stats.measure(durable.since(self.lsn), self.live.ring.capacity());
        while self.lsn < bound && target.end_lsn.is_none_or(|end| self.lsn < end) {
            self.change_over();
            let wanted = bound.since(self.lsn).min(WINDOW);
            self.window.resize(usize::try_from(wanted).or_internal("a window larger than memory")?, 0);
            self.live.read(self.lsn, &mut self.window)?;
            self.check_lap(bound)?;
            let whole = self.whole()?;
            if whole == 0 {
                return self.wait(durable, bound);
            }
            self.stuck = None;
            self.lsn = self.lsn.saturating_add(whole as u64);
            take(self.window.part(..whole)?, self.lsn)?;
        }
        Ok(())
    }

    fn reached(&self, end: Lsn) -> bool {
        self.lsn >= end
    }

    fn conclude(&self, end: Lsn) -> Result<FollowStats> {
        if let Some((lsn, name)) = self.unopenable.as_ref().filter(|(lsn, _)| *lsn < end) {
            let what =
                format!("a file name of more than {NAME_MAX} bytes, at lsn {lsn}, which ends a server's recovery");
            return Err(Error::invalid(name.as_bstr(), what)
                .hint("a CREATE or ALTER TABLE failed for it; run the backup again after a newer checkpoint"));
        }
        if self.anchored { Ok(self.stats.clone()) } else { Err(self.unanchored("the log ends before it")) }
    }
}

impl Follower {
    /// Opens the log at `path`; `start` is the checkpoint with which the backup begins.
    pub(crate) fn begin(path: &Path, start: Checkpoint) -> Result<Follower> {
        let live = Live::open(path)?;
        let (place, since) = (path.display(), Instant::now());
        let checkpoint = loop {
            match live.checkpoint()? {
                Some(checkpoint) => break checkpoint,
                None if since.elapsed() < PATIENCE => std::thread::sleep(POLL),
                None => return Err(Error::failed(place, "the redo log has no checkpoint")),
            }
        };
        if checkpoint.lsn < start.lsn {
            let what = format!("its newest checkpoint {} is older than the backup's {}", checkpoint.lsn, start.lsn);
            return Err(Error::failed(place, what).hint("this is the redo log of another server; --datadir chooses it"));
        }
        let stats = FollowStats::new(live.ring.capacity());
        Ok(Follower {
            live,
            next: None,
            lsn: start.lsn,
            start,
            anchored: false,
            checkpoint,
            stuck: None,
            headless: None,
            window: Vec::new(),
            unopenable: None,
            stats,
        })
    }

    /// The tablespaces whose file was deleted, according to the log read so far.
    pub(crate) fn into_deletions(self) -> Deletions {
        self.stats.deletions
    }

    #[cfg(test)]
    pub(crate) fn live(&self) -> &Live {
        &self.live
    }

    /// The header of the log.
    pub(crate) fn header(&self) -> &Header {
        &self.live.header
    }

    /// Checks for a log of another size, and for a newer checkpoint.
    fn look(&mut self) -> Result<()> {
        if let Some(next) = self.next.as_ref().unwrap_or(&self.live).successor()? {
            self.stats.resized += 1;
            // If a log was replaced before we opened it, its records are also in the newest one, provided `live`
            // reaches up to that. If not, reading will fail.
            self.next = Some(next);
        }
        self.change_over();
        match self.next.as_ref().unwrap_or(&self.live).checkpoint()? {
            Some(checkpoint) => (self.checkpoint, self.headless) = (checkpoint, None),
            None if self.headless.get_or_insert_with(Instant::now).elapsed() < PATIENCE => {}
            None => return Err(Error::failed(self.live.path().display(), "the redo log has no checkpoint any more")),
        }
        Ok(())
    }

    /// Switches to the log that has replaced this one, if the LSN is in it.
    fn change_over(&mut self) {
        if let Some(next) = self.next.take_if(|next| next.ring.first_lsn() <= self.lsn) {
            self.live = next;
        }
    }

    /// Two laps later the sequence bit is the same again. What was read is valid only if the server cannot have written
    /// that far; it never writes further than one lap after its checkpoint.
    fn check_lap(&self, bound: Lsn) -> Result<()> {
        match self.live.checkpoint()? {
            Some(checkpoint) if checkpoint.lsn > self.lsn.saturating_add(self.live.ring.capacity()) => {
                Err(self.overrun(bound.max(checkpoint.end_lsn), checkpoint.lsn))
            }
            _ => Ok(()),
        }
    }

    /// Converts the complete mini-transactions at the start of the window for the captured log; returns their length in
    /// bytes.
    fn whole(&mut self) -> Result<usize> {
        let encrypted = self.live.header.encrypted();
        let mut window = std::mem::take(&mut self.window);
        let until = self.next.as_ref().map_or(Lsn::MAX, |next| next.ring.first_lsn());
        let (lsn, ring) = (self.lsn, self.live.ring);
        let taken = take(&mut window, lsn, &ring, encrypted, until, |lsn, mtr| {
            self.stats.deletions.see(mtr, lsn, encrypted);
            self.look_at_names(lsn, mtr);
            self.anchor(lsn, mtr)
        });
        self.window = window;
        taken
    }

    /// A statement that failed because of the length of a file's name leaves the name in the log, and recovery stops
    /// there with "Operating system error number 36". Names in an encrypted log are not visible.
    fn look_at_names(&mut self, lsn: Lsn, mtr: &[u8]) {
        if self.unopenable.is_some() || self.live.header.encrypted() {
            return;
        }
        let names = mtr::files(mtr).filter_map(|file| match file.op {
            FileOp::Create(name) | FileOp::Rename(_, name) | FileOp::Modify(name) => Some(name),
            FileOp::Delete(_) | FileOp::Checkpoint(_) => None,
        });
        let long = |name: &&[u8]| name.split(|byte| *byte == b'/').any(|part| part.len() > NAME_MAX);
        self.unopenable = names.filter(long).map(|name| (lsn, name.to_vec())).next();
    }

    /// Recovery requires the FILE_CHECKPOINT of the checkpoint at its end LSN, possibly after FILE_MODIFY records
    /// (`facts/mariadb-hot-backup#captured-log`).
    fn anchor(&mut self, lsn: Lsn, mtr: &[u8]) -> Result<()> {
        let start = self.start;
        if self.anchored || lsn < start.end_lsn {
            let beyond = lsn.saturating_add(mtr.len() as u64) > start.end_lsn;
            return if self.anchored || !beyond { Ok(()) } else { Err(self.unanchored("no record begins there")) };
        }
        let mut other = false;
        if self.live.header.encrypted() {
            // Its LSN cannot be read, but there is no other record of its type before the next checkpoint.
            let record = mtr::first_bytes(mtr).find(|first| first & 0xf0 != 0xb0);
            self.anchored = record == Some(0xfa);
            other = record.is_some();
        } else {
            other |= mtr.first().is_none_or(|first| first & 0x80 == 0);
            for file in mtr::files(mtr) {
                match file.op {
                    FileOp::Checkpoint(lsn) => self.anchored |= lsn == start.lsn,
                    FileOp::Modify(_) => {}
                    _ => other = true,
                }
            }
        }
        if other && !self.anchored { Err(self.unanchored("other records are there")) } else { Ok(()) }
    }

    fn unanchored(&self, why: &str) -> Error {
        let Checkpoint { lsn, end_lsn } = self.start;
        let what = format!("the record of checkpoint {lsn} is not at lsn {end_lsn}: {why}");
        Error::invalid(self.live.path().display(), what)
    }

    /// There is no complete mini-transaction at an LSN below the bound. The read may have been torn, so it is repeated
    /// for a while.
    fn wait(&mut self, durable: Lsn, bound: Lsn) -> Result<()> {
        let stuck = self.stuck.get_or_insert_with(Instant::now).elapsed();
        if self.lsn >= durable {
            if stuck < END_PATIENCE {
                return Ok(());
            }
            let what = format!("the log ends at lsn {}, the backup at {bound}", self.lsn);
            return Err(Error::invalid(self.live.path().display(), what));
        }
        // A log that was replaced is not written any more, so it cannot be overrun.
        if self.next.is_none() && self.checkpoint.lsn > self.lsn {
            return if stuck < OVERRUN_PATIENCE { Ok(()) } else { Err(self.overrun(bound, self.checkpoint.lsn)) };
        }
        if stuck < PATIENCE {
            return Ok(());
        }
        let fault = match mtr(&self.window, self.lsn, &self.live.ring, self.live.header.encrypted()) {
            Mtr::Bad(fault) => fault.to_string(),
            _ => "a mini-transaction does not end where it should".to_owned(),
        };
        let what = format!("the log cannot be read at lsn {}, though it is durable up to {durable}: {fault}", self.lsn);
        Err(Error::invalid(self.live.path().display(), what))
    }

    fn overrun(&self, bound: Lsn, checkpoint: Lsn) -> Error {
        let capacity = self.live.ring.capacity();
        let bound = bound.max(self.lsn.saturating_add(capacity));
        // The server may be one lap ahead of its checkpoint; a log with room for all of that would have been large
        // enough.
        let enough = checkpoint.saturating_add(capacity).max(bound).since(self.lsn) + START as u64;
        let what = format!(
            "redo overrun: lsn {} was overwritten, the server is beyond lsn {bound}, {} bytes ahead",
            self.lsn,
            bound.since(self.lsn)
        );
        let mebibytes = enough.div_ceil(1 << 20);
        Error::invalid(self.live.path().display(), what).hint(format_args!(
            "run the backup again with SET GLOBAL innodb_log_file_size={}; {mebibytes} MiB would have been enough",
            mebibytes << 20
        ))
    }
}

/// Converts the complete mini-transactions at the start of `bytes` for a captured log: end bytes of the first lap, file
/// names below the data directory. Takes none that begins at or after `until`. Returns their length in bytes.
pub(crate) fn take(
    bytes: &mut [u8],
    lsn: Lsn,
    ring: &Ring,
    encrypted: bool,
    until: Lsn,
    mut each: impl FnMut(Lsn, &[u8]) -> Result<()>,
) -> Result<usize> {
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let at = lsn.saturating_add(done as u64);
        if at >= until {
            break;
        }
        let Mtr::Complete { len } = mtr(rest, at, ring, encrypted) else { break };
        let whole = rest.part_mut(..len)?;
        each(at, whole)?;
        mtr::set_first_lap(whole, encrypted)?;
        if !encrypted {
            mtr::rewrite_names(whole);
        }
        done += len;
    }
    Ok(done)
}
