//! `xb_manifest`, the last member of our streams: JSON lines, an [`Entry`] for each member, then the [`Trailer`] with
//! the digest of the lines before it.
//!
//! It has the names and digests before compression and encryption, so that it verifies the content after decryption and
//! decompression.

use std::collections::BTreeMap;

use bstr::ByteSlice;
use serde::{Deserialize, Serialize};

use super::{FORMAT, LINE_MAX, SUFFIXES, begin_digest, hex, parse_begin, to_line};
use crate::budget::Budget;
use crate::bytes::Fields as _;
use crate::error::{Error, Internal, Result};
use crate::innodb::ids::{Lsn, SpaceId};
use crate::stream::members::key;
use crate::stream::table::Table;

/// The kind of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// An InnoDB tablespace whose pages were verified.
    Innodb,
    /// Any other file.
    File,
    /// Written by the backup itself.
    Meta,
    /// The redo log, from the checkpoint LSN to the end LSN.
    Redo,
    /// The pages of a tablespace in an increment.
    Delta,
}

/// A line of the manifest: one member, with its plain name and content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The name, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// The name in hexadecimal, if it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    /// The kind of the member.
    pub kind: EntryKind,
    /// Size of the content in bytes.
    pub size: u64,
    /// BLAKE3 of the content, in hexadecimal.
    pub blake3: String,
    /// InnoDB: tablespace id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space_id: Option<SpaceId>,
    /// InnoDB: tablespace flags of page 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<u32>,
    /// InnoDB: physical page size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page_size: Option<u32>,
    /// InnoDB, with an encrypted redo log: an LSN at which this file already existed. Later log records cannot have
    /// created it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub there_since: Option<Lsn>,
    /// Deltas: size of the whole file in pages, when it was copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pages: Option<u32>,
    /// The file's path on the server, if that is not below the data directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Deltas: runs of zero pages that are in the file and not in the delta, as (first page, count).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zero_runs: Vec<(u32, u32)>,
}

impl Entry {
    /// An entry without the InnoDB fields.
    pub fn new(path: &[u8], kind: EntryKind, size: u64, digest: &blake3::Hash) -> Self {
        let text = path.to_str().ok().map(str::to_owned);
        let path_hex = text.is_none().then(|| hex(path));
        Entry {
            path: text,
            path_hex,
            kind,
            size,
            blake3: digest.to_hex().to_string(),
            space_id: None,
            flags: None,
            page_size: None,
            there_since: None,
            pages: None,
            location: None,
            zero_runs: Vec::new(),
        }
    }

    /// An entry with the same content and another name.
    #[must_use]
    pub fn renamed(&self, path: &[u8]) -> Self {
        let Entry { path, path_hex, .. } = Entry::new(path, self.kind, 0, &blake3::Hash::from_bytes([0; 32]));
        Entry { path, path_hex, ..self.clone() }
    }

    /// The member's name.
    pub fn path(&self) -> Option<Vec<u8>> {
        match (&self.path, &self.path_hex) {
            (Some(text), None) => Some(text.as_bytes().to_vec()),
            (None, Some(hex)) => {
                let digits = hex.as_bytes().chunks(2);
                digits.map(|two| u8::from_str_radix(two.to_str().ok()?, 16).ok()).collect()
            }
            _ => None,
        }
    }
}

/// Binary log position of the snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binlog {
    /// File name without directory.
    pub file: String,
    /// Offset in it.
    pub position: u64,
    /// GTID set of the snapshot; may be empty.
    pub gtid: String,
}

/// The last line of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trailer {
    /// [`FORMAT`]; only the last line has this key.
    pub manifest: u32,
    /// The same as in `xb_begin`.
    pub backup_id: String,
    /// BLAKE3 of the bytes of `xb_begin`, in hexadecimal. `xb_begin` is never encrypted, and this digest authenticates
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begin_blake3: Option<String>,
    /// Number of lines before this one.
    pub members: u64,
    /// Sum of the sizes.
    pub bytes: u64,
    /// The end LSN, at which the redo log is cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_lsn: Option<Lsn>,
    /// The position of the snapshot in the binary log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binlog: Option<Binlog>,
    /// Server variables that recovery needs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub server_options: BTreeMap<String, String>,
    /// How long each lock was held, in milliseconds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub locks_ms: BTreeMap<String, u64>,
    /// True if the operator left tables out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// MySQL: ids of tablespaces that were left out; the log may have records of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<SpaceId>,
    /// RFC 3339, UTC.
    pub end_time: String,
    /// BLAKE3 of the lines before this one, including newlines, in hexadecimal.
    pub blake3: String,
}

