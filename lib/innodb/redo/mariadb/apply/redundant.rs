//! Rows of ROW_FORMAT=REDUNDANT. Source: `facts/mariadb-hot-backup#extended-records`, `page0cur.cc`
//! (`page_apply_insert_redundant`, `page_apply_delete_redundant`), `rem0rec.h`.
//!
//! ```text
//! -6  1  info bits, number of rows that it owns      -4  2  10 bits of number of fields, before the last bit
//! -5  2  13 bits of number in the heap               -3  1  last bit: the ends of fields have one byte each
//! -2  2  the next row
//! ```

use super::Misfit;
use super::directory::{FREE, GARBAGE, HEAP_COUNT, HEAP_TOP, LAST_INSERT, MOST, REDUNDANT, ROWS};
use super::frame::Frame;
use crate::innodb::redo::mariadb::records::Insert;

/// The largest number of fields of a row.
const FIELDS: usize = 1023;
/// The bits of the number of fields.
const FIELD_BITS: usize = 0x7fe;

/// The size of a row.
#[derive(Clone, Copy, Debug)]
struct Size {
    header: usize,
    data: usize,
}

/// `row` begins its data at this offset of the bytes.
fn size(bytes: &Frame<'_>, row: usize) -> Result<Size, Misfit> {
    let at = |back: usize| row.checked_sub(back).ok_or(Misfit::Outside);
    let fields = (bytes.u16(at(4)?)? & FIELD_BITS) >> 1;
    let short = bytes.u8(at(3)?)? & 1 != 0;
    if fields == 0 {
        return Err(Misfit::Row);
    }
    let header = REDUNDANT.header + if short { fields } else { 2 * fields };
    // The end of the last field, without the bits for NULL and off-page.
    let data = if short { usize::from(bytes.u8(at(header)?)? & 0x7f) } else { bytes.u16(at(header)?)? & 0x3fff };
    Ok(Size { header, data })
}

pub(super) fn insert(page: &mut Frame<'_>, new: &Insert<'_>) -> Result<(), Misfit> {
    let end = REDUNDANT.check(page)?;
    let top = page.u16(HEAP_TOP)?;
    let heap = REDUNDANT.heap;
    let before = REDUNDANT.infimum + new.after;
    if new.after != 0 && !(heap + REDUNDANT.header + 1..=top).contains(&before) {
        return Err(Misfit::Chain);
    }
    let like = size(page, before)?;
    if new.after != 0 && before < heap + like.header || new.header_copied != 0 && before < heap + new.header_copied {
        return Err(Misfit::Row);
    }
    if before + like.data > top {
        return Err(Misfit::Row);
    }
    let after = REDUNDANT.follow(page, before, top)?;
    let (short, fields) = (new.bits & 4 != 0, (new.bits >> 3) + 1);
    if fields > FIELDS {
        return Err(Misfit::Row);
    }
    let header_len = REDUNDANT.header + if short { fields } else { 2 * fields };
    let copied = new.header_copied + REDUNDANT.header;
    let own = header_len.checked_sub(copied).ok_or(Misfit::Row)?;
    let Some((own_header, data)) = new.literal.split_at_checked(own) else { return Err(Misfit::Row) };
    let owner = REDUNDANT.owner(page, after, top, MOST + 1)?;
    if owner.1 > MOST {
        return Err(Misfit::Directory);
    }
    // The header is made apart, for its place may be that of a deleted row that is looked at.
    let from = before.checked_sub(copied).ok_or(Misfit::Row)?;
    let mut header = [own_header, page.part(from, copied)?].concat();
    let mut made = Frame(&mut header);
    let row = header_len;
    made.set8(row - 6, u8::try_from((new.bits & 3) << 4).map_err(|_| Misfit::Row)?)?;
    let number = made.u16(row - 4)? & !(FIELD_BITS | 1);
    made.set16(row - 4, number | fields << 1 | usize::from(short))?;
    let len = size(&made, row)?;
    if new.data_copied > len.data || data.len() != len.data - new.data_copied {
        return Err(Misfit::Row);
    }
    let total = len.header + len.data;
    let (begin, number) = if new.reuse {
        let free = page.u16(FREE)?;
        if !(heap + REDUNDANT.header..=top).contains(&free) {
            return Err(Misfit::Row);
        }
        let old = size(page, free)?;
        let fits = free >= heap + old.header && free + old.data <= top && total <= old.header + old.data;
        let garbage = page.u16(GARBAGE)?;
        let next = page.u16(free - 2)?;
        let good = next == 0 || (heap + REDUNDANT.header + 1..=top).contains(&next);
        if !fits || !good || garbage < old.header + old.data {
            return Err(Misfit::Row);
        }
        page.set16(GARBAGE, garbage - total)?;
        page.set16(FREE, next)?;
        (free - old.header, REDUNDANT.heap_number(page, free)?)
    } else {
        if top + total > end {
            return Err(Misfit::Row);
        }
        let count = page.u16(HEAP_COUNT)?;
        page.set16(HEAP_COUNT, count + 1)?;
        page.set16(HEAP_TOP, top + total)?;
        (top, count)
    };
    let low = made.u16(row - 5)? & 7;
    made.set16(row - 5, number << 3 | low)?;
    page.write(begin, &header)?;
    let row = begin + header_len;
    let last_insert = page.u16(LAST_INSERT)?;
    REDUNDANT.link(page, row, after)?;
    REDUNDANT.link(page, before, row)?;
    page.copy(before, new.data_copied, row)?;
    page.write(row + new.data_copied, data)?;
    REDUNDANT.inserted(page, row, last_insert, (before, after), owner)
}

pub(super) fn delete(page: &mut Frame<'_>, after: usize) -> Result<(), Misfit> {
    let end = REDUNDANT.check(page)?;
    let rows = page.u16(ROWS)?;
    let before = REDUNDANT.infimum + after;
    if before > end {
        return Err(Misfit::Chain);
    }
    let row = REDUNDANT.follow(page, before, end)?;
    if rows == 0 || row == REDUNDANT.supremum {
        return Err(Misfit::Row);
    }
    let Size { header, data } = size(page, row)?;
    if row < REDUNDANT.heap + header || row + data > end {
        return Err(Misfit::Row);
    }
    let next = REDUNDANT.follow(page, row, end)?;
    let owner = REDUNDANT.owner(page, row, end, rows + 1)?;
    REDUNDANT.deleted(page, (before, row, next), (header, data), owner)
}
