//! Has the stock server recover a directory: one run, offline, in bootstrap mode, watched through what it says.
//!
//! Why a run may be interrupted and repeated. What the server does is ordinary crash recovery, which may be interrupted
//! like any: it writes pages and log by its own rules, and checks how far the log reaches each time. Three things are
//! particular to a backup, and each is settled before the first run: the log has its final length and names (see
//! `layout`), it was walked and ends at E, and `--innodb-log-file-size` is the length that the file has, so that the
//! server does not replace the file and its creator `Backup …` with it. So the first run must say that the log ends at
//! exactly E, and a later one that it ends at E or beyond: LSNs only grow, and E was reached before anything was added.
//!
//! The server's standard input is the (empty) lock file. Bootstrap mode reads its end at once; and as the lock belongs
//! to the open file, it lasts until both we and the server have ended, so that a server that outlives us is waited for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::files::fail;
use crate::error::{Error, Kind, Result};
use crate::report::{Level, Report};
use crate::server::messages::{self, Message};
use crate::server::program::Program;

/// What the server said, in the directory.
pub(super) const LOG: &str = "xb_server.log";
/// How often we look whether we were asked to stop.
const TICK: Duration = Duration::from_millis(100);
/// How long a server that was asked to stop may take; in the middle of recovery it does not listen.
const PATIENCE: Duration = Duration::from_secs(10);
/// Options of a source server that a backup may set on the server that recovers it. Anything else in a manifest or in a
/// backup-my.cnf is left alone: neither may make the server load or write what it likes.
const PASSED: [&str; 8] = [
    "innodb_page_size",
    "innodb_data_file_path",
    "innodb_undo_tablespaces",
    "innodb_checksum_algorithm",
    "innodb_compression_algorithm",
    "innodb_encrypt_tables",
    "innodb_encrypt_log",
    "innodb_encrypt_temporary_tables",
];
/// The same for key management and compression providers.
const PASSED_PREFIXES: [&str; 6] = [
    "plugin_load",
    "plugin_dir",
    "plugin_maturity",
    "file_key_management",
    "aws_key_management",
    "hashicorp_key_management",
];

/// One run.
#[derive(Debug)]
pub(super) struct Run<'a> {
    /// The directory.
    pub(super) dir: &'a Path,
    /// The server.
    pub(super) program: &'a Program,
    /// Options of the source.
    pub(super) options: &'a BTreeMap<String, String>,
    /// Bytes of buffer pool.
    pub(super) memory: u64,
    /// Length of `ib_logfile0`.
    pub(super) log_size: u64,
    /// E.
    pub(super) end_lsn: u64,
    /// True if no server has run on the directory before.
    pub(super) first: bool,
    /// True if tables were left out of the backup on purpose.
    pub(super) partial: bool,
    /// The lock file.
    pub(super) lock: &'a File,
}

/// Runs the server to its end and checks what it did.
pub(super) fn run(run: &Run<'_>, report: &dyn Report) -> Result<()> {
    let stop = Arc::new(AtomicUsize::new(0));
    for signal in [SIGINT, SIGTERM] {
        let number = usize::try_from(signal).unwrap_or_default();
        signal_hook::flag::register_usize(signal, Arc::clone(&stop), number)
            .map_err(|cause| Error::io("signals", "cannot be caught", &cause))?;
    }
    let mut child = command(run)?.spawn().map_err(|cause| fail(&run.program.path, "cannot run", &cause))?;
    let said = child.stderr.take();
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
        let outcome = watch(run, &mut child, lines, &stop, report);
        if outcome.is_err() {
            end(&mut child);
        }
        outcome
    })
}

