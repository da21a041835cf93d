//! Archives of qpress, whole and in small chunks: both ways give the same, and neither more than a bound.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xb::zip::{Unzip, qpress};

mod common;

fuzz_target!(|bytes: &[u8]| {
    common::agree(&Unzip::default(), b"x.qp", b"x", bytes);
    common::agree(&Unzip::default(), b"x.qp", b"x", &archive(bytes));
});

/// The bytes as packets, in an archive whose positions and checksums are right.
fn archive(mut bytes: &[u8]) -> Vec<u8> {
    let mut archive = [&qpress::MAGIC[..], &65536u64.to_le_bytes(), b"F\x01\0\0\0x\0"].concat();
    let mut position = 0u64;
    while let Some([flags, sizes @ ..]) = bytes.first_chunk::<9>() {
        let (len, content) = match flags & 2 {
            0 => (u32::from(sizes[0]), u32::from(sizes[1])),
            _ => {
                (u32::from_le_bytes(sizes[..4].try_into().unwrap()), u32::from_le_bytes(sizes[4..].try_into().unwrap()))
            }
        };
        let (packet, rest) = bytes.split_at(bytes.len().min(len as usize).max(3));
        archive.extend_from_slice(b"NEWBNEWB");
        archive.extend_from_slice(&position.to_le_bytes());
        archive.extend_from_slice(&simd_adler32::adler32(&packet).to_le_bytes());
        archive.extend_from_slice(packet);
        position += u64::from(content);
        bytes = rest;
    }
    archive.extend_from_slice(b"ENDSENDS\0\0\0\0\0\0\0\0");
    archive
}
