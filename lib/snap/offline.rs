//! The copy of a stopped server's data directory: what both families have in common. What each does in its own way is a
//! [`Stopped`].

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

use jiff::Zoned;
use rustix::process::{Flock, FlockType, fcntl_getlk};

use super::catalog::Catalog;
use super::copy::Records;
use super::fileset;
use super::finish::{Finish, Snapshot};
use super::meta::Members;
use super::open::system_space;
use super::steps::{Found, Steps, begin, readable, tell_specials};
use super::view::View;
use super::{Job, mariadb, mysql};
use crate::error::{Error, Result};
use crate::innodb::ids::Lsn;
use crate::innodb::redo::mysql::DIR;
use crate::metadata::Facts;
use crate::report::{Level, Report};
use crate::server::Release;
use crate::server::Variables;
use crate::server::files::{Layout, Tablespace};
use crate::server::options::Options;
use crate::stream::Writer;
use crate::stream::native::{BEGIN, begin_bytes};

/// Where distributions keep the data.
const DATADIR: &str = "/var/lib/mysql";
/// Variables that say where files are, with the server's defaults.
const PLACES: [(&str, &str); 6] = [
    ("innodb_data_home_dir", ""),
    ("innodb_data_file_path", "ibdata1:12M:autoextend"),
    ("innodb_undo_directory", "./"),
    ("innodb_log_group_home_dir", "./"),
    ("aria_log_dir_path", "./"),
    ("innodb_directories", ""),
];
/// Variables that recovery needs and that only option files tell of a stopped server, beside those of encryption.
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

/// The data directory of a server of one family.
pub(super) trait Stopped {
    /// Where it keeps what.
    fn layout(&self) -> &Layout;
    /// Files that a running server keeps locked.
    fn guarded(&self) -> Vec<PathBuf>;
    /// The redo log as it is now.
    fn log(&self) -> Result<Log>;
    /// Version, as the server would tell it.
    fn version(&self) -> Result<String>;
    /// The checkpoint LSN, then what there is to copy.
    fn look(&mut self) -> Result<Found>;
    /// Copies everything.
    fn copy(&self, steps: &Steps<'_>, undo: &[Tablespace], catalog: &Catalog) -> Result<()>;
    /// Copies, after a crash, what decides about transactions that are only prepared; false if that is not to be had.
    fn binlog(&self, _: &Steps<'_>) -> Result<bool> {
        Ok(false)
    }
    /// Options that recovery needs, for the manifest.
    fn options(&self, variables: &Variables) -> BTreeMap<String, String>;
    /// Members that describe the backup.
    fn members(
        &self,
        variables: &Variables,
        options: &BTreeMap<String, String>,
        facts: &Facts,
        snapshot: &Snapshot,
    ) -> Members;
}

/// A redo log that nobody writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Log {
    /// Which log this is.
    pub(super) identity: Vec<u8>,
    /// The newest checkpoint.
    pub(super) checkpoint_lsn: Lsn,
    /// Where it ends.
    pub(super) end_lsn: Lsn,
    /// Nothing but the checkpoint itself is to be recovered.
    pub(super) clean: bool,
}

/// Copies a stopped server.
pub(super) fn run(job: &Job, output: File, report: &dyn Report) -> Result<()> {
    let (start, began) = (Zoned::now(), Instant::now());
    let mut variables = variables(job, &job.sources.read(report)?);
    let layout = Layout::of(&variables)?;
    let mut server: Box<dyn Stopped> = match layout.redo.join(DIR).is_dir() {
        true => Box::new(mysql::Stopped::new(job, &mut variables, layout)?),
        false => Box::new(mariadb::Stopped::new(job, &mut variables, layout)?),
    };
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
    Finish { job, report, options: &options, begin: &begin, start, began, copier: &steps.copier }.send(
        &out,
        &snapshot,
        |facts| server.members(&variables, &options, facts, &snapshot),
    )
}

/// What option files and the command line say.
fn variables(job: &Job, options: &Options) -> Variables {
    let option = |name: &str| options.server(&name.replace('_', "-")).map(str::to_owned);
    let datadir = job.datadir.as_ref().map(|dir| dir.display().to_string()).or_else(|| option("datadir"));
    let pairs = [("datadir".to_owned(), datadir.unwrap_or_else(|| DATADIR.into()))];
    let mut variables: Variables = pairs.into_iter().collect();
    places(&mut variables, options);
    let others = OTHERS.iter().chain(&mariadb::ENCRYPTION).chain(&mysql::ENCRYPTION);
    others.for_each(|name| option(name).into_iter().for_each(|value| variables.set(name, value)));
    variables
}

/// Where files are that no server tells of: what option files say, or the server's defaults.
pub(super) fn places(variables: &mut Variables, options: &Options) {
    for (name, default) in PLACES {
        if variables.get(name).is_none() {
            let named = options.server(&name.replace('_', "-"));
            variables.set(name, named.unwrap_or(default).to_owned());
        }
    }
}

/// Fails if a server has the file open: InnoDB and Aria lock theirs with `fcntl`.
fn stopped(path: &Path) -> Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(Error::io(path.display(), "cannot open", &cause)),
    };
    let held = fcntl_getlk(&file, &Flock::from(FlockType::ReadLock))
        .map_err(|errno| Error::io(path.display(), "cannot ask for locks", &errno.into()))?;
    let Some(held) = held else { return Ok(()) };
    // The kernel does not name processes of other containers.
    let who =
        held.pid.map_or_else(|| "in another container".to_owned(), |pid| format!("process {}", pid.as_raw_nonzero()));
    Err(Error::failed(path.display(), format_args!("a server runs on it ({who})"))
        .hint("leave out --offline, or stop the server"))
}
