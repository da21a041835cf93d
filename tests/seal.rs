//! The seal container: what is damaged, cut, moved or renamed is noticed before one wrong byte is released.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use proptest::prelude::*;
use xb::Kind;
use xb::crypt::coder::{Decoder, Encoder, Fault, Format, Keys, Wanted};
use xb::crypt::key;
use xb::crypt::seal::{self, Algorithm, Seal};

use crate::tool::{Dice, feed, good};

const ALGORITHMS: [Algorithm; 2] = [Algorithm::Aes256Gcm, Algorithm::Chacha20Poly1305];
const KEY: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
const NAME: &[u8] = b"db/t.ibd";

fn keys(bytes: &[u8]) -> Arc<Keys> {
    Arc::new(Keys::new(key::parse(bytes).unwrap()))
}

/// A sealed member as its parts: head, chunks, end mark.
fn parts(keys: &Arc<Keys>, algorithm: Algorithm, name: &[u8], plain: &[&[u8]]) -> Vec<Vec<u8>> {
    let (mut encoder, head) = Encoder::new(keys, Format::Seal(algorithm), name).unwrap();
    let mut parts = vec![head];
    let mut pieces: Vec<_> = plain.iter().map(|bytes| encoder.piece(bytes.to_vec()).unwrap()).collect();
    pieces.extend(encoder.end());
    parts.extend(pieces.into_iter().map(|piece| {
        let done = piece.run().unwrap();
        [done.front, done.bytes].concat()
    }));
    parts
}

/// What is released of a member, and how it ended. `cuts` says in which portions it is fed.
fn open(keys: &Arc<Keys>, name: &[u8], sealed: &[u8], mut cuts: impl FnMut() -> usize) -> (Vec<u8>, Result<(), Fault>) {
    let mut decoder = Decoder::new(keys, name, Wanted::Seal, 1 << 20);
    let mut released = Vec::new();
    let mut rest = sealed;
    let mut steps = || -> Result<(), Fault> {
        while !rest.is_empty() {
            let (mut now, later) = rest.split_at(cuts().clamp(1, rest.len()));
            rest = later;
            while let Some(piece) = decoder.feed(&mut now)? {
                released.extend(piece.run()?.bytes);
            }
        }
        match decoder.finish()? {
            Some(piece) => Ok(released.extend(piece.run()?.bytes)),
            None => Ok(()),
        }
    };
    let outcome = steps();
    (released, outcome)
}

fn opens(keys: &Arc<Keys>, name: &[u8], sealed: &[u8]) -> (Vec<u8>, Result<(), Fault>) {
    open(keys, name, sealed, || usize::MAX)
}

/// Fails, with 3 or 4, and has released nothing but the beginning of the true text.
#[track_caller]
fn refused(keys: &Arc<Keys>, sealed: &[u8], plain: &[u8], fault: &str) {
    let (released, outcome) = opens(keys, NAME, sealed);
    assert!(plain.starts_with(&released), "{fault}: wrong bytes were released");
    let kind = outcome.expect_err(fault).kind();
    assert!(matches!(kind, Kind::Key | Kind::Damaged), "{fault}: {kind:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

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
        let sealed = parts(&keys(KEY), ALGORITHMS[usize::from(chacha)], &name, &plain).concat();
        let overhead = seal::HEAD + (plain.len() + 1) * (seal::LENGTH + seal::TAG);
        prop_assert_eq!(sealed.len(), plain.concat().len() + overhead);
        let (released, outcome) = open(&keys(KEY), &name, &sealed, || 1 + dice.below(70_000));
        prop_assert_eq!(outcome, Ok(()));
        prop_assert!(released == plain.concat());
    }
}

/// Three chunks, so that there is a first, a middle and a last one.
fn small(algorithm: Algorithm) -> (Arc<Keys>, Vec<Vec<u8>>, Vec<u8>) {
    let plain: [&[u8]; 3] = [b"first chunk", b"the second one", b"third"];
    let keys = keys(KEY);
    let parts = parts(&keys, algorithm, NAME, &plain);
    (keys, parts, plain.concat())
}

#[test]
fn a_cut_at_any_byte_is_noticed() {
    for algorithm in ALGORITHMS {
        let (keys, parts, plain) = small(algorithm);
        let sealed = parts.concat();
        for at in 0..sealed.len() {
            let (released, outcome) = opens(&keys, NAME, &sealed[..at]);
            assert!(plain.starts_with(&released));
            assert_eq!(outcome, Err(Fault::Truncated), "cut at {at}");
        }
    }
}

#[test]
fn a_flip_of_any_bit_is_noticed() {
    for algorithm in ALGORITHMS {
        let (keys, parts, plain) = small(algorithm);
        let mut sealed = parts.concat();
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
        let (keys, parts, plain) = small(algorithm);
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
        refused(&keys, &[parts.concat(), vec![0]].concat(), &plain, "a byte more");
    }
}

