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
mod cli;
mod complete;
mod crypt;
mod demo;
mod docs;
mod faults;
mod fileset;
mod front;
mod galera;
mod hot_backup;
mod house;
mod increments;
mod keep;
mod lives;
mod map;
mod memory;
mod meter;
mod mutants;
mod mysql;
mod mysql_ddl;
mod mysql_keyring;
mod mysql_snap;
mod names;
mod native;
mod option_files;
mod pack;
mod package;
mod pages;
mod partial;
mod pass;
mod peer;
mod prepared;
mod prints;
mod recipes;
mod redo;
mod redo_format;
mod reflink;
mod replication;
mod seal;
mod secrets;
mod snap;
mod stream_faults;
mod sum;
mod support;
mod throttle;
mod tls;
mod unpack;
mod vectors;
mod which_server;
mod without_innodb;
mod zip;
