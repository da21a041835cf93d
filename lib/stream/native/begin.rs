//! `xb_begin`, the first member of a stream of ours: what the stream holds, and of which server.

use serde::{Deserialize, Serialize};

use super::{FORMAT, LINE_MAX, hex, to_line};
use crate::error::{Error, Internal, Result};
use crate::innodb::ids::Lsn;
use crate::io::random;
use crate::server::Family;

/// What a stream holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamKind {
    /// A whole backup.
    Full,
    /// What has changed since another backup.
    Incremental,
    /// Files that xb-pack was given.
    Files,
}

/// The redo log of the server that is copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redo {
    /// The format word in the log's header: `Phys`, `encrypted`, or MySQL's number, `6`.
    pub format: String,
    /// The directory that holds the log file or, of MySQL, the log files: `#innodb_redo`, below the data directory or
    /// absolute.
    pub dir: String,
    /// The checkpoint LSN: the checkpoint that was newest before the first page was read.
    pub checkpoint_lsn: Lsn,
    /// MariaDB: where the checkpoint's own mini-transaction begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_end_lsn: Option<Lsn>,
    /// MySQL: the number that all files of this log carry in their headers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_uuid: Option<u32>,
}

/// The backup that an increment builds on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Its backup id, when it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its checkpoint LSN: pages newer than this are in the increment.
    pub lsn: Lsn,
    /// True if all other pages were held against the digests of the base: so it is right on exactly that one, whatever
    /// the server's history.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proved: bool,
}

/// `xb_begin`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// [`FORMAT`].
    pub format: u32,
    /// What the stream holds.
    pub kind: StreamKind,
    /// Sixteen random bytes in hex, the same in the manifest.
    pub backup_id: String,
    /// RFC 3339, UTC.
    pub start_time: String,
    /// Name and version of the program that began the stream.
    pub program: String,
    /// Bytes of content expected; an estimate, for progress.
    pub estimated_bytes: u64,
    /// The family of the server.
    #[serde(default, rename = "flavour", skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// As the server tells it: `10.11.19-MariaDB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_version: Option<String>,
    /// The server's identity: its UUID, or what stands for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_uuid: Option<String>,
    /// The data directory that was copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datadir: Option<String>,
    /// The redo log, when the stream is of a server with InnoDB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redo: Option<Redo>,
    /// The server has no InnoDB, so there is neither a redo log nor an end LSN.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_innodb: bool,
    /// Which tables there are, when some were left out: BLAKE3 of the options that say it, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// The base, when the stream is an increment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
}

impl Begin {
    /// True if a redo log belongs to the stream.
    pub fn has_log(&self) -> bool {
        self.kind != StreamKind::Files && !self.without_innodb
    }
}

/// Reads `xb_begin`.
pub fn parse_begin(place: &str, bytes: &[u8]) -> Result<Begin> {
    let fault = |what: String| Error::damaged(place, format_args!("xb_begin: {what}"));
    let begin: Begin = serde_json::from_slice(bytes).map_err(|cause| match unknown_family(bytes) {
        Some(other) => {
            Error::damaged(place, format_args!("is of a server of the kind {other}, which this program does not know"))
                .hint("use newer xb-tools")
        }
        None => fault(format!("cannot be read: {cause}")),
    })?;
    if begin.format > FORMAT {
        let what = format!("format {} is newer than this program, which knows {FORMAT}", begin.format);
        return Err(fault(what).hint("use the xb-tools that made the stream, or newer ones"));
    }
    Ok(begin)
}

/// The family that `xb_begin` names, if it is none of ours.
fn unknown_family(bytes: &[u8]) -> Option<String> {
    let text = serde_json::from_slice::<serde_json::Value>(bytes).ok()?.get("flavour")?.as_str()?.to_owned();
    serde_json::from_value::<Family>(text.clone().into()).is_err().then_some(text)
}

/// `xb_begin` while its bytes come.
#[derive(Debug, Default)]
pub struct BeginReader {
    bytes: Vec<u8>,
}

impl BeginReader {
    /// Takes the next bytes.
    ///
    /// # Errors
    ///
    /// Damaged, when there are more than [`LINE_MAX`].
    pub fn feed(&mut self, place: &str, bytes: &[u8]) -> Result<()> {
        if self.bytes.len() + bytes.len() > LINE_MAX {
            return Err(Error::damaged(place, "xb_begin: longer than any that xb-tools write"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// What has come.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads it, when all has come.
    ///
    /// # Errors
    ///
    /// Those of [`parse_begin`].
    pub fn finish(&self, place: &str) -> Result<Begin> {
        parse_begin(place, &self.bytes)
    }
}

/// The bytes of `xb_begin`.
pub fn begin_bytes(begin: &Begin) -> Result<Vec<u8>, Internal> {
    to_line(begin).map(String::into_bytes)
}

/// Digest of the bytes of `xb_begin`, for the last line of the manifest.
pub fn begin_digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// Sixteen random bytes in hex, for a new [`Begin::backup_id`].
pub fn backup_id() -> Result<String> {
    let mut bytes = [0; 16];
    random::fill(&mut bytes)?;
    Ok(hex(&bytes))
}
