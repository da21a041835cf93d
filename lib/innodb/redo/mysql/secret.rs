//! Encryption of the log: the key in a head, encrypted with one of the server's master keys, and the blocks encrypted
//! with it. Source: `facts/mysql-hot-backup#encryption`, `os0enc.cc` (`Encryption::encrypt_log`).
//!
//! ```text
//! key, at 48 of the encryption block       a block
//!   0   3  lCC                               0   12  header, in clear; the highest bit of the bytes used is set
//!   3   4  number of the master key         12  500  AES-256-CBC, the CRC-32C too; that is the sum of the block
//!   7  36  uuid of the server                        with this bit cleared
//!  43  64  key, IV (AES-256-ECB)
//! 107   4  CRC-32C of both in clear
//! ```
//!
//! 500 bytes are not a multiple of the cipher's block size: the first 496 are encrypted, then the last 32 of the block
//! are encrypted again, as a text of their own.

use std::fmt;

use aes::Aes256;
use aes::cipher::{Array, BlockCipherDecrypt, BlockModeDecrypt, BlockModeEncrypt, InnerIvInit, KeyInit};
use zeroize::Zeroizing;

use super::block::{BLOCK, HEADER, set_encrypted};
use crate::innodb::checksum;

const MAGIC: &[u8] = b"lCC";
const UUID: usize = 36;
/// Key and IV; only the first half of the IV's 32 bytes is used.
const SECRET: usize = 64;
const KEY_LEN: usize = 32;
const IV_LEN: usize = 16;
/// Size of a cipher block in bytes.
const CELL: usize = 16;
/// Where the second encryption begins: 32 bytes before the end.
const AGAIN: usize = BLOCK - 2 * CELL;
/// Where the first encryption ends.
const WHOLE: usize = BLOCK - (BLOCK - HEADER) % CELL;

/// The encrypted key of a log, from its head. A server generates the key when the log is encrypted for the first time,
/// and keeps it. The files that have contained the newest checkpoint since then have it, others do not.
#[derive(Clone, PartialEq, Eq)]
pub struct Locked {
    master: String,
    secret: [u8; SECRET],
    sum: u32,
}

impl Locked {
    /// Parses the encryption block of a head; `None` if the log has no key.
    pub fn parse(encryption: &[u8]) -> Option<Locked> {
        let rest = encryption.get(super::KEY..)?.strip_prefix(MAGIC)?;
        let (number, rest) = rest.split_first_chunk()?;
        let (uuid, rest) = rest.split_first_chunk::<UUID>()?;
        let uuid = std::str::from_utf8(uuid).ok().filter(|uuid| uuid.bytes().all(|byte| byte.is_ascii_graphic()))?;
        let (secret, rest) = rest.split_first_chunk()?;
        let master = format!("INNODBKey-{uuid}-{}", u32::from_be_bytes(*number));
        rest.first_chunk().map(|sum| Locked { master, secret: *secret, sum: u32::from_be_bytes(*sum) })
    }

    /// The name of the master key in the keyring: `INNODBKey-UUID-NUMBER`.
    pub fn master(&self) -> &str {
        &self.master
    }

    /// Decrypts the key; `None` if `master` is the wrong one.
    pub fn open(&self, master: &[u8; KEY_LEN]) -> Option<LogKey> {
        let master = Aes256::new(master.into());
        let mut secret = Zeroizing::new(self.secret);
        let (cells, _) = Array::<u8, _>::slice_as_chunks_mut(&mut *secret);
        master.decrypt_blocks(cells);
        if checksum::full_crc32(&*secret) != self.sum {
            return None;
        }
        let (key, iv) = secret.split_first_chunk::<KEY_LEN>()?;
        Some(LogKey { cipher: Box::new(Aes256::new(key.into())), iv: Zeroizing::new(*iv.first_chunk()?) })
    }
}

/// The key of a log. It is never printed, and overwritten on drop.
pub struct LogKey {
    cipher: Box<Aes256>,
    iv: Zeroizing<[u8; IV_LEN]>,
}

impl LogKey {
    /// Decrypts a block: the result has a checksum, and the bit for encryption is cleared.
    pub fn decrypt(&self, block: &[u8; BLOCK]) -> [u8; BLOCK] {
        let mut block = *block;
        set_encrypted(&mut block, false);
        for (from, to) in [(AGAIN, BLOCK), (HEADER, WHOLE)] {
            let cipher = cbc::Decryptor::inner_iv_init(&*self.cipher, (&*self.iv).into());
            decrypt(cipher, block.split_at_mut(to).0.split_at_mut(from).1);
        }
        block
    }

    /// Encrypts a block that has its checksum.
    pub fn encrypt(&self, block: &[u8; BLOCK]) -> [u8; BLOCK] {
        let mut block = *block;
        for (from, to) in [(HEADER, WHOLE), (AGAIN, BLOCK)] {
            let cipher = cbc::Encryptor::inner_iv_init(&*self.cipher, (&*self.iv).into());
            encrypt(cipher, block.split_at_mut(to).0.split_at_mut(from).1);
        }
        set_encrypted(&mut block, true);
        block
    }
}

fn decrypt(mut cipher: impl BlockModeDecrypt<BlockSize = aes::cipher::consts::U16>, bytes: &mut [u8]) {
    cipher.decrypt_blocks(Array::slice_as_chunks_mut(bytes).0);
}

