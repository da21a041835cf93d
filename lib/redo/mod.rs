//! The redo log's part in a backup: catching it while the server writes it ([`filter`]), and restoring with it:
//! [`apply`], [`status`], [`copy_back`].

pub mod apply;
mod check;
mod clone;
pub mod copy_back;
mod directory;
mod files;
pub mod filter;
mod layout;
mod log;
mod recover;
mod state;
pub mod status;
