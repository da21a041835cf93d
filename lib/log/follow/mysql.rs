//! Follows the log of MySQL block by block, from file to file. `facts/mysql-hot-backup#following`.
//!
//! Every file is opened as soon as it appears and remains open until it has been read, because it may be renamed or
//! deleted by then. Each block contains its LSN, which shows whether it is old or was overwritten.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::super::live::mariadb::PATIENCE;
use super::super::live::mysql::{self as live, LogFile};
use super::super::queue::{FollowStats, Target};
use super::{END_PATIENCE, Follow, OVERRUN_PATIENCE, WINDOW};
use crate::bytes::Part as _;
use crate::crypt::keyring::{self, Keyring};
use crate::error::{Error, Kind, OrInternal as _, Result};
use crate::innodb::ids::Lsn;
use crate::innodb::redo::mysql::{BLOCK, Block, CLEAR, Header, Locked, LogKey, block};
use crate::log::captured::format::LogFormat;

/// The state of the follower.
#[derive(Debug)]
pub(crate) struct Follower {
    dir: PathBuf,
    /// The file that contains `lsn`, or ended there, and all later ones, by number.
    files: BTreeMap<u64, LogFile>,
    /// Number of the first of them.
    current: u64,
    /// Everything before is captured; a block boundary.
    lsn: Lsn,
    uuid: u32,
    /// The encryption block of the log.
    encryption: [u8; BLOCK],
    /// The key in that block, or why encrypted blocks cannot be captured. The log keeps its key after encryption is
    /// switched off, and does not need it then.
    key: Result<Arc<LogKey>>,
    /// Total size of the log's files in bytes.
    capacity: u64,
    /// Since when there has been no block at `lsn`, although there should be one.
    stuck: Option<Instant>,
    window: Vec<u8>,
    stats: FollowStats,
}

/// Why no more can be captured now.
enum Halt {
    /// The block is not written yet.
    Missing,
    /// The file ends here, and the next one does not exist yet.
    NoFile,
    /// The block was overwritten or truncated: a file that is reused in a smaller log is truncated at once
    /// (`log_files_recycle_file`).
    Overwritten,
    /// The block is encrypted, and its key is unknown.
    Encrypted,
    /// The block has no checksum, or is half overwritten by a block without one.
    Unsealed,
}

impl Follower {
    /// Opens the files in `dir`. `checkpoint_lsn` is the checkpoint with which the backup begins, `uuid` that of the
    /// log. If blocks are encrypted, the keyring must have the key.
    pub(crate) fn begin(dir: &Path, checkpoint_lsn: Lsn, uuid: u32, keyring: Option<&Keyring>) -> Result<Follower> {
        let start = live::start(dir)?;
        if start.uuid != uuid || start.checkpoint_lsn < checkpoint_lsn {
            let what = format!("is not the log of the backup, which begins at lsn {checkpoint_lsn}");
            return Err(
                Error::failed(dir.display(), what).hint("this is the redo log of another server; --datadir chooses it")
            );
        }
        let mut follower = Follower {
            dir: dir.to_owned(),
            files: BTreeMap::new(),
            current: 0,
            lsn: block::begin(checkpoint_lsn),
            uuid,
            encryption: *CLEAR,
            key: Err(no_keyring(dir)),
            capacity: 0,
            stuck: None,
            window: Vec::new(),
            stats: FollowStats::new(0),
        };
        follower.look()?;
        follower.stats = FollowStats::new(follower.capacity);
        let holding = |lsn| follower.files.values().find(|file| file.holds(lsn));
        // The server writes the key into a file before the checkpoint, and this file was opened after the checkpoint
        // was read.
        let (Some(first), Some(newest)) = (holding(follower.lsn), holding(start.checkpoint_lsn)) else {
            return Err(follower.overrun());
        };
        (follower.current, follower.encryption) = (first.number, *newest.encryption()?);
        follower.files = follower.files.split_off(&follower.current);
        if let Some(keyring) = keyring {
            follower.key = follower.unlock(keyring).map(Arc::new);
        }
        Ok(follower)
    }

    /// Decrypts the log's key.
    fn unlock(&self, keyring: &Keyring) -> Result<LogKey> {
        let Some(locked) = Locked::parse(&self.encryption) else {
            let what = "encryption of the redo log was switched on for the first time during the backup";
            return Err(Error::invalid(self.dir.display(), what).hint("run it again"));
        };
        let fault = |what| {
            let what = format!("{} {what}, under which the log is encrypted", locked.master());
            Err(Error::new(Kind::Key, self.dir.display(), what).hint("--keyring: is it the keyring of this server?"))
        };
        let Some(master) = keyring.key(locked.master()) else { return fault("is not in the keyring") };
        locked.open(master).map_or_else(|| fault("in the keyring is not the key"), Ok)
    }

    /// Skips everything before this LSN.
    pub(crate) fn skip(&mut self, lsn: Lsn) {
        let newest = self.files.values().map(LogFile::end_lsn).max().unwrap_or_default();
        self.lsn = block::begin(lsn).min(newest).max(self.lsn);
        let before = |file: &&LogFile| file.header.start_lsn <= self.lsn;
        self.current = self.files.values().filter(before).map(|file| file.number).max().unwrap_or(self.current);
        self.files = self.files.split_off(&self.current);
    }

    /// The format of a captured log that begins at `checkpoint_lsn`.
    pub(crate) fn format(&self, checkpoint_lsn: Lsn) -> LogFormat {
        LogFormat::mysql(&self.header(), &self.encryption, self.key.as_ref().ok().cloned(), checkpoint_lsn)
    }

