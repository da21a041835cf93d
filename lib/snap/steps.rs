//! The steps that running and stopped servers have in common: what is copied, by kind.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use bstr::ByteSlice;
use jiff::Zoned;

use super::Job;
use super::base::Base;
use super::catalog::Catalog;
use super::copy::{Copier, Listed, Outcome, Pages};
use super::open::{self, Head, Part, system_space};
use super::unique_names;
use super::workers::{Haste, each};
use crate::codec::pool::FirstError;
use crate::error::{Error, Result};
use crate::innodb::ids::PageNo;
use crate::report::{Level, Report};
use crate::server::Family;
use crate::server::Variables;
use crate::server::files::{self, Layout, Tablespace};
use crate::stream::Writer;
use crate::stream::native::names::{AGAIN, DROPPED, marker};
use crate::stream::native::{self, Begin, EntryKind, FORMAT, Redo, StreamKind};

/// What is to be copied, listed after the checkpoint LSN was read.
pub(super) struct Found {
    /// The redo log, with the checkpoint LSN; `None`: the server has no InnoDB.
    pub(super) redo: Option<Redo>,
    /// The server's UUID.
    pub(super) server_uuid: Option<String>,
    /// Undo tablespaces.
    pub(super) undo: Vec<Tablespace>,
    /// All tablespaces but undo and the system tablespace.
    pub(super) catalog: Catalog,
    /// The identities of the files, if they are needed.
    pub(super) listed: Option<Listed>,
}

/// What all steps need.
pub(super) struct Steps<'a> {
    pub(super) job: &'a Job,
    pub(super) layout: &'a Layout,
    pub(super) copier: Copier<'a>,
    pub(super) abort: &'a FirstError,
    pub(super) out: &'a Writer<File>,
}

/// Reads a file that need not exist; a DDL log may be long.
pub(super) fn optional(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(Error::io(path.display(), "cannot read", &cause)),
    }
}

/// Fails early, with a hint, if the server's files are not here or cannot be read.
pub(super) fn readable(layout: &Layout) -> Result<()> {
    let hint = |cause: &std::io::Error| match cause.kind() {
        std::io::ErrorKind::PermissionDenied => "run xb-snap as the server's user, or as root",
        _ => "xb-snap must run on the server's host; --datadir is the path of its data directory on this host",
    };
    let fail = |path: &Path, cause: std::io::Error| Error::io(path.display(), "cannot read", &cause).hint(hint(&cause));
    std::fs::read_dir(&layout.datadir).map_err(|cause| fail(&layout.datadir, cause))?;
    for path in &layout.system {
        File::open(path).map_err(|cause| fail(path, cause))?;
    }
    Ok(())
}

/// Warns of entries in the directories of databases that are not files.
pub(super) fn tell_specials(layout: &Layout, report: &dyn Report) -> Result<()> {
    for path in layout.ignored.iter().map(|name| layout.datadir.join(name)).filter(|path| path.is_dir()) {
        let what = "left out: it is among the server's ignore_db_dirs";
        report.note(Level::Warning, format_args!("{}: {what}", path.display()));
    }
    for path in files::backups(&layout.datadir)? {
        report.note(Level::Warning, format_args!("{}: left out: it is a backup, not a database", path.display()));
    }
    for path in files::specials(&layout.datadir)? {
        let what = "left out: it is a pipe, a socket or a device, and not a file";
        report.note(Level::Warning, format_args!("{}: {what}", path.display()));
    }
    Ok(())
}

/// `xb_begin`.
pub(super) fn begin(
    job: &Job,
    variables: &Variables,
    family: Family,
    layout: &Layout,
    found: &Found,
    start: &Zoned,
    report: &dyn Report,
) -> Result<Begin> {
    unique_names::check(job, layout, found, report)?;
    if let Some(base) = &job.base {
        let Some(redo) = &found.redo else {
            return Err(Error::failed("server", "has no InnoDB, which increments need").hint("take a full backup"));
        };
        base.check_pages(variables.number("innodb_page_size")?)?;
        base.check(family, found.server_uuid.as_deref(), redo, &job.filter)?;
        base.warn(report);
    }
    let system = layout.system.iter().filter_map(|path| Some(path.metadata().ok()?.len()));
    let sizes = system.chain(found.undo.iter().map(|space| space.size)).chain([found.catalog.bytes]);
    Ok(Begin {
        format: FORMAT,
        kind: if job.base.is_some() { StreamKind::Incremental } else { StreamKind::Full },
        backup_id: native::backup_id()?,
        start_time: start.timestamp().to_string(),
        program: concat!("xb-snap ", env!("CARGO_PKG_VERSION")).into(),
        estimated_bytes: sizes.fold(0, u64::saturating_add),
        family: Some(family),
        server_version: variables.get("version").map(str::to_owned),
        server_uuid: found.server_uuid.clone(),
        datadir: Some(layout.datadir.display().to_string()),
        redo: found.redo.clone(),
        without_innodb: found.redo.is_none(),
        filter: job.filter.identity(),
        base: job.base.as_ref().map(Base::profile),
    })
}

