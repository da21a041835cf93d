//! The seal container: authenticated encryption of one member, chunk by chunk. `man/xb-seal.5` documents it for other
//! programs. Integers are little-endian, except the counter in the nonce.
//!
//! ```text
//! head                                           chunk, any number of them
//!   0  8  "XBSEAL01"                               0  4  n, 1 ..= 262144
//!   8  1  algorithm: 1 AES-256-GCM,                4  n  ciphertext
//!         2 ChaCha20-Poly1305                    4+n 16  tag
//!   9  7  zero                                   end mark, exactly one, last
//!  16 32  salt, random for each member             0  4  0
//!  48 32  key check                                4 16  tag over an empty text
//!  80 16  name check
//! ```
//!
//! Keys are derived by HKDF-SHA-256 (RFC 5869) from the 32 bytes of the operator's key, with the salt as HKDF's salt.
//! *fixed* are the first 48 bytes of the head; *name* is the member's name without `.xbseal` (empty for `--raw`):
//!
//! ```text
//! key check  = expand("xb-seal key check\0"  | fixed,        32)
//! name check = expand("xb-seal name check\0" | fixed | name, 16)
//! chunk key  = expand("xb-seal chunk key\0"  | fixed | name, 32)
//! ```
//!
//! Chunks use the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár 2015): the nonce of chunk *i* is *i* as 11
//! bytes, big-endian, then one byte, which is 1 for the end mark and 0 otherwise. The associated data are the 4 bytes
//! of the length. So every bit is authenticated: those of the head by the checks and because all keys depend on them;
//! those of a chunk by its tag, its position and the end by the nonce. A chunk that was moved, dropped, repeated,
//! copied from another member or left out at the end is detected.
//!
//! Why no nonce is used twice with a key: a chunk key belongs to one member, because its salt has 256 random bits (the
//! probability of two equal ones among 2^64 members is below 2^-128). Within the member the counter only grows, a `u64`
//! within 88 bits, and sealing ends with an error before it could wrap. The longest possible file has 2^59 blocks; with
//! keys that members never share, GCM's bounds are far away.

use std::fmt;

use ring::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{self, KeyType, Prk};
use subtle::ConstantTimeEq;

use super::key::SealKey;

/// Suffix of the name of a sealed member.
pub const SUFFIX: &[u8] = b".xbseal";
/// The first bytes of a sealed member.
pub const MAGIC: [u8; 8] = *b"XBSEAL01";
/// Length of the head in bytes.
pub const HEAD: usize = 96;
/// Length of a chunk's length field in bytes.
pub const LENGTH: usize = 4;
/// Length of a tag in bytes.
pub const TAG: usize = 16;
/// The largest plain text of a chunk in bytes. A reader keeps at most one chunk of each open member.
pub const CHUNK_MAX: usize = 256 << 10;
/// Length of a salt in bytes.
pub const SALT: usize = 32;

/// The part of the head that the keys depend on.
const FIXED: usize = 48;

/// The cipher of the chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// AES-256 in Galois/counter mode: the fastest on processors with AES instructions.
    Aes256Gcm,
    /// ChaCha20-Poly1305 (RFC 8439): the fastest on other processors.
    Chacha20Poly1305,
}

impl Algorithm {
    fn code(self) -> u8 {
        match self {
            Algorithm::Aes256Gcm => 1,
            Algorithm::Chacha20Poly1305 => 2,
        }
    }

    fn cipher(self) -> &'static aead::Algorithm {
        match self {
            Algorithm::Aes256Gcm => &aead::AES_256_GCM,
            Algorithm::Chacha20Poly1305 => &aead::CHACHA20_POLY1305,
        }
    }
}

/// Why bytes cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The magic is missing.
    Magic,
    /// Sealed by this newer version.
    Version([u8; 2]),
    /// Version 1 does not have this algorithm.
    Algorithm(u8),
    /// Reserved bytes are not zero.
    Reserved,
    /// The key check differs.
    Key,
    /// The name check differs.
    Name,
    /// The length exceeds [`CHUNK_MAX`].
    Length(u32),
    /// The tag differs.
    Tag,
    /// More chunks than the counter can number.
    Counter,
    /// The cipher failed, which no input can cause.
    Cipher,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Magic => f.write_str("damaged: no seal begins here"),
            Fault::Version(digits) => {
                write!(f, "sealed in version {}, this program knows 01", digits.escape_ascii())
            }
            Fault::Algorithm(code) => write!(f, "damaged: unknown algorithm {code} in the head of the seal"),
            Fault::Reserved => f.write_str("damaged: reserved bytes in the head of the seal are not zero"),
            Fault::Key => f.write_str("wrong key, or the head of the seal was changed"),
            Fault::Name => f.write_str("sealed under another name, or the head of the seal was changed"),
            Fault::Length(len) => write!(f, "damaged: sealed chunk of {len} bytes; {CHUNK_MAX} is the limit"),
            Fault::Tag => f.write_str("authentication failed: this chunk was changed, or is not in its place"),
            Fault::Counter => f.write_str("more chunks than can be numbered"),
            Fault::Cipher => f.write_str("the cipher refused its input"),
        }
    }
}

/// The chunk key of one member.
#[derive(Debug)]
pub struct Seal {
    key: LessSafeKey,
}

