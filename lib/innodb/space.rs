//! A tablespace file: parses page 0, and checks its pages. Source: `facts/mariadb-hot-backup#page-size` and
//! `facts/mariadb-hot-backup#page-checks`, `facts/mysql-hot-backup#pages`, `fsp0types.h`, `buf_page_is_corrupted`.

use super::page::{Content, Fault, LSN, NUMBER, Page};
use super::{Doublewrite, PageNo, PageSize, SpaceId, checksum, is_zero, mysql};
use crate::bytes::Fields as _;

/// How much of the start of a file is needed to parse it, in bytes: the largest page, or all of a shorter file.
pub const HEAD: usize = 64 << 10;

/// The fields of page 0.
const ID: usize = 38;
const PAGES: usize = 46;
const FLAGS: usize = 54;

/// Offsets of the key version, and of the checksum over the encrypted page, in the format before full_crc32.
const KEY_VERSION: usize = 26;
const ENCRYPTED_SUM: usize = 30;

/// Page types of page_compressed in the format before full_crc32, not encrypted and encrypted.
const PAGE_COMPRESSED: [u16; 2] = [34354, 37401];
/// Bit of the type that makes it a length, in full_crc32 with page_compressed; the rest counts units of 256 bytes.
const LENGTH_MARK: u16 = 0x8000;

/// A tablespace, from its page 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    /// The tablespace's id; 0 is the system tablespace. It stays the same when a table is renamed.
    pub id: SpaceId,
    /// The flags as stored.
    pub flags: u32,
    /// The physical page size; for ROW_FORMAT=COMPRESSED it is smaller than the server's page size.
    pub page_size: PageSize,
    /// Size of the tablespace in pages. In a file that is in use, page 0 may be older than the end of the file. The
    /// server also rounds the length of a file down to 4 KiB, so the last page of a ROW_FORMAT=COMPRESSED table may be
    /// missing.
    pub pages: u32,
    pub(super) format: Format,
}

/// Which checksum the pages have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// One CRC-32C at the end, over the stored page.
    Full,
    /// Two fields, with several algorithms. Only MariaDB has `page_compressed`.
    Old { page_compressed: bool, mysql: bool },
    /// ROW_FORMAT=COMPRESSED: one field, and no trailer.
    Zip { mysql: bool },
}

/// The tablespace id in the first bytes of a file, unchecked; 0 if there are too few.
pub fn id(head: &[u8]) -> SpaceId {
    SpaceId::new(field(head, ID))
}

/// Its flags, unchecked, too.
pub fn flags(head: &[u8]) -> u32 {
    field(head, FLAGS)
}

fn field(head: &[u8], at: usize) -> u32 {
    head.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |four| u32::from_be_bytes(*four))
}

/// Number of pages of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Only zeros.
    pub zero: u64,
    /// With the right checksum.
    pub verified: u64,
    /// Without a checksum over what is stored.
    pub unverified: u64,
    /// Not checked: in the doublewrite area, or equal to the page in the base, which was checked.
    pub skipped: u64,
}

impl Tally {
    /// The number of all pages.
    pub fn pages(&self) -> u64 {
        self.zero + self.verified + self.unverified + self.skipped
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, more: Tally) {
        self.zero += more.zero;
        self.verified += more.verified;
        self.unverified += more.unverified;
        self.skipped += more.skipped;
    }
}

impl Space {
    /// Parses the start of a file ([`HEAD`] bytes, or all of a shorter one) and verifies page 0.
    ///
    /// `Ok(None)`: page 0 is uninitialized; then the redo log has the whole content.
    pub fn parse(head: &[u8]) -> Result<Option<Space>, Fault> {
        // 4 KiB is the smallest page size of most servers; of a larger page they contain the header. An initialized
        // page 0 is never zero there, because it has a size.
        if !head.is_empty() && is_zero(head.get(..4 << 10).unwrap_or(head)) {
            return Ok(None);
        }
        let start = Page::of(head)?.head;
        let (flags, id) = (start.be_u32::<FLAGS>(), SpaceId::new(start.be_u32::<ID>()));
        let (page_size, format) = decode(flags, id).ok_or(Fault::Flags(flags))?;
        let space = Space { id, flags, page_size, pages: start.be_u32::<PAGES>(), format };
        let short = Fault::Size { want: page_size.get(), found: head.len() };
        space.check(PageNo::new(0), head.get(..page_size.bytes()).ok_or(short)?)?;
        Ok(Some(space))
    }

