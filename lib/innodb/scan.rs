//! Checks all pages of a tablespace file whose bytes arrive in order, in pieces of any length, with holes: for
//! `xb-unpack --verify --pages`.

use super::page::{self, Fault, MAX};
use super::space::has_flush_lsn_only;
use super::space::{HEAD, Tally};
use super::{Doublewrite, PageNo, Space, SpaceId, doublewrite, is_zero};

/// How much of the system tablespace is needed to find the doublewrite area, in bytes.
const SYSTEM_HEAD: usize = (doublewrite::PAGE as usize + 1) * MAX as usize;

/// A bad page: its number, and why.
pub type BadPage = (u64, Fault);

/// The state of the check of one file.
pub struct Scan {
    /// True for a file of the system tablespace; a second or later one has no page 0.
    system: bool,
    state: State,
    /// Bytes that wait for more: of the head, then of a page.
    rest: Vec<u8>,
    /// How many bytes precede `rest`.
    at: u64,
    tally: Tally,
}

enum State {
    /// There are too few bytes yet to parse the head.
    Open,
    /// Parsed.
    Known { space: Space, first: u64, area: Option<Doublewrite> },
    /// Page 0 is uninitialized, so the pages cannot be checked; the redo log has all of them.
    Deferred { written: bool },
}

/// The result for a whole file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Number of pages of each kind.
    pub tally: Tally,
    /// Number of the first page, and number of pages; `None` if page 0 is uninitialized.
    pub range: Option<(u64, u64)>,
    /// True if page 0 is uninitialized but other pages are not: they could not be checked.
    pub unread: bool,
}

impl Scan {
    /// A file with a tablespace of its own: that of a table, or an undo tablespace.
    pub fn table() -> Self {
        Scan { system: false, state: State::Open, rest: Vec::new(), at: 0, tally: Tally::default() }
    }

    /// A file of the system tablespace, the first or a later one.
    pub fn system() -> Self {
        Scan { system: true, ..Self::table() }
    }

    /// Adds bytes.
    pub fn bytes(&mut self, mut bytes: &[u8]) -> Result<(), BadPage> {
        while !bytes.is_empty() {
            let want = match &mut self.state {
                State::Deferred { written } => {
                    *written |= !is_zero(bytes);
                    return Ok(());
                }
                State::Open => self.head(),
                State::Known { space, .. } => {
                    let size = page_size(space);
                    if self.rest.is_empty() && bytes.len() >= size {
                        // The usual case: whole pages are checked in place.
                        let (pages, rest) = bytes.split_at(bytes.len() - bytes.len() % size);
                        self.pages(pages)?;
                        bytes = rest;
                        continue;
                    }
                    size
                }
            };
            let (taken, left) = bytes.split_at(bytes.len().min(want.saturating_sub(self.rest.len())));
            self.rest.extend_from_slice(taken);
            bytes = left;
            if self.rest.len() >= want {
                self.settle()?;
            }
        }
        Ok(())
    }

    /// Adds a hole of this length.
    pub fn zeros(&mut self, mut len: u64) -> Result<(), BadPage> {
        const ZEROS: [u8; 4096] = [0; 4096];
        while len > 0 {
            let unit = match &self.state {
                State::Deferred { .. } => return Ok(()),
                State::Open => self.head() as u64,
                State::Known { space, .. } => u64::from(space.page_size),
            };
            // Whole pages, or heads, of zeros are only counted, because a hole may have any length.
            if self.rest.is_empty() && len >= unit && (self.system || !matches!(self.state, State::Open)) {
                if let State::Known { .. } = self.state {
                    self.tally.zero += len / unit;
                }
                self.at = self.at.saturating_add(len - len % unit);
                len %= unit;
                continue;
            }
            let piece = usize::try_from(len.min(unit.saturating_sub(self.rest.len() as u64)));
            let (piece, _) = ZEROS.split_at(piece.map_or(ZEROS.len(), |piece| piece.min(ZEROS.len())));
            self.bytes(piece)?;
            len -= piece.len() as u64;
        }
        Ok(())
    }

    /// Ends the file. An incomplete last page is good if it is zero: the file was growing.
    pub fn end(mut self) -> Result<Found, BadPage> {
        if matches!(self.state, State::Open) && !self.rest.is_empty() {
            self.settle()?;
        }
        let State::Known { space, first, .. } = &self.state else {
            let unread = matches!(self.state, State::Deferred { written: true });
            return Ok(Found { tally: self.tally, range: None, unread });
        };
        let pages = space.page_size.pages_in(self.at);
        if !is_zero(&self.rest) {
            return Err((first + pages, Fault::Size { want: space.page_size.get(), found: self.rest.len() }));
        }
        Ok(Found { tally: self.tally, range: Some((*first, pages)), unread: false })
    }

    /// How many bytes are needed to parse the head.
    fn head(&self) -> usize {
        if self.system { SYSTEM_HEAD } else { HEAD }
    }

    /// Checks the waiting bytes: a head, or a page.
    fn settle(&mut self) -> Result<(), BadPage> {
        let waiting = std::mem::take(&mut self.rest);
        if matches!(self.state, State::Open) {
            self.decide(&waiting)?;
        }
        match &self.state {
            State::Deferred { .. } => Ok(()),
            State::Open => {
                self.at = self.at.saturating_add(waiting.len() as u64);
                Ok(())
            }
            State::Known { space, .. } => {
                let whole = waiting.len() - waiting.len() % page_size(space);
                let (pages, rest) = waiting.split_at(whole);
                self.rest.extend_from_slice(rest);
                self.pages(pages)
            }
        }
    }

