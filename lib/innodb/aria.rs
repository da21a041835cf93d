//! Blocks of Aria tables: `.MAI` (index) and `.MAD` (rows), to notice one that was read while it was written. Source:
//! `facts/mariadb-hot-backup#aria`, `ma_open.c`, `ma_pagecrc.c`.
//!
//! The last four bytes of a block are, **little-endian**, zlib's CRC-32 begun with the block's number.

use super::page::{Content, Fault};
use super::{is_zero, u16_at, u64_at};

/// How much of an `.MAI` decides what the table is; all of a shorter file.
pub const HEAD: usize = 64 << 10;

const MAGIC: [u8; 3] = [0xfe, 0xfe, 9];
/// Fields of the state header, at the start.
const OPTIONS: usize = 4;
const BASE: usize = 12;
const ROW_FORMAT: usize = 22;
/// Fields of the base information.
const KEYSTART: usize = 16;
const EXTRA_OPTIONS: usize = 90;
const BLOCK_SIZE: usize = 100;
const TRANSACTIONAL: usize = 106;

/// Option: blocks carry a checksum.
const CHECKSUMS: u16 = 0x800;
/// Extra option: blocks are encrypted.
const ENCRYPTED: u16 = 1;
/// Row format PAGE: the rows are in blocks, too. The others (FIXED, DYNAMIC) have no checksums over blocks.
const PAGE: u8 = 3;

/// Bytes of checksum at the end of a block.
const SUM: usize = 4;
/// Stands for "no checksum" in bitmap blocks, and the next value in others; a sum never has these values.
const NO_SUM: u32 = 0xffff_fffe;
const LARGEST_SUM: u32 = 0xffff_fffd;

/// What the head of an `.MAI` says of both files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aria {
    /// Bytes of a block, in both files.
    pub block_size: u32,
    /// The first block of the `.MAI` that is an index block; those before are the head.
    pub first_index: u64,
    /// True if index blocks carry checksums that can be checked without a key.
    pub index_sums: bool,
    /// True if the `.MAD` is made of blocks with such checksums.
    pub data_sums: bool,
    transactional: bool,
}

impl Aria {
    /// From the start of an `.MAI` ([`HEAD`] bytes, or all of a shorter file); `None` if it is no Aria index.
    pub fn parse(head: &[u8]) -> Option<Aria> {
        if !head.starts_with(&MAGIC) {
            return None;
        }
        let base = head.get(usize::from(u16_at(head, BASE))..)?;
        let transactional = *base.get(TRANSACTIONAL)? != 0;
        let (keystart, block_size) = (u64_at(base, KEYSTART), u32::from(u16_at(base, BLOCK_SIZE)));
        // The server's range (`MARIA_MIN_KEY_BLOCK_LENGTH`, `MARIA_MAX_KEY_BLOCK_LENGTH`).
        if !(1 << 10..=32 << 10).contains(&block_size) || !block_size.is_power_of_two() {
            return None;
        }
        let readable = u16_at(head, OPTIONS) & CHECKSUMS != 0 && u16_at(base, EXTRA_OPTIONS) & ENCRYPTED == 0;
        Some(Aria {
            block_size,
            first_index: keystart / u64::from(block_size),
            index_sums: readable,
            data_sums: readable && head.get(ROW_FORMAT) == Some(&PAGE),
            transactional,
        })
    }

    /// Whether a block of the `.MAI` is complete.
    pub fn check_index(&self, number: u64, block: &[u8]) -> Result<Content, Fault> {
        self.size(block)?;
        if !self.index_sums || number < self.first_index {
            return Ok(Content::Unverified);
        }
        if is_zero(block) {
            return Ok(Content::Zero);
        }
        // The used length is the end of the block's header, which begins with an LSN and a transaction only where there
        // are transactions. The rest of the block is not in the sum.
        let used = usize::from(u16_at(block, if self.transactional { 15 } else { 2 }));
        let Some(covered) = block.get(..block.len().saturating_sub(SUM)).and_then(|all| all.get(..used)) else {
            return Err(Fault::Length { len: u32::try_from(used).unwrap_or(u32::MAX) });
        };
        sum(number, block, covered, NO_SUM + 1)
    }

    /// Whether a block of the `.MAD` is complete.
    pub fn check_data(&self, number: u64, block: &[u8]) -> Result<Content, Fault> {
        if !self.data_sums {
            return Ok(Content::Unverified);
        }
        self.size(block)?;
        if is_zero(block) {
            return Ok(Content::Zero);
        }
        // Each bitmap describes, six bytes for 16 pages, the pages up to the next.
        let distance = u64::from((self.block_size - 4) / 6 * 16 + 1);
        let none = if number.is_multiple_of(distance) { NO_SUM } else { NO_SUM + 1 };
        sum(number, block, block.get(..block.len().saturating_sub(SUM)).unwrap_or_default(), none)
    }

    fn size(&self, block: &[u8]) -> Result<(), Fault> {
        let found = block.len();
        if u32::try_from(found) == Ok(self.block_size) {
            Ok(())
        } else {
            Err(Fault::Size { want: self.block_size, found })
        }
    }
}

fn sum(number: u64, block: &[u8], covered: &[u8], none: u32) -> Result<Content, Fault> {
    let stored = block.last_chunk().copied().map_or(0, u32::from_le_bytes);
    if stored == none {
        return Ok(Content::Unverified);
    }
    // The server, too, takes the low half of the number.
    let start = u32::try_from(number & u64::from(u32::MAX)).unwrap_or_default();
    let mut hasher = crc32fast::Hasher::new_with_initial(start);
    hasher.update(covered);
    let computed = hasher.finalize().min(LARGEST_SUM);
    if stored == computed { Ok(Content::Verified) } else { Err(Fault::Checksum { stored, computed }) }
}
