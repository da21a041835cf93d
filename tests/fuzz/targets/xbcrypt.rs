//! Files of xbcrypt: whole and in small chunks both ways give the same, and what is encrypted comes back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xb::crypt::{Decrypt, Keys, key, xbcrypt};

mod common;

const KEY: &[u8; 32] = b"percona_xtrabackup_is_awesome___";
/// The key of the vectors, so that they are a corpus. A chunk of more than this is refused.
const LIMIT: usize = 1 << 16;

fuzz_target!(|bytes: &[u8]| {
    let keys = Keys::new(key::parse(KEY).unwrap());
    let decrypt = || Decrypt::new(&keys, b"", LIMIT);
    common::agree(&decrypt(), b"x.xbcrypt", b"x", bytes);
    common::agree(&decrypt(), b"x.xbcrypt", b"x", &mended(bytes));
    back(bytes);
});

/// The same with the right CRC in each chunk, so that the cipher is reached.
fn mended(bytes: &[u8]) -> Vec<u8> {
    let mut file = bytes.to_vec();
    let mut at = 0;
    while let Some(magic) = file.get(at..).and_then(|rest| rest.first_chunk()) {
        let Ok(head_len) = xbcrypt::head_length(magic) else { break };
        let Some(Ok(head)) = file.get(at..at + head_len).map(xbcrypt::head) else { break };
        let Some(encrypted) = file.get(at + head_len..at + head_len + head.size) else { break };
        let crc = crc32fast::hash(encrypted);
        file[at + 32..at + 36].copy_from_slice(&crc.to_le_bytes());
        at += head_len + head.size;
    }
    file
}

/// A chunk of these bytes comes back, and with a changed byte it does not.
fn back(bytes: &[u8]) {
    let Some((iv, text)) = bytes.split_first_chunk::<16>().filter(|(_, text)| !text.is_empty()) else { return };
    let key = key::parse(KEY).unwrap();
    let mut chunk = Vec::new();
    xbcrypt::encrypt(&key, iv, text, &mut chunk);
    let head = xbcrypt::head(&chunk[..xbcrypt::HEAD_MAX]).unwrap();
    let mut plain = Vec::new();
    xbcrypt::decrypt(&key, &head, &chunk[xbcrypt::HEAD_MAX..], &mut plain).unwrap();
    assert_eq!(plain, text);
    let last = chunk.len() - 1;
    chunk[last] ^= 1;
    let head = xbcrypt::Head { crc: crc32fast::hash(&chunk[xbcrypt::HEAD_MAX..]), ..head };
    plain.clear();
    assert_eq!(xbcrypt::decrypt(&key, &head, &chunk[xbcrypt::HEAD_MAX..], &mut plain), Err(xbcrypt::Fault::Hash));
    assert!(plain.is_empty());
}
