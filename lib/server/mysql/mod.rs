//! What only MySQL has: the backup lock, `log_status`, GTID sets, the end of the binary log, its files. Source:
//! `facts/mysql-hot-backup#sql`, `facts/mysql-hot-backup#file-set` and `facts/mysql-hot-backup#binlog`.

pub mod binlog;
pub mod binlog_prefix;
pub mod files;
pub mod gtid;
pub mod locks;
pub mod log_status;
pub mod replica;

pub use gtid::GtidSet;
pub use locks::InstanceLock;
pub use log_status::LogStatus;
