//! Copies the binary logs of a server into the archive: `mariadb-binlog` or `mysqlbinlog` follows the server and writes the
//! files as they are there; what they have grown by is archived every two seconds. A run begins with the file with which
//! the last one ended, and compares what both have of it, so nothing is missing, nothing is there twice, and a server that
//! has begun its binary logs anew is noticed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::{Archive, Log, parts, pieces, server};
use crate::error::{Error, Kind, Result};
use crate::keep::chain::{self, Ear, Running};
use crate::keep::{Keep, store};
use crate::report::{Level, Report};
use crate::server::options::Sources;
use crate::server::{Family, Login, Release, Session, Variables};

/// How often what is new is archived.
const PERIOD: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(200);
/// How long to wait after a failure, at first and at most.
const WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How to follow.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Archive what is there, and end.
    pub once: bool,
    /// Go on after a gap.
    pub after_gap: bool,
}

/// Follows the server. It ends by a signal, or if going on makes no sense.
///
/// # Errors
///
/// Invalid, if the server has purged what the archive needs next, or its binary logs are not those of the archive; Signal;
/// with `once` also Failed, if the server cannot be reached.
pub fn run(keep: &Keep, options: Options, report: &dyn Report) -> Result<()> {
    let _held = keep.store.hold(store::Use::Follow)?;
    let mut wait = WAIT.0;
    loop {
        let began = Instant::now();
        let error = match once(keep, options, report) {
            Ok(()) if options.once => return Ok(()),
            Ok(()) => Error::failed("server", "has ended the connection"),
            Err(error) if options.once || error.kind() != Kind::Failed => return Err(error),
            Err(error) => error,
        };
        if began.elapsed() > WAIT.1 {
            wait = WAIT.0;
        }
        report.note(Level::Warning, format_args!("{error}; trying again in {} s", wait.as_secs()));
        let until = Instant::now() + wait;
        while Instant::now() < until {
            chain::check()?;
            std::thread::sleep(TICK);
        }
        wait = (wait * 2).min(WAIT.1);
    }
}

/// The server, as far as following it needs.
struct Source {
    family: Family,
    server: String,
    /// The names of its binary logs, the oldest first.
    logs: Vec<String>,
}

impl Source {
    fn ask(keep: &Keep, report: &dyn Report) -> Result<Source> {
        let sources = Sources { file: keep.settings.backup.defaults_file.clone(), ..Sources::default() };
        let login = Login { lock_timeout: Duration::from_secs(60), ..Login::default() };
        let mut session: Session = login.or_from(&sources.read(report)?)?.connect()?;
        let variables = Variables::of(&mut session)?;
        let family = Release::of(variables.text("version"))?.family;
        if !variables.is_on("log_bin") {
            return Err(Error::new(Kind::Usage, "server", "writes no binary log: log_bin is off"));
        }
        let uuid = variables.get(if family == Family::MariaDb { "server_uid" } else { "server_uuid" });
        let records = session.records("SHOW BINARY LOGS").map_err(|refusal| {
            Error::failed("SHOW BINARY LOGS", refusal).hint("the account needs BINLOG MONITOR, or REPLICATION CLIENT")
        })?;
        let logs = records.into_iter().filter_map(|mut record| record.remove("log_name")).collect();
        Ok(Source { family, server: server(uuid), logs })
    }
}

/// The file from which to go on.
fn first(keep: &Keep, source: &Source, archive: &Archive, options: Options, report: &dyn Report) -> Result<String> {
    let oldest = source.logs.first().ok_or_else(|| Error::failed("server", "lists no binary log"))?;
    let has = |name: &str| source.logs.iter().any(|log| log == name);
    let newest = archive.newest().map(|log| log.name.clone());
    let next = match &newest {
        // The next file may be there although this one is not any more.
        Some(name) if archive.log(name).is_some_and(Log::is_finished) && !has(name) => {
            parts(name).and_then(|(series, number)| {
                source.logs.iter().find(|log| parts(log) == Some((series, number + 1))).cloned()
            })
        }
        Some(name) => Some(name.clone()).filter(|name| has(name)),
        None => Some(floor(keep, source)?.filter(|name| has(name)).unwrap_or_else(|| oldest.clone())),
    };
    match (next, newest) {
        (Some(next), _) => Ok(next),
        (None, Some(newest)) if options.after_gap => {
            report.note(Level::Warning, format_args!("the archive has a gap between {newest} and {oldest}"));
            Ok(oldest.clone())
        }
        (None, newest) => {
            let newest = newest.unwrap_or_default();
            let what =
                format_args!("has purged what follows {newest} in the archive; its oldest binary log is {oldest}");
            Err(Error::invalid("server", what)
                .hint("take a full backup, and go on with --after-gap; moments in the gap cannot be restored"))
        }
    }
}

/// The binary log of the oldest backup of this server.
fn floor(keep: &Keep, source: &Source) -> Result<Option<String>> {
    let catalog = keep.catalog()?;
    let of_server = catalog.backups.iter().filter(|backup| server(backup.meta.server.uuid.as_deref()) == source.server);
    let files = of_server.filter_map(|backup| backup.meta.binlog.as_ref()).map(|binlog| binlog.file.clone());
    Ok(files.filter(|file| source.logs.contains(file)).min_by_key(|file| parts(file).map(|(_, number)| number)))
}

