//! Copies what changed in a tablespace since the base, as `t.ibd.delta` and `t.ibd.meta`. Source: spec sections 13 and
//! 15, and MySQL's spec section 9.
//!
//! The list of a cluster stands before its pages, and a cluster may be 1 GiB, so the file is read twice: once for the
//! LSNs, and the chosen pages again once a list is full. A page that became newer in between is as good, for the log
//! begins before both.

use std::io::Write;

use super::copy::{Copier, Pages, Since};
use super::distinct::fits;
use super::open::{Open, Part};
use super::workers::{Abort, BATCH, Buffers};
use crate::error::Result;
use crate::innodb::delta::{Cluster, DELTA, META, Meta, capacity};
use crate::innodb::space::Tally;
use crate::innodb::{is_zero, page};
use crate::io::cache::ALIGN;
use crate::stream::Writer;
use crate::stream::profile::{Entry, EntryKind};

/// Most runs of zero pages in a line of the manifest, which readers hold in memory; further ones are sent as pages.
const RUNS: usize = 32 << 10;

/// What is found out of a tablespace.
#[derive(Debug, Default)]
struct Changes {
    /// Places of pages that go into the delta and have not yet been sent; ascending.
    pages: Vec<u32>,
    zero: Vec<(u32, u32)>,
}

/// A delta on its way out.
struct Member<'a, W> {
    out: &'a Writer<W>,
    name: Vec<u8>,
    digest: blake3::Hasher,
    sent: u64,
    /// Gathers pages, so that single ones make no chunks of their own.
    gathered: Vec<u8>,
}

impl Copier<'_> {
    /// Copies the pages of a tablespace that `since` asks for.
    pub(super) fn delta(
        &self,
        out: &Writer<impl Write>,
        buffers: &mut Buffers,
        file: Pages<'_>,
        mut open: Open<'_>,
        part: Part<'_>,
        since: Since,
    ) -> Result<()> {
        fits(file.name, true)?;
        let page_size = part.space.page_size;
        let zip_size = part.space.zip_size();
        let space_flags = since.flags.then_some(part.space.flags);
        let meta = Meta { page_size, zip_size, space_id: part.space.id, space_flags };
        self.made(out, &[file.name, META].concat(), EntryKind::Meta, meta.text().as_bytes())?;
        let mut member = Member::new(out, &[file.name, DELTA].concat());
        let size = usize::try_from(page_size).unwrap_or(BATCH);
        let (mut changes, mut tally, mut place) = (Changes::default(), Tally::default(), 0u32);
        loop {
            self.abort.check()?;
            let offset = u64::from(place) * u64::from(page_size);
            let Some(read) = open.batch(&mut buffers.batch, offset)? else { break };
            let whole = read - read % size;
            let pages = buffers.batch.as_mut().get_mut(..whole).unwrap_or_default();
            let first = part.first.saturating_add(place);
            let good = open.verify(pages, first, offset, part, &mut tally, &mut buffers.again)?;
            for page in pages.get(..good).unwrap_or_default().chunks_exact(size) {
                changes.look(place, page, since.lsn);
                place = place.saturating_add(1);
            }
            self.report.advance(good as u64);
            // A full cluster must not be the last, so it waits for a page that follows it.
            while let Some((full, _)) =
                changes.pages.split_at_checked(capacity(page_size)).filter(|(_, more)| !more.is_empty())
            {
                member.cluster(full, false, &mut open, buffers, part, self.abort)?;
                changes.pages.drain(..capacity(page_size));
            }
            if good < whole || whole < BATCH {
                break;
            }
        }
        member.cluster(&changes.pages, true, &mut open, buffers, part, self.abort)?;
        let (name, sent, digest) = member.end()?;
        let mut entry = Entry::new(&name, EntryKind::Delta, sent, &digest);
        entry.space_id = Some(part.space.id);
        entry.flags = Some(part.space.flags);
        entry.page_size = Some(page_size);
        entry.pages = Some(place);
        entry.zero_runs = changes.zero;
        entry.location = file.elsewhere.then(|| file.path.display().to_string());
        self.done(&entry, &name, sent)?;
        self.count(tally);
        Ok(())
    }
}

