//! Checksums and hashes, with the names and the output of the usual programs.

use std::hash::Hasher;

use md5::Md5;
use sha1::{Digest, Sha1};

/// What is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// As sha1sum
    Sha1,
    /// As sha256sum
    Sha256,
    /// As sha512sum
    Sha512,
    /// As b3sum
    Blake3,
    /// As crc32 and gzip: against accidents only
    Crc32,
    /// As md5sum: against accidents only
    Md5,
    /// As xxhsum -H3, 64 bits: against accidents only
    Xxh3,
}

impl Algorithm {
    /// The algorithms with this many hexadecimal digits, the more common one first.
    pub fn of_digits(digits: usize) -> &'static [Algorithm] {
        match digits {
            8 => &[Algorithm::Crc32],
            16 => &[Algorithm::Xxh3],
            32 => &[Algorithm::Md5],
            40 => &[Algorithm::Sha1],
            64 => &[Algorithm::Sha256, Algorithm::Blake3],
            128 => &[Algorithm::Sha512],
            _ => &[],
        }
    }

    /// Memory that the computation needs in bytes.
    pub(super) fn memory(self) -> usize {
        let state = match self {
            Algorithm::Blake3 => size_of::<blake3::Hasher>(),
            Algorithm::Xxh3 => size_of::<twox_hash::XxHash3_64>() + 512,
            _ => 0,
        };
        size_of::<Sum>() + state + 32
    }

    /// Starts a computation.
    pub fn begin(self) -> Sum {
        match self {
            Algorithm::Sha1 => Sum::Sha1(Sha1::new()),
            Algorithm::Sha256 => Sum::Sha2(ring::digest::Context::new(&ring::digest::SHA256)),
            Algorithm::Sha512 => Sum::Sha2(ring::digest::Context::new(&ring::digest::SHA512)),
            Algorithm::Blake3 => Sum::Blake3(Box::default()),
            Algorithm::Crc32 => Sum::Crc32(crc32fast::Hasher::new()),
            Algorithm::Md5 => Sum::Md5(Md5::new()),
            Algorithm::Xxh3 => Sum::Xxh3(Box::new(twox_hash::XxHash3_64::new())),
        }
    }
}

/// A computation in progress.
pub enum Sum {
    /// SHA-1.
    Sha1(Sha1),
    /// SHA-256 or SHA-512.
    Sha2(ring::digest::Context),
    /// BLAKE3.
    Blake3(Box<blake3::Hasher>),
    /// CRC-32 of zlib.
    Crc32(crc32fast::Hasher),
    /// MD5.
    Md5(Md5),
    /// XXH3, 64 bits.
    Xxh3(Box<twox_hash::XxHash3_64>),
}

impl Sum {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Sum::Sha1(sum) => sum.update(bytes),
            Sum::Sha2(sum) => sum.update(bytes),
            Sum::Blake3(sum) => drop(sum.update(bytes)),
            Sum::Crc32(sum) => sum.update(bytes),
            Sum::Md5(sum) => sum.update(bytes),
            Sum::Xxh3(sum) => sum.write(bytes),
        }
    }

    /// The hexadecimal digits of the result.
    pub fn finish(self) -> String {
        match self {
            Sum::Sha1(sum) => hex(&sum.finalize()),
            Sum::Sha2(sum) => hex(sum.finish().as_ref()),
            Sum::Blake3(sum) => sum.finalize().to_hex().to_string(),
            Sum::Crc32(sum) => format!("{:08x}", sum.finalize()),
            Sum::Md5(sum) => hex(&sum.finalize()),
            Sum::Xxh3(sum) => format!("{:016x}", sum.finish()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
