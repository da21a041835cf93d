//! The seal container: damage, truncation, moves and renames are detected before one wrong byte is output.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use xb::Kind;
use xb::codec::{Choice, Codec, Cut, Fault, Flow};
use xb::crypt::key;
use xb::crypt::seal::{self, Algorithm, Seal};
use xb::crypt::{Decrypt, Encrypt, Format, Keys};

use crate::support::tool::{Dice, feed, good};

const ALGORITHMS: [Algorithm; 2] = [Algorithm::Aes256Gcm, Algorithm::Chacha20Poly1305];
const KEY: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
const NAME: &[u8] = b"db/t.ibd";

fn keys(bytes: &[u8]) -> Keys {
    Keys::new(key::parse(bytes).unwrap())
}

/// Sends a member through a codec, in these portions: what came out, and how it ended.
pub fn drive<C: Codec>(codec: &C, path: &[u8], portions: &[&[u8]]) -> (Vec<u8>, Result<(), Fault>) {
    let (mut held, mut out) = (Vec::new(), Vec::new());
    let start: Vec<u8> = portions.iter().flat_map(|portion| *portion).copied().take(xb::codec::START).collect();
    let mut steps = || -> Result<(), Fault> {
        let Choice::Code(mut member) = codec.choose(path, &start)? else { panic!("not to be coded") };
        let portions = portions.iter().map(|portion| (*portion, Flow::Open)).chain([(&[][..], Flow::Last)]);
        for (portion, flow) in portions {
            held.extend_from_slice(portion);
            loop {
                match codec.cut(&mut member, &held, flow)? {
                    Cut::More(_) => break,
                    Cut::Serial(len) => drop(held.drain(..len)),
                    Cut::Piece { len, job } => {
                        let piece: Vec<u8> = held.drain(..len).collect();
                        let mut done = Vec::new();
                        codec.work(&mut codec.worker(), job, &piece, &mut done)?;
                        out.extend(done);
                    }
                }
            }
        }
        assert!(held.is_empty());
        Ok(())
    };
    let outcome = steps();
    (out, outcome)
}

/// A sealed member; each portion of plain text makes a chunk.
fn sealed(keys: &Keys, algorithm: Algorithm, name: &[u8], plain: &[&[u8]]) -> Vec<u8> {
    let (sealed, outcome) = drive(&Encrypt::new(keys, Format::Seal(algorithm)).unwrap(), name, plain);
    outcome.unwrap();
    sealed
}

/// Head, chunks and end mark.
fn parts(sealed: &[u8]) -> Vec<Vec<u8>> {
    let (head, mut rest) = sealed.split_at(seal::HEAD);
    let mut parts = vec![head.to_vec()];
    while let Some((length, _)) = rest.split_first_chunk() {
        let (chunk, later) = rest.split_at(20 + u32::from_le_bytes(*length) as usize);
        parts.push(chunk.to_vec());
        rest = later;
    }
    parts
}

/// The output for a member with this plain name, fed in these portions, and the result.
fn open(keys: &Keys, name: &[u8], portions: &[&[u8]]) -> (Vec<u8>, Result<(), Fault>) {
    drive(&Decrypt::new(keys, b"", 1 << 20), &[name, seal::SUFFIX].concat(), portions)
}

fn opens(keys: &Keys, name: &[u8], sealed: &[u8]) -> (Vec<u8>, Result<(), (Kind, String)>) {
    let (released, outcome) = open(keys, name, &[sealed]);
    (released, outcome.map_err(|fault| (fault.kind, fault.what)))
}

