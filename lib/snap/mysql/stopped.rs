//! The data directory of a stopped MySQL server.
//!
//! Only the server's dictionary knows tablespaces outside of it. Those in `innodb_directories` are found, where a
//! server finds them by itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bstr::ByteSlice;

use super::{found, innodb, meta, redo, server_uuid};
use crate::bytes::Part as _;
use crate::error::{Error, Result};
use crate::innodb::ids::Lsn;
use crate::innodb::redo::mysql::block::{self, BLOCK, Block};
use crate::innodb::redo::version;
use crate::io;
use crate::log::live::mysql::{self as live, LogFile};
use crate::metadata::Facts;
use crate::server::Variables;
use crate::server::files::{Layout, Tablespace};
use crate::server::mysql::files::{self, Spaces};
use crate::snap::Job;
use crate::snap::catalog::Catalog;
use crate::snap::finish::Snapshot;
use crate::snap::meta::Members;
use crate::snap::steps::{Found, Steps};
use crate::snap::stopped::{self, Log};

/// How many bytes of the log are searched at a time.
const WINDOW: usize = 1 << 20;

/// See [`stopped::Stopped`].
pub(in crate::snap) struct Stopped<'a> {
    job: &'a Job,
    layout: Layout,
    /// `innodb_directories`.
    directories: Vec<PathBuf>,
    external: Vec<Tablespace>,
    /// The base name of the binary log, and its newest file.
    binlog: Option<(PathBuf, PathBuf)>,
}

/// The default name of the binary log.
const BINLOG: &str = "binlog";

impl<'a> Stopped<'a> {
    pub(in crate::snap) fn new(job: &'a Job, variables: &mut Variables, layout: Layout) -> Result<Self> {
        let list = variables.text("innodb_directories").split(';').map(str::trim).filter(|dir| !dir.is_empty());
        let directories = list.map(|dir| layout.datadir.join(dir)).collect();
        let binlog = binlog(variables, &layout.datadir)?;
        if let Some((base, _)) = &binlog {
            variables.set("log_bin_basename", base.display().to_string());
        }
        Ok(Stopped { job, layout: files::layout(layout), directories, external: Vec::new(), binlog })
    }

    /// Where the log ends. Its last mini-transaction may be incomplete: recovery drops it.
    fn end(&self, checkpoint_lsn: Lsn) -> Result<Lsn> {
        let mut log = Vec::new();
        for number in live::numbers(&self.layout.redo)? {
            log.extend(LogFile::open(&self.layout.redo, number)?);
        }
        let mut lsn = block::begin(checkpoint_lsn);
        let mut bytes = vec![0; WINDOW];
        while let Some(file) = log.iter().find(|file| file.holds(lsn)) {
            let read = file.read(lsn, &mut bytes)?;
            for piece in bytes.part(..read)?.chunks_exact(BLOCK) {
                match block::check(piece, lsn, None) {
                    Block::Here { used: BLOCK } | Block::Encrypted { used: BLOCK } => {
                        lsn = lsn.saturating_add(BLOCK as u64)
                    }
                    Block::Here { used } | Block::Encrypted { used } => return Ok(lsn.saturating_add(used as u64)),
                    Block::Unsealed => return Err(live::unsealed(self.layout.redo.display())),
                    Block::Missing | Block::Overwritten => return Ok(lsn.saturating_add(block::HEADER as u64)),
                }
            }
            if read < BLOCK {
                break;
            }
        }
        Ok(lsn.saturating_add(block::HEADER as u64))
    }
}

impl stopped::Stopped for Stopped<'_> {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn guarded(&self) -> Vec<PathBuf> {
        self.layout.system.clone()
    }

    fn log(&self) -> Result<Log> {
        let start = live::start(&self.layout.redo)?;
        let end_lsn = self.end(start.checkpoint_lsn)?;
        let clean = end_lsn <= start.checkpoint_lsn;
        let identity = start.uuid.to_be_bytes().to_vec();
        Ok(Log { identity, checkpoint_lsn: start.checkpoint_lsn, end_lsn: end_lsn.max(start.checkpoint_lsn), clean })
    }

    fn version(&self) -> Result<String> {
        let newest = live::numbers(&self.layout.redo)?.last().copied();
        let file = newest.map(|number| LogFile::open(&self.layout.redo, number)).transpose()?.flatten();
        let file = file.ok_or_else(|| Error::damaged(self.layout.redo.display(), "has no redo log"))?;
        Ok(version(&file.header.creator))
    }

    fn look(&mut self) -> Result<Found> {
        let redo = redo(&self.layout)?;
        let mut spaces = Spaces::below(&self.layout)?;
        for dir in &self.directories {
            spaces.look_through(dir, &self.layout.datadir)?;
        }
        spaces.enough(&self.layout)?;
        self.external = spaces.external();
        found(self.job, redo, server_uuid(&self.layout.datadir)?, spaces)
    }

    fn copy(&self, steps: &Steps<'_>, undo: &[Tablespace], catalog: &Catalog) -> Result<()> {
        let others = innodb(steps, undo, catalog)?;
        steps.files(steps.out, others.locked.into_iter().map(Ok))
    }

    fn binlog(&self, steps: &Steps<'_>) -> Result<bool> {
        let Some((base, path)) = &self.binlog else { return Ok(false) };
        let size = path.metadata().map_err(|cause| Error::io(path.display(), "cannot read", &cause))?.len();
        super::binlog(&steps.copier, steps.out, base, path, size)?;
        Ok(true)
    }

    fn options(&self, variables: &Variables) -> BTreeMap<String, String> {
        meta::options(variables)
    }

    fn members(
        &self,
        variables: &Variables,
        _: &BTreeMap<String, String>,
        facts: &Facts,
        snapshot: &Snapshot,
    ) -> Members {
        meta::members(variables, &self.external, facts, snapshot)
    }
}

/// Finds the binary log by its index, if there is one.
fn binlog(variables: &Variables, datadir: &Path) -> Result<Option<(PathBuf, PathBuf)>> {
    let given = |name: &str| variables.get(name).filter(|value| !value.is_empty());
    // The log is named after the host, or switched off.
    let unnamed = variables.get("log_bin").is_some_and(str::is_empty);
    if unnamed || ["skip_log_bin", "disable_log_bin"].iter().any(|option| variables.get(option).is_some()) {
        return Ok(None);
    }
    // The server removes the suffix, and adds one to the index if it has none.
    let base = datadir.join(given("log_bin").unwrap_or(BINLOG)).with_extension("");
    let index = datadir.join(given("log_bin_index").map_or_else(|| base.clone(), PathBuf::from));
    let index = if index.extension().is_some() { index } else { index.with_extension("index") };
    let Some(list) = io::small(&index)? else { return Ok(None) };
    let newest = list.lines().rfind(|line| !line.is_empty()).and_then(|line| line.to_path().ok());
    Ok(newest.map(|file| datadir.join(file)).filter(|file| file.is_file()).map(|file| (base, file)))
}
