//! Runs the stock server to recover a directory: once, offline, with its messages read.
//!
//! A run may be interrupted and repeated, because the server does ordinary crash recovery: it writes pages and log by
//! its own rules, and checks each time how far the log reaches. What is special about a backup is settled before the
//! first run; see [`mariadb`] and [`mysql`].
//!
//! The server's standard input is the (empty) lock file. The lock belongs to the open file, so it lasts until this
//! program and the server have ended, and another run waits for a server that outlives us.

mod mariadb;
mod mysql;
mod options;
mod prepared;

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bstr::ByteSlice;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::CapabilitySet;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tempfile::TempDir;

use super::backup::Backup;
use super::files::{self, fail};
use crate::error::{Error, Kind, Result};
use crate::innodb::ids::Lsn;
use crate::io::confine;
use crate::log::captured;
use crate::report::{Level, Report};
use crate::server::Family;
use crate::server::messages::{self, Message};
use crate::server::program::Program;
use crate::stream::native::names::SERVER_LOG;

/// How often to check for a signal.
const TICK: Duration = Duration::from_millis(100);
/// How long a server may take to stop when asked; during recovery it does not react.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a server may go on after an error: MySQL may wait forever after a damaged page.
const GRACE: Duration = Duration::from_secs(30);

/// The parameters of one run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run<'a> {
    /// The directory.
    pub(super) dir: &'a Path,
    /// The server.
    pub(super) program: &'a Program,
    /// The result of [`options()`].
    pub(super) options: &'a BTreeMap<String, String>,
    /// Size of the buffer pool in bytes.
    pub(super) memory: u64,
    /// Length of the captured log in bytes.
    pub(super) log_size: u64,
    /// The end LSN.
    pub(super) end_lsn: Lsn,
    /// True if no server has run on the directory before.
    pub(super) first: bool,
    /// True if the operator left tables out of the backup.
    pub(super) partial: bool,
    /// True if transactions that clients have prepared are rolled back at the end.
    pub(super) rollback_prepared: bool,
    /// True if damaged pages are passed over.
    pub(super) forced: bool,
    /// What this start of the server is for.
    pub(super) pass: Pass,
    /// The lock file.
    pub(super) lock: &'a File,
}

impl Run<'_> {
    /// True for an error that is no reason to fail.
    fn excuses(&self, text: &str) -> bool {
        self.partial && is_left_out(self.dir, text) || self.forced && !mariadb::is_undecided(text)
    }
}

/// What a start of the server is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// To recover the directory.
    Usual,
    /// To roll back prepared transactions of the server's own; its exit status does not matter.
    Heuristic,
    /// To roll back those of clients.
    Prepared,
}

/// Options for the server that recovers a directory: those of the backup, each checked against its type, and the
/// operator's. This comes before any change. A log that cannot be opened is reported by a later check.
pub(super) fn options(backup: &Backup, operator: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    let strict = backup.ours.is_some();
    match backup.family {
        Family::MariaDb => {
            let mut options = options::checked(options::MARIADB, &backup.options, operator, strict)?;
            let encrypted = captured::mariadb::Captured::open(&backup.path).is_ok_and(|log| log.encrypted());
            mariadb::keep_secret(&mut options, encrypted);
            Ok(options)
        }
        Family::MySql => {
            mysql::refuse_components(backup)?;
            let mut options = options::checked(options::MYSQL, &backup.options, operator, strict)?;
            let has_key = captured::mysql::Captured::open(&backup.path).is_ok_and(|log| log.has_key());
            mysql::keep_secret(&mut options, has_key);
            Ok(options)
        }
    }
}

/// Runs the server to its end and checks the result.
///
/// # Errors
///
/// - Damaged is final: the log does not end where the backup says.
/// - Invalid is final: nothing decides about prepared transactions.
/// - After any other error the run can be repeated.
pub(super) fn run(run: &Run<'_>, report: &dyn Report) -> Result<()> {
    usual(run, report)?;
    if run.rollback_prepared {
        once(&Run { pass: Pass::Prepared, first: false, ..*run }, report)?;
    }
    Ok(())
}

