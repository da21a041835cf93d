//! `xb_begin`, the first member of our streams: describes the content and the server.

use serde::{Deserialize, Serialize};

use super::{FORMAT, LINE_MAX, hex, to_line};
use crate::error::{Error, Internal, Result};
use crate::innodb::ids::Lsn;
use crate::io::random;
use crate::server::Family;

/// The kind of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamKind {
    /// A whole backup.
    Full,
    /// The changes since another backup.
    Incremental,
    /// Files packed by xb-pack.
    Files,
}

/// The redo log of the server that is copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redo {
    /// The format word in the log's header: `Phys`, `encrypted`, or the number of MySQL's format, `6`.
    pub format: String,
    /// The directory of the log file or, for MySQL, of the log files: `#innodb_redo`, below the data directory or
    /// absolute.
    pub dir: String,
    /// The checkpoint LSN: the newest checkpoint before the first page was read.
    pub checkpoint_lsn: Lsn,
    /// MariaDB: where the checkpoint's own mini-transaction begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_end_lsn: Option<Lsn>,
    /// MySQL: the UUID in the headers of all files of this log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_uuid: Option<u32>,
}

/// The base of an increment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Its backup id, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its checkpoint LSN: pages newer than this are in the increment.
    pub lsn: Lsn,
    /// True if all other pages were compared with the digests of the base. Then the increment is right for exactly that
    /// base, whatever the server's history.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proved: bool,
}

/// `xb_begin`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// [`FORMAT`].
    pub format: u32,
    /// The kind of the stream.
    pub kind: StreamKind,
    /// Sixteen random bytes in hexadecimal; the manifest has the same.
    pub backup_id: String,
    /// RFC 3339, UTC.
    pub start_time: String,
    /// Name and version of the program that began the stream.
    pub program: String,
    /// Estimated size of the content in bytes, for progress.
    pub estimated_bytes: u64,
    /// The family of the server.
    #[serde(default, rename = "flavour", skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// As the server reports it: `10.11.19-MariaDB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_version: Option<String>,
    /// The server's UUID, or a substitute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_uuid: Option<String>,
    /// The data directory that was copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datadir: Option<String>,
    /// The redo log, if the server has InnoDB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redo: Option<Redo>,
    /// The server has no InnoDB, so there are neither a redo log nor an end LSN.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_innodb: bool,
    /// Set if tables were left out: BLAKE3 of the options that select tables, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// The base, if the stream is an increment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
}

impl Begin {
    /// True if the stream needs a redo log.
    pub fn has_log(&self) -> bool {
        self.kind != StreamKind::Files && !self.without_innodb
    }
}

/// Parses `xb_begin`.
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

/// The family in `xb_begin`, if this program does not know it.
fn unknown_family(bytes: &[u8]) -> Option<String> {
    let text = serde_json::from_slice::<serde_json::Value>(bytes).ok()?.get("flavour")?.as_str()?.to_owned();
    serde_json::from_value::<Family>(text.clone().into()).is_err().then_some(text)
}

/// Collects `xb_begin` while its bytes arrive.
#[derive(Debug, Default)]
pub struct BeginReader {
    bytes: Vec<u8>,
}

impl BeginReader {
    /// Adds bytes.
    ///
    /// # Errors
    ///
    /// Damaged, if there are more than [`LINE_MAX`].
    pub fn feed(&mut self, place: &str, bytes: &[u8]) -> Result<()> {
        if self.bytes.len() + bytes.len() > LINE_MAX {
            return Err(Error::damaged(place, "xb_begin: longer than any that xb-tools write"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// The bytes so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Parses it after the last byte.
    ///
    /// # Errors
    ///
    /// As [`parse_begin`].
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

/// Sixteen random bytes in hexadecimal, for a new [`Begin::backup_id`].
pub fn backup_id() -> Result<String> {
    let mut bytes = [0; 16];
    random::fill(&mut bytes)?;
    Ok(hex(&bytes))
}
