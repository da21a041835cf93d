//! Applies a record to a page, as it is in its file. Source: `facts/mariadb-hot-backup#page-records` and
//! `facts/mariadb-hot-backup#extended-records`; `log0recv.cc` (`log_phys_t::apply`), `trx0undo.cc`
//! (`trx_undo_page_init`), `page0page.cc` (`page_create_low`).
//!
//! Everything is checked that the server checks, and every offset lies inside the page or is a fault. After a fault the
//! page may be changed in part, and must not be used.

mod directory;
mod frame;
mod redundant;
mod row;

use std::fmt;

use self::frame::Frame;
use super::records::{Insert, PageId, PageOp, RowFormat};
use crate::innodb::ids::PageSize;

/// Header fields of every page.
const NUMBER: usize = 4;
const NEIGHBOURS: usize = 8;
const KIND: usize = 24;
const SPACE: usize = 34;
/// Bytes of trailer.
const TRAILER: usize = 8;

/// The type of an undo page.
const UNDO: usize = 2;
/// Where its header begins, which ends with two links of a list; its segment's header ends where records may begin.
const UNDO_HEADER: usize = 38;
const UNDO_FREE: usize = 42;
const UNDO_LINKS: usize = 44;
const UNDO_SEGMENT: usize = 56;
const UNDO_RECORDS: usize = 86;

/// Why a record does not fit the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// An offset outside the page.
    Outside,
    /// The page in the file is another one, or empty.
    OtherPage,
    /// A record of an index or undo page, for a ROW_FORMAT=COMPRESSED table.
    Compressed,
    /// The page is not an index page of the row format, or its header is damaged.
    NoIndex,
    /// The chain of rows is damaged.
    Chain,
    /// The directory of the page does not fit the chain of rows.
    Directory,
    /// The row does not fit the page, or not the row that it resembles.
    Row,
    /// The undo page is damaged.
    Undo,
    /// The page differs from the checksum in the log.
    Checksum,
    /// The record is about the whole tablespace.
    Whole,
    /// The page is void since an earlier record.
    Void,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Misfit::Outside => "it leads out of the page",
            Misfit::OtherPage => "the page in the file is another one, or empty",
            Misfit::Compressed => "it is not for ROW_FORMAT=COMPRESSED",
            Misfit::NoIndex => "the page is not an index page of the row format, or is damaged",
            Misfit::Chain => "the chain of rows in the page is damaged",
            Misfit::Directory => "the directory of the page is damaged",
            Misfit::Row => "the row does not fit the page",
            Misfit::Undo => "the undo page is damaged",
            Misfit::Checksum => "the page differs from the checksum in the log",
            Misfit::Whole => "it is not about a page",
            Misfit::Void => "the page was freed before, and not initialized since",
        })
    }
}

/// Applies records to one page.
#[derive(Debug)]
pub struct Target<'a> {
    frame: Frame<'a>,
    id: PageId,
    /// ROW_FORMAT=COMPRESSED.
    zip: bool,
    /// The page in the file is known to be this one, or was initialized.
    known: bool,
}

impl<'a> Target<'a> {
    /// The page has all its bytes.
    pub fn new(page: &'a mut [u8], id: PageId, zip: bool) -> Target<'a> {
        Target { frame: Frame(page), id, zip, known: false }
    }

    /// Applies one record.
    ///
    /// # Errors
    ///
    /// The record is not one that a server can have written for this page.
    pub fn apply(&mut self, op: &PageOp<'_>) -> Result<(), Misfit> {
        if *op == PageOp::Init {
            return self.init();
        }
        if matches!(op, PageOp::Option) {
            return Ok(());
        }
        if !self.known {
            let there = (self.frame.u32(NUMBER)?, self.frame.u32(SPACE)?);
            if there != (self.id.number.get(), self.id.space.get()) {
                return Err(Misfit::OtherPage);
            }
            self.known = true;
        }
        let page = &mut self.frame;
        match op {
            PageOp::Write { at, bytes } => page.write(*at, bytes),
            PageOp::Memset { at, len, pattern } => {
                let target = page.part_mut(*at, *len)?;
                target.chunks_mut(pattern.len().max(1)).try_for_each(|chunk| {
                    chunk.copy_from_slice(pattern.get(..chunk.len()).ok_or(Misfit::Outside)?);
                    Ok(())
                })
            }
            PageOp::Memmove { at, len, from } => page.copy(*from, *len, *at),
            PageOp::Checksum(sum) => match page.sum()? == *sum {
                true => Ok(()),
                false => Err(Misfit::Checksum),
            },
            PageOp::Trim => Err(Misfit::Whole),
            PageOp::Free => Err(Misfit::Void),
            PageOp::Init | PageOp::Option => Ok(()),
            _ if self.zip => Err(Misfit::Compressed),
            PageOp::InitIndex { compact } => directory::init(page, *compact),
            PageOp::UndoInit => undo_init(page),
            PageOp::UndoAppend(bytes) => undo_append(page, bytes),
            PageOp::Insert(insert) => insert_row(page, insert),
            PageOp::DeleteRedundant { after } => redundant::delete(page, *after),
            PageOp::DeleteDynamic { after, header, data } => row::delete(page, *after, *header, *data),
        }
    }

    fn init(&mut self) -> Result<(), Misfit> {
        let page = &mut self.frame;
        page.0.fill(0);
        page.write(NUMBER, &self.id.number.get().to_be_bytes())?;
        page.part_mut(NEIGHBOURS, 8)?.fill(0xff);
        page.write(SPACE, &self.id.space.get().to_be_bytes())?;
        self.known = true;
        Ok(())
    }
}

fn insert_row(page: &mut Frame<'_>, insert: &Insert<'_>) -> Result<(), Misfit> {
    match insert.format {
        RowFormat::Redundant => redundant::insert(page, insert),
        RowFormat::Dynamic { shift } => row::insert(page, insert, shift),
    }
}

fn undo_init(page: &mut Frame<'_>) -> Result<(), Misfit> {
    page.set16(KIND, UNDO)?;
    page.set16(UNDO_HEADER, 0)?;
    page.set16(UNDO_FREE - 2, UNDO_SEGMENT)?;
    page.set16(UNDO_FREE, UNDO_SEGMENT)?;
    page.write(UNDO_LINKS, b"\xff\xff\xff\xff\0\0\xff\xff\xff\xff\0\0")?;
    let end = page.len() - TRAILER;
    page.zero(UNDO_RECORDS, end)
}

/// The record goes between two offsets: that of the next record, and its own.
fn undo_append(page: &mut Frame<'_>, bytes: &[u8]) -> Result<(), Misfit> {
    let free = page.u16(UNDO_FREE)?;
    if free < UNDO_SEGMENT || free + bytes.len() + 6 >= page.len() - TRAILER {
        return Err(Misfit::Undo);
    }
    let next = free + 4 + bytes.len();
    page.set16(UNDO_FREE, next)?;
    page.set16(free, next)?;
    page.write(free + 2, bytes)?;
    page.set16(next - 2, free)
}

/// True if a page of this length can exist.
pub fn is_page(bytes: &[u8]) -> bool {
    u32::try_from(bytes.len()).is_ok_and(|len| PageSize::new(len).is_some())
}

#[cfg(test)]
mod tests;
