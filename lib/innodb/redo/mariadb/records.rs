//! The records of a mini-transaction, with their meaning. Source: `facts/mariadb-hot-backup#record-framing`,
//! `facts/mariadb-hot-backup#page-records`, `facts/mariadb-hot-backup#extended-records` and
//! `facts/mariadb-hot-backup#file-records`; `mtr0types.h`, `log0recv.cc` (`recv_sys_t::parse`, `log_phys_t::apply`).
//!
//! ```text
//! first byte   bit 7: same page as the record before; bits 4 to 6: type; bits 0 to 3: length, 0 if it follows
//! length       if it was 0: a number of 1 to 3 bytes; it counts itself, and 15 less than what follows the first byte
//! page         unless it is the same: tablespace id and page number, numbers of 1 to 5 bytes
//! ```
//!
//! | type | after the page |
//! |---|---|
//! | 0 FREE_PAGE, 1 INIT_PAGE | nothing |
//! | 2 EXTENDED | subtype (1 byte) and its parameters |
//! | 3 WRITE | offset, bytes |
//! | 4 MEMSET | offset, length, pattern |
//! | 5 MEMMOVE | offset, length, source |
//! | 6 | reserved |
//! | 7 OPTION | subtype (1 byte), its content |
//!
//! An offset counts from where the record before has ended; from 0 after the name of the page, from 24 after INIT_PAGE
//! and EXTENDED. Before the first record of a page, bit 7 marks a record about a file.
//!
//! Nothing is guessed: what no server writes is a fault.

use std::fmt;
use std::ops::Range;

use super::mtr::{self, FileOp, FileRecord, varint};
use crate::innodb::ids::{Lsn, PageNo, SpaceId};
use crate::innodb::is_zero;
use crate::innodb::page::TYPE;

/// No page is longer.
const LONGEST: usize = 64 << 10;
/// Nothing before this offset is written: checksum and page number.
const FIRST: usize = 8;
/// `FIL_PAGE_SPACE_ID` … of a record about a file, its first half byte.
const CHECKPOINT: u8 = 0xf0;

/// A page of a tablespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageId {
    /// The tablespace.
    pub space: SpaceId,
    /// The page in it.
    pub number: PageNo,
}

impl fmt::Display for PageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {} of tablespace {}", self.number, self.space)
    }
}

/// One record, and where it is in its mini-transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The bytes of the record.
    pub place: Range<usize>,
    /// True if the record does not name its page, because it is the page of the record before.
    pub same_page: bool,
    /// The content.
    pub body: Body<'a>,
}