    /// A tablespace with these flags; `None` if every server would refuse them.
    pub fn of_flags(id: SpaceId, flags: u32, pages: u32) -> Option<Space> {
        let (page_size, format) = decode(flags, id)?;
        Some(Space { id, flags, page_size, pages, format })
    }

    /// The page size of a ROW_FORMAT=COMPRESSED table; otherwise `None`.
    pub fn zip_size(&self) -> Option<PageSize> {
        matches!(self.format, Format::Zip { .. }).then_some(self.page_size)
    }

    /// The format of a system tablespace from a part of it that does not include page 0: the format in which a page is
    /// valid. Also returns the page's number and its offset in `piece`. The later files have no page 0.
    pub fn of_system_page(piece: &[u8]) -> Option<(Space, PageNo, u64)> {
        // The default page size comes first; in the format before full_crc32 the page size is at bit 6.
        let sizes = [5, 3, 4, 6, 7];
        let formats = sizes.into_iter().flat_map(|size| [0x10 | size, if size == 5 { 0 } else { size << 6 }]);
        formats.into_iter().find_map(|flags| {
            let (page_size, format) = decode(flags, SpaceId::SYSTEM)?;
            let space = Space { id: SpaceId::SYSTEM, flags, page_size, pages: 0, format };
            let size = page_size.bytes();
            let mut pages = (0u64..).step_by(size).zip(piece.chunks_exact(size));
            pages.find_map(|(at, page)| {
                let number = super::page::number(page)?;
                (space.check(number, page) == Ok(Content::Verified)).then(|| (space.clone(), number, at))
            })
        })
    }

    /// Checks that `page` is complete and is page `number` of the tablespace; in the second and later files of the
    /// system tablespace the numbers continue. Needs no keys: the checksums cover the encrypted bytes.
    ///
    /// Changes outside the checksums are not detected: bytes 26 to 38 before full_crc32, and the LSN in
    /// ROW_FORMAT=COMPRESSED.
    pub fn check(&self, number: PageNo, page: &[u8]) -> Result<Content, Fault> {
        if page.len() != self.page_size.bytes() {
            return Err(Fault::Size { want: self.page_size.get(), found: page.len() });
        }
        let Page { head, .. } = Page::of(page)?;
        let (found, first) = (PageNo::new(head.be_u32::<NUMBER>()), PageNo::new(0));
        if (found == first || found != number) && is_zero(page) {
            return Ok(Content::Zero);
        }
        // Servers before 10.2 and 5.7 wrote it into the first page of each file of the system tablespace, used or not.
        if found == first && number != first && self.id == SpaceId::SYSTEM && has_flush_lsn_only(page) {
            return Ok(Content::Unverified);
        }
        if found != number {
            return Err(Fault::Number { want: number, found });
        }
        let page = Page::of(page)?;
        let kind = page.kind();
        match self.format {
            Format::Full => full(page),
            Format::Old { mysql: true, .. } | Format::Zip { mysql: true } if mysql::is_encrypted(page) => {
                mysql::check_encrypted(page).map(|()| Content::Encrypted)
            }
            Format::Old { page_compressed: true, .. } if PAGE_COMPRESSED.contains(&kind) => Ok(Content::Unverified),
            // No flag shows this compression.
            Format::Old { .. } if kind == mysql::SQUEEZED => old(Page::of(&mysql::unsqueezed(page)?)?),
            Format::Old { .. } => encrypted_or(page, checksum::crc32, old),
            Format::Zip { .. } => encrypted_or(page, checksum::zip_crc32, zip),
        }
    }

    /// True if pages of this tablespace may be [`Content::Encrypted`].
    pub fn may_hide_sums(&self) -> bool {
        matches!(self.format, Format::Old { mysql: true, .. } | Format::Zip { mysql: true })
    }

    /// Checks consecutive pages, starting with page `first`; the error contains the number of the bad page. An
    /// incomplete last page is bad, too: callers that read files cut it off.
    pub fn check_run(
        &self,
        first: PageNo,
        pages: &[u8],
        skip: Option<&Doublewrite>,
        tally: &mut Tally,
    ) -> Result<(), (PageNo, Fault)> {
        for (number, page) in first.onward().zip(pages.chunks(self.page_size.bytes())) {
            if skip.is_some_and(|area| area.covers(number)) {
                tally.skipped += 1;
                continue;
            }
            match self.check(number, page).map_err(|fault| (number, fault))? {
                Content::Zero => tally.zero += 1,
                Content::Verified => tally.verified += 1,
                Content::Unverified | Content::Encrypted => tally.unverified += 1,
            }
        }
        Ok(())
    }
}

