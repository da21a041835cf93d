//! The redo log of MySQL 8.0.30 and later, format 6: a directory of consecutive files `#ib_redoN`. Source:
//! `facts/mysql-hot-backup#redo-log` and `facts/mysql-hot-backup#restore`, `log0types.h`, `log0files_io.cc`.
//!
//! ```text
//!    0   512  header: format, log uuid, start LSN, creator, flags, CRC-32C
//!  512   512  checkpoint block; zero in files that never held the newest checkpoint
//! 1024   512  encryption
//! 1536   512  checkpoint block
//! 2048        blocks of 512 bytes, to the end of the file
//! ```

pub mod block;
pub mod ddl_events;
pub mod forget;
mod secret;

pub use super::creator;
use super::{Fault, seal, sums};
use crate::bytes::Fields as _;
use crate::innodb::ids::Lsn;
pub use block::{BLOCK, Block};
pub use secret::{Locked, LogKey};

/// The directory of the files, below the data directory or `innodb_log_group_home_dir`.
pub const DIR: &str = "#innodb_redo";
/// The name of a captured log in a backup.
pub const FILE: &str = "xtrabackup_logfile";
/// The only supported format.
pub const FORMAT: u32 = 6;
/// Length of the head of a file in bytes, before its first block.
pub const HEAD: usize = 2048;

/// Header flag: logging was off, so recovery with these files is not possible.
pub const NO_LOGGING: u32 = 1;
/// Header flag: logging was off when the server last wrote the header.
pub const CRASH_UNSAFE: u32 = 2;
/// Header flag: the server discards this log.
pub const NOT_INITIALIZED: u32 = 4;
/// Header flag: the log continues in the next file.
pub const FULL: u32 = 8;

/// The oldest server with such a log.
const SERVER: &str = "MySQL 8.0.30";
const PREFIX: &[u8] = b"#ib_redo";
const CHECKPOINTS: [usize; 2] = [512, 1536];
const ENCRYPTION: usize = 1024;
/// Offset of the key information in the encryption block.
const KEY: usize = 48;

/// The header of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The same in all files of a log.
    pub uuid: u32,
    /// LSN of the file's first block, a multiple of [`BLOCK`].
    pub start_lsn: Lsn,
    /// The program that created the log, padded with NULs: `MySQL 9.7.4`.
    pub creator: [u8; 32],
    /// [`FULL`] and the other flags.
    pub flags: u32,
}

impl Header {
    /// Parses the head of a file, at least its first 512 bytes.
    pub fn parse(head: &[u8]) -> Result<Header, Fault> {
        let Some(block) = head.first_chunk::<BLOCK>() else {
            return Err(Fault::Size(head.len() as u64));
        };
        let format = block.be_u32::<0>();
        if format != FORMAT {
            return Err(Fault::Format(format, SERVER));
        }
        let (stored, computed) = sums(block);
        if stored != computed {
            return Err(Fault::Checksum { stored, computed });
        }
        let start_lsn = Lsn::new(block.be_u64::<8>());
        if !start_lsn.get().is_multiple_of(BLOCK as u64) {
            return Err(Fault::Lsn(start_lsn));
        }
        Ok(Header {
            uuid: block.be_u32::<4>(),
            start_lsn,
            creator: block.field::<16, 32>(),
            flags: block.be_u32::<48>(),
        })
    }

    /// The first [`HEAD`] bytes of a file. `checkpoint` is only for the file that contains it: a server reports a
    /// checkpoint in any other file as an error. `encryption` comes from another head of the same log, see
    /// [`encryption`].
    pub fn head(&self, checkpoint: Option<Lsn>, encryption: &[u8; BLOCK]) -> Vec<u8> {
        let mut header = [0; BLOCK];
        header.set::<0, 4>(&FORMAT.to_be_bytes());
        header.set::<4, 4>(&self.uuid.to_be_bytes());
        header.set::<8, 8>(&self.start_lsn.get().to_be_bytes());
        header.set::<16, 32>(&self.creator);
        header.set::<48, 4>(&self.flags.to_be_bytes());
        seal(&mut header);
        let mut block = [0; BLOCK];
        if let Some(checkpoint) = checkpoint {
            block.set::<8, 8>(&checkpoint.get().to_be_bytes());
            seal(&mut block);
        }
        [header, block, *encryption, block].concat()
    }

    /// The first [`HEAD`] bytes of a captured log that begins with the block of `checkpoint_lsn`. xtrabackup recognizes
    /// its own logs by the first word of the creator. The flags are not copied: a server discards a log with one of
    /// them.
    pub fn captured(&self, checkpoint_lsn: Lsn, encryption: &[u8; BLOCK], tool: &str) -> Vec<u8> {
        let header = Header {
            start_lsn: block::begin(checkpoint_lsn),
            creator: creator(&format!("xtrabkup {tool}")),
            ..self.clone()
        };
        Header { flags: 0, ..header }.head(Some(checkpoint_lsn), encryption)
    }

    /// The offset of the block of this LSN in the file.
    pub fn offset(&self, lsn: Lsn) -> u64 {
        (HEAD as u64).saturating_add(block::begin(lsn).since(self.start_lsn))
    }

    /// LSN after the last block of a file of `size` bytes.
    pub fn end_lsn(&self, size: u64) -> Lsn {
        let blocks = size.saturating_sub(HEAD as u64) / BLOCK as u64;
        self.start_lsn.saturating_add(blocks * BLOCK as u64)
    }
}

