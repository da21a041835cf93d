//! What index pages of all row formats share: header, and the directory at the end of the page, whose slots lead to
//! every fourth to eighth row. Source: `facts/mariadb-hot-backup#extended-records`, `page0page.h`, `page0cur.cc`
//! (`page_dir_split_slot`, `page_dir_balance_slot`, `page_mem_free`).

use super::frame::Frame;
use super::{KIND, Misfit, TRAILER};

/// Fields of the header of an index page.
pub(super) const SLOTS: usize = 38;
pub(super) const HEAP_TOP: usize = 40;
/// Number of rows in the heap; the highest bit is set unless ROW_FORMAT=REDUNDANT.
pub(super) const HEAP_COUNT: usize = 42;
pub(super) const FREE: usize = 44;
pub(super) const GARBAGE: usize = 46;
pub(super) const LAST_INSERT: usize = 48;
/// The direction of inserts, in the low three bits.
const DIRECTION: usize = 51;
const DIRECTION_COUNT: usize = 52;
pub(super) const ROWS: usize = 54;
const LEVEL: usize = 64;
/// Where `page_create_low` ends to zero the header.
const HEADER_END: usize = 64;
/// Where infimum and supremum begin, with their headers.
const DATA: usize = 94;
pub(super) const COMPACT: usize = 0x8000;

/// Types of index pages: B-tree, R-tree, and root of a table with an instant ALTER.
const INDEX: usize = 17_855;
pub(super) const RTREE: usize = 17_854;
const INSTANT: usize = 18;

const LEFT: u8 = 1;
const RIGHT: u8 = 2;
const NO_DIRECTION: u8 = 5;
const DIRECTION_BITS: u8 = 7;

/// The smallest and largest number of rows that a slot owns.
pub(super) const LEAST: usize = 4;
pub(super) const MOST: usize = 8;

const COMPACT_ENDS: &[u8] = b"\x01\0\x02\0\x0dinfimum\0\x01\0\x0b\0\0supremum";
const REDUNDANT_ENDS: &[u8] = b"\x08\x01\0\0\x03\0\x74infimum\0\x09\x01\0\x08\x03\0\0supremum\0";

/// Where things are in a row format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) infimum: usize,
    pub(super) supremum: usize,
    /// Where the heap begins.
    pub(super) heap: usize,
    /// Bytes of a row's fixed header, before the row.
    pub(super) header: usize,
    /// How far before the row the number of rows is that it owns.
    owned: usize,
    /// The distance to the next row is relative.
    relative: bool,
}

pub(super) const DYNAMIC: Layout =
    Layout { infimum: 99, supremum: 112, heap: 120, header: 5, owned: 5, relative: true };
pub(super) const REDUNDANT: Layout =
    Layout { infimum: 101, supremum: 116, heap: 125, header: 6, owned: 6, relative: false };

/// Makes an empty index page.
pub(super) fn init(page: &mut Frame<'_>, compact: bool) -> Result<(), Misfit> {
    let (layout, ends) = if compact { (DYNAMIC, COMPACT_ENDS) } else { (REDUNDANT, REDUNDANT_ENDS) };
    page.set16(KIND, INDEX)?;
    page.zero(SLOTS, HEADER_END)?;
    page.set16(SLOTS, 2)?;
    page.set16(HEAP_TOP, layout.heap)?;
    page.set16(HEAP_COUNT, 2 | if compact { COMPACT } else { 0 })?;
    page.set8(DIRECTION, NO_DIRECTION)?;
    page.write(DATA, ends)?;
    let end = page.len() - TRAILER;
    page.zero(layout.heap, end)?;
    page.set16(end - 4, layout.supremum)?;
    page.set16(end - 2, layout.infimum)
}

impl Layout {
    /// Checks the header of a page before a change; `least` is the smallest number of slots. Returns the last slot.
    pub(super) fn check(&self, page: &Frame<'_>) -> Result<usize, Misfit> {
        let slots = page.u16(SLOTS)?;
        let count = page.u16(HEAP_COUNT)?;
        let compact = count & COMPACT != 0;
        let kind = page.u16(KIND)?;
        let (count, most) = (count & !COMPACT, page.len() / self.header);
        if !matches!(kind, INDEX | RTREE | INSTANT) || compact != self.relative || slots < 2 || count < slots.max(2) {
            return Err(Misfit::NoIndex);
        }
        if count >= most || page.u16(self.supremum - 2)? != 0 {
            return Err(Misfit::NoIndex);
        }
        let last = slot(page, slots - 1)?;
        if page.u16(last)? != self.supremum || page.u16(slot(page, 0)?)? != self.infimum {
            return Err(Misfit::Directory);
        }
        let top = page.u16(HEAP_TOP)?;
        if (self.heap..=last).contains(&top) { Ok(last) } else { Err(Misfit::NoIndex) }
    }