fn usual(run: &Run<'_>, report: &dyn Report) -> Result<()> {
    match once(run, report) {
        Err(error) if error.kind() == Kind::Invalid && mariadb::rolls_back(run) => {}
        outcome => return outcome,
    }
    report.note(
        Level::Info,
        format_args!("{}: rolling back transactions that were prepared and not acknowledged", run.dir.display()),
    );
    // Since version 11 the server ends with an error after that; the last run shows whether it succeeded.
    match once(&Run { pass: Pass::Heuristic, first: false, ..*run }, report) {
        Err(error) if error.kind() != Kind::Failed => Err(error),
        _ => once(&Run { first: false, ..*run }, report),
    }
}

/// The copied binary log, as arguments: it decides about prepared transactions. The server opens, and may truncate, the
/// file that the index names.
fn binlog(run: &Run<'_>) -> Result<Option<Vec<String>>> {
    let Some(name) = run.options.get("log_bin") else { return Ok(None) };
    let path = run.dir.join(format!("{name}.index"));
    let Some(index) = crate::io::small(&path)? else { return Ok(None) };
    for line in ByteSlice::lines(index.as_slice()) {
        let file = line.strip_prefix(b"./").unwrap_or(line);
        let number = file.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"."));
        if !number.is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit)) {
            let what = format_args!("names {}, which is not a binary log in this directory", line.as_bstr());
            return Err(Error::damaged(path.display(), what));
        }
    }
    Ok(Some(vec![format!("--log-bin={name}"), format!("--log-bin-index={name}.index")]))
}

fn once(run: &Run<'_>, report: &dyn Report) -> Result<()> {
    let stop = Arc::new(AtomicUsize::new(0));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        let number = usize::try_from(signal).unwrap_or_default();
        signal_hook::flag::register_usize(signal, Arc::clone(&stop), number)
            .map_err(|cause| Error::io("signals", "cannot be caught", &cause))?;
    }
    let room = Room::new(run)?;
    let keys = match run.program.release.family {
        Family::MariaDb => None,
        Family::MySql => mysql::keys(run.dir)?,
    };
    let mut writable = vec![run.dir, room.dir.path()];
    writable.extend(keys.as_deref().and_then(Path::parent));
    let (mut child, confined) = confine::spawn(&mut command(run, &room)?, &writable, needed(run.dir)?)
        .map_err(|cause| fail(&run.program.path, "cannot run", &cause))?;
    if !confined {
        let what = "this kernel cannot keep the server from writing outside the directory";
        report.note(Level::Warning, format_args!("{}: {what}", run.dir.display()));
    }
    let said = child.stderr.take();
    let (gone, failed) = (AtomicBool::new(false), AtomicBool::new(false));
    let (sender, lines) = crossbeam_channel::bounded(64);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for line in
                said.into_iter().flat_map(|said| BufReader::new(said).split(b'\n').map_while(std::io::Result::ok))
            {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let client = (run.pass == Pass::Prepared).then(|| {
            scope.spawn(|| {
                let outcome = prepared::roll_back(&room.socket(), run.program.release.family, &gone, report);
                failed.store(outcome.is_err(), Ordering::Relaxed);
                outcome
            })
        });
        let outcome = watch(run, &room, &mut child, lines, &Halt { stop: &stop, failed: &failed }, report);
        gone.store(true, Ordering::Relaxed);
        if outcome.is_err() {
            end(&mut child);
        }
        let client =
            client.map_or(Ok(()), |client| client.join().unwrap_or_else(|_| Err(Error::internal("a thread was lost"))));
        match outcome {
            // What the client of a server has found comes before the end of that server.
            Err(error) if !matches!(error.kind(), Kind::Signal(_)) => client.and(Err(error)),
            outcome => outcome.and(client),
        }
    })
}

