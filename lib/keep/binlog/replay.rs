//! Replays archived binary logs on a restored directory: a private server executes them as its relay logs, which a replica
//! does with the same events in the same way. The last file ends with the last transaction that is wanted.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::until::{self, Found, Until};
use super::{Archive, Log, pieces};
use crate::error::{Error, Result};
use crate::keep::Keep;
use crate::keep::meta::Meta;
use crate::keep::private::Private;
use crate::report::{Level, Report};
use crate::server::Family;

/// How often to ask how far it is.
const TICK: Duration = Duration::from_millis(50);
/// How long the server may say that it has read everything, and not have executed it.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is to be replayed, in files that a server can read.
#[derive(Debug)]
pub struct Replay {
    /// The files.
    relays: Vec<PathBuf>,
    /// The first byte in the first of them.
    start: u64,
    /// The file of the source and the byte after the last transaction; `None` if there is nothing to do.
    stop: Option<(String, u64)>,
    /// How many transactions.
    groups: u64,
}

/// Finds the moment in the archive, and writes the binary logs from the position of the backup on to `room`.
///
/// # Errors
///
/// Failed, if the backup has no position, or the moment is not in the archive; Damaged, if the archive has a gap before it, is
/// of another history of the server, or is bad.
pub fn prepare(keep: &Keep, meta: &Meta, until: &Until, room: &Path, report: &dyn Report) -> Result<Replay> {
    let binlog = meta.binlog.as_ref().ok_or_else(|| {
        Error::failed(&meta.id, "has no position in a binary log").hint("the server wrote none when it was taken")
    })?;
    let family = meta.server.family.unwrap_or(Family::MariaDb);
    let archive = Archive::of_backup(&*keep.store, meta)?;
    let gap = |what: String| {
        Err(Error::damaged("binlogs", format_args!("the archive has a gap: {what}"))
            .hint("take the missing objects from another copy of the store; or restore up to a moment before the gap"))
    };
    let Some(mut log) = archive.log(&binlog.file) else {
        return gap(format!("{} is missing, in which backup {} ends", binlog.file, meta.id));
    };
    if log.bytes() < binlog.position {
        return gap(format!("{} is there up to byte {} and not to {}", log.name, log.bytes(), binlog.position));
    }
    let mut replay = Replay { relays: Vec::new(), start: binlog.position, stop: None, groups: 0 };
    let (mut from, mut time) = (binlog.position, None);
    // Files after the last one that is wanted are not needed.
    let mut wanted = 0;
    loop {
        report.stage(&log.name);
        let relay = relay(room, replay.relays.len() + 1);
        unpack(keep, log, &relay)?;
        let Found { end, groups, time: last, reached } = until::scan(&relay, &log.name, from, family, until)?;
        replay.relays.push(relay);
        time = time.max(last);
        replay.groups += groups;
        if let Some(end) = end {
            replay.stop = Some((log.name.clone(), end));
            wanted = replay.relays.len();
        }
        if reached {
            break;
        }
        match archive.next(log) {
            Ok(Some(next)) => log = next,
            Err(what) => return gap(what),
            Ok(None) if log.pieces.last().is_some_and(|piece| piece.to > log.bytes()) => {
                return gap(format!("{} has a hole at byte {}", log.name, log.bytes()));
            }
            Ok(None) if *until == Until::End => break,
            Ok(None) => return Err(beyond(until, log, time)),
        }
        from = 0;
    }
    if replay.groups > 0 && time.is_some_and(|time| is_before(time, meta.start)) {
        return Err(another_history(&archive, meta, &binlog.file));
    }
    for relay in replay.relays.drain(wanted..) {
        fs::remove_file(&relay).map_err(|cause| Error::io(relay.display(), "cannot remove", &cause))?;
    }
    if let (Some(last), Some((_, end))) = (replay.relays.last(), &replay.stop) {
        let cut = OpenOptions::new().write(true).open(last).and_then(|file| file.set_len(*end));
        cut.map_err(|cause| Error::io(last.display(), "cannot cut", &cause))?;
    }
    Ok(replay)
}

/// True if a transaction was committed before a backup began. Binary logs of MariaDB have whole seconds.
fn is_before(micros: u64, start: jiff::Timestamp) -> bool {
    i64::try_from(micros / 1_000_000).is_ok_and(|second| second < start.as_second())
}

/// After `RESET MASTER`, or on a server that was restored, another file has the name and may be as long. What follows the
/// position of a backup was committed after the backup began; and the archive never mixes two histories.
fn another_history(archive: &Archive, meta: &Meta, file: &str) -> Error {
    let (server, id) = (&archive.server, &meta.id);
    let what = format_args!("{file} of the archive is another file than that of {id}: it ends before the backup began");
    Error::damaged("binlogs", what).hint(format_args!(
        "the binary logs of the server began anew: move {}{server} away, and archive them from this backup on",
        super::BINLOGS
    ))
}

/// The moment is not in the archive.
fn beyond(until: &Until, last: &Log, time: Option<u64>) -> Error {
    let time =
        time.and_then(|time| i64::try_from(time).ok()).and_then(|time| jiff::Timestamp::from_microsecond(time).ok());
    let time = time.map(|time| format!(", with a transaction of {time}")).unwrap_or_default();
    let what = format_args!("is not in the archive, which ends at {}:{}{time}", last.name, last.bytes());
    Error::failed(format_args!("--until {until}"), what).hint("--until end restores all that is archived")
}

