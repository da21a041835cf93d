//! The data directory of a stopped MariaDB server.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bstr::ByteSlice;

use super::{ARIA_CONTROL, AriaLog, Start, engines, guarded, innodb, late_files, meta, others, switched_off, undo};
use crate::error::{Error, Result};
use crate::innodb::ids::Lsn;
use crate::innodb::redo;
use crate::io;
use crate::metadata::Facts;
use crate::server::Variables;
use crate::server::files::{Layout, Tablespace};
use crate::server::mariadb::binlogs::Binlogs;
use crate::snap::Job;
use crate::snap::catalog::Catalog;
use crate::snap::filter::Filter;
use crate::snap::finish::Snapshot;
use crate::snap::meta::Members;
use crate::snap::steps::{Found, Steps};
use crate::snap::stopped::{self, Log};
use crate::snap::workers::Buffers;
use crate::stream::native::EntryKind;

/// Bytes of log after a clean shutdown: FILE_CHECKPOINT, with the nonce of an encrypted log.
const CLEAN: u64 = 16 + 8;

/// See [`stopped::Stopped`].
pub(in crate::snap) struct Stopped<'a> {
    job: &'a Job,
    layout: Layout,
    aria: AriaLog,
    /// The binary logs, which decide about prepared transactions.
    binlogs: Option<Binlogs>,
}

impl<'a> Stopped<'a> {
    pub(in crate::snap) fn new(job: &'a Job, variables: &mut Variables, layout: Layout) -> Result<Self> {
        let layout = switched_off::files(layout, variables)?;
        let binlogs = Binlogs::find(variables, &layout.datadir)?;
        Ok(Stopped { job, layout, aria: AriaLog::of(variables), binlogs })
    }
}

impl stopped::Stopped for Stopped<'_> {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn guarded(&self) -> Vec<PathBuf> {
        guarded(&self.layout, &self.aria)
    }

    fn log(&self) -> Result<Log> {
        if self.layout.system.is_empty() {
            // Aria's control file shows whether a server ran. What Aria has to recover is in its own log.
            let identity = io::small(&self.aria.dir.join(ARIA_CONTROL))?.unwrap_or_default();
            return Ok(Log { identity, checkpoint_lsn: Lsn::ZERO, end_lsn: Lsn::ZERO, clean: true });
        }
        log(&self.layout.redo)
    }

    fn version(&self) -> Result<String> {
        if self.layout.system.is_empty() {
            return switched_off::version(&self.layout.datadir);
        }
        let start = Start::read(&self.layout.redo)?;
        match start.header().creator.starts_with(b"Backup ") {
            true => restored(&self.layout.datadir),
            false => Ok(format!("{}-MariaDB", redo::version(&start.header().creator))),
        }
    }

    fn look(&mut self) -> Result<Found> {
        engines::on_disk(&self.layout.datadir)?;
        self.aria.read_control()?;
        found(&self.layout, &self.job.filter)
    }

    fn copy(&self, steps: &Steps<'_>, undo: &[Tablespace], catalog: &Catalog) -> Result<()> {
        innodb(steps, &self.aria, undo, catalog, true)?;
        others(steps, steps.out, false)?;
        late_files(steps, steps.out, &self.aria)
    }

    fn binlog(&self, steps: &Steps<'_>) -> Result<bool> {
        let Some(Binlogs { base, files }) = &self.binlogs else { return Ok(false) };
        let mut index = Vec::new();
        for path in files {
            let name = path.file_name().unwrap_or_default().as_bytes();
            let size = path.metadata().map_err(|cause| Error::io(path.display(), "cannot read", &cause))?.len();
            steps.copier.beginning(steps.out, &mut Buffers::new(), name, path, size)?;
            index.extend([b"./", name, b"\n"].concat());
        }
        steps.copier.made(steps.out, format!("{base}.index").as_bytes(), EntryKind::File, &index)?;
        Ok(true)
    }

    fn options(&self, variables: &Variables) -> BTreeMap<String, String> {
        let mut options = meta::server_options(variables, &plugins(variables));
        options.extend(self.binlogs.as_ref().map(|binlogs| ("log_bin".to_owned(), binlogs.base.clone())));
        options
    }

    fn members(
        &self,
        variables: &Variables,
        options: &BTreeMap<String, String>,
        facts: &Facts,
        snapshot: &Snapshot,
    ) -> Members {
        meta::members(variables, options, facts, snapshot)
    }
}

/// InnoDB's log in this directory, which no server writes.
pub(super) fn log(dir: &Path) -> Result<Log> {
    let start = Start::read(dir)?;
    let end_lsn = start.end()?;
    Ok(Log {
        identity: start.header().block().to_vec(),
        checkpoint_lsn: start.checkpoint.lsn,
        end_lsn,
        clean: end_lsn <= start.checkpoint.end_lsn.saturating_add(CLEAN),
    })
}

/// InnoDB's files, which no server writes.
pub(super) fn found(layout: &Layout, filter: &Filter) -> Result<Found> {
    if layout.system.is_empty() {
        return Ok(Found {
            redo: None,
            server_uuid: None,
            undo: Vec::new(),
            catalog: Catalog::default(),
            listed: None,
        });
    }
    let redo = Some(Start::read(&layout.redo)?.redo());
    let catalog = Catalog::list(&layout.datadir, filter, None)?;
    Ok(Found { redo, server_uuid: None, undo: undo(layout)?, catalog, listed: None })
}

/// The server version of a log that a backup program wrote and no server has changed since: the metadata beside it was
/// restored with it.
fn restored(datadir: &Path) -> Result<String> {
    for name in ["mariadb_backup_info", "xtrabackup_info"] {
        let text = io::small(&datadir.join(name))?.unwrap_or_default();
        let version = text.lines().find_map(|line| line.strip_prefix(b"server_version = "));
        if let Some(version) = version.filter(|version| version.contains_str("MariaDB")) {
            return Ok(version.trim().to_str_lossy().into_owned());
        }
    }
    Err(Error::failed(datadir.display(), "is a restored backup, and does not say which server it was made of")
        .hint("let the server start and stop on it first, or copy the backup itself"))
}

/// Encryption and compression plugins, from `plugin_load_add`.
fn plugins(variables: &Variables) -> Vec<(String, String)> {
    let list = variables.text("plugin_load_add").split(';').filter(|part| !part.is_empty());
    let library = |part: &str| part.rsplit_once('=').map_or(part, |(_, library)| library).to_owned();
    list.map(library).map(|library| (library.trim_end_matches(".so").to_owned(), library)).collect()
}
