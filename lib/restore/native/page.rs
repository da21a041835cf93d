//! Brings one page to the end of a batch.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::survey::{Run, Survey};
use super::tablespaces::Tablespace;
use super::{damaged, needs_server};
use crate::bytes::Part as _;
use crate::error::{Error, Result};
use crate::innodb::page::Content;
use crate::innodb::redo::mariadb::apply::{Misfit, Target};
use crate::innodb::redo::mariadb::records::{Body, Records};
use crate::innodb::{Lsn, PageNo, page};
use crate::restore::files::fail;

/// The file that was used last, open.
#[derive(Debug, Default)]
pub(super) struct Last(Option<(PathBuf, File)>);

impl Last {
    /// Opens a file, or has it open.
    pub(super) fn open(&mut self, path: &Path) -> Result<&File> {
        if self.0.as_ref().is_none_or(|(last, _)| last != path) {
            let file = OpenOptions::new().read(true).write(true).open(path);
            self.0 = Some((path.to_owned(), file.map_err(|cause| fail(path, "cannot open", &cause))?));
        }
        self.0.as_ref().map(|(_, file)| file).ok_or_else(|| Error::internal("a file that is not open"))
    }
}

/// A page as it is to be written.
#[derive(Debug)]
pub(super) struct Image {
    /// The file.
    pub(super) path: PathBuf,
    /// Where in the file.
    pub(super) at: u64,
    /// What is stored.
    pub(super) bytes: Vec<u8>,
    /// How many bytes of the page follow that are not used.
    pub(super) unused: usize,
    /// If it is torn when it is written, the log does not bring it back.
    pub(super) precious: bool,
}

/// Applies runs of one page, in order, none of which is void. `None` if the page has all of them.
pub(super) fn bring(
    here: &Tablespace,
    runs: &[Run],
    survey: &Survey,
    log: &[u8],
    end: Lsn,
    last: &mut Last,
) -> Result<Option<Image>> {
    let Some(first) = runs.first() else { return Ok(None) };
    let (id, number) = (first.page, first.page.number);
    let fault = |run: &Run, what: &dyn std::fmt::Display| damaged(here.path(), id, run.start_lsn, what);
    let (path, at) = here.place(number)?;
    let void = survey.voids.get(&id);
    let inits = void.is_some_and(|void| void.at == first.at && !void.freed);
    if void.is_some_and(|void| void.freed && void.at <= first.at) {
        return Err(fault(first, &Misfit::Void));
    }
    let mut bytes = vec![0; here.space.page_size.bytes()];
    let page_lsn = if inits {
        Lsn::ZERO
    } else {
        read(last.open(path)?, &mut bytes, at).map_err(|cause| fail(path, "cannot read", &cause))?;
        plain(here, number, &mut bytes, |what| fault(first, what))?;
        page::lsn(&bytes).ok_or_else(|| Error::internal("a page without a header"))?
    };
    if page_lsn > end {
        return Err(fault(first, &format_args!("the page is of lsn {page_lsn}, after the end of the backup at {end}")));
    }
    let mut target = Target::new(&mut bytes, id, here.space.zip_size().is_some());
    let (mut skipped, mut applied) = (None, None);
    for run in runs {
        if run.start_lsn < page_lsn {
            skipped = Some(run);
            continue;
        }
        let from = usize::try_from(run.at).unwrap_or(usize::MAX);
        for record in Records::of(log.part(from..from.saturating_add(run.len as usize))?) {
            let record = record.map_err(|what| fault(run, &what))?;
            let Body::Page(_, op) = record.body else { continue };
            target.apply(&op).map_err(|misfit| {
                let name = op.name();
                fault(run, &format_args!("{name}: {misfit}"))
            })?;
        }
        applied = Some(run.end_lsn);
    }
    // The page was written by a mini-transaction that the log has.
    if let Some(run) = skipped.filter(|run| run.end_lsn != page_lsn && applied.is_some()) {
        let what =
            format_args!("the page is of lsn {page_lsn}, and the last record before that ends at {}", run.end_lsn);
        return Err(fault(run, &what));
    }
    let Some(lsn) = applied else { return Ok(None) };
    here.space.stamp(number, &mut bytes, lsn)?;
    let whole = bytes.len();
    if let Some(short) = here.space.squeezed(&bytes) {
        bytes = short;
    }
    let precious = !inits || number == PageNo::new(0);
    let unused = whole - bytes.len();
    Ok(Some(Image { path: path.to_owned(), at, bytes, unused, precious }))
}

/// A page as it is in its file, checked.
pub(super) fn whole(here: &Tablespace, number: PageNo, last: &mut Last) -> Result<Vec<u8>> {
    let (path, at) = here.place(number)?;
    let mut bytes = vec![0; here.space.page_size.bytes()];
    read(last.open(path)?, &mut bytes, at).map_err(|cause| fail(path, "cannot read", &cause))?;
    let fault = |what: &dyn std::fmt::Display| Error::damaged(path.display(), format_args!("page {number}: {what}"));
    plain(here, number, &mut bytes, fault)?;
    Ok(bytes)
}

/// Checks a page from a file, and decompresses it.
fn plain(
    here: &Tablespace,
    number: PageNo,
    bytes: &mut Vec<u8>,
    fault: impl Fn(&dyn std::fmt::Display) -> Error,
) -> Result<()> {
    match here.space.check(number, bytes).map_err(|what| fault(&what))? {
        Content::Zero => return Err(fault(&"the page in the file is empty")),
        Content::Encrypted => return Err(needs_server(here.path(), "is encrypted")),
        Content::Verified | Content::Unverified => {}
    }
    if here.space.is_encrypted(number, bytes) {
        return Err(needs_server(here.path(), "is encrypted"));
    }
    if let Some(page) = here.space.unsqueezed(bytes).map_err(|what| fault(&what))? {
        *bytes = page;
    }
    Ok(())
}

/// Reads a page; what is beyond the end of the file is zero.
fn read(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, at + done as u64) {
            Ok(0) => break,
            Ok(more) => done += more,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(())
}