    /// The row after this one; 0 at the end of a list.
    pub(super) fn next(&self, page: &Frame<'_>, row: usize) -> Result<usize, Misfit> {
        let next = page.u16(row.checked_sub(2).ok_or(Misfit::Outside)?)?;
        Ok(if self.relative { (row + next) & 0xffff } else { next })
    }

    /// Makes `to` the row after this one.
    pub(super) fn link(&self, page: &mut Frame<'_>, row: usize, to: usize) -> Result<(), Misfit> {
        let next = if self.relative { to.wrapping_sub(row) & 0xffff } else { to };
        page.set16(row.checked_sub(2).ok_or(Misfit::Outside)?, next)
    }

    /// The next row of the chain, which is the supremum or in the heap up to `end`.
    pub(super) fn follow(&self, page: &Frame<'_>, row: usize, end: usize) -> Result<usize, Misfit> {
        let next = self.next(page, row)?;
        match next == self.supremum || (self.heap + self.header..=end).contains(&next) {
            true => Ok(next),
            false => Err(Misfit::Chain),
        }
    }

    /// How many rows this one owns.
    pub(super) fn owned(&self, page: &Frame<'_>, row: usize) -> Result<usize, Misfit> {
        Ok((page.u8(row.checked_sub(self.owned).ok_or(Misfit::Outside)?)? & 15).into())
    }

    pub(super) fn set_owned(&self, page: &mut Frame<'_>, row: usize, owned: usize) -> Result<(), Misfit> {
        let at = row.checked_sub(self.owned).ok_or(Misfit::Outside)?;
        let owned = u8::try_from(owned).ok().filter(|owned| *owned <= 15).ok_or(Misfit::Directory)?;
        let old = page.u8(at)?;
        page.set8(at, old & 0xf0 | owned)
    }

    /// The row that owns this one, how many it owns, and its slot.
    pub(super) fn owner(
        &self,
        page: &Frame<'_>,
        row: usize,
        end: usize,
        steps: usize,
    ) -> Result<(usize, usize, usize), Misfit> {
        let (mut owner, mut steps) = (row, steps);
        let owned = loop {
            match self.owned(page, owner)? {
                0 => owner = self.follow(page, owner, end)?,
                owned => break owned,
            }
            // A list that ends in a circle.
            steps = steps.checked_sub(1).ok_or(Misfit::Chain)?;
        };
        let (first, mut at) = (slot(page, 0)?, slot(page, page.u16(SLOTS)?.saturating_sub(1))?);
        while page.u16(at)? != owner {
            at += 2;
            if at >= first {
                return Err(Misfit::Directory);
            }
        }
        Ok((owner, owned, at))
    }

    /// Links an inserted row, and updates header and directory.
    pub(super) fn inserted(
        &self,
        page: &mut Frame<'_>,
        row: usize,
        last_insert: usize,
        (before, after): (usize, usize),
        (owner, owned, at): (usize, usize, usize),
    ) -> Result<(), Misfit> {
        self.set_owned(page, owner, owned + 1)?;
        if page.u16(KIND)? != RTREE {
            let bits = page.u8(DIRECTION)?;
            let (old, rest) = (bits & DIRECTION_BITS, bits & !DIRECTION_BITS);
            let direction = match last_insert {
                0 => NO_DIRECTION,
                last if last == before && old != LEFT => RIGHT,
                last if last == after && old != RIGHT => LEFT,
                _ => NO_DIRECTION,
            };
            page.set8(DIRECTION, rest | direction)?;
            let count = if direction == NO_DIRECTION { 0 } else { (page.u16(DIRECTION_COUNT)? + 1) & 0xffff };
            page.set16(DIRECTION_COUNT, count)?;
        }
        page.set16(LAST_INSERT, row)?;
        let rows = page.u16(ROWS)?;
        page.set16(ROWS, rows + 1)?;
        if owned == MOST { self.split(page, at) } else { Ok(()) }
    }

