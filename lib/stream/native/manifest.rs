//! `xb_manifest`, the last member of a stream of ours: JSON lines, an [`Entry`] for each member, then the [`Trailer`],
//! which holds the digest of the lines before it.
//!
//! Names and contents in it are the plain ones, so it still verifies what was compressed or encrypted on the way.

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

/// What kind of file a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// An InnoDB tablespace, page-verified.
    Innodb,
    /// Any other file.
    File,
    /// Made by the backup itself.
    Meta,
    /// The redo log, from the checkpoint LSN to the end LSN.
    Redo,
    /// The pages of a tablespace that an increment brings.
    Delta,
}

/// A line of the manifest: one member, by its plain name and content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The name, when it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// The name in hex, when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    /// What kind of file.
    pub kind: EntryKind,
    /// Bytes of content.
    pub size: u64,
    /// BLAKE3 of the content, in hex.
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
    /// InnoDB, with an encrypted redo log: at this LSN this very file was there already. Nothing of what happened later can
    /// have put it there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub there_since: Option<Lsn>,
    /// Deltas: pages of the whole file when it was copied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pages: Option<u32>,
    /// Where the file was, when that is not below the data directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Deltas: runs of pages that are all zero in the file and not in the delta, as (place in the file, count).
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

    /// The same content under another name.
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
    /// Byte in it.
    pub position: u64,
    /// GTID set of the snapshot; may be empty.
    pub gtid: String,
}

/// The last line of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trailer {
    /// [`FORMAT`]; only the last line has this key.
    pub manifest: u32,
    /// That of `xb_begin`.
    pub backup_id: String,
    /// BLAKE3 of the bytes of `xb_begin`, in hex: it is not encrypted with the rest, so this binds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begin_blake3: Option<String>,
    /// Lines before this one.
    pub members: u64,
    /// Sum of their sizes.
    pub bytes: u64,
    /// The end LSN: the LSN at which the redo log is cut (MySQL: stop).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_lsn: Option<Lsn>,
    /// Where the snapshot is in the binary log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binlog: Option<Binlog>,
    /// Server variables that recovery needs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub server_options: BTreeMap<String, String>,
    /// How long each lock was held, in milliseconds.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub locks_ms: BTreeMap<String, u64>,
    /// True if tables were left out on purpose.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// MySQL: tablespaces that were left out, by number; the log may have something of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<SpaceId>,
    /// RFC 3339, UTC.
    pub end_time: String,
    /// BLAKE3 of the lines before this one, newlines included, in hex.
    pub blake3: String,
}

/// Adds lines to a manifest and keeps its counts and digest.
#[derive(Debug, Default)]
pub struct Tally {
    members: u64,
    bytes: u64,
    digest: blake3::Hasher,
}

impl Tally {
    /// The line of an entry, newline included.
    pub fn line(&mut self, entry: &Entry) -> Result<String, Internal> {
        let line = to_line(entry)?;
        self.add(entry, line.as_bytes());
        Ok(line)
    }

    /// Counts a line that exists already.
    pub fn add(&mut self, entry: &Entry, line: &[u8]) {
        self.members += 1;
        self.bytes = self.bytes.saturating_add(entry.size);
        self.digest.update(line);
    }

    /// The last line; counts and digest of `trailer` are filled in.
    pub fn finish(&self, trailer: Trailer) -> Result<String, Internal> {
        let digest = self.digest.finalize().to_hex().to_string();
        to_line(&Trailer { manifest: FORMAT, members: self.members, bytes: self.bytes, blake3: digest, ..trailer })
    }
}

/// Checks that `xb_begin`, of these bytes, and the manifest with this last line are of one stream.
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

/// Checks what a line of the manifest says of `xb_begin`, which need not be in it.
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
    /// The last line, whose counts and digest were right.
    Trailer(Box<Trailer>),
}

/// Reads a manifest line by line and checks its own counts and digest.
#[derive(Debug, Default)]
pub struct ManifestReader {
    tally: Tally,
    /// Most lines before the last.
    most: Option<u64>,
    partial: Vec<u8>,
    ended: bool,
}

impl ManifestReader {
    /// Takes bytes as they come and hands complete lines, with their bytes, to `each`.
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

    /// From now on more lines than this many members are damage: a manifest that never ends is not read for ever.
    pub fn expect(&mut self, members: usize) {
        self.most = Some(members as u64);
    }

    /// Checks that the last line was there and nothing came after it.
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

/// What was read of each member, to be held against the manifest. 32 bytes a member.
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
    /// Of a stream whose names may take so much memory.
    pub fn within(budget: &Budget) -> Self {
        Seen { members: Table::within(budget.share()) }
    }

    /// Notes a member by the name it has in the stream.
    pub fn add(&mut self, path: &[u8], size: u64, digest: &blake3::Hash) -> Result<()> {
        let digest = digest.as_bytes().field::<0, 16>();
        self.members.insert(key(path), Content { size, digest })?;
        Ok(())
    }

    /// Holds an entry against what was read and strikes it off. True if the content could be compared, false if the
    /// member is there under a name of [`SUFFIXES`]: compressed or encrypted.
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

    /// Strikes off what carries the name with one suffix (compressed or encrypted) or two (both).
    fn remove_coded(&mut self, path: &[u8]) -> bool {
        let mut names = SUFFIXES.iter().flat_map(|first| {
            let both = SUFFIXES.iter().map(move |second| [path, first, second].concat());
            std::iter::once([path, first].concat()).chain(both)
        });
        names.any(|name| self.members.remove(key(&name)).is_some())
    }

    /// Checks that nothing was read that the manifest does not list.
    pub fn finish(&self) -> Result<()> {
        match self.members.len() {
            0 => Ok(()),
            count => Err(Error::damaged("xb_manifest", format_args!("{count} members of the stream are not in it"))),
        }
    }
}
