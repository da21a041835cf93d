//! The headers of xbstream chunks: parsing and writing. Integers are little-endian and unsigned.
//!
//! ```text
//! every chunk                              then, after the path:
//!   0  8  "XBSTCK01"                         P payload   8 length, 8 offset in the file, 4 CRC-32; payload
//!   8  1  flags                              E end       nothing
//!   9  1  type                               S sparse    4 map entries, 8 length, 8 offset, 4 CRC-32; map; payload
//!  10  4  length of the path                 S seek      8 offset in the file
//!  14  n  path                               R rename    4 length, new path       D remove   nothing
//! ```
//!
//! `S` means *sparse* to Percona's programs and *seek* to MariaDB's; [`is_seek`] tells them apart. The CRC-32 is
//! zlib's; it covers the payload alone, in a sparse chunk the map and the payload.

use std::fmt;

use crate::bytes::Fields as _;

/// What every chunk begins with.
pub const MAGIC: [u8; 8] = *b"XBSTCK01";
/// Length of a header before the path in bytes.
pub const PREFIX: usize = 14;
/// Length of the header between the path and a payload in bytes.
pub const PAYLOAD_HEAD: usize = 20;
/// Length of the header between the path and the map of a sparse chunk in bytes.
pub const SPARSE_HEAD: usize = 24;
/// The longest path that readers of either family accept. The original writers can write 512 bytes, which no reader
/// accepts.
pub const PATH_MAX: usize = 511;
/// The largest number of entries in a sparse map, 8 bytes each, which are kept in memory. Percona's writer flushes
/// after 10 MiB of payload, so its maps are far smaller.
pub const MAP_MAX: u32 = 1 << 20;
/// Flag: a reader that does not know the type may skip the chunk.
pub const IGNORABLE: u8 = 0x01;
/// Flag in streams of MariaDB: truncate an existing file when opening it.
pub const REWRITE: u8 = 0x02;

/// The type of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// `P`: bytes of the file.
    Payload,
    /// `E`: the file is complete.
    End,
    /// `S`: bytes and holes (Percona), or a new write position (MariaDB).
    SparseOrSeek,
    /// `R`: the file is renamed (MariaDB).
    Rename,
    /// `D`: the file is removed (MariaDB).
    Remove,
    /// Any other type with the ignorable flag; its format is that of a payload, as the original programs assume.
    Unknown(u8),
}

/// The fixed part of a chunk's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// [`IGNORABLE`], [`REWRITE`]; other flags are reserved and ignored.
    pub flags: u8,
    /// The type of the chunk.
    pub kind: Type,
    /// Length of the path that follows, at most [`PATH_MAX`].
    pub path_len: usize,
}

/// The header between the path and the bytes of a payload or sparse chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Number of map entries; 0 in a payload chunk.
    pub entries: u32,
    /// Length of the payload in bytes.
    pub len: u64,
    /// Offset of the chunk in the file.
    pub offset: u64,
    /// CRC-32 of the payload (sparse: of the map and the payload).
    pub crc: u32,
}

/// Why bytes are not a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The magic is missing.
    Magic,
    /// The path is longer than any reader accepts.
    PathLength(u32),
    /// The type is neither known nor ignorable.
    Type(u8),
    /// The sparse map has no entries, or more than [`MAP_MAX`].
    MapEntries(u32),
    /// The lengths in the map do not add up to that of the payload.
    MapLength,
    /// The extent ends beyond the largest file offset.
    Extent,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Magic => f.write_str("no chunk begins here"),
            Fault::PathLength(len) => write!(f, "path of {len} bytes; {PATH_MAX} is the limit"),
            Fault::Type(kind) if kind.is_ascii_graphic() => write!(f, "unknown chunk type '{}'", char::from(*kind)),
            Fault::Type(kind) => write!(f, "unknown chunk type {kind:#04x}"),
            Fault::MapEntries(count) => write!(f, "sparse map of {count} entries; 1 to {MAP_MAX} are possible"),
            Fault::MapLength => f.write_str("sparse map and payload differ in length"),
            Fault::Extent => f.write_str("chunk reaches beyond the largest file offset"),
        }
    }
}