/// Writes the lines of a manifest, and keeps its counts and digest.
#[derive(Debug, Default)]
pub struct Tally {
    members: u64,
    bytes: u64,
    digest: blake3::Hasher,
}

impl Tally {
    /// The line of an entry, including the newline.
    pub fn line(&mut self, entry: &Entry) -> Result<String, Internal> {
        let line = to_line(entry)?;
        self.add(entry, line.as_bytes());
        Ok(line)
    }

    /// Counts an existing line.
    pub fn add(&mut self, entry: &Entry, line: &[u8]) {
        self.members += 1;
        self.bytes = self.bytes.saturating_add(entry.size);
        self.digest.update(line);
    }

    /// The last line: `trailer` with the counts and the digest.
    pub fn finish(&self, trailer: Trailer) -> Result<String, Internal> {
        let digest = self.digest.finalize().to_hex().to_string();
        to_line(&Trailer { manifest: FORMAT, members: self.members, bytes: self.bytes, blake3: digest, ..trailer })
    }
}

/// Checks that the bytes of `xb_begin` and a manifest with this last line belong together.
pub fn bind(begin: &[u8], trailer: &Trailer) -> Result<()> {
    if parse_begin("stream", begin)?.backup_id != trailer.backup_id {
        return Err(fault("belongs to another backup than xb_begin"));
    }
    match &trailer.begin_blake3 {
        Some(digest) if *digest == begin_digest(begin) => Ok(()),
        Some(_) => Err(Error::damaged("xb_begin", "its content differs from what the manifest says")),
        None if trailer.manifest >= 2 => Err(fault("its last line lacks the digest of xb_begin")),
        None => Ok(()),
    }
}

/// Checks `xb_begin` against its line in the manifest, which is optional.
pub fn check_begin(begin: &[u8], line: &Entry) -> Result<()> {
    if line.size == begin.len() as u64 && line.blake3 == begin_digest(begin) {
        return Ok(());
    }
    Err(Error::damaged("xb_begin", "its content differs from what the manifest says"))
}

/// A line of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A member.
    Entry(Box<Entry>),
    /// The last line, whose counts and digest have been checked.
    Trailer(Box<Trailer>),
}

/// Parses a manifest line by line, and checks its counts and digest.
#[derive(Debug, Default)]
pub struct ManifestReader {
    tally: Tally,
    /// The largest number of lines before the last one.
    most: Option<u64>,
    partial: Vec<u8>,
    ended: bool,
}

