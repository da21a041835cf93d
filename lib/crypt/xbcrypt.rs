//! The chunks of Percona's xbcrypt, from bytes and to bytes. Integers are little-endian and unsigned.
//!
//! ```text
//!   0   8  "XBCRYP01", "XBCRYP02" or "XBCRYP03"
//!   8   8  reserved: written 0, ignored
//!  16   8  original size: of the plain text; version 3: of plain text and hash
//!  24   8  encrypted size: the same
//!  32   4  CRC-32 (zlib's) of the encrypted bytes
//!  36   8  size of the IV, 16                       versions 2 and 3
//!  44  16  IV                                       versions 2 and 3
//!       n  encrypted bytes
//! ```
//!
//! The cipher is AES in counter mode, its variant decided by the key's length, its counter one 128-bit big-endian
//! number. Version 3 begins to count at the IV and encrypts the plain text with its SHA-256 behind it. Versions 1 and
//! 2 begin at zero in every chunk (the IV of version 2 is not used), so one keystream covers all chunks of all files
//! under a key, and they have no hash. No version ties a chunk to its place, its file or a count. Source: `xbcrypt_common.cc`,
//! `xbcrypt_read.cc` and `xbcrypt_write.cc` of XtraBackup.

use std::fmt;

use aes::cipher::{KeyIvInit, StreamCipher};
use ctr::Ctr128BE;
use ring::digest::{Digest, SHA256, digest};
use subtle::ConstantTimeEq;

use super::key::Key;

/// What the name of a member in this format ends with.
pub const SUFFIX: &[u8] = b".xbcrypt";
/// What a chunk of any version begins with, but for two digits.
pub const MAGIC: &[u8; 6] = b"XBCRYP";
/// Bytes of the head of versions 2 and 3, the longest.
pub const HEAD_MAX: usize = 60;
/// Bytes of the head of version 1, the shortest.
pub const HEAD_MIN: usize = 36;
/// Bytes of the hash behind the plain text of version 3.
pub const HASH: usize = 32;
/// Bytes of an IV.
pub const IV: usize = 16;
/// Plain bytes in the chunks that we write, as many as Percona's own xbcrypt writes by default.
pub const CHUNK: usize = 64 << 10;
/// Readers of the originals refuse greater sizes.
const SIZE_MAX: u64 = (1 << 31) - 1;

/// The version of a chunk; each chunk has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Up to 2013: no IV, no hash.
    V1,
    /// Up to the 2.3 line: an IV that is not used, no hash.
    V2,
    /// Since then.
    V3,
}

/// A chunk's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its version.
    pub version: Version,
    /// Encrypted bytes that follow, at most 2^31-1; version 3 has at least [`HASH`].
    pub size: usize,
    /// CRC-32 of them.
    pub crc: u32,
    /// The first counter block.
    pub counter: [u8; IV],
}

impl Head {
    /// Bytes of plain text.
    pub fn plain(&self) -> usize {
        self.size.saturating_sub(if self.version == Version::V3 { HASH } else { 0 })
    }
}

/// Why bytes are not an xbcrypt chunk, or not one of this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The magic is missing.
    Magic,
    /// A version that nobody has written yet.
    Version([u8; 2]),
    /// A size beyond 2^31-1, or less than a hash.
    Size(u64),
    /// Original and encrypted size differ; all writers make them equal.
    Sizes(u64, u64),
    /// The IV has another size than 16.
    IvSize(u64),
    /// The CRC-32 of the encrypted bytes is wrong.
    Crc,
    /// The hash of the plain text is wrong.
    Hash,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Magic => f.write_str("damaged: no xbcrypt chunk begins here"),
            Fault::Version(digits) => {
                write!(f, "damaged: xbcrypt chunk of version {}; 01 to 03 are known", digits.escape_ascii())
            }
            Fault::Size(size) => write!(f, "damaged: xbcrypt chunk of {size} bytes, which is impossible"),
            Fault::Sizes(original, encrypted) => {
                write!(f, "damaged: xbcrypt chunk says both {original} and {encrypted} bytes")
            }
            // What Percona's program writes when its -a is forgotten.
            Fault::IvSize(0) => f.write_str("refused: xbcrypt chunk that is not encrypted (algorithm NONE)"),
            Fault::IvSize(size) => write!(f, "damaged: xbcrypt chunk with an IV of {size} bytes instead of {IV}"),
            Fault::Crc => f.write_str("damaged: the CRC-32 of an xbcrypt chunk is wrong"),
            Fault::Hash => f.write_str("wrong key, or a changed chunk: the hash of its plain text is wrong"),
        }
    }
}

