//! Frames of zstd, whole and in small chunks: both ways give the same, and neither more than a bound.
#![no_main]

use libfuzzer_sys::fuzz_target;

mod common;

fuzz_target!(|bytes: &[u8]| {
    common::agree(bytes);
    common::agree(&[xb::zip::zstd::MAGIC.to_vec(), bytes.to_vec()].concat());
});
