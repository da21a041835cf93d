//! `t.ibd.delta` and `t.ibd.meta`: the pages of a tablespace in an increment, and a description of the tablespace.
//! Source: `facts/mariadb-hot-backup#delta`, `write_filt.cc`, `xb_write_delta_metadata`.
//!
//! A delta is a sequence of clusters; P is the tablespace's physical page size:
//!
//! ```text
//! 0      4  "xtra", in the last cluster "XTRA"
//! 4      4  place of a page in the file, up to P/4 - 1 times, ascending; ff ff ff ff ends a shorter list
//! P      P  the first page, then the others
//! ```
//!
//! All clusters but the last are full: they have [`capacity`] pages, which is 1 GiB with pages of 64 KiB. A delta may
//! be one empty cluster. Pages of zeros may be in a delta; ours are listed in the manifest instead.

mod scan;

use std::fmt;

use bstr::ByteSlice;

use super::{PageSize, SpaceId};
use crate::error::Internal;

pub use scan::Scan;

/// Suffix of the name of a delta, after the name of the tablespace's file.
pub const DELTA: &[u8] = b".delta";
/// Suffix of the name of the file that describes the tablespace.
pub const META: &[u8] = b".meta";

const MORE: [u8; 4] = *b"xtra";
const LAST: [u8; 4] = *b"XTRA";
/// Ends a list that does not fill its page.
const END: u32 = u32::MAX;

/// The first page of a cluster: its list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// True if no cluster follows.
    pub last: bool,
    /// The numbers of the pages that follow; ascending.
    pub pages: Vec<u32>,
}

/// The tablespace of a delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The physical page size.
    pub page_size: PageSize,
    /// The same for ROW_FORMAT=COMPRESSED; otherwise `None`.
    pub zip_size: Option<PageSize>,
    /// The tablespace.
    pub space_id: SpaceId,
    /// Its flags; only MySQL's programs write them.
    pub space_flags: Option<u32>,
}

/// Why bytes are not a delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A cluster does not begin with the magic bytes.
    Magic,
    /// No page has this size.
    PageSize(usize),
    /// The list is not ascending at this index.
    Order(usize),
    /// A cluster is not full and not the last.
    Short(usize),
    /// A `.meta` lacks this key, or its value is impossible.
    Meta(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Magic => f.write_str("no cluster of a delta begins here"),
            Fault::PageSize(size) => write!(f, "no tablespace has pages of {size} bytes"),
            Fault::Order(at) => write!(f, "page numbers are not ascending at place {at} of a cluster"),
            Fault::Short(pages) => write!(f, "a cluster that is not the last has only {pages} pages"),
            Fault::Meta(key) => write!(f, "{key} is missing or wrong"),
        }
    }
}

/// The number of pages in a full cluster.
pub fn capacity(page_size: PageSize) -> usize {
    page_size.bytes() / 4 - 1
}

impl Cluster {
    /// Parses the first page of a cluster; its length is the page size.
    pub fn parse(head: &[u8]) -> Result<Cluster, Fault> {
        let size = u32::try_from(head.len()).ok().and_then(PageSize::new);
        let size = size.ok_or(Fault::PageSize(head.len()))?;
        let (magic, list) = head.split_first_chunk::<4>().ok_or(Fault::Magic)?;
        let last = match *magic {
            LAST => true,
            MORE => false,
            _ => return Err(Fault::Magic),
        };
        let pages: Vec<u32> =
            list.as_chunks().0.iter().copied().map(u32::from_be_bytes).take_while(|page| *page != END).collect();
        if let Some(at) = pages.iter().zip(pages.iter().skip(1)).position(|(page, next)| page >= next) {
            return Err(Fault::Order(at + 1));
        }
        if !last && pages.len() != capacity(size) {
            return Err(Fault::Short(pages.len()));
        }
        Ok(Cluster { last, pages })
    }

    /// The first page of a cluster with these pages.
    ///
    /// # Errors
    ///
    /// Internal, if there are more than [`capacity`].
    pub fn head(page_size: PageSize, pages: &[u32], last: bool) -> Result<Vec<u8>, Internal> {
        let size = page_size.bytes();
        if pages.len() > capacity(page_size) {
            return Err(Internal("a cluster of a delta has more pages than it can"));
        }
        let mut head = Vec::with_capacity(size);
        head.extend_from_slice(if last { &LAST } else { &MORE });
        let list = pages.iter().copied().chain([END]);
        head.extend(list.take(capacity(page_size)).flat_map(u32::to_be_bytes));
        head.resize(size, 0);
        Ok(head)
    }
}

impl Meta {
    /// Parses a `.meta`; keys may be in any order, and unknown ones are skipped.
    pub fn parse(text: &[u8]) -> Result<Meta, Fault> {
        let value = |key: &str| {
            let mut pairs = text.lines().filter_map(|line| line.split_once_str("="));
            let (_, value) = pairs.find(|(name, _)| name.trim() == key.as_bytes())?;
            value.trim().to_str().ok()?.parse::<u32>().ok()
        };
        let needed = |key: &'static str| value(key).ok_or(Fault::Meta(key));
        let page_size = needed("page_size")?;
        let zip_size = needed("zip_size")?;
        let page_size = PageSize::new(page_size).ok_or(Fault::Meta("page_size"))?;
        if zip_size != 0 && zip_size != page_size.get() {
            return Err(Fault::Meta("zip_size"));
        }
        let zip_size = (zip_size != 0).then_some(page_size);
        let space_id = SpaceId::new(needed("space_id")?);
        Ok(Meta { page_size, zip_size, space_id, space_flags: value("space_flags") })
    }