/// Bytes of the head that begins with these.
pub fn head_length(magic: &[u8; 8]) -> Result<usize, Fault> {
    version(magic).map(|version| if version == Version::V1 { HEAD_MIN } else { HEAD_MAX })
}

/// Reads a head of [`head_length`] bytes.
pub fn head(bytes: &[u8]) -> Result<Head, Fault> {
    let (magic, rest) = bytes.split_first_chunk::<8>().ok_or(Fault::Magic)?;
    let version = version(magic)?;
    let (_, rest) = take8(rest)?;
    let (original, rest) = take8(rest)?;
    let (encrypted, rest) = take8(rest)?;
    let (crc, rest) = rest.split_first_chunk::<4>().ok_or(Fault::Magic)?;
    let least = if version == Version::V3 { HASH as u64 } else { 0 };
    for size in [original, encrypted] {
        if !(least..=SIZE_MAX).contains(&size) {
            return Err(Fault::Size(size));
        }
    }
    if original != encrypted {
        return Err(Fault::Sizes(original, encrypted));
    }
    let mut counter = [0; IV];
    if version != Version::V1 {
        let (iv_size, iv) = take8(rest)?;
        if iv_size != IV as u64 {
            return Err(Fault::IvSize(iv_size));
        }
        if version == Version::V3 {
            counter = *iv.first_chunk().ok_or(Fault::Magic)?;
        }
    }
    let size = usize::try_from(encrypted).map_err(|_| Fault::Size(encrypted))?;
    Ok(Head { version, size, crc: u32::from_le_bytes(*crc), counter })
}

/// Appends the plain text of a chunk with these encrypted bytes, if its CRC and its hash are right; else nothing.
pub fn decrypt(key: &Key, head: &Head, encrypted: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    if crc32fast::hash(encrypted) != head.crc {
        return Err(Fault::Crc);
    }
    let start = out.len();
    out.extend_from_slice(encrypted);
    let text = out.split_at_mut(start).1;
    apply(key, &head.counter, text);
    let right = head.version != Version::V3
        || text.split_at_checked(head.plain()).is_some_and(|(plain, hash)| sha256(plain).as_ref().ct_eq(hash).into());
    out.truncate(if right { start + head.plain() } else { start });
    if right { Ok(()) } else { Err(Fault::Hash) }
}

/// Appends a chunk of version 3. `iv` must be fresh random bytes. `text` is not empty, for no writer makes empty
/// chunks, and short enough for readers.
pub fn encrypt(key: &Key, iv: &[u8; IV], text: &[u8], out: &mut Vec<u8>) {
    let size = ((text.len() + HASH) as u64).to_le_bytes();
    let start = out.len();
    let fields: [&[u8]; 8] = [MAGIC, b"03", &[0; 8], &size, &size, &[0; 4], &(IV as u64).to_le_bytes(), iv];
    fields.into_iter().chain([text, sha256(text).as_ref()]).for_each(|field| out.extend_from_slice(field));
    let (head, encrypted) = out.split_at_mut(start).1.split_at_mut(HEAD_MAX);
    apply(key, iv, encrypted);
    let crc = crc32fast::hash(encrypted);
    head.split_at_mut(HEAD_MIN).0.split_at_mut(32).1.copy_from_slice(&crc.to_le_bytes());
}

fn sha256(bytes: &[u8]) -> Digest {
    digest(&SHA256, bytes)
}

/// Encrypts or decrypts: counter mode is its own inverse. The variant of AES follows from the key's length alone
/// (libgcrypt ignores the algorithm's name once a key of another legal length is set).
fn apply(key: &Key, counter: &[u8; IV], text: &mut [u8]) {
    match key {
        Key::Bits128(key) => Ctr128BE::<aes::Aes128>::new((&***key).into(), counter.into()).apply_keystream(text),
        Key::Bits192(key) => Ctr128BE::<aes::Aes192>::new((&***key).into(), counter.into()).apply_keystream(text),
        Key::Bits256(key) => Ctr128BE::<aes::Aes256>::new((&***key).into(), counter.into()).apply_keystream(text),
    }
}

fn version(magic: &[u8; 8]) -> Result<Version, Fault> {
    let Some(digits) = magic.strip_prefix(MAGIC) else { return Err(Fault::Magic) };
    match digits {
        b"01" => Ok(Version::V1),
        b"02" => Ok(Version::V2),
        b"03" => Ok(Version::V3),
        other => Err(Fault::Version(other.first_chunk().copied().unwrap_or_default())),
    }
}

fn take8(bytes: &[u8]) -> Result<(u64, &[u8]), Fault> {
    let (field, rest) = bytes.split_first_chunk::<8>().ok_or(Fault::Magic)?;
    Ok((u64::from_le_bytes(*field), rest))
}
