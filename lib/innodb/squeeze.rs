//! Pages of page_compressed tables, compressed by zlib. Source: `facts/mariadb-hot-backup#page-checks`,
//! `fil0pagecompress.cc`.
//!
//! ```text
//! full_crc32                                    before it
//!  0 24  header                                  0  4  0xdeadbeef
//! 24  2  0x8000, stored length / 256             4 20  header
//! 26     the page, compressed; zeros            24  2  34354
//! -4  4  checksum                               26  8  algorithm
//!                                               34  4  tablespace
//!                                               38  2  length of what follows
//!                                               40     the page, compressed
//! ```

use super::page::{Fault, HEADER, TYPE, kind};
use super::space::Format;
use super::{Space, checksum};
use crate::bytes::Fields as _;

/// Bit of the type that makes it a length, in units; the checksum that ends it.
const MARK: u16 = 0x8000;
const UNIT: usize = 256;
const SUM: usize = 4;
/// Where the compressed page begins.
const FULL_BODY: usize = TYPE + 2;
const OLD_BODY: usize = HEADER + 2;
/// In the older format.
const OLD: u16 = 34_354;
const ALGORITHM: usize = 26;
const ZLIB: u64 = 1;
/// `innodb_compression_level` by default.
const LEVEL: u8 = 6;
/// The length that the older format has is a multiple of this.
const SECTOR: usize = 512;

/// How pages of a tablespace may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Squeezer {
    /// As they are.
    None,
    /// Compressed by zlib.
    Zlib,
    /// Compressed by another algorithm, with this number.
    Other(u32),
}

impl Space {
    /// How pages may be stored. Before full_crc32 the flags do not say by which algorithm.
    pub fn squeezer(&self) -> Squeezer {
        match self.format {
            Format::Full => match self.flags >> 5 & 7 {
                0 => Squeezer::None,
                1 => Squeezer::Zlib,
                other => Squeezer::Other(other),
            },
            Format::Old { page_compressed: true, .. } => Squeezer::Zlib,
            Format::Old { .. } | Format::Zip { .. } => Squeezer::None,
        }
    }

    /// The page of a stored one; `None` if that is stored as it is.
    ///
    /// # Errors
    ///
    /// It cannot be decompressed, or the algorithm is not zlib.
    pub fn unsqueezed(&self, stored: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        match (self.squeezer(), kind(stored), &self.format) {
            (Squeezer::None, ..) | (_, None, _) => Ok(None),
            (_, Some(kind), Format::Full) if kind & MARK != 0 => {
                let len = usize::from(kind & !MARK) * UNIT;
                let body = len.checked_sub(SUM).and_then(|end| stored.get(FULL_BODY..end));
                decompressed(body, stored.len(), u64::from(self.flags >> 5 & 7)).map(Some)
            }
            (_, Some(OLD), Format::Old { .. }) => {
                let Some(head) = stored.first_chunk::<OLD_BODY>() else { return Err(Fault::Squeezed { algorithm: 0 }) };
                let len = usize::from(head.be_u16::<HEADER>());
                let body = stored.get(OLD_BODY..OLD_BODY + len).filter(|_| head.be_u32::<0>() == checksum::NONE);
                let page = decompressed(body, stored.len(), head.be_u64::<ALGORITHM>())?;
                // Now it has a checksum.
                let plain = Space { format: Format::Old { page_compressed: false, mysql: false }, ..self.clone() };
                let number = super::page::number(&page).ok_or(Fault::Squeezed { algorithm: 1 })?;
                plain.check(number, &page).map(|_| Some(page))
            }
            _ => Ok(None),
        }
    }

    /// The stored form of a page: shorter than the page; `None` if it is stored as it is.
    pub fn squeezed(&self, page: &[u8]) -> Option<Vec<u8>> {
        // Free pages and those that describe the tablespace are never compressed.
        if self.squeezer() != Squeezer::Zlib || matches!(kind(page)?, 0 | 8 | 9 | OLD) {
            return None;
        }
        let body = miniz_oxide::deflate::compress_to_vec_zlib(page, LEVEL);
        let mut stored = Vec::with_capacity(page.len());
        if let Format::Full = self.format {
            let len = (FULL_BODY + body.len() + SUM).next_multiple_of(UNIT);
            stored.extend_from_slice(page.get(..TYPE).filter(|_| len < page.len())?);
            stored.extend((MARK | u16::try_from(len / UNIT).ok()?).to_be_bytes());
            stored.extend(body);
            stored.resize(len - SUM, 0);
            stored.extend(checksum::full_crc32(&stored).to_be_bytes());
        } else {
            let len = (OLD_BODY + body.len()).next_multiple_of(SECTOR);
            stored.extend_from_slice(page.get(..HEADER).filter(|_| len < page.len())?);
            let head = stored.first_chunk_mut::<HEADER>()?;
            head.set::<0, 4>(&checksum::NONE.to_be_bytes());
            head.set::<TYPE, 2>(&OLD.to_be_bytes());
            head.set::<ALGORITHM, 8>(&ZLIB.to_be_bytes());
            stored.extend(u16::try_from(body.len()).ok()?.to_be_bytes());
            stored.extend(body);
            stored.resize(len, 0);
        }
        Some(stored)
    }
}

fn decompressed(body: Option<&[u8]>, len: usize, algorithm: u64) -> Result<Vec<u8>, Fault> {
    let fault = Fault::Squeezed { algorithm: u8::try_from(algorithm).unwrap_or(u8::MAX) };
    let body = body.filter(|_| algorithm == ZLIB).ok_or(fault)?;
    let mut page = vec![0; len];
    let written = miniz_oxide::inflate::decompress_slice_iter_to_slice(&mut page, std::iter::once(body), true, false);
    if written == Ok(len) { Ok(page) } else { Err(fault) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::innodb::PageNo;
    use crate::innodb::page::Content;

    #[test]
    fn compressed_pages_come_back() {
        for (name, checked) in [("full-squeezed", Content::Verified), ("old-squeezed", Content::Unverified)] {
            let path = format!("{}/tests/vectors/pages/{name}.zst", env!("CARGO_MANIFEST_DIR"));
            let bytes = zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap();
            let space = Space::parse(&bytes).unwrap().unwrap();
            assert_eq!(space.squeezer(), Squeezer::Zlib);
            let mut compressed = 0;
            for (number, stored) in PageNo::new(0).onward().zip(bytes.chunks(space.page_size.bytes())) {
                let Some(plain) = space.unsqueezed(stored).unwrap() else { continue };
                let again = space.squeezed(&plain).unwrap();
                let mut whole = again.clone();
                whole.resize(stored.len(), 0);
                assert_eq!(space.check(number, &whole), Ok(checked));
                assert_eq!(space.unsqueezed(&whole).unwrap().unwrap(), plain);
                // What is no zlib stream.
                let mut torn = whole.clone();
                torn[42..].fill(0xff);
                assert!(space.unsqueezed(&torn).is_err());
                compressed += 1;
            }
            assert!(compressed > 0);
        }
    }
}
