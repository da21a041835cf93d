//! `xb_pages`: a digest of each page of each tablespace, as the backup has it. An increment on the backup compares with
//! them what no LSN proves to be the same. The man page `xbstream(5)` documents it for other programs.
//!
//! Integers are big-endian. A head, records in any order, and an end:
//!
//! ```text
//! head   8  "XB_PAGES"   4  version, 1   32  backup id   4  CRC-32C of what is before
//! record 4  "run ", "last" or "fix "
//!        4  tablespace   4  its flags   4  bytes of a page
//!        4  place of the first page in the file   4  count, at most 8192   2  length of the name
//!        n  name of the file   8 (fix: 12) per page   4  CRC-32C of the record up to here
//! end    4  "end "       8  number of records   8  XXH3 of all that is before   4  CRC-32C of the end up to here
//! ```
//!
//! The runs of a file follow one another from place 0 on; the last one, and it alone, is a `last`, which may be empty. What
//! a `fix` says, as place and digest in ascending order, takes the place of what runs say. A digest is XXH3 with 64 bits and
//! without a seed; 0 claims nothing.

use std::fmt;

use twox_hash::XxHash3_64;

use crate::bytes::Fields as _;
use crate::error::{Internal, OrInternal as _};
use crate::innodb::{LogicalPageSize, PageSize, SpaceId};

/// Version in the head; a greater one is refused.
pub const VERSION: u32 = 1;
/// Bytes of the head.
pub const HEAD: usize = 48;
/// Bytes of a record before its name.
pub const FIXED: usize = 26;
/// Bytes of the end.
pub const END: usize = 24;
/// Most pages of a record.
pub const MOST: usize = 8192;
/// Longest name.
const NAME_MAX: usize = 511;
const MAGIC: &[u8; 8] = b"XB_PAGES";
const ID: usize = 32;
const SUM: usize = 4;

/// What is known of a page: that all of its bytes are those with this digest. 0: nothing.
pub type Digest = u64;

/// The digest of a page.
pub fn digest(page: &[u8]) -> Digest {
    XxHash3_64::oneshot(page)
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Pages one after the other; more follow.
    Run,
    /// The same, up to the end of the file.
    Last,
    /// Single pages that became others after their run was noted.
    Fix,
}

/// A file of a tablespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its name in the end, as a restored server has it.
    pub name: Vec<u8>,
    /// The tablespace.
    pub space_id: SpaceId,
    /// Flags of page 0.
    pub flags: u32,
    /// Bytes of a page.
    pub page_size: PageSize,
}

/// What stands before a record's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// What it is.
    pub kind: Kind,
    /// The tablespace.
    pub space_id: SpaceId,
    /// Flags of page 0.
    pub flags: u32,
    /// Bytes of a page.
    pub page_size: PageSize,
    /// Place of the first page.
    pub first: u32,
    /// How many pages.
    pub count: usize,
    /// Bytes of the name.
    pub name_len: usize,
}

/// The end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// How many records there are.
    pub records: u64,
    /// XXH3 of all that is before.
    pub digest: u64,
}

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Another kind of file.
    Magic,
    /// Made by a newer program.
    Version(u32),
    /// A sum is wrong.
    Sum,
    /// A record of no known kind, or with a length that cannot be.
    Record,
    /// The records of a file do not follow one another.
    Order,
    /// It ends early, or goes on behind its end.
    Length,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Magic => f.write_str("is something else"),
            Fault::Version(version) => {
                write!(f, "version {version} is newer than this program, which knows {VERSION}")
            }
            Fault::Sum => f.write_str("damaged: a sum is wrong"),
            Fault::Record => f.write_str("damaged: a record cannot be read"),
            Fault::Order => f.write_str("damaged: the records of a file do not follow one another"),
            Fault::Length => f.write_str("truncated, or longer than it says"),
        }
    }
}

