//! `xb-redo --apply`: turns an unpacked backup into a data directory.
//!
//! The steps are: check everything; give the files and the log their final names and lengths; let a server recover the
//! directory; check the result. The state is recorded after each step. If the program is killed at any point, it can be
//! run again and continues; `state` says why each step can be repeated, `recover` why the server's part can.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use bstr::ByteSlice;

use super::backup::{Backup, Progress};
pub use super::check::Thorough;
use super::files::{self, fail};
use super::state::{State, Step};
use super::waiting::{self, Waiting};
use super::{check, clone, layout, lock, merge, native, recover};
use crate::error::{Error, Kind, OrInternal as _, Result};
use crate::innodb::ids::Lsn;
use crate::innodb::redo::{mariadb, mysql};
use crate::io;
use crate::log::captured;
use crate::log::captured::mariadb::Captured;
use crate::metadata::CHECKPOINTS;
use crate::report::{Level, Report};
use crate::server::Family;
use crate::server::program::{self, Program};
use crate::stream::native::StreamKind;
use crate::stream::native::names::BINLOG_POSITION;
use crate::stream::native::names::{PRINTS, SERVER_LOG};

/// The smallest and largest buffer pool that is chosen without `--use-memory`.
const MEMORY: (u64, u64) = (128 << 20, 8 << 30);

/// How to apply.
#[derive(Clone, Debug)]
pub struct Options {
    /// The unpacked backup.
    pub dir: PathBuf,
    /// Increments to merge into it first, in order.
    pub increments: Vec<PathBuf>,
    /// Apply to a copy in this directory instead.
    pub to: Option<PathBuf>,
    /// Size of the server's buffer pool in bytes.
    pub memory: Option<u64>,
    /// The server program.
    pub server: Option<PathBuf>,
    /// Options for that server, set by the operator.
    pub server_options: BTreeMap<String, String>,
    /// Number of threads that read and copy files.
    pub threads: usize,
    /// Which files are verified before.
    pub thorough: Thorough,
    /// How many bytes of zeros increments may add, as [`merge::Options::holes`].
    pub holes: u64,
    /// Leave the log, so that increments fit, until the backup is copied back or a server is started on it: as long as
    /// nothing else is to be done before.
    pub wait: bool,
    /// Roll back transactions that clients have prepared (XA) and not ended.
    pub rollback_prepared: bool,
    /// Pass over files that differ from the manifest, and pages that are damaged.
    pub forced: bool,
    /// Apply the log without a server (MariaDB).
    pub native: bool,
}

impl Options {
    /// A directory in its place, with what is usual.
    pub(super) fn usual(dir: &Path, threads: usize) -> Options {
        Options {
            dir: dir.to_owned(),
            increments: Vec::new(),
            to: None,
            memory: None,
            server: None,
            server_options: BTreeMap::new(),
            threads,
            thorough: Thorough::Changed,
            holes: 0,
            wait: false,
            rollback_prepared: false,
            forced: false,
            native: false,
        }
    }
}

/// Applies a backup, in place or in a copy, after merging `increments` into it.
///
/// # Errors
///
/// - Damaged: the backup is incomplete, a file differs from the manifest, or the log does not end where the backup
///   says.
/// - Invalid: the increments do not fit, or prepared transactions remain undecided.
/// - Signal: the server was stopped because of a signal.
/// - Failed: all else, such as a missing server program or a full disk.
///
/// The directory keeps its state in `xb_applied` (or `xb_merging`). Unless the message says to unpack the backup again,
/// another run continues there. Nothing is changed before the backup has been checked.
pub fn run(options: &Options, report: &dyn Report) -> Result<()> {
    let Options { dir, increments, to, threads, thorough, .. } = options;
    waiting::end(dir, report)?;
    if !increments.is_empty() {
        let merge = merge::Options {
            dir: dir.clone(),
            increments: increments.clone(),
            to: to.clone(),
            threads: *threads,
            thorough: *thorough,
            holes: options.holes,
        };
        // A missing server program is reported before anything is merged.
        let ready = |last: &Backup| match last.without_innodb() || options.native {
            true => Ok(()),
            false => of_version(last, options).map(drop),
        };
        let merged = merge::run_if(&merge, &ready, report)?;
        return apply(&merged.dir, options, merged.proved, report);
    }
    match to {
        None => apply(dir, options, false, report),
        Some(to) => {
            clone::run(dir, to, *threads, report)?;
            apply(to, options, false, report)
        }
    }
}

