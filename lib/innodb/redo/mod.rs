//! The redo log on disk. Each family of servers has its own format: MariaDB writes mini-transactions around one file,
//! MySQL writes blocks into one file after another.

pub mod mariadb;
pub mod mysql;

use super::checksum;

/// What the first word of a log means (`log0types.h` of MariaDB, `log0types.h` of MySQL).
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

/// The sum at the end of a block, and the sum over the rest.
fn sums(block: &[u8]) -> (u32, u32) {
    let (covered, stored) = block.split_last_chunk::<4>().unwrap_or((&[], &[0; 4]));
    (u32::from_be_bytes(*stored), checksum::full_crc32(covered))
}

/// Writes the sum of a block at its end.
fn seal(block: &mut [u8]) {
    let (_, sum) = sums(block);
    if let Some(stored) = block.last_chunk_mut() {
        *stored = sum.to_be_bytes();
    }
}

fn put(block: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = block.get_mut(at..).and_then(|rest| rest.get_mut(..bytes.len())) {
        place.copy_from_slice(bytes);
    }
}
