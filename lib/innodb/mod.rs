//! What InnoDB and Aria keep on disk: pages, tablespaces, redo. Pure functions of bytes: no files, no threads.
//!
//! Integers are big-endian unless said otherwise. What is on disk decides how it is read, never what a server says about
//! itself: MySQL's tablespaces are known by flag bits that MariaDB's never have, and its pages by types that MariaDB does
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

pub use aria::Aria;
pub use doublewrite::Doublewrite;
pub use ids::{LogicalPageSize, Lsn, PageNo, PageSize, SpaceId};
pub use mysql::{is_undo, lasting_id};
pub use page::{Content, Fault};
pub use scan::Scan;
pub use space::Space;

/// True if there is no bit set; as fast as memory.
pub fn is_zero(bytes: &[u8]) -> bool {
    // Whole words or-ed together in blocks: the compiler makes vectors of it, and a page that is not zero ends early.
    let mut blocks = bytes.chunks_exact(256);
    blocks.all(|block| block.iter().fold(0, |bits, byte| bits | byte) == 0)
        && blocks.remainder().iter().all(|byte| *byte == 0)
}
