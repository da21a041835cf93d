//! What is MySQL's own: the backup lock, `log_status`, GTID sets and the binary log's tail, its files. Source: MySQL's
//! spec sections 2, 3 and 8.

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