/// `proved`: this run has just verified that every file agrees with the manifest.
fn apply(dir: &Path, options: &Options, proved: bool, report: &dyn Report) -> Result<()> {
    let dir = &dir.canonicalize().map_err(|cause| fail(dir, "cannot open", &cause))?;
    // The first read is without the lock, so that no lock file is created in a directory that is not a backup.
    Backup::read(dir)?.refuse_increment()?;
    let lock = lock::take(dir, report)?;
    let backup = Backup::read(dir)?;
    if backup.progress == Progress::Applied {
        backup.check()?;
        report.note(Level::Info, format_args!("{}: is applied already; nothing to do", dir.display()));
        return lock::give_back(dir);
    }
    // Other engines recover when a server starts on the copy.
    let recovery = match backup.without_innodb() || options.native {
        true => None,
        false => Some((server(&backup, options)?, recover::options(&backup, &options.server_options)?)),
    };
    let state = match backup.state.clone() {
        Some(state) if matches!(state.step, Step::Astray | Step::Undecided | Step::Moving | Step::Moved) => {
            return backup.check();
        }
        Some(state) => {
            report.note(Level::Info, format_args!("{}: continuing an interrupted run", dir.display()));
            state
        }
        None => {
            if options.native && backup.family == Family::MySql {
                let what = "is a backup of MySQL, whose log only a server applies";
                return Err(Error::failed(dir.display(), what).hint("apply it without --native"));
            }
            let program = recovery.as_ref().map(|(program, _)| program);
            let state = examine(&backup, program, (!proved).then_some(options), report)?;
            if let Some(waiting) = waiting(&backup, &state, options)? {
                wait(&backup, &state, &waiting, report)?;
                return lock::give_back(dir);
            }
            state.write(dir)?;
            state
        }
    };
    let state = lay_out(&backup, state, report)?;
    let state = match &recovery {
        None if options.native && !backup.without_innodb() => by_ourselves(&backup, state, options, report)?,
        Some((program, server_options)) => recover(&backup, state, program, server_options, options, &lock, report)?,
        None => state,
    };
    finish(&backup, state, report)?;
    lock::give_back(dir)
}

/// Checks the directory against its manifest, and reads files to verify their digests, if there are options for that.
/// Nothing is written.
fn examine(
    backup: &Backup,
    program: Option<&Program>,
    digests: Option<&Options>,
    report: &dyn Report,
) -> Result<State> {
    if backup.ours.is_none() {
        let what = "was not made by xb-snap; nothing proves that it is complete";
        report.note(Level::Warning, format_args!("{}: {what}", backup.path.display()));
    }
    backup.check()?;
    if let Some(Options { thorough, threads, forced, .. }) = digests {
        check::digests(backup, *thorough, *threads, *forced, report)?;
    }
    let locations = layout::locations(backup)?;
    let (start_lsn, end_lsn) = match backup.family {
        _ if backup.without_innodb() => (Lsn::ZERO, Lsn::ZERO),
        Family::MariaDb => mariadb_log(backup, &locations)?,
        // The log has been read from end to end.
        Family::MySql => backup.start_lsn.zip(backup.end_lsn).or_internal("a checked backup has no lsn")?,
    };
    let server = program.map(|program| program.release.version.to_string());
    let without_log = backup.without_innodb();
    let state = State::new(Step::Started, backup.id(), start_lsn, end_lsn);
    Ok(State { locations, server, without_log, ..state })
}

