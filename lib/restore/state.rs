//! How far a directory has been applied: `xb_applied`, written by rename and synced before and after everything that
//! cannot be undone.
//!
//! The file is what makes `--apply` safe to kill and to run again. It is absent as long as the directory is exactly what
//! was unpacked. `Started` says that it was checked and that files are being renamed; each of those steps can be repeated.
//! `LaidOut` says that the redo log has its final length and names, so from here on only servers write to the directory,
//! and what they write is theirs to recover.
//! Unless a server finds that the log ends elsewhere than it should: what it has written then, a second one would take
//! for progress, so `Astray` is the end.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::files::{self, Fingerprint};
use crate::error::{Error, Result};
use crate::innodb::ids::Lsn;
use crate::io;
use crate::stream::native::names::APPLIED;

/// Version of the file; a greater one is refused.
const FORMAT: u32 = 1;

/// How far it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Step {
    /// Checked; markers are being resolved, the log is being extended.
    Started,
    /// A server recovers, or did and was interrupted.
    LaidOut,
    /// Done, and checked.
    Applied,
    /// The server found the end of the log elsewhere than the backup says. Nothing can be made of the directory any more.
    Astray,
    /// Transactions are prepared, and only the source's binary log, which is not here, can say what became of them.
    Undecided,
    /// `--copy-back --move` has begun to take files away.
    Moving,
    /// It has taken all.
    Moved,
}

/// `xb_applied`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// [`FORMAT`].
    pub(super) format: u32,
    /// How far it went.
    pub(super) step: Step,
    /// The backup that this is about; `None` if that has no id, because another program made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) backup_id: Option<String>,
    /// Where the captured log begins.
    pub(super) start_lsn: Lsn,
    /// Where it ends: the LSN that recovery must reach.
    pub(super) end_lsn: Lsn,
    /// There is no log: the server has no InnoDB.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) without_log: bool,
    /// Times that a server was started on the directory.
    pub(super) runs: u32,
    /// Tables that the source had elsewhere (DATA DIRECTORY): name without suffix, and place.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) locations: BTreeMap<String, String>,
    /// The server that recovered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) server: Option<String>,
    /// Once applied: what files there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) files: Option<Fingerprint>,
    /// Where the files are being moved, or were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) datadir: Option<String>,
    /// Name and version of the program that wrote this.
    pub(super) program: String,
}

impl State {
    /// Before anything was done.
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

    /// Makes this the state of a directory, on disk.
    pub(super) fn write(&self, dir: &Path) -> Result<()> {
        // Strings, numbers and maps of strings always serialise.
        let text =
            serde_json::to_string_pretty(self).map_err(|_| Error::internal("a note cannot be written as JSON"))? + "\n";
        files::replace(dir, APPLIED, text.as_bytes())
    }
}
