//! The page checksums of all InnoDB versions. Source: `facts/mariadb-hot-backup#page-checks`, `buf0checksum.cc`,
//! `page_zip_calc_checksum`.

use crc32c::{crc32c, crc32c_append};

use super::page::{LSN, Page, TYPE};

/// What `innodb_checksum_algorithm=none` stores instead of a checksum.
pub const NONE: u32 = 0xdead_beef;

/// Where the part of the header that a checksum covers begins: the checksum itself is excluded.
const COVERED: usize = 4;
/// Where that part ends: the following fields are changed when the page is written to disk.
const FLUSHED: usize = 26;
/// Where the page's body begins, after its 38 bytes of header.
const BODY: usize = 38;
/// Where a ROW_FORMAT=COMPRESSED page continues after the field that is changed.
const ZIP_REST: usize = 34;
/// The trailer of a page that is not ROW_FORMAT=COMPRESSED.
const TRAILER: usize = 8;

/// Header and body of an uncompressed page, without the fields that are changed when it is written.
fn parts(page: Page<'_>) -> (&[u8], &[u8]) {
    let (rest, _) = page.bytes.split_at(page.bytes.len() - TRAILER);
    (page.head.split_at(FLUSHED).0.split_at(COVERED).1, rest.split_at(BODY).1)
}

/// The three covered ranges of a ROW_FORMAT=COMPRESSED page, without its LSN.
fn zip_parts(page: Page<'_>) -> [&[u8]; 3] {
    let part = |from, to| page.bytes.split_at(to).0.split_at(from).1;
    [part(COVERED, LSN), part(TYPE, FLUSHED), part(ZIP_REST, page.bytes.len())]
}

/// `crc32` of the format before full_crc32; both checksum fields have it.
pub fn crc32(page: Page<'_>) -> u32 {
    let (head, body) = parts(page);
    crc32c(head) ^ crc32c(body)
}

/// `crc32` of a ROW_FORMAT=COMPRESSED page.
pub fn zip_crc32(page: Page<'_>) -> u32 {
    zip_parts(page).into_iter().fold(0, |sum, part| sum ^ crc32c(part))
}

/// The `innodb` checksum of a ROW_FORMAT=COMPRESSED page: zlib's Adler-32, started with 0 and not with 1.
pub fn zip_adler32(page: Page<'_>) -> u32 {
    let (mut a, mut b) = (0u32, 0u32);
    for part in zip_parts(page) {
        // 5552 is the largest number of bytes for which the sums fit into 32 bits.
        for run in part.chunks(5552) {
            for byte in run {
                a += u32::from(*byte);
                b += a;
            }
            a %= 65521;
            b %= 65521;
        }
    }
    b << 16 | a
}

/// The `innodb` algorithm: the values of the first and of the second checksum field.
pub fn innodb(page: Page<'_>) -> (u32, u32) {
    let (head, body) = parts(page);
    (fold(head).wrapping_add(fold(body)), fold(page.head.split_at(FLUSHED).0))
}

fn fold(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0u32, |sum, byte| {
        let byte = u32::from(*byte);
        let mixed = ((sum ^ byte ^ 1_653_893_711) << 8).wrapping_add(sum);
        (mixed ^ 1_463_735_687).wrapping_add(byte)
    })
}

/// full_crc32: one CRC-32C over all bytes before it.
pub fn full_crc32(covered: &[u8]) -> u32 {
    crc32c(covered)
}

/// A CRC-32C over two ranges, as if they were adjacent (for mini-transactions).
pub fn crc32c_of(first: &[u8], second: &[u8]) -> u32 {
    crc32c_append(crc32c(first), second)
}