/// The head.
pub fn head(backup_id: &str) -> Vec<u8> {
    let mut id = backup_id.as_bytes().to_vec();
    id.resize(ID, 0);
    sealed([MAGIC.as_slice(), &VERSION.to_be_bytes(), &id].concat())
}

/// Reads the head: the backup's id.
pub fn parse_head(bytes: &[u8; HEAD]) -> Result<String, Fault> {
    if !bytes.starts_with(MAGIC) {
        return Err(Fault::Magic);
    }
    let version = bytes.be_u32::<8>();
    if version > VERSION {
        return Err(Fault::Version(version));
    }
    open(bytes)?;
    Ok(String::from_utf8_lossy(&bytes.field::<12, ID>()).trim_end_matches('\0').to_owned())
}

/// A run of pages, the first of them at this place of the file.
pub fn run(file: &File, first: u32, digests: &[Digest], last: bool) -> Result<Vec<u8>, Internal> {
    let bytes = digests.iter().flat_map(|digest| digest.to_be_bytes());
    record(file, if last { b"last" } else { b"run " }, first, digests.len(), bytes)
}

/// Single pages, by place, ascending.
pub fn fix(file: &File, pages: &[(u32, Digest)]) -> Result<Vec<u8>, Internal> {
    let bytes = pages.iter().flat_map(|(place, digest)| {
        let mut bytes = [0; 12];
        let (left, right) = bytes.split_at_mut(4);
        left.copy_from_slice(&place.to_be_bytes());
        right.copy_from_slice(&digest.to_be_bytes());
        bytes
    });
    record(file, b"fix ", pages.first().map_or(0, |(place, _)| *place), pages.len(), bytes)
}

fn record(
    file: &File,
    kind: &[u8; 4],
    first: u32,
    count: usize,
    content: impl Iterator<Item = u8>,
) -> Result<Vec<u8>, Internal> {
    const LIMITS: &str = "a record of xb_pages is longer than it can be";
    let mut bytes = Vec::with_capacity(FIXED + file.name.len() + 12 * count + SUM);
    bytes.extend_from_slice(kind);
    // Callers keep to the limits, which readers check.
    let count = u32::try_from(count).or_internal(LIMITS)?;
    let name_len = u16::try_from(file.name.len()).or_internal(LIMITS)?;
    for field in [file.space_id.get(), file.flags, file.page_size.get(), first, count] {
        bytes.extend_from_slice(&field.to_be_bytes());
    }
    bytes.extend_from_slice(&name_len.to_be_bytes());
    bytes.extend_from_slice(&file.name);
    bytes.extend(content);
    Ok(sealed(bytes))
}

/// The end.
pub fn end(end: End) -> Vec<u8> {
    sealed([b"end ".as_slice(), &end.records.to_be_bytes(), &end.digest.to_be_bytes()].concat())
}

/// True if these bytes begin the end and not a record.
pub fn is_end(bytes: &[u8]) -> bool {
    bytes.starts_with(b"end ")
}

/// Reads the end.
pub fn parse_end(bytes: &[u8; END]) -> Result<End, Fault> {
    if !is_end(open(bytes)?) {
        return Err(Fault::Record);
    }
    Ok(End { records: bytes.be_u64::<4>(), digest: bytes.be_u64::<12>() })
}

