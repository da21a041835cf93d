//! The live redo log: read only with pread, while the server writes it.

pub(crate) mod mariadb;
pub(crate) mod mysql;
