//! The steps that a running and a stopped server have in common: what is copied, by kind.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use jiff::Zoned;

use super::copy::{Copier, Outcome, Pages, Part};
use super::known::{Known, with_suffix};
use super::open::system_space;
use super::start::Start;
use super::workers::{Abort, Buffers, each};
use super::{Job, LockDdl};
use crate::error::{Error, Result};
use crate::server::Variables;
use crate::server::files::{self, Layout, SYSTEM_DATABASE, Tablespace};
use crate::stream::Writer;
use crate::stream::profile::{Begin, EntryKind, FORMAT, Redo, StreamKind};

/// Aria's recovery begins where this says, so it is read before any Aria table (spec section 17).
const ARIA_CONTROL: &str = "aria_log_control";

/// What the steps share.
pub(super) struct Steps<'a> {
    pub(super) job: &'a Job,
    pub(super) layout: &'a Layout,
    pub(super) copier: Copier<'a>,
    pub(super) abort: &'a Abort,
    pub(super) out: &'a Writer<File>,
}

/// The Aria control file; `None` if there is none.
pub(super) fn aria_control(layout: &Layout) -> Result<Option<Vec<u8>>> {
    optional(&layout.aria.join(ARIA_CONTROL))
}

/// A small file that need not be there.
pub(super) fn optional(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(Error::io(path.display(), "cannot read", &cause)),
    }
}

/// Fails early, and says what to do, if the files of the server are not here or not ours to read.
pub(super) fn readable(layout: &Layout) -> Result<()> {
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

/// `xb_begin`.
pub(super) fn begin(
    variables: &Variables,
    flavour: &str,
    layout: &Layout,
    log: &Start,
    start: &Zoned,
    tables: u64,
) -> Result<Begin> {
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
        flavour: Some(flavour.into()),
        server_version: variables.get("version").map(str::to_owned),
        server_uuid: variables.get("server_uid").map(str::to_owned),
        datadir: Some(layout.datadir.display().to_string()),
        redo: Some(Redo {
            format: log.format_name().into(),
            dir: layout.redo.display().to_string(),
            checkpoint_lsn: log.checkpoint.lsn,
            checkpoint_end_lsn: Some(log.checkpoint.end_lsn),
            log_uuid: None,
        }),
        base: None,
    })
}

impl Steps<'_> {
    /// InnoDB, after the Aria control file.
    pub(super) fn innodb(&self, control: Option<&[u8]>, known: &Known) -> Result<()> {
        if let Some(control) = control {
            self.copier.made(self.out, ARIA_CONTROL.as_bytes(), EntryKind::File, control)?;
        }
        self.system()?;
        self.tables(known)
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
    pub(super) fn tables(&self, known: &Known) -> Result<()> {
        each(self.job.threads, self.abort, known.tables().iter().map(Ok), |buffers, table| {
            let path = table.path(&self.layout.datadir);
            let file = Pages {
                name: &table.name,
                path: &path,
                elsewhere: table.is_elsewhere(),
                part: None,
                // There is a second look at the end only where DDL goes on.
                unwritten: self.job.offline || self.job.lock_ddl == LockDdl::Early,
            };
            table.set(self.copier.tablespace(self.out, buffers, file)?);
            Ok(())
        })
    }

    /// Tablespaces under the name `.new`, for their own may be in the stream.
    pub(super) fn again<'t, W: Write + Send>(
        &self,
        out: &Writer<W>,
        tables: impl Iterator<Item = &'t Tablespace> + Send,
    ) -> Result<()> {
        each(self.job.threads, self.abort, tables.map(Ok), |buffers, found| {
            let name = with_suffix(&found.name, b".new");
            let below = || files::path_of(&self.layout.datadir, &found.name);
            let path = found.elsewhere.clone().unwrap_or_else(below);
            let elsewhere = found.elsewhere.is_some();
            let file = Pages { name: &name, path: &path, elsewhere, part: None, unwritten: true };
            self.copier.tablespace(out, buffers, file).map(drop)
        })
    }

    /// Files that are not InnoDB's: of all databases but the system's, or of that one.
    pub(super) fn others<W: Write + Send>(&self, out: &Writer<W>, system: bool) -> Result<()> {
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
                let kind = EntryKind::File;
                self.copier.made(out, &name, kind, b"")?;
            }
            Ok(())
        })
    }

    /// What is written until commits are blocked: the system's tables, then the Aria log.
    pub(super) fn late_files<W: Write + Send>(&self, out: &Writer<W>) -> Result<()> {
        self.others(out, true)?;
        let mut buffers = Buffers::new();
        for name in files::aria_logs(&self.layout.aria)? {
            self.copier.file(out, &mut buffers, &name, &files::path_of(&self.layout.aria, &name))?;
        }
        Ok(())
    }
}

fn base_name(path: &Path) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    path.file_name().unwrap_or_default().as_bytes().to_vec()
}