/// True if a page is empty except for `FIL_PAGE_FILE_FLUSH_LSN`.
pub(super) fn has_flush_lsn_only(page: &[u8]) -> bool {
    page.split_first_chunk::<26>().is_some_and(|(before, rest)| is_zero(before) && rest.get(8..).is_some_and(is_zero))
}

/// Page size and format, from flags and id of a tablespace; `None` if every server would refuse them.
fn decode(flags: u32, id: SpaceId) -> Option<(PageSize, Format)> {
    // Bit 4 is the highest bit of the compressed page size in the old format, which never uses it.
    if flags & 0x10 != 0 {
        let (size, algorithm, unused) = (flags & 15, flags >> 5 & 7, flags >> 8);
        let legal = (3..=7).contains(&size) && algorithm <= 6 && unused == 0;
        return PageSize::new(512 << size).filter(|_| legal).map(|size| (size, Format::Full));
    }
    // Bit 10 is DATA DIRECTORY, which MariaDB ignores today. Bits 11 to 14 are MySQL's: shared, temporary, encrypted,
    // with SDI. Its undo tablespaces may have none of them, even while pages after page 0 are encrypted already.
    // (MariaDB 10.1.0 to 10.1.20 set some by mistake; current servers convert those files when they open them.)
    let (zip, size) = (flags >> 1 & 15, flags >> 6 & 15);
    let mysql = flags >> 11 & 15 != 0 || mysql::is_undo(id);
    let (size, page_compressed) = (if size == 0 { 5 } else { size }, flags >> 16 & 1 == 1);
    let unknown = flags >> 15 & 1 != 0 || flags >> 21 != 0 || mysql && flags >> 16 != 0;
    if !(3..=7).contains(&size) || zip > size.min(5) || unknown {
        return None;
    }
    let physical = 512 << if zip == 0 { size } else { zip };
    let format = if zip == 0 { Format::Old { page_compressed, mysql } } else { Format::Zip { mysql } };
    PageSize::new(physical).map(|physical| (physical, format))
}

fn full(page: Page<'_>) -> Result<Content, Fault> {
    let kind = page.kind();
    let compressed = kind & LENGTH_MARK != 0;
    let units = kind & !LENGTH_MARK;
    let len = if compressed { usize::from(units) * 256 } else { page.bytes.len() };
    // After a compressed page follows a hole, or old content.
    let stored = page.bytes.get(..len).filter(|stored| !compressed || stored.len() < page.bytes.len());
    let Some((covered, sum)) = stored.and_then(|stored| stored.split_last_chunk::<4>()) else {
        return Err(Fault::Length { len: u32::from(units) * 256 });
    };
    equal(u32::from_be_bytes(*sum), checksum::full_crc32(covered))?;
    let key_version = page.head.be_u32::<0>();
    if !compressed && key_version == 0 {
        lsn_halves(page, page.trailer.be_u32::<0>())?;
    }
    Ok(Content::Verified)
}

