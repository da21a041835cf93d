//! What the live log tells of DDL that runs while tablespaces are copied.

pub(crate) mod mariadb;
pub(crate) mod mysql;
