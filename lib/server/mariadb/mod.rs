//! What only MariaDB has: its backup stages, `ddl.log`, and the binary logs that its recovery uses.

pub mod binlogs;
pub mod ddl_log;
pub mod locks;