    /// The header of the file in which the backup begins.
    fn header(&self) -> Header {
        let none = || Header { uuid: self.uuid, start_lsn: self.lsn, creator: [0; 32], flags: 0 };
        self.files.get(&self.current).map_or_else(none, |file| file.header.clone())
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
            // When the log is resized, its files are replaced one by one.
            self.capacity = live::capacity(&self.dir)?;
        }
        Ok(())
    }

    /// Fills the window with the available blocks, switches to the next file where one ends, and returns why it
    /// stopped.
    fn read(&mut self, end: Option<Lsn>) -> Result<(usize, Halt)> {
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
        let until = end.map_or(Lsn::MAX, block::until).min(file.end_lsn());
        let wanted = until.since(self.lsn).min(WINDOW);
        self.window.resize(usize::try_from(wanted).or_internal("a window larger than memory")?, 0);
        let got = file.read(self.lsn, &mut self.window)?;
        let cut = got < self.window.len();
        self.window.truncate(got);
        let (whole, halt) = count(&self.window, self.lsn, end, self.key.as_deref().ok());
        let halt = if cut && whole + BLOCK > got { Halt::Overwritten } else { halt };
        Ok((whole, halt))
    }

    /// Handles a missing block. Usually the server has written nothing; otherwise reads again for a while.
    fn wait(&mut self, target: &Target, halt: &Halt) -> Result<()> {
        let later = self.files.last_key_value().is_some_and(|(number, _)| *number > self.current.saturating_add(1));
        let durable = target.durable_lsn >= self.lsn.saturating_add(BLOCK as u64);
        if let (Halt::Encrypted, Err(error)) = (halt, &self.key) {
            return Err(error.clone());
        }
        let patience = match halt {
            Halt::Overwritten | Halt::Unsealed => OVERRUN_PATIENCE,
            Halt::NoFile if later => OVERRUN_PATIENCE,
            _ if target.end_lsn.is_some() => END_PATIENCE,
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
        Err(match (halt, target.end_lsn) {
            (Halt::Overwritten, _) => self.overrun(),
            (Halt::Unsealed, _) => live::unsealed(self.dir.display()),
            (Halt::NoFile, _) if later => self.overrun(),
            (_, Some(end)) => {
                Error::invalid(self.dir.display(), format_args!("the log ends at lsn {lsn}, the backup at {end}"))
            }
            _ => Error::invalid(
                self.dir.display(),
                format_args!("the log cannot be read at lsn {lsn}, though it is durable up to {}", target.durable_lsn),
            ),
        })
    }

    fn overrun(&self) -> Error {
        let newest = self.files.values().map(|file| file.header.start_lsn).max().unwrap_or_default().max(self.lsn);
        let ahead = newest.since(self.lsn);
        let what = format!(
            "redo overrun: lsn {} was overwritten, the server is beyond lsn {newest}, {ahead} bytes ahead",
            self.lsn
        );
        // One more file, which is a part in 32, is being written.
        let enough = self.capacity.max(ahead).saturating_add(ahead).saturating_add(self.capacity / 16);
        let mebibytes = enough.div_ceil(1 << 20);
        Error::invalid(self.dir.display(), what).hint(format_args!(
            "run the backup again with SET GLOBAL innodb_redo_log_capacity={}; {mebibytes} MiB would have been enough",
            mebibytes << 20
        ))
    }
}

impl Follow for Follower {
    fn poll(&mut self, target: &Target, take: &mut dyn FnMut(&[u8], Lsn) -> Result<()>) -> Result<()> {
        self.look()?;
        self.stats.measure(target.durable_lsn.since(self.lsn), self.capacity);
        while !target.end_lsn.is_some_and(|end| self.reached(end)) {
            let (whole, halt) = self.read(target.end_lsn)?;
            if whole == 0 {
                return self.wait(target, &halt);
            }
            self.stuck = None;
            self.lsn = self.lsn.saturating_add(whole as u64);
            take(self.window.part(..whole)?, self.lsn)?;
        }
        Ok(())
    }

    fn reached(&self, end: Lsn) -> bool {
        self.lsn >= block::until(end)
    }

    fn conclude(&self, _: Lsn) -> Result<FollowStats> {
        Ok(self.stats.clone())
    }
}

/// The error for encrypted blocks without a key: a torn one cannot be recognized.
fn no_keyring(dir: &Path) -> Error {
    let what = "the redo log is encrypted, and no --keyring is given: no block can be checked without its key";
    Error::usage(dir.display(), what).hint(format_args!("xb-redo --keyring FILE; {}", keyring::WHERE))
}

/// The length in bytes of the complete, full blocks from `lsn` on, including the one that contains `end`; and what
/// follows.
fn count(bytes: &[u8], lsn: Lsn, end: Option<Lsn>, key: Option<&LogKey>) -> (usize, Halt) {
    let mut whole = 0;
    for bytes in bytes.chunks(BLOCK) {
        let at = lsn.saturating_add(whole as u64);
        match block::check(bytes, at, key) {
            Block::Here { used } if used == BLOCK || holds_end(at, used, end) => whole += BLOCK,
            Block::Encrypted { .. } => return (whole, Halt::Encrypted),
            Block::Unsealed => return (whole, Halt::Unsealed),
            Block::Overwritten => return (whole, Halt::Overwritten),
            Block::Here { .. } | Block::Missing => break,
        }
    }
    (whole, Halt::Missing)
}

/// True if the log ends in the block at `lsn`, which is written up to there.
fn holds_end(lsn: Lsn, used: usize, end: Option<Lsn>) -> bool {
    end.is_some_and(|end| block::begin(end) == lsn && block::used(end) <= used)
}
