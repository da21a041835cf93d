//! The redo log's part in a backup: catching it while the server writes it ([`filter`]), and restoring with it:
//! [`merge`] of increments, [`apply`], [`status`], [`copy_back`].

pub mod apply;
mod capture;
mod check;
mod clone;
pub mod copy_back;
pub(crate) mod deletions;
mod directory;
mod files;
pub mod filter;
mod follower;
mod form;
mod held;
mod layout;
pub(crate) mod live;
mod lock;
mod log;
pub mod merge;
mod outlet;
mod pace;
mod places;
mod present;
mod recover;
mod relay;
#[cfg(test)]
mod simulation;
mod state;
pub mod status;
mod strangers;
mod unlogged;
pub(crate) mod watch;
