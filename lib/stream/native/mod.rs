//! What our own streams carry beside files: `xb_begin` first, `xb_manifest` last, `xb_mark.N` between.
//!
//! Other readers extract them as ordinary files. A stream that has the first and lacks a valid last is truncated; that
//! is how the end of one is proved. The man page `xbstream(5)` documents both for other programs.

mod begin;
mod manifest;
mod mark;
pub(crate) mod names;
mod order;
pub mod pages;
pub mod prints;
mod verifier;

use serde::Serialize;

use crate::error::Internal;

pub use begin::{Base, Begin, BeginReader, Redo, StreamKind, backup_id, begin_bytes, begin_digest, parse_begin};
pub use manifest::{Binlog, Entry, EntryKind, Line, ManifestReader, Seen, Tally, Trailer, bind, check_begin};
pub use mark::{MARK, mark_bytes, parse_mark};
pub use verifier::{Verdict, Verifier};

/// The first member.
pub const BEGIN: &[u8] = names::BEGIN.as_bytes();
/// The last member.
pub const MANIFEST: &[u8] = names::MANIFEST.as_bytes();
/// Digests of pages; see [`pages`].
pub const PAGES: &[u8] = names::PAGES.as_bytes();
/// No member: a file that marks a directory whose unpacking has not ended well.
pub const INCOMPLETE: &[u8] = names::INCOMPLETE.as_bytes();

/// Version of `xb_begin` and `xb_manifest`; readers refuse a greater one. A manifest of version 1 has no digest of
/// `xb_begin`.
pub const FORMAT: u32 = 2;
/// Longest line of a manifest, and longest `xb_begin`, that a reader holds in memory.
pub const LINE_MAX: usize = 1 << 20;
/// Suffixes that compressing and encrypting tools give to members.
pub const SUFFIXES: [&[u8]; 5] = [b".zst", b".lz4", b".qp", b".xbseal", b".xbcrypt"];

/// Whether a name has a meaning of its own in our streams and directories, so that no file of a server may have it.
pub fn is_own(name: &[u8]) -> bool {
    names::is_ours(name) || name.starts_with(MARK)
}

/// A member's name without the suffixes of compression and encryption.
pub fn plain_name(path: &[u8]) -> &[u8] {
    let mut plain = path;
    while let Some(shorter) = SUFFIXES.iter().find_map(|suffix| plain.strip_suffix(*suffix)) {
        plain = shorter;
    }
    plain
}

/// The present in RFC 3339, UTC, to the second.
pub fn now() -> String {
    jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or_default().to_string()
}

/// Structs of strings and numbers always serialise.
fn to_line(value: &impl Serialize) -> Result<String, Internal> {
    serde_json::to_string(value).map(|line| line + "\n").map_err(|_| Internal("a line cannot be written as JSON"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