/// What a record is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// A file; `None` is padding.
    File(Option<FileRecord<'a>>),
    /// A page.
    Page(PageId, PageOp<'a>),
}

/// A change of a page. Offsets are in the page as it is in its file, for ROW_FORMAT=COMPRESSED in the compressed page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageOp<'a> {
    /// The content is void, and so are all earlier records.
    Free,
    /// The page is zeroed, and gets its number and tablespace.
    Init,
    /// Bytes are written.
    Write {
        /// Where.
        at: usize,
        /// Which, at least one.
        bytes: &'a [u8],
    },
    /// A pattern is repeated.
    Memset {
        /// Where.
        at: usize,
        /// How many bytes are written.
        len: usize,
        /// The pattern, at least one byte and at most `len`.
        pattern: &'a [u8],
    },
    /// Bytes of the page are copied.
    Memmove {
        /// Where to.
        at: usize,
        /// How many.
        len: usize,
        /// Where from.
        from: usize,
    },
    /// An empty index page is made; `compact`: of a row format other than REDUNDANT.
    InitIndex {
        /// The format.
        compact: bool,
    },
    /// An empty undo page is made.
    UndoInit,
    /// A record is added to an undo page.
    UndoAppend(&'a [u8]),
    /// A row is inserted.
    Insert(Insert<'a>),
    /// The row after a predecessor is deleted, of ROW_FORMAT=REDUNDANT.
    DeleteRedundant {
        /// The predecessor, as a distance from the infimum.
        after: usize,
    },
    /// The row after a predecessor is deleted, of any other format.
    DeleteDynamic {
        /// The predecessor, as a distance from the infimum.
        after: usize,
        /// Bytes before the row's five bytes of fixed header.
        header: usize,
        /// Bytes of the row.
        data: usize,
    },
    /// The tablespace is cut before this page.
    Trim,
    /// The checksum of the page after the mini-transaction; debug servers write it.
    Checksum(u32),
    /// Another OPTION, which every server passes over.
    Option,
}

impl PageOp<'_> {
    /// The server's name of it.
    pub fn name(&self) -> &'static str {
        let insert = |insert: &Insert<'_>| match (insert.format, insert.reuse) {
            (RowFormat::Redundant, false) => "INSERT_HEAP_REDUNDANT",
            (RowFormat::Redundant, true) => "INSERT_REUSE_REDUNDANT",
            (RowFormat::Dynamic { .. }, false) => "INSERT_HEAP_DYNAMIC",
            (RowFormat::Dynamic { .. }, true) => "INSERT_REUSE_DYNAMIC",
        };
        match self {
            PageOp::Free => "FREE_PAGE",
            PageOp::Init => "INIT_PAGE",
            PageOp::Write { .. } => "WRITE",
            PageOp::Memset { .. } => "MEMSET",
            PageOp::Memmove { .. } => "MEMMOVE",
            PageOp::InitIndex { compact: false } => "INIT_ROW_FORMAT_REDUNDANT",
            PageOp::InitIndex { compact: true } => "INIT_ROW_FORMAT_DYNAMIC",
            PageOp::UndoInit => "UNDO_INIT",
            PageOp::UndoAppend(_) => "UNDO_APPEND",
            PageOp::Insert(row) => insert(row),
            PageOp::DeleteRedundant { .. } => "DELETE_ROW_FORMAT_REDUNDANT",
            PageOp::DeleteDynamic { .. } => "DELETE_ROW_FORMAT_DYNAMIC",
            PageOp::Trim => "TRIM_PAGES",
            PageOp::Checksum(_) | PageOp::Option => "OPTION",
        }
    }
}

/// How a row is inserted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Insert<'a> {
    /// The row format.
    pub format: RowFormat,
    /// True if the row takes the place of the first deleted one, and not the end of the heap.
    pub reuse: bool,
    /// The predecessor, as a distance from the infimum.
    pub after: usize,
    /// Bits of the header, and a length or number of fields above them.
    pub bits: usize,
    /// How many bytes of the header are those of the predecessor.
    pub header_copied: usize,
    /// How many bytes of the row are those of the predecessor.
    pub data_copied: usize,
    /// Other bytes of header and row.
    pub literal: &'a [u8],
}

/// Of an inserted row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowFormat {
    /// ROW_FORMAT=REDUNDANT.
    Redundant,
    /// COMPACT and DYNAMIC. `shift`: how far the row is from the place of the deleted one, doubled; odd is backwards.
    Dynamic {
        /// The distance.
        shift: usize,
    },
}

/// A record that no server writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordFault {
    /// Its offset in the mini-transaction.
    pub at: usize,
    /// Its first byte.
    pub first: u8,
    /// Its page, if that is known.
    pub page: Option<PageId>,
    /// What is wrong.
    pub what: &'static str,
}