/// What ends a server early.
struct Halt<'a> {
    /// A signal that we got.
    stop: &'a AtomicUsize,
    /// Our own client could not do its work.
    failed: &'a AtomicBool,
}

/// The capabilities that a server of root needs to access files of other owners. Most backups belong to root entirely.
fn needed(dir: &Path) -> Result<CapabilitySet> {
    let reaches = |path: &Path| {
        let data = std::fs::symlink_metadata(path).map_err(|cause| fail(path, "cannot read", &cause))?;
        Ok::<_, Error>(data.uid() == 0 || data.is_dir() && data.mode() & 0o001 != 0)
    };
    let mut own = dir.ancestors().skip(1).try_fold(true, |own, parent| Ok::<_, Error>(own && reaches(parent)?))?;
    for item in files::list(dir)? {
        let path = dir.join(&item.path);
        own &= std::fs::symlink_metadata(&path).map_err(|cause| fail(&path, "cannot read", &cause))?.uid() == 0;
    }
    Ok(if own { CapabilitySet::empty() } else { CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH })
}

/// Directories for the server during its run: for temporary files, and for plugins, inside a directory that no one else
/// can enter.
struct Room {
    dir: TempDir,
    temporary: PathBuf,
    plugins: PathBuf,
}

impl Room {
    fn new(run: &Run<'_>) -> Result<Room> {
        let dir = tempfile::Builder::new().prefix("xb-redo-").permissions(Permissions::from_mode(0o700)).tempdir();
        let dir = dir.map_err(|cause| fail(&std::env::temp_dir(), "cannot make a directory", &cause))?;
        let (temporary, plugins) = (dir.path().join("tmp"), dir.path().join("plugins"));
        let owner = files::owner(run.dir)?;
        for place in [&temporary, &plugins] {
            std::fs::create_dir(place).map_err(|cause| fail(place, "cannot create", &cause))?;
            files::give(place, owner)?;
        }
        files::give(dir.path(), owner)?;
        Ok(Room { dir, temporary, plugins })
    }
}

impl Room {
    /// Where the server listens, if it does.
    fn socket(&self) -> PathBuf {
        self.dir.path().join(prepared::SOCKET)
    }
}

fn command(run: &Run<'_>, room: &Room) -> Result<Command> {
    let owner = std::fs::metadata(run.dir).map_err(|cause| fail(run.dir, "cannot read", &cause))?;
    let mut command = Command::new(&run.program.path);
    command.arg("--no-defaults");
    if let Some(basedir) = run.program.basedir().filter(|basedir| basedir != Path::new("/usr")) {
        command.arg(prefixed("--basedir=", &basedir));
    }
    command.arg(prefixed("--datadir=", run.dir));
    command.arg(prefixed("--tmpdir=", &room.temporary));
    command.arg(format!("--innodb-buffer-pool-size={}", run.memory));
    match run.program.release.family {
        Family::MariaDb => mariadb::arguments(&mut command, run, &room.socket())?,
        Family::MySql => mysql::prepare(&mut command, run, &room.plugins, &room.socket())?,
    }
    if run.forced {
        command.arg("--innodb-force-recovery=1");
    }
    if rustix::process::geteuid().is_root() {
        match owner.uid() {
            0 => command.arg("--user=root"),
            uid => command.uid(uid).gid(owner.gid()),
        };
    }
    // Ctrl-C must reach only this program, which then stops the server.
    command.process_group(0);
    let lock = run.lock.try_clone().map_err(|cause| fail(run.dir, "cannot lock", &cause))?;
    command.current_dir(run.dir).stdin(lock).stdout(Stdio::null()).stderr(Stdio::piped());
    Ok(command)
}

fn prefixed(option: &str, path: &Path) -> std::ffi::OsString {
    let mut argument = std::ffi::OsString::from(option);
    argument.push(path);
    argument
}

