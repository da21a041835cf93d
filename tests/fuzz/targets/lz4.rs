//! Frames of lz4, whole and in small chunks: both ways give the same, and neither more than a bound.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xb::zip::{Unzip, lz4};

mod common;

fuzz_target!(|bytes: &[u8]| {
    common::agree(&Unzip::default(), b"x.lz4", b"x", bytes);
    common::agree(&Unzip::default(), b"x.lz4", b"x", &framed(bytes));
});

/// The bytes as one frame, its head with the right checksum.
fn framed(bytes: &[u8]) -> Vec<u8> {
    let fields = if bytes.first().is_some_and(|flags| flags & 8 != 0) { 10 } else { 2 };
    let (fields, blocks) = bytes.split_at(fields.min(bytes.len()));
    let sum = twox_hash::XxHash32::oneshot(0, fields).to_le_bytes();
    [&lz4::MAGIC, fields, &sum[1..2], blocks].concat()
}