fn relay(room: &Path, number: usize) -> PathBuf {
    room.join(format!("relay.{number:06}"))
}

fn unpack(keep: &Keep, log: &Log, to: &Path) -> Result<()> {
    let file = File::create_new(to).map_err(|cause| Error::io(to.display(), "cannot create", &cause))?;
    pieces::get(keep, log, log.bytes(), file)
}

impl Replay {
    /// Has a private server on `data` execute them.
    ///
    /// # Errors
    ///
    /// Failed, if it cannot; Damaged, if it finds bad data.
    pub fn run(&self, keep: &Keep, meta: &Meta, data: &Path, room: &Path, report: &dyn Report) -> Result<()> {
        let Some((file, end)) = &self.stop else {
            report.note(Level::Info, format_args!("{}: no transaction follows before the moment", meta.id));
            return Ok(());
        };
        report.stage("replaying binary logs");
        let family = meta.server.family.unwrap_or(Family::MariaDb);
        let index = room.join("relay.index");
        let names: String = self.relays.iter().map(|relay| format!("{}\n", relay.display())).collect();
        fs::write(&index, names).map_err(|cause| Error::io(index.display(), "cannot write", &cause))?;
        let mut options = vec![
            format!("--relay-log={}", room.join("relay").display()),
            format!("--relay-log-index={}", index.display()),
            "--server-id=4294967295".to_owned(),
            "--replicate-same-server-id".to_owned(),
        ];
        if family == Family::MySql {
            // Transactions with a GTID and without are executed as they are.
            options.extend(["--enforce-gtid-consistency=ON", "--gtid-mode=ON_PERMISSIVE"].map(str::to_owned));
            options.push("--replica-parallel-workers=1".to_owned());
        }
        let mut server = Private::start_with(keep, meta, data, room, &options)?;
        let words = Words::of(family);
        // So that statements about accounts can be executed.
        server.rows("FLUSH PRIVILEGES")?;
        let first = self.relays.first().map(|relay| relay.display().to_string()).unwrap_or_default();
        let first = if family == Family::MariaDb { "relay.000001" } else { &first };
        server.rows(&format!(
            "{} = 'archive', RELAY_LOG_FILE = '{first}', RELAY_LOG_POS = {}",
            words.change, self.start
        ))?;
        server.rows(words.start)?;
        self.wait(&mut server, &words, file, *end)?;
        server.rows(words.stop)?;
        server.rows(words.reset)?;
        server.stop()?;
        let count = self.groups;
        report.note(Level::Info, format_args!("{}: {count} transactions replayed, up to {file}:{end}", meta.id));
        Ok(())
    }

    fn wait(&self, server: &mut Private, words: &Words, file: &str, end: u64) -> Result<()> {
        let mut idle: Option<Instant> = None;
        loop {
            let row = server.record(words.show)?;
            let get = |names: [&str; 2]| names.iter().find_map(|name| row.get(*name)).map_or("", String::as_str);
            let reason = get(["last_sql_error", "last_error"]);
            if !matches!(get(["last_sql_errno", "last_errno"]), "" | "0") {
                let at = (
                    get(["relay_master_log_file", "relay_source_log_file"]),
                    get(["exec_master_log_pos", "exec_source_log_pos"]),
                );
                return Err(Error::failed("replay", format_args!("stopped at {}:{}: {reason}", at.0, at.1))
                    .hint("--until FILE:POSITION of a moment before that"));
            }
            let at = get(["exec_master_log_pos", "exec_source_log_pos"]).parse().unwrap_or(0u64);
            // The server has 32 bits for it.
            let there = at & 0xffff_ffff == end & 0xffff_ffff;
            // The name of the source's file is known only after the first that ends. MariaDB goes on to a file of its own.
            let relay = super::parts(get(["relay_log_file"; 2])).map_or(0, |(_, number)| number);
            if there && relay >= self.relays.len() as u64 {
                return Ok(());
            }
            if get(["slave_sql_running", "replica_sql_running"]) != "Yes" && idle.is_none() {
                idle = Some(Instant::now());
            }
            if get(["slave_sql_running_state", "replica_sql_running_state"]).contains("has read all relay log") {
                idle = idle.or(Some(Instant::now()));
            }
            if idle.is_some_and(|since| since.elapsed() > PATIENCE) {
                return Err(Error::failed(
                    "replay",
                    format_args!("the server stopped at byte {at}, before {file}:{end}"),
                ));
            }
            std::thread::sleep(TICK);
        }
    }
}

/// What each family calls it.
struct Words {
    change: &'static str,
    start: &'static str,
    stop: &'static str,
    reset: &'static str,
    show: &'static str,
}

impl Words {
    fn of(family: Family) -> Words {
        match family {
            Family::MariaDb => Words {
                change: "CHANGE MASTER TO MASTER_HOST",
                start: "START SLAVE SQL_THREAD",
                stop: "STOP SLAVE",
                reset: "RESET SLAVE ALL",
                show: "SHOW SLAVE STATUS",
            },
            Family::MySql => Words {
                change: "CHANGE REPLICATION SOURCE TO SOURCE_HOST",
                start: "START REPLICA SQL_THREAD",
                stop: "STOP REPLICA",
                reset: "RESET REPLICA ALL",
                show: "SHOW REPLICA STATUS",
            },
        }
    }
}
