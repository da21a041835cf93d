//! Where the doublewrite area of the system tablespace is. It contains copies of any pages, so the number and format of
//! its pages do not fit their place. They cannot be checked, and recovery uses them only in place of a torn page.
//! Source: `facts/mariadb-hot-backup#doublewrite`, `trx0sys.h`.

use std::ops::Range;

use super::{PageNo, PageSize};
use crate::bytes::Fields as _;

/// The page of the system tablespace that says where the area is.
pub const PAGE: u32 = 5;

/// Distance of the header from the end of that page.
const FROM_END: usize = 200;
/// Bytes of segment header before the magic number.
const SEGMENT: usize = 10;
const MAGIC: u32 = 536_853_855;

/// The two blocks of the doublewrite area, an extent each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doublewrite {
    blocks: [Range<PageNo>; 2],
}

impl Doublewrite {
    /// Parses page 5 of the system tablespace, which the caller has verified. `None` if there is no area, because the
    /// server has always run with `innodb_doublewrite=OFF`.
    pub fn parse(page5: &[u8], page_size: PageSize) -> Option<Self> {
        let header = page5.last_chunk::<FROM_END>().filter(|_| page5.len() == page_size.bytes())?;
        if header.be_u32::<SEGMENT>() != MAGIC {
            return None;
        }
        let extent = extent(page_size);
        let blocks = [header.be_u32::<{ SEGMENT + 4 }>(), header.be_u32::<{ SEGMENT + 8 }>()];
        let blocks = blocks.map(|first| PageNo::new(first)..PageNo::new(first.saturating_add(extent)));
        Some(Doublewrite { blocks })
    }

    /// Where it is if its page is not available: servers create it first, after the first extent.
    pub fn usual(page_size: PageSize) -> Self {
        let extent = extent(page_size);
        let block = |from, to| PageNo::new(from * extent)..PageNo::new(to * extent);
        Doublewrite { blocks: [block(1, 2), block(2, 3)] }
    }

    /// True if page `number` of the system tablespace is in the area.
    pub fn covers(&self, number: PageNo) -> bool {
        self.blocks.iter().any(|block| block.contains(&number))
    }
}

/// Number of pages in an extent: 1 MiB, but at least 64 pages.
fn extent(page_size: PageSize) -> u32 {
    ((1 << 20) / page_size.get()).max(64)
}
