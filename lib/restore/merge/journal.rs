//! Records how far a merge has come: `xb_merging`, synced before each step that cannot be undone.
//!
//! While it exists, the directory is not a backup, and every other command says so. It does not contain the plan: the
//! base's manifest stays unchanged until [`Phase::Finishing`], so the same manifests give the same plan again. Each
//! phase can be repeated; the next one begins after the result is on disk.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::io;
use crate::restore::files;
use crate::stream::native::names::MERGING;

/// Version of the file format; a newer one is refused.
const FORMAT: u32 = 1;

/// The current phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// Files that get another name get a temporary one; dropped files are removed.
    Clearing,
    /// The files get their new names.
    Placing,
    /// Pages are written, and whole files copied.
    Writing,
    /// Begin and manifest of the result replace those of the base.
    Finishing,
}

/// `xb_merging`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Journal {
    format: u32,
    pub(super) phase: Phase,
    /// Backup id of the base.
    pub(super) base: String,
    /// Backup ids of the increments, in order.
    pub(super) increments: Vec<String>,
}

impl Journal {
    /// The journal before the first step.
    pub(super) fn new(base: String, increments: Vec<String>) -> Self {
        Journal { format: FORMAT, phase: Phase::Clearing, base, increments }
    }

    /// The journal of a directory; `None` if no merge was begun, or the last one finished.
    pub(super) fn read(dir: &Path) -> Result<Option<Journal>> {
        let Some(bytes) = io::small(&dir.join(MERGING))? else { return Ok(None) };
        let fault = |what: String| Error::damaged(dir.join(MERGING).display(), what);
        let journal: Journal =
            serde_json::from_slice(&bytes).map_err(|cause| fault(format!("cannot be read: {cause}")))?;
        if journal.format > FORMAT {
            return Err(fault("it is newer than this program".into()).hint("use newer xb-tools"));
        }
        Ok(Some(journal))
    }

    /// Syncs everything done so far, then records that `phase` begins. Before the first phase nothing has been done.
    pub(super) fn enter(&mut self, dir: &Path, phase: Phase) -> Result<()> {
        if phase > Phase::Clearing {
            files::sync(dir)?;
        }
        self.phase = phase;
        // Strings and numbers can always be serialized.
        let text =
            serde_json::to_string_pretty(self).map_err(|_| Error::internal("a note cannot be written as JSON"))? + "\n";
        files::replace(dir, MERGING, text.as_bytes())
    }

    /// Removes the journal: the merge is complete.
    pub(super) fn remove(dir: &Path) -> Result<()> {
        files::sync(dir)?;
        files::remove(&dir.join(MERGING))
    }
}
