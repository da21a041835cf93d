//! Archives of qpress, whole and in small chunks: both ways give the same, and neither more than a bound.
#![no_main]

use libfuzzer_sys::fuzz_target;

mod common;

fuzz_target!(|bytes: &[u8]| {
    common::agree(bytes);
    common::agree(&[[&xb::zip::qpress::MAGIC[..], &65536u64.to_le_bytes(), b"F\x01\0\0\0x\0"].concat(), bytes.to_vec()].concat());
});
