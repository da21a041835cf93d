//! Mini-transactions, the atomic units of the log: finds their end, checks that they are complete, and handles the file
//! names in them. Source: `facts/mariadb-hot-backup#ring`, `facts/mariadb-hot-backup#record-framing` and
//! `facts/mariadb-hot-backup#file-records`, `mtr0log.h`, `recv_sys_t::parse`.
//!
//! ```text
//! records...  end-byte (0 or 1)  [8 nonce, in an encrypted log]  4 CRC-32C of the records and the nonce
//! ```

use std::collections::BTreeSet;
use std::fmt;

use super::Ring;
use crate::error::{Internal, OrInternal as _};
use crate::innodb::checksum::crc32c_of;
use crate::innodb::ids::{Lsn, SpaceId};

/// The largest length of the records in bytes; the server neither writes nor reads a larger mini-transaction.
pub const MAX: usize = 1 << 20;
/// Bytes of CRC-32C.
const SUM: usize = 4;
/// Bytes of nonce in an encrypted log.
const NONCE: usize = 8;
/// `FILE_DELETE` and `FILE_RENAME`, the first half of a record's first byte.
pub(super) const DELETE: u8 = 0x90;
pub(super) const RENAME: u8 = 0xa0;

/// What is at an LSN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mtr {
    /// A whole mini-transaction.
    Complete {
        /// Its length in bytes, including what follows the records.
        len: usize,
    },
    /// The start of a mini-transaction: more bytes are needed, at most [`MAX`] + 13.
    Incomplete,
    /// Not a mini-transaction of this lap.
    Bad(MtrFault),
}

/// Why bytes are not a mini-transaction: the log ends before them, or they were overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MtrFault {
    /// A 0 or 1 in place of the first record: nothing has been written here in this lap.
    Empty,
    /// A record length that the server cannot have written, or more than [`MAX`] bytes of records.
    Length,
    /// Written in another lap: the end byte is not the sequence bit of its LSN.
    Sequence,
    /// Torn or damaged.
    Checksum {
        /// The checksum in the mini-transaction.
        stored: u32,
        /// The computed checksum.
        computed: u32,
    },
}

impl fmt::Display for MtrFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MtrFault::Empty => f.write_str("nothing has been written here"),
            MtrFault::Length => f.write_str("a record has an impossible length"),
            MtrFault::Sequence => f.write_str("what is here was written in another lap of the log"),
            MtrFault::Checksum { stored, computed } => {
                write!(f, "mini-transaction checksum {stored:#010x} is stored, {computed:#010x} is computed")
            }
        }
    }
}

/// Parses the bytes of the log from `start_lsn` on. The caller joins them where the ring wraps.
pub fn mtr(bytes: &[u8], start_lsn: Lsn, ring: &Ring, encrypted: bool) -> Mtr {
    match whole(bytes, start_lsn, ring, encrypted) {
        Ok(Some(len)) => Mtr::Complete { len },
        Ok(None) => Mtr::Incomplete,
        Err(fault) => Mtr::Bad(fault),
    }
}

fn whole(bytes: &[u8], start_lsn: Lsn, ring: &Ring, encrypted: bool) -> Result<Option<usize>, MtrFault> {
    let Some(records) = records_len(bytes)? else { return Ok(None) };
    let end_lsn = start_lsn.saturating_add(records as u64);
    let Some((covered, [end_byte, rest @ ..])) = bytes.split_at_checked(records) else { return Ok(None) };
    if *end_byte != ring.sequence(end_lsn) {
        return Err(MtrFault::Sequence);
    }
    let nonce_len = if encrypted { NONCE } else { 0 };
    let Some((nonce, rest)) = rest.split_at_checked(nonce_len) else { return Ok(None) };
    let Some(stored) = rest.first_chunk::<SUM>() else { return Ok(None) };
    let (stored, computed) = (u32::from_be_bytes(*stored), crc32c_of(covered, nonce));
    if stored == computed {
        Ok(Some(records + 1 + nonce_len + SUM))
    } else {
        Err(MtrFault::Checksum { stored, computed })
    }
}