impl Changes {
    /// Judges one page. Page 0 is always taken: at a restart it may change without a new LSN. Pages that an import wrote
    /// have no LSN (spec section 13.2).
    fn look(&mut self, place: u32, page: &[u8], since: u64) {
        let lsn = page::lsn(page).unwrap_or(0);
        // An LSN that is old decides most pages without a look at their bytes.
        let changed = match lsn {
            _ if place == 0 => true,
            0 if is_zero(page) => !self.add_zero(place),
            0 => true,
            lsn => lsn > since,
        };
        if changed {
            self.pages.push(place);
        }
    }

    /// Notes a page of zeros; false if there are too many runs.
    fn add_zero(&mut self, place: u32) -> bool {
        let room = self.zero.len() < RUNS;
        match self.zero.last_mut() {
            Some((first, count)) if first.checked_add(*count) == Some(place) => *count += 1,
            _ if room => self.zero.push((place, 1)),
            _ => return false,
        }
        true
    }
}

impl<'a, W: Write> Member<'a, W> {
    fn new(out: &'a Writer<W>, name: &[u8]) -> Self {
        Member { out, name: name.to_vec(), digest: blake3::Hasher::new(), sent: 0, gathered: Vec::new() }
    }

    /// Sends one cluster, reading its pages again.
    fn cluster(
        &mut self,
        places: &[u32],
        last: bool,
        open: &mut Open<'_>,
        buffers: &mut Buffers,
        part: Part<'_>,
        abort: &Abort,
    ) -> Result<()> {
        self.put(&Cluster::head(part.space.page_size, places, last))?;
        let size = usize::try_from(part.space.page_size).unwrap_or(BATCH);
        let most = ((BATCH - ALIGN) / size).max(1);
        let mut rest = places;
        while let Some(&first) = rest.first() {
            abort.check()?;
            let neighbours = (first..).zip(rest).take(most).take_while(|(expected, place)| expected == *place).count();
            let (_, behind) = rest.split_at_checked(neighbours).unwrap_or((rest, &[]));
            rest = behind;
            let offset = u64::from(first) * u64::from(part.space.page_size);
            let want = neighbours * size;
            let range = open.range(&mut buffers.batch, offset, want)?;
            let pages = buffers.batch.as_mut().get_mut(range).unwrap_or_default();
            let whole = pages.len() - pages.len() % size;
            let pages = pages.get_mut(..whole).unwrap_or_default();
            let number = part.first.saturating_add(first);
            let good = open.verify(pages, number, offset, part, &mut Tally::default(), &mut buffers.again)?;
            self.put(pages.get(..good).unwrap_or_default())?;
            // The file was cut off meanwhile (a truncated undo tablespace); the log knows, and writes these pages anew.
            self.put(&vec![0; want - good])?;
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        if self.gathered.len() + bytes.len() > BATCH {
            self.flush()?;
        }
        self.gathered.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if !self.gathered.is_empty() {
            self.digest.update(&self.gathered);
            self.out.payload(&self.name, self.sent, &self.gathered)?;
            self.sent += self.gathered.len() as u64;
            self.gathered.clear();
        }
        Ok(())
    }

    fn end(mut self) -> Result<(Vec<u8>, u64, blake3::Hash)> {
        self.flush()?;
        self.out.end(&self.name)?;
        Ok((self.name, self.sent, self.digest.finalize()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(lsn: u64, fill: u8) -> Vec<u8> {
        let mut page = vec![fill; 4096];
        page[16..24].copy_from_slice(&lsn.to_be_bytes());
        page
    }

    #[test]
    fn pages_are_chosen_by_lsn_and_zeros_are_noted() {
        let mut changes = Changes::default();
        let zero = page(0, 0);
        let pages = [page(5, 1), page(100, 1), page(101, 1), zero.clone(), zero.clone(), page(0, 1), page(7, 1), zero];
        for (place, page) in (0..).zip(&pages) {
            changes.look(place, page, 100);
        }
        assert_eq!(changes.pages, [0, 2, 5], "page 0, a newer one, and one without an lsn");
        assert_eq!(changes.zero, [(3, 2), (7, 1)]);
    }

    #[test]
    fn too_many_runs_of_zeros_become_pages() {
        let (mut changes, zero) = (Changes::default(), page(0, 0));
        for place in (1..).take(RUNS + 5) {
            changes.look(place * 2, &zero, 1);
        }
        assert_eq!((changes.zero.len(), changes.pages.len()), (RUNS, 5));
    }
}
