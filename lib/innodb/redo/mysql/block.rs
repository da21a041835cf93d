//! The blocks of a log file: 12 bytes of header, data, CRC-32C. LSNs count all of these bytes. Source:
//! `facts/mysql-hot-backup#log-blocks`, `log0types.h` (`Log_data_block_header`).

use std::cmp::Ordering;

use super::LogKey;
use crate::bytes::{Fields as _, within};
use crate::error::{Internal, OrInternal as _};
use crate::innodb::checksum;
use crate::innodb::ids::Lsn;
use crate::innodb::redo::{seal, sums};

/// Size of a block in bytes.
pub const BLOCK: usize = 512;
/// Length of its header in bytes: number (4), bytes used (2), first mini-transaction (2), epoch (4).
pub const HEADER: usize = 12;
/// Offset of the checksum.
pub const TRAILER: usize = 508;
/// Bit in the bytes used: all after the header is encrypted, including the checksum.
const ENCRYPTED: u16 = 0x8000;
/// Number of blocks in an epoch; after that, block numbers start again.
const EPOCH: u64 = 1 << 30;

/// What is at the position of an LSN's block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// That block, complete.
    Here {
        /// How many bytes contain log, including the header: [`BLOCK`] in a full block, fewer in the last one.
        used: usize,
    },
    /// That block, encrypted with its checksum. Without the key it can be neither verified nor cut.
    Encrypted {
        /// As in `Here`.
        used: usize,
    },
    /// That block, written with `innodb_log_checksums=OFF`: it cannot be verified.
    Unsealed,
    /// An older block, nothing, or part of a block that is being written: not available yet.
    Missing,
    /// A block of a later LSN: this one was overwritten.
    Overwritten,
}

/// LSN at which the block of this LSN begins.
pub fn begin(lsn: Lsn) -> Lsn {
    Lsn::new(lsn.get() - lsn.get() % BLOCK as u64)
}

/// How many bytes of the block of `lsn` are used if the log ends there. [`HEADER`] or less: none.
pub fn used(lsn: Lsn) -> usize {
    within(lsn.get(), BLOCK)
}

/// LSN after the last block of a log that ends at `lsn`.
pub fn until(lsn: Lsn) -> Lsn {
    begin(lsn).saturating_add(if used(lsn) > HEADER { BLOCK as u64 } else { 0 })
}

/// True if the log can end there: the end of a mini-transaction is never inside a header or a checksum.
pub fn is_end(lsn: Lsn) -> bool {
    (HEADER..=TRAILER).contains(&used(lsn))
}

/// The epoch and number of the block of `lsn`; both start with 1.
fn identity(lsn: Lsn) -> (u32, u32) {
    let index = lsn.get() / BLOCK as u64;
    let part = |value: u64| u32::try_from(value).unwrap_or(u32::MAX).saturating_add(1);
    (part(index / EPOCH), part(index % EPOCH))
}

/// Writes the header of the block of this LSN, without data.
pub(super) fn header(block: &mut [u8; BLOCK], lsn: Lsn) {
    let (epoch, number) = identity(lsn);
    block.set::<0, 4>(&number.to_be_bytes());
    block.set::<8, 4>(&epoch.to_be_bytes());
}

/// Checks whether this is the block that begins at `lsn`. With the log's key, an encrypted block is checked like any
/// other.
pub fn check(bytes: &[u8], lsn: Lsn, key: Option<&LogKey>) -> Block {
    let Some(bytes) = bytes.first_chunk::<BLOCK>() else { return Block::Missing };
    match key {
        Some(key) if is_encrypted(bytes) => plain(&key.decrypt(bytes), lsn),
        _ => plain(bytes, lsn),
    }
}

