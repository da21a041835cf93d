//! Finishes a page that was changed, as the server does before it writes it: LSN and checksums. Source:
//! `facts/mariadb-hot-backup#page-checks`, `buf0flu.cc` (`buf_flush_init_for_writing`, `buf_page_encrypt`).

use super::page::{LSN, Page};
use super::space::Format;
use super::{Lsn, PageNo, Space, SpaceId, checksum};
use crate::bytes::Part as _;
use crate::error::Internal;
use crate::innodb::page::kind;

/// Where full_crc32 has the version of the key, and the older format key version and checksum after encryption.
const KEY: std::ops::Range<usize> = 0..4;
const OLD_KEY: std::ops::Range<usize> = 26..34;
/// R-tree pages of old servers have another field there.
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
        // Of R-tree pages, too, whose own field is there.
        if !whole {
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

    /// True if this is a tablespace of MySQL.
    pub fn is_of_mysql(&self) -> bool {
        matches!(self.format, Format::Old { mysql: true, .. } | Format::Zip { mysql: true })
    }
}

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
}
