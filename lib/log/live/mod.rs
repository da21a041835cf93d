//! The live redo log: read with pread only, while the server writes it.

pub(crate) mod mariadb;
pub(crate) mod mysql;
