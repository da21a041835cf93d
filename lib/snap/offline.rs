//! The copy of a stopped server's data directory.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use jiff::Zoned;
use rustix::process::{Flock, FlockType, fcntl_getlk};

use super::copy::Copier;
use super::finish::{Finish, Snapshot};
use super::known::Known;
use super::manifest::Manifest;
use super::open::system_space;
use super::start::Start;
use super::steps::{Steps, aria_control, begin, readable};
use super::workers::Abort;
use super::{Job, meta};
use crate::error::{Error, Result};
use crate::innodb::space::Tally;
use crate::report::{Level, Report};
use crate::server::Variables;
use crate::server::files::{Layout, undo_files};
use crate::server::flavour::Flavour;
use crate::server::options::Options;
use crate::stream::Writer;
use crate::stream::profile::{BEGIN, begin_bytes};

/// Where distributions keep the data.
const DATADIR: &str = "/var/lib/mysql";
/// Variables that say where files are, with the server's defaults.
const PLACES: [(&str, &str); 5] = [
    ("innodb_data_home_dir", ""),
    ("innodb_data_file_path", "ibdata1:12M:autoextend"),
    ("innodb_undo_directory", "./"),
    ("innodb_log_group_home_dir", "./"),
    ("aria_log_dir_path", "./"),
];
/// Variables that recovery needs and that only option files tell of a stopped server; names and prefixes.
const OTHERS: [&str; 6] = [
    "plugin_load_add",
    "plugin_dir",
    "file_key_management_filename",
    "file_key_management_filekey",
    "file_key_management_encryption_algorithm",
    "lower_case_table_names",
];

/// Bytes of log after a clean shutdown: FILE_CHECKPOINT, with the nonce of an encrypted log.
const CLEAN: u64 = 16 + 8;

/// Copies a stopped server.
pub(super) fn run(job: &Job, output: File, report: &dyn Report) -> Result<()> {
    let (start, began) = (Zoned::now(), Instant::now());
    let mut variables = variables(job, &job.sources.read()?);
    let layout = Layout::of(&variables)?;
    readable(&layout)?;
    let guarded: Vec<PathBuf> = layout.system.iter().cloned().chain([layout.aria.join("aria_log_control")]).collect();
    guarded.iter().try_for_each(|path| stopped(path))?;

    let control = aria_control(&layout)?;
    let log = Start::read(&layout.redo)?;
    let end_lsn = log.end()?;
    if end_lsn > log.checkpoint.end_lsn + CLEAN {
        report.note(
            Level::Warning,
            format_args!(
                "{}: the server was not shut down cleanly; transactions that its binary log would decide stay prepared \
                 in the copy",
                layout.datadir.display()
            ),
        );
    }
    describe(&mut variables, &layout, &log, job)?;
    let flavour = Flavour::of(variables.text("version"))?;
    let known = Known::list(&layout.datadir, &job.filter)?;
    let begin = begin(job, &variables, flavour.name(), &layout, &log, &start, known.bytes)?;
    report.expect(begin.estimated_bytes);

    let out = Writer::new(output);
    out.member(BEGIN, &begin_bytes(&begin))?;
    let (abort, manifest, pages) = (Abort::default(), Manifest::new(&job.spool_dir), Mutex::new(Tally::default()));
    let since = job.base.as_ref().map(|base| base.lsn);
    let copier = Copier { policy: job.policy, report, manifest: &manifest, abort: &abort, pages: &pages, since };
    let steps = Steps { job, layout: &layout, copier, abort: &abort, out: &out };
    report.stage("copying");
    steps.innodb(control.as_deref(), &known)?;
    steps.others(&out, false)?;
    steps.late_files(&out)?;

    guarded.iter().try_for_each(|path| stopped(path))?;
    let now = Start::read(&layout.redo)?;
    if now.header() != log.header() || now.checkpoint != log.checkpoint || now.end()? != end_lsn {
        return Err(Error::invalid(layout.datadir.display(), "a server ran on it while it was copied")
            .hint("run it again, without --offline while the server runs"));
    }
    let options = meta::server_options(&variables, &plugins(&variables));
    let snapshot = Snapshot { end_lsn, ..Snapshot::default() };
    let (copier, checkpoint) = (&steps.copier, log.checkpoint);
    Finish { job, report, variables: &variables, options, begin: &begin, start, began, copier, checkpoint }
        .send(&out, &snapshot)
}

/// What option files and the command line say.
fn variables(job: &Job, options: &Options) -> Variables {
    let option = |name: &str| options.server(&name.replace('_', "-")).map(str::to_owned);
    let datadir = job.datadir.as_ref().map(|dir| dir.display().to_string()).or_else(|| option("datadir"));
    let mut pairs = vec![("datadir".to_owned(), datadir.unwrap_or_else(|| DATADIR.into()))];
    pairs.extend(PLACES.map(|(name, default)| (name.to_owned(), option(name).unwrap_or_else(|| default.into()))));
    pairs.extend(OTHERS.iter().filter_map(|name| Some(((*name).to_owned(), option(name)?))));
    pairs.into_iter().collect()
}

/// What the files themselves say: who wrote the log, how large pages are, how many undo tablespaces there are.
fn describe(variables: &mut Variables, layout: &Layout, log: &Start, job: &Job) -> Result<()> {
    let creator = String::from_utf8_lossy(&log.header().creator).trim_end_matches('\0').to_owned();
    let version = creator.rsplit(' ').next().unwrap_or_default();
    variables.set("version", format!("{version}-MariaDB"));
    if let Some(first) = layout.system.first() {
        let (space, _) = system_space(first, job.policy)?;
        variables.set("innodb_page_size", space.page_size.to_string());
    }
    variables.set("innodb_undo_tablespaces", undo_files(&layout.undo)?.len().to_string());
    Ok(())
}

/// Encryption and compression plugins, from `plugin_load_add`.
fn plugins(variables: &Variables) -> Vec<(String, String)> {
    let list = variables.text("plugin_load_add").split(';').filter(|part| !part.is_empty());
    let library = |part: &str| part.rsplit_once('=').map_or(part, |(_, library)| library).to_owned();
    list.map(library).map(|library| (library.trim_end_matches(".so").to_owned(), library)).collect()
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
    let Some(pid) = held.and_then(|lock| lock.pid) else { return Ok(()) };
    Err(Error::failed(path.display(), format_args!("a server runs on it (process {})", pid.as_raw_nonzero()))
        .hint("leave out --offline, or stop the server"))
}