impl ManifestReader {
    /// Adds bytes as they arrive, and passes complete lines with their bytes to `each`.
    pub fn feed(&mut self, mut bytes: &[u8], mut each: impl FnMut(Line, &[u8]) -> Result<()>) -> Result<()> {
        while let Some(newline) = bytes.find_byte(b'\n') {
            let (line, rest) = bytes.split_at(newline + 1);
            bytes = rest;
            if self.partial.is_empty() {
                let parsed = self.line(line)?;
                each(parsed, line)?;
            } else {
                self.partial.extend_from_slice(line);
                let line = std::mem::take(&mut self.partial);
                let parsed = self.line(&line)?;
                each(parsed, &line)?;
            }
        }
        if self.ended && !bytes.is_empty() {
            return Err(fault("bytes follow its last line"));
        }
        if self.partial.len() + bytes.len() > LINE_MAX {
            return Err(fault("a line is too long"));
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    /// From now on, more lines than this many members are an error, so that an endless manifest is not read forever.
    pub fn expect(&mut self, members: usize) {
        self.most = Some(members as u64);
    }

    /// Checks that the last line has arrived and that nothing follows it.
    pub fn finish(&self) -> Result<()> {
        if self.ended && self.partial.is_empty() { Ok(()) } else { Err(fault("its last line is missing")) }
    }

    fn line(&mut self, line: &[u8]) -> Result<Line> {
        if self.ended {
            return Err(fault("a line follows the last one"));
        }
        if line.len() > LINE_MAX {
            return Err(fault("a line is too long"));
        }
        if !line.starts_with(b"{\"manifest\"") {
            let entry: Entry = serde_json::from_slice(line)
                .map_err(|cause| fault(&format!("line {} cannot be read: {cause}", self.tally.members + 1)))?;
            if entry.path().is_none() {
                return Err(fault(&format!("line {} has no name", self.tally.members + 1)));
            }
            if self.most.is_some_and(|most| self.tally.members >= most) {
                return Err(fault("it lists more members than the stream has"));
            }
            self.tally.add(&entry, line);
            return Ok(Line::Entry(Box::new(entry)));
        }
        let trailer: Trailer =
            serde_json::from_slice(line).map_err(|cause| fault(&format!("its last line cannot be read: {cause}")))?;
        if trailer.manifest > FORMAT {
            return Err(fault("it is newer than this program").hint("use newer xb-tools"));
        }
        let digest = self.tally.digest.finalize().to_hex();
        if (trailer.members, trailer.bytes) != (self.tally.members, self.tally.bytes) || trailer.blake3 != *digest {
            return Err(fault("its counts or its digest are wrong"));
        }
        self.ended = true;
        Ok(Line::Trailer(Box::new(trailer)))
    }
}

fn fault(what: &str) -> Error {
    Error::damaged("xb_manifest", what)
}

/// The members that were read, to be compared with the manifest. 32 bytes for each.
#[derive(Debug, Default)]
pub struct Seen {
    members: Table<Content>,
}

#[derive(Clone, Copy, Debug)]
struct Content {
    size: u64,
    digest: [u8; 16],
}

impl Seen {
    /// Limits the memory for names.
    pub fn within(budget: &Budget) -> Self {
        Seen { members: Table::within(budget.share()) }
    }

    /// Records a member by its name in the stream.
    pub fn add(&mut self, path: &[u8], size: u64, digest: &blake3::Hash) -> Result<()> {
        let digest = digest.as_bytes().field::<0, 16>();
        self.members.insert(key(path), Content { size, digest })?;
        Ok(())
    }

    /// Compares an entry with the member that was read, and removes that. True if the content was compared; false if
    /// the member has one of the [`SUFFIXES`], because it is compressed or encrypted.
    pub fn check(&mut self, entry: &Entry) -> Result<bool> {
        let path = entry.path().unwrap_or_default();
        let name = path.as_bstr();
        let Some(content) = self.members.remove(key(&path)) else {
            if self.remove_coded(&path) {
                return Ok(false);
            }
            return Err(Error::damaged(name, "missing: the manifest lists it, the stream does not have it"));
        };
        if content.size != entry.size {
            return Err(Error::damaged(name, format_args!("{} bytes, the manifest says {}", content.size, entry.size)));
        }
        if !entry.blake3.starts_with(&hex(&content.digest)) {
            return Err(Error::damaged(name, "its content differs from what the manifest says"));
        }
        Ok(true)
    }

    /// Removes a member that has this name with one suffix (compressed or encrypted) or two (both).
    fn remove_coded(&mut self, path: &[u8]) -> bool {
        let mut names = SUFFIXES.iter().flat_map(|first| {
            let both = SUFFIXES.iter().map(move |second| [path, first, second].concat());
            std::iter::once([path, first].concat()).chain(both)
        });
        names.any(|name| self.members.remove(key(&name)).is_some())
    }

    /// Checks that the manifest lists all members that were read.
    pub fn finish(&self) -> Result<()> {
        match self.members.len() {
            0 => Ok(()),
            count => Err(Error::damaged("xb_manifest", format_args!("{count} members of the stream are not in it"))),
        }
    }
}
