//! The library of xb-tools: streams, pages, redo and servers, without a command line.
//!
//! Direction of use, never against it:
//!
//! ```text
//! tools -> cli -> jobs {snap, capture, restore, pack, unpack, zip, crypt, sum, throttle}
//!       -> {codec, log, server, stream} -> innodb -> io -> error
//! ```
//!
//! Formats (`stream::chunk`, `innodb::page`, `innodb::redo`) are pure functions of bytes: they use no files, threads or
//! command line, and print nothing. Jobs return values and errors and report through [`report::Report`]; only [`cli`]
//! prints and exits.
//!
//! Comments cite their sources: an anchor of the documents in [`facts`], as in `facts/mariadb-hot-backup#end-lsn`; a
//! bare file name (`trx0sys.h`) is in the server's source.
//!
//! # Glossary
//!
//! - **Server family**: MariaDB or MySQL; Percona Server belongs to MySQL.
//! - **Stream**: an xbstream. It consists of *chunks*; the chunks with one path are a *member*, which is one file.
//! - **`xb_begin`, `xb_manifest`**: the first and last member of our streams. With both, a reader can prove that a
//!   stream is complete.
//! - **Durable LSN mark** (`xb_mark.N`): a member that tells xb-redo how far the server's log is on disk.
//! - **checkpoint_lsn**: where the redo log of a backup begins. It is read before the first page is copied.
//! - **end_lsn**: where the redo log of a backup ends. Recovery brings all pages to this LSN.
//! - **Tablespace**: an InnoDB tablespace, known by its id. An *external* one lies outside the data directory.
//! - **Uninitialized page 0**: page 0 of a new tablespace that the server has not written yet. The redo log has its
//!   content.
//! - **Torn page**: a page that was read while the server wrote it. It is read again until its checksum is right.
//! - **Catalog**: the file-per-table tablespaces that xb-snap has listed, and how the copy of each went.
//! - **Dictionary**: what the server's data dictionary says of its tablespaces.
//! - **Base, increment**: an *increment* has the pages that changed since its *base*, a full backup or another
//!   increment.
//! - **Delta** (`.delta`, `.meta`): the changed pages of one tablespace in an increment, and its page size.
//! - **Page digest** (`xb_pages`): a short hash of every page of a backup; an increment compares pages with it.
//! - **Mini-transaction (mtr)**: a group of redo log records that recovery applies as a whole, or not at all.
//! - **Deferred output, spool**: bytes copied under a lock. They wait in memory, then in an unlinked file, until the
//!   locks are released.
//! - **Manifest buffer**: where xb-redo keeps `xb_manifest` until it has sent the log.
//! - **Captured log**: the redo log of a backup, from checkpoint_lsn to end_lsn.
//! - **Apply, merge**: *apply* recovers a backup with its log; *merge* puts increments into a full backup.
//! - **Position**: a binary log file and an offset in it, or a GTID set.

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
pub mod keep;
mod log;
mod metadata;
pub mod pack;
pub mod process;
pub mod report;
pub mod restore;
pub mod server;
pub mod snap;
pub mod sst;
pub mod stream;
pub mod sum;
pub mod throttle;
pub mod unpack;
pub mod zip;

pub use error::{Error, Kind, Result};
