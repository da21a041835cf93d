//! Checks all pages of a delta whose bytes arrive in order, in pieces of any length.
//!
//! A delta does not contain its page size; page 0, which is the first one in ours, does.

use super::Cluster;
use crate::innodb::page::{Fault, MAX};
use crate::innodb::scan::BadPage;
use crate::innodb::space::Tally;
use crate::innodb::{Doublewrite, PageNo, PageSize, Space, SpaceId};

/// Enough for a list and a page of the largest size.
const HEAD: usize = 2 * MAX as usize;

/// The state of the check of one delta.
#[derive(Default)]
pub struct Scan {
    state: State,
    /// Bytes that wait for more.
    rest: Vec<u8>,
    tally: Tally,
}

#[derive(Default)]
enum State {
    /// There are too few bytes yet to parse page 0.
    #[default]
    Open,
    /// Parsed; `places` are the pages still to come in this cluster, the next one last.
    Known { space: Space, size: usize, area: Option<Doublewrite>, places: Vec<u32> },
    /// It does not begin with page 0: its pages cannot be checked.
    Unknown,
}

impl Scan {
    /// Adds bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), BadPage> {
        if matches!(self.state, State::Unknown) {
            return Ok(());
        }
        self.rest.extend_from_slice(bytes);
        if matches!(self.state, State::Open) && self.rest.len() >= HEAD {
            self.decide();
        }
        self.pages()
    }

    /// Ends the delta. Returns how many pages there are of each kind; `None` if they could not be checked.
    pub fn end(mut self) -> Result<Option<Tally>, BadPage> {
        if matches!(self.state, State::Open) {
            self.decide();
        }
        self.pages()?;
        Ok(matches!(self.state, State::Known { .. }).then_some(self.tally))
    }

    fn decide(&mut self) {
        let found = PageSize::all().filter_map(|page_size| {
            let size = page_size.bytes();
            let space = Space::parse(self.rest.get(size..)?).ok()??;
            (space.page_size == page_size).then_some((space, size))
        });
        self.state = match found.last() {
            Some((space, size)) => {
                let area = (space.id == SpaceId::SYSTEM).then(|| Doublewrite::usual(space.page_size));
                State::Known { space, size, area, places: Vec::new() }
            }
            None => State::Unknown,
        };
    }

    /// Checks all complete pages.
    fn pages(&mut self) -> Result<(), BadPage> {
        let State::Known { space, size, area, places } = &mut self.state else { return Ok(()) };
        let whole = self.rest.len() - self.rest.len() % *size;
        for page in self.rest.split_at(whole).0.chunks_exact(*size) {
            match places.pop() {
                Some(place) => {
                    let skip = area.as_ref();
                    let bad = |(number, fault): (PageNo, Fault)| (u64::from(number.get()), fault);
                    space.check_run(PageNo::new(place), page, skip, &mut self.tally).map_err(bad)?;
                }
                None => match Cluster::parse(page) {
                    Ok(cluster) => places.extend(cluster.pages.into_iter().rev()),
                    Err(_) => return Err((0, Fault::Format)),
                },
            }
        }
        self.rest.drain(..whole);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages of a table, as a delta.
    fn delta(places: &[usize]) -> Vec<u8> {
        let path = format!("{}/tests/vectors/pages/full-plain.zst", env!("CARGO_MANIFEST_DIR"));
        let file = zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap();
        let list: Vec<u32> = places.iter().map(|place| u32::try_from(*place).unwrap()).collect();
        let mut bytes = Cluster::head(PageSize::new(4096).unwrap(), &list, true).unwrap();
        places.iter().for_each(|place| bytes.extend(&file[place * 4096..(place + 1) * 4096]));
        bytes
    }

    fn scan(bytes: &[u8], piece: usize) -> Result<Option<Tally>, BadPage> {
        let mut scan = Scan::default();
        bytes.chunks(piece).try_for_each(|piece| scan.bytes(piece))?;
        scan.end()
    }

    #[test]
    fn every_page_is_held_against_its_place() {
        for piece in [100, 4096, 5000, 1 << 20] {
            let tally = scan(&delta(&[0, 1, 3]), piece).unwrap().unwrap();
            assert_eq!((tally.verified, tally.pages()), (3, 3));
            let mut bad = delta(&[0, 1, 3]);
            bad[3 * 4096 + 500] ^= 1;
            assert_eq!(scan(&bad, piece).unwrap_err().0, 3);
            let mut misplaced = delta(&[0, 1, 3]);
            misplaced[12..16].copy_from_slice(&4u32.to_be_bytes());
            assert_eq!(
                scan(&misplaced, piece).unwrap_err(),
                (4, Fault::Number { want: PageNo::new(4), found: PageNo::new(3) })
            );
            assert_eq!(scan(&delta(&[1, 3]), piece), Ok(None));
            assert_eq!(scan(b"", piece), Ok(None));
        }
    }
}
