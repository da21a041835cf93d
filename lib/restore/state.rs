//! How far a directory has been applied: `xb_applied`, replaced by rename and synced before and after everything that
//! cannot be undone.
//!
//! Because of this file, `--apply` can be killed and run again. It does not exist as long as the directory is exactly
//! what was unpacked. `Started` means that the directory was checked and that files are being renamed; each of those
//! steps can be repeated. `LaidOut` means that the redo log has its final length and names, so from here on only
//! servers write to the directory, and recover what they write. If a server finds the end of the log at another LSN,
//! the state is `Astray`, which is final: another server would accept what the first one has written.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::files::{self, Fingerprint};
use crate::error::{Error, Result};
use crate::innodb::ids::Lsn;
use crate::io;
use crate::stream::native::names::APPLIED;

/// Version of the file format; a newer one is refused.
const FORMAT: u32 = 1;

/// How far it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Step {
    /// Checked; markers are being resolved, and the log is being extended.
    Started,
    /// A server is recovering the directory, or was interrupted.
    LaidOut,
    /// Recovered and checked.
    Applied,
    /// The server found the end of the log at another LSN than the backup's. The directory cannot be used any more.
    Astray,
    /// There are prepared transactions, and the binary log of the source, which decides about them, is missing.
    Undecided,
    /// `--copy-back --move` has begun to move files.
    Moving,
    /// All files have been moved.
    Moved,
}

/// `xb_applied`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// [`FORMAT`].
    pub(super) format: u32,
    /// How far it went.
    pub(super) step: Step,
    /// The id of the backup; `None` if another program made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) backup_id: Option<String>,
    /// Where the captured log begins.
    pub(super) start_lsn: Lsn,
    /// Where the log ends: the LSN that recovery must reach.
    pub(super) end_lsn: Lsn,
    /// There is no log, because the server has no InnoDB.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) without_log: bool,
    /// How often a server was started on the directory.
    pub(super) runs: u32,
    /// Tables that were outside the source's data directory (DATA DIRECTORY): name without suffix, and path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) locations: BTreeMap<String, String>,
    /// The server that recovered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) server: Option<String>,
    /// Damaged pages were passed over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) forced: bool,
    /// After recovery: the files that exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) files: Option<Fingerprint>,
    /// Where the files are being moved, or have been moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) datadir: Option<String>,
    /// Name and version of the program that wrote this.
    pub(super) program: String,
}

impl State {
    /// The state before anything was done.
    pub(super) fn new(step: Step, backup_id: Option<&str>, start_lsn: Lsn, end_lsn: Lsn) -> State {
        State {
            format: FORMAT,
            step,
            backup_id: backup_id.map(str::to_owned),
            start_lsn,
            end_lsn,
            without_log: false,
            runs: 0,
            locations: BTreeMap::new(),
            server: None,
            forced: false,
            files: None,
            datadir: None,
            program: concat!("xb-redo ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }

    /// Where the log ends, if there is one.
    pub(super) fn end(&self) -> Option<Lsn> {
        (!self.without_log).then_some(self.end_lsn)
    }

    /// The state of a directory; `None` if nothing has been done to it.
    pub(super) fn read(dir: &Path) -> Result<Option<State>> {
        let Some(bytes) = io::small(&dir.join(APPLIED))? else { return Ok(None) };
        let fault = |what: String| Error::damaged(dir.join(APPLIED).display(), what);
        let state: State = serde_json::from_slice(&bytes).map_err(|cause| fault(format!("cannot be read: {cause}")))?;
        if state.format > FORMAT {
            return Err(fault("it is newer than this program".into()).hint("use newer xb-tools"));
        }
        Ok(Some(state))
    }

    /// Writes this state to disk.
    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        // Strings, numbers and maps of strings can always be serialized.
        let text =
            serde_json::to_string_pretty(self).map_err(|_| Error::internal("a note cannot be written as JSON"))? + "\n";
        files::replace(dir, APPLIED, text.as_bytes())
    }
}