#[test]
fn chunks_of_another_member_are_noticed_even_of_the_same_name_and_text() {
    for algorithm in ALGORITHMS {
        let (keys, parts, plain) = small(algorithm);
        let (_, other, _) = small(algorithm);
        for i in 0..parts.len() {
            let mut spliced = parts.clone();
            spliced[i] = other[i].clone();
            refused(&keys, &spliced.concat(), &plain, &format!("part {i} of another member"));
        }
    }
}

#[test]
fn a_member_opens_under_its_own_name_and_key_only() {
    let (keys_, parts, plain) = small(Algorithm::Aes256Gcm);
    let sealed = parts.concat();
    for name in [&b"db/u.ibd"[..], b"", b"db/t.ibd ", b"db/t.ib", b"DB/t.ibd"] {
        assert_eq!(opens(&keys_, name, &sealed), (vec![], Err(seal::Fault::Name.into())));
    }
    let mut other = *KEY;
    for bit in 0..256 {
        other[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(opens(&keys(&other), NAME, &sealed), (vec![], Err(seal::Fault::Key.into())));
        other[bit / 8] ^= 1 << (bit % 8);
    }
    assert_eq!(opens(&keys(&KEY[..24]), NAME, &sealed), (vec![], Err(Fault::KeyLength(24))));
    assert_eq!(opens(&keys(KEY), NAME, &sealed), (plain, Ok(())));
}

#[test]
fn a_length_is_checked_before_anything_is_held_for_it() {
    let (keys, parts, _) = small(Algorithm::Aes256Gcm);
    for length in [u32::MAX, 1 << 31, (256 << 10) + 1] {
        let sealed = [parts[0].as_slice(), &length.to_le_bytes(), &[0; 100]].concat();
        assert_eq!(opens(&keys, NAME, &sealed), (vec![], Err(seal::Fault::Length(length).into())));
    }
}

#[test]
fn no_salt_comes_twice() {
    let keys = keys(KEY);
    let heads: std::collections::HashSet<Vec<u8>> =
        (0..1000).map(|_| Encoder::new(&keys, Format::Seal(Algorithm::Aes256Gcm), NAME).unwrap().1).collect();
    assert_eq!(heads.len(), 1000);
}

#[test]
fn a_counter_ends_before_it_repeats() {
    let key = key::parse(KEY).unwrap().for_seal().unwrap();
    let (_, seal) = Seal::new(&key, NAME, Algorithm::Aes256Gcm, &[1; seal::SALT]).unwrap();
    let text = |number, text: &[u8]| {
        let mut text = text.to_vec();
        seal.close(number, &mut text).map(|_| text).unwrap()
    };
    // Every number has its own nonce, and the end mark another one than a chunk of its number.
    assert_ne!(text(0, b"same text"), text(1 << 56, b"same text"));
    assert_ne!(text(u64::MAX, b""), text(u64::MAX - 1, b""));
    let mut last = text(7, b"");
    assert_eq!(seal.take(7, &mut last.clone()), Ok(()));
    assert_eq!(seal.take(8, &mut last), Err(seal::Fault::Tag));
}

/// The vectors: file, algorithm, name, lengths of the chunks, salt byte. Chunk *c* holds bytes (c + i) mod 251.
const VECTORS: [(&str, Algorithm, &[u8], &[usize], u8); 5] = [
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
            let mut text = text.clone();
            sealed.extend(seal.close(number as u64, &mut text).unwrap());
            sealed.extend(text);
        }
        if std::env::var_os("XB_BLESS").is_some() {
            std::fs::write(vector_path(file), &sealed).unwrap();
        }
        assert!(std::fs::read(vector_path(file)).unwrap() == sealed, "{file} differs from what is written");
        assert_eq!(opens(&keys(KEY), name, &sealed), (texts.concat(), Ok(())), "{file}");
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
            let encrypted = good(feed(Command::new("openssl").args(["enc", cipher, "-K", &key, "-iv", &hex(&iv)]), text));
            assert_eq!(sealed[at + 4..at + 4 + text.len()], encrypted, "{file}: chunk {number}");
            at += 4 + text.len() + 16;
        }
        assert_eq!((&sealed[at..at + 4], sealed.len()), (&[0; 4][..], at + 20), "{file}");
        if algorithm == Algorithm::Aes256Gcm {
            let nonce = [&[0; 3], &(lengths.len() as u64).to_be_bytes()[..], &[1]].concat();
            let mut mac = Command::new("openssl");
            mac.args(["mac", "-binary", "-macopt", "cipher:AES-256-GCM"]);
            mac.args(["-macopt", &format!("hexkey:{key}"), "-macopt", &format!("hexiv:{}", hex(&nonce)), "-in", "-", "GMAC"]);
            assert_eq!(good(feed(&mut mac, &[0; 4])), &sealed[at + 4..], "{file}: end mark");
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