/// Reads the server's messages until it ends.
fn watch(
    run: &Run<'_>,
    room: &Room,
    child: &mut Child,
    lines: Receiver<Vec<u8>>,
    halt: &Halt<'_>,
    report: &dyn Report,
) -> Result<()> {
    let path = run.dir.join(SERVER_LOG);
    let mut log = File::create(&path).map_err(|cause| fail(&path, "cannot write", &cause))?;
    let mut heard = Heard::default();
    loop {
        if halt.failed.load(Ordering::Relaxed) {
            end(child);
        }
        match halt.stop.load(Ordering::Relaxed) {
            0 => {}
            signal => return Err(stopped(signal)),
        }
        if heard.error.as_ref().is_some_and(|(_, since)| since.elapsed() > GRACE) {
            end(child);
        }
        let line = match lines.recv_timeout(TICK) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        // The log is for people. If the disk is full, the server will report it.
        let _ = log.write_all(&line).and_then(|()| log.write_all(b"\n"));
        if let Some(message) = messages::parse(&String::from_utf8_lossy(&line)) {
            if let Message::Error(text) = &message
                && mysql::is_component(&room.plugins, text)
            {
                report.note(Level::Detail, format_args!("server: {text}"));
                continue;
            }
            heard.add(run, message, report)?;
        }
    }
    let status = child.wait().map_err(|cause| fail(&run.program.path, "cannot wait for it", &cause))?;
    verdict(run, status, heard)
}

/// The messages of the server that matter at its end.
#[derive(Debug, Default)]
struct Heard {
    /// With the time of the message.
    error: Option<(String, Instant)>,
    /// The first error that left-out tables explain.
    excused: Option<String>,
    reached: Option<Lsn>,
    scanned: Option<Lsn>,
    shut_down: bool,
}

impl Heard {
    fn add(&mut self, run: &Run<'_>, message: Message, report: &dyn Report) -> Result<()> {
        match message {
            Message::EndOfLog(lsn) => {
                mariadb::agree(run, lsn)?;
                self.reached = Some(lsn);
            }
            Message::Sequence(lsn) => self.reached = self.reached.or(Some(lsn)),
            Message::Scanned(lsn) => self.scanned = Some(lsn),
            Message::ShutDown => self.shut_down = true,
            Message::Error(text) if self.error.is_none() && !run.excuses(&text) => {
                self.error = Some((text, Instant::now()));
            }
            Message::Error(text) => {
                report.note(Level::Detail, format_args!("server: {text}"));
                self.excused.get_or_insert(text);
            }
            Message::Progress(text) => {
                report.stage(&text);
                report.note(Level::Detail, format_args!("server: {text}"));
            }
        }
        Ok(())
    }
}

/// The servers' messages for ENOENT, which come before the name of the file.
const NO_SUCH_FILE: [&str; 3] = [
    "Operating system error number 2 ",
    "Error number 2 means ",
    "The error means the system cannot find the path specified",
];

/// True for the message about a missing tablespace. All tablespaces of the manifest existed when the server was
/// started, so this one was left out on purpose, though the log mentions it.
fn is_left_out(dir: &Path, text: &str) -> bool {
    // In MySQL a code and a subsystem precede the text.
    let text = text.rsplit_once("[InnoDB] ").map_or(text, |(_, text)| text).trim_start_matches("InnoDB: ");
    if NO_SUCH_FILE.iter().any(|known| text.starts_with(known)) {
        return true;
    }
    let file = text.split_once("./").and_then(|(_, rest)| Some(rest.trim_start_matches('/').split_once(".ibd")?.0));
    let table =
        text.strip_prefix("Could not find a valid tablespace file for ").and_then(|rest| rest.split('.').next());
    file.or(table).is_some_and(|name| !dir.join(format!("{name}.ibd")).exists())
}

