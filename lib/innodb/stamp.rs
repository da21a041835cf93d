//! Finishes a page that was changed, as the server does before it writes it: LSN and checksums. Source:
//! `facts/mariadb-hot-backup#page-checks`, `buf0flu.cc` (`buf_flush_init_for_writing`, `buf_page_encrypt`).

use super::page::{LSN, Page, TYPE};
use super::space::Format;
use super::{Lsn, PageNo, Space, SpaceId, checksum};
use crate::bytes::Part as _;
use crate::error::Internal;
use crate::innodb::page::kind;

/// Where full_crc32 has the version of the key, and the older format key version and checksum after encryption.
const KEY: std::ops::Range<usize> = 0..4;
const OLD_KEY: std::ops::Range<usize> = 26..34;
/// R-tree pages have another field there.
const RTREE: u16 = 17_854;
/// The page of the system tablespace whose field there is left alone, too.
const TRX_SYS: PageNo = PageNo::new(5);

impl Space {
    /// Writes LSN and checksums into a page that is neither encrypted nor page_compressed.
    ///
    /// # Errors
    ///
    /// Internal, if the page is shorter than every page.
    pub fn stamp(&self, number: PageNo, page: &mut [u8], lsn: Lsn) -> Result<(), Internal> {
        let (end, lsn) = (page.len(), lsn.get().to_be_bytes());
        let low = [lsn[4], lsn[5], lsn[6], lsn[7]];
        page.part_mut(LSN..LSN + 8)?.copy_from_slice(&lsn);
        if let Format::Full = self.format {
            page.part_mut(KEY)?.fill(0);
            page.part_mut(end.saturating_sub(8)..end.saturating_sub(4))?.copy_from_slice(&low);
            let sum = checksum::full_crc32(page.part(..end.saturating_sub(4))?);
            page.part_mut(end.saturating_sub(4)..)?.copy_from_slice(&sum.to_be_bytes());
            return Ok(());
        }
        let whole = number == PageNo::new(0) || self.id == SpaceId::SYSTEM && number == TRX_SYS;
        if !whole && kind(page) != Some(RTREE) {
            page.part_mut(OLD_KEY)?.fill(0);
        }
        let short = Internal("a page is too short for its checksum");
        if let Format::Zip { .. } = self.format {
            let sum = checksum::zip_crc32(Page::of(page).map_err(|_| short)?);
            page.part_mut(..4)?.copy_from_slice(&sum.to_be_bytes());
            return Ok(());
        }
        page.part_mut(end.saturating_sub(4)..)?.copy_from_slice(&low);
        let sum = checksum::crc32(Page::of(page).map_err(|_| short)?).to_be_bytes();
        page.part_mut(..4)?.copy_from_slice(&sum);
        page.part_mut(end.saturating_sub(8)..end.saturating_sub(4))?.copy_from_slice(&sum);
        Ok(())
    }

    /// True if a page of this tablespace, as it is stored, is encrypted by MariaDB.
    pub fn is_encrypted(&self, number: PageNo, page: &[u8]) -> bool {
        let at = match self.format {
            Format::Full => KEY.start,
            _ if kind(page) == Some(RTREE) || self.id == SpaceId::SYSTEM && number == TRX_SYS => return false,
            _ => OLD_KEY.start,
        };
        number != PageNo::new(0) && page.get(at..at + 4).is_some_and(|version| version != [0; 4])
    }

    /// The algorithm of page_compressed, if the tablespace has it: 1 is zlib. The format before full_crc32 does not
    /// show it.
    pub fn squeezed_by(&self) -> Option<u32> {
        match self.format {
            Format::Full => Some(self.flags >> 5 & 7).filter(|algorithm| *algorithm != 0),
            Format::Old { page_compressed, .. } => page_compressed.then_some(0),
            Format::Zip { .. } => None,
        }
    }

    /// True if this is a tablespace of MySQL.
    pub fn is_of_mysql(&self) -> bool {
        matches!(self.format, Format::Old { mysql: true, .. } | Format::Zip { mysql: true })
    }
}

/// The uncompressed page, of a stored page of a tablespace in the format full_crc32 with page_compressed=zlib; `None`
/// if it is not compressed. Source: `fil0pagecompress.cc`.
///
/// # Errors
///
/// The page cannot be decompressed.
pub fn unsqueezed(stored: &[u8]) -> Result<Option<Vec<u8>>, super::Fault> {
    let fault = super::Fault::Squeezed { algorithm: 1 };
    let Some(kind) = kind(stored).filter(|kind| kind & MARK != 0) else { return Ok(None) };
    let len = usize::from(kind & !MARK) * UNIT;
    let squeezed = len.checked_sub(SUM).and_then(|end| stored.get(TYPE + 2..end)).ok_or(fault)?;
    let mut page = vec![0; stored.len()];
    let written =
        miniz_oxide::inflate::decompress_slice_iter_to_slice(&mut page, std::iter::once(squeezed), true, false);
    if written == Ok(page.len()) { Ok(Some(page)) } else { Err(fault) }
}

