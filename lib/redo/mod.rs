//! The redo log's part in a backup: catching it while the server writes it.

pub mod filter;
