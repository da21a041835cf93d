//! The copy of a running server, step by step.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bstr::ByteSlice;
use jiff::Zoned;

use super::copy::{Copier, Outcome, Pages, Part, system_space};
use super::finish::{Finish, Snapshot};
use super::known::{Known, with_suffix};
use super::manifest::Manifest;
use super::marks::Marks;
use super::workers::{Abort, each};
use super::{Job, LockDdl, start};
use crate::error::{Error, Result};
use crate::innodb::redo::mariadb::{Checkpoint, Header};
use crate::innodb::space::Tally;
use crate::io::spool::Spool;
use crate::report::{Level, Report};
use crate::server::ddl_log::Named;
use crate::server::files::{self, Layout, SYSTEM_DATABASE};
use crate::server::flavour::Flavour;
use crate::server::locks::{Stage, Stages};
use crate::server::{Login, Session, Variables, positions, privileges};
use crate::stream::Writer;
use crate::stream::profile::{BEGIN, Begin, FORMAT, Redo, StreamKind, begin_bytes};

/// What is copied under a lock waits in this much memory, then in a file.
const SPOOL_MEMORY: usize = 4 << 20;
/// New tables are copied before the lock until they are fewer bytes than this, but not forever.
const EXTRA_BYTES: u64 = 16 << 20;
const EXTRA_PASSES: u32 = 3;
/// The file that names what DDL changed, in the data directory.
const DDL_LOG: &str = "ddl.log";
/// Aria's recovery begins where this says, so it is read before any Aria table (spec section 17).
const ARIA_CONTROL: &str = "aria_log_control";

/// What the steps share.
struct Hot<'a> {
    job: &'a Job,
    report: &'a dyn Report,
    layout: &'a Layout,
    copier: Copier<'a>,
    abort: &'a Abort,
    out: &'a Writer<File>,
    marks: &'a Marks<'a>,
}

/// Copies a running server.
pub(super) fn run(job: &Job, output: File, report: &dyn Report) -> Result<()> {
    let (start, began) = (Zoned::now(), Instant::now());
    report.stage("connecting");
    let login = job.login.clone().or_from(&job.sources.read()?)?;
    let (session, mut variables, flavour) = prepare(job, &login)?;
    let marker = login.connect()?;
    if let Some(dir) = &job.datadir {
        variables.set_datadir(dir);
    }
    let layout = Layout::of(&variables)?;
    readable(&layout)?;

    report.stage("waiting for other backups and running DDL");
    let mut stages = Stages::new(session, job.lock_timeout)?;
    if !job.no_lock {
        stages.enter(Stage::Start)?;
        if job.lock_ddl == LockDdl::Early {
            stages.enter(Stage::Flush)?;
            stages.enter(Stage::BlockDdl)?;
        }
    }
    let control = optional(&layout.aria.join(ARIA_CONTROL))?;
    let log = start::read(&layout.redo)?;
    let known = Known::list(&layout.datadir, &job.filter)?;
    let begin = begin(&variables, flavour, &layout, &log, &start, known.bytes)?;
    report.expect(begin.estimated_bytes);

    let out = Writer::new(output);
    out.member(BEGIN, &begin_bytes(&begin))?;
    let (abort, manifest, pages) = (Abort::default(), Manifest::new(&job.spool_dir), Mutex::new(Tally::default()));
    let copier = Copier { policy: job.policy, report, manifest: &manifest, abort: &abort, pages: &pages };
    let marks = Marks::new(&out);
    let holder = (!job.no_lock).then(|| stages.session().id());
    let hot = Hot { job, report, layout: &layout, copier, abort: &abort, out: &out, marks: &marks };
    let done = std::thread::scope(|scope| {
        scope.spawn(|| marks.run(marker, holder, &abort));
        let done = hot.copy(&mut stages, control.as_deref(), known);
        marks.stop();
        done
    });
    let (snapshot, spool) = done?;
    abort.check()?;
    let finish = Finish { job, report, variables: &variables, begin: &begin, start, began, copier: &hot.copier };
    let checkpoint = log.1;
    let summary = finish.send(&out, &marks, stages.session(), &snapshot, spool, checkpoint)?;
    let trailer = finish.trailer(&snapshot, summary.options.clone());
    let bytes = manifest.bytes();
    let tally = pages.into_inner().unwrap_or_default();
    manifest.send(trailer, &out)?;
    summary.print(report, &snapshot, checkpoint, bytes, out.written(), began.elapsed(), &tally);
    Ok(())
}

