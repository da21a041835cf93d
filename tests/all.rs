//! All integration tests; one crate, so that everything links once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    unreachable_pub,
    reason = "tests assert by panicking"
)]

mod docs;
mod house;
mod pages;
mod redo_format;
mod snap;
mod support;