/// How the directory can wait, if all that is left to do is what a server of MariaDB does by itself that is started on it:
/// its log names no file that is elsewhere, or was left out. What the operator has said of the server nobody would know
/// later.
fn waiting(backup: &Backup, state: &State, options: &Options) -> Result<Option<Waiting>> {
    let may = options.wait
        && backup.family == Family::MariaDb
        && backup.ours.is_some()
        && !backup.partial
        && !state.without_log
        && state.locations.is_empty()
        && options.server.is_none()
        && !options.rollback_prepared
        && !options.forced
        && options.server_options.is_empty();
    if may { waiting::plan(&backup.path) } else { Ok(None) }
}

/// Has the directory wait for its log to be applied.
fn wait(backup: &Backup, state: &State, waiting: &Waiting, report: &dyn Report) -> Result<()> {
    let dir = &backup.path;
    waiting::begin(dir, waiting, state.end_lsn)?;
    report.facts(serde_json::json!({
        "directory": dir.display().to_string(),
        "backup_id": backup.id(),
        "start_lsn": state.start_lsn,
        "end_lsn": state.end(),
        "waits": true,
    }));
    let what = "complete; increments fit, until its log is applied by --copy-back or by a server that is started on it";
    report.note(Level::Info, format_args!("{}: {what}", dir.display()));
    Ok(())
}

/// Where the log begins and ends, if it can be recovered here.
fn mariadb_log(backup: &Backup, locations: &BTreeMap<String, String>) -> Result<(Lsn, Lsn)> {
    let captured = Captured::open(&backup.path)?;
    if !captured.is_captured() {
        let what = "was not written by a backup; this looks like a server's own data directory";
        return Err(Error::failed(backup.path.join(mariadb::FILE).display(), what));
    }
    if backup.partial && captured.encrypted() {
        let what =
            "a backup of some tables, and its log is encrypted: nothing can be said there of the tables left out";
        let dir = backup.path.display();
        return Err(
            Error::failed(&dir, what).hint(format_args!("mariadb-backup --prepare --target-dir={dir} has the key"))
        );
    }
    layout::refuse_unseen(&captured, backup, locations)?;
    let end_lsn = match (&backup.ours, backup.end_lsn) {
        (Some(_), Some(end)) => end,
        // Other programs copy more of the log than they record. All of it is recovered.
        _ => captured.walk(|_, _| Ok(()))?,
    };
    Ok((captured.start_lsn(), end_lsn))
}

fn lay_out(backup: &Backup, state: State, report: &dyn Report) -> Result<State> {
    if state.step != Step::Started {
        return Ok(state);
    }
    report.stage("laying out");
    let dir = &backup.path;
    match backup.family {
        Family::MariaDb => {
            layout::names(dir, false)?;
            if !state.without_log {
                layout::redo(backup, state.end_lsn, report)?;
            }
        }
        Family::MySql => {
            let version = backup.server_version.as_deref().unwrap_or_default();
            layout::names(dir, true)?;
            // A partial backup may lack this database, without which a server would create a new dictionary.
            let dictionary = dir.join("mysql");
            if !dictionary.is_dir() {
                clone::directory(dir, &dictionary, None)?;
            }
            layout::none_is_here(backup, &backup.left_out().iter().copied().collect())?;
            captured::mysql::Captured::open(dir)?.lay_out(dir, state.end_lsn, backup.left_out(), version)?;
        }
    }
    files::sync(dir)?;
    let state = State { step: Step::LaidOut, ..state };
    state.write(&backup.path)?;
    Ok(state)
}

