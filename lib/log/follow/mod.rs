//! Follows the live redo log and captures what a backup needs of it. Each format has its own follower; see [`mariadb`]
//! and [`mysql`].

pub(crate) mod mariadb;
pub(crate) mod mysql;
#[cfg(test)]
mod simulation;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::captured::format::LogFormat;
use super::queue::{FollowStats, Queue, Target};
use crate::crypt::keyring::Keyring;
use crate::error::{Error, Result};
use crate::innodb::ids::Lsn;
use crate::innodb::redo;
use crate::report::Report;
use crate::server::Family;
use crate::stream::native::{Begin, Redo, StreamKind};

/// How often the log is checked; a durable LSN mark triggers a check at once.
pub(crate) const POLL: Duration = Duration::from_millis(5);
/// How many bytes are read at a time, at most.
const WINDOW: u64 = 2 << 20;
/// How long to read again before log is reported as overwritten.
const OVERRUN_PATIENCE: Duration = Duration::from_millis(100);
/// How long the server may take to write what the manifest says is written; a second should be enough.
const END_PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 300 } else { 60_000 });

/// A follower for one format.
pub(crate) trait Follow: Send {
    /// Captures everything available that may be captured. `take` gets complete mini-transactions or blocks, and the
    /// LSN at their end.
    fn poll(&mut self, target: &Target, take: &mut dyn FnMut(&[u8], Lsn) -> Result<()>) -> Result<()>;

    /// True if everything before `end` has been captured.
    fn reached(&self, end: Lsn) -> bool;

    /// Ends at `end`. Returns statistics, if the captured log can be recovered up to there.
    fn conclude(&self, end: Lsn) -> Result<FollowStats>;
}

/// Opens the log that `xb_begin` names, or the one below `datadir`. The file `keyring` may have its key; other keys are
/// discarded. Also returns the format of the captured log.
pub(crate) fn open(
    begin: &Begin,
    datadir: Option<&Path>,
    keyring: Option<&Path>,
    report: &dyn Report,
) -> Result<(Box<dyn Follow>, LogFormat)> {
    let fault = |what: &str| Error::damaged("stdin", format_args!("xb_begin: {what}"));
    let Some(log) = begin.redo.as_ref() else {
        return Err(match begin.kind {
            StreamKind::Files => fault("these are files that xb-pack has packed; no redo log belongs to them"),
            _ => fault("it names no redo log"),
        });
    };
    match (begin.family, log.format.as_str()) {
        (Some(Family::MariaDb), _) if keyring.is_some() => Err(Error::usage(
            "--keyring",
            "is for MySQL; MariaDB's redo log can be checked without its key, and stays encrypted as it is",
        )
        .hint("leave it out")),
        (Some(Family::MariaDb), "Phys" | "encrypted") => {
            let lsn = log.checkpoint_lsn;
            let end_lsn = log.checkpoint_end_lsn.filter(|end| *end >= lsn);
            let end_lsn = end_lsn.ok_or_else(|| fault("it names no end lsn of the checkpoint"))?;
            let path = directory(begin, log, datadir, Path::new("")).join(redo::mariadb::FILE);
            let start = redo::mariadb::Checkpoint { lsn, end_lsn };
            let follower = mariadb::Follower::begin(&path, start)?;
            let format = LogFormat::mariadb(follower.header(), start);
            Ok((Box::new(follower), format))
        }
        (Some(Family::MySql), "6") => {
            let uuid = log.log_uuid.ok_or_else(|| fault("it names no uuid of the redo log"))?;
            let dir = directory(begin, log, datadir, Path::new(redo::mysql::DIR));
            let keyring = keyring.map(|path| Keyring::read(path, report)).transpose()?;
            let follower = mysql::Follower::begin(&dir, log.checkpoint_lsn, uuid, keyring.as_ref())?;
            let format = follower.format(log.checkpoint_lsn);
            Ok((Box::new(follower), format))
        }
        (family, format) => {
            let server = family.map_or("an unnamed server".to_owned(), |family| family.to_string());
            let what = format!("the redo log of {server}, format {format:?}, is not one that can be followed");
            Err(Error::failed("stdin", what).hint("use the xb-tools that made the stream, or newer ones"))
        }
    }
}

/// The directory of the log: as in the stream, or, if that is not below the data directory, `own` below the given one.
fn directory(begin: &Begin, log: &Redo, datadir: Option<&Path>, own: &Path) -> PathBuf {
    let named = Path::new(&log.dir);
    match datadir {
        Some(datadir) if named.is_absolute() => datadir.join(own),
        Some(datadir) => datadir.join(named),
        None => Path::new(begin.datadir.as_deref().unwrap_or_default()).join(named),
    }
}

/// Follows the log until the end that the stream names, or until the stream ends.
pub(crate) fn run(mut follower: Box<dyn Follow>, queue: &Queue) -> Result<()> {
    let mut target = Target::default();
    while !target.cancelled {
        follower.poll(&target, &mut |bytes, lsn| queue.push(bytes, lsn))?;
        if let Some(end) = target.end_lsn.filter(|end| follower.reached(*end)) {
            queue.conclude(follower.conclude(end)?);
            break;
        }
        target = queue.target(&target, POLL);
    }
    Ok(())
}
