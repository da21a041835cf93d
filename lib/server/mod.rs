//! The server that is copied: how to connect to it, its privileges, locks, positions and files.
//!
//! Also the server programs on this host: how to find them, and how to read their messages.
//!
//! Supported are MariaDB 10.11 and 11.x, and MySQL 8.0.30 and later; see [`Release`]. What only one family has is in
//! [`mariadb`] or [`mysql`].

pub mod address;
pub mod applier;
pub(crate) mod certificates;
mod channel;
pub mod dictionary;
mod family;
pub mod files;
pub mod locks;
pub mod login_path;
pub mod mariadb;
pub mod messages;
pub mod mysql;
pub mod options;
pub mod parts;
pub mod password;
pub mod positions;
pub mod privileges;
pub mod program;
mod refusal;
pub mod session;
pub mod tls;
pub mod variables;

pub use family::{Family, Release, Version};
pub use refusal::{LOST, Refusal};
pub use session::{Login, Session};
pub use variables::Variables;
