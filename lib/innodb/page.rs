//! One page: its header, and what can be wrong with it. Source: `facts/mariadb-hot-backup#page-header`, `fil0fil.h`.
//!
//! ```text
//!  0  4  checksum (full_crc32: key version)     24  2  type
//!  4  4  number in the tablespace               26  8  not full_crc32: key version, checksum after encryption
//!  8  8  neighbours                             34  4  tablespace
//! 16  8  LSN of the last change                 38     body, and 8 bytes of trailer unless ROW_FORMAT=COMPRESSED
//! ```

use std::fmt;

use super::{Lsn, PageNo, PageSize};
use crate::bytes::Fields as _;

/// Smallest page on disk (ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=1).
pub const MIN: u32 = PageSize::MIN.get();
/// Largest page on disk.
pub const MAX: u32 = PageSize::MAX.get();
/// Bytes of header.
pub const HEADER: usize = 38;

pub(crate) const NUMBER: usize = 4;
pub(crate) const LSN: usize = 16;
pub(crate) const TYPE: usize = 24;

/// What a page that is complete holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Only zeros: never written, or freed and scrubbed.
    Zero,
    /// A page whose checksum is right.
    Verified,
    /// A page without a checksum over what is stored: page_compressed in the format before full_crc32, and
    /// `innodb_checksum_algorithm=none`. Its number is right.
    Unverified,
    /// A page of MySQL whose checksum is encrypted with it. Its number is right; that it is whole can be seen from two
    /// reads some time apart that agree.
    Encrypted,
}

/// Why a page is not complete: torn, misplaced or damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A page of this length cannot be in this tablespace.
    Size {
        /// Bytes of a page here.
        want: u32,
        /// Bytes that there are.
        found: usize,
    },
    /// No page of a file of the system tablespace is good in any format.
    Format,
    /// The flags of page 0 are not of any known tablespace.
    Flags(u32),
    /// The page belongs to another place of the file.
    Number {
        /// Its place.
        want: PageNo,
        /// What it says itself.
        found: PageNo,
    },
    /// The sum over the page is another than the one it carries.
    Checksum {
        /// What the page carries.
        stored: u32,
        /// The sum over what is there.
        computed: u32,
    },
    /// Header and trailer are of different writes.
    LsnHalves {
        /// Low half of the LSN in the header.
        head: u32,
        /// The same in the trailer.
        tail: u32,
    },
    /// A length that does not fit into the page: compressed (InnoDB), used (Aria).
    Length {
        /// Bytes, as the page says.
        len: u32,
    },
    /// The body of a page that MySQL has squeezed is not what its algorithm makes.
    Squeezed {
        /// 1 for zlib, 2 for LZ4.
        algorithm: u8,
    },
    /// Two reads of a page differ, of which nothing else can be said.
    Changing,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Size { want, found } => write!(f, "page of {found} bytes where pages have {want}"),
            Fault::Format => f.write_str("not a page of a system tablespace in any known format"),
            Fault::Flags(flags) => write!(f, "tablespace flags {flags:#010x} are not known"),
            Fault::Number { want, found } => write!(f, "page says it is number {found} and is at the place of {want}"),
            Fault::Checksum { stored, computed } => {
                write!(f, "checksum {stored:#010x} is stored, {computed:#010x} is computed")
            }
            Fault::LsnHalves { head, tail } => {
                write!(f, "low half of the lsn is {head:#010x} in the header, {tail:#010x} in the trailer")
            }
            Fault::Length { len } => write!(f, "says that {len} bytes of it are used, which cannot be"),
            Fault::Squeezed { algorithm: 1 } => f.write_str("compressed by zlib, and cannot be decompressed"),
            Fault::Squeezed { algorithm: 2 } => f.write_str("compressed by lz4, and cannot be decompressed"),
            Fault::Squeezed { algorithm } => write!(f, "compressed by algorithm {algorithm}, which is not known"),
            Fault::Changing => f.write_str("encrypted, and different at every read"),
        }
    }
}

/// The number of the page in its tablespace, as it says itself.
pub fn number(page: &[u8]) -> Option<PageNo> {
    page.first_chunk::<HEADER>().map(|header| PageNo::new(header.be_u32::<NUMBER>()))
}

/// LSN of the end of the last mini-transaction that changed the page; in the clear in every format.
pub fn lsn(page: &[u8]) -> Option<Lsn> {
    page.first_chunk::<HEADER>().map(|header| Lsn::new(header.be_u64::<LSN>()))
}

/// The page's type; full_crc32 with page_compressed stores a length here, with the highest bit set.
pub fn kind(page: &[u8]) -> Option<u16> {
    page.first_chunk::<HEADER>().map(|header| header.be_u16::<TYPE>())
}

/// A page that is as long as the smallest at least, so that its fields are there.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// All of it.
    pub(super) bytes: &'a [u8],
    /// As much as every page has.
    pub(super) head: &'a [u8; MIN as usize],
    /// The trailer, unless it is ROW_FORMAT=COMPRESSED.
    pub(super) trailer: &'a [u8; 8],
}

impl<'a> Page<'a> {
    /// What is shorter is none.
    pub fn of(bytes: &'a [u8]) -> Result<Self, Fault> {
        match (bytes.first_chunk(), bytes.last_chunk()) {
            (Some(head), Some(trailer)) => Ok(Page { bytes, head, trailer }),
            _ => Err(Fault::Size { want: MIN, found: bytes.len() }),
        }
    }

    pub(super) fn kind(&self) -> u16 {
        self.head.be_u16::<TYPE>()
    }
}