fn plain(bytes: &[u8; BLOCK], lsn: Lsn) -> Block {
    let used = usize::from(bytes.be_u16::<4>() & !ENCRYPTED);
    let encrypted = is_encrypted(bytes);
    let (stored, computed) = sums(bytes);
    let sealed = stored == computed;
    if !(encrypted || sealed || stored == checksum::NONE) || !(HEADER..=BLOCK).contains(&used) {
        return Block::Missing;
    }
    // Before 8.0.30 the highest bit had a meaning.
    let found = (bytes.be_u32::<8>(), bytes.be_u32::<0>() & !(1 << 31));
    match found.cmp(&identity(lsn)) {
        Ordering::Less => Block::Missing,
        Ordering::Equal if encrypted => Block::Encrypted { used },
        Ordering::Equal if sealed => Block::Here { used },
        Ordering::Equal => Block::Unsealed,
        Ordering::Greater => Block::Overwritten,
    }
}

/// Ends the log in this block after `used` bytes, at the end of a mini-transaction; removes what follows. An encrypted
/// block needs the log's key and stays encrypted; without the key it is not changed.
///
/// # Errors
///
/// Internal, if this is not a block, or the log cannot end there.
pub fn cut(block: &mut [u8], used: usize, key: Option<&LogKey>) -> Result<(), Internal> {
    let block = block.first_chunk_mut::<BLOCK>().or_internal("a block of the log is too short")?;
    match key {
        Some(key) if is_encrypted(block) => {
            let mut clear = key.decrypt(block);
            shorten(&mut clear, used)?;
            *block = key.encrypt(&clear);
        }
        _ if is_encrypted(block) => {}
        _ => shorten(block, used)?,
    }
    Ok(())
}

fn shorten(block: &mut [u8; BLOCK], used: usize) -> Result<(), Internal> {
    const NO_END: &str = "the log is to be cut where it cannot end";
    if used == BLOCK {
        return Ok(());
    }
    block.get_mut(used..TRAILER).or_internal(NO_END)?.fill(0);
    block.set::<4, 2>(&u16::try_from(used).or_internal(NO_END)?.to_be_bytes());
    if usize::from(block.be_u16::<6>()) > used {
        block.set::<6, 2>(&[0; 2]);
    }
    seal(block);
    Ok(())
}

fn is_encrypted(block: &[u8; BLOCK]) -> bool {
    block.be_u16::<4>() & ENCRYPTED != 0
}

