use proptest::prelude::*;

use super::*;

const PAGE: PageId = PageId { space: SpaceId::new(7), number: PageNo::new(3) };

/// The records of these bytes.
fn parse(bytes: &[u8]) -> Result<Vec<Body<'_>>, RecordFault> {
    Records::of(bytes).map(|record| record.map(|record| record.body)).collect()
}

/// One record of page 3 of tablespace 7, with this type and content.
fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    [&[kind | u8::try_from(content.len() + 2).unwrap(), 7, 3][..], content].concat()
}

fn op(bytes: &[u8]) -> Result<PageOp<'_>, &'static str> {
    match parse(bytes).map_err(|fault| fault.what)?.as_slice() {
        [Body::Page(PAGE, op)] => Ok(op.clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_record_of_a_page_is_read() {
    let insert = |format, reuse, literal| {
        Ok(PageOp::Insert(Insert { format, reuse, after: 5, bits: 0x12, header_copied: 2, data_copied: 1, literal }))
    };
    for (kind, content, expect) in [
        (0x00, &b""[..], Ok(PageOp::Free)),
        (0x10, b"", Ok(PageOp::Init)),
        (0x30, b"\x20abc", Ok(PageOp::Write { at: 32, bytes: b"abc" })),
        (0x30, b"\x80\x00abc", Ok(PageOp::Write { at: 128, bytes: b"abc" })),
        (0x40, b"\x20\x05ab", Ok(PageOp::Memset { at: 32, len: 5, pattern: b"ab" })),
        (0x50, b"\x20\x05\x06", Ok(PageOp::Memmove { at: 32, len: 5, from: 36 })),
        (0x50, b"\x20\x05\x07", Ok(PageOp::Memmove { at: 32, len: 5, from: 28 })),
        (0x70, b"\x00\x01\x02\x03\x04", Ok(PageOp::Checksum(0x0102_0304))),
        (0x70, b"\x01\x01", Ok(PageOp::Option)),
        (0x20, b"\x00", Ok(PageOp::InitIndex { compact: false })),
        (0x20, b"\x01", Ok(PageOp::InitIndex { compact: true })),
        (0x20, b"\x02", Ok(PageOp::UndoInit)),
        (0x20, b"\x03abc", Ok(PageOp::UndoAppend(b"abc"))),
        (0x20, b"\x04\x05\x12\x02\x01xyz", insert(RowFormat::Redundant, false, b"xyz")),
        (0x20, b"\x05\x05\x12\x02\x01xyz", insert(RowFormat::Redundant, true, b"xyz")),
        (0x20, b"\x06\x05\x12\x02\x01xyz", insert(RowFormat::Dynamic { shift: 0 }, false, b"xyz")),
        (0x20, b"\x07\x05\x09\x12\x02\x01xyz", insert(RowFormat::Dynamic { shift: 9 }, true, b"xyz")),
        (0x20, b"\x08\x05", Ok(PageOp::DeleteRedundant { after: 5 })),
        (0x20, b"\x09\x05\x02\x80\x01", Ok(PageOp::DeleteDynamic { after: 5, header: 2, data: 129 })),
        (0x20, b"\x0a", Ok(PageOp::Trim)),
    ] {
        assert_eq!(op(&record(kind, content)), expect, "{kind:#04x} {content:?}");
    }
}

#[test]
fn what_no_server_writes_is_a_fault() {
    for (kind, content, what) in [
        (0x60, &b""[..], "a reserved type"),
        (0x00, b"x", "it is too long"),
        (0x10, b"x", "it is too long"),
        (0x20, b"", "it is cut"),
        (0x20, b"\x00x", "it is too long"),
        (0x20, b"\x03ab", "an undo record of impossible length"),
        (0x20, b"\x06\x05\x12\x02", "an impossible number"),
        (0x20, b"\x08\x05x", "it is too long"),
        (0x20, b"\x0axx", "it is too long"),
        (0x20, b"\x0b", "an unknown subtype"),
        (0x30, b"\x20", "it is cut"),
        (0x30, b"\x07abc", "an impossible offset"),
        (0x30, b"\xf0\0\0\0\x00ab", "an impossible number"),
        (0x40, b"\x20\x00", "its pattern has an impossible length"),
        (0x40, b"\x20\x01ab", "its pattern has an impossible length"),
        (0x40, b"\x20\x05", "its pattern has an impossible length"),
        (0x50, b"\x20\x05\x31", "it copies from before the page"),
        (0x50, b"\x20\x05", "an impossible number"),
        (0x50, b"\x20\x00\x06", "an impossible length"),
        (0x50, b"\x20\x05\x06x", "it is too long"),
        (0x70, b"", "it is empty"),
    ] {
        assert_eq!(op(&record(kind, content)), Err(what), "{kind:#04x} {content:?}");
    }
    // A length of a page and more.
    let long = [&[0x30, 0xc1, 0x00, 0x00, 7, 3, 0x20][..], &vec![1; 0x2_0000]].concat();
    assert!(op(&long).is_err());
    // Rows and undo are not on the first three pages.
    assert!(parse(b"\x23\x07\x02\x01").is_err());
    // Nothing can follow in the same page when it was freed; and both must name their page.
    assert_eq!(
        parse(b"\x02\x07\x03\xb2\x20a").unwrap_err().what,
        "it follows a record after which its page must be named"
    );
    assert_eq!(parse(b"\x33\x07\x03\x20\x80").unwrap_err().at, 0);
    assert_eq!(parse(b"\x12\x07\x03\x91\x01").unwrap_err().what, "it must name its page");
}

#[test]
fn offsets_count_from_the_end_of_the_record_before() {
    let page = |op| Body::Page(PAGE, op);
    // INIT_PAGE; two WRITEs of the same page; MEMSET; one that names the page again.
    let bytes = b"\x12\x07\x03\xb3\x10ab\xb2\x02c\xc3\x01\x04z\x34\x07\x03\x30d";
    assert_eq!(
        parse(bytes).unwrap(),
        [
            page(PageOp::Init),
            page(PageOp::Write { at: 40, bytes: b"ab" }),
            page(PageOp::Write { at: 44, bytes: b"c" }),
            page(PageOp::Memset { at: 46, len: 4, pattern: b"z" }),
            page(PageOp::Write { at: 48, bytes: b"d" }),
        ]
    );
    // After EXTENDED it is 24, and an OPTION does not move it.
    let bytes = b"\x23\x07\x03\x02\xf2\x01x\xb2\x02c";
    assert_eq!(parse(bytes).unwrap()[2], page(PageOp::Write { at: 26, bytes: b"c" }));
}

#[test]
fn records_about_files_come_first() {
    let file = |space, op| Body::File(Some(FileRecord { space: SpaceId::new(space), op }));
    let bytes = b"\xbc\x07\x00./db/t.ibd\x8c\x08\x00./db/u.ibd\x33\x07\x03\x20a\xb2\x01b";
    let found = parse(bytes);
    assert!(found.is_err(), "{found:?}");
    let bytes = b"\xbc\x07\x00./db/t.ibd\x8c\x08\x00./db/u.ibd\x34\x07\x03\x20a\xb2\x01b";
    let found = parse(bytes).unwrap();
    assert_eq!(found[0], file(7, FileOp::Modify(b"./db/t.ibd")));
    assert_eq!(found[1], file(8, FileOp::Create(b"./db/u.ibd")));
    assert_eq!(found.len(), 4);
    // 23 bytes: the length follows.
    let bytes = b"\xa0\x09\x07\x00./db/t.ibd\0./db/u.ibd";
    assert_eq!(parse(bytes).unwrap(), [file(7, FileOp::Rename(b"./db/t.ibd", b"./db/u.ibd"))]);
    assert_eq!(parse(b"\xfa\0\0\0\0\0\0\0\0\xc2\xa5").unwrap(), [file(0, FileOp::Checkpoint(Lsn::new(0xc2a5)))]);
    assert_eq!(parse(b"\xf4\0\0\0\0").unwrap(), [Body::File(None)]);
    for (bytes, what) in [
        (&b"\xbc\x07\x01./db/t.ibd"[..], "a file record with a page number"),
        (b"\xbc\x00\x00./db/t.ibd", "not the name of a tablespace's file"),
        (b"\xbc\x07\x00./db/t.frm", "not the name of a tablespace's file"),
        (b"\xbc\x07\x00./d\0/t.ibd", "not the name of a tablespace's file"),
        (b"\xac\x07\x00./db/t.ibd", "an unknown record about a file"),
        (b"\xcc\x07\x00./db/t.ibd", "an unknown record about a file"),
        (b"\xf4\0\0\0\x01", "padding that is not zero"),
    ] {
        assert_eq!(parse(bytes).unwrap_err().what, what, "{bytes:?}");
    }
}

#[test]
fn a_fault_tells_where_it_is() {
    let fault = parse(b"\x33\x07\x03\x20\xb2\x01b\xe1\x01").unwrap_err();
    assert_eq!(fault.to_string(), "record 0x33 at byte 0, page 3 of tablespace 7: it is cut");
    let fault = parse(b"\x34\x07\x03\x20a\xb2\x01b\xe1\x01").unwrap_err();
    assert_eq!(fault.to_string(), "record 0xe1 at byte 8, page 3 of tablespace 7: a reserved type");
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut end = 0;
        for record in Records::of(&bytes).flatten() {
            prop_assert!(record.place.start == end && record.place.end <= bytes.len());
            end = record.place.end;
        }
    }
}