    /// The text of a `.meta`. The original programs write the blank after the second number, too.
    pub fn text(&self) -> String {
        let Meta { page_size, zip_size, space_id, space_flags } = self;
        let zip_size = zip_size.map_or(0, PageSize::get);
        let flags = space_flags.map(|flags| format!("space_flags = {flags}\n")).unwrap_or_default();
        format!("page_size = {page_size}\nzip_size = {zip_size} \nspace_id = {space_id}\n{flags}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Deltas that mariadb-backup 10.11.19 made on a server with `innodb_page_size=4k`.
    fn golden(name: &str) -> Vec<u8> {
        let path = format!("{}/tests/vectors/delta/{name}.zst", env!("CARGO_MANIFEST_DIR"));
        zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap()
    }

    /// All clusters and their pages.
    fn read(delta: &[u8], size: usize) -> Vec<(Cluster, Vec<u8>)> {
        let (mut rest, mut found) = (delta, Vec::new());
        loop {
            let cluster = Cluster::parse(&rest[..size]).unwrap();
            let end = size * (1 + cluster.pages.len());
            found.push((cluster.clone(), rest[size..end].to_vec()));
            rest = &rest[end..];
            if cluster.last {
                assert!(rest.is_empty());
                return found;
            }
        }
    }

    #[test]
    fn the_originals_deltas_are_read_and_written_the_same() {
        for (name, id, zip, counts) in
            [("t.ibd", 7, 0, &[2usize][..]), ("z.ibd", 5, 1024, &[255, 124]), ("still.ibd", 6, 0, &[0])]
        {
            let meta = Meta::parse(&golden(&format!("{name}.meta"))).unwrap();
            assert_eq!((meta.space_id.get(), meta.zip_size.map_or(0, PageSize::get)), (id, zip), "{name}");
            assert_eq!(meta.text().as_bytes(), golden(&format!("{name}.meta")), "{name}");
            let delta = golden(&format!("{name}.delta"));
            let clusters = read(&delta, meta.page_size.bytes());
            let found: Vec<usize> = clusters.iter().map(|(cluster, _)| cluster.pages.len()).collect();
            assert_eq!(found, counts, "{name}");
            let mut written = Vec::new();
            for (cluster, pages) in &clusters {
                written.extend(Cluster::head(meta.page_size, &cluster.pages, cluster.last).unwrap());
                written.extend(pages);
                // Each page is the one in the list.
                for (number, page) in cluster.pages.iter().zip(pages.chunks(meta.page_size.bytes())) {
                    assert_eq!(crate::innodb::page::number(page).map(|number| number.get()), Some(*number), "{name}");
                }
            }
            assert!(written == delta, "{name} is written differently");
        }
    }

    fn head(pages: &[u32], last: bool) -> Result<Vec<u8>, Internal> {
        Cluster::head(PageSize::new(4096).unwrap(), pages, last)
    }

    #[test]
    fn what_is_no_delta_is_refused() {
        let good = head(&[1, 2, 9], true).unwrap();
        assert_eq!(Cluster::parse(&good).unwrap().pages, [1, 2, 9]);
        assert_eq!(Cluster::parse(&good[..4095]), Err(Fault::PageSize(4095)));
        assert_eq!(Cluster::parse(&[]), Err(Fault::PageSize(0)));
        assert_eq!(Cluster::parse(&[&[0; 512][..], &good].concat()[..4096]), Err(Fault::Magic));
        assert_eq!(Cluster::parse(&head(&[1, 2, 2], true).unwrap()), Err(Fault::Order(2)));
        assert_eq!(Cluster::parse(&head(&[1, 2, 9], false).unwrap()), Err(Fault::Short(3)));
        for (text, key) in [
            ("zip_size = 0\nspace_id = 4\n", "page_size"),
            ("page_size = 1000\nzip_size = 0\nspace_id = 4\n", "page_size"),
            ("page_size = 16384\nzip_size = 8192\nspace_id = 4\n", "zip_size"),
            ("page_size = 16384\nzip_size = 0\nspace_id = x\n", "space_id"),
        ] {
            assert_eq!(Meta::parse(text.as_bytes()), Err(Fault::Meta(key)));
        }
    }

    #[test]
    fn mysql_says_the_flags_too() {
        let text = b"space_flags = 16417\npage_size = 16384\nnew = thing\nzip_size = 0\nspace_id = 4294967294\n";
        let meta = Meta::parse(text).unwrap();
        assert_eq!((meta.space_id.get(), meta.space_flags), (0xffff_fffe, Some(16417)));
        assert_eq!(Meta::parse(meta.text().as_bytes()), Ok(meta));
    }

    proptest! {
        #[test]
        fn a_list_comes_back(shift in 10u32..=16, count in 0usize..20_000, step in 1u32..5, last: bool) {
            let size = PageSize::new(1 << shift).unwrap();
            let count = if last { count.min(capacity(size)) } else { capacity(size) };
            let pages: Vec<u32> = (0u32..).map(|n| n * step).take(count).collect();
            let head = Cluster::head(size, &pages, last).unwrap();
            prop_assert_eq!(head.len(), size.bytes());
            prop_assert_eq!(Cluster::parse(&head), Ok(Cluster { last, pages }));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000), last: bool) {
            let _ = Meta::parse(&bytes);
            let mut head = bytes;
            head.resize(2048, 1);
            head[..4].copy_from_slice(if last { &LAST } else { &MORE });
            let _ = Cluster::parse(&head);
        }
    }
}
