//! The copy of a running server: what both families have in common. What each does in its own way is a [`Family`].

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Mutex;
use std::time::Instant;

use jiff::Zoned;

use super::Job;
use super::copy::Copier;
use super::finish::{self, Finish, Snapshot};
use super::known::Known;
use super::manifest::Manifest;
use super::mariadb::MariaDb;
use super::marks::Marks;
use super::meta::{Facts, Members};
use super::mysql::MySql;
use super::replica::Quiet;
use super::steps::{Found, Steps, begin};
use super::workers::Abort;
use crate::error::Result;
use crate::innodb::space::Tally;
use crate::io::spool::Spool;
use crate::report::Report;
use crate::server::applier::Applier;
use crate::server::files::{Layout, Tablespace};
use crate::server::flavour::Flavour;
use crate::server::{Login, Variables};
use crate::stream::Writer;
use crate::stream::profile::{BEGIN, begin_bytes};

/// What is copied under a lock waits in this much memory, then in a file.
const SPOOL_MEMORY: usize = 4 << 20;

/// A running server of one family: its statements, in the order in which they are asked for.
pub(super) trait Family {
    /// Where it keeps what.
    fn layout(&self) -> &Layout;
    /// The status variable that says how far its log is durable, at least.
    fn flushed(&self) -> &'static str;
    /// Takes the locks that are held from the start.
    fn lock(&mut self) -> Result<()>;
    /// The session with the locks, if there are some.
    fn holder(&mut self) -> Option<u32>;
    /// Reads c0, then lists what there is.
    fn look(&mut self) -> Result<Found>;
    /// Copies everything and releases the locks: where that is, and what was copied under a short lock.
    fn copy(&mut self, hot: &Hot<'_>, undo: &[Tablespace], known: Known) -> Result<(Snapshot, Spool)>;
    /// After the locks: the log durable up to E.
    fn settle(&mut self, snapshot: &Snapshot) -> Result<()>;
    /// Options that recovery needs, for the manifest.
    fn options(&self) -> &BTreeMap<String, String>;
    /// Members that describe the backup.
    fn members(&self, facts: &Facts, snapshot: &Snapshot) -> Members;
}

/// The steps, with what only a running server has.
pub(super) struct Hot<'a> {
    pub(super) steps: Steps<'a>,
    pub(super) report: &'a dyn Report,
    pub(super) marks: &'a Marks<'a>,
    login: &'a Login,
}

/// Copies a running server.
pub(super) fn run(job: &Job, output: File, report: &dyn Report) -> Result<()> {
    let (start, began) = (Zoned::now(), Instant::now());
    report.stage("connecting");
    let login = job.login.clone().or_from(&job.sources.read()?)?;
    let mut session = login.connect()?;
    let mut variables = Variables::of(&mut session)?;
    if let Some(dir) = &job.datadir {
        variables.set_datadir(dir);
    }
    let flavour = Flavour::of(variables.text("version"))?;
    let mut server: Box<dyn Family> = match flavour {
        Flavour::MariaDb(_) => Box::new(MariaDb::new(job, session, &variables)?),
        Flavour::MySql(_) => Box::new(MySql::new(job, session, &variables)?),
    };
    let marker = login.connect()?;

    report.stage("waiting for other backups and running DDL");
    server.lock()?;
    let found = server.look()?;
    let layout = server.layout().clone();
    let begin = begin(job, &variables, flavour, &layout, &found, &start)?;
    report.expect(begin.estimated_bytes);

    let out = Writer::new(output);
    out.member(BEGIN, &begin_bytes(&begin))?;
    let (abort, manifest, pages) = (Abort::default(), Manifest::new(&job.spool_dir), Mutex::new(Tally::default()));
    let since = job.base.as_ref().map(|base| base.since(flavour));
    let copier = Copier { policy: job.policy, report, manifest: &manifest, abort: &abort, pages: &pages, since };
    let marks = Marks::new(&out, server.flushed());
    let holder = server.holder();
    let steps = Steps { job, layout: &layout, copier, abort: &abort, out: &out };
    let hot = Hot { steps, report, marks: &marks, login: &login };
    let done = std::thread::scope(|scope| {
        scope.spawn(|| marks.run(marker, holder, &abort));
        let done = server.copy(&hot, &found.undo, found.known);
        marks.stop();
        done
    });
    // What the other thread found out is the reason, not that a statement was refused afterwards.
    abort.check()?;
    let (snapshot, spool) = done?;
    hot.release(server.as_mut(), &snapshot, spool)?;
    let finish =
        Finish { job, report, options: server.options(), begin: &begin, start, began, copier: &hot.steps.copier };
    finish.send(&out, &snapshot, |facts| server.members(facts, &snapshot))
}

impl Hot<'_> {
    /// Makes a snapshot. With `--safe-replica` nothing replicated is applied meanwhile.
    pub(super) fn quietly<T>(&self, applier: &Applier, snapshot: impl FnOnce() -> Result<T>) -> Result<T> {
        if !self.steps.job.safe_replica {
            return snapshot();
        }
        let quiet = Quiet::seek(applier, self.login, self.report)?;
        let made = snapshot();
        let resumed = quiet.end(self.login);
        let made = made?;
        resumed?;
        Ok(made)
    }

    /// Where members wait that are copied under a lock.
    pub(super) fn held(&self) -> Writer<Spool> {
        Writer::new(Spool::new(SPOOL_MEMORY, &self.steps.job.spool_dir, u64::MAX))
    }

    /// After the locks: the log durable up to E, then all that waited. xb-redo learns E first, and may follow to it
    /// however long the rest takes to be sent.
    fn release(&self, server: &mut dyn Family, snapshot: &Snapshot, spool: Spool) -> Result<()> {
        self.report.stage("waiting until the log is durable");
        server.settle(snapshot)?;
        self.marks.send(snapshot.end_lsn)?;
        self.report.stage("sending what was copied under lock");
        finish::drain(spool, self.steps.out)
    }
}
