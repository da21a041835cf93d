//! A page: its header, and possible faults. Source: `facts/mariadb-hot-backup#page-header`, `fil0fil.h`.
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

/// The smallest page on disk in bytes (ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=1).
pub const MIN: u32 = PageSize::MIN.get();
/// The largest page on disk in bytes.
pub const MAX: u32 = PageSize::MAX.get();
/// Length of the header in bytes.
pub const HEADER: usize = 38;

pub(crate) const NUMBER: usize = 4;
pub(crate) const LSN: usize = 16;
pub(crate) const TYPE: usize = 24;

/// The content of a complete page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Only zeros: never written, or freed and scrubbed.
    Zero,
    /// A page whose checksum is right.
    Verified,
    /// A page without a checksum over the stored bytes: page_compressed in the format before full_crc32, or
    /// `innodb_checksum_algorithm=none`. Its number is right.
    Unverified,
    /// A page of MySQL whose checksum is encrypted with it. Its number is right. It is complete if two reads, some time
    /// apart, agree.
    Encrypted,
}

/// Why a page is not complete: torn, misplaced or damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This tablespace cannot have a page of this length.
    Size {
        /// The page size of the tablespace.
        want: u32,
        /// The length of the page.
        found: usize,
    },
    /// No page of a file of the system tablespace is valid in any format.
    Format,
    /// No known tablespace has these flags in page 0.
    Flags(u32),
    /// The page belongs to another position.
    Number {
        /// The number of its position.
        want: PageNo,
        /// The number in the page.
        found: PageNo,
    },
    /// The checksum in the page is wrong.
    Checksum {
        /// The checksum in the page.
        stored: u32,
        /// The computed checksum.
        computed: u32,
    },
    /// Header and trailer are from different writes.
    LsnHalves {
        /// Low half of the LSN in the header.
        head: u32,
        /// The same in the trailer.
        trailer: u32,
    },
    /// A length in the page does not fit: that of compressed data (InnoDB), or of used bytes (Aria).
    Length {
        /// The length in bytes.
        len: u32,
    },
    /// The compressed body of a MySQL page cannot be decompressed.
    Squeezed {
        /// 1 for zlib, 2 for LZ4.
        algorithm: u8,
    },
    /// Repeated reads of a page without a usable checksum differ.
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
            Fault::LsnHalves { head, trailer } => {
                write!(f, "low half of the lsn is {head:#010x} in the header, {trailer:#010x} in the trailer")
            }
            Fault::Length { len } => write!(f, "says that {len} bytes of it are used, which is impossible"),
            Fault::Squeezed { algorithm: 1 } => f.write_str("compressed by zlib, and cannot be decompressed"),
            Fault::Squeezed { algorithm: 2 } => f.write_str("compressed by lz4, and cannot be decompressed"),
            Fault::Squeezed { algorithm } => write!(f, "compressed by algorithm {algorithm}, which is not known"),
            Fault::Changing => f.write_str("encrypted, and different at every read"),
        }
    }
}

/// The page number in the header.
pub fn number(page: &[u8]) -> Option<PageNo> {
    page.first_chunk::<HEADER>().map(|header| PageNo::new(header.be_u32::<NUMBER>()))
}

/// The end LSN of the last mini-transaction that changed the page; not encrypted in any format.
pub fn lsn(page: &[u8]) -> Option<Lsn> {
    page.first_chunk::<HEADER>().map(|header| Lsn::new(header.be_u64::<LSN>()))
}

/// The page's type. With full_crc32 and page_compressed it is a length instead, with the highest bit set.
pub fn kind(page: &[u8]) -> Option<u16> {
    page.first_chunk::<HEADER>().map(|header| header.be_u16::<TYPE>())
}

/// A page that is at least as long as the smallest one, so that all fields exist.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// All its bytes.
    pub(super) bytes: &'a [u8],
    /// The part that every page has.
    pub(super) head: &'a [u8; MIN as usize],
    /// The trailer; ROW_FORMAT=COMPRESSED has none.
    pub(super) trailer: &'a [u8; 8],
}

impl<'a> Page<'a> {
    /// Fails for anything shorter.
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