/// Reads what stands before a record's name. Its lengths are possible; its sum can be checked once all of it is there.
pub fn parse_fixed(bytes: &[u8; FIXED]) -> Result<Fixed, Fault> {
    let kind = match bytes.first_chunk::<4>() {
        Some(b"run ") => Kind::Run,
        Some(b"last") => Kind::Last,
        Some(b"fix ") => Kind::Fix,
        _ => return Err(Fault::Record),
    };
    let count = bytes.be_u32::<20>() as usize;
    let name_len = usize::from(bytes.be_u16::<24>());
    let page_size = PageSize::new(bytes.be_u32::<12>()).ok_or(Fault::Record)?;
    let space_id = SpaceId::new(bytes.be_u32::<4>());
    // The system tablespace has no ROW_FORMAT=COMPRESSED.
    let legal = space_id != SpaceId::SYSTEM || LogicalPageSize::new(page_size.get()).is_some();
    let first = bytes.be_u32::<16>();
    let fits = bytes.be_u32::<20>().checked_add(first).is_some();
    if count > MOST || count == 0 && kind != Kind::Last || !(1..=NAME_MAX).contains(&name_len) || !fits || !legal {
        return Err(Fault::Record);
    }
    Ok(Fixed { kind, space_id, flags: bytes.be_u32::<8>(), page_size, first, count, name_len })
}

impl Fixed {
    /// Bytes of a page in the record.
    fn step(&self) -> usize {
        if self.kind == Kind::Fix { 12 } else { 8 }
    }

    /// Bytes of the whole record.
    pub fn size(&self) -> usize {
        self.digests_at() + self.count * self.step() + SUM
    }

    /// Where in the record its digests begin.
    pub fn digests_at(&self) -> usize {
        FIXED + self.name_len
    }

    /// Checks a whole record.
    pub fn check(&self, record: &[u8]) -> Result<(), Fault> {
        if record.len() != self.size() {
            return Err(Fault::Length);
        }
        open(record)?;
        let fix = self.kind == Kind::Fix;
        let places: Vec<u32> = self.places(record).collect();
        if fix && (places.first() != Some(&self.first) || places.iter().zip(places.iter().skip(1)).any(|(a, b)| a >= b))
        {
            return Err(Fault::Order);
        }
        Ok(())
    }

    /// The name of the file that a whole record is of.
    pub fn name<'a>(&self, record: &'a [u8]) -> Result<&'a [u8], Fault> {
        record.get(FIXED..self.digests_at()).ok_or(Fault::Length)
    }

    /// Where the last page of a whole record is.
    pub fn last(&self, record: &[u8]) -> u32 {
        match self.kind {
            Kind::Fix => self.places(record).last().unwrap_or(self.first),
            _ => self.first.saturating_add(u32::try_from(self.count).unwrap_or(0).saturating_sub(1)),
        }
    }

    /// Digests by place, of a whole record.
    pub fn pages<'a>(&self, record: &'a [u8]) -> impl Iterator<Item = (u32, Digest)> + use<'a> {
        let first = self.first;
        let content = record.get(self.digests_at()..self.size().saturating_sub(SUM)).unwrap_or_default();
        let (runs, fixes): (&[[u8; 8]], &[[u8; 12]]) = match self.kind {
            Kind::Fix => (&[], content.as_chunks().0),
            Kind::Run | Kind::Last => (content.as_chunks().0, &[]),
        };
        let runs = (first..).zip(runs).map(|(place, bytes)| (place, u64::from_be_bytes(*bytes)));
        runs.chain(fixes.iter().map(|bytes| (bytes.be_u32::<0>(), bytes.be_u64::<4>())))
    }

    fn places<'a>(&self, record: &'a [u8]) -> impl Iterator<Item = u32> + use<'a> {
        self.pages(record).take(if self.kind == Kind::Fix { usize::MAX } else { 0 }).map(|(place, _)| place)
    }
}

/// Adds the sum.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&sum.to_be_bytes());
    bytes
}