/// The stored form of a page of such a tablespace: shorter than a page; `None` if it is stored as it is.
pub fn squeezed(page: &[u8]) -> Option<Vec<u8>> {
    // Free pages and those that describe the tablespace are never compressed.
    if matches!(kind(page)?, 0 | 8 | 9) {
        return None;
    }
    let squeezed = miniz_oxide::deflate::compress_to_vec_zlib(page, LEVEL);
    let len = (TYPE + 2 + squeezed.len() + SUM).next_multiple_of(UNIT);
    if len >= page.len() || TYPE + 2 + squeezed.len() > page.len() {
        return None;
    }
    let mut stored = Vec::with_capacity(len);
    stored.extend_from_slice(page.get(..TYPE)?);
    stored.extend((MARK | u16::try_from(len / UNIT).ok()?).to_be_bytes());
    stored.extend(squeezed);
    stored.resize(len - SUM, 0);
    stored.extend(checksum::full_crc32(&stored).to_be_bytes());
    Some(stored)
}

/// Bit of the type that makes it a length, in units; the checksum that ends it.
const MARK: u16 = 0x8000;
const UNIT: usize = 256;
const SUM: usize = 4;
/// `innodb_compression_level` by default.
const LEVEL: u8 = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::innodb::page::{self, Content};

    /// The pages of `tests/vectors/pages` that a server has written: stamped again with their own LSN they stay the same.
    #[test]
    fn pages_of_servers_are_stamped_as_they_are() {
        for (name, expect) in [("full-plain", 6), ("old-plain", 6), ("old-zip", 8)] {
            let path = format!("{}/tests/vectors/pages/{name}.zst", env!("CARGO_MANIFEST_DIR"));
            let bytes = zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap();
            let space = Space::parse(&bytes).unwrap().unwrap();
            let mut pages = 0;
            for (number, page) in PageNo::new(0).onward().zip(bytes.chunks(space.page_size.bytes())) {
                if space.check(number, page) == Ok(Content::Zero) {
                    continue;
                }
                let mut again = page.to_vec();
                space.stamp(number, &mut again, page::lsn(page).unwrap()).unwrap();
                assert!(again == page, "{name} page {number}");
                assert!(!space.is_encrypted(number, page));
                again[100] ^= 1;
                space.stamp(number, &mut again, Lsn::new(12345)).unwrap();
                assert_eq!(space.check(number, &again), Ok(Content::Verified));
                assert_eq!(page::lsn(&again), Some(Lsn::new(12345)));
                pages += 1;
            }
            assert_eq!(pages, expect, "{name}");
        }
    }

    #[test]
    fn encrypted_pages_are_known() {
        for name in ["full-secret", "old-secret", "old-zip-secret"] {
            let path = format!("{}/tests/vectors/pages/{name}.zst", env!("CARGO_MANIFEST_DIR"));
            let bytes = zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap();
            let space = Space::parse(&bytes).unwrap().unwrap();
            let pages = PageNo::new(0).onward().zip(bytes.chunks(space.page_size.bytes()));
            let encrypted = pages.filter(|(number, page)| space.is_encrypted(*number, page)).count();
            assert!(encrypted >= 3, "{name}: {encrypted}");
        }
    }

    #[test]
    fn compressed_pages_come_back() {
        let path = format!("{}/tests/vectors/pages/full-squeezed.zst", env!("CARGO_MANIFEST_DIR"));
        let bytes = zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap();
        let space = Space::parse(&bytes).unwrap().unwrap();
        assert_eq!(space.squeezed_by(), Some(1));
        let mut compressed = 0;
        for (number, stored) in PageNo::new(0).onward().zip(bytes.chunks(space.page_size.bytes())) {
            let Some(plain) = unsqueezed(stored).unwrap() else { continue };
            let again = squeezed(&plain).unwrap();
            let mut whole = again.clone();
            whole.resize(stored.len(), 0);
            assert_eq!(space.check(number, &whole), Ok(Content::Verified));
            assert_eq!(unsqueezed(&whole).unwrap().unwrap(), plain);
            // What is no zlib stream.
            let mut torn = whole.clone();
            torn[40..].fill(0xff);
            assert!(unsqueezed(&torn).is_err());
            compressed += 1;
        }
        assert!(compressed > 0);
    }
}
