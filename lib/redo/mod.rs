//! The redo log's part in a backup: catching it while the server writes it.

mod capture;
pub mod filter;
mod follower;
mod held;
pub(crate) mod live;
mod outlet;
mod relay;
