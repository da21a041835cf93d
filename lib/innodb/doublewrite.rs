//! Where the doublewrite area of the system tablespace is. Copies of any page lie there, so its pages have other
//! numbers and tablespaces' formats than their place suggests; no checker can make sense of them, and recovery uses
//! them only in place of a torn page. Source: `facts/mariadb-hot-backup#doublewrite`, `trx0sys.h`.

use std::ops::Range;

use super::{page, u32_at};

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
    blocks: [Range<u32>; 2],
}

impl Doublewrite {
    /// From page 5 of the system tablespace, verified by the caller. `None`: there is no area (a server that has
    /// always run with `innodb_doublewrite=OFF`).
    pub fn parse(page5: &[u8], page_size: u32) -> Option<Self> {
        let size = usize::try_from(page_size).ok().filter(|size| *size == page5.len())?;
        let at = size.checked_sub(FROM_END)? + SEGMENT;
        if u32_at(page5, at) != MAGIC {
            return None;
        }
        let extent = extent(page_size);
        let blocks = [at + 4, at + 8].map(|at| u32_at(page5, at)).map(|first| first..first.saturating_add(extent));
        Some(Doublewrite { blocks })
    }

    /// Where it lies when its page cannot be seen: servers make it before anything else, behind the first extent.
    pub fn usual(page_size: u32) -> Self {
        let extent = extent(page_size);
        Doublewrite { blocks: [extent..2 * extent, 2 * extent..3 * extent] }
    }

    /// True if page `number` of the system tablespace lies in the area.
    pub fn covers(&self, number: u32) -> bool {
        self.blocks.iter().any(|block| block.contains(&number))
    }
}

/// Pages of an extent: 1 MiB, but at least 64 pages.
fn extent(page_size: u32) -> u32 {
    ((1 << 20) / page_size.clamp(page::MIN, page::MAX)).max(64)
}