/// Connects and finds out whether this can work at all.
fn prepare(job: &Job, login: &Login) -> Result<(Session, Variables, Flavour)> {
    let mut session = login.connect()?;
    let variables = Variables::of(&mut session)?;
    let flavour = Flavour::of(variables.text("version"))?;
    let mut needed = vec!["RELOAD"];
    if variables.is_on("log_bin") {
        needed.push("BINLOG MONITOR");
    }
    if job.replica_info {
        needed.push("SLAVE MONITOR");
    }
    if job.safe_replica {
        needed.push("REPLICATION SLAVE ADMIN");
    }
    privileges::check(&mut session, &needed)?;
    if variables.is_on("wsrep_on") {
        session.run("SET SESSION wsrep_sync_wait=0")?;
    }
    Ok((session, variables, flavour))
}

/// Fails early, and says what to do, if the files of the server are not here or not ours to read.
fn readable(layout: &Layout) -> Result<()> {
    let hint = |cause: &std::io::Error| match cause.kind() {
        std::io::ErrorKind::PermissionDenied => "run xb-snap as the server's user, or as root",
        _ => "xb-snap must run on the server's host; --datadir says where its data directory is seen from here",
    };
    let fail = |path: &Path, cause: std::io::Error| Error::io(path.display(), "cannot read", &cause).hint(hint(&cause));
    std::fs::read_dir(&layout.datadir).map_err(|cause| fail(&layout.datadir, cause))?;
    for path in &layout.system {
        File::open(path).map_err(|cause| fail(path, cause))?;
    }
    Ok(())
}

/// A small file that need not be there.
fn optional(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(Error::io(path.display(), "cannot read", &cause)),
    }
}

fn begin(
    variables: &Variables,
    flavour: Flavour,
    layout: &Layout,
    log: &(Header, Checkpoint),
    start: &Zoned,
    tables: u64,
) -> Result<Begin> {
    let (header, checkpoint) = log;
    let undo = files::undo_files(&layout.undo)?.into_iter().map(|name| files::path_of(&layout.undo, &name));
    let files = layout.system.iter().cloned().chain(undo);
    let sizes = files.filter_map(|path| Some(path.metadata().ok()?.len()));
    Ok(Begin {
        format: FORMAT,
        kind: StreamKind::Full,
        backup_id: super::finish::random_id()?,
        start_time: start.timestamp().to_string(),
        program: concat!("xb-snap ", env!("CARGO_PKG_VERSION")).into(),
        estimated_bytes: sizes.sum::<u64>().saturating_add(tables),
        flavour: Some(flavour.name().into()),
        server_version: variables.get("version").map(str::to_owned),
        server_uuid: variables.get("server_uid").map(str::to_owned),
        datadir: Some(layout.datadir.display().to_string()),
        redo: Some(Redo {
            format: start::format_name(header).into(),
            dir: layout.redo.display().to_string(),
            checkpoint_lsn: checkpoint.lsn,
            checkpoint_end_lsn: Some(checkpoint.end_lsn),
        }),
        base: None,
    })
}

