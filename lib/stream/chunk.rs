//! The heads of xbstream chunks, from bytes and to bytes. Integers are little-endian and unsigned.
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
/// Bytes before the path.
pub const PREFIX: usize = 14;
/// Bytes between the path and a payload.
pub const PAYLOAD_HEAD: usize = 20;
/// Bytes between the path and a sparse chunk's map.
pub const SPARSE_HEAD: usize = 24;
/// Longest path that readers of either family take; a writer of the originals can make 512, which none reads.
pub const PATH_MAX: usize = 511;
/// Most entries of a sparse map that we hold in memory, 8 bytes each. Percona's writer flushes after 10 MiB of
/// payload, which bounds its maps far below this.
pub const MAP_MAX: u32 = 1 << 20;
/// Flag: a reader that does not know the type may skip the chunk.
pub const IGNORABLE: u8 = 0x01;
/// Flag of MariaDB streams: open the path by truncating what stands there.
pub const REWRITE: u8 = 0x02;

/// What a chunk does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// `P`: bytes of the file.
    Payload,
    /// `E`: the file is complete.
    End,
    /// `S`: bytes and holes (Percona), or a new write position (MariaDB).
    SparseOrSeek,
    /// `R`: the file gets another name (MariaDB).
    Rename,
    /// `D`: the file goes away (MariaDB).
    Remove,
    /// Any other type with the ignorable flag; laid out like a payload, as the originals assume.
    Unknown(u8),
}

/// The fixed part of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// [`IGNORABLE`], [`REWRITE`]; others are reserved and ignored.
    pub flags: u8,
    /// What the chunk does.
    pub kind: Type,
    /// Length of the path that follows, 0..=[`PATH_MAX`].
    pub path_len: usize,
}

/// What stands between the path and the bytes of a payload or sparse chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Number of map entries; 0 in a payload chunk.
    pub entries: u32,
    /// Bytes of payload.
    pub len: u64,
    /// Where in the file the chunk begins.
    pub offset: u64,
    /// CRC-32 of the payload (sparse: of the map and the payload).
    pub crc: u32,
}

/// Why bytes are not a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The magic is missing.
    Magic,
    /// No reader of the originals takes a path this long.
    PathLength(u32),
    /// A type that is neither known nor ignorable.
    Type(u8),
    /// A sparse map without entries, or with more than [`MAP_MAX`].
    MapEntries(u32),
    /// The lengths of the map do not add up to the payload.
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

/// Reads the fixed part.
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

/// Reads the length of a path (also of a rename's new path).
pub fn path_len(bytes: [u8; 4]) -> Result<usize, Fault> {
    let len = u32::from_le_bytes(bytes);
    usize::try_from(len).ok().filter(|len| *len <= PATH_MAX).ok_or(Fault::PathLength(len))
}

/// Reads what follows the path of a payload.
pub fn payload(bytes: &[u8; PAYLOAD_HEAD]) -> Result<Extent, Fault> {
    extent(0, bytes.le_u64::<0>(), bytes.le_u64::<8>(), bytes.le_u32::<16>())
}

/// Reads what follows the path of a Percona sparse chunk.
pub fn sparse(bytes: &[u8; SPARSE_HEAD]) -> Result<Extent, Fault> {
    let entries = bytes.le_u32::<0>();
    if !(1..=MAP_MAX).contains(&entries) {
        return Err(Fault::MapEntries(entries));
    }
    extent(entries, bytes.le_u64::<4>(), bytes.le_u64::<12>(), bytes.le_u32::<20>())
}

/// True if the bytes after the path of an `S` chunk make it MariaDB's seek: eight bytes of offset, and then the next
/// chunk or the end of the stream. In Percona's layout the same place holds the upper half of the payload's length
/// and the lower half of its offset, equal to the magic only for a payload of more than 6·10^18 bytes.
pub fn is_seek(after_path: &[u8]) -> bool {
    after_path.len() == 8 || after_path.get(8..16) == Some(&MAGIC)
}

/// One entry of a sparse map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Bytes of hole before the data.
    pub skip: u32,
    /// Bytes of payload.
    pub len: u32,
}

/// Reads a sparse map and checks that it fits the payload. Also returns how far the file's offset grows.
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

/// Appends the head of a payload chunk, up to the payload.
pub fn put_payload(out: &mut Vec<u8>, flags: u8, path: &[u8], offset: u64, payload: &[u8]) {
    put_prefix(out, flags, b'P', path);
    out.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
}

/// Appends the head of a sparse chunk with one hole, of `skip` bytes at `offset`, before its payload.
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

/// File offsets are signed 64-bit numbers to the kernel.
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
        let tail: [u8; PAYLOAD_HEAD] = out[22..].try_into().unwrap();
        assert_eq!(
            payload(&tail),
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
