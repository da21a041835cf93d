//! Frames of zstd, whole and in small chunks: both ways give the same, and neither more than a bound.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xb::zip::{Unzip, zstd};

mod common;

fuzz_target!(|bytes: &[u8]| {
    common::agree(&Unzip::default(), b"x.zst", b"x", bytes);
    common::agree(&Unzip::default(), b"x.zst", b"x", &[&zstd::MAGIC, bytes].concat());
});