fn once(keep: &Keep, options: Options, report: &dyn Report) -> Result<()> {
    let source = Source::ask(keep, report)?;
    let archive = Archive::of_server(&*keep.store, &source.server)?;
    let first = first(keep, &source, &archive, options, report)?;
    let room = tempfile::Builder::new().prefix("xb-binlog-").tempdir_in(&keep.temporary);
    let room = room.map_err(|cause| Error::io(keep.temporary.display(), "cannot write", &cause))?;
    let ear = Ear::default();
    let program = program(keep, &source, options, &first, room.path());
    let run = chain::start_with(&[program], Stdio::null(), Stdio::null(), &ear, |_, output| Ok(output.into()))?;
    report.note(Level::Detail, format_args!("{}: following from {first} on", source.server));
    let mut copy = Copy { keep, server: &source.server, archive, room: room.path(), current: None, report };
    let outcome = copy.follow(run);
    ear.tell(report);
    outcome
}

/// The program that follows the server.
fn program(keep: &Keep, source: &Source, options: Options, first: &str, room: &Path) -> Vec<String> {
    let settings = &keep.settings.binlog;
    let name = if source.family == Family::MariaDb { "mariadb-binlog" } else { "mysqlbinlog" };
    let beside = keep.settings.restore.server.as_ref().map(|server| server.with_file_name(name));
    let path = settings.program.clone().or_else(|| beside.filter(|path| path.is_file()));
    let mut run = vec![path.map_or_else(|| name.to_owned(), |path| path.display().to_string())];
    run.extend(keep.settings.backup.defaults_file.iter().map(|file| format!("--defaults-file={}", file.display())));
    run.extend(["--read-from-remote-server", "--raw"].map(str::to_owned));
    run.push(format!("--result-file={}/", room.display()));
    if options.once {
        run.push("--to-last-log".to_owned());
    } else {
        run.push("--stop-never".to_owned());
        let id = settings.server_id.unwrap_or_else(|| 0x4000_0000 | id(&keep.store.place()));
        let option =
            if source.family == Family::MariaDb { "stop-never-slave-server-id" } else { "connection-server-id" };
        run.push(format!("--{option}={id}"));
    }
    run.push(first.to_owned());
    run
}

/// A number of this store on this host: two connections with one server id would end each other.
fn id(place: &str) -> u32 {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let [a, b, c, d, ..] = *blake3::hash(format!("{host}:{place}").as_bytes()).as_bytes();
    u32::from_le_bytes([a, b, c, d]) & 0x3fff_ffff
}

/// The copy at work.
struct Copy<'a> {
    keep: &'a Keep,
    server: &'a str,
    archive: Archive,
    room: &'a Path,
    /// The file that grows, and how much of it is archived.
    current: Option<(String, u64)>,
    report: &'a dyn Report,
}

impl Copy<'_> {
    fn follow(&mut self, mut run: Running) -> Result<()> {
        let mut last = Instant::now();
        loop {
            chain::check()?;
            let ended = run.has_ended()?;
            if ended || last.elapsed() >= PERIOD {
                last = Instant::now();
                self.archive()?;
            }
            if ended {
                return run.wait().map(drop);
            }
            std::thread::sleep(TICK);
        }
    }

    /// Archives what is new.
    fn archive(&mut self) -> Result<()> {
        let mut names: Vec<String> = Vec::new();
        let fail = |cause: &std::io::Error| Error::io(self.room.display(), "cannot read", cause);
        for entry in fs::read_dir(self.room).map_err(|cause| fail(&cause))? {
            names.push(entry.map_err(|cause| fail(&cause))?.file_name().to_string_lossy().into_owned());
        }
        names.sort_by_key(|name| parts(name).map(|(_, number)| number));
        for (place, name) in names.iter().enumerate() {
            // The program has begun the next one: this one is complete.
            let complete = place + 1 < names.len();
            self.one(name, &self.room.join(name), complete)?;
            if complete {
                let path = self.room.join(name);
                fs::remove_file(&path).map_err(|cause| Error::io(path.display(), "cannot remove", &cause))?;
            }
        }
        Ok(())
    }

    fn one(&mut self, name: &str, path: &PathBuf, complete: bool) -> Result<()> {
        let file = File::open(path).map_err(|cause| Error::io(path.display(), "cannot read", &cause))?;
        let size = file.metadata().map_err(|cause| Error::io(path.display(), "cannot read", &cause))?.len();
        let at = match &self.current {
            Some((current, at)) if current == name => *at,
            _ => {
                let log = self.archive.log(name);
                let at = log.map_or(0, Log::bytes);
                if size < at && !complete {
                    // It has not yet come to what is new.
                    return Ok(());
                }
                if let Some(log) = log
                    && (size < at || !pieces::agrees(log, path)?)
                {
                    let what = format_args!("its {name} is not the one of the archive");
                    return Err(Error::invalid("server", what).hint(format_args!(
                        "its binary logs began anew; take a full backup, and move {}{} away",
                        super::BINLOGS,
                        self.server
                    )));
                }
                at
            }
        };
        let finished = self.archive.log(name).is_some_and(Log::is_finished);
        let to = pieces::put(self.keep, self.server, name, &file, at, complete && !finished)?;
        if to > at {
            self.report.advance(to - at);
            self.report.note(Level::Detail, format_args!("{name}: archived up to byte {to}"));
        }
        self.current = Some((name.to_owned(), to));
        Ok(())
    }
}
