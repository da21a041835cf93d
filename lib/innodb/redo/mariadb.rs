//! The redo log of MariaDB 10.8 and later: one file, `ib_logfile0`, written as a ring. Source:
//! `facts/mariadb-hot-backup#redo-log` and `facts/mariadb-hot-backup#captured-log`, `log0types.h`, `log0log.cc`,
//! `log0recv.cc`.
//!
//! ```text
//!     0   512  header: format, first LSN, creator, encryption, CRC-32C
//!  4096    64  checkpoint block, in turn with the next
//!  8192    64  checkpoint block
//! 12288        mini-transactions: the ring, to the end of the file
//! ```

pub mod apply;
mod deletions;
pub mod mtr;
pub mod records;

use super::{Fault, creator, seal, sums};
use crate::bytes::Fields as _;
use crate::innodb::ids::Lsn;
use crate::innodb::is_zero;
pub use deletions::Deletions;
pub use mtr::{Mtr, MtrFault, mtr};

/// Offset of the ring in bytes; also the lowest possible LSN.
pub const START: usize = 12288;
/// Size of the header block in bytes.
pub const HEADER: usize = 512;
/// Size of a checkpoint block in bytes.
pub const CHECKPOINT: usize = 64;
/// Offsets of the two checkpoint blocks.
pub const CHECKPOINTS: [usize; 2] = [4096, 8192];
/// The name of the log file in its directory.
pub const FILE: &str = "ib_logfile0";

/// The oldest server with such a log.
const SERVER: &str = "MariaDB 10.8";
/// The header's fields.
const FIRST_LSN: usize = 8;
const CREATOR: usize = 16;
const ENCRYPTION: usize = 48;
const ENCRYPTION_END: usize = 76;

/// The format, from the first word of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `Phys`: MariaDB 10.8 and later. Encrypted logs of early 10.11 have it, too.
    Phys,
    /// Encrypted, later 10.11 and 11.x.
    Encrypted,
}

impl Format {
    const PHYS: u32 = 0x5068_7973;
    const ENCRYPTED: u32 = 0xf09f_979d;

    fn word(self) -> u32 {
        match self {
            Format::Phys => Self::PHYS,
            Format::Encrypted => Self::ENCRYPTED,
        }
    }
}

/// The header block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The format of what follows.
    pub format: Format,
    /// LSN of the first byte of the ring, at least [`START`].
    pub first_lsn: Lsn,
    /// The program that created the file, padded with NULs: `MariaDB 10.11.19`, `Backup ...`.
    pub creator: [u8; 32],
    /// Key id, key version, message and nonce as stored; zero in a log that is not encrypted.
    pub encryption: [u8; ENCRYPTION_END - ENCRYPTION],
}

impl Header {
    /// Parses the first [`HEADER`] bytes of the file.
    pub fn parse(block: &[u8]) -> Result<Header, Fault> {
        let Some(block) = block.first_chunk::<HEADER>() else {
            return Err(Fault::Size(block.len() as u64));
        };
        let format = match block.be_u32::<0>() {
            Format::PHYS => Format::Phys,
            Format::ENCRYPTED => Format::Encrypted,
            other => return Err(Fault::Format(other, SERVER)),
        };
        let (stored, computed) = sums(block);
        if stored != computed {
            return Err(Fault::Checksum { stored, computed });
        }
        let first_lsn = Lsn::new(block.be_u64::<FIRST_LSN>());
        if first_lsn < Lsn::new(START as u64) {
            return Err(Fault::Lsn(first_lsn));
        }
        let creator = block.field::<CREATOR, 32>();
        let encryption = block.field::<ENCRYPTION, { ENCRYPTION_END - ENCRYPTION }>();
        Ok(Header { format, first_lsn, creator, encryption })
    }

    /// True if every mini-transaction has a nonce, and its content cannot be read without the server's key.
    pub fn encrypted(&self) -> bool {
        self.format == Format::Encrypted || self.encryption.be_u32::<0>() != 0
    }

    /// The header block as the server writes it.
    pub fn block(&self) -> [u8; HEADER] {
        let mut block = [0; HEADER];
        block.set::<0, 4>(&self.format.word().to_be_bytes());
        block.set::<FIRST_LSN, 8>(&self.first_lsn.get().to_be_bytes());
        block.set::<CREATOR, 32>(&self.creator);
        block.set::<ENCRYPTION, { ENCRYPTION_END - ENCRYPTION }>(&self.encryption);
        seal(&mut block);
        block
    }