fn recover(
    backup: &Backup,
    state: State,
    program: &Program,
    options: &BTreeMap<String, String>,
    asked: &Options,
    lock: &File,
    report: &dyn Report,
) -> Result<State> {
    let dir = &backup.path;
    let log_size = match backup.family {
        Family::MariaDb => {
            let log = dir.join(mariadb::FILE);
            fs::metadata(&log).map_err(|cause| fail(&log, "cannot read", &cause))?.len()
        }
        Family::MySql => 0,
    };
    native::mend(dir)?;
    let memory = asked.memory.unwrap_or_else(|| buffer_pool(state.end_lsn.since(state.start_lsn)));
    let server = format_args!("{} ({})", program.path.display(), program.release).to_string();
    report.note(
        Level::Info,
        format_args!(
            "{}: recovering lsn {}..{} with {server}, {} MiB of buffer pool",
            dir.display(),
            state.start_lsn,
            state.end_lsn,
            memory >> 20
        ),
    );
    let run = recover::Run {
        dir,
        program,
        options,
        memory,
        log_size,
        end_lsn: match backup.family {
            Family::MariaDb => state.end_lsn,
            Family::MySql => captured::mysql::end(state.end_lsn, backup.left_out())?,
        },
        first: state.runs == 0,
        partial: backup.partial,
        rollback_prepared: asked.rollback_prepared,
        forced: asked.forced,
        pass: recover::Pass::Usual,
        lock,
    };
    let state =
        State { runs: state.runs.saturating_add(1), server: Some(program.release.version.to_string()), ..state };
    let state = State { forced: state.forced || asked.forced, ..state };
    state.write(dir)?;
    if asked.forced {
        let what = "innodb_force_recovery = 1: damaged pages are passed over";
        report.note(Level::Warning, format_args!("{}: {what}", dir.display()));
    }
    report.stage("recovering");
    match recover::run(&run, report) {
        Ok(()) => Ok(state),
        Err(error) if error.kind() == Kind::Damaged => {
            State { step: Step::Astray, ..state }.write(dir)?;
            Err(error)
        }
        Err(error) if error.kind() == Kind::Invalid => {
            State { step: Step::Undecided, ..state }.write(dir)?;
            // The server's message, which --status repeats.
            report.note(Level::Detail, format_args!("{error}"));
            Backup::read(dir)?.check().and(Err(error))
        }
        Err(error) => Err(error),
    }
}

/// Applies the log without a server.
fn by_ourselves(backup: &Backup, state: State, asked: &Options, report: &dyn Report) -> Result<State> {
    let dir = &backup.path;
    if state.runs > 0 {
        let what = "a server has begun to recover it, and only a server can go on";
        return Err(Error::failed(dir.display(), what).hint("run it again without --native"));
    }
    // Also after a kill between the end of the last run and its note of that: the pages are then written as they are.
    native::mend(dir)?;
    if native::is_done(dir, state.end_lsn)? {
        return Ok(state);
    }
    let memory = asked.memory.unwrap_or_else(|| buffer_pool(state.end_lsn.since(state.start_lsn)));
    let range = format_args!("lsn {}..{}", state.start_lsn, state.end_lsn).to_string();
    report.note(Level::Info, format_args!("{}: applying {range}, {} MiB of memory", dir.display(), memory >> 20));
    let system = backup.options.get("innodb_data_file_path").map_or("ibdata1", String::as_str);
    let system: Vec<String> = system
        .split(';')
        .map(|file| file.split(':').next().unwrap_or_default())
        .map(|file| file.rsplit('/').next().unwrap_or(file).to_owned())
        .collect();
    let run = native::Run { dir, end_lsn: state.end_lsn, memory, threads: asked.threads, system: &system };
    native::run(&run, report)?;
    Ok(state)
}