    /// Divides a slot that owns one row too many: a new slot below it takes the first four.
    fn split(&self, page: &mut Frame<'_>, at: usize) -> Result<(), Misfit> {
        let mut middle = page.u16(at + 2)?;
        for _ in 0..LEAST {
            middle = self.next(page, middle)?;
        }
        let slots = page.u16(SLOTS)?;
        let new = slot(page, slots)?;
        page.copy(new + 2, at.checked_sub(new).ok_or(Misfit::Directory)?, new)?;
        page.set16(SLOTS, slots + 1)?;
        page.set16(at, middle)?;
        self.set_owned(page, middle, LEAST)?;
        let upper = page.u16(at - 2)?;
        self.set_owned(page, upper, MOST + 1 - LEAST)
    }

    /// Takes a row out of the chain, and gives its place back. `row` begins `header` bytes before.
    pub(super) fn deleted(
        &self,
        page: &mut Frame<'_>,
        (before, row, after): (usize, usize, usize),
        (header, data): (usize, usize),
        (owner, owned, at): (usize, usize, usize),
    ) -> Result<(), Misfit> {
        let owned = owned.checked_sub(1).ok_or(Misfit::Directory)?;
        let owner = if owner == row { before } else { owner };
        page.set16(at, owner)?;
        self.link(page, before, after)?;
        self.set_owned(page, owner, owned)?;
        self.give_back(page, row, header, data)?;
        if owned < LEAST { self.balance(page, at) } else { Ok(()) }
    }

    fn give_back(&self, page: &mut Frame<'_>, row: usize, header: usize, data: usize) -> Result<(), Misfit> {
        let count = page.u16(HEAP_COUNT)?.checked_sub(1).ok_or(Misfit::NoIndex)?;
        let (begin, end) = (row.checked_sub(header).ok_or(Misfit::Outside)?, row + data);
        let last = self.heap_number(page, row)? == count & !COMPACT;
        let garbage = page.u16(GARBAGE)?;
        let zero_from = if last {
            let saved = page.u16(HEAP_TOP)?.checked_sub(end).ok_or(Misfit::Row)?;
            page.set16(HEAP_TOP, begin)?;
            page.set16(HEAP_COUNT, count)?;
            page.set16(GARBAGE, garbage.checked_sub(saved).ok_or(Misfit::NoIndex)?)?;
            begin
        } else {
            let free = page.u16(FREE)?;
            page.set16(FREE, row)?;
            page.set16(GARBAGE, garbage + header + data)?;
            // The end of the list is 0, relative or not.
            if free == 0 {
                page.set16(row - 2, 0)?
            } else {
                self.link(page, row, free)?
            }
            row
        };
        page.set16(LAST_INSERT, 0)?;
        let rows = page.u16(ROWS)?.checked_sub(1).ok_or(Misfit::NoIndex)?;
        page.set16(ROWS, rows)?;
        page.zero(zero_from, end)
    }

    /// The number of a row in the heap.
    pub(super) fn heap_number(&self, page: &Frame<'_>, row: usize) -> Result<usize, Misfit> {
        Ok(page.u16(row.checked_sub(self.header - 1).ok_or(Misfit::Outside)?)? >> 3)
    }

    /// Gives a slot that owns too few rows one of the next slot, or makes one slot of both.
    fn balance(&self, page: &mut Frame<'_>, at: usize) -> Result<(), Misfit> {
        let slots = page.u16(SLOTS)?;
        let last = slot(page, slots.saturating_sub(1))?;
        if at == last {
            return Ok(());
        }
        let (upper, row) = (page.u16(at - 2)?, page.u16(at)?);
        let owned = self.owned(page, upper)?;
        self.set_owned(page, row, 0)?;
        if owned <= LEAST {
            self.set_owned(page, upper, owned + LEAST - 1)?;
            page.copy(last, at.checked_sub(last).ok_or(Misfit::Directory)?, last + 2)?;
            page.set16(last, 0)?;
            return page.set16(SLOTS, slots - 1);
        }
        let moved = self.next(page, row)?;
        self.set_owned(page, moved, LEAST)?;
        self.set_owned(page, upper, owned - 1)?;
        page.set16(at, moved)
    }
}

/// True for a leaf.
pub(super) fn is_leaf(page: &Frame<'_>) -> Result<bool, Misfit> {
    Ok(page.u16(LEVEL)? == 0)
}

/// Where a slot of the directory is.
pub(super) fn slot(page: &Frame<'_>, number: usize) -> Result<usize, Misfit> {
    (page.len() - TRAILER).checked_sub(2 + 2 * number).ok_or(Misfit::Directory)
}
