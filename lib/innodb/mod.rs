//! The file formats of InnoDB and Aria: pages, tablespaces, redo log. Pure functions of bytes: no files, no threads.
//!
//! Integers are big-endian unless noted otherwise. The bytes decide how they are parsed, not what a server reports:
//! MySQL's tablespaces are recognized by flag bits that MariaDB's never have, and its pages by types that MariaDB does
//! not write.

pub mod aria;
pub mod checksum;
pub mod delta;
pub mod doublewrite;
pub mod ids;
mod mysql;
pub mod page;
pub mod redo;
pub mod scan;
pub mod space;
pub mod squeeze;
pub mod stamp;

pub use aria::Aria;
pub use doublewrite::Doublewrite;
pub use ids::{LogicalPageSize, Lsn, PageNo, PageSize, SpaceId};
pub use mysql::{is_undo, lasting_id};
pub use page::{Content, Fault};
pub use scan::Scan;
pub use space::Space;

/// True if all bits are zero; as fast as memory.
pub fn is_zero(bytes: &[u8]) -> bool {
    // Words are or-ed in blocks, which the compiler vectorizes; a page that is not zero ends the loop early.
    let mut blocks = bytes.chunks_exact(256);
    blocks.all(|block| block.iter().fold(0, |bits, byte| bits | byte) == 0)
        && blocks.remainder().iter().all(|byte| *byte == 0)
}
