//! The library of xb-tools: streams, pages, redo and servers, without a command line.
//!
//! Direction of use, never against it:
//!
//! ```text
//! tools -> cli -> jobs {snap, redo, pack, unpack, zip, crypt, sum, throttle} -> {codec, stream, innodb, server}
//!       -> pipeline -> io -> error
//! ```
//!
//! Formats (`stream::chunk`, `innodb::page`, `innodb::redo`) are pure functions of bytes: no files, threads, clap
//! or printing. Jobs return values and errors and speak through [`report::Report`]; only [`cli`] prints and exits.
//!
//! Comments cite where a fact comes from: an anchor of the documents in [`facts`], as in
//! `facts/mariadb-hot-backup#end-lsn`; a bare file name (`trx0sys.h`) is in the server's source.

pub mod budget;
mod bytes;
pub mod capture;
pub mod cli;
pub mod codec;
pub mod crypt;
pub mod error;
pub mod facts;
pub mod front;
pub mod innodb;
pub mod io;
mod log;
mod metadata;
pub mod pack;
pub mod process;
pub mod report;
pub mod restore;
pub mod server;
pub mod snap;
pub mod stream;
pub mod sum;
pub mod throttle;
pub mod unpack;
pub mod zip;

pub use error::{Error, Kind, Result};