    /// The first [`START`] bytes of a captured log, whose first lap contains what follows `checkpoint`. The creator is
    /// `Backup ` and `tool`: the server treats a directory with such a log as just restored. It drops orphaned `#sql-`
    /// tables and does not complain about missing ones.
    pub fn captured(&self, checkpoint: Checkpoint, tool: &str) -> Vec<u8> {
        let creator = creator(&format!("Backup {tool}"));
        let header = Header { first_lsn: checkpoint.lsn, creator, ..self.clone() };
        let mut head = Vec::with_capacity(START);
        head.extend(header.block());
        head.resize(CHECKPOINTS[0], 0);
        head.extend(checkpoint.block());
        head.resize(START, 0);
        head
    }
}

/// A checkpoint of the server: all changes before `lsn` are in the data files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Where recovery begins.
    pub lsn: Lsn,
    /// Where the mini-transaction with FILE_CHECKPOINT(lsn) of this checkpoint begins, possibly after FILE_MODIFY
    /// records; the log is durable at least up to here.
    pub end_lsn: Lsn,
}

impl Checkpoint {
    /// Parses one block ([`CHECKPOINT`] bytes); `None` if it is empty, being written, or older than the log.
    pub fn parse(block: &[u8], first_lsn: Lsn) -> Option<Checkpoint> {
        let block = block.first_chunk::<CHECKPOINT>()?;
        let (stored, computed) = sums(block);
        let (lsn, end_lsn) = (Lsn::new(block.be_u64::<0>()), Lsn::new(block.be_u64::<8>()));
        let valid = stored == computed && is_zero(block.get(16..60)?) && first_lsn <= lsn && lsn <= end_lsn;
        valid.then_some(Checkpoint { lsn, end_lsn })
    }

    /// The newer of the two in the first [`START`] bytes of the file; `None` if both are being written: read again.
    pub fn newest(head: &[u8], first_lsn: Lsn) -> Option<Checkpoint> {
        let blocks = CHECKPOINTS.into_iter().filter_map(|at| Checkpoint::parse(head.get(at..)?, first_lsn));
        blocks.max_by_key(|checkpoint| (checkpoint.lsn, checkpoint.end_lsn))
    }

    /// The block as the server writes it.
    pub fn block(&self) -> [u8; CHECKPOINT] {
        let mut block = [0; CHECKPOINT];
        block.set::<0, 8>(&self.lsn.get().to_be_bytes());
        block.set::<8, 8>(&self.end_lsn.get().to_be_bytes());
        seal(&mut block);
        block
    }
}

/// How LSNs map to offsets in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring {
    first_lsn: Lsn,
    capacity: u64,
}

impl Ring {
    /// `size` is the length of the whole file.
    pub fn new(first_lsn: Lsn, size: u64) -> Result<Ring, Fault> {
        match size.checked_sub(START as u64) {
            Some(capacity) if capacity > 0 => Ok(Ring { first_lsn, capacity }),
            _ => Err(Fault::Size(size)),
        }
    }

    /// LSN of the first byte of the first lap.
    pub fn first_lsn(&self) -> Lsn {
        self.first_lsn
    }

    /// How many bytes of log the file can contain.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The offset of the byte with this LSN; LSNs before the first count as the first.
    pub fn offset(&self, lsn: Lsn) -> u64 {
        START as u64 + lsn.since(self.first_lsn) % self.capacity
    }

