//! InnoDB's numbers, each with its own type and only the arithmetic that makes sense for it.
//!
//! [`PageSize`] and [`LogicalPageSize`] can have legal values only; the other types accept any number.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Defines a type for a number that can be compared, printed, serialized and deserialized like the number.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident($of:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name($of);

        impl $name {
            /// Makes one from a number.
            pub const fn new(number: $of) -> Self {
                $name(number)
            }

            /// The number, for formats and messages.
            pub const fn get(self) -> $of {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map($name)
            }
        }
    };
}

number! {
    /// A log sequence number: a position in the redo log, in bytes since the server was initialized.
    Lsn(u64)
}

number! {
    /// The id of a tablespace; 0 is the system tablespace. It stays the same when a table is renamed.
    SpaceId(u32)
}

number! {
    /// A page's number in its tablespace. In the system tablespace it continues from file to file, so it may differ
    /// from the page's position in its file.
    PageNo(u32)
}

impl Lsn {
    /// The smallest LSN, which also stands for "never logged".
    pub const ZERO: Lsn = Lsn(0);
    /// The largest LSN.
    pub const MAX: Lsn = Lsn(u64::MAX);

    /// The LSN this many bytes later; `None` on overflow.
    pub const fn checked_add(self, bytes: u64) -> Option<Lsn> {
        match self.0.checked_add(bytes) {
            Some(lsn) => Some(Lsn(lsn)),
            None => None,
        }
    }

    /// The LSN this many bytes later; the largest one on overflow.
    pub const fn saturating_add(self, bytes: u64) -> Lsn {
        Lsn(self.0.saturating_add(bytes))
    }

    /// The distance in bytes from an earlier LSN; `None` if that is the later one.
    pub const fn checked_since(self, earlier: Lsn) -> Option<u64> {
        self.0.checked_sub(earlier.0)
    }

    /// The distance in bytes from an earlier LSN; 0 if that is the later one.
    pub const fn since(self, earlier: Lsn) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl SpaceId {
    /// The system tablespace.
    pub const SYSTEM: SpaceId = SpaceId(0);
}

impl PageNo {
    /// The page this many pages later; `None` on overflow.
    pub fn checked_add(self, pages: u32) -> Option<PageNo> {
        self.0.checked_add(pages).map(PageNo)
    }

    /// The distance in pages from an earlier page; `None` if that is the later one.
    pub fn checked_since(self, earlier: PageNo) -> Option<u32> {
        self.0.checked_sub(earlier.0)
    }

    /// This page number and all that follow.
    pub fn onward(self) -> impl Iterator<Item = PageNo> {
        (self.0..=u32::MAX).map(PageNo)
    }
}

/// The *physical* page size, which is the size of a page in its file, in bytes: a power of two from 1 KiB to 64 KiB.
/// For ROW_FORMAT=COMPRESSED it is smaller than the logical one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageSize(u32);

/// The *logical* page size, which is the size of a page in memory, in bytes. It is the same for all tablespaces of a
/// server (`innodb_page_size`): a power of two from 4 KiB to 64 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogicalPageSize(u32);

impl PageSize {
    /// The smallest one (ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=1).
    pub const MIN: PageSize = PageSize(1 << 10);
    /// The largest one.
    pub const MAX: PageSize = PageSize(64 << 10);

    /// `None` if this is not a legal size.
    pub const fn new(bytes: u32) -> Option<PageSize> {
        if bytes.is_power_of_two() && bytes >= Self::MIN.0 && bytes <= Self::MAX.0 {
            Some(PageSize(bytes))
        } else {
            None
        }
    }

    /// All legal sizes, the smallest first.
    pub fn all() -> impl Iterator<Item = PageSize> {
        (10..=16).map(|power| PageSize(1 << power))
    }

    /// In bytes, as in file formats.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// In bytes, as a length in memory.
    pub const fn bytes(self) -> usize {
        self.0 as usize
    }

    /// The size of this many pages in bytes, which is also the offset of the page with this index in a file.
    pub const fn offset(self, pages: u32) -> u64 {
        pages as u64 * self.0 as u64
    }

    /// How many whole pages fit into this many bytes.
    pub const fn pages_in(self, bytes: u64) -> u64 {
        bytes / self.0 as u64
    }
}

impl LogicalPageSize {
    /// `None` if this is not a legal size.
    pub const fn new(bytes: u32) -> Option<LogicalPageSize> {
        match PageSize::new(bytes) {
            Some(PageSize(bytes)) if bytes >= 4 << 10 => Some(LogicalPageSize(bytes)),
            _ => None,
        }
    }

    /// In bytes, as in file formats.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl From<PageSize> for u64 {
    fn from(size: PageSize) -> u64 {
        size.0.into()
    }
}

impl fmt::Display for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for LogicalPageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_look_like_the_numbers_that_they_are() {
        let lsn = Lsn::new(19_466_809);
        assert_eq!((lsn.to_string(), serde_json::to_string(&lsn).unwrap()), ("19466809".into(), "19466809".into()));
        assert_eq!(serde_json::from_str::<Lsn>("19466809").unwrap(), lsn);
        assert_eq!("19466809".parse(), Ok(lsn));
        assert!("-1".parse::<SpaceId>().is_err() && serde_json::from_str::<SpaceId>("4294967296").is_err());
        assert_eq!(format!("{:>4}", SpaceId::new(7)), "   7");
    }

    #[test]
    fn an_lsn_is_so_many_bytes_from_another() {
        let (early, late) = (Lsn::new(100), Lsn::new(140));
        assert_eq!(
            (early.checked_add(40), late.checked_since(early), early.checked_since(late)),
            (Some(late), Some(40), None)
        );
        assert_eq!((Lsn::new(u64::MAX).checked_add(1), early.since(late)), (None, 0));
    }

    #[test]
    fn sizes_of_pages_are_legal_or_none() {
        assert!(PageSize::all().all(|size| PageSize::new(size.get()) == Some(size)));
        assert_eq!(PageSize::all().map(PageSize::bytes).sum::<usize>(), (128 << 10) - (1 << 10));
        for wrong in [0, 1, 512, 5000, 128 << 10, u32::MAX] {
            assert_eq!(PageSize::new(wrong), None);
        }
        assert_eq!(LogicalPageSize::new(2048), None);
        let size = PageSize::new(16 << 10).unwrap();
        assert_eq!(size.offset(u32::MAX), u64::from(u32::MAX) << 14);
        assert_eq!(size.pages_in((3 << 14) + 5), 3);
        assert_eq!(PageNo::new(u32::MAX - 1).onward().count(), 2);
    }
}
