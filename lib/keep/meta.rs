//! What a store says of a backup: `meta.json`, written last, and notes, which are added later. Both are [`super::sealed`].

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::innodb::ids::Lsn;
use crate::stream::native::Binlog;

/// Version of `meta.json` and of notes; readers refuse a newer one.
pub const FORMAT: u32 = 1;
/// Where backups are: `backups/ID/…`.
pub const BACKUPS: &str = "backups/";
/// Where failed runs are noted: `failures/ID.json`.
pub const FAILURES: &str = "failures/";

/// The kind of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackupKind {
    /// Restores alone.
    Full,
    /// The changes since its parent.
    Incremental,
    /// Files, which are no backup of a server.
    Files,
}

impl BackupKind {
    /// In an id.
    pub fn short(self) -> &'static str {
        match self {
            BackupKind::Full => "full",
            BackupKind::Incremental => "incr",
            BackupKind::Files => "files",
        }
    }
}

/// An object and its sum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The name of the object, after `backups/ID/`.
    pub object: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// BLAKE3 of its bytes, in hexadecimal.
    pub blake3: String,
}

/// A program of the pipeline that made the backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Its argument vector, as the settings have it.
    pub run: Vec<String>,
    /// Its exit status.
    pub exit_code: i32,
}

/// The server that was copied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// MariaDB or MySQL, as `xb_begin` has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<crate::server::Family>,
    /// As the server reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its UUID, or a substitute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Its data directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datadir: Option<String>,
}

/// `meta.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// [`FORMAT`].
    pub format: u32,
    /// Time and kind: `20260131T031500Z-full`.
    pub id: String,
    /// The kind of the backup.
    pub kind: BackupKind,
    /// The id of the backup that an increment builds on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// What the operator called it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// When the run began.
    pub start: Timestamp,
    /// When the stream was stored.
    pub end: Timestamp,
    /// Name and version of the program that wrote this.
    pub program: String,
    /// The host on which it ran.
    pub host: String,
    /// The programs of the pipeline, from left to right; empty for a stream that was added.
    pub stages: Vec<Stage>,
    /// The programs that turn the stored stream into a plain one, from left to right.
    pub undo: Vec<Vec<String>>,
    /// The stream.
    pub stream: Stored,
    /// Where its members are; not for a stream that is coded as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<Stored>,
    /// What the programs said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<Stored>,
    /// Number of members, and their size in bytes before compression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plain: Option<Plain>,
    /// The server.
    #[serde(default)]
    pub server: Server,
    /// The id in `xb_begin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_id: Option<String>,
    /// The LSN since which an increment has changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_lsn: Option<Lsn>,
    /// The LSN from which the next increment begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_lsn: Option<Lsn>,
    /// The LSN to which recovery brings the pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_lsn: Option<Lsn>,
    /// The position in the server's binary log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binlog: Option<Binlog>,
    /// `xtrabackup_slave_info`: where the server itself replicates from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<String>,
    /// `xtrabackup_galera_info`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub galera: Option<String>,
    /// Tables were left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// Its manifest proves that it is complete. A stream of another program cannot be proved.
    pub proved: bool,
}

/// Size of what is in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plain {
    /// Number of members.
    pub members: u64,
    /// Their size in bytes.
    pub bytes: u64,
}

/// What was learnt of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// Its stored bytes were read and proved.
    Verified,
    /// It was restored.
    Restored,
    /// It was restored into a scratch directory, and a server checked its tables.
    Drilled,
    /// `prune` must keep it.
    Pinned,
    /// The end of that.
    Unpinned,
    /// It is being removed, and is no longer a backup.
    Deleted,
}

impl What {
    /// In the name of a note.
    pub fn word(self) -> &'static str {
        match self {
            What::Verified => "verified",
            What::Restored => "restored",
            What::Drilled => "drilled",
            What::Pinned => "pinned",
            What::Unpinned => "unpinned",
            What::Deleted => "deleted",
        }
    }
}

/// A later fact about a backup: `backups/ID/notes/TIME-WHAT.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// [`FORMAT`].
    pub format: u32,
    /// What it is about.
    pub what: What,
    /// When.
    pub at: Timestamp,
    /// False if the backup turned out to be bad.
    pub good: bool,
    /// How long it took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub millis: Option<u64>,
    /// In words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// A run that failed: `failures/ID.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// [`FORMAT`].
    pub format: u32,
    /// The id that the backup would have had.
    pub id: String,
    /// When it failed.
    pub at: Timestamp,
    /// Why.
    pub error: String,
    /// The last lines of what the programs said.
    pub log: String,
}

/// A form that is versioned.
pub trait Versioned {
    /// Its version.
    fn format(&self) -> u32;
}

macro_rules! versioned {
    ($($type:ty),*) => { $(impl Versioned for $type { fn format(&self) -> u32 { self.format } })* };
}
versioned!(Meta, Note, Failure);

/// Reads a sealed object whose version this program knows.
///
/// # Errors
///
/// Damaged, if it is, or is newer than this program.
pub fn read<T: Versioned + serde::de::DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T> {
    let value: T = super::sealed::read(name, bytes)?;
    if value.format() > FORMAT {
        let what = format_args!("format {} is newer than this program, which knows {FORMAT}", value.format());
        return Err(Error::damaged(name, what).hint("use newer xb-tools"));
    }
    Ok(value)
}

/// A time as it stands in ids: `20260131T031500Z`.
pub fn stamp(time: Timestamp) -> String {
    time.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// The name of a new note.
pub fn note_name(id: &str, note: &Note) -> String {
    format!("{BACKUPS}{id}/notes/{}-{}.json", note.at.strftime("%Y%m%dT%H%M%S%.3fZ"), note.what.word())
}