/// Records that the directory is applied: in our own file, and where mariadb-backup looks for it.
fn finish(backup: &Backup, state: State, report: &dyn Report) -> Result<()> {
    let dir = &backup.path;
    // The backup_type of mariadb-backup and of xtrabackup.
    let prepared = match backup.family {
        Family::MariaDb => "backup_type = log-applied",
        Family::MySql => "backup_type = full-prepared",
    };
    for name in CHECKPOINTS {
        if let Some(text) = io::small(&dir.join(name))? {
            let text = text.replace("backup_type = full-backuped", prepared);
            files::replace(dir, name, &text)?;
        }
    }
    if backup.family == Family::MariaDb && state.runs > 0 {
        note_position(dir)?;
    }
    // The server has created its own log.
    files::remove(&dir.join(mysql::FILE))?;
    files::remove(&dir.join(PRINTS))?;
    files::sync(dir)?;
    let state = State { step: Step::Applied, files: Some(files::fingerprint(dir)?), ..state };
    state.write(dir)?;
    for (table, place) in &state.locations {
        report.note(
            Level::Warning,
            format_args!("{table}: was at {place} (DATA DIRECTORY) and is in the data directory now"),
        );
    }
    if !state.locations.is_empty() && backup.family == Family::MariaDb {
        let what = "run ALTER TABLE … FORCE, ALGORITHM=COPY on such a table before any other ALTER TABLE, which ends the server";
        report.note(Level::Warning, format_args!("{}: {what}", dir.display()));
    }
    if state.forced {
        let what =
            "damaged pages were passed over, and rows may be missing: dump the tables, and load them into a new server";
        report.note(Level::Warning, format_args!("{}: {what}", dir.display()));
    }
    let to = match state.end() {
        Some(lsn) => format!("applied up to lsn {lsn}"),
        None => "applied: the server has no InnoDB, so there was no redo log to apply".to_owned(),
    };
    report.facts(serde_json::json!({
        "directory": dir.display().to_string(),
        "backup_id": backup.id(),
        "start_lsn": state.start_lsn,
        "end_lsn": state.end(),
        "server": state.server,
        "forced": state.forced,
    }));
    report.note(Level::Info, format_args!("{}: {to}; ready for xb-redo --copy-back", dir.display()));
    Ok(())
}

/// Writes the binary log position of the last transaction that InnoDB has, as mariadb-backup's `--prepare` does. It
/// comes from the log of the server that recovered it (`trx0rseg.cc`), which has none if there was no binary log.
fn note_position(dir: &Path) -> Result<()> {
    let path = dir.join(SERVER_LOG);
    let log = match fs::read(&path) {
        Ok(log) => log,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(fail(&path, "cannot read", &cause)),
    };
    last_position(&log).map_or(Ok(()), |text| files::replace(dir, BINLOG_POSITION, &text))
}

/// File, tab, position: from a server's error log.
fn last_position(log: &[u8]) -> Option<Vec<u8>> {
    let (_, said) = log.lines().rev().find_map(|line| line.split_once_str("InnoDB: Last binlog file '"))?;
    let (file, position) = said.split_once_str("', position ")?;
    let position: u64 = position.trim().to_str().ok()?.parse().ok()?;
    Some([file, format!("\t{position}\n").as_bytes()].concat())
}

fn server(backup: &Backup, options: &Options) -> Result<Program> {
    if backup.kind != StreamKind::Full || backup.state.is_none() {
        backup.check_present()?;
    }
    of_version(backup, options)
}

fn of_version(backup: &Backup, options: &Options) -> Result<Program> {
    let version = backup
        .server_version
        .as_deref()
        .and_then(program::version)
        .ok_or_else(|| Error::damaged(backup.path.display(), "does not say which server it was made of"))?;
    program::find(version, options.server.as_deref())
}

/// Large enough for the pages of this much log, but at most half of the free memory.
fn buffer_pool(log: u64) -> u64 {
    let free = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
    });
    let (least, most) = MEMORY;
    log.saturating_mul(4).min(free.unwrap_or(least) / 2).clamp(least, most).next_multiple_of(1 << 20)
}
