//! The copy of a running server, step by step.

use std::fs::File;
use std::io::Write;
use std::sync::Mutex;
use std::time::Instant;

use bstr::ByteSlice;
use jiff::Zoned;

use super::copy::Copier;
use super::finish::{self, Finish, Snapshot};
use super::known::Known;
use super::manifest::Manifest;
use super::marks::Marks;
use super::replica::Quiet;
use super::start::Start;
use super::steps::{Steps, aria_control, begin, optional, readable};
use super::workers::Abort;
use super::{Job, LockDdl, meta};
use crate::error::{Error, Result};
use crate::innodb::space::Tally;
use crate::io::spool::Spool;
use crate::report::{Level, Report};
use crate::server::ddl_log::Named;
use crate::server::files::Layout;
use crate::server::flavour::Flavour;
use crate::server::locks::{Stage, Stages};
use crate::server::{Login, Session, Variables, positions, privileges};
use crate::stream::Writer;
use crate::stream::profile::{BEGIN, EntryKind, begin_bytes};

/// What is copied under a lock waits in this much memory, then in a file.
const SPOOL_MEMORY: usize = 4 << 20;
/// New tables are copied before the lock until they are fewer bytes than this, but not forever.
const EXTRA_BYTES: u64 = 16 << 20;
const EXTRA_PASSES: u32 = 3;
/// The file that names what DDL changed, in the data directory.
const DDL_LOG: &str = "ddl.log";

/// The steps, with what only a running server has.
struct Hot<'a> {
    steps: Steps<'a>,
    job: &'a Job,
    login: &'a Login,
    report: &'a dyn Report,
    marks: &'a Marks<'a>,
}

/// Copies a running server.
pub(super) fn run(job: &Job, output: File, report: &dyn Report) -> Result<()> {
    let (start, began) = (Zoned::now(), Instant::now());
    report.stage("connecting");
    let login = job.login.clone().or_from(&job.sources.read()?)?;
    let (mut session, variables, flavour) = prepare(job, &login)?;
    let marker = login.connect()?;
    let options = meta::server_options(&variables, &finish::plugins(&mut session)?);
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
    let control = aria_control(&layout)?;
    let log = Start::read(&layout.redo)?;
    let known = Known::list(&layout.datadir, &job.filter)?;
    let begin = begin(job, &variables, flavour.name(), &layout, &log, &start, known.bytes)?;
    report.expect(begin.estimated_bytes);

    let out = Writer::new(output);
    out.member(BEGIN, &begin_bytes(&begin))?;
    let (abort, manifest, pages) = (Abort::default(), Manifest::new(&job.spool_dir), Mutex::new(Tally::default()));
    let since = job.base.as_ref().map(|base| base.lsn);
    let copier = Copier { policy: job.policy, report, manifest: &manifest, abort: &abort, pages: &pages, since };
    let marks = Marks::new(&out);
    let holder = (!job.no_lock).then(|| stages.session().id());
    let steps = Steps { job, layout: &layout, copier, abort: &abort, out: &out };
    let hot = Hot { steps, job, login: &login, report, marks: &marks };
    let done = std::thread::scope(|scope| {
        scope.spawn(|| marks.run(marker, holder, &abort));
        let done = hot.copy(&mut stages, control.as_deref(), known);
        marks.stop();
        done
    });
    let (snapshot, spool) = done?;
    abort.check()?;
    hot.release(stages.session(), &snapshot, spool)?;
    let (copier, checkpoint) = (&hot.steps.copier, log.checkpoint);
    Finish { job, report, variables: &variables, options, begin: &begin, start, began, copier, checkpoint }
        .send(&out, &snapshot)
}

