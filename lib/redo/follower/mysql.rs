//! Follows the log of MySQL block by block, from file to file. MySQL's spec section 6.
//!
//! Every file is opened as soon as it appears and stays open until it has been read: it may be renamed or deleted by
//! then. A block tells which LSN it belongs to, so what is old is known, and what was overwritten.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::super::capture::{Goal, Trail};
use super::super::live::PATIENCE;
use super::super::live::mysql::{self as live, LogFile};
use super::{END_PATIENCE, Follow, OVERRUN_PATIENCE, WINDOW};
use crate::error::{Error, Result};
use crate::innodb::redo::mysql::{BLOCK, Block, Header, block};

/// Where the follower is.
#[derive(Debug)]
pub(in crate::redo) struct Follower {
    dir: PathBuf,
    /// The file that holds `lsn`, or ended there, and all later ones, by number.
    files: BTreeMap<u64, LogFile>,
    /// Number of the first of them.
    current: u64,
    /// Everything before is captured; the beginning of a block.
    lsn: u64,
    uuid: u32,
    /// Bytes of all files of the log.
    capacity: u64,
    /// Since when there has been nothing at `lsn`, though there should be.
    stuck: Option<Instant>,
    window: Vec<u8>,
    trail: Trail,
}

/// Why no more can be taken now.
enum Halt {
    /// The block is not here yet.
    Missing,
    /// The file ends here and the next one is not there.
    NoFile,
    /// The block was overwritten, or cut off: a file that is used again in a smaller log is made shorter at once
    /// (`log_files_recycle_file`).
    Overwritten,
}

impl Follower {
    /// Opens the files in `dir`; `c0` is the checkpoint that the backup begins with, `uuid` the log's number.
    pub(in crate::redo) fn begin(dir: &Path, c0: u64, uuid: u32) -> Result<Follower> {
        let start = live::start(dir)?;
        if start.uuid != uuid || start.checkpoint_lsn < c0 {
            let what = format!("is not the log of the backup, which begins at lsn {c0}");
            return Err(
                Error::failed(dir.display(), what).hint("this is the redo log of another server; --datadir chooses it")
            );
        }
        let mut follower = Follower {
            dir: dir.to_owned(),
            files: BTreeMap::new(),
            current: 0,
            lsn: block::begin(c0),
            uuid,
            capacity: 0,
            stuck: None,
            window: Vec::new(),
            trail: Trail::new(0),
        };
        follower.look()?;
        follower.trail = Trail::new(follower.capacity);
        let holds = |file: &&LogFile| (file.header.start_lsn..file.end_lsn()).contains(&follower.lsn);
        match follower.files.values().find(holds).map(|file| file.number) {
            Some(number) => follower.current = number,
            None => return Err(follower.overrun()),
        }
        follower.files = follower.files.split_off(&follower.current);
        Ok(follower)
    }

    /// Passes over what is before this LSN.
    pub(in crate::redo) fn skip(&mut self, lsn: u64) {
        let newest = self.files.values().map(LogFile::end_lsn).max().unwrap_or_default();
        self.lsn = block::begin(lsn).min(newest).max(self.lsn);
        let before = |file: &&LogFile| file.header.start_lsn <= self.lsn;
        self.current = self.files.values().filter(before).map(|file| file.number).max().unwrap_or(self.current);
        self.files = self.files.split_off(&self.current);
    }

    /// The header of the file where the backup begins.
    pub(in crate::redo) fn header(&self) -> Header {
        let none = || Header { uuid: self.uuid, start_lsn: self.lsn, creator: [0; 32], flags: 0 };
        self.files.get(&self.current).map_or_else(none, |file| file.header.clone())
    }

    /// Its encryption block.
    pub(in crate::redo) fn encryption(&self) -> &[u8] {
        self.files.get(&self.current).map_or(&[], LogFile::encryption)
    }

    /// Opens the files that have appeared.
    fn look(&mut self) -> Result<()> {
        let mut new = false;
        for number in live::numbers(&self.dir)? {
            if number < self.current || self.files.contains_key(&number) {
                continue;
            }
            let Some(file) = LogFile::open(&self.dir, number)? else { continue };
            if file.header.uuid != self.uuid {
                let what = "the redo log was made anew: has the server been restarted?";
                return Err(Error::invalid(self.dir.display(), what));
            }
            self.files.insert(number, file);
            new = true;
        }
        if new {
            // A log of another size comes file by file.
            self.capacity = live::capacity(&self.dir)?;
        }
        Ok(())
    }

