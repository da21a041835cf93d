//! What is MariaDB's own: its backup stages, `ddl.log`, and the binary logs that its recovery asks.

pub mod binlogs;
pub mod ddl_log;
pub mod locks;