impl fmt::Display for RecordFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {:#04x} at byte {}", self.first, self.at)?;
        if let Some(page) = self.page {
            write!(f, ", {page}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// Parses the records of a complete, unencrypted mini-transaction, or a part of it that begins with a record that names
/// its page. After a fault it ends.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
    page: Option<PageId>,
    /// Where the next record of the same page begins to count; `None` if there must be none.
    offset: Option<usize>,
}

impl<'a> Records<'a> {
    /// Of these bytes.
    pub fn of(bytes: &'a [u8]) -> Records<'a> {
        Records { bytes, at: 0, page: None, offset: None }
    }

    fn parse(&mut self, first: u8, bytes: &'a [u8], head: usize) -> Result<(bool, Body<'a>), &'static str> {
        let mut body = Cursor(bytes.get(head..).ok_or("it is cut")?);
        let same_page = first & 0x80 != 0;
        match self.page {
            Some(page) if same_page => return self.op(page, first, body).map(|op| (true, Body::Page(page, op))),
            _ => {}
        }
        let space = SpaceId::new(body.number(5)?);
        let number = PageNo::new(body.number(5)?);
        if same_page {
            return file(first & 0xf0, space, number, body.0).map(|file| (false, Body::File(file)));
        }
        let page = PageId { space, number };
        self.page = Some(page);
        self.offset = Some(0);
        self.op(page, first, body).map(|op| (false, Body::Page(page, op)))
    }

    fn op(&mut self, page: PageId, first: u8, mut body: Cursor<'a>) -> Result<PageOp<'a>, &'static str> {
        let same_page = first & 0x80 != 0;
        let (op, end) = match first & 0x70 {
            0x00 | 0x10 if same_page => return Err("it must name its page"),
            0x00 => (PageOp::Free, None),
            0x10 => (PageOp::Init, Some(TYPE)),
            0x20 => match extended(page, &mut body)? {
                PageOp::Trim => (PageOp::Trim, None),
                op => (op, Some(TYPE)),
            },
            0x30 => {
                let at = self.begin(&mut body)?;
                let bytes = body.rest();
                let end = within(at, bytes.len())?;
                (PageOp::Write { at, bytes }, Some(end))
            }
            0x40 => {
                let at = self.begin(&mut body)?;
                let len = body.length()?;
                let pattern = body.rest();
                if pattern.is_empty() || pattern.len() > len {
                    return Err("its pattern has an impossible length");
                }
                let end = within(at, len)?;
                (PageOp::Memset { at, len, pattern }, Some(end))
            }
            0x50 => {
                let at = self.begin(&mut body)?;
                let (len, source) = (body.length()?, body.length()?);
                let end = within(at, len)?;
                let half = source >> 1;
                let from = if source & 1 == 0 { Some(at + half + 1) } else { at.checked_sub(half + 1) };
                let from = from.filter(|from| *from >= FIRST).ok_or("it copies from before the page")?;
                within(from, len)?;
                (PageOp::Memmove { at, len, from }, Some(end))
            }
            0x70 => {
                // It does not move the offset.
                let op = match body.rest() {
                    [0, a, b, c, d] => PageOp::Checksum(u32::from_be_bytes([*a, *b, *c, *d])),
                    [] => return Err("it is empty"),
                    _ => PageOp::Option,
                };
                (op, self.offset)
            }
            _ => return Err("a reserved type"),
        };
        self.offset = end;
        body.end()?;
        Ok(op)
    }

    /// Where a WRITE, MEMSET or MEMMOVE begins.
    fn begin(&self, body: &mut Cursor<'a>) -> Result<usize, &'static str> {
        let offset = self.offset.ok_or("it follows a record after which its page must be named")?;
        let at = offset + body.length()?;
        if body.0.is_empty() {
            return Err("it is cut");
        }
        if (FIRST..LONGEST).contains(&at) { Ok(at) } else { Err("an impossible offset") }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordFault>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        let rest = self.bytes.get(at..)?;
        // The end byte.
        let first = *rest.first().filter(|first| **first > 1)?;
        let fault = |what, page| Some(Err(RecordFault { at, first, page, what }));
        let len = mtr::record_len(rest).ok().flatten().filter(|len| *len <= rest.len());
        let (Some(len), Some(head)) = (len, mtr::head_len(rest)) else {
            self.at = self.bytes.len();
            return fault("an impossible length", self.page);
        };
        let place = at..at + len;
        let parsed = rest.get(..len).ok_or("it is cut").and_then(|record| self.parse(first, record, head));
        match parsed {
            Ok((same_page, body)) => {
                self.at = place.end;
                Some(Ok(Record { place, same_page, body }))
            }
            Err(what) => {
                self.at = self.bytes.len();
                fault(what, self.page)
            }
        }
    }
}

/// The end of this many bytes of a page.
fn within(at: usize, len: usize) -> Result<usize, &'static str> {
    match at + len {
        end if len > 0 && end <= LONGEST => Ok(end),
        _ => Err("an impossible length"),
    }
}

fn file(kind: u8, space: SpaceId, page: PageNo, body: &[u8]) -> Result<Option<FileRecord<'_>>, &'static str> {
    if page.get() != 0 {
        return Err("a file record with a page number");
    }
    if kind == CHECKPOINT {
        return match <[u8; 8]>::try_from(body) {
            _ if space != SpaceId::SYSTEM => Err("a checkpoint of a tablespace"),
            Ok(lsn) => Ok(Some(FileRecord { space, op: FileOp::Checkpoint(Lsn::new(u64::from_be_bytes(lsn))) })),
            Err(_) if is_zero(body) => Ok(None),
            Err(_) => Err("padding that is not zero"),
        };
    }
    let record = mtr::file(kind, space, body).ok_or("an unknown record about a file")?;
    let is_name = |name: &[u8]| name.ends_with(b".ibd") && !name.contains(&0);
    let good = match record.op {
        FileOp::Create(name) | FileOp::Delete(name) | FileOp::Modify(name) => is_name(name),
        FileOp::Rename(from, to) => is_name(from) && is_name(to),
        FileOp::Checkpoint(_) => true,
    };
    match good && space != SpaceId::SYSTEM {
        true => Ok(Some(record)),
        false => Err("not the name of a tablespace's file"),
    }
}

fn extended<'a>(page: PageId, body: &mut Cursor<'a>) -> Result<PageOp<'a>, &'static str> {
    let subtype = body.byte()?;
    if subtype == 10 {
        return Ok(PageOp::Trim);
    }
    // The first pages of a tablespace are neither of an index nor of an undo log.
    if page.number.get() < 3 {
        return Err("a record of an index or undo page, for another page");
    }
    let op = match subtype {
        0 | 1 => PageOp::InitIndex { compact: subtype == 1 },
        2 => PageOp::UndoInit,
        3 => {
            let bytes = body.rest();
            if bytes.len() < 3 {
                return Err("an undo record of impossible length");
            }
            PageOp::UndoAppend(bytes)
        }
        4..=7 => {
            let reuse = subtype & 1 != 0;
            let after = body.length()?;
            let format = match subtype {
                4 | 5 => RowFormat::Redundant,
                6 => RowFormat::Dynamic { shift: 0 },
                _ => RowFormat::Dynamic { shift: body.length()? },
            };
            let (bits, header_copied, data_copied) = (body.length()?, body.length()?, body.length()?);
            PageOp::Insert(Insert { format, reuse, after, bits, header_copied, data_copied, literal: body.rest() })
        }
        8 => PageOp::DeleteRedundant { after: body.length()? },
        9 => PageOp::DeleteDynamic { after: body.length()?, header: body.length()?, data: body.length()? },
        _ => return Err("an unknown subtype"),
    };
    Ok(op)
}

/// The rest of a record.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn byte(&mut self) -> Result<u8, &'static str> {
        let (first, rest) = self.0.split_first().ok_or("it is cut")?;
        self.0 = rest;
        Ok(*first)
    }

    /// A number of at most `most` bytes.
    fn number(&mut self, most: usize) -> Result<u32, &'static str> {
        let (value, len) = varint(self.0).filter(|(_, len)| *len <= most).ok_or("an impossible number")?;
        self.0 = self.0.get(len..).ok_or("it is cut")?;
        Ok(value)
    }

    /// A length or offset in a page.
    fn length(&mut self) -> Result<usize, &'static str> {
        let value = usize::try_from(self.number(3)?).map_err(|_| "an impossible number")?;
        if value <= 2 * LONGEST { Ok(value) } else { Err("an impossible number") }
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    fn end(&self) -> Result<(), &'static str> {
        if self.0.is_empty() { Ok(()) } else { Err("it is too long") }
    }
}

#[cfg(test)]
mod tests;