fn command(run: &Run<'_>) -> Result<Command> {
    let owner = std::fs::metadata(run.dir).map_err(|cause| fail(run.dir, "cannot read", &cause))?;
    let mut command = Command::new(&run.program.path);
    command.arg("--no-defaults");
    if let Some(basedir) = run.program.basedir().filter(|basedir| basedir != Path::new("/usr")) {
        command.arg(prefixed("--basedir=", &basedir));
    }
    command.arg(prefixed("--datadir=", run.dir));
    command.args(["--bootstrap", "--skip-log-bin", "--skip-networking", "--skip-slave-start", "--skip-log-error"]);
    command.args(["--innodb-buffer-pool-load-at-startup=OFF", "--innodb-buffer-pool-dump-at-shutdown=OFF"]);
    command.arg(format!("--innodb-buffer-pool-size={}", run.memory));
    command.arg(format!("--innodb-log-file-size={}", run.log_size));
    // With it, a tablespace that the log knows and the backup left out is passed over.
    command.args(run.partial.then_some("--innodb-force-recovery=1"));
    command.args(passed(run.options));
    if rustix::process::geteuid().is_root() {
        match owner.uid() {
            0 => command.arg("--user=root"),
            uid => command.uid(uid).gid(owner.gid()),
        };
    }
    // Ctrl-C is for us; we stop the server.
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

/// The options of the source that recovery needs, as arguments.
fn passed(options: &BTreeMap<String, String>) -> Vec<String> {
    let known = options.iter().filter(|(key, value)| {
        !value.is_empty()
            && (PASSED.contains(&key.as_str()) || PASSED_PREFIXES.iter().any(|prefix| key.starts_with(prefix)))
    });
    known
        .map(|(key, value)| {
            // A checksum algorithm or a plugin's option that this server does not know must not stop it.
            let loose =
                if matches!(key.as_str(), "innodb_page_size" | "innodb_data_file_path") || key.starts_with("plugin") {
                    ""
                } else {
                    "loose-"
                };
            let value = if key == "innodb_data_file_path" { base_names(value) } else { value.clone() };
            format!("--{loose}{}={value}", key.replace('_', "-"))
        })
        .collect()
}

/// `/ibdata/a:1G;/other/b:1G:autoextend` becomes `a:1G;b:1G:autoextend`: a backup holds them by these names.
fn base_names(value: &str) -> String {
    let files = value.split(';').map(|file| {
        let (path, size) = file.split_once(':').unwrap_or((file, ""));
        format!("{}:{size}", path.rsplit('/').next().unwrap_or(path))
    });
    files.collect::<Vec<_>>().join(";")
}

/// Follows the server to its end.
fn watch(
    run: &Run<'_>,
    child: &mut Child,
    lines: Receiver<Vec<u8>>,
    stop: &AtomicUsize,
    report: &dyn Report,
) -> Result<()> {
    let path = run.dir.join(LOG);
    let mut log = File::create(&path).map_err(|cause| fail(&path, "cannot write", &cause))?;
    let (mut reached, mut error) = (None, None);
    loop {
        match stop.load(Ordering::Relaxed) {
            0 => {}
            signal => return Err(stopped(signal)),
        }
        let line = match lines.recv_timeout(TICK) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        // The log is for people; a full disk is the server's to tell.
        let _ = log.write_all(&line).and_then(|()| log.write_all(b"\n"));
        match messages::parse(&String::from_utf8_lossy(&line)) {
            Some(Message::EndOfLog(lsn)) => {
                agree(run, lsn)?;
                reached = Some(lsn);
            }
            Some(Message::Sequence(lsn)) => reached = reached.or(Some(lsn)),
            Some(Message::Error(text)) if error.is_none() => error = Some(text),
            Some(Message::Error(text)) => report.note(Level::Detail, format_args!("server: {text}")),
            Some(Message::Progress(text)) => {
                report.stage(&text);
                report.note(Level::Detail, format_args!("server: {text}"));
            }
            None => {}
        }
    }
    let status = child.wait().map_err(|cause| fail(&run.program.path, "cannot wait for it", &cause))?;
    verdict(run, status, error, reached)
}

/// Holds where the log ends, by the server, against E.
fn agree(run: &Run<'_>, lsn: u64) -> Result<()> {
    let end = run.end_lsn;
    if lsn == end || (!run.first && lsn > end) {
        return Ok(());
    }
    let what = format!("the server found the end of the log at lsn {lsn}, the backup ends at {end}");
    Err(Error::damaged(run.dir.display(), what).hint("the directory is half recovered now; unpack the backup again"))
}

fn verdict(run: &Run<'_>, status: ExitStatus, error: Option<String>, reached: Option<u64>) -> Result<()> {
    let log = run.dir.join(LOG);
    let hint = format!("all it said is in {}", log.display());
    let place = run.dir.display();
    if let Some(text) = error {
        return Err(Error::failed(place, format_args!("the server could not recover it: {text}")).hint(hint));
    }
    match (status.code(), status.signal()) {
        (Some(0), _) => {}
        (Some(code), _) => {
            return Err(Error::failed(place, format_args!("the server ended with exit status {code}")).hint(hint));
        }
        (None, signal) => {
            let what = format!("the server was ended by signal {}", signal.unwrap_or_default());
            return Err(Error::failed(place, what).hint("run xb-redo --apply on the directory again; it goes on"));
        }
    }
    match reached {
        Some(lsn) if lsn >= run.end_lsn => Ok(()),
        Some(lsn) => agree(run, lsn),
        None => Err(Error::failed(place, "the server did not say how far the log reached").hint(hint)),
    }
}

fn stopped(signal: usize) -> Error {
    let signal = i32::try_from(signal).unwrap_or(SIGTERM);
    Error::new(Kind::Signal(signal), "server", "stopped; the directory is half applied")
        .hint("run xb-redo --apply on the directory again; it goes on")
}

/// Ends the server: asked first, then killed, which a repeated run recovers from.
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
    fn a_backup_sets_only_what_recovery_needs() {
        let options = [
            ("innodb_page_size", "4096"),
            ("innodb_data_file_path", "/a/ibdata1:12M;/b/ibdata2:1G:autoextend"),
            ("innodb_log_group_home_dir", "/var/lib/mysql"),
            ("init_file", "/tmp/evil.sql"),
            ("datadir", "/var/lib/mysql"),
            ("file_key_management_filename", "/etc/keys"),
            ("innodb_undo_tablespaces", "3"),
            ("innodb_encrypt_log", ""),
        ];
        let options = options.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        assert_eq!(
            passed(&options),
            [
                "--loose-file-key-management-filename=/etc/keys",
                "--innodb-data-file-path=ibdata1:12M;ibdata2:1G:autoextend",
                "--innodb-page-size=4096",
                "--loose-innodb-undo-tablespaces=3",
            ]
        );
    }
}
