//! Sealed members: of anything but what was sealed, at most the beginning of the true text is released.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xb::crypt::seal::{Algorithm, SALT, Seal};
use xb::crypt::{Decrypt, Keys, key};

mod common;

const KEY: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

fuzz_target!(|bytes: &[u8]| {
    let keys = Keys::new(key::parse(KEY).unwrap());
    let decrypt = || Decrypt::new(&keys, b"", 1 << 16);
    common::agree(&decrypt(), b"x.xbseal", b"x", bytes);
    let (sealed, truth) = sealed();
    let changed = edited(&sealed, bytes);
    let mut out = common::Bounded(Vec::new());
    let outcome = xb::codec::whole_input::rewrite(&decrypt(), changed.as_slice(), &mut out, 1, &());
    assert!(truth.starts_with(&out.0), "something false was released");
    // Nothing at all is what xbcrypt makes of nothing.
    assert_eq!(outcome.is_ok(), changed == sealed || changed.is_empty(), "changed, and taken");
});

/// A few chunks, and their text.
fn sealed() -> (Vec<u8>, Vec<u8>) {
    let key = key::parse(KEY).unwrap().for_seal().unwrap();
    let (head, seal) = Seal::new(&key, b"", Algorithm::Aes256Gcm, &[7; SALT]).unwrap();
    let texts: [&[u8]; 5] = [b"the first", b"a second one", b"three", b"4", b""];
    let mut sealed = head.to_vec();
    for (number, text) in texts.into_iter().enumerate() {
        seal.put(number as u64, text, &mut sealed).unwrap();
    }
    (sealed, texts.concat())
}

/// Does to `sealed` what the script says: four bytes a step.
fn edited(sealed: &[u8], script: &[u8]) -> Vec<u8> {
    let mut bytes = sealed.to_vec();
    for [what, place, len, value] in script.as_chunks::<4>().0.iter().take(64) {
        let at = usize::from(*place).min(bytes.len());
        let end = (at + usize::from(*len)).min(bytes.len());
        match what % 4 {
            0 => bytes[at..end].iter_mut().for_each(|byte| *byte ^= value),
            1 => drop(bytes.drain(at..end)),
            2 => drop(bytes.splice(at..at, bytes[at..end].to_vec())),
            _ => {
                let part: Vec<u8> = bytes.drain(at..end).collect();
                let to = usize::from(*value).min(bytes.len());
                bytes.splice(to..to, part);
            }
        }
    }
    bytes
}