/// Parses the fixed part of a header.
pub fn prefix(bytes: &[u8; PREFIX]) -> Result<Prefix, Fault> {
    let [magic @ .., flags, kind, l0, l1, l2, l3] = bytes;
    if *magic != MAGIC {
        return Err(Fault::Magic);
    }
    let kind = match kind {
        b'P' => Type::Payload,
        b'E' => Type::End,
        b'S' => Type::SparseOrSeek,
        b'R' => Type::Rename,
        b'D' => Type::Remove,
        other if flags & IGNORABLE != 0 => Type::Unknown(*other),
        other => return Err(Fault::Type(*other)),
    };
    Ok(Prefix { flags: *flags, kind, path_len: path_len([*l0, *l1, *l2, *l3])? })
}

/// Parses the length of a path (also of the new path of a rename).
pub fn path_len(bytes: [u8; 4]) -> Result<usize, Fault> {
    let len = u32::from_le_bytes(bytes);
    usize::try_from(len).ok().filter(|len| *len <= PATH_MAX).ok_or(Fault::PathLength(len))
}

/// Parses the header of a payload, after the path.
pub fn payload(bytes: &[u8; PAYLOAD_HEAD]) -> Result<Extent, Fault> {
    extent(0, bytes.le_u64::<0>(), bytes.le_u64::<8>(), bytes.le_u32::<16>())
}

/// Parses the header of Percona's sparse chunk, after the path.
pub fn sparse(bytes: &[u8; SPARSE_HEAD]) -> Result<Extent, Fault> {
    let entries = bytes.le_u32::<0>();
    if !(1..=MAP_MAX).contains(&entries) {
        return Err(Fault::MapEntries(entries));
    }
    extent(entries, bytes.le_u64::<4>(), bytes.le_u64::<12>(), bytes.le_u32::<20>())
}

/// True if an `S` chunk is MariaDB's seek, by the bytes after its path: an offset of eight bytes, then the next chunk
/// or the end of the stream. In Percona's format the same place has the upper half of the payload's length and the
/// lower half of its offset, which equal the magic only for a payload of more than 6·10^18 bytes.
pub fn is_seek(after_path: &[u8]) -> bool {
    after_path.len() == 8 || after_path.get(8..16) == Some(&MAGIC)
}

/// One entry of a sparse map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Length of the hole before the data in bytes.
    pub skip: u32,
    /// Bytes of payload.
    pub len: u32,
}

/// Parses a sparse map and checks that it fits the payload. Also returns how far it advances the offset in the file.
pub fn map(bytes: &[u8], extent: &Extent) -> Result<(Vec<Span>, u64), Fault> {
    let (mut data, mut skipped) = (0u64, 0u64);
    let mut spans = Vec::with_capacity(bytes.len() / 8);
    let (entries, []) = bytes.as_chunks::<8>() else { return Err(Fault::MapLength) };
    for entry in entries {
        let span = Span { skip: entry.le_u32::<0>(), len: entry.le_u32::<4>() };
        // At most MAP_MAX · 2^32 each: no overflow.
        data += u64::from(span.len);
        skipped += u64::from(span.skip);
        spans.push(span);
    }
    if data != extent.len {
        return Err(Fault::MapLength);
    }
    let grown = data.checked_add(skipped).filter(|grown| extent.offset.checked_add(*grown).is_some_and(fits));
    grown.map(|grown| (spans, grown)).ok_or(Fault::Extent)
}

/// Appends the header of a payload chunk.
pub fn put_payload(out: &mut Vec<u8>, flags: u8, path: &[u8], offset: u64, payload: &[u8]) {
    put_prefix(out, flags, b'P', path);
    out.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
}

/// Appends the header of a sparse chunk with one hole, of `skip` bytes at `offset`, before its payload.
pub fn put_sparse(out: &mut Vec<u8>, flags: u8, path: &[u8], offset: u64, skip: u32, payload: &[u8]) {
    put_prefix(out, flags, b'S', path);
    let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let map = [skip.to_le_bytes(), len.to_le_bytes()].concat();
    let mut crc = crc32fast::Hasher::new();
    crc.update(&map);
    crc.update(payload);
    out.extend_from_slice(&1u32.to_le_bytes());
    out.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&crc.finalize().to_le_bytes());
    out.extend_from_slice(&map);
}

