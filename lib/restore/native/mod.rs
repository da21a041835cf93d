//! Applies the redo log of a MariaDB backup without a server. Source: `facts/mariadb-hot-backup#native-apply`.
//!
//! 1. [`survey`] reads the whole log once: it checks every record, and notes which pages are void before which point,
//!    which tablespaces were created, deleted or cut, and the names of files.
//! 2. [`tablespaces`] finds the files; those of which only the log knows are created.
//! 3. [`batch`] reads the log again, collects records by page as far as the memory goes, and applies them: each page is
//!    read at most once per batch, checked, changed, stamped, and written in the order of the files.
//! 4. Files get the size that their page 0 says. Then everything is synced, and an empty log replaces the old one.
//!
//! Rolling back what was not committed is left to the server that is started on the directory, as mariadb-backup does.
//!
//! A run can be killed at any point. Until the log is replaced, another run applies it again, and skips what a page has
//! according to its LSN. A page that was being written may be torn; [`images`] has it as a whole.
//!
//! What is not understood is refused, and the log stays as it is.

mod batch;
mod images;
mod page;
mod position;
mod survey;
mod tablespaces;

use std::fs;
use std::path::Path;

use self::batch::Batches;
use self::images::Images;
use self::survey::Survey;
use self::tablespaces::Tablespaces;
use super::files;
use crate::error::{Error, Result};
use crate::innodb::Lsn;
use crate::innodb::redo::mariadb;
use crate::innodb::redo::mariadb::records::PageId;
use crate::log::captured::mariadb::Captured;
use crate::report::{Level, Report};
use crate::stream::native::names::BINLOG_POSITION;

/// The parameters of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run<'a> {
    /// The directory, laid out.
    pub(super) dir: &'a Path,
    /// Where the log ends.
    pub(super) end_lsn: Lsn,
    /// How many bytes records and pages may take.
    pub(super) memory: u64,
    /// Number of threads.
    pub(super) threads: usize,
    /// The files of the system tablespace, in order.
    pub(super) system: &'a [String],
}

/// True if the log of this directory has been applied, and replaced by an empty one.
pub(super) fn is_done(dir: &Path, end: Lsn) -> Result<bool> {
    Ok(Captured::open(dir)?.is_empty_at(end))
}

/// Writes the pages again that an interrupted run may have torn.
pub(super) fn mend(dir: &Path) -> Result<()> {
    images::mend(dir)
}

/// Applies the log.
///
/// # Errors
///
/// - Damaged: a record or page is not what a server can have written.
/// - Failed: it is, and needs a server (encryption, for instance); or the system refused something.
pub(super) fn run(run: &Run<'_>, report: &dyn Report) -> Result<()> {
    let captured = Captured::open(run.dir)?;
    if captured.encrypted() {
        return Err(needs_server(run.dir, "its redo log is encrypted"));
    }
    images::mend(run.dir)?;
    report.stage("reading the log");
    let survey = Survey::of(&captured, run.end_lsn)?;
    let counts: Vec<String> = survey.counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    report.note(Level::Detail, format_args!("{}: records: {}", captured.path().display(), counts.join(", ")));
    let mut spaces = Tablespaces::open(run.dir, run.system)?;
    spaces.agree(&survey)?;
    let log = captured.bytes(run.end_lsn)?;
    spaces.create(&survey, &log)?;
    spaces.cut(&survey)?;
    report.stage("applying");
    report.expect(run.end_lsn.since(captured.start_lsn()));
    let mut images = Images::create(run.dir)?;
    let mut batches = Batches::new(run, &captured, &log, &survey, &spaces, &mut images, report);
    captured.walk(|at, mtr| batches.add(at, mtr))?;
    let pages = batches.finish()?;
    spaces.release(&survey)?;
    spaces.resize(&survey)?;
    if let Some(position) = position::of(&spaces)? {
        files::replace(run.dir, BINLOG_POSITION, &position)?;
    }
    files::sync(run.dir)?;
    files::replace(run.dir, mariadb::FILE, &captured.empty(run.end_lsn))?;
    images.remove()?;
    let what = format_args!("{pages} pages written");
    report.note(Level::Info, format_args!("{}: {what}", run.dir.display()));
    Ok(())
}

/// Of a backup that can be applied, but not here.
fn needs_server(place: &Path, what: impl std::fmt::Display) -> Error {
    Error::failed(place.display(), what).hint("apply it with a server, without --native")
}

/// Of a page or record that no server can have written, as far as is known.
fn damaged(path: &Path, page: PageId, lsn: Lsn, what: impl std::fmt::Display) -> Error {
    Error::damaged(path.display(), format_args!("{page}, log at lsn {lsn}: {what}"))
        .hint("unpack the backup again, and apply it with a server, without --native")
}

/// The length of a file.
fn len(path: &Path) -> Result<u64> {
    fs::metadata(path).map(|data| data.len()).map_err(|cause| files::fail(path, "cannot read", &cause))
}
