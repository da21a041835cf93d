//! The copy of a stopped server: what both families have in common. What differs is in [`Stopped`].

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use jiff::Zoned;
use rustix::process::{Flock, FlockType, fcntl_getlk};

use super::Job;
use super::copy::Records;
use super::fileset;
use super::finish::{Finish, Snapshot};
use super::open::system_space;
use super::steps::{Steps, begin, readable, tell_specials};
use super::stopped::{Stopped, places};
use super::view::View;
use crate::error::{Error, Result};
use crate::report::{Level, Report};
use crate::server::Release;
use crate::server::Variables;
use crate::server::options::Options;
use crate::stream::Writer;
use crate::stream::native::{BEGIN, begin_bytes};

/// The data directory of most distributions.
const DATADIR: &str = "/var/lib/mysql";
/// Variables that recovery needs and that only option files tell for a stopped server, in addition to those of
/// encryption.
const OTHERS: [&str; 10] = [
    "plugin_load_add",
    "plugin_dir",
    "file_key_management_filename",
    "file_key_management_filekey",
    "file_key_management_encryption_algorithm",
    "lower_case_table_names",
    "log_bin",
    "log_bin_index",
    "skip_log_bin",
    "disable_log_bin",
];

/// Copies a stopped server. `variables` come from option files and the command line.
pub(super) fn run(
    job: &Job,
    server: &mut dyn Stopped,
    mut variables: Variables,
    output: File,
    report: &dyn Report,
) -> Result<()> {
    let (start, began) = (Zoned::now(), Instant::now());
    let layout = server.layout().clone();
    readable(&layout)?;
    let guarded = server.guarded();
    guarded.iter().try_for_each(|path| stopped(path))?;

    let log = server.log()?;
    if !log.clean && job.filter.is_partial() {
        let what = "the server was not shut down cleanly; a backup of some tables could not be applied";
        return Err(Error::failed(layout.datadir.display(), what)
            .hint("take a full backup, or let the server start and stop first"));
    }
    variables.set("version", server.version()?);
    if let Some(first) = layout.system.first() {
        let (space, _) = system_space(first, job.policy)?;
        variables.set("innodb_page_size", space.page_size.to_string());
    }
    let family = Release::of(variables.text("version"))?.family;
    tell_specials(&layout, report)?;
    let found = server.look()?;
    fileset::distinct(&found, &layout)?;
    job.filter.check(&layout.datadir, report)?;
    if found.redo.is_some() {
        variables.set("innodb_undo_tablespaces", found.undo.len().to_string());
    }
    let begin = begin(job, &variables, family, &layout, &found, &start, report)?;
    report.expect(begin.estimated_bytes);

    let out = Writer::new(output);
    out.member(BEGIN, &begin_bytes(&begin)?)?;
    let since = job.base.as_ref().map(|base| base.since(family));
    let records = Records::new(job, since);
    let (copier, abort) = (records.copier(job, &View::Trusted, report, since), &records.abort);
    let steps = Steps { job, layout: &layout, copier, abort, out: &out };
    report.stage("copying");
    server.copy(&steps, &found.undo, &found.catalog)?;
    if !log.clean && !server.binlog(&steps)? {
        report.note(
            Level::Warning,
            format_args!(
                "{}: the server was not shut down cleanly, and no binary log of it was found; if it had one, which \
                 decides about prepared transactions, name it in an option file (log_bin) and run this again",
                layout.datadir.display()
            ),
        );
    }

    guarded.iter().try_for_each(|path| stopped(path))?;
    if server.log()? != log {
        return Err(Error::invalid(layout.datadir.display(), "a server ran on it while it was copied")
            .hint("run it again, without --offline while the server runs"));
    }
    let options = server.options(&variables);
    let snapshot = Snapshot { end_lsn: log.end_lsn, ..Snapshot::default() };
    let finish = Finish { job, report, options: &options, begin: &begin, start, began, copier: &steps.copier };
    finish.send(&out, &snapshot, |facts| server.members(&variables, &options, facts, &snapshot)).map(drop)
}

/// The variables in option files and on the command line; `encryption` are names of variables that say what is
/// encrypted, and how.
pub(super) fn variables<'a>(
    job: &Job,
    options: &Options,
    encryption: impl Iterator<Item = &'a &'static str>,
) -> Variables {
    let option = |name: &str| options.server(&name.replace('_', "-")).map(str::to_owned);
    let datadir = job.datadir.as_ref().map(|dir| dir.display().to_string()).or_else(|| option("datadir"));
    let pairs = [("datadir".to_owned(), datadir.unwrap_or_else(|| DATADIR.into()))];
    let mut variables: Variables = pairs.into_iter().collect();
    places(&mut variables, options);
    let others = OTHERS.iter().chain(encryption);
    others.for_each(|name| option(name).into_iter().for_each(|value| variables.set(name, value)));
    variables
}

/// Fails if a server has the file open: InnoDB and Aria lock their files with `fcntl`.
fn stopped(path: &Path) -> Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(Error::io(path.display(), "cannot open", &cause)),
    };
    let lock = fcntl_getlk(&file, &Flock::from(FlockType::ReadLock))
        .map_err(|errno| Error::io(path.display(), "cannot ask for locks", &errno.into()))?;
    let Some(lock) = lock else { return Ok(()) };
    // The kernel does not show the process id of another container's process.
    let who =
        lock.pid.map_or_else(|| "in another container".to_owned(), |pid| format!("process {}", pid.as_raw_nonzero()));
    Err(Error::failed(path.display(), format_args!("a server runs on it ({who})"))
        .hint("leave out --offline, or stop the server"))
}
