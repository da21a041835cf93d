//! What the live log shows of DDL that runs while tablespaces are copied.

pub(crate) mod mariadb;
pub(crate) mod mysql;
