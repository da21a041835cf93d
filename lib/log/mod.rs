//! The redo log of a server: as it lies on disk while the server writes it ([`live`]), read along with it ([`follow`]),
//! captured in a backup ([`captured`]), and what it tells of DDL ([`ddl_watch`]). Each has a module for each family.

pub(crate) mod captured;
pub(crate) mod ddl_watch;
pub(crate) mod follow;
pub(crate) mod live;
pub(crate) mod queue;
