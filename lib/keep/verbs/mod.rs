//! The verbs of xb-keep, one to a file.

pub mod add;
pub mod binlog;
pub mod binlog_floor;
pub mod cat;
pub mod drill;
pub mod init;
pub mod last_lsn;
pub mod list;
pub mod pin;
pub mod prune;
pub mod restore;
pub mod show;
pub mod status;
pub mod take;
pub mod verify;
