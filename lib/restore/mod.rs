//! `xb-redo` on an unpacked directory: [`merge`] for increments, [`apply`], [`status`], [`copy_back`].

pub mod apply;
mod backup;
mod check;
mod clone;
pub mod copy_back;
mod destinations;
mod files;
mod foreign_tables;
mod layout;
mod lock;
pub mod merge;
mod native;
mod recover;
mod state;
pub mod status;
mod waiting;