/// The length up to the end byte; `None` if it is not there yet.
fn records_len(bytes: &[u8]) -> Result<Option<usize>, MtrFault> {
    let mut at = 0;
    loop {
        match bytes.get(at..) {
            None | Some([]) => return Ok(None),
            Some([0 | 1, ..]) if at == 0 => return Err(MtrFault::Empty),
            Some([0 | 1, ..]) => return Ok(Some(at)),
            Some(record) => match record_len(record)? {
                Some(len) => at += len,
                None => return Ok(None),
            },
        }
        if at > MAX {
            return Err(MtrFault::Length);
        }
    }
}

/// The length of the record that begins here, including its first byte; the bytes themselves may be missing.
pub(super) fn record_len(bytes: &[u8]) -> Result<Option<usize>, MtrFault> {
    let Some((first, rest)) = bytes.split_first() else { return Ok(None) };
    match usize::from(first & 15) {
        0 => {
            // Lengths use at most three bytes.
            if rest.first().is_some_and(|first| *first >= 0xe0) {
                return Err(MtrFault::Length);
            }
            let value = varint(rest).and_then(|(value, _)| usize::try_from(value).ok());
            Ok(value.map(|value| 1 + 15 + value))
        }
        len => Ok(Some(1 + len)),
    }
}

/// A number of 1 to 5 bytes, and its length; `None` if bytes are missing or do not form a number.
pub fn varint(bytes: &[u8]) -> Option<(u32, usize)> {
    let first = *bytes.first()?;
    let (more, bits, least) = match first {
        0x00..=0x7f => (0, 0x7f, 0),
        0x80..=0xbf => (1, 0x3f, 128),
        0xc0..=0xdf => (2, 0x1f, 16_512),
        0xe0..=0xef => (3, 0x0f, 2_113_664),
        0xf0 => (4, 0, 270_549_120),
        0xf1..=0xff => return None,
    };
    let rest = bytes.get(1..=more)?;
    let value = rest.iter().fold(u32::from(first & bits), |value, byte| value << 8 | u32::from(*byte));
    Some((value.checked_add(least)?, 1 + more))
}

/// How many bytes [`varint`] reads for this number.
pub fn varint_len(value: u32) -> usize {
    match value {
        ..128 => 1,
        128..16_512 => 2,
        16_512..2_113_664 => 3,
        2_113_664..270_549_120 => 4,

        _ => 5,
    }
}

/// Turns a complete mini-transaction into one of the first lap, for a captured log. The checksum does not cover the end
/// byte.
///
/// # Errors
///
/// Internal, if `mtr` is shorter than the end of a mini-transaction.
pub fn set_first_lap(mtr: &mut [u8], encrypted: bool) -> Result<(), Internal> {
    let trailer = 1 + SUM + if encrypted { NONCE } else { 0 };
    let end = mtr.len().checked_sub(trailer).and_then(|at| mtr.get_mut(at));
    *end.or_internal("a mini-transaction has no end")? = 1;
    Ok(())
}

/// The mini-transaction of a checkpoint at this LSN, in the first lap.
pub fn checkpoint(lsn: Lsn) -> Vec<u8> {
    let records = [&[0xfa, 0, 0][..], &lsn.get().to_be_bytes()].concat();
    let sum = crc32c_of(&records, &[]).to_be_bytes();
    [&records[..], &[1], &sum].concat()
}