/// Before full_crc32 an encrypted page has a second checksum, over the stored bytes. A key version may be another field
/// (R-tree pages, and the first page of system files of old servers), so a page that fails this check is tried as an
/// unencrypted one.
fn encrypted_or(
    page: Page<'_>,
    sum: fn(Page<'_>) -> u32,
    plain: fn(Page<'_>) -> Result<Content, Fault>,
) -> Result<Content, Fault> {
    if page.head.be_u32::<KEY_VERSION>() == 0 || page.head.be_u32::<NUMBER>() == 0 {
        return plain(page);
    }
    match equal(page.head.be_u32::<ENCRYPTED_SUM>(), sum(page)) {
        Ok(()) => Ok(Content::Verified),
        Err(fault) => plain(page).map_err(|_| fault),
    }
}

fn old(page: Page<'_>) -> Result<Content, Fault> {
    lsn_halves(page, page.trailer.be_u32::<4>())?;
    let stored = (page.head.be_u32::<0>(), page.trailer.be_u32::<0>());
    let computed = checksum::crc32(page);
    if stored == (computed, computed) || stored == checksum::innodb(page) {
        return Ok(Content::Verified);
    }
    if stored == (checksum::NONE, checksum::NONE) {
        return Ok(Content::Unverified);
    }
    // One of the two differs; the other may be right.
    Err(Fault::Checksum { stored: if stored.0 == computed { stored.1 } else { stored.0 }, computed })
}

fn zip(page: Page<'_>) -> Result<Content, Fault> {
    let stored = page.head.be_u32::<0>();
    if stored == checksum::NONE {
        return Ok(Content::Unverified);
    }
    let sum = equal(stored, checksum::zip_crc32(page));
    sum.or_else(|fault| if stored == checksum::zip_adler32(page) { Ok(()) } else { Err(fault) })?;
    Ok(Content::Verified)
}

fn equal(stored: u32, computed: u32) -> Result<(), Fault> {
    if stored == computed { Ok(()) } else { Err(Fault::Checksum { stored, computed }) }
}

/// Header and trailer both contain the low half of the LSN.
fn lsn_halves(page: Page<'_>, trailer: u32) -> Result<(), Fault> {
    let head = page.head.be_u32::<{ LSN + 4 }>();
    if head == trailer { Ok(()) } else { Err(Fault::LsnHalves { head, trailer }) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The first pages of tables of MariaDB 10.11.19 with `innodb_page_size=4k`, `zip` with KEY_BLOCK_SIZE=1.
    fn golden(name: &str) -> Vec<u8> {
        let path = format!("{}/tests/vectors/pages/{name}.zst", env!("CARGO_MANIFEST_DIR"));
        zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap()
    }

    /// Name, flags, page size, and pages that are zero, verified, unverified.
    const GOLDEN: [(&str, u32, u32, [u64; 3]); 10] = [
        ("full-plain", 0x13, 4096, [0, 6, 0]),
        ("full-squeezed", 0x33, 4096, [0, 6, 0]),
        ("full-secret", 0x13, 4096, [0, 6, 0]),
        ("full-squeezed-secret", 0x33, 4096, [0, 6, 0]),
        ("old-plain", 0xe1, 4096, [0, 6, 0]),
        ("old-squeezed", 0x1_00e1, 4096, [0, 1, 5]),
        ("old-secret", 0xe1, 4096, [0, 6, 0]),
        ("old-squeezed-secret", 0x1_00e1, 4096, [0, 1, 5]),
        ("old-zip", 0xe3, 1024, [4, 8, 0]),
        ("old-zip-secret", 0xe3, 1024, [4, 8, 0]),
    ];

    #[test]
    fn golden_pages_of_every_format_are_good() {
        for (name, flags, page_size, [zero, verified, unverified]) in GOLDEN {
            let bytes = golden(name);
            let space = Space::parse(&bytes).unwrap().unwrap();
            assert_eq!((space.flags, space.page_size.get()), (flags, page_size), "{name}");
            let mut tally = Tally::default();
            space.check_run(PageNo::new(0), &bytes, None, &mut tally).unwrap();
            assert_eq!(tally, Tally { zero, verified, unverified, skipped: 0 }, "{name}");
        }
    }

    #[test]
    fn a_bad_page_is_named_with_both_sums() {
        let mut bytes = golden("full-plain");
        let space = Space::parse(&bytes).unwrap().unwrap();
        let sum = field(&bytes, 4 * 4096 - 4);
        bytes[3 * 4096 + 1000] ^= 0x10;
        let (number, fault) = space.check_run(PageNo::new(0), &bytes, None, &mut Tally::default()).unwrap_err();
        assert_eq!(number, PageNo::new(3));
        let text = fault.to_string();
        assert!(text.starts_with(&format!("checksum {sum:#010x} is stored, 0x")), "{text}");
        // The other faults, in the order in which they are checked.
        assert_eq!(space.check(PageNo::new(3), &bytes[..100]), Err(Fault::Size { want: 4096, found: 100 }));
        assert_eq!(
            space.check(PageNo::new(7), &bytes[..4096]),
            Err(Fault::Number { want: PageNo::new(7), found: PageNo::new(0) })
        );
    }

    #[test]
    fn an_unused_system_page_may_have_a_flush_lsn() {
        let mut page = vec![0; 16384];
        page[26..34].copy_from_slice(&4711u64.to_be_bytes());
        let (page_size, format) = decode(0x15, SpaceId::SYSTEM).unwrap();
        let of = |id| Space { id: SpaceId::new(id), flags: 0x15, page_size, pages: 1024, format };
        assert_eq!(of(0).check(PageNo::new(768), &page), Ok(Content::Unverified));
        // Page 0 is never unused, and tables have no such pages.
        assert!(of(0).check(PageNo::new(0), &page).is_err() && of(9).check(PageNo::new(768), &page).is_err());
        page[100] = 1;
        assert!(of(0).check(PageNo::new(768), &page).is_err());
    }

    /// Page 0 shows the encryption of an undo tablespace only after it is written the next time.
    #[test]
    fn undo_of_mysql_may_be_encrypted_whatever_page_0_says() {
        let mut page = vec![7; 16384];
        page[4..8].copy_from_slice(&9u32.to_be_bytes());
        page[24..26].copy_from_slice(&15u16.to_be_bytes());
        for (id, content) in [(0xffff_ffef, true), (0xfcf8_da70, true), (0xffff_fff0, false), (4711, false)] {
            let id = SpaceId::new(id);
            let (page_size, format) = decode(0, id).unwrap();
            let space = Space { id, flags: 0, page_size, pages: 1024, format };
            assert_eq!(space.check(PageNo::new(9), &page) == Ok(Content::Encrypted), content, "{id}");
        }
    }

    #[test]
    fn a_file_with_uninitialized_page_0_is_deferred() {
        assert_eq!(Space::parse(&[0; HEAD]), Ok(None));
        assert_eq!(Space::parse(&[0; 4096]), Ok(None));
        // The next page is initialized already.
        let bytes = golden("full-plain");
        assert_eq!(Space::parse(&[&[0; 4096], &bytes[4096..]].concat()), Ok(None));
        assert_eq!(Space::parse(&[]), Err(Fault::Size { want: 1024, found: 0 }));
        assert_eq!(Space::parse(&bytes[..1000]), Err(Fault::Size { want: 1024, found: 1000 }));
        assert_eq!(Space::parse(&bytes[..2000]), Err(Fault::Size { want: 4096, found: 2000 }));
    }

    #[test]
    fn a_zero_page_is_good_at_any_place() {
        let space = Space::parse(&golden("old-plain")).unwrap().unwrap();
        for number in [0, 1, u32::MAX].map(PageNo::new) {
            assert_eq!(space.check(number, &[0; 4096]), Ok(Content::Zero));
        }
        let mut page = [0; 4096];
        page[4095] = 1;
        assert_eq!(
            space.check(PageNo::new(1), &page),
            Err(Fault::Number { want: PageNo::new(1), found: PageNo::new(0) })
        );
        assert_eq!(space.check(PageNo::new(0), &page), Err(Fault::LsnHalves { head: 0, trailer: 1 }));
    }

    #[test]
    fn a_page_without_a_sum_is_not_called_verified() {
        let bytes = golden("old-plain");
        let space = Space::parse(&bytes).unwrap().unwrap();
        let mut page = bytes[3 * 4096..4 * 4096].to_vec();
        page[..4].copy_from_slice(&checksum::NONE.to_be_bytes());
        assert!(space.check(PageNo::new(3), &page).is_err());
        page[4088..4092].copy_from_slice(&checksum::NONE.to_be_bytes());
        assert_eq!(space.check(PageNo::new(3), &page), Ok(Content::Unverified));
    }

    #[test]
    fn flags_that_no_server_writes_are_refused() {
        for (flags, size) in [
            (0x15, Some(16 << 10)),
            (0x13, Some(4 << 10)),
            (0x17, Some(64 << 10)),
            (0xd5, Some(16 << 10)),
            (0x12, None),
            (0x18, None),
            (0xf5, None),
            (0x115, None),
            (0, Some(16 << 10)),
            (0x29, Some(8 << 10)),
            (0x421, Some(16 << 10)),
            (0x821, Some(16 << 10)),
            (0x4821, Some(16 << 10)),
            (0x40e1, Some(4 << 10)),
            (0x6029, Some(8 << 10)),
            (0x8021, None),
            (0x1_4021, None),
            (0x1_0021, Some(16 << 10)),
            (0x61, None),
            (0x2d, None),
            (0x20_0021, None),
        ] {
            assert_eq!(decode(flags, SpaceId::new(9)).map(|(size, _)| size.get()), size, "{flags:#x}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(
            head in prop::collection::vec(any::<u8>(), 0..5000), flags in any::<u32>(), number in any::<u32>(),
        ) {
            let mut head = head;
            if let Some(place) = head.get_mut(FLAGS..FLAGS + 4) {
                place.copy_from_slice(&flags.to_be_bytes());
            }
            let _ = Space::parse(&head);
            for size in PageSize::all() {
                let _ = Doublewrite::parse(&head, size);
            }
            let _ = super::super::Aria::parse(&head);
            if let Some((page_size, format)) = decode(flags, SpaceId::new(9)) {
                let space = Space { id: SpaceId::new(1), flags, page_size, pages: 9, format };
                let mut page = head;
                page.resize(page_size.bytes(), 7);
                page[NUMBER..NUMBER + 4].copy_from_slice(&number.to_be_bytes());
                prop_assert!(space.check(PageNo::new(number), &page).map_or(true, |content| content == Content::Unverified));
            }
        }
    }
}
