//! The server that is copied: how to reach it, what it may and can do, its locks, its positions and its files.
//!
//! And of the servers on this host: finding their programs, understanding what they say.
//!
//! MariaDB 10.11 and 11.x, MySQL 8.0.30 and later. [`Release`] says which; what only one of the families has is
//! in [`mariadb`] or [`mysql`].

pub mod address;
pub mod applier;
mod channel;
pub mod dictionary;
mod family;
pub mod files;
pub mod locks;
pub mod mariadb;
pub mod messages;
pub mod mysql;
pub mod options;
pub mod parts;
pub mod password;
pub mod positions;
pub mod privileges;
pub mod program;
pub mod session;
pub mod tls;
pub mod variables;

pub use family::{Family, Release, Version};
pub use session::{Login, Refusal, Session};
pub use variables::Variables;