/// What happened to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileOp<'a> {
    /// Created.
    Create(&'a [u8]),
    /// Deleted.
    Delete(&'a [u8]),
    /// Renamed: from, to.
    Rename(&'a [u8], &'a [u8]),
    /// A tablespace with changes since the checkpoint has this name.
    Modify(&'a [u8]),
    /// A checkpoint at this LSN.
    Checkpoint(Lsn),
}

/// A record about a file and not a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileRecord<'a> {
    /// The tablespace; 0 for a checkpoint.
    pub space: SpaceId,
    /// The operation; names are those by which the server opens files, `./db/t.ibd`.
    pub op: FileOp<'a>,
}

/// The first bytes of the records of a complete mini-transaction: type and, unless 0, length. They are not encrypted in
/// an encrypted log.
pub fn first_bytes(mtr: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut rest = mtr;
    std::iter::from_fn(move || {
        let first = *rest.first().filter(|first| **first > 1)?;
        rest = rest.get(record_len(rest).ok()??..)?;
        Some(first)
    })
}

/// What is visible of the file records of a complete, encrypted mini-transaction: the first half of the first byte, and
/// the total length of tablespace id, page number and names. File records precede all page records.
pub(super) fn sealed_files(mtr: &[u8]) -> impl Iterator<Item = (u8, usize)> + '_ {
    let mut rest = mtr;
    std::iter::from_fn(move || {
        let first = *rest.first().filter(|first| **first & 0x80 != 0)?;
        let len = record_len(rest).ok()??;
        let body = len.checked_sub(head_len(rest)?)?;
        rest = rest.get(len..)?;
        Some((first & 0xf0, body))
    })
}

/// The file records of a complete, unencrypted mini-transaction. They precede all page records.
pub fn files(mtr: &[u8]) -> impl Iterator<Item = FileRecord<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let (record, body) = file_record(mtr, at)?;
            at = record.end;
            if let Some(found) = file(record.kind, record.space, mtr.get(body..record.end)?) {
                return Some(found);
            }
        }
    })
}

/// The position of a file record in its mini-transaction; its name is not parsed yet.
struct Place {
    kind: u8,
    space: SpaceId,
    end: usize,
}

/// The file record at `at`, and the offset of its name; `None` at the first page record and at the end.
fn file_record(mtr: &[u8], at: usize) -> Option<(Place, usize)> {
    let bytes = mtr.get(at..)?;
    let first = *bytes.first()?;
    // Bit 7 means "same page as before"; before the first page record it means a file record.
    if first & 0x80 == 0 {
        return None;
    }
    let len = record_len(bytes).ok()??;
    let mut body = head_len(bytes)?;
    let (space, used) = varint(bytes.get(body..)?)?;
    body += used;
    // The page number, which is always 0.
    body += varint(bytes.get(body..)?)?.1;
    (body <= len && len <= bytes.len())
        .then_some((Place { kind: first & 0xf0, space: SpaceId::new(space), end: at + len }, at + body))
}

/// The length of a record's type and length fields.
pub(super) fn head_len(record: &[u8]) -> Option<usize> {
    let alone = record.first()? & 15 != 0;
    Some(if alone { 1 } else { 1 + varint(record.get(1..)?)?.1 })
}

pub(super) fn file(kind: u8, space: SpaceId, body: &[u8]) -> Option<FileRecord<'_>> {
    let op = match kind {
        0x80 => FileOp::Create(body),
        DELETE => FileOp::Delete(body),
        RENAME => {
            let nul = body.iter().position(|byte| *byte == 0)?;
            FileOp::Rename(body.get(..nul)?, body.get(nul + 1..)?)
        }
        0xb0 => FileOp::Modify(body),
        // Any other length is padding.
        0xf0 => FileOp::Checkpoint(Lsn::new(u64::from_be_bytes(body.try_into().ok()?))),
        _ => return None,
    };
    Some(FileRecord { space, op })
}

/// Gives every file in a complete, unencrypted mini-transaction a name below the data directory, and recomputes the
/// checksum; true if something changed.
///
/// A table with DATA DIRECTORY is `/other/place/db/t.ibd` in the log. A backup has it as `db/t.ibd`, but a server that
/// recovers the backup on the same host would find the original under the name in the log, and write to it. The new
/// name has the same length, `.///////////db/t.ibd`, so that all LSNs stay the same.
pub fn rewrite_names(mtr: &mut [u8]) -> bool {
    rewrite(mtr, |_, _, names| {
        names.split_mut(|byte| *byte == 0).fold(false, |changed, name| make_local(name) | changed)
    })
}

