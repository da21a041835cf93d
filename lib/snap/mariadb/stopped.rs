//! The data directory of a MariaDB server that does not run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bstr::ByteSlice;

use super::{ARIA_CONTROL, AriaLog, Start, engines, innodb, late_files, meta, others, undo};
use crate::error::{Error, Result};
use crate::innodb::redo;
use crate::io;
use crate::server::Variables;
use crate::server::files::{Layout, Tablespace};
use crate::snap::Job;
use crate::snap::finish::Snapshot;
use crate::snap::known::Known;
use crate::snap::meta::{Facts, Members};
use crate::snap::offline::{self, Log};
use crate::snap::steps::{Found, Steps};

/// Bytes of log after a clean shutdown: FILE_CHECKPOINT, with the nonce of an encrypted log.
const CLEAN: u64 = 16 + 8;

/// See [`offline::Stopped`].
pub(in crate::snap) struct Stopped<'a> {
    job: &'a Job,
    layout: Layout,
    aria: AriaLog,
}

impl<'a> Stopped<'a> {
    pub(in crate::snap) fn new(job: &'a Job, variables: &Variables, layout: Layout) -> Self {
        Stopped { job, layout, aria: AriaLog::of(variables) }
    }
}

impl offline::Stopped for Stopped<'_> {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn guarded(&self) -> Vec<PathBuf> {
        self.layout.system.iter().cloned().chain([self.aria.dir.join(ARIA_CONTROL)]).collect()
    }

    fn log(&self) -> Result<Log> {
        let start = Start::read(&self.layout.redo)?;
        let end_lsn = start.end()?;
        Ok(Log {
            identity: start.header().block().to_vec(),
            checkpoint_lsn: start.checkpoint.lsn,
            end_lsn,
            clean: end_lsn <= start.checkpoint.end_lsn + CLEAN,
        })
    }

    fn version(&self) -> Result<String> {
        let start = Start::read(&self.layout.redo)?;
        match start.header().creator.starts_with(b"Backup ") {
            true => restored(&self.layout.datadir),
            false => Ok(format!("{}-MariaDB", redo::version(&start.header().creator))),
        }
    }

    fn look(&mut self) -> Result<Found> {
        engines::on_disk(&self.layout.datadir)?;
        self.aria.read_control()?;
        let redo = Start::read(&self.layout.redo)?.redo();
        let known = Known::list(&self.layout.datadir, &self.job.filter)?;
        Ok(Found { redo, server_uuid: None, undo: undo(&self.layout)?, known })
    }

    fn copy(&self, steps: &Steps<'_>, undo: &[Tablespace], known: &Known) -> Result<()> {
        innodb(steps, &self.aria, undo, known, true)?;
        others(steps, steps.out, false)?;
        late_files(steps, steps.out, &self.aria)
    }

    fn options(&self, variables: &Variables) -> BTreeMap<String, String> {
        meta::server_options(variables, &plugins(variables))
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

/// The version of a server whose log was written by a backup program, and by no server since: what is beside it was copied
/// back with it.
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