impl Steps<'_> {
    /// Copies the system tablespace and the undo tablespaces.
    pub(super) fn system(&self, undo: &[Tablespace]) -> Result<()> {
        self.several(self.out, self.copier, b"", Haste::Behind, undo)
    }

    /// Copies the system tablespace once more, whole, as `.new`.
    pub(super) fn system_again<W: Write + Send>(&self, out: &Writer<W>) -> Result<()> {
        self.several(out, Copier { since: None, ..self.copier }, AGAIN, Haste::Urgent, &[])
    }

    fn several<W: Write + Send>(
        &self,
        out: &Writer<W>,
        copier: Copier<'_>,
        ending: &[u8],
        haste: Haste,
        undo: &[Tablespace],
    ) -> Result<()> {
        let first = match self.layout.system.first() {
            Some(first) => first,
            None if undo.is_empty() => return Ok(()),
            None => return Err(Error::internal("undo tablespaces without a system tablespace")),
        };
        let (space, doublewrite) = system_space(first, self.job.policy)?;
        let mut number = PageNo::new(0);
        let mut jobs = Vec::new();
        for (path, name) in self.layout.system.iter().zip(self.layout.system_names()) {
            let part = Part { space: &space, first: number, doublewrite: doublewrite.as_ref() };
            let external = path.parent() != Some(&self.layout.datadir);
            jobs.push((marker(&name, ending), path.clone(), external, Some(part)));
            let size = path.metadata().map_err(|cause| Error::io(path.display(), "cannot look at", &cause))?.len();
            let pages = u32::try_from(space.page_size.pages_in(size)).ok();
            number = pages
                .and_then(|pages| number.checked_add(pages))
                .ok_or_else(|| Error::failed(path.display(), "has more pages than a system tablespace can have"))?;
        }
        for space in undo {
            jobs.push((space.name.clone(), self.path(space), space.external.is_some(), None));
        }
        let jobs = jobs.into_iter().map(Ok);
        each(self.job.threads, haste, self.abort, jobs, |buffers, (name, path, external, part)| {
            let file = Pages { name: &name, path: &path, external, part, unwritten: true, dictionary: None };
            match copier.tablespace(out, buffers, file)? {
                Outcome::Gone => Err(Error::failed(path.display(), "was removed before it could be copied")),
                _ => Ok(()),
            }
        })
    }

    /// Copies the tablespaces of the catalog. `unwritten`: also those whose page 0 is not initialized, because there is
    /// no later pass.
    pub(super) fn tables(&self, catalog: &Catalog, unwritten: bool) -> Result<()> {
        each(self.job.threads, Haste::Behind, self.abort, catalog.tables().iter().map(Ok), |buffers, table| {
            let path = table.path(&self.layout.datadir);
            let external = table.is_external();
            let dictionary = catalog.dictionary.as_ref();
            let file = Pages { name: &table.name, path: &path, external, part: None, unwritten, dictionary };
            table.set(self.copier.tablespace(self.out, buffers, file)?);
            Ok(())
        })
    }

    /// Copies tablespaces again under the name `.new`, because their own name may be in the stream; whole, because the
    /// stock tools expect it so in an increment (`facts/mariadb-hot-backup#stock-prepare`). `gone` decides what it
    /// means if a file no longer exists.
    pub(super) fn again<'t, W: Write + Send>(
        &self,
        out: &Writer<W>,
        tables: impl Iterator<Item = &'t Tablespace> + Send,
        gone: impl Fn(&Tablespace) -> Result<()> + Sync,
    ) -> Result<()> {
        let copier = Copier { since: None, ..self.copier };
        each(self.job.threads, Haste::Urgent, self.abort, tables.map(Ok), |buffers, found| {
            let name = marker(&found.name, AGAIN);
            let path = self.path(found);
            let external = found.external.is_some();
            let file = Pages { name: &name, path: &path, external, part: None, unwritten: true, dictionary: None };
            match copier.tablespace(out, buffers, file)? {
                Outcome::Gone => gone(found),
                _ => Ok(()),
            }
        })
    }

    /// Writes members that say that tablespaces were dropped.
    pub(super) fn dropped<W: Write>(&self, out: &Writer<W>, names: &[Vec<u8>]) -> Result<()> {
        for name in names {
            self.copier.report.note(Level::Detail, format_args!("{}: dropped during the copy", name.as_bstr()));
            self.copier.made(out, &marker(name, DROPPED), EntryKind::File, b"")?;
        }
        Ok(())
    }

    /// Reads page 0 of tablespaces that still exist; sorted by name.
    pub(super) fn heads(&self, files: Vec<Tablespace>) -> Result<Vec<(Tablespace, Head)>> {
        let heads = Mutex::new(Vec::new());
        each(self.job.threads, Haste::Urgent, self.abort, files.into_iter().map(Ok), |buffers, found| {
            if let Some(head) = open::head(&self.path(&found), self.job.policy, &mut buffers.again)? {
                heads.lock().unwrap_or_else(PoisonError::into_inner).push((found, head));
            }
            Ok(())
        })?;
        let mut heads = heads.into_inner().unwrap_or_else(PoisonError::into_inner);
        heads.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        Ok(heads)
    }

    /// Copies the wanted other files as they are, by their names in the stream.
    pub(super) fn files<W: Write + Send>(
        &self,
        out: &Writer<W>,
        names: impl Iterator<Item = Result<Vec<u8>>> + Send,
    ) -> Result<()> {
        each(self.job.threads, Haste::Urgent, self.abort, names, |buffers, name| {
            let path = files::path_of(&self.layout.datadir, &name);
            if !self.job.filter.wants_file(&name, &path)? {
                return Ok(());
            }
            if !self.copier.file(out, buffers, &name, &path)? && name.ends_with(b"/db.opt") {
                // It stands for an empty directory.
                self.copier.made(out, &name, EntryKind::File, b"")?;
            }
            Ok(())
        })
    }

    fn path(&self, space: &Tablespace) -> std::path::PathBuf {
        let below = || files::path_of(&self.layout.datadir, &space.name);
        space.external.clone().unwrap_or_else(below)
    }
}
