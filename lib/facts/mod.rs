//! What is known of servers and formats, from their sources and from experiments.
//!
//! Code cites a section by its anchor: `facts/mariadb-hot-backup#end-lsn` is the section `end-lsn` of
//! `lib/facts/mariadb-hot-backup.md`, here [`mariadb_hot_backup`]. The documents use two short names: c0 is the
//! checkpoint_lsn of a backup, E its end_lsn.
#![allow(
    clippy::doc_lazy_continuation,
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_html_tags,
    rustdoc::bare_urls,
    reason = "the documents are read as they are, too: marks such as [P] are no links"
)]

#[doc = include_str!("mariadb-hot-backup.md")]
pub mod mariadb_hot_backup {}

#[doc = include_str!("mysql-hot-backup.md")]
pub mod mysql_hot_backup {}

#[doc = include_str!("xbstream.md")]
pub mod xbstream {}

#[doc = include_str!("xbcrypt.md")]
pub mod xbcrypt {}

#[doc = include_str!("compression.md")]
pub mod compression {}