/// The newest checkpoint in the head of a file of `size` bytes. `None` is normal: only some files contain one, and it
/// may be in the middle of a write.
pub fn checkpoint(head: &[u8], header: &Header, size: u64) -> Option<Lsn> {
    let blocks = CHECKPOINTS.into_iter().filter_map(|at| head.get(at..)?.first_chunk::<BLOCK>());
    let lsns = blocks.filter(|block| sums(block).0 == sums(block).1).map(|block| Lsn::new(block.be_u64::<8>()));
    lsns.filter(|lsn| *lsn > Lsn::ZERO && (header.start_lsn..header.end_lsn(size)).contains(lsn)).max()
}

/// The encryption block of a log that has no key.
pub const CLEAR: &[u8; BLOCK] = &[0; BLOCK];

/// The encryption block of a head, for [`Locked::parse`].
pub fn encryption(head: &[u8]) -> Option<&[u8; BLOCK]> {
    head.get(ENCRYPTION..)?.first_chunk()
}

/// N of a file `#ib_redoN` that is in use. Spare files, `#ib_redoN_tmp`, have old headers and old blocks.
pub fn number(name: &[u8]) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?;
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

/// The name of a file in use.
pub fn name(number: u64) -> String {
    format!("#ib_redo{number}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::innodb::is_zero;

    /// The head of a real file of MySQL 9.7.4, and what follows it (`tests/vectors/mysql-redo`).
    const REAL: &[u8] = include_bytes!("../../../tests/vectors/mysql-redo/redo-9.7.4");

    #[test]
    fn a_real_header_is_read_and_written_again() {
        let header = Header::parse(REAL).unwrap();
        assert!(header.creator.starts_with(b"MySQL 9.7.4\0"));
        assert_eq!((header.flags, header.start_lsn.get() % 512), (0, 0));
        let checkpoint_lsn = checkpoint(REAL, &header, REAL.len() as u64).unwrap();
        assert!(checkpoint_lsn > header.start_lsn);
        assert_eq!(Locked::parse(encryption(REAL).unwrap()), None);
        let made = header.head(Some(checkpoint_lsn), encryption(REAL).unwrap());
        assert_eq!(made[..512], REAL[..512]);
        // The newer one of its two checkpoint blocks.
        assert!(CHECKPOINTS.iter().any(|at| made[*at..*at + 512] == REAL[*at..*at + 512]));
    }

    #[test]
    fn a_captured_log_begins_with_the_block_of_c0() {
        let mut live = Header::parse(REAL).unwrap();
        live.flags = FULL | NOT_INITIALIZED;
        let head = live.captured(Lsn::new(123_456_789), &[7; 512], "xb-redo 1.0");
        let header = Header::parse(&head).unwrap();
        assert_eq!((header.uuid, header.flags, header.start_lsn.get()), (live.uuid, 0, 123_456_512));
        assert!(header.creator.starts_with(b"xtrabkup xb-redo 1.0\0"));
        assert_eq!(encryption(&head), Some(&[7; 512]));
        assert_eq!(checkpoint(&head, &header, 2048 + 512), Some(Lsn::new(123_456_789)));
        assert_eq!(checkpoint(&head, &header, 2048), None);
        assert_eq!(header.offset(Lsn::new(123_456_789)), 2048);
        assert_eq!(header.offset(Lsn::new(123_457_024)), 2560);
        assert_eq!(header.end_lsn(2048 + 1023), Lsn::new(123_457_024));
    }

    #[test]
    fn a_file_without_a_checkpoint_says_so() {
        let header = Header { start_lsn: Lsn::new(1024), uuid: 1, creator: creator("x"), flags: FULL };
        let head = header.head(None, CLEAR);
        assert!(is_zero(&head[512..]));
        assert_eq!(checkpoint(&head, &header, 65536), None);
        assert_eq!(Header::parse(&head), Ok(header));
    }

    #[test]
    fn other_formats_are_named() {
        for (word, name) in
            [(5u32, "MySQL 8.0.1 to 8.0.29"), (7, "unknown format 0x00000007"), (0x5068_7973, "MariaDB")]
        {
            let mut head = REAL[..2048].to_vec();
            head[..4].copy_from_slice(&word.to_be_bytes());
            let fault = Header::parse(&head).unwrap_err().to_string();
            assert!(fault.contains(name), "{fault}");
        }
    }

    #[test]
    fn only_files_in_use_have_a_number() {
        for (text, expect) in [
            ("#ib_redo0", Some(0)),
            ("#ib_redo12345678901", Some(12_345_678_901)),
            ("#ib_redo7_tmp", None),
            ("#ib_redo007", None),
            ("#ib_redo", None),
            ("#ib_redo+7", None),
            ("#ib_redo99999999999999999999999", None),
            ("ib_logfile0", None),
        ] {
            assert_eq!(number(text.as_bytes()), expect, "{text}");
        }
        assert_eq!(number(name(42).as_bytes()), Some(42));
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_noticed(at in 0usize..512, bit in 0u8..8) {
            let mut head = REAL[..2048].to_vec();
            head[at] ^= 1 << bit;
            prop_assert!(Header::parse(&head).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..2100), size: u64) {
            let _ = Header::parse(&bytes);
            let _ = Locked::parse(&bytes).map(|locked| locked.open(&[7; 32]));
            let _ = number(&bytes);
            let header = Header { uuid: 0, start_lsn: Lsn::new(size), creator: [0; 32], flags: 0 };
            let _ = checkpoint(&bytes, &header, size);
            let _ = header.head(Some(Lsn::new(size)), CLEAR);
            let _ = header.offset(Lsn::new(size ^ 0xffff));
        }
    }
}