impl Hot<'_> {
    /// Everything up to the release of the locks: returns the snapshot and what was copied under them.
    fn copy(&self, stages: &mut Stages, control: Option<&[u8]>, mut known: Known) -> Result<(Snapshot, Spool)> {
        self.report.stage("copying InnoDB");
        if let Some(control) = control {
            self.copier.made(self.out, ARIA_CONTROL, crate::stream::profile::EntryKind::File, control)?;
        }
        self.system()?;
        self.tables(&known)?;
        let mut logged = 0;
        if self.job.lock_ddl == LockDdl::End && !self.job.no_lock {
            logged = self.extra(&mut known)?;
        }
        let held = Writer::new(Spool::new(SPOOL_MEMORY, &self.job.spool_dir, u64::MAX));
        if self.job.safe_replica {
            super::replica::quiesce(stages.session(), self.report)?;
        }
        if self.job.no_lock {
            self.unchanged(&known, "without locks")?;
            self.others(self.out, false)?;
            self.late_files(self.out)?;
        } else {
            self.locked(stages, &known, &held, logged)?;
        }
        self.marks.stop();
        let snapshot = self.snapshot(stages)?;
        Ok((snapshot, held.into_inner()))
    }

    /// The rest, under the locks.
    fn locked(&self, stages: &mut Stages, known: &Known, held: &Writer<Spool>, logged: usize) -> Result<()> {
        self.report.stage("waiting for locks");
        if self.job.lock_ddl == LockDdl::Early {
            // The lock is held for the whole copy: what it covers need not wait in the spool.
            self.others(self.out, false)?;
        } else {
            stages.enter(Stage::Flush)?;
            stages.enter(Stage::BlockDdl)?;
            self.report.stage("copying under lock");
            match self.job.lock_ddl {
                LockDdl::Off => self.unchanged(known, "with --lock-ddl=off")?,
                _ => self.resync(known, held, logged)?,
            }
            self.others(held, false)?;
        }
        stages.enter(Stage::BlockCommit)?;
        self.late_files(held)
    }

    /// System tablespace and undo tablespaces.
    fn system(&self) -> Result<()> {
        let Some(first) = self.layout.system.first() else { return Ok(()) };
        let (space, doublewrite) = system_space(first, self.job.policy)?;
        let mut number = 0u32;
        let mut jobs = Vec::new();
        for path in &self.layout.system {
            let part = Part { space: &space, first: number, doublewrite: doublewrite.as_ref() };
            jobs.push((base_name(path), path.clone(), Some(part)));
            let size = path.metadata().map_err(|cause| Error::io(path.display(), "cannot look at", &cause))?.len();
            number = number.saturating_add(u32::try_from(size / u64::from(space.page_size)).unwrap_or(u32::MAX));
        }
        for name in files::undo_files(&self.layout.undo)? {
            let path = files::path_of(&self.layout.undo, &name);
            jobs.push((name, path, None));
        }
        each(self.job.threads, self.abort, jobs.into_iter().map(Ok), |buffers, (name, path, part)| {
            let elsewhere = path.parent() != Some(&self.layout.datadir);
            let file = Pages { name: &name, path: &path, elsewhere, part, unwritten: true };
            match self.copier.tablespace(self.out, buffers, file)? {
                Outcome::Gone => Err(Error::failed(path.display(), "has gone while it was to be copied")),
                _ => Ok(()),
            }
        })
    }

    /// Tablespaces of one file.
    fn tables(&self, known: &Known) -> Result<()> {
        each(self.job.threads, self.abort, known.tables().iter().map(Ok), |buffers, table| {
            let path = table.path(&self.layout.datadir);
            let file =
                Pages { name: &table.name, path: &path, elsewhere: table.is_elsewhere(), part: None, unwritten: false };
            table.set(self.copier.tablespace(self.out, buffers, file)?);
            Ok(())
        })
    }

    /// Copies tables that were created meanwhile, so that less remains for the time under the lock. Returns how much
    /// of the DDL log is older than the last pass.
    fn extra(&self, known: &mut Known) -> Result<usize> {
        let mut logged = 0;
        for _ in 0..EXTRA_PASSES {
            let length = self.ddl_log()?.len();
            let fresh = known.fresh(&self.layout.datadir, &self.job.filter)?;
            let bytes = fresh.bytes;
            if fresh.tables().is_empty() {
                break;
            }
            // What an earlier pass copied is judged by all statements since that pass.
            if logged == 0 {
                logged = length;
            }
            self.tables(&fresh)?;
            known.merge(fresh);
            if bytes < EXTRA_BYTES {
                break;
            }
        }
        Ok(logged)
    }

    /// Copies again what DDL changed; names what has gone.
    fn resync(&self, known: &Known, held: &Writer<Spool>, logged: usize) -> Result<()> {
        let log = self.ddl_log()?;
        let (all, late) = (Named::parse(&log), Named::parse(log.get(logged..).unwrap_or_default()));
        let changes = known.changes(&self.layout.datadir, &self.job.filter, &all, &late)?;
        for name in &changes.gone {
            self.report.note(Level::Detail, format_args!("{}: dropped meanwhile", name.as_bstr()));
            self.copier.made(held, &name.to_str_lossy(), crate::stream::profile::EntryKind::File, b"")?;
        }
        each(self.job.threads, self.abort, changes.again.iter().map(Ok), |buffers, found| {
            let name = with_suffix(&found.name, b".new");
            let below = || files::path_of(&self.layout.datadir, &found.name);
            let path = found.elsewhere.clone().unwrap_or_else(below);
            let elsewhere = found.elsewhere.is_some();
            let file = Pages { name: &name, path: &path, elsewhere, part: None, unwritten: true };
            self.copier.tablespace(held, buffers, file).map(drop)
        })
    }

    /// Checks that no table was created, dropped or exchanged.
    fn unchanged(&self, known: &Known, how: &str) -> Result<()> {
        let named = if self.job.no_lock { Named::default() } else { Named::parse(&self.ddl_log()?) };
        let changes = known.changes(&self.layout.datadir, &self.job.filter, &named, &named)?;
        let changed = changes.again.iter().map(|found| &found.name).chain(&changes.gone).next();
        let Some(name) = changed else { return Ok(()) };
        Err(Error::invalid(name.as_bstr(), format_args!("changed by DDL during a backup {how}"))
            .hint("run it again, with --lock-ddl=end (the default) or --lock-ddl=early"))
    }

    fn ddl_log(&self) -> Result<Vec<u8>> {
        Ok(optional(&self.layout.datadir.join(DDL_LOG))?.unwrap_or_default())
    }

    /// Files that are not InnoDB's: of all databases but the system's, or of that one.
    fn others<W: Write + Send>(&self, out: &Writer<W>, system: bool) -> Result<()> {
        let mut databases = files::databases(&self.layout.datadir)?;
        databases.retain(|database| (database == OsStr::new(SYSTEM_DATABASE)) == system);
        let root = if system { Vec::new() } else { files::root_files(&self.layout.datadir)? };
        let lists = databases.iter().map(|database| files::others(&self.layout.datadir, database));
        let names = std::iter::once(Ok(root)).chain(lists).flat_map(|list| match list {
            Ok(names) => names.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        });
        each(self.job.threads, self.abort, names, |buffers, name| {
            if !self.job.filter.wants(&name) {
                return Ok(());
            }
            let path = files::path_of(&self.layout.datadir, &name);
            if !self.copier.file(out, buffers, &name, &path)? && name.ends_with(b"/db.opt") {
                // It stands for an empty directory.
                let kind = crate::stream::profile::EntryKind::File;
                self.copier.made(out, &name.to_str_lossy(), kind, b"")?;
            }
            Ok(())
        })
    }

    /// What is written until commits are blocked: the system's tables, then the Aria log.
    fn late_files<W: Write + Send>(&self, out: &Writer<W>) -> Result<()> {
        self.others(out, true)?;
        let mut buffers = super::workers::Buffers::new();
        for name in files::aria_logs(&self.layout.aria)? {
            self.copier.file(out, &mut buffers, &name, &files::path_of(&self.layout.aria, &name))?;
        }
        Ok(())
    }

    /// E and the positions, then the end of all locks. E is what is current, not what is flushed: with some settings
    /// the latter misses commits that the binary log has (spec section 10).
    fn snapshot(&self, stages: &mut Stages) -> Result<Snapshot> {
        let session = stages.session();
        let end_lsn = session.status("Innodb_lsn_current")?;
        let binlog = if self.job.no_lock { None } else { positions::binlog(session)? };
        let replica = self.job.replica_info.then(|| positions::replica(session)).transpose()?;
        let galera = if self.job.galera_info { positions::galera(session)? } else { None };
        let times = stages.end()?;
        if self.job.safe_replica {
            super::replica::resume(stages.session(), self.report)?;
        }
        Ok(Snapshot { end_lsn, binlog, replica, galera, times })
    }
}

fn base_name(path: &Path) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    path.file_name().unwrap_or_default().as_bytes().to_vec()
}

/// How long the server may take to make its log durable up to E.
pub(super) const DURABLE: Duration = Duration::from_secs(60);