/// Connects and finds out whether this can work at all.
fn prepare(job: &Job, login: &Login) -> Result<(Session, Variables, Flavour)> {
    let mut session = login.connect()?;
    let mut variables = Variables::of(&mut session)?;
    if let Some(dir) = &job.datadir {
        variables.set_datadir(dir);
    }
    let flavour = Flavour::of(variables.text("version"))?;
    let mut needed = vec!["RELOAD"];
    if variables.is_on("log_bin") {
        needed.push("BINLOG MONITOR");
    }
    if job.replica_info || job.safe_replica {
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

impl Hot<'_> {
    /// Everything up to the release of the locks: returns the snapshot and what was copied under them.
    fn copy(&self, stages: &mut Stages, control: Option<&[u8]>, mut known: Known) -> Result<(Snapshot, Spool)> {
        self.report.stage("copying InnoDB");
        self.steps.innodb(control, &known)?;
        let again = self.job.lock_ddl == LockDdl::End && !self.job.no_lock;
        let logged = if again { self.extra(&mut known)? } else { 0 };
        let held = Writer::new(Spool::new(SPOOL_MEMORY, &self.job.spool_dir, u64::MAX));
        let replica = self.job.safe_replica;
        let quiet = replica.then(|| Quiet::seek(stages.session(), self.login, self.report)).transpose()?;
        let snapshot = self.rest(stages, &known, &held, logged);
        let resumed = quiet.map_or(Ok(()), |quiet| quiet.end(self.login));
        let snapshot = snapshot?;
        resumed?;
        Ok((snapshot, held.into_inner()))
    }

    /// All that belongs to one moment: what is not InnoDB's, and the positions.
    fn rest(&self, stages: &mut Stages, known: &Known, held: &Writer<Spool>, logged: usize) -> Result<Snapshot> {
        if self.job.no_lock {
            self.unchanged(known, self.steps.out, "without locks")?;
            self.steps.others(self.steps.out, false)?;
            self.steps.late_files(self.steps.out)?;
        } else {
            self.locked(stages, known, held, logged)?;
        }
        self.marks.stop();
        self.snapshot(stages)
    }

    /// The rest, under the locks.
    fn locked(&self, stages: &mut Stages, known: &Known, held: &Writer<Spool>, logged: usize) -> Result<()> {
        self.report.stage("waiting for locks");
        if self.job.lock_ddl == LockDdl::Early {
            // The lock is held for the whole copy: what it covers need not wait in the spool.
            self.steps.others(self.steps.out, false)?;
        } else {
            stages.enter(Stage::Flush)?;
            stages.enter(Stage::BlockDdl)?;
            self.report.stage("copying under lock");
            match self.job.lock_ddl {
                LockDdl::Off => self.unchanged(known, held, "with --lock-ddl=off")?,
                _ => self.resync(known, held, logged)?,
            }
            self.steps.others(held, false)?;
        }
        stages.enter(Stage::BlockCommit)?;
        self.steps.late_files(held)
    }

    /// Copies tables that were created meanwhile, so that less remains for the time under the lock. Returns how much
    /// of the DDL log is older than the last pass.
    fn extra(&self, known: &mut Known) -> Result<usize> {
        let mut logged = None;
        for _ in 0..EXTRA_PASSES {
            let length = self.ddl_log()?.len();
            let fresh = known.fresh(&self.steps.layout.datadir, &self.job.filter)?;
            let bytes = fresh.bytes;
            if fresh.tables().is_empty() {
                break;
            }
            // What an earlier pass copied is judged by all statements since that pass.
            logged.get_or_insert(length);
            self.steps.tables(&fresh)?;
            known.merge(fresh);
            if bytes < EXTRA_BYTES {
                break;
            }
        }
        Ok(logged.unwrap_or(0))
    }

    /// Copies again what DDL changed; names what has gone.
    fn resync(&self, known: &Known, held: &Writer<Spool>, logged: usize) -> Result<()> {
        let log = self.ddl_log()?;
        let (all, late) = (Named::parse(&log), Named::parse(log.get(logged..).unwrap_or_default()));
        let changes = known.changes(&self.steps.layout.datadir, &self.job.filter, &all, &late)?;
        for name in &changes.gone {
            self.report.note(Level::Detail, format_args!("{}: dropped meanwhile", name.as_bstr()));
            self.steps.copier.made(held, name, EntryKind::File, b"")?;
        }
        self.steps.again(held, changes.again.iter().chain(&changes.unwritten))
    }

    /// Checks that no table was created, dropped or exchanged, and copies those that had no page 0 before.
    fn unchanged<W: Write + Send>(&self, known: &Known, out: &Writer<W>, how: &str) -> Result<()> {
        let named = if self.job.no_lock { Named::default() } else { Named::parse(&self.ddl_log()?) };
        let changes = known.changes(&self.steps.layout.datadir, &self.job.filter, &named, &named)?;
        let changed = changes.again.iter().map(|found| &found.name).chain(&changes.gone).next();
        let Some(name) = changed else { return self.steps.again(out, changes.unwritten.iter()) };
        Err(Error::invalid(name.as_bstr(), format_args!("changed by DDL during a backup {how}"))
            .hint("run it again, with --lock-ddl=end (the default) or --lock-ddl=early"))
    }

    fn ddl_log(&self) -> Result<Vec<u8>> {
        Ok(optional(&self.steps.layout.datadir.join(DDL_LOG))?.unwrap_or_default())
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
        Ok(Snapshot { end_lsn, binlog, replica, galera, times })
    }

    /// After the locks: the log durable up to E, then all that waited. xb-redo learns E first, and may follow to it
    /// however long the rest takes to be sent.
    fn release(&self, session: &mut Session, snapshot: &Snapshot, spool: Spool) -> Result<()> {
        self.report.stage("waiting until the log is durable");
        finish::durable(session, snapshot.end_lsn)?;
        self.marks.send(snapshot.end_lsn)?;
        self.report.stage("sending what was copied under lock");
        finish::drain(spool, self.steps.out)
    }
}