/// Fails, with 3 or 4, and has output only the start of the true text.
#[track_caller]
fn refused(keys: &Keys, sealed: &[u8], plain: &[u8], fault: &str) {
    let (released, outcome) = opens(keys, NAME, sealed);
    assert!(plain.starts_with(&released), "{fault}: wrong bytes were released");
    let (kind, _) = outcome.expect_err(fault);
    assert!(matches!(kind, Kind::Key | Kind::Damaged), "{fault}: {kind:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_sealed_opens_however_it_is_cut(
        seed in any::<u64>(),
        lengths in prop::collection::vec(prop_oneof![1usize..50, 1usize..20_000, Just(seal::CHUNK_MAX)], 0..8),
        name in prop::collection::vec(any::<u8>(), 0..40),
        chacha in any::<bool>(),
    ) {
        let mut dice = Dice(seed | 1);
        let plain: Vec<Vec<u8>> = lengths.iter().map(|length| dice.bytes(*length)).collect();
        let plain: Vec<&[u8]> = plain.iter().map(Vec::as_slice).collect();
        let sealed = sealed(&keys(KEY), ALGORITHMS[usize::from(chacha)], &name, &plain);
        let overhead = seal::HEAD + (plain.len() + 1) * (seal::LENGTH + seal::TAG);
        prop_assert_eq!(sealed.len(), plain.concat().len() + overhead);
        let mut portions = Vec::new();
        let mut rest = sealed.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at((1 + dice.below(70_000)).min(rest.len()));
            portions.push(now);
            rest = later;
        }
        let (released, outcome) = open(&keys(KEY), &name, &portions);
        prop_assert_eq!(outcome, Ok(()));
        prop_assert!(released == plain.concat());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic_or_release_anything(
        start in prop::sample::select(vec![&b"XBSEAL01"[..], b"XBSEAL", b"XBCRYP03", b"XBCRYP02", b"XBCRYP01", b""]),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        keep in 0usize..200,
        suffix in prop::sample::select(vec![&b".xbseal"[..], b".xbcrypt"]),
    ) {
        let keys = keys(KEY);
        let codec = Decrypt::new(&keys, b"", 1 << 20);
        let junk = [start, &bytes].concat();
        // A chunk of xbcrypt without bytes has nothing to be wrong; all else is refused.
        let (released, _) = drive(&codec, &[NAME, suffix].concat(), &[&junk]);
        prop_assert!(released.is_empty());
        // True until some byte, then anything.
        let (_, mut sealed, plain) = small(Algorithm::Aes256Gcm);
        sealed.truncate(keep);
        sealed.extend(&bytes);
        let (released, outcome) = opens(&keys, NAME, &sealed);
        prop_assert!(plain.starts_with(&released) && outcome.is_err());
    }
}

/// Three chunks, so that there is a first, a middle and a last one.
fn small(algorithm: Algorithm) -> (Keys, Vec<u8>, Vec<u8>) {
    let plain: [&[u8]; 3] = [b"first chunk", b"the second one", b"third"];
    let keys = keys(KEY);
    let sealed = sealed(&keys, algorithm, NAME, &plain);
    assert_eq!(parts(&sealed).len(), 5);
    (keys, sealed, plain.concat())
}

#[test]
fn a_cut_at_any_byte_is_noticed() {
    for algorithm in ALGORITHMS {
        let (keys, sealed, plain) = small(algorithm);
        for at in 0..sealed.len() {
            let (released, outcome) = opens(&keys, NAME, &sealed[..at]);
            assert!(plain.starts_with(&released));
            let (kind, what) = outcome.unwrap_err();
            assert!(kind == Kind::Damaged && what.starts_with("truncated"), "cut at {at}: {what}");
        }
    }
}