impl Seal {
    /// A new member's head and key. `salt` must be new random bytes: the security depends on it.
    pub fn new(
        key: &SealKey,
        name: &[u8],
        algorithm: Algorithm,
        salt: &[u8; SALT],
    ) -> Result<([u8; HEAD], Seal), Fault> {
        let mut fixed = [0; FIXED];
        let (start, end) = fixed.split_at_mut(16);
        start.copy_from_slice(&[MAGIC, [algorithm.code(), 0, 0, 0, 0, 0, 0, 0]].concat());
        end.copy_from_slice(salt);
        let derived = Derived::new(key, &fixed, name, algorithm)?;
        let mut head = [0; HEAD];
        head.copy_from_slice(&[&fixed[..], &derived.key_check, &derived.name_check].concat());
        Ok((head, derived.seal))
    }

    /// The key of a member with this head, after both checks.
    pub fn open(key: &SealKey, name: &[u8], head: &[u8; HEAD]) -> Result<Seal, Fault> {
        let (fixed, checks) = head.split_first_chunk::<FIXED>().ok_or(Fault::Magic)?;
        let algorithm = algorithm(fixed)?;
        let derived = Derived::new(key, fixed, name, algorithm)?;
        let (key_check, name_check) = checks.split_at(32);
        if !bool::from(derived.key_check.ct_eq(key_check)) {
            return Err(Fault::Key);
        }
        if !bool::from(derived.name_check.ct_eq(name_check)) {
            return Err(Fault::Name);
        }
        Ok(derived.seal)
    }

    /// Appends a chunk with this text; if it is empty, the end mark.
    pub fn put(&self, number: u64, text: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        if text.len() > CHUNK_MAX {
            return Err(Fault::Length(length));
        }
        out.extend_from_slice(&length.to_le_bytes());
        let start = out.len();
        out.extend_from_slice(text);
        let text = out.get_mut(start..).ok_or(Fault::Cipher)?;
        let sealed = self.key.seal_in_place_separate_tag(nonce(number, length), Aad::from(length.to_le_bytes()), text);
        out.extend_from_slice(sealed.map_err(|_| Fault::Cipher)?.as_ref());
        Ok(())
    }

    /// Appends the plain text of a chunk. `sealed` is what follows the length: ciphertext and tag. Appends nothing
    /// after a fault.
    pub fn take(&self, number: u64, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        let plain = sealed.len().checked_sub(TAG).ok_or(Fault::Tag)?;
        let length = u32::try_from(plain).map_err(|_| Fault::Tag)?;
        let start = out.len();
        out.extend_from_slice(sealed);
        let text = out.get_mut(start..).ok_or(Fault::Tag)?;
        let opened = self.key.open_in_place(nonce(number, length), Aad::from(length.to_le_bytes()), text);
        let opened = opened.map(|_| ()).map_err(|_| Fault::Tag);
        out.truncate(if opened.is_ok() { start + plain } else { start });
        opened
    }
}

/// The nonce of a chunk with this number and length. The end mark is the chunk with an empty text.
fn nonce(number: u64, length: u32) -> Nonce {
    let mut nonce = [0; aead::NONCE_LEN];
    let [_, _, _, counter @ .., end] = &mut nonce;
    *counter = number.to_be_bytes();
    *end = u8::from(length == 0);
    Nonce::assume_unique_for_key(nonce)
}

/// Length of the plain text of a chunk, from its length field; 0 for the end mark.
pub fn chunk_length(bytes: [u8; LENGTH]) -> Result<usize, Fault> {
    let length = u32::from_le_bytes(bytes);
    usize::try_from(length).ok().filter(|length| *length <= CHUNK_MAX).ok_or(Fault::Length(length))
}

fn algorithm(fixed: &[u8; FIXED]) -> Result<Algorithm, Fault> {
    let [b'X', b'B', b'S', b'E', b'A', b'L', digits @ .., algorithm, r1, r2, r3, r4, r5, r6, r7] =
        fixed.first_chunk::<16>().ok_or(Fault::Magic)?
    else {
        return Err(Fault::Magic);
    };
    if digits != b"01" {
        return Err(Fault::Version(*digits));
    }
    if [r1, r2, r3, r4, r5, r6, r7] != [&0; 7] {
        return Err(Fault::Reserved);
    }
    match algorithm {
        1 => Ok(Algorithm::Aes256Gcm),
        2 => Ok(Algorithm::Chacha20Poly1305),
        other => Err(Fault::Algorithm(*other)),
    }
}

struct Derived {
    key_check: [u8; 32],
    name_check: [u8; 16],
    seal: Seal,
}

impl Derived {
    fn new(key: &SealKey, fixed: &[u8; FIXED], name: &[u8], algorithm: Algorithm) -> Result<Self, Fault> {
        let (_, salt) = fixed.split_at(FIXED - SALT);
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(key.bytes());
        let info: [&[u8]; 3] = [b"xb-seal chunk key\0", fixed, name];
        let okm = prk.expand(&info, algorithm.cipher()).map_err(|_| Fault::Cipher)?;
        Ok(Derived {
            key_check: expand(&prk, &[b"xb-seal key check\0", fixed])?,
            name_check: expand(&prk, &[b"xb-seal name check\0", fixed, name])?,
            seal: Seal { key: LessSafeKey::new(UnboundKey::from(okm)) },
        })
    }
}

fn expand<const N: usize>(prk: &Prk, info: &[&[u8]]) -> Result<[u8; N], Fault> {
    struct Bytes(usize);
    impl KeyType for Bytes {
        fn len(&self) -> usize {
            self.0
        }
    }
    let mut out = [0; N];
    prk.expand(info, Bytes(N)).and_then(|okm| okm.fill(&mut out)).map_err(|_| Fault::Cipher)?;
    Ok(out)
}
