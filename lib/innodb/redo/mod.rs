//! The redo log on disk. Each family of servers has its own format; MySQL's will stand beside [`mariadb`].

pub mod mariadb;