#[test]
fn a_flip_of_any_bit_is_noticed() {
    for algorithm in ALGORITHMS {
        let (keys, mut sealed, plain) = small(algorithm);
        for bit in 0..sealed.len() * 8 {
            sealed[bit / 8] ^= 1 << (bit % 8);
            refused(&keys, &sealed, &plain, &format!("bit {bit}"));
            sealed[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(opens(&keys, NAME, &sealed), (plain, Ok(())));
    }
}

#[test]
fn chunks_that_are_swapped_lost_doubled_or_added_are_noticed() {
    for algorithm in ALGORITHMS {
        let (keys, sealed, plain) = small(algorithm);
        let parts = parts(&sealed);
        for i in 0..parts.len() {
            let mut lost = parts.clone();
            lost.remove(i);
            refused(&keys, &lost.concat(), &plain, &format!("part {i} lost"));
            for j in 0..=parts.len() {
                let mut doubled = parts.clone();
                doubled.insert(j, parts[i].clone());
                refused(&keys, &doubled.concat(), &plain, &format!("part {i} again at {j}"));
            }
            for j in 0..i {
                let mut swapped = parts.clone();
                swapped.swap(i, j);
                refused(&keys, &swapped.concat(), &plain, &format!("parts {i} and {j} swapped"));
            }
        }
        refused(&keys, &[sealed, vec![0]].concat(), &plain, "a byte more");
    }
}

#[test]
fn chunks_of_another_member_are_found() {
    for algorithm in ALGORITHMS {
        let (keys, sealed, plain) = small(algorithm);
        let other = parts(&small(algorithm).1);
        for i in 0..other.len() {
            let mut spliced = parts(&sealed);
            spliced[i] = other[i].clone();
            refused(&keys, &spliced.concat(), &plain, &format!("part {i} of another member"));
        }
    }
}

#[test]
fn a_member_opens_under_its_own_name_and_key_only() {
    let (right, sealed, plain) = small(Algorithm::Aes256Gcm);
    let refused = |keys: &Keys, name: &[u8], word: &str| {
        let (released, outcome) = opens(keys, name, &sealed);
        let (kind, what) = outcome.unwrap_err();
        assert!(released.is_empty() && kind == Kind::Key && what.contains(word), "{what}");
    };
    for name in [&b"db/u.ibd"[..], b"x", b"db/t.ibd ", b"db/t.ib", b"DB/t.ibd", b"db/t.ibd.xbseal"] {
        refused(&right, name, "another name");
    }
    let mut other = *KEY;
    for bit in 0..256 {
        other[bit / 8] ^= 1 << (bit % 8);
        refused(&keys(&other), NAME, "wrong key");
        other[bit / 8] ^= 1 << (bit % 8);
    }
    refused(&keys(&KEY[..24]), NAME, "seal wants 32 bytes, and this key has 24");
    assert_eq!(opens(&right, NAME, &sealed), (plain, Ok(())));
}

#[test]
fn a_length_is_checked_before_anything_is_held_for_it() {
    let (keys, sealed, _) = small(Algorithm::Aes256Gcm);
    for length in [u32::MAX, 1 << 31, (256 << 10) + 1] {
        let sealed = [&sealed[..seal::HEAD], &length.to_le_bytes(), &[0; 100]].concat();
        let (released, outcome) = opens(&keys, NAME, &sealed);
        let (kind, what) = outcome.unwrap_err();
        assert!(released.is_empty() && kind == Kind::Damaged && what.contains("is the limit"), "{what}");
    }
}

#[test]
fn no_salt_comes_twice() {
    let keys = keys(KEY);
    let salt = |_| sealed(&keys, Algorithm::Aes256Gcm, NAME, &[])[16..48].to_vec();
    assert_eq!((0..1000).map(salt).collect::<HashSet<_>>().len(), 1000);
}

#[test]
fn every_chunk_has_its_own_nonce() {
    let key = key::parse(KEY).unwrap().for_seal().unwrap();
    let (_, seal) = Seal::new(&key, NAME, Algorithm::Aes256Gcm, &[1; seal::SALT]).unwrap();
    let text = |number, text: &[u8]| {
        let mut out = Vec::new();
        seal.put(number, text, &mut out).unwrap();
        out.split_off(seal::LENGTH)
    };
    assert_ne!(text(0, b"same text"), text(1 << 56, b"same text"));
    assert_ne!(text(u64::MAX, b""), text(u64::MAX - 1, b""));
    let mut out = Vec::new();
    assert_eq!(seal.take(8, &text(7, b"text"), &mut out), Err(seal::Fault::Tag));
    assert_eq!(seal.take(7, &text(7, b""), &mut out), Ok(()));
    assert!(out.is_empty());
}

/// File, algorithm, name, lengths of the chunks, salt byte. Byte i of chunk c is (c + i) mod 251.
type Vector = (&'static str, Algorithm, &'static [u8], &'static [usize], u8);

const VECTORS: [Vector; 5] = [
    ("empty.xbseal", Algorithm::Aes256Gcm, b"empty", &[], 0x11),
    ("one-byte.xbseal", Algorithm::Aes256Gcm, b"db/one.frm", &[1], 0x22),
    ("chunks.xbseal", Algorithm::Aes256Gcm, b"db/t.ibd.zst", &[1000, 1, 300], 0x33),
    ("raw.xbseal", Algorithm::Aes256Gcm, b"", &[64], 0x44),
    ("chacha20-poly1305.xbseal", Algorithm::Chacha20Poly1305, b"db/t.ibd", &[500, 20], 0x55),
];

fn vector_text(lengths: &[usize]) -> Vec<Vec<u8>> {
    let text = |(c, length): (usize, &usize)| (0..*length).map(|i| u8::try_from((c + i) % 251).unwrap()).collect();
    lengths.iter().enumerate().map(text).collect()
}

fn vector_path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/seal").join(file)
}

/// `XB_BLESS=1` writes them anew, which only a new version of the format may need.
#[test]
fn the_committed_vectors_are_what_is_written_and_read() {
    for (file, algorithm, name, lengths, salt) in VECTORS {
        let key = key::parse(KEY).unwrap().for_seal().unwrap();
        let (head, seal) = Seal::new(&key, name, algorithm, &[salt; seal::SALT]).unwrap();
        let mut sealed = head.to_vec();
        let texts = vector_text(lengths);
        for (number, text) in texts.iter().chain([&vec![]]).enumerate() {
            seal.put(number as u64, text, &mut sealed).unwrap();
        }
        if std::env::var_os("XB_BLESS").is_some() {
            std::fs::write(vector_path(file), &sealed).unwrap();
        }
        assert!(std::fs::read(vector_path(file)).unwrap() == sealed, "{file} differs from what is written");
        assert_eq!(opens(&keys(KEY), name, &sealed), (texts.concat(), Ok(())), "{file}");
        let member = Decrypt::new(&keys(KEY), b"", 0).whole(&sealed[..16]);
        assert!(member.is_ok(), "{file}: not seen as sealed");
    }
}

/// OpenSSL derives the same keys, the same ciphertext and the same tag of the end mark from `man/xb-seal.5` alone.
#[test]
fn openssl_agrees_with_the_vectors() {
    for (file, algorithm, name, lengths, _) in VECTORS {
        let sealed = std::fs::read(vector_path(file)).unwrap();
        let (fixed, salt) = (&sealed[..48], &sealed[16..48]);
        let derive = |label: &[u8], length: usize, name: &[u8]| {
            let mut command = Command::new("openssl");
            command.args(["kdf", "-binary", "-keylen", &length.to_string(), "-kdfopt", "digest:SHA256"]);
            for (option, value) in
                [("hexkey", hex(KEY)), ("hexsalt", hex(salt)), ("hexinfo", hex(&[label, fixed, name].concat()))]
            {
                command.args(["-kdfopt", &format!("{option}:{value}")]);
            }
            good(feed(command.arg("HKDF"), b""))
        };
        assert_eq!(derive(b"xb-seal key check\0", 32, b""), &sealed[48..80], "{file}");
        assert_eq!(derive(b"xb-seal name check\0", 16, name), &sealed[80..96], "{file}");
        let key = hex(&derive(b"xb-seal chunk key\0", 32, name));
        let mut at = 96;
        for (number, text) in vector_text(lengths).iter().enumerate() {
            let nonce = [&[0; 3], &(number as u64).to_be_bytes()[..], &[0]].concat();
            let (cipher, iv) = match algorithm {
                Algorithm::Aes256Gcm => ("-aes-256-ctr", [&nonce[..], &[0, 0, 0, 2]].concat()),
                Algorithm::Chacha20Poly1305 => ("-chacha20", [&[1, 0, 0, 0], &nonce[..]].concat()),
            };
            let encrypted =
                good(feed(Command::new("openssl").args(["enc", cipher, "-K", &key, "-iv", &hex(&iv)]), text));
            assert_eq!(sealed[at + 4..at + 4 + text.len()], encrypted, "{file}: chunk {number}");
            at += 4 + text.len() + 16;
        }
        assert_eq!((&sealed[at..at + 4], sealed.len()), (&[0; 4][..], at + 20), "{file}");
        if algorithm == Algorithm::Aes256Gcm {
            let nonce = [&[0; 3], &(lengths.len() as u64).to_be_bytes()[..], &[1]].concat();
            let mut mac = Command::new("openssl");
            mac.args(["mac", "-binary", "-macopt", "cipher:AES-256-GCM"]);
            mac.args([
                "-macopt",
                &format!("hexkey:{key}"),
                "-macopt",
                &format!("hexiv:{}", hex(&nonce)),
                "-in",
                "-",
                "GMAC",
            ]);
            assert_eq!(good(feed(&mut mac, &[0; 4])), &sealed[at + 4..], "{file}: end mark");
        }
    }
}

/// Lower case.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
