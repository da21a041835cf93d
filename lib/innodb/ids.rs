//! The numbers that InnoDB counts by, each a type of its own, with the arithmetic that makes sense for it and no other.
//!
//! None of them checks a rule of the server but [`PageSize`] and [`LogicalPageSize`]: those that are not of a legal size do
//! not come into being.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Makes a number a type that can be compared, shown, and read and written as the number is.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident($of:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name($of);

        impl $name {
            /// The one with this number.
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
    /// A log sequence number: a place in the redo log, in bytes since the server was initialised.
    Lsn(u64)
}

number! {
    /// A tablespace's number; 0 is the system tablespace. It stays when a table is renamed.
    SpaceId(u32)
}

number! {
    /// A page's number in its tablespace. The later files of the system tablespace go on counting where the one before
    /// ends, so it is not everywhere the page's place in its file.
    PageNo(u32)
}

impl Lsn {
    /// Before any other; what was never logged has it.
    pub const ZERO: Lsn = Lsn(0);
    /// Behind any other.
    pub const MAX: Lsn = Lsn(u64::MAX);

    /// So many bytes further on; `None` beyond the last that there can be.
    pub const fn checked_add(self, bytes: u64) -> Option<Lsn> {
        match self.0.checked_add(bytes) {
            Some(lsn) => Some(Lsn(lsn)),
            None => None,
        }
    }

    /// So many bytes further on, at most the last that there can be.
    pub const fn saturating_add(self, bytes: u64) -> Lsn {
        Lsn(self.0.saturating_add(bytes))
    }

    /// Bytes from an earlier one up to here; `None` if that is the later.
    pub const fn checked_since(self, earlier: Lsn) -> Option<u64> {
        self.0.checked_sub(earlier.0)
    }

    /// Bytes from an earlier one up to here; 0 if that is the later.
    pub const fn since(self, earlier: Lsn) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl SpaceId {
    /// The system tablespace.
    pub const SYSTEM: SpaceId = SpaceId(0);
}

impl PageNo {
    /// So many pages further on; `None` beyond the last that there can be.
    pub fn checked_add(self, pages: u32) -> Option<PageNo> {
        self.0.checked_add(pages).map(PageNo)
    }

    /// Pages from an earlier one up to here; `None` if that is the later.
    pub fn checked_since(self, earlier: PageNo) -> Option<u32> {
        self.0.checked_sub(earlier.0)
    }

    /// This page and those that follow it, up to the last that there can be.
    pub fn onward(self) -> impl Iterator<Item = PageNo> {
        (self.0..=u32::MAX).map(PageNo)
    }
}

/// Bytes of a page in its file, the *physical* page size: a power of two from 1 KiB to 64 KiB. Smaller than the logical one
/// for ROW_FORMAT=COMPRESSED.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageSize(u32);

/// Bytes of a page in memory, the *logical* page size, which all tablespaces of a server have in common
/// (`innodb_page_size`): a power of two from 4 KiB to 64 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogicalPageSize(u32);

impl PageSize {
    /// Smallest (ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=1).
    pub const MIN: PageSize = PageSize(1 << 10);
    /// Largest.
    pub const MAX: PageSize = PageSize(64 << 10);

    /// `None` if no page has so many bytes.
    pub const fn new(bytes: u32) -> Option<PageSize> {
        if bytes.is_power_of_two() && bytes >= Self::MIN.0 && bytes <= Self::MAX.0 {
            Some(PageSize(bytes))
        } else {
            None
        }
    }

    /// All of them, the smallest first.
    pub fn all() -> impl Iterator<Item = PageSize> {
        (10..=16).map(|power| PageSize(1 << power))
    }

    /// As formats have it.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// As a length in memory.
    pub const fn bytes(self) -> usize {
        self.0 as usize
    }

    /// Bytes of so many pages, which is where the page with this place in a file begins.
    pub const fn offset(self, pages: u32) -> u64 {
        pages as u64 * self.0 as u64
    }

    /// How many whole pages there are in so many bytes.
    pub const fn pages_in(self, bytes: u64) -> u64 {
        bytes / self.0 as u64
    }
}

impl LogicalPageSize {
    /// `None` if no server has it.
    pub const fn new(bytes: u32) -> Option<LogicalPageSize> {
        match PageSize::new(bytes) {
            Some(PageSize(bytes)) if bytes >= 4 << 10 => Some(LogicalPageSize(bytes)),
            _ => None,
        }
    }

    /// As formats have it.
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
