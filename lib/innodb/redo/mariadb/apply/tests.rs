//! What a server makes of records is compared in `tests/native.rs`, page by page. Here: exact bytes of small cases, the
//! invariants of an index page after any number of changes, and what must be refused.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::directory::{DYNAMIC, FREE, GARBAGE, HEAP_COUNT, HEAP_TOP, Layout, REDUNDANT, ROWS, SLOTS, slot};
use super::*;
use crate::innodb::ids::{PageNo, SpaceId};
use crate::innodb::redo::mariadb::records::{Body, Records};

const ID: PageId = PageId { space: SpaceId::new(7), number: PageNo::new(300) };
const SIZE: usize = 4096;

fn apply(page: &mut [u8], ops: &[PageOp<'_>]) -> Result<(), Misfit> {
    let mut target = Target::new(page, ID, false);
    ops.iter().try_for_each(|op| target.apply(op))
}

fn initialized(ops: &[PageOp<'_>]) -> Vec<u8> {
    let mut page = vec![0xee; SIZE];
    apply(&mut page, &[&[PageOp::Init], ops].concat()).unwrap();
    page
}

#[test]
fn a_page_is_initialized_and_written() {
    let page = initialized(&[
        PageOp::Write { at: 100, bytes: b"abcdef" },
        PageOp::Memset { at: 200, len: 7, pattern: b"xyz" },
        PageOp::Memmove { at: 102, len: 4, from: 100 },
        PageOp::Memmove { at: 300, len: 3, from: 204 },
    ]);
    assert_eq!(
        page[..38],
        *b"\0\0\0\0\0\0\x01\x2c\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x07"
    );
    // A copy onto itself is that of memmove.
    assert_eq!(page[100..107], *b"ababcd\0");
    assert_eq!(page[200..208], *b"xyzxyzx\0");
    assert_eq!(page[300..304], *b"yzx\0");
    assert!(page[400..].iter().all(|byte| *byte == 0));
}

#[test]
fn undo_pages_are_made_and_filled() {
    let page = initialized(&[PageOp::Memset { at: 38, len: 4050, pattern: b"u" }, PageOp::UndoInit]);
    assert_eq!(page[24..26], [0, 2]);
    assert_eq!(page[38..56], *b"\0\0\0\x38\0\x38\xff\xff\xff\xff\0\0\xff\xff\xff\xff\0\0");
    // The header of the segment stays; after it there is nothing up to the trailer.
    assert!(page[56..86].iter().all(|byte| *byte == b'u') && page[86..].iter().all(|byte| *byte == 0));
    let mut page = page;
    apply(&mut page, &[PageOp::UndoAppend(b"abc"), PageOp::UndoAppend(b"defg")]).unwrap();
    assert_eq!(page[42..44], [0, 71]);
    assert_eq!(page[56..71], *b"\0\x3fabc\0\x38\0\x47defg\0\x3f");
    let long = vec![b'z'; SIZE - 8 - 71 - 6];
    assert_eq!(apply(&mut page.clone(), &[PageOp::UndoAppend(&long)]), Err(Misfit::Undo));
    apply(&mut page, &[PageOp::UndoAppend(&long[1..])]).unwrap();
}

#[test]
fn empty_index_pages_are_those_of_the_server() {
    let page = initialized(&[PageOp::InitIndex { compact: true }]);
    assert_eq!(page[24..26], [0x45, 0xbf]);
    assert_eq!(page[38..64], *b"\0\x02\0\x78\x80\x02\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(page[94..120], *b"\x01\0\x02\0\x0dinfimum\0\x01\0\x0b\0\0supremum");
    assert_eq!(page[SIZE - 12..], *b"\0\x70\0\x63\0\0\0\0\0\0\0\0");
    let page = initialized(&[PageOp::InitIndex { compact: false }]);
    assert_eq!(page[38..64], *b"\0\x02\0\x7d\0\x02\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(page[94..125], *b"\x08\x01\0\0\x03\0\x74infimum\0\x09\x01\0\x08\x03\0\0supremum\0");
    assert_eq!(page[SIZE - 12..], *b"\0\x74\0\x65\0\0\0\0\0\0\0\0");
}

#[test]
fn rows_are_made_of_their_predecessor_and_what_differs() {
    // From the log of a 10.11 server, records by hand: one header byte, eleven bytes; then one whose header byte and
    // first three bytes are those of the row before.
    let row = |after, bits, header_copied, data_copied, literal| {
        PageOp::Insert(Insert {
            format: RowFormat::Dynamic { shift: 0 },
            reuse: false,
            after,
            bits,
            header_copied,
            data_copied,
            literal,
        })
    };
    let page = initialized(&[
        PageOp::InitIndex { compact: true },
        row(0, 1 << 3, 0, 0, b"\x0bhello world"),
        row(27, 2, 1, 3, b"met!"),
    ]);
    assert_eq!(page[99 - 2..99], [0, 27]);
    // Header byte, info and owned, number 2, next row; then the row.
    assert_eq!(page[120..137], *b"\x0b\0\0\x10\0\x11hello world");
    assert_eq!(page[137..150], *b"\x0b\x20\0\x18\xff\xe1helmet!");
    assert_eq!(page[38..56], *b"\0\x02\0\x96\x80\x04\0\0\0\0\0\x8f\0\x02\0\x01\0\x02");
    // The supremum owns both and itself.
    assert_eq!(page[112 - 5], 3);
}

/// A row of this size behind the predecessor at this distance from the infimum.
fn insert(format: RowFormat, after: usize, bytes: &[u8], reuse: bool) -> PageOp<'_> {
    let bits = match format {
        // One field, whose end has one byte.
        RowFormat::Redundant => 4,
        RowFormat::Dynamic { .. } => 1 << 3,
    };
    PageOp::Insert(Insert { format, reuse, after, bits, header_copied: 0, data_copied: 0, literal: bytes })
}

/// Follows all chains, and fails if anything does not fit. Returns the rows in order.
fn validate(page: &mut [u8], layout: Layout) -> Vec<usize> {
    let page = Frame(page);
    let slots = page.u16(SLOTS).unwrap();
    let (mut rows, mut row, mut owned, mut at) = (Vec::new(), layout.infimum, 0, 0);
    loop {
        owned += 1;
        let owns = layout.owned(&page, row).unwrap();
        if owns != 0 {
            assert_eq!((owns, page.u16(slot(&page, at).unwrap()).unwrap()), (owned, row), "slot {at}");
            let least = if at == 0 || row == layout.supremum { 1 } else { 4 };
            assert!((least..=8).contains(&owned), "slot {at} owns {owned}");
            (owned, at) = (0, at + 1);
        }
        if row == layout.supremum {
            break;
        }
        if row != layout.infimum {
            rows.push(row);
        }
        row = layout.follow(&page, row, page.u16(HEAP_TOP).unwrap()).unwrap();
    }
    assert_eq!((at, owned), (slots, 0));
    assert_eq!(rows.len(), page.u16(ROWS).unwrap());
    let mut numbers: BTreeSet<usize> = rows.iter().map(|row| layout.heap_number(&page, *row).unwrap()).collect();
    assert_eq!(numbers.len(), rows.len());
    let mut free = page.u16(FREE).unwrap();
    while free != 0 {
        assert!(numbers.insert(layout.heap_number(&page, free).unwrap()), "two rows of one number");
        free = if page.u16(free - 2).unwrap() == 0 { 0 } else { layout.next(&page, free).unwrap() };
    }
    assert_eq!(
        numbers.into_iter().collect::<Vec<_>>(),
        (2..page.u16(HEAP_COUNT).unwrap() & 0x7fff).collect::<Vec<_>>()
    );
    rows
}

fn changes(format: RowFormat, steps: &[(bool, usize, usize)]) {
    let layout = if format == RowFormat::Redundant { REDUNDANT } else { DYNAMIC };
    let mut page = initialized(&[PageOp::InitIndex { compact: format != RowFormat::Redundant }]);
    for (number, (delete, place, len)) in steps.iter().enumerate() {
        let rows = validate(&mut page, layout);
        let at = |index: usize| if index == 0 { 0 } else { rows[index - 1] - layout.infimum };
        if *delete && rows.len() > 1 {
            let index = place % rows.len();
            let row = rows[index];
            let op = match format {
                RowFormat::Redundant => PageOp::DeleteRedundant { after: at(index) },
                // Each has one byte of header with its length.
                RowFormat::Dynamic { .. } => {
                    PageOp::DeleteDynamic { after: at(index), header: 1, data: page[row - 6].into() }
                }
            };
            apply(&mut page, &[op]).unwrap();
            continue;
        }
        // Either the first deleted row has room for the new one, which shrinks to fit, or the heap.
        let free = Frame(&mut page).u16(FREE).unwrap();
        let reuse = free != 0 && place % 2 == 0;
        let most = page.get(free.wrapping_sub(6)).copied().unwrap_or(0).into();
        let len = match (reuse, format) {
            // The header byte of a deleted row is still there.
            (true, RowFormat::Dynamic { .. }) => (len % 8 + 1).min(most),
            (true, RowFormat::Redundant) => len % 8 + 1,
            (false, _) => len % 90 + 8,
        };
        let size = u8::try_from(len).unwrap();
        let bytes = [&[size][..], &vec![u8::try_from(number % 251).unwrap(); len]].concat();
        // A server leaves room for more slots.
        if !reuse && Frame(&mut page).u16(HEAP_TOP).unwrap() > SIZE - 400 {
            continue;
        }
        match apply(&mut page.clone(), &[insert(format, at(place % (rows.len() + 1)), &bytes, reuse)]) {
            // The deleted row was smaller.
            Err(Misfit::Row) => continue,
            outcome => outcome.unwrap(),
        }
        apply(&mut page, &[insert(format, at(place % (rows.len() + 1)), &bytes, reuse)]).unwrap();
    }
    let rows = validate(&mut page, layout);
    let garbage = Frame(&mut page).u16(GARBAGE).unwrap();
    assert!(rows.is_empty() || garbage < SIZE);
}

#[test]
fn what_does_not_fit_is_refused() {
    let good = initialized(&[
        PageOp::InitIndex { compact: true },
        insert(RowFormat::Dynamic { shift: 0 }, 0, b"\x03abc", false),
    ]);
    let refused = |harm: &dyn Fn(&mut Vec<u8>), op: PageOp<'_>| {
        let mut page = good.clone();
        harm(&mut page);
        let outcome = apply(&mut page, std::slice::from_ref(&op));
        outcome.expect_err(&format!("{op:?}"))
    };
    let dynamic = RowFormat::Dynamic { shift: 0 };
    let row = || insert(dynamic, 0, b"\x03xyz", false);
    apply(&mut good.clone(), &[row()]).unwrap();
    assert_eq!(refused(&|page| page[7] ^= 1, row()), Misfit::OtherPage);
    assert_eq!(refused(&|page| page.fill(0), row()), Misfit::OtherPage);
    assert_eq!(refused(&|page| page[25] = 0, row()), Misfit::NoIndex);
    assert_eq!(refused(&|page| page[42] = 0, row()), Misfit::NoIndex);
    assert_eq!(refused(&|page| page[40] = 0xff, row()), Misfit::NoIndex);
    assert_eq!(refused(&|page| page[SIZE - 11] = 0, row()), Misfit::Directory);
    assert_eq!(refused(&|page| page[98] = 0xff, row()), Misfit::Chain);
    assert_eq!(refused(&|_| (), insert(dynamic, 9, b"\x03xyz", false)), Misfit::Chain);
    assert_eq!(refused(&|_| (), insert(dynamic, 0, b"\x03xyz", true)), Misfit::Row);
    assert_eq!(refused(&|_| (), insert(dynamic, 0, &[1; 4000], false)), Misfit::Row);
    assert_eq!(refused(&|_| (), insert(RowFormat::Redundant, 0, b"\x03xyz", false)), Misfit::NoIndex);
    assert_eq!(refused(&|_| (), PageOp::DeleteRedundant { after: 0 }), Misfit::NoIndex);
    assert_eq!(refused(&|_| (), PageOp::DeleteDynamic { after: 27, header: 1, data: 3 }), Misfit::Row);
    assert_eq!(refused(&|_| (), PageOp::DeleteDynamic { after: 0, header: 1, data: 4000 }), Misfit::Row);
    assert_eq!(refused(&|_| (), PageOp::UndoAppend(b"abc")), Misfit::Undo);
    assert_eq!(refused(&|_| (), PageOp::Write { at: SIZE - 1, bytes: b"ab" }), Misfit::Outside);
    assert_eq!(refused(&|_| (), PageOp::Checksum(1)), Misfit::Checksum);
    assert_eq!(refused(&|_| (), PageOp::Trim), Misfit::Whole);
    let mut zip = good.clone();
    assert_eq!(Target::new(&mut zip, ID, true).apply(&row()), Err(Misfit::Compressed));
}

proptest! {
    #[test]
    fn an_index_page_stays_sound(steps in prop::collection::vec((any::<bool>(), 0usize..1000, 0usize..1000), 0..400)) {
        changes(RowFormat::Dynamic { shift: 0 }, &steps);
    }

    #[test]
    fn so_does_one_of_the_oldest_format(steps in prop::collection::vec((any::<bool>(), 0usize..1000, 0usize..1000), 0..400)) {
        changes(RowFormat::Redundant, &steps);
    }

    #[test]
    fn anything_is_applied_to_any_page_without_panic(
        records in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 1..12)), 1..12),
        noise in prop::collection::vec((24usize..SIZE, any::<u8>()), 0..60),
        compact: bool,
    ) {
        let mut page = initialized(&[PageOp::InitIndex { compact }]);
        for (at, byte) in noise {
            page[at] = byte;
        }
        page[34..38].copy_from_slice(&[0, 0, 0, 7]);
        for (kind, content) in records {
            let record = [&[0x20 | u8::try_from(content.len() + 4).unwrap(), 7, 0x80, 172, kind % 10][..], &content].concat();
            for record in Records::of(&record).flatten() {
                if let Body::Page(_, op) = record.body {
                    let _ = apply(&mut page, &[op]);
                }
            }
        }
    }
}