/// Appends a rename chunk.
pub fn put_rename(out: &mut Vec<u8>, path: &[u8], new: &[u8]) {
    put_prefix(out, 0, b'R', path);
    out.extend_from_slice(&u32::try_from(new.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(new);
}

/// Appends a seek chunk of a MariaDB stream.
pub fn put_seek(out: &mut Vec<u8>, flags: u8, path: &[u8], offset: u64) {
    put_prefix(out, flags, b'S', path);
    out.extend_from_slice(&offset.to_le_bytes());
}

/// Appends the fixed part and the path. The caller has checked the path's length.
pub fn put_prefix(out: &mut Vec<u8>, flags: u8, kind: u8, path: &[u8]) {
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[flags, kind]);
    out.extend_from_slice(&u32::try_from(path.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(path);
}

/// The kernel's file offsets are signed 64-bit numbers.
fn fits(end: u64) -> bool {
    i64::try_from(end).is_ok()
}

fn extent(entries: u32, len: u64, offset: u64, crc: u32) -> Result<Extent, Fault> {
    match offset.checked_add(len) {
        Some(end) if fits(end) => Ok(Extent { entries, len, offset, crc }),
        _ => Err(Fault::Extent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_come_back_as_they_went() {
        let mut out = Vec::new();
        put_payload(&mut out, 0, b"db/t.ibd", 1 << 40, b"payload");
        assert_eq!(out.len(), PREFIX + 8 + PAYLOAD_HEAD);
        let head = prefix(out.first_chunk().unwrap()).unwrap();
        assert_eq!(head, Prefix { flags: 0, kind: Type::Payload, path_len: 8 });
        let head: [u8; PAYLOAD_HEAD] = out[22..].try_into().unwrap();
        assert_eq!(
            payload(&head),
            Ok(Extent { entries: 0, len: 7, offset: 1 << 40, crc: crc32fast::hash(b"payload") })
        );
    }

    #[test]
    fn a_sparse_chunk_comes_back_as_it_went() {
        let mut out = Vec::new();
        put_sparse(&mut out, REWRITE, b"t", 16384, 12288, b"data");
        assert_eq!(prefix(out.first_chunk().unwrap()).unwrap().flags, REWRITE);
        let extent = sparse(out[15..15 + SPARSE_HEAD].try_into().unwrap()).unwrap();
        assert_eq!((extent.entries, extent.len, extent.offset), (1, 4, 16384));
        let bytes = &out[15 + SPARSE_HEAD..];
        assert_eq!(map(bytes, &extent), Ok((vec![Span { skip: 12288, len: 4 }], 12292)));
        assert_eq!(extent.crc, crc32fast::hash(&[bytes, b"data"].concat()));
    }

    #[test]
    fn refuses_what_no_file_can_hold() {
        let mut bytes = [0xff; PAYLOAD_HEAD];
        assert_eq!(payload(&bytes), Err(Fault::Extent));
        bytes[..8].copy_from_slice(&(1u64 << 62).to_le_bytes());
        bytes[8..16].copy_from_slice(&(1u64 << 62).to_le_bytes());
        assert_eq!(payload(&bytes), Err(Fault::Extent));
        assert_eq!(path_len([0, 2, 0, 0]), Err(Fault::PathLength(512)));
        assert_eq!(sparse(&[0; SPARSE_HEAD]), Err(Fault::MapEntries(0)));
        let extent = Extent { entries: 1, len: 5, offset: 0, crc: 0 };
        assert_eq!(map(&[0, 0, 0, 0, 4, 0, 0, 0], &extent), Err(Fault::MapLength));
        assert_eq!(map(&[9, 0, 0, 0, 5, 0, 0, 0], &extent), Ok((vec![Span { skip: 9, len: 5 }], 14)));
    }

    #[test]
    fn the_two_meanings_of_s_are_told_apart() {
        assert!(is_seek(&[1, 0, 0, 0, 0, 0, 0, 0]));
        assert!(is_seek(b"\x01\0\0\0\0\0\0\0XBSTCK01\0P"));
        assert!(!is_seek(&[1, 0, 0, 0, 0xe8, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]));
    }
}