/// Turns every file record of these tablespaces into a deletion, and recomputes the checksum; true if something
/// changed.
///
/// A server that recovers a backup without them would stop at the first missing file. It skips all records of a deleted
/// one, and the LSNs stay the same. Source: `log0recv.cc` (`fil_name_process`).
pub fn forget(mtr: &mut [u8], spaces: &BTreeSet<SpaceId>) -> bool {
    rewrite(mtr, |first, space, names| {
        let kind = *first & 0xf0;
        let forget = kind != DELETE && spaces.contains(&space) && file(kind, space, names).is_some();
        if forget {
            *first = *first & 0x0f | DELETE;
            // A rename has two names; a zero in any other name is damage.
            names.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b'/');
        }
        forget
    })
}

/// Calls `change` for the first byte and the names of each file record; true if one was changed.
fn rewrite(mtr: &mut [u8], mut change: impl FnMut(&mut u8, SpaceId, &mut [u8]) -> bool) -> bool {
    let Ok(Some(records)) = records_len(mtr) else { return false };
    // Without a checksum to update, nothing is changed.
    if mtr.len() < records + 1 + SUM {
        return false;
    }
    let (mut changed, mut at) = (false, 0);
    while let Some((record, body)) = file_record(mtr, at) {
        if matches!(record.kind, 0x80..=0xb0)
            && let Some((first, rest)) = mtr.get_mut(at..record.end).and_then(<[u8]>::split_first_mut)
            && let Some(names) = rest.get_mut(body - at - 1..)
        {
            changed |= change(first, record.space, names);
        }
        at = record.end;
    }
    if changed {
        let (covered, rest) = mtr.split_at_mut(records);
        let sum = crc32c_of(covered, &[]).to_be_bytes();
        rest.split_at_mut(1).1.split_at_mut(SUM).0.copy_from_slice(&sum);
    }
    changed
}

