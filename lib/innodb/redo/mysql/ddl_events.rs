//! Finds DDL on tablespaces in the log, for a copy that is made while DDL runs.
//!
//! **Index builds.** Every index begins with two segments, and a server writes to an index without redo only while it
//! builds it. When it numbers a segment, it writes the next number into page 0, with redo. Source: `fsp0fsp.cc`
//! (`fseg_create_general`), `fsp0types.h` (`FSP_SEG_ID`), `mach0data.ic` (`mach_parse_compressed`).
//!
//! ```text
//! 8          MLOG_8BYTES; the highest bit is set in a mini-transaction of one record
//! 1 to 5     tablespace id, compressed
//! 0          page number
//! 0 110      place in the page: FSP header at 38, FSP_SEG_ID at 72 of it
//! ```
//!
//! **New keys.** The server encrypts the pages again without redo. Pages copied before are encrypted with the old key,
//! which the copy no longer has. The new key is written into page 0. Source: `fsp0fsp.cc`
//! (`fsp_header_write_encryption`), `os0enc.h` (`Encryption::KEY_MAGIC_V3`).
//!
//! ```text
//! 30         MLOG_WRITE_STRING; highest bit as above
//! 1 to 5     tablespace id, compressed
//! 0          page number
//! 2 bytes    place in the page
//! 2 bytes    length
//! lC…        the magic bytes of a key
//! ```
//!
//! **Deleted files.** Recovery skips the tablespace from there on, so the id must not be in use again, as it is after
//! IMPORT TABLESPACE. Source: `fil0fil.cc` (`fil_op_write_log`).
//!
//! ```text
//! 35         MLOG_FILE_DELETE; highest bit as above
//! 1 to 5     tablespace id, compressed
//! 0          page number
//! 2 bytes    length of the name with its end
//! …          name, which ends in .ibd and the only zero in it
//! ```
//!
//! Only a parser of all record types can tell where a record begins, so these bytes are searched for everywhere. Other
//! data may contain them by chance: then a tablespace is reported that need not be, but none is missed.

use std::collections::BTreeSet;

use super::block::{BLOCK, HEADER, TRAILER};
use crate::innodb::ids::SpaceId;

/// `MLOG_8BYTES`.
const BYTES: u8 = 8;
/// `MLOG_WRITE_STRING`.
const STRING: u8 = 30;
/// `MLOG_FILE_DELETE`.
pub(super) const DELETE: u8 = 35;
/// The record is the only one in its mini-transaction.
pub(super) const SINGLE: u8 = 0x80;
/// Page 0, and the offset in it.
const PLACE: [u8; 3] = [0, 0, 110];
/// The first bytes of a tablespace's key, in all versions.
const KEY: &[u8] = b"lC";
/// The end of a table's name.
const IBD: &[u8] = b".ibd\0";
/// Length limit of a name: the longest one that a file system has.
const NAME: usize = 4096;
/// Length of the longest such record in bytes.
const LONGEST: usize = 1 + 5 + 1 + 2 + NAME;

/// Searches a log that arrives block by block.
#[derive(Debug, Default)]
pub struct DdlEvents {
    /// The part of the log that is searched, with the end of the last part, in which a record may have begun.
    bytes: Vec<u8>,
    touched: BTreeSet<SpaceId>,
    deleted: BTreeSet<SpaceId>,
}

impl DdlEvents {
    /// Adds whole blocks; each begins where the last one ended.
    pub fn feed(&mut self, blocks: &[u8]) {
        let (blocks, _) = blocks.as_chunks::<BLOCK>();
        for block in blocks {
            self.bytes.extend_from_slice(block.split_at(TRAILER).0.split_at(HEADER).1);
        }
        for (at, byte) in self.bytes.iter().enumerate() {
            let rest = || self.bytes.get(at + 1..);
            match byte & !SINGLE {
                BYTES => self.touched.extend(rest().and_then(segment)),
                STRING => self.touched.extend(rest().and_then(key)),
                DELETE => self.deleted.extend(rest().and_then(file)),
                _ => {}
            }
        }
        self.bytes.drain(..self.bytes.len().saturating_sub(LONGEST - 1));
    }

    /// Tablespaces, by id, in which an index build began, or that got a key.
    pub fn touched(&self) -> &BTreeSet<SpaceId> {
        &self.touched
    }

    /// Tablespaces, by id, of tables whose file was deleted.
    pub fn deleted(&self) -> &BTreeSet<SpaceId> {
        &self.deleted
    }
}

/// The tablespace, if the bytes after the type write the number of a segment.
fn segment(bytes: &[u8]) -> Option<SpaceId> {
    let (space, rest) = compressed(bytes)?;
    rest.starts_with(&PLACE).then_some(SpaceId::new(space))
}

