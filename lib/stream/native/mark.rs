//! `xb_mark.N`, from xb-snap to xb-redo: how far the server's log is durable.

use crate::innodb::ids::Lsn;
use bstr::ByteSlice;

/// Begins the names of the marks.
pub const MARK: &[u8] = b"xb_mark.";

/// The content of an `xb_mark.N`: up to this LSN the server's log is durable, and the end LSN will not be before it.
/// N only makes the names differ.
pub fn mark_bytes(lsn: Lsn) -> Vec<u8> {
    format!("{lsn}\n").into_bytes()
}

/// Reads the content of an `xb_mark.N`.
pub fn parse_mark(bytes: &[u8]) -> Option<Lsn> {
    bytes.to_str().ok()?.trim_end().parse().ok()
}
