//! Durable LSN marks, `xb_mark.N`: they tell xb-redo how far the server's log is durable.

use crate::innodb::ids::Lsn;
use bstr::ByteSlice;

/// First part of the names of marks.
pub const MARK: &[u8] = b"xb_mark.";

/// The content of a durable LSN mark: the server's log is durable up to this LSN, and the end LSN will not be lower. N
/// only makes the names unique.
pub fn mark_bytes(lsn: Lsn) -> Vec<u8> {
    format!("{lsn}\n").into_bytes()
}

/// Parses the content of a durable LSN mark.
pub fn parse_mark(bytes: &[u8]) -> Option<Lsn> {
    bytes.to_str().ok()?.trim_end().parse().ok()
}