fn verdict(run: &Run<'_>, status: ExitStatus, heard: Heard) -> Result<()> {
    let log = run.dir.join(SERVER_LOG);
    let hint = format!("its messages are in {}", log.display());
    let place = run.dir.display();
    if run.program.release.family == Family::MariaDb {
        mariadb::clean(run.dir)?;
    }
    if let Some((text, _)) = heard.error.as_ref().filter(|(text, _)| mariadb::is_undecided(text)) {
        return Err(Error::new(
            Kind::Invalid,
            place,
            format_args!("cannot be recovered: {}", text.trim_end_matches('.')),
        ));
    }
    if let Some((text, _)) = heard.error {
        return Err(Error::failed(place, format_args!("the server could not recover it: {text}")).hint(hint));
    }
    match (status.code(), status.signal()) {
        (Some(0), _) => {}
        (Some(code), _) => {
            let excused = heard.excused.map(|text| format!(": {text}")).unwrap_or_default();
            let what = format!("the server ended with exit status {code}{excused}");
            return Err(Error::failed(place, what).hint(hint));
        }
        (None, signal) => {
            let what = format!("the server was ended by signal {}", signal.unwrap_or_default());
            return Err(Error::failed(place, what).hint("run xb-redo --apply on the directory again; it continues"));
        }
    }
    if run.program.release.family == Family::MySql {
        mysql::clean(run.dir)?;
        heard.scanned.map_or(Ok(()), |lsn| mysql::agree(run, lsn))?;
        if !heard.shut_down {
            return Err(Error::failed(place, "the server did not shut down cleanly").hint(hint));
        }
    }
    match heard.reached {
        Some(lsn) if lsn >= run.end_lsn => Ok(()),
        Some(lsn) => mariadb::agree(run, lsn),
        None => Err(Error::failed(place, "the server did not report the end of the log").hint(hint)),
    }
}

fn stopped(signal: usize) -> Error {
    let signal = i32::try_from(signal).unwrap_or(SIGTERM);
    Error::new(Kind::Signal(signal), "server", "stopped; the directory is half applied")
        .hint("run xb-redo --apply on the directory again; it continues")
}

/// Ends the server: asks first, then kills it; a repeated run recovers from that.
fn end(child: &mut Child) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid.filter(|_| child.try_wait().ok().flatten().is_none()) {
        let _ = kill_process(pid, Signal::TERM);
        let asked = Instant::now();
        while asked.elapsed() < PATIENCE && child.try_wait().ok().flatten().is_none() {
            std::thread::sleep(TICK);
        }
        let _ = child.kill();
    }
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_tables_that_were_left_out() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("b")).unwrap();
        std::fs::write(dir.path().join("b/here.ibd"), "").unwrap();
        for (text, expect) in [
            ("InnoDB: File ./b/gone.ibd was not found", true),
            ("InnoDB: File ./b/here.ibd was not found", false),
            ("InnoDB: File .////b/here.ibd was not found", false),
            ("InnoDB: Operating system error number 2 in a file operation.", true),
            ("InnoDB: Operating system error number 28 in a file operation.", false),
            ("InnoDB: Error number 2 means 'No such file or directory'", true),
            ("InnoDB: Cannot apply log to [page id: space=6, page number=0] of corrupted file './b/gone.ibd'", true),
            ("InnoDB: Cannot apply log to [page id: space=7, page number=0] of corrupted file './b/here.ibd'", false),
            ("InnoDB: Could not find a valid tablespace file for mysql/innodb_table_stats. Please refer to", true),
            ("InnoDB: Could not find a valid tablespace file for b/here. Please refer to", false),
            ("InnoDB: Missing FILE_CHECKPOINT(4711)", false),
            ("[MY-012592] [InnoDB] Operating system error number 2 in a file operation.", true),
            ("[MY-012593] [InnoDB] The error means the system cannot find the path specified.", true),
            ("[MY-012216] [InnoDB] Cannot open datafile for read-only: './b/gone.ibd' OS error: 71", true),
            ("[MY-012216] [InnoDB] Cannot open datafile for read-only: './b/here.ibd' OS error: 71", false),
            ("[MY-012179] [InnoDB] Could not find any file associated with the tablespace ID: 7", false),
        ] {
            assert_eq!(is_left_out(dir.path(), text), expect, "{text}");
        }
    }
}