    fn decide(&mut self, head: &[u8]) -> Result<(), BadPage> {
        if self.system && (is_zero(head) || self.at == 0 && has_flush_lsn_only(head)) {
            return Ok(());
        }
        let parsed = if self.at == 0 { Space::parse(head) } else { Ok(None) };
        if let Ok(Some(space)) = parsed {
            let size = page_size(&space);
            let page5 = head.chunks_exact(size).nth(doublewrite::PAGE as usize);
            let area = page5
                .filter(|_| space.id == SpaceId::SYSTEM)
                .and_then(|page| Doublewrite::parse(page, space.page_size));
            self.state = State::Known { space, first: 0, area };
            return Ok(());
        }
        if !self.system {
            self.state = State::Deferred { written: !is_zero(head) };
            return parsed.map(|_| ()).map_err(|fault| (0, fault));
        }
        let Some((space, number, offset)) = Space::of_system_page(head) else {
            return Err((0, parsed.err().unwrap_or(Fault::Format)));
        };
        let before = space.page_size.pages_in(self.at + offset);
        let first = u64::from(number.get()).checked_sub(before).ok_or((0, Fault::Format))?;
        let area = Some(Doublewrite::usual(space.page_size));
        self.state = State::Known { space, first, area };
        Ok(())
    }

    fn pages(&mut self, pages: &[u8]) -> Result<(), BadPage> {
        let State::Known { space, first, area } = &self.state else { return Err((0, Fault::Format)) };
        let number = first + space.page_size.pages_in(self.at);
        self.at = self.at.saturating_add(pages.len() as u64);
        // A hole may reach beyond the last possible page.
        let end = first + space.page_size.pages_in(self.at);
        let (Ok(number), Ok(_)) = (u32::try_from(number), u32::try_from(end)) else {
            return Err((
                number,
                Fault::Number { want: PageNo::new(u32::MAX), found: page::number(pages).unwrap_or_default() },
            ));
        };
        let checked = space.check_run(PageNo::new(number), pages, area.as_ref(), &mut self.tally);
        checked.map_err(|(number, fault)| (number.get().into(), fault))
    }
}

fn page_size(space: &Space) -> usize {
    space.page_size.bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A table of 4 KiB pages (see [`super::super::space`]), with its third page made a hole.
    fn file() -> Vec<u8> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/pages/full-secret.zst");
        let mut bytes = zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap();
        // Longer than a head, so that whole pages come, too.
        bytes.resize(40 * 4096, 0);
        bytes[2 * 4096..3 * 4096].fill(0);
        bytes
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(cuts in prop::collection::vec(0usize..40 * 4096, 0..30), hole in 2 * 4096usize..3 * 4096) {
            let bytes = file();
            let mut cuts = cuts;
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut scan = Scan::table();
            for piece in cuts.windows(2) {
                let (from, to) = (piece[0], piece[1]);
                // What is a hole in the file may come as one.
                if (hole..3 * 4096).contains(&from) && to <= 3 * 4096 || from >= 6 * 4096 {
                    scan.zeros((to - from) as u64).unwrap();
                } else {
                    scan.bytes(&bytes[from..to]).unwrap();
                }
            }
            let found = scan.end().unwrap();
            prop_assert_eq!(found.range, Some((0, 40)));
            prop_assert_eq!(found.tally, Tally { zero: 35, verified: 5, unverified: 0, skipped: 0 });
        }

        #[test]
        fn a_bad_page_is_found_in_any_pieces(piece in 1usize..70_000, at in 0usize..6 * 4096) {
            let mut bytes = file();
            bytes[at] ^= 1;
            let mut scan = Scan::table();
            let fed = bytes.chunks(piece).try_for_each(|piece| scan.bytes(piece));
            let page = (at / 4096) as u64;
            let bad = fed.and_then(|()| scan.end()).map(|_| ()).unwrap_err();
            prop_assert_eq!(bad.0, page);
        }
    }

    #[test]
    fn holes_of_any_length_take_no_time() {
        let mut scan = Scan::system();
        scan.zeros(u64::MAX).unwrap();
        scan.zeros(u64::MAX).unwrap();
        assert_eq!(scan.end().unwrap().range, None);
        let mut scan = Scan::table();
        scan.bytes(&file()).unwrap();
        scan.zeros(u64::MAX / 2).unwrap();
        let (number, fault) = scan.bytes(&file()[..8192]).unwrap_err();
        assert!(number > u64::from(u32::MAX) && matches!(fault, Fault::Number { .. }));
    }

    #[test]
    fn pages_without_page_0_are_not_called_checked() {
        let mut bytes = file();
        bytes[..4096].fill(0);
        let mut scan = Scan::table();
        scan.bytes(&bytes).unwrap();
        assert!(scan.end().unwrap().unread);
        let mut scan = Scan::table();
        scan.bytes(&[0; 100_000]).unwrap();
        assert!(!scan.end().unwrap().unread);
    }

    #[test]
    fn a_partial_last_page_is_damage_unless_zero() {
        for (end, good) in [(&[0; 100][..], true), (&[1; 100], false)] {
            let mut scan = Scan::table();
            scan.bytes(&file()).unwrap();
            scan.bytes(end).unwrap();
            assert_eq!(scan.end().is_ok(), good);
        }
    }
}
