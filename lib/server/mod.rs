//! The server that is copied: how to reach it, what it may and can do, its locks, its positions and its files.
//!
//! And of the servers on this host: finding their programs, understanding what they say.
//!
//! MariaDB 10.11 and 11.x, MySQL 8.0.30 and later. [`flavour::Flavour`] says which; what only MySQL has is in [`mysql`].

pub mod address;
pub mod applier;
pub mod binlogs;
pub mod ddl_log;
pub mod dictionary;
pub mod files;
pub mod flavour;
pub mod locks;
pub mod messages;
pub mod mysql;
pub mod options;
pub mod parts;
pub mod password;
pub mod positions;
pub mod privileges;
pub mod program;
pub mod session;
pub mod variables;

pub use session::{Login, Refusal, Session};
pub use variables::Variables;
