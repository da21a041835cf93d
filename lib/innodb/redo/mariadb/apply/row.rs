//! Rows of all formats but REDUNDANT. Source: `facts/mariadb-hot-backup#extended-records`, `page0cur.cc`
//! (`page_apply_insert_dynamic`, `page_apply_delete_dynamic`).
//!
//! ```text
//! -5  1  info bits, number of rows that it owns      -2  2  distance of the next row
//! -4  2  number in the heap, kind
//! ```

use super::Misfit;
use super::directory::{self, COMPACT, DYNAMIC, FREE, GARBAGE, HEAP_COUNT, HEAP_TOP, LAST_INSERT, MOST, ROWS};
use super::frame::Frame;
use crate::innodb::redo::mariadb::records::Insert;

/// The row of metadata that an instant ALTER adds, or one with added columns; only in leaves.
const INSTANT: usize = 4;
/// A row that leads to a page below.
const POINTER: usize = 1;

pub(super) fn insert(page: &mut Frame<'_>, new: &Insert<'_>, shift: usize) -> Result<(), Misfit> {
    let end = DYNAMIC.check(page)?;
    let leaf = directory::is_leaf(page)?;
    let (own, flags) = (new.bits >> 3, new.bits & 7);
    let Some((header, data)) = new.literal.split_at_checked(own) else { return Err(Misfit::Row) };
    if flags & INSTANT != 0 && !leaf {
        return Err(Misfit::Row);
    }
    let top = page.u16(HEAP_TOP)?;
    let before = DYNAMIC.infimum + new.after;
    if new.after != 0 && !(DYNAMIC.heap + DYNAMIC.header..=top).contains(&before) {
        return Err(Misfit::Chain);
    }
    let after = DYNAMIC.follow(page, before, top)?;
    let owner = DYNAMIC.owner(page, after, top, MOST + 1)?;
    if owner.1 > MOST {
        return Err(Misfit::Directory);
    }
    let header_len = DYNAMIC.header + own + new.header_copied;
    let len = header_len + new.data_copied + data.len();
    let (begin, number) = if new.reuse {
        let free = page.u16(FREE)?;
        if !(DYNAMIC.heap + DYNAMIC.header..=top).contains(&free) {
            return Err(Misfit::Row);
        }
        let begin = free.checked_sub(header_len);
        let begin = match shift & 1 {
            0 => (free + (shift >> 1)).checked_sub(header_len),
            _ => begin.and_then(|begin| begin.checked_sub(shift >> 1)),
        };
        let begin = begin.filter(|begin| *begin >= DYNAMIC.heap && begin + len <= top).ok_or(Misfit::Row)?;
        let garbage = page.u16(GARBAGE)?.checked_sub(len).ok_or(Misfit::Row)?;
        let next = match page.u16(free - 2)? {
            0 => 0,
            next => (free + next) & 0xffff,
        };
        if next != 0 && !(DYNAMIC.heap + DYNAMIC.header..=top).contains(&next) {
            return Err(Misfit::Chain);
        }
        let number = DYNAMIC.heap_number(page, free)?;
        page.set16(FREE, next)?;
        page.set16(GARBAGE, garbage)?;
        (begin, number)
    } else {
        if top + len > end {
            return Err(Misfit::Row);
        }
        let count = page.u16(HEAP_COUNT)?;
        page.set16(HEAP_COUNT, count + 1)?;
        page.set16(HEAP_TOP, top + len)?;
        (top, count & !COMPACT)
    };
    let row = begin + header_len;
    page.write(begin, header)?;
    let copied = before.checked_sub(DYNAMIC.header + new.header_copied).ok_or(Misfit::Row)?;
    page.copy(copied, new.header_copied, begin + own)?;
    let kind = if leaf { flags & INSTANT } else { POINTER };
    page.set8(row - 5, u8::try_from((flags & 3) << 4).map_err(|_| Misfit::Row)?)?;
    page.set16(row - 4, number << 3 | kind)?;
    DYNAMIC.link(page, row, after)?;
    let last_insert = page.u16(LAST_INSERT)?;
    DYNAMIC.link(page, before, row)?;
    page.copy(before, new.data_copied, row)?;
    page.write(row + new.data_copied, data)?;
    DYNAMIC.inserted(page, row, last_insert, (before, after), owner)
}

pub(super) fn delete(page: &mut Frame<'_>, after: usize, header: usize, data: usize) -> Result<(), Misfit> {
    let end = DYNAMIC.check(page)?;
    let rows = page.u16(ROWS)?;
    let before = DYNAMIC.infimum + after;
    if before > end {
        return Err(Misfit::Chain);
    }
    let row = DYNAMIC.follow(page, before, end)?;
    let header = DYNAMIC.header + header;
    if rows == 0 || row == DYNAMIC.supremum || row < DYNAMIC.heap + header || row + data > end {
        return Err(Misfit::Row);
    }
    let next = DYNAMIC.follow(page, row, end)?;
    let owner = DYNAMIC.owner(page, row, end, rows + 1)?;
    DYNAMIC.deleted(page, (before, row, next), (header, data), owner)
}
