//! All integration tests; one crate, so that everything links once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    unreachable_pub,
    reason = "tests assert by panicking, on machines of 64 bits"
)]

mod apply;
mod crypt;
mod docs;
mod hot_backup;
mod house;
mod map;
mod mysql;
mod mysql_snap;
mod pack;
mod pages;
mod pass;
mod redo;
mod redo_format;
mod seal;
mod snap;
mod stream_faults;
mod sum;
mod support;
mod throttle;
mod tool;
mod unpack;
mod vectors;
mod zip;