/// Checks and takes away the sum.
fn open(bytes: &[u8]) -> Result<&[u8], Fault> {
    let (content, sum) = bytes.split_last_chunk::<SUM>().ok_or(Fault::Length)?;
    if crc32c::crc32c(content) == u32::from_be_bytes(*sum) { Ok(content) } else { Err(Fault::Sum) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(name: &[u8], space_id: u32) -> File {
        let page_size = PageSize::new(16384).unwrap();
        File { name: name.to_vec(), space_id: SpaceId::new(space_id), flags: 21, page_size }
    }

    fn read(record: &[u8]) -> Result<(Fixed, Vec<(u32, Digest)>), Fault> {
        let fixed = parse_fixed(record.first_chunk().ok_or(Fault::Length)?)?;
        fixed.check(record)?;
        Ok((fixed, fixed.pages(record).collect()))
    }

    #[test]
    fn head_and_end_come_back_and_changes_are_seen() {
        let id = "0123456789abcdef0123456789abcdef";
        let bytes: [u8; HEAD] = head(id).try_into().unwrap();
        assert_eq!(parse_head(&bytes).as_deref(), Ok(id));
        let last = End { records: 7, digest: 1 << 60 };
        let ended: [u8; END] = end(last).try_into().unwrap();
        assert_eq!(parse_end(&ended), Ok(last));
        for at in 0..HEAD {
            let mut bad = bytes;
            bad[at] ^= 1;
            assert!(parse_head(&bad).is_err(), "byte {at}");
        }
        for at in 0..END {
            let mut bad = ended;
            bad[at] ^= 1;
            assert!(parse_end(&bad).is_err(), "byte {at}");
        }
        let mut newer = bytes;
        newer[11] = 2;
        assert_eq!(parse_head(&newer), Err(Fault::Version(2)));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let good = run(&file(b"d/t.ibd", 5), 0, &[1, 2, 3], true).unwrap();
        let with = |at: usize, value: u8| {
            let mut bad = good[..good.len() - SUM].to_vec();
            bad[at] = value;
            read(&sealed(bad)).unwrap_err()
        };
        assert_eq!(with(0, b'L'), Fault::Record);
        assert_eq!(with(14, 0x41), Fault::Record, "page size");
        assert_eq!(with(22, 0xff), Fault::Record, "count");
        assert_eq!(with(24, 0xff), Fault::Record, "length of the name");
        assert_eq!(read(&fix(&file(b"t", 1), &[(7, 1), (7, 2)]).unwrap()), Err(Fault::Order));
        assert_eq!(read(&run(&file(b"", 1), 0, &[1], true).unwrap()), Err(Fault::Record));
        assert_eq!(read(&run(&file(b"t", 1), 0, &[], false).unwrap()), Err(Fault::Record));
        assert_eq!(read(&run(&file(b"t", 1), u32::MAX, &[1], false).unwrap()), Err(Fault::Record));
    }

    proptest! {
        #[test]
        fn records_come_back_and_cut_ones_are_refused(
            name in proptest::collection::vec(any::<u8>(), 1..=511),
            space_id: u32,
            first in 0u32..1 << 30,
            digests in proptest::collection::vec(any::<u64>(), 1..300),
            last: bool,
            flip: proptest::sample::Index,
        ) {
            let file = file(&name, space_id);
            let pages: Vec<(u32, Digest)> = (first..).step_by(3).zip(digests.iter().copied()).collect();
            for (record, wanted) in [
                (run(&file, first, &digests, last).unwrap(), (first..).zip(digests.iter().copied()).collect()),
                (fix(&file, &pages).unwrap(), pages),
            ] {
                let (fixed, found) = read(&record).unwrap();
                prop_assert_eq!(fixed.name(&record).unwrap(), &name[..]);
                let of = (fixed.space_id.get(), fixed.flags, fixed.page_size.get(), fixed.first);
                prop_assert_eq!(of, (space_id, 21, 16384, first));
                prop_assert_eq!(Some(fixed.last(&record)), found.last().map(|(place, _)| *place));
                prop_assert_eq!(found, wanted);
                for cut in 0..record.len() {
                    prop_assert!(read(&record[..cut]).is_err());
                }
                let mut bad = record;
                let at = flip.index(bad.len());
                bad[at] ^= 0x10;
                prop_assert!(read(&bad).is_err());
            }
        }

        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let _ = read(&bytes);
        }
    }
}