    /// The sequence bit of a mini-transaction whose end byte has this LSN: 1 in the first lap, 0 in the second, and so
    /// on.
    pub fn sequence(&self, lsn: Lsn) -> u8 {
        u8::from((lsn.since(self.first_lsn) / self.capacity).is_multiple_of(2))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::put;
    use super::*;

    fn header() -> Header {
        let mut creator = [0; 32];
        creator[..16].copy_from_slice(b"MariaDB 10.11.19");
        Header { format: Format::Phys, first_lsn: Lsn::new(12288), creator, encryption: [0; 28] }
    }

    #[test]
    fn a_captured_log_has_the_servers_header() {
        let head =
            header().captured(Checkpoint { lsn: Lsn::new(0x1_2345), end_lsn: Lsn::new(0x1_3000) }, "xb-tools 0.1.0");
        assert_eq!(head.len(), START);
        assert_eq!(head[..16], *b"Phys\0\0\0\0\0\0\0\0\0\x01\x23\x45");
        assert_eq!(head[16..48], *b"Backup xb-tools 0.1.0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(head[4096..4112], *b"\0\0\0\0\0\x01\x23\x45\0\0\0\0\0\x01\x30\0");
        // Checksums computed without this code.
        assert_eq!(head[508..512], [0x1c, 0x14, 0x18, 0xf0]);
        assert_eq!(head[4156..4160], [0xfb, 0xa7, 0x95, 0x74]);
        let rest = [&head[512..4096], &head[4160..]].concat();
        assert!(is_zero(&rest));
        let read = Header::parse(&head).unwrap();
        assert_eq!(read.first_lsn, Lsn::new(0x1_2345));
        assert_eq!(
            Checkpoint::newest(&head, read.first_lsn),
            Some(Checkpoint { lsn: Lsn::new(0x1_2345), end_lsn: Lsn::new(0x1_3000) })
        );
    }

    #[test]
    fn a_long_name_of_the_tool_is_cut() {
        let head = header().captured(Checkpoint { lsn: Lsn::new(12288), end_lsn: Lsn::new(12288) }, &"x".repeat(99));
        assert_eq!(head[16..48], *b"Backup xxxxxxxxxxxxxxxxxxxxxxxx\0");
    }

    #[test]
    fn foreign_formats_are_named() {
        for (word, name) in [
            (*b"PHYS", "MariaDB 10.5 to 10.7"),
            ([0xd0, 0x48, 0x59, 0x53], "MariaDB 10.5 to 10.7"),
            ([0, 0, 0, 6], "MySQL 8.0.30 or later"),
            ([0, 0, 0, 104], "MariaDB 10.4"),
            ([0x80, 0, 0, 103], "MariaDB 10.3"),
            (*b"\x1f\x8b\x08\0", "unknown format 0x1f8b0800"),
        ] {
            let mut block = header().block();
            block[..4].copy_from_slice(&word);
            let fault = Header::parse(&block).unwrap_err().to_string();
            assert!(fault.contains(name), "{fault}");
        }
    }

    #[test]
    fn the_newer_checkpoint_that_is_whole_counts() {
        let (old, new) = (
            Checkpoint { lsn: Lsn::new(20_000), end_lsn: Lsn::new(20_500) },
            Checkpoint { lsn: Lsn::new(30_000), end_lsn: Lsn::new(30_100) },
        );
        let mut head = vec![0; START];
        assert_eq!(Checkpoint::newest(&head, Lsn::new(12288)), None);
        put(&mut head, 4096, &new.block());
        put(&mut head, 8192, &old.block());
        assert_eq!(Checkpoint::newest(&head, Lsn::new(12288)), Some(new));
        // Older than a log that has been resized since.
        assert_eq!(Checkpoint::newest(&head, Lsn::new(25_000)), Some(new));
        assert_eq!(Checkpoint::newest(&head, Lsn::new(30_001)), None);
        // If one is being written, the other is used.
        head[4096 + 7] ^= 1;
        assert_eq!(Checkpoint::newest(&head, Lsn::new(12288)), Some(old));
    }

    #[test]
    fn laps_alternate() {
        let ring = Ring::new(Lsn::new(12288), 12288 + 1000).unwrap();
        for (lsn, offset, sequence) in
            [(12288, 12288, 1), (13287, 13287, 1), (13288, 12288, 0), (14287, 13287, 0), (14288, 12288, 1)]
        {
            assert_eq!((ring.offset(Lsn::new(lsn)), ring.sequence(Lsn::new(lsn))), (offset, sequence), "{lsn}");
        }
        assert_eq!(Ring::new(Lsn::new(12288), 12288), Err(Fault::Size(12288)));
    }

    proptest! {
        #[test]
        fn a_header_comes_back(first_lsn in 12288u64.., creator: [u8; 32], encryption: [u8; 28], phys: bool) {
            let format = if phys { Format::Phys } else { Format::Encrypted };
            let header = Header { format, first_lsn: Lsn::new(first_lsn), creator, encryption };
            prop_assert_eq!(Header::parse(&header.block()), Ok(header));
        }

        #[test]
        fn a_flipped_bit_of_a_header_or_checkpoint_is_noticed(at in 0usize..HEADER, bit in 0u8..8) {
            let mut block = header().block();
            block[at] ^= 1 << bit;
            prop_assert!(Header::parse(&block).is_err());
            let mut block = Checkpoint { lsn: Lsn::new(20_000), end_lsn: Lsn::new(20_500) }.block();
            block[at % CHECKPOINT] ^= 1 << bit;
            prop_assert_eq!(Checkpoint::parse(&block, Lsn::new(12288)), None);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = Header::parse(&bytes);
            let _ = Checkpoint::parse(&bytes, Lsn::new(0));
            let _ = Checkpoint::newest(&bytes, Lsn::new(0));
        }
    }
}
