//! The redo log on disk. Each family has its own format: MariaDB writes mini-transactions into one file, as a ring;
//! MySQL writes blocks into one file after another.

pub mod mariadb;
pub mod mysql;

use std::fmt;

use super::{Lsn, checksum};
use crate::bytes::Fields as _;

/// Why bytes are not the head of a supported log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Too few bytes for a head, or a file without a ring.
    Size(u64),
    /// A log of another format, and the server whose log was expected.
    Format(u32, &'static str),
    /// The checksum of the head is wrong; it may be in the middle of a write.
    Checksum {
        /// The checksum in the head.
        stored: u32,
        /// The computed checksum.
        computed: u32,
    },
    /// No log begins at this LSN.
    Lsn(Lsn),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Size(size) => write!(f, "{size} bytes are no redo log"),
            Fault::Format(word, server) => write!(f, "redo log {}; {server} or later is needed", known(*word)),
            Fault::Checksum { stored, computed } => {
                write!(f, "redo log header checksum {stored:#010x} is stored, {computed:#010x} is computed")
            }
            Fault::Lsn(lsn) => write!(f, "redo log begins at lsn {lsn}, which cannot be"),
        }
    }
}

/// The version at the end of a creator's name: `9.7.4` of `MySQL 9.7.4`, padded with NULs.
pub fn version(creator: &[u8; 32]) -> String {
    let creator = String::from_utf8_lossy(creator);
    creator.trim_end_matches('\0').rsplit(' ').next().unwrap_or_default().to_owned()
}

/// The meaning of the first word of a log (`log0types.h` of MariaDB, `log0types.h` of MySQL).
fn known(word: u32) -> String {
    // Formats of MariaDB before 10.8 mark an encrypted log with the highest bit.
    let server = match word & !(1 << 31) {
        0 => "MariaDB 10.1, MySQL 5.6 or older, or without a header",
        1 => "MariaDB 10.2 or MySQL 5.7",
        2..=5 => "MySQL 8.0.1 to 8.0.29",
        6 => "MySQL 8.0.30 or later",
        103 => "MariaDB 10.3",
        104 => "MariaDB 10.4",
        0x5048_5953 => "MariaDB 10.5 to 10.7",
        0x5068_7973 => "MariaDB 10.8 or later",
        _ => return format!("of an unknown format {word:#010x}"),
    };
    format!("of {server} (format {word:#010x})")
}

/// The checksum at the end of a block, and the computed one.
fn sums<const LEN: usize>(block: &[u8; LEN]) -> (u32, u32) {
    let (covered, _) = block.split_at(LEN - 4);
    (u32::from_be_bytes(block.last_field()), checksum::full_crc32(covered))
}

/// Writes the checksum at the end of a block.
fn seal<const LEN: usize>(block: &mut [u8; LEN]) {
    let (_, sum) = sums(block);
    block.set_last(&sum.to_be_bytes());
}

/// A name, truncated to 31 bytes and padded with NULs.
pub fn creator(text: &str) -> [u8; 32] {
    let mut bytes = text.bytes().take(31);
    std::array::from_fn(|_| bytes.next().unwrap_or(0))
}

#[cfg(test)]
fn put(block: &mut [u8], at: usize, bytes: &[u8]) {
    block[at..at + bytes.len()].copy_from_slice(bytes);
}