/// The tablespace, if the bytes after the type write its key.
fn key(bytes: &[u8]) -> Option<SpaceId> {
    let (space, rest) = compressed(bytes)?;
    rest.strip_prefix(&[0])?.get(4..)?.starts_with(KEY).then_some(SpaceId::new(space))
}

/// The tablespace, if the bytes after the type delete a table's file.
fn file(bytes: &[u8]) -> Option<SpaceId> {
    let (space, rest) = compressed(bytes)?;
    let rest = rest.strip_prefix(&[0])?;
    let (len, rest) = rest.split_first_chunk()?;
    let name = rest.get(..usize::from(u16::from_be_bytes(*len)))?;
    let whole = name.len() <= NAME && name.ends_with(IBD) && name.iter().filter(|byte| **byte == 0).count() == 1;
    whole.then_some(SpaceId::new(space))
}

/// A number of one to five bytes: the number of highest bits that are set gives the length.
fn compressed(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let first = *bytes.first()?;
    // With six set bits or more, the number is one of the largest, and only its lowest bits are stored.
    let (len, high, ones) = match first.leading_ones() {
        ones @ 0..=3 => (usize::try_from(ones).ok()?, u32::from(first & (0x7f >> ones)), 0),
        4 => (4, 0, 0),
        5 => (1, u32::from(first & 3), 0xffff_fc00),
        6 => (2, u32::from(first & 1), 0xfffe_0000),
        _ => (3, 0, 0xff00_0000),
    };
    let (low, rest) = bytes.get(1..)?.split_at_checked(len)?;
    let value = low.iter().fold(high, |value, byte| value << 8 | u32::from(*byte));
    Some((ones | value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Full blocks with this log, and what is left for the last one.
    fn blocks(log: &[u8]) -> Vec<u8> {
        log.chunks(TRAILER - HEADER)
            .flat_map(|data| {
                let mut block = vec![0; BLOCK];
                block[HEADER..HEADER + data.len()].copy_from_slice(data);
                block
            })
            .collect()
    }

    fn events(parts: &[&[u8]]) -> (Vec<u32>, Vec<u32>) {
        let mut events = DdlEvents::default();
        parts.iter().for_each(|part| events.feed(part));
        let numbers = |spaces: &BTreeSet<SpaceId>| spaces.iter().map(|space| space.get()).collect();
        (numbers(events.touched()), numbers(events.deleted()))
    }

    #[test]
    fn numbers_of_all_lengths() {
        for (bytes, value) in [
            (&[0x7f][..], 127),
            (&[0x80, 0x80], 128),
            (&[0xc0, 0x40, 0x00], 0x4000),
            (&[0xe1, 0, 0, 2], 0x0100_0002),
            (&[0xf0, 0x12, 0x34, 0x56, 0x78], 0x1234_5678),
            (&[0xfb, 0xfe], 0xffff_fffe),
            (&[0xfc, 0, 1], 0xfffe_0001),
            (&[0xfe, 1, 2, 3], 0xff01_0203),
        ] {
            assert_eq!(compressed(bytes), Some((value, &[][..])), "{bytes:x?}");
            assert_eq!(compressed(&bytes[..bytes.len() - 1]), None);
        }
    }

    #[test]
    fn records_are_seen_across_blocks_and_pieces() {
        let mut log = vec![0; 3 * (TRAILER - HEADER)];
        log[10..15].copy_from_slice(&[8, 5, 0, 0, 110]);
        log[493..499].copy_from_slice(&[0x88, 0x81, 0x02, 0, 0, 110]);
        log[989..995].copy_from_slice(&[8, 0xfb, 0xfe, 0, 0, 110]);
        // Another page, another offset.
        log[20..25].copy_from_slice(&[8, 6, 1, 0, 110]);
        log[30..35].copy_from_slice(&[8, 7, 0, 0, 109]);
        log[460..475].copy_from_slice(b"\xa3\x07\0\0\x0a./d/t.ibd\0");
        log[600..613].copy_from_slice(b"\x23\x09\0\0\x08d/u.ibu\0");
        // A name elsewhere whose length fits by chance.
        log[700..721].copy_from_slice(b"\x23\x0b\0\0\x1012345\0./d/t.ibd\0");
        log[800..812].copy_from_slice(b"\x1e\x0c\0\x28\x96\0\x6flCCab");
        log[820..830].copy_from_slice(b"\x1e\x0d\x01\x28\x96\0\x6flCC");
        let expect = (vec![5, 12, 258, 0xffff_fffe], vec![7]);
        let all = blocks(&log);
        assert_eq!(events(&[&all]), expect);
        let pieces: Vec<&[u8]> = all.chunks(BLOCK).collect();
        assert_eq!(events(&pieces), expect);
    }
}
