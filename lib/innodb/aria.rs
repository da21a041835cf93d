//! Blocks of Aria tables: `.MAI` (index) and `.MAD` (rows), to detect one that was read while it was written. Source:
//! `facts/mariadb-hot-backup#aria`, `ma_open.c`, `ma_pagecrc.c`.
//!
//! The last four bytes of a block are, **little-endian**, zlib's CRC-32, started with the block's number.

use super::is_zero;
use super::page::{Content, Fault};
use crate::bytes::Fields as _;

/// How much of an `.MAI` is needed to parse its head; all of a shorter file.
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
/// Means "no checksum" in bitmap blocks; the next value means that in others. No checksum has these values.
const NO_SUM: u32 = 0xffff_fffe;
const LARGEST_SUM: u32 = 0xffff_fffd;

/// What the head of an `.MAI` says of both files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aria {
    /// Size of a block in bytes, in both files.
    pub block_size: u32,
    /// The first index block of the `.MAI`; the blocks before are the head.
    pub first_index: u64,
    /// True if index blocks have checksums that can be verified without a key.
    pub index_sums: bool,
    /// True if the `.MAD` consists of blocks with such checksums.
    pub data_sums: bool,
    transactional: bool,
}

impl Aria {
    /// Parses the start of an `.MAI` ([`HEAD`] bytes, or all of a shorter file); `None` if it is not an Aria index.
    pub fn parse(head: &[u8]) -> Option<Aria> {
        if !head.starts_with(&MAGIC) {
            return None;
        }
        let start = head.first_chunk::<24>()?;
        let base = head.get(usize::from(start.be_u16::<BASE>())..)?.first_chunk::<{ TRANSACTIONAL + 1 }>()?;
        let transactional = base.field::<TRANSACTIONAL, 1>() != [0];
        let (keystart, block_size) = (base.be_u64::<KEYSTART>(), u32::from(base.be_u16::<BLOCK_SIZE>()));
        // The server's range (`MARIA_MIN_KEY_BLOCK_LENGTH`, `MARIA_MAX_KEY_BLOCK_LENGTH`).
        if !(1 << 10..=32 << 10).contains(&block_size) || !block_size.is_power_of_two() {
            return None;
        }
        let readable = start.be_u16::<OPTIONS>() & CHECKSUMS != 0 && base.be_u16::<EXTRA_OPTIONS>() & ENCRYPTED == 0;
        Some(Aria {
            block_size,
            first_index: keystart / u64::from(block_size),
            index_sums: readable,
            data_sums: readable && start.field::<ROW_FORMAT, 1>() == [PAGE],
            transactional,
        })
    }

    /// Checks that a block of the `.MAI` is complete.
    pub fn check_index(&self, number: u64, block: &[u8]) -> Result<Content, Fault> {
        let (all, stored) = self.split(block)?;
        let start = all.first_chunk::<17>().ok_or(Fault::Size { want: self.block_size, found: block.len() })?;
        if !self.index_sums || number < self.first_index {
            return Ok(Content::Unverified);
        }
        if is_zero(block) {
            return Ok(Content::Zero);
        }
        // The used length is at the end of the block's header, which starts with an LSN and a transaction id only for
        // transactional tables. The checksum does not cover the rest of the block.
        let used = if self.transactional { start.be_u16::<15>() } else { start.be_u16::<2>() };
        let Some(covered) = all.get(..usize::from(used)) else {
            return Err(Fault::Length { len: used.into() });
        };
        sum(number, stored, covered, NO_SUM + 1)
    }

    /// Checks that a block of the `.MAD` is complete.
    pub fn check_data(&self, number: u64, block: &[u8]) -> Result<Content, Fault> {
        if !self.data_sums {
            return Ok(Content::Unverified);
        }
        let (all, stored) = self.split(block)?;
        if is_zero(block) {
            return Ok(Content::Zero);
        }
        // Each bitmap describes the pages up to the next one: six bytes for 16 pages.
        let distance = u64::from((self.block_size - 4) / 6 * 16 + 1);
        let none = if number.is_multiple_of(distance) { NO_SUM } else { NO_SUM + 1 };
        sum(number, stored, all, none)
    }

    /// The bytes that the checksum can cover, and the checksum.
    fn split<'a>(&self, block: &'a [u8]) -> Result<(&'a [u8], &'a [u8; SUM]), Fault> {
        let split = block.split_last_chunk().filter(|_| u32::try_from(block.len()) == Ok(self.block_size));
        split.ok_or(Fault::Size { want: self.block_size, found: block.len() })
    }
}

fn sum(number: u64, stored: &[u8; SUM], covered: &[u8], none: u32) -> Result<Content, Fault> {
    let stored = u32::from_le_bytes(*stored);
    if stored == none {
        return Ok(Content::Unverified);
    }
    // The server uses the low half of the number, too.
    let start = number.to_le_bytes().le_u32::<0>();
    let mut hasher = crc32fast::Hasher::new_with_initial(start);
    hasher.update(covered);
    let computed = hasher.finalize().min(LARGEST_SUM);
    if stored == computed { Ok(Content::Verified) } else { Err(Fault::Checksum { stored, computed }) }
}