/// `/place/db/t.ibd` becomes `.//////db/t.ibd`; true if the name changed.
fn make_local(name: &mut [u8]) -> bool {
    if name.starts_with(b"./") {
        return false;
    }
    let mut slashes = name.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).rev();
    let (Some(table), Some(database)) = (slashes.next(), slashes.next()) else { return false };
    if database == 0 {
        // `/db/t.ibd` has no room for a dot: `db//t.ibd`.
        name.split_at_mut(table + 1).0.rotate_left(1);
    } else {
        name.split_at_mut(database + 1).0.fill(b'/');
        if let Some(first) = name.first_mut() {
            *first = b'.';
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::innodb::redo::mariadb::START;

    const LSN: u64 = 50_000;

    /// A mini-transaction with these bytes, in the lap given by `ring`.
    fn framed(records: &[u8], lsn: u64, ring: &Ring, nonce: Option<[u8; NONCE]>) -> Vec<u8> {
        let mut mtr = records.to_vec();
        let nonce = nonce.as_ref().map_or(&[][..], |nonce| nonce);
        mtr.push(ring.sequence(Lsn::new(lsn + records.len() as u64)));
        mtr.extend_from_slice(nonce);
        mtr.extend_from_slice(&crc32c_of(records, nonce).to_be_bytes());
        mtr
    }

    /// A record with this first nibble and body, its length in the shortest form.
    fn record(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut record = Vec::new();
        if body.len() < 16 {
            record.push(kind | u8::try_from(body.len()).unwrap());
        } else {
            record.push(kind);
            // The length field counts the bytes after the first, including its own, minus 15.
            let own = (1..=3).find(|own| body.len() + own - 15 < [0, 128, 16_512, 2_113_664][*own]).unwrap();
            let value = u32::try_from(body.len() + own - 15).unwrap();
            record.extend(match own {
                1 => value.to_be_bytes()[3..].to_vec(),
                2 => (0x8000 | (value - 128)).to_be_bytes()[2..].to_vec(),
                _ => (0xc0_0000 | (value - 16_512)).to_be_bytes()[1..].to_vec(),
            });
        }
        record.extend_from_slice(body);
        record
    }

    fn records() -> impl Strategy<Value = Vec<u8>> {
        let kind = prop_oneof![Just(0x10u8), Just(0x30), Just(0xb0), Just(0xf0)];
        let body = prop_oneof![
            9 => prop::collection::vec(any::<u8>(), 1..200),
            1 => prop::collection::vec(any::<u8>(), 16_000..40_000),
        ];
        let one = (kind, body).prop_map(|(kind, body)| record(kind, &body));
        prop::collection::vec(one, 1..8).prop_map(|records| records.concat())
    }

    #[test]
    fn varints_mean_what_the_server_means_by_them() {
        for (bytes, value) in [
            (&[0][..], 0),
            (&[0x7f], 127),
            (&[0x80, 0], 128),
            (&[0xbf, 0xff], 16_511),
            (&[0xc0, 0, 0], 16_512),
            (&[0xdf, 0xff, 0xff], 2_113_663),
            (&[0xe0, 0, 0, 0], 2_113_664),
            (&[0xef, 0xff, 0xff, 0xff], 270_549_119),
            (&[0xf0, 0, 0, 0, 0], 270_549_120),
        ] {
            assert_eq!(varint(bytes), Some((value, bytes.len())));
            assert_eq!(varint_len(value), bytes.len());
            assert_eq!(varint(&bytes[..bytes.len() - 1]), None);
        }
        assert_eq!(varint(&[0xf0, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(varint(&[0xf1, 0, 0, 0, 0, 0]), None);
    }

    #[test]
    fn a_checkpoint_is_read() {
        // The checksum was computed without this code.
        let mtr = *b"\xfa\0\0\0\0\0\0\0\0\xc2\xa5\x01\xeb\x89\xa5\xaa";
        let ring = Ring::new(Lsn::new(START as u64), 4 << 20).unwrap();
        assert_eq!(super::mtr(&mtr, Lsn::new(0xc2a5), &ring, false), Mtr::Complete { len: 16 });
        let found: Vec<FileRecord> = files(&mtr).collect();
        assert_eq!(found, [FileRecord { space: SpaceId::new(0), op: FileOp::Checkpoint(Lsn::new(0xc2a5)) }]);
    }

    #[test]
    fn what_was_left_out_is_deleted_in_the_same_length() {
        let ring = Ring::new(Lsn::new(START as u64), 4 << 20).unwrap();
        let page = record(0x30, b"\x07\x03\x05abc");
        let of = |kind: u8, body: &[u8]| framed(&[record(kind, body), page.clone()].concat(), LSN, &ring, None);
        for (kind, before, after) in [
            (0xb0, &b"./db/t.ibd"[..], &b"./db/t.ibd"[..]),
            (0x80, b"./db/t.ibd", b"./db/t.ibd"),
            (0xa0, b"./db/t.ibd\0./db/u.ibd", b"./db/t.ibd/./db/u.ibd"),
        ] {
            let mut mtr = of(kind, &[b"\x07\x00", before].concat());
            assert!(!forget(&mut mtr, &BTreeSet::from([6, 8].map(SpaceId::new))));
            assert!(forget(&mut mtr, &BTreeSet::from([6, 7].map(SpaceId::new))));
            assert!(!forget(&mut mtr, &BTreeSet::from([6, 7].map(SpaceId::new))));
            assert_eq!(super::mtr(&mtr, Lsn::new(LSN), &ring, false), Mtr::Complete { len: mtr.len() });
            let found: Vec<FileRecord> = files(&mtr).collect();
            assert_eq!(found, [FileRecord { space: SpaceId::new(7), op: FileOp::Delete(after) }]);
        }
    }

    #[test]
    fn names_outside_become_local_in_the_same_length() {
        for (name, local) in [
            (&b"./db/t.ibd"[..], &b"./db/t.ibd"[..]),
            (b"/other/place/db/t.ibd", b".////////////db/t.ibd"),
            (b"/a/db/t.ibd", b".//db/t.ibd"),
            (b"/db/t.ibd", b"db//t.ibd"),
            (b"db/t.ibd", b"db/t.ibd"),
            (b"", b""),
        ] {
            let mut text = name.to_vec();
            make_local(&mut text);
            assert_eq!(text, local, "{}", String::from_utf8_lossy(&text));
        }
        let ring = Ring::new(Lsn::new(START as u64), 4 << 20).unwrap();
        let rename = [record(0xa0, b"\x07\x00/x/y/db/a.ibd\0/x/y/db/b.ibd"), record(0x30, b"\x07\x03\x05abc")].concat();
        let mut mtr = framed(&rename, LSN, &ring, None);
        assert!(rewrite_names(&mut mtr));
        assert!(matches!(super::mtr(&mtr, Lsn::new(LSN), &ring, false), Mtr::Complete { .. }));
        let found: Vec<FileRecord> = files(&mtr).collect();
        assert_eq!(
            found,
            [FileRecord { space: SpaceId::new(7), op: FileOp::Rename(b".////db/a.ibd", b".////db/b.ibd") }]
        );
    }

    proptest! {
        #[test]
        fn only_a_whole_manifest_is_complete(
            records in records(), nonce in prop::option::of(any::<[u8; NONCE]>()), cut in any::<prop::sample::Index>(),
            capacity in 4096u64..100_000, more in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            // Where the ring wraps depends on the capacity: inside records, before the end byte, or not at all.
            let ring = Ring::new(Lsn::new(START as u64), START as u64 + capacity).unwrap();
            let whole = framed(&records, LSN, &ring, nonce);
            let followed = [&whole[..], &more].concat();
            prop_assert_eq!(mtr(&followed, Lsn::new(LSN), &ring, nonce.is_some()), Mtr::Complete { len: whole.len() });
            prop_assert_eq!(mtr(&whole[..cut.index(whole.len())], Lsn::new(LSN), &ring, nonce.is_some()), Mtr::Incomplete);
        }

        #[test]
        fn a_flipped_bit_of_the_content_is_noticed(
            records in records(), at in any::<prop::sample::Index>(), bit in 0u8..8, nonce in prop::option::of(any::<[u8; NONCE]>()),
        ) {
            let ring = Ring::new(Lsn::new(START as u64), 4 << 20).unwrap();
            let mut mtr = framed(&records, LSN, &ring, nonce);
            let at = at.index(mtr.len());
            mtr[at] ^= 1 << bit;
            let complete = matches!(super::mtr(&mtr, Lsn::new(LSN), &ring, nonce.is_some()), Mtr::Complete { .. });
            prop_assert!(!complete);
        }

        #[test]
        fn one_of_another_lap_is_not_taken(records in records(), capacity in 4096u64..100_000) {
            let ring = Ring::new(Lsn::new(START as u64), START as u64 + capacity).unwrap();
            let old = framed(&records, LSN, &ring, None);
            prop_assert_eq!(mtr(&old, Lsn::new(LSN + capacity), &ring, false), Mtr::Bad(MtrFault::Sequence));
            let mut first = old.clone();
            set_first_lap(&mut first, false).unwrap();
            let unwrapped = Ring::new(Lsn::new(LSN), u64::MAX).unwrap();
            prop_assert_eq!(mtr(&first, Lsn::new(LSN), &unwrapped, false), Mtr::Complete { len: old.len() });
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), lsn in any::<u64>(), first in any::<u64>(), size in any::<u64>(), encrypted in any::<bool>()) {
            let _ = files(&bytes).count();
            let _ = rewrite_names(&mut bytes.clone());
            let _ = set_first_lap(&mut bytes.clone(), encrypted);
            if let Ok(ring) = Ring::new(Lsn::new(first), size) {
                let _ = mtr(&bytes, Lsn::new(lsn), &ring, encrypted);
                let _ = ring.offset(Lsn::new(lsn));
            }
        }
    }
}
