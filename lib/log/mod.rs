//! The redo log of a server: on disk while the server writes it ([`live`]), read as it grows ([`follow`]), captured in
//! a backup ([`captured`]), and as a source for DDL ([`ddl_watch`]). Each has a module for each family.

pub(crate) mod captured;
pub(crate) mod ddl_watch;
pub(crate) mod follow;
pub(crate) mod live;
pub(crate) mod queue;