fn encrypt(mut cipher: impl BlockModeEncrypt<BlockSize = aes::cipher::consts::U16>, bytes: &mut [u8]) {
    cipher.encrypt_blocks(Array::slice_as_chunks_mut(bytes).0);
}

impl fmt::Debug for Locked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Locked({})", self.master)
    }
}

impl fmt::Debug for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogKey")
    }
}

#[cfg(test)]
mod tests {
    use crate::innodb::ids::Lsn;
    use proptest::prelude::*;

    use super::super::block::{Block, check, cut, used};
    use super::super::{HEAD, Header, encryption};
    use super::*;
    use crate::crypt::keyring::Keyring;

    /// From a real server, whose master key was rotated since (`tests/vectors/mysql-redo`).
    const REAL: &[u8] = include_bytes!("../../../../tests/vectors/mysql-redo/encrypted-9.7.4");
    const RING: &[u8] = include_bytes!("../../../../tests/vectors/mysql-redo/keyring");

    fn key() -> LogKey {
        let locked = Locked::parse(encryption(REAL).unwrap()).unwrap();
        locked.open(Keyring::parse(RING).unwrap().key(locked.master()).unwrap()).unwrap()
    }

    /// The blocks of that server and their LSNs.
    fn blocks() -> impl Iterator<Item = (u64, [u8; BLOCK])> {
        let first = Header::parse(REAL).unwrap().start_lsn.get();
        (first..).step_by(BLOCK).zip(REAL[HEAD..].as_chunks().0.iter().copied())
    }

    #[test]
    fn real_blocks_are_whole_under_their_key_alone() {
        let key = key();
        for (lsn, block) in blocks() {
            assert_eq!(check(&block, Lsn::new(lsn), None), Block::Encrypted { used: BLOCK });
            assert_eq!(check(&block, Lsn::new(lsn), Some(&key)), Block::Here { used: BLOCK });
            assert_eq!(check(&block, Lsn::new(lsn + 512), Some(&key)), Block::Missing);
            assert_eq!(check(&block, Lsn::new(lsn - 512), Some(&key)), Block::Overwritten);
            let clear = key.decrypt(&block);
            assert_eq!(check(&clear, Lsn::new(lsn), None), Block::Here { used: BLOCK });
            assert_eq!(key.encrypt(&clear), block);
        }
        assert!(blocks().count() > 8);
    }

    #[test]
    fn only_the_right_master_key_opens_a_log_key() {
        let locked = Locked::parse(encryption(REAL).unwrap()).unwrap();
        assert_eq!(locked.master(), "INNODBKey-da0b9576-e5e5-11f1-b37b-02fc00000001-1");
        let ring = Keyring::parse(RING).unwrap();
        let newer = ring.key("INNODBKey-da0b9576-e5e5-11f1-b37b-02fc00000001-2").unwrap();
        assert!(locked.open(newer).is_none());
        let mut other = encryption(REAL).unwrap().to_vec();
        other[48 + 60] ^= 1;
        let right = ring.key(locked.master()).unwrap();
        assert!(Locked::parse(&other).unwrap().open(right).is_none() && locked.open(right).is_some());
        assert_eq!(Locked::parse(&[0; BLOCK]), None);
        assert_eq!(format!("{locked:?} {:?}", key()), format!("Locked({}) LogKey", locked.master()));
    }

    #[test]
    fn a_block_that_is_cut_stays_encrypted() {
        let key = key();
        let (lsn, whole) = blocks().nth(3).unwrap();
        let mut block = whole;
        cut(&mut block, 100, None).unwrap();
        assert_eq!(block, whole, "without the key nothing can be cut");
        cut(&mut block, used(Lsn::new(lsn + 100)), Some(&key)).unwrap();
        assert_eq!(check(&block, Lsn::new(lsn), None), Block::Encrypted { used: 100 });
        assert_eq!(check(&block, Lsn::new(lsn), Some(&key)), Block::Here { used: 100 });
        let (clear, before) = (key.decrypt(&block), key.decrypt(&whole));
        assert!(clear[12..100] == before[12..100] && clear[100..508].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_block_without_checksum_has_none_when_decrypted() {
        let (lsn, block) = blocks().next().unwrap();
        let mut clear = key().decrypt(&block);
        clear[508..].copy_from_slice(&[0xde, 0xad, 0xbe, 0xef]);
        assert_eq!(check(&key().encrypt(&clear), Lsn::new(lsn), Some(&key())), Block::Unsealed);
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_never_taken(at in 0usize..512, bit in 0u8..8) {
            let (lsn, mut block) = blocks().next().unwrap();
            block[at] ^= 1 << bit;
            prop_assert_eq!(check(&block, Lsn::new(lsn), Some(&key())), Block::Missing);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..600), lsn: u64) {
            let _ = Locked::parse(&bytes).map(|locked| locked.open(&[7; 32]));
            let mut block = [0x80; BLOCK];
            block.iter_mut().zip(&bytes).for_each(|(to, from)| *to = *from);
            let _ = check(&block, Lsn::new(lsn), Some(&key()));
            let _ = cut(&mut block, bytes.len(), Some(&key()));
        }
    }
}
