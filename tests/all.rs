//! All integration tests; one crate, so that everything links once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::print_stderr,
    unreachable_pub,
    reason = "tests assert by panicking"
)]

mod pack;
mod stream_faults;
mod tool;
mod unpack;
mod vectors;