    /// Fills the window with the blocks that are here, goes on to the next file where one ends, and says what came to an
    /// end there.
    fn read(&mut self, end: Option<u64>) -> Result<(usize, Halt)> {
        let Some(file) = self.files.get(&self.current) else { return Ok((0, Halt::NoFile)) };
        if self.lsn >= file.end_lsn() {
            let Some(next) = self.files.get(&self.current.saturating_add(1)) else { return Ok((0, Halt::NoFile)) };
            if next.header.start_lsn != self.lsn {
                return Ok((0, Halt::Overwritten));
            }
            self.files.remove(&self.current);
            self.current = self.current.saturating_add(1);
            return self.read(end);
        }
        let until = end.map_or(u64::MAX, block::until).min(file.end_lsn());
        let wanted = until.saturating_sub(self.lsn).min(WINDOW);
        self.window.resize(usize::try_from(wanted).unwrap_or(0), 0);
        let got = file.read(self.lsn, &mut self.window)?;
        let cut = got < self.window.len();
        self.window.truncate(got);
        let (whole, halt, encrypted) = count(&self.window, self.lsn, end);
        let halt = if cut && whole + BLOCK > got { Halt::Overwritten } else { halt };
        if !encrypted {
            return Ok((whole, halt));
        }
        // What has no sum that could be checked must be the same when it is read again.
        let mut again = vec![0; got];
        file.read(self.lsn, &mut again)?;
        let same = self.window.chunks(BLOCK).zip(again.chunks(BLOCK)).take_while(|(one, two)| one == two).count();
        Ok((whole.min(same * BLOCK), halt))
    }

    /// There is nothing to be taken. Usually nothing has been written; otherwise it is looked for again for a while.
    fn wait(&mut self, goal: &Goal, halt: &Halt) -> Result<()> {
        let later = self.files.last_key_value().is_some_and(|(number, _)| *number > self.current.saturating_add(1));
        let durable = goal.mark >= self.lsn.saturating_add(BLOCK as u64);
        let patience = match halt {
            Halt::Overwritten => OVERRUN_PATIENCE,
            Halt::NoFile if later => OVERRUN_PATIENCE,
            _ if goal.end.is_some() => END_PATIENCE,
            _ if durable => PATIENCE,
            _ => {
                self.stuck = None;
                return Ok(());
            }
        };
        if self.stuck.get_or_insert_with(Instant::now).elapsed() < patience {
            return Ok(());
        }
        let lsn = self.lsn;
        Err(match (halt, goal.end) {
            (Halt::Overwritten, _) => self.overrun(),
            (Halt::NoFile, _) if later => self.overrun(),
            (_, Some(end)) => {
                Error::invalid(self.dir.display(), format_args!("the log ends at lsn {lsn}, the backup at {end}"))
            }
            _ => Error::invalid(
                self.dir.display(),
                format_args!("the log cannot be read at lsn {lsn}, though it is durable up to {}", goal.mark),
            ),
        })
    }

    fn overrun(&self) -> Error {
        let newest = self.files.values().map(|file| file.header.start_lsn).max().unwrap_or_default().max(self.lsn);
        let ahead = newest - self.lsn;
        let what = format!(
            "redo overrun: lsn {} was overwritten, the server is beyond lsn {newest}, {ahead} bytes ahead",
            self.lsn
        );
        // One file more, which is a part in 32, is being written.
        let enough = self.capacity.max(ahead).saturating_add(ahead).saturating_add(self.capacity / 16);
        let mebibytes = enough.div_ceil(1 << 20);
        Error::invalid(self.dir.display(), what).hint(format_args!(
            "run the backup again with SET GLOBAL innodb_redo_log_capacity={}; {mebibytes} MiB would have been enough",
            mebibytes << 20
        ))
    }
}

impl Follow for Follower {
    fn poll(&mut self, goal: &Goal, take: &mut dyn FnMut(&[u8], u64) -> Result<()>) -> Result<()> {
        self.look()?;
        self.trail.measure(goal.mark.saturating_sub(self.lsn), self.capacity);
        while !goal.end.is_some_and(|end| self.reached(end)) {
            let (whole, halt) = self.read(goal.end)?;
            if whole == 0 {
                return self.wait(goal, &halt);
            }
            self.stuck = None;
            self.lsn = self.lsn.saturating_add(whole as u64);
            take(self.window.get(..whole).unwrap_or_default(), self.lsn)?;
        }
        Ok(())
    }

    fn reached(&self, end: u64) -> bool {
        self.lsn >= block::until(end)
    }

    fn conclude(&self) -> Result<Trail> {
        Ok(self.trail)
    }
}

/// How many bytes of whole, full blocks there are from `lsn` on, the one that holds `end` included; what stands behind
/// them; and whether one of them is encrypted.
fn count(bytes: &[u8], lsn: u64, end: Option<u64>) -> (usize, Halt, bool) {
    let (mut whole, mut secret) = (0, false);
    for bytes in bytes.chunks(BLOCK) {
        let at = lsn.saturating_add(whole as u64);
        match block::check(bytes, at) {
            Block::Here { used, encrypted } if used == BLOCK || holds_end(at, used, end) => {
                whole += BLOCK;
                secret |= encrypted;
            }
            Block::Overwritten => return (whole, Halt::Overwritten, secret),
            Block::Here { .. } | Block::Missing => return (whole, Halt::Missing, secret),
        }
    }
    (whole, Halt::Missing, secret)
}

/// True if the log ends in the block at `lsn`, which is written as far as that.
fn holds_end(lsn: u64, used: usize, end: Option<u64>) -> bool {
    end.is_some_and(|end| block::begin(end) == lsn && block::used(end) <= used)
}
