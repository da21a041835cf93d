//! The copy of a running server: what both families have in common. What differs is in [`Running`].

use std::fs::File;
use std::time::Instant;

use jiff::Zoned;

use super::Job;
use super::copy::Records;
use super::durable_lsn::DurableLsn;
use super::finish::{self, Finish, Snapshot};
use super::history;
use super::identity::Claim;
use super::running::{Hot, Running};
use super::steps::{Found, Steps, begin, tell_specials};
use super::stopped::places;
use super::view::View;
use crate::error::{Error, Result};
use crate::io::spool::Spool;
use crate::report::Report;
use crate::server::files;
use crate::server::{Family, Login, Release, Session, Variables};
use crate::stream::Writer;
use crate::stream::native::{BEGIN, Begin, begin_bytes};

/// A server that has answered.
pub(super) struct Connected {
    start: Zoned,
    began: Instant,
    login: Login,
    claim: Claim,
    pub(super) variables: Variables,
    pub(super) family: Family,
    /// False: it runs without InnoDB.
    pub(super) has_innodb: bool,
}

/// Connects to the server and asks for its family and version.
pub(super) fn connect(job: &Job, report: &dyn Report) -> Result<(Connected, Session)> {
    let (start, began) = (Zoned::now(), Instant::now());
    report.stage("connecting");
    let options = job.sources.read(report)?;
    let login = job.login.clone().or_from(&options)?;
    let mut session = login.connect()?;
    let mut variables = Variables::of(&mut session)?;
    let claim = Claim { address: login.address()?, datadir: variables.datadir(), peer: session.peer() };
    let family = Release::of(variables.text("version"))?.family;
    let has_innodb = has_innodb(&mut session, family)?;
    if !has_innodb {
        places(&mut variables, &options);
    }
    if let Some(dir) = &job.datadir {
        variables.set_datadir(dir);
    }
    Ok((Connected { start, began, login, claim, variables, family, has_innodb }, session))
}

/// Copies a running server.
pub(super) fn run(
    job: &Job,
    server: &mut dyn Running,
    connected: &Connected,
    output: File,
    report: &dyn Report,
) -> Result<()> {
    let Connected { start, began, login, claim, variables, family, .. } = connected;
    report.stage("waiting for other backups");
    claim.prove(server, login, job.trust_datadir, report)?;
    let marker = login.connect()?;
    tell_specials(server.layout(), report)?;
    let datadir = &server.layout().datadir;
    let view = View::of(claim.peer, &claim.datadir, datadir, job.trust_datadir);
    for database in files::databases(datadir)? {
        view.check(&datadir.join(database))?;
    }

    let (layout, out) = (server.layout().clone(), Writer::new(output));
    let since = job.base.as_ref().map(|base| base.since(*family));
    let records = Records::new(job, since);
    let (copier, abort) = (records.copier(job, &view, report, since), &records.abort);
    let durable_lsn = DurableLsn::new(&out, server.flushed());
    let steps = Steps { job, layout: &layout, copier, abort, out: &out };
    let hot = Hot { steps, report, durable_lsn: &durable_lsn, login };
    let begin = |found: &Found| begin(job, variables, *family, &layout, found, start, report);
    let first = server.stops_first();
    let copied = || copy(&hot, &mut *server, *family, marker, begin);
    let (begin, snapshot, spool) = match first {
        Some(applier) => hot.with_replication_stopped(applier, copied)?,
        None => copied()?,
    };
    // Replication runs again.
    login.password.forget();
    release(&hot, server, &snapshot, spool)?;
    let (start, began, copier) = (start.clone(), *began, &hot.steps.copier);
    let finish = Finish { job, report, options: server.options(), begin: &begin, start, began, copier };
    let facts = finish.send(&out, &snapshot, |facts| server.members(facts, &snapshot))?;
    match &job.history {
        Some(series) => history::note(series, *family, &facts, server.session()),
        None => Ok(()),
    }
}

/// MySQL always has InnoDB.
fn has_innodb(session: &mut Session, family: Family) -> Result<bool> {
    let support = session.value("SELECT SUPPORT FROM information_schema.ENGINES WHERE ENGINE='InnoDB'")?;
    match (matches!(support.as_deref(), Some("YES" | "DEFAULT")), family) {
        (true, _) => Ok(true),
        (false, Family::MariaDb) => Ok(false),
        (false, Family::MySql) => Err(Error::failed("server", "InnoDB is switched off")),
    }
}

/// Has the server write out all pages and make a checkpoint.
fn checkpoint(session: &mut Session) -> Result<()> {
    session.run("SET GLOBAL innodb_log_checkpoint_now=1").map_err(|refusal| {
        Error::from(refusal)
            .hint("leave --checkpoint-now out; it needs a server that has innodb_log_checkpoint_now, and SUPER")
    })
}

/// From the first lock to the release of the last.
fn copy(
    hot: &Hot<'_>,
    server: &mut dyn Running,
    family: Family,
    marker: Session,
    begin: impl FnOnce(&Found) -> Result<Begin>,
) -> Result<(Begin, Snapshot, Spool)> {
    let abort = hot.steps.abort;
    if hot.steps.job.history.is_some() {
        history::prepare(family, server.session())?;
    }
    if hot.steps.job.checkpoint_now {
        checkpoint(server.session())?;
    }
    hot.report.stage("waiting for other backups and running DDL");
    server.lock()?;
    let mut found = server.look(hot)?;
    if !hot.steps.job.safe_replica {
        hot.login.password.forget();
    }
    if let Some(listed) = found.listed.take() {
        let _ = hot.steps.copier.listed.set(listed);
    }
    hot.steps.job.filter.check(&hot.steps.layout.datadir, hot.report)?;
    let begin = begin(&found)?;
    hot.report.expect(begin.estimated_bytes);
    hot.steps.out.member(BEGIN, &begin_bytes(&begin)?)?;
    let holder = server.holder();
    let done = std::thread::scope(|scope| {
        scope.spawn(|| hot.durable_lsn.run(marker, holder, abort));
        let done = server.copy(hot, &found.undo, found.catalog);
        hot.durable_lsn.stop();
        done
    });
    // The error of the other thread is the cause, not the statement that was refused afterwards.
    abort.check()?;
    let (snapshot, spool) = done?;
    Ok((begin, snapshot, spool))
}

/// After the locks: waits until the log is durable up to the end LSN, then sends the spool. The end LSN goes to xb-redo
/// first, which can follow the log up to there however long the spool takes.
fn release(hot: &Hot<'_>, server: &mut dyn Running, snapshot: &Snapshot, spool: Spool) -> Result<()> {
    hot.report.stage("waiting until the log is durable");
    server.settle(snapshot)?;
    hot.durable_lsn.end(snapshot.end_lsn)?;
    hot.report.stage("sending what was copied under lock");
    finish::drain(spool, hot.steps.out)
}