/// Sets or clears the bit for encryption.
pub(super) fn set_encrypted(block: &mut [u8; BLOCK], encrypted: bool) {
    let used = block.be_u16::<4>() & !ENCRYPTED;
    block.set::<4, 2>(&(used | if encrypted { ENCRYPTED } else { 0 }).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{HEAD, Header, checkpoint};
    use super::*;
    use crate::innodb::redo::put;

    const REAL: &[u8] = include_bytes!("../../../../tests/vectors/mysql-redo/redo-9.7.4");

    /// A block of data for this LSN.
    fn block(lsn: u64, used: u16) -> Vec<u8> {
        let (epoch, number) = identity(Lsn::new(lsn));
        let mut block = vec![0x5a; BLOCK];
        put(&mut block, 0, &number.to_be_bytes());
        put(&mut block, 4, &used.to_be_bytes());
        put(&mut block, 6, &200u16.to_be_bytes());
        put(&mut block, 8, &epoch.to_be_bytes());
        seal(block.first_chunk_mut::<BLOCK>().unwrap());
        block
    }

    fn here(used: usize) -> Block {
        Block::Here { used }
    }

    fn check(bytes: &[u8], lsn: u64) -> Block {
        super::check(bytes, Lsn::new(lsn), None)
    }

    #[test]
    fn blocks_behind_the_end_of_the_log_are_stale() {
        let header = Header::parse(REAL).unwrap();
        let checkpoint_lsn = checkpoint(REAL, &header, REAL.len() as u64).unwrap();
        let mut lsn = header.start_lsn;
        let blocks: Vec<Block> = REAL[HEAD..]
            .chunks(BLOCK)
            .map(|bytes| {
                let found = check(bytes, lsn.get());
                lsn = lsn.saturating_add(BLOCK as u64);
                found
            })
            .collect();
        let full = blocks.iter().take_while(|block| **block == here(BLOCK)).count();
        assert!(full > 3 && header.start_lsn.saturating_add((full * BLOCK) as u64) > checkpoint_lsn);
        assert!(matches!(blocks[full], Block::Here { used: 12..512 }), "{:?}", blocks[full]);
        assert!(blocks[full + 1..].iter().all(|block| *block == Block::Missing));
        assert!(blocks.len() > full + 1);
    }

    #[test]
    fn a_block_is_known_by_number_and_epoch() {
        let lsn = 5_000_192;
        assert_eq!(check(&block(lsn, 512), lsn), here(512));
        assert_eq!(check(&block(lsn, 77), lsn), here(77));
        assert_eq!(check(&block(lsn, 512), lsn + 512), Block::Missing);
        assert_eq!(check(&block(lsn, 512), lsn - 512), Block::Overwritten);
        // The number of the first block of an epoch is lower than that of the last one before it.
        let epoch = EPOCH * 512;
        assert_eq!(identity(Lsn::new(epoch - 512)), (1, 1 << 30));
        assert_eq!(identity(Lsn::new(epoch)), (2, 1));
        assert_eq!(check(&block(epoch, 512), epoch - 512), Block::Overwritten);
        assert_eq!(check(&block(epoch - 512, 512), epoch), Block::Missing);
    }

    #[test]
    fn half_a_block_is_not_here() {
        let mut torn = block(1024, 512);
        torn[300..].fill(0);
        assert_eq!(check(&torn, 1024), Block::Missing);
        assert_eq!(check(&[0; 512], 1024), Block::Missing);
        assert_eq!(check(&block(1024, 512)[..511], 1024), Block::Missing);
        for used in [0, 11, 513] {
            assert_eq!(check(&block(1024, used), 1024), Block::Missing);
        }
    }

    #[test]
    fn blocks_without_checksum_and_encrypted_blocks_are_recognized() {
        let mut unsealed = block(1024, 512);
        unsealed[508..].copy_from_slice(&[0xde, 0xad, 0xbe, 0xef]);
        assert_eq!(check(&unsealed, 1024), Block::Unsealed);
        assert_eq!([check(&unsealed, 512), check(&unsealed, 1536)], [Block::Overwritten, Block::Missing]);
        let mut secret = block(1024, 0x8000 | 512);
        secret[12..].fill(0x77);
        assert_eq!(check(&secret, 1024), Block::Encrypted { used: 512 });
    }

    #[test]
    fn a_cut_block_ends_where_it_was_cut() {
        for (used, first) in [(150, 0), (199, 0), (200, 200), (508, 200)] {
            let mut bytes = block(1024, 512);
            cut(&mut bytes, used, None).unwrap();
            assert_eq!(check(&bytes, 1024), here(used));
            assert_eq!(usize::from(bytes.first_chunk::<8>().unwrap().be_u16::<6>()), first);
            assert!(bytes[used..508].iter().all(|byte| *byte == 0) && bytes[used - 1] == 0x5a);
        }
    }

    #[test]
    fn a_log_ends_inside_the_data_of_a_block() {
        for (lsn, end) in [(1024, false), (1035, false), (1036, true), (1532, true), (1533, false)] {
            assert_eq!(is_end(Lsn::new(lsn)), end, "{lsn}");
        }
        assert_eq!((begin(Lsn::new(1036)), used(Lsn::new(1036))), (Lsn::new(1024), 12));
        assert_eq!([1036, 1037, 1532].map(|lsn| until(Lsn::new(lsn)).get()), [1024, 1536, 1536]);
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_never_taken(at in 0usize..512, bit in 0u8..8) {
            let mut bytes = block(1024, 512);
            bytes[at] ^= 1 << bit;
            // The bit for "encrypted" removes the checksum; the highest bit of the number has no meaning, but the
            // checksum covers it.
            prop_assume!((at, bit) != (4, 7));
            prop_assert_eq!(check(&bytes, 1024), Block::Missing);
        }

        #[test]
        fn any_bytes_are_read_without_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..600), lsn: u64, used in 0usize..1000) {
            let _ = check(&bytes, lsn);
            let _ = cut(&mut bytes, used, None);
        }
    }
}
